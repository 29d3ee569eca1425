"""What is computed at many points, in groups of them that fit into memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.inverse import MetricInverse, require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import grouped, rows_at_once
from geodesic.geometry.points import inverse_at

__all__ = ["pointwise", "regular_inverse"]


def regular_inverse(manifold: Manifold, z: Float[Tensor, "N d"]) -> MetricInverse:
    """G(z)^{-1}, on the range of G where a decoder ignores directions; other singular ones are refused."""
    inverse = inverse_at(manifold, z, on_range=True)
    require_regular(z, inverse)
    return inverse


def pointwise(manifold: Manifold, compute: Callable[..., Tensor], share: int, *tensors: Tensor) -> Tensor:
    """Without history, in groups of rows of which each takes the memory of `share` derivatives of all coordinates."""
    with torch.inference_mode(False), torch.no_grad():
        return grouped(compute, max(1, rows_at_once(manifold, tensors[0]) // share), *tensors)
