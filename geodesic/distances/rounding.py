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

__all__ = ["OF_OUTPUTS", "moved_by_rounding", "observed", "places_of", "surely_apart", "surely_below"]

OF_OUTPUTS = 10  # roundings of their size, to which the outputs of a deep network are known
_OF_NODES = 2  # of latent points, between two nodes


@torch.no_grad()
def observed(manifold: Manifold, z: Float[Tensor, "N d"]) -> Float[Tensor, "N *outputs"]:
    """What the geometry is made from at points, (N, ...), in groups that fit into memory."""
    return grouped(manifold.observe, rows_at_once(manifold, z, order=1), z)


def places_of(manifold: Manifold, z: Float[Tensor, "N d"]) -> Float[Tensor, "N D"]:
    """The same as rows, (N, D): of an embedded geometry, where points lie in the surrounding space."""
    return observed(manifold, z).flatten(1)


@torch.no_grad()
def surely_below(manifold: Manifold, start: Float[Tensor, "P d"], end: Float[Tensor, "P d"]) -> Float[Tensor, " P"]:
    """Lower bounds of the distances between points, (P,), without what the rounding of outputs may have added.

    Args:
        manifold: Where to measure.
        start: First ends.
        end: Last ends.
    """
    if not manifold.has_chords:
        return start.new_zeros(len(start))

    def between(start: Tensor, end: Tensor) -> Tensor:
        return surely_apart(manifold, *manifold.observe(torch.cat([start, end])).tensor_split(2))

    size = max(1, rows_at_once(manifold, start, order=1) // 2)
    return grouped(between, size, start, end).nan_to_num(nan=0.0)


def surely_apart(
    manifold: Manifold, x: Float[Tensor, "P *outputs"], y: Float[Tensor, "P *outputs"]
) -> Float[Tensor, " P"]:
    """The same from what was observed at the points; NaN where that is not finite."""
    lower, flat, others = manifold.apart(x, y), x.flatten(1), y.flatten(1)
    apart = (flat - others).norm(dim=1)
    off = OF_OUTPUTS * torch.finfo(lower.dtype).eps * (flat.norm(dim=1) + others.norm(dim=1)) / apart
    return torch.where(apart == 0, 0, lower * (1 - off).clamp_min(0))


def moved_by_rounding(start: Float[Tensor, "P d"], end: Float[Tensor, "P d"]) -> Float[Tensor, " P"]:
    """By what share rounding of its nodes may change the length of a curve between points, (P,)."""
    size, apart = start.norm(dim=1) + end.norm(dim=1), (end - start).norm(dim=1)
    return torch.where(apart > 0, _OF_NODES * torch.finfo(size.dtype).eps * size / apart, 0)
