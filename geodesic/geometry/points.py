"""Points and vectors as users give them, and as rows to compute with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.checks import require_points
from geodesic.errors import InputError
from geodesic.geometry.checks import admit, require_manifold
from geodesic.geometry.inverse import MetricInverse
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import grouped, rows_at_once
from geodesic.numerics.kernel import rank

__all__ = ["Rows", "deficiency_at", "inverse_at", "inverse_from", "norms_at", "require_limit"]


class Rows:
    """Tensors of points or vectors of a manifold, all of one shape, as rows of d numbers.

    Args:
        manifold: Whose points they are; its `latent_shape` tells which axes belong to a point.
        tensors: By the names of the user's arguments, each (*batch, d) or (*batch, *latent_shape).

    Attributes:
        batch: The leading axes.
        event: The axes of a point.
        rows: The tensors as (N, d), without history, in the order given.

    Raises:
        InputError: A tensor has another shape, dtype or device than the first, or is not finite.
        DecoderError: The decoder is in training mode.
    """

    def __init__(self, manifold: Any, **tensors: Any) -> None:
        require_manifold(manifold)
        require_points(manifold.latent_shape, **tensors)
        first = next(iter(tensors.values()))
        axes = 1 if manifold.latent_shape is None else len(manifold.latent_shape)
        self.batch, self.event = first.shape[:-axes], first.shape[-axes:]
        self.rows = [z.detach().reshape(-1, math.prod(self.event)) for z in tensors.values()]
        if len(self.rows[0]):
            admit(manifold, self.rows[0], first)

    def back(self, x: Tensor, *axes: int) -> Tensor:
        """From (N, *axes, d) to (*batch, *axes, *event)."""
        return x.reshape(*self.batch, *x.shape[1:-1], *self.event)

    def each(self, x: Tensor) -> Tensor:
        """From (N, ...) to (*batch, ...): what is no point."""
        return x.reshape(self.batch + x.shape[1:])


def require_limit(manifold: Manifold, what: str) -> None:
    """Refuse a manifold without lengths: see `Manifold.has_length`."""
    if not manifold.has_length:
        raise InputError(
            f"manifold: chords of {manifold} do not vanish with the step, so it has no {what}; use EnsembleManifold, "
            "whose members stay the same along a curve"
        )


def inverse_at(manifold: Manifold, z: Float[Tensor, "*batch d"], on_range: bool = False) -> MetricInverse:
    """G(z)^{-1}, without history, however many points there are: in groups that fit into memory.

    Args:
        manifold: Whose metric it is.
        z: Points, (*batch, d).
        on_range: Whether to invert on the range of G where its rank is the same near the point: where a decoder ignores
            a direction. At a pole of the coordinates the rank is less than around it, and there is no inverse.
    """
    d = z.shape[-1]
    flat = z.detach().reshape(-1, d)
    G = _metrics(manifold, flat)
    inverse = MetricInverse(G.reshape(*z.shape[:-1], d, d))
    if not on_range or bool(inverse.regular.all()):
        return inverse
    even = torch.zeros_like(flat[:, 0], dtype=torch.bool)
    (rows,) = (~inverse.regular.reshape(-1) & G.isfinite().flatten(1).all(1)).nonzero(as_tuple=True)
    if len(rows):
        step = torch.finfo(z.dtype).eps ** (1 / 3) * (1 + flat[rows].abs().amax(-1, keepdim=True))
        # Off the axes, on which coordinates may be special.
        one = torch.ones_like(flat[0])
        other = 1.5 - 2 * (torch.arange(d, device=z.device) % 2).to(z)
        beside = (flat[rows] + sign * step * way for sign in (1, -1) for way in (one, other))
        known = rank(G[rows])
        even[rows] = torch.stack([rank(_metrics(manifold, near)) == known for near in beside]).all(0)
    return MetricInverse.on_range(G.reshape(*z.shape[:-1], d, d), even.reshape(z.shape[:-1]))


def deficiency_at(manifold: Manifold, z: Float[Tensor, "*batch d"]) -> Int[Tensor, "*batch"]:
    """How many latent directions the metric at points z ignores."""
    G = _metrics(manifold, z.detach().reshape(-1, z.shape[-1]))
    known = G.isfinite().flatten(1).all(1)
    return torch.where(known, z.shape[-1] - rank(G), 0).reshape(z.shape[:-1])


def inverse_from(manifold: Manifold, z: Float[Tensor, "N d"]) -> Callable[..., MetricInverse]:
    """Z -> G(z)^{-1} along curves that begin at points z: on the range where a decoder ignores directions there.

    Who has G(z) already gives it as a second argument, and it is not taken once more.
    """
    begun = inverse_at(manifold, z, on_range=True)
    ranks = (z.shape[-1] - begun.deficiency[begun.regular]).unique()

    def inverse(z: Tensor, G: Tensor | None = None) -> MetricInverse:
        G = manifold.metric_tensor(z).detach() if G is None else G
        if not bool(begun.deficiency.any()):
            return MetricInverse(G)
        return MetricInverse.on_range(G, torch.isin(rank(G), ranks))  # as around the beginnings: no pole

    return inverse


def _metrics(manifold: Manifold, z: Float[Tensor, "N d"]) -> Float[Tensor, "N d d"]:
    size = rows_at_once(manifold, z, order=1)
    return grouped(lambda some: manifold.metric_tensor(some).detach(), size, z)


def norms_at(manifold: Manifold, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    """Riemannian norms of vectors at points, without history, in groups that fit into memory."""
    flat, vectors = (x.detach().reshape(-1, z.shape[-1]) for x in (z, v))
    with torch.no_grad():
        squared = grouped(manifold.squared_norm, rows_at_once(manifold, flat, order=1), flat, vectors)
    return squared.clamp_min(0).sqrt().reshape(z.shape[:-1])
