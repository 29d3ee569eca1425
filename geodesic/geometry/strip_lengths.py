"""How long polygons through faces are: their chords, and the arcs of the curves between their nodes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.geometry.strips import Strips
from geodesic.numerics.spline import like, on_interval

__all__ = ["by_halves", "by_quadrature", "chords"]


def chords(manifold: Manifold, strips: Strips) -> Float[Tensor, " R"]:
    """Distances of the decoded nodes from those before them, (R,); zero at the first node of a polygon."""
    return _steps(strips, manifold.observe(strips.nodes).flatten(1))


def by_halves(manifold: Manifold, strips: Strips) -> tuple[Float[Tensor, " R"], Float[Tensor, " R"]]:
    """Lengths of the curves up to each node from that before it, to order 4, and chords: of segments and their halves.

    Args:
        manifold: With an embedding.
        strips: The polygons.
    """
    middle = torch.cat([strips.nodes[:1], (strips.nodes[1:] + strips.nodes[:-1]) / 2])
    x, y = (manifold.observe(z).flatten(1) for z in (strips.nodes, middle))
    whole = _steps(strips, x)
    halves = torch.nn.functional.pad((y[1:] - x[:-1]).norm(dim=1) + (x[1:] - y[1:]).norm(dim=1), (1, 0))
    halves = torch.where(strips.first, 0, halves)
    return halves + (halves - whole) / 3, whole


def by_quadrature(manifold: Manifold, strips: Strips) -> tuple[Float[Tensor, " R"], Float[Tensor, " R"]]:
    """The same by Gauss-Legendre quadrature of the speed: dearer, and exact for longer segments.

    Args:
        manifold: With an embedding.
        strips: The polygons.
    """
    shares, weights = like(strips.nodes, *on_interval())
    way = torch.nn.functional.pad(strips.nodes.diff(dim=0), (0, 0, 1, 0))
    way = torch.where(strips.first[:, None], 0, way)
    z = strips.nodes[:, None] - (1 - shares)[:, None] * way[:, None]
    speed = manifold.squared_norm(z, way[:, None].expand_as(z)).clamp_min(0).sqrt()
    return speed @ weights, chords(manifold, strips)


def _steps(strips: Strips, x: Float[Tensor, "R D"]) -> Float[Tensor, " R"]:
    return torch.where(strips.first, 0, torch.nn.functional.pad(x.diff(dim=0).norm(dim=1), (1, 0)))
