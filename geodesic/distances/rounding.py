"""What floating point may have added to a lower bound of a distance, or taken from an upper one.

Outputs are known to a few roundings of their size, so a chord is known to a few roundings of the sizes of its two ends,
however short it is. Nodes of a curve are known to a rounding of their latent size, and so is the way between two of
them. In double precision neither shows; in single precision both do, for points that are near each other.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import grouped, rows_at_once

__all__ = ["OF_OUTPUTS", "moved_by_rounding", "places_of", "surely_below"]

OF_OUTPUTS = 10  # roundings of their size, to which the outputs of a deep network are known
_OF_NODES = 2  # of latent points, between two nodes


@torch.no_grad()
def places_of(manifold: Manifold, z: Float[Tensor, "N d"]) -> Float[Tensor, "N D"]:
    """Where points lie in the surrounding space, or what their geometry is made from, (N, D)."""
    look = manifold.embed if manifold.has_embedding else manifold.observe
    return grouped(lambda some: look(some).flatten(1), rows_at_once(manifold, z, order=1), z)


@torch.no_grad()
def surely_below(
    manifold: Manifold, lower: Float[Tensor, " P"], start: Float[Tensor, "P d"], end: Float[Tensor, "P d"]
) -> Float[Tensor, " P"]:
    """Lower bounds of distances without what the rounding of outputs may have added to them, (P,).

    Args:
        manifold: Where they were measured.
        lower: As computed.
        start: Between these points.
        end: And these.
    """
    lower = lower.nan_to_num(nan=0.0)
    if not bool(lower.any()):
        return lower
    x, y = places_of(manifold, start), places_of(manifold, end)
    apart = (x - y).norm(dim=1)
    off = OF_OUTPUTS * torch.finfo(lower.dtype).eps * (x.norm(dim=1) + y.norm(dim=1)) / apart
    return torch.where(apart > 0, lower * (1 - off).clamp_min(0), 0)


def moved_by_rounding(start: Float[Tensor, "P d"], end: Float[Tensor, "P d"]) -> Float[Tensor, " P"]:
    """By what share rounding of its nodes may change the length of a curve between points, (P,)."""
    size, apart = start.norm(dim=1) + end.norm(dim=1), (end - start).norm(dim=1)
    return torch.where(apart > 0, _OF_NODES * torch.finfo(size.dtype).eps * size / apart, 0)
