"""Points and vectors as users give them, and as rows to compute with."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import require_points
from geodesic.errors import InputError
from geodesic.geometry.checks import require_manifold
from geodesic.geometry.embedded import EmbeddedManifold
from geodesic.geometry.inverse import MetricInverse
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import bytes_a_row

__all__ = ["Rows", "inverse_at", "norms_at", "require_limit", "rows_at_once"]

_BYTES = 1e9  # that derivatives of a decoder may take at once
_SHARE = 2  # what is kept, and what an allocator wastes, beside them


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
        manifold.require_usable()
        require_points(manifold.latent_shape, **tensors)
        first = next(iter(tensors.values()))
        axes = 1 if manifold.latent_shape is None else len(manifold.latent_shape)
        self.batch, self.event = first.shape[:-axes], first.shape[-axes:]
        self.rows = [z.detach().reshape(-1, math.prod(self.event)) for z in tensors.values()]

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


def rows_at_once(manifold: Manifold, z: Float[Tensor, "N d"], *, order: int = 2) -> int:
    """For how many rows like these derivatives of an order, 1 or 2, fit into a gigabyte."""
    if len(z) <= 1:
        return 1
    first, d = z[:1].detach(), z.shape[-1]
    key = ("metric_tensor", d, z.dtype, z.device)
    needed = _SHARE * bytes_a_row(manifold, key, lambda rows: manifold.metric_tensor(first.repeat(rows, 1)))
    if order == 2:  # watched too, that would take seconds where a metric is itself made of derivatives
        needed *= 3 if isinstance(manifold, EmbeddedManifold) else 6 * d
    return max(1, int(_BYTES / needed))


def inverse_at(manifold: Manifold, z: Float[Tensor, "*batch d"]) -> MetricInverse:
    """G(z)^{-1}, without history, however many points there are: in groups that fit into memory."""
    d = z.shape[-1]
    flat = z.detach().reshape(-1, d)
    G = [manifold.metric_tensor(some).detach() for some in flat.split(rows_at_once(manifold, flat, order=1))]
    return MetricInverse(torch.cat(G).reshape(*z.shape[:-1], d, d))


def norms_at(manifold: Manifold, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    """Riemannian norms of vectors at points, without history, in groups that fit into memory."""
    flat, vectors = (x.detach().reshape(-1, z.shape[-1]) for x in (z, v))
    size = rows_at_once(manifold, flat, order=1)
    with torch.no_grad():
        squared = [manifold.squared_norm(*some) for some in zip(flat.split(size), vectors.split(size), strict=True)]
    return torch.cat(squared).clamp_min(0).sqrt().reshape(z.shape[:-1])
