"""Weights of points."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import brief
from geodesic.errors import InputError

__all__ = ["normalized"]


def normalized(weights: Any, batch: torch.Size, x: Float[Tensor, "R N d"]) -> Float[Tensor, "R N"]:
    """The weights of points over their sum, for each of the R sets: equal if None.

    Args:
        weights: As the user gave them, (*batch, N) or (N,).
        batch: The leading axes of the sets.
        x: The points, (R, N, d).

    Raises:
        InputError: The weights have another shape, are not finite, negative, or sum to zero.
    """
    R, N = x.shape[:2]
    if weights is None:
        return x.new_full((R, N), 1 / N)
    if not isinstance(weights, Tensor):
        raise InputError(f"weights: expected a tensor, got {type(weights).__name__}; use torch.as_tensor(weights)")
    if weights.shape not in ((N,), (*batch, N)):
        raise InputError(
            f"weights: expected one for each point, shape {(*batch, N)} or {(N,)}, got {tuple(weights.shape)}"
        )
    w = weights.detach().to(x).expand(*batch, N).reshape(R, N)
    for bad, expected in (
        (~w.isfinite().all(-1), "finite numbers"),
        ((w < 0).any(-1), "none below zero"),
        (w.sum(-1) <= 0, "a positive sum, or no point has a say"),
    ):
        if bad.any():
            row = int(bad.nonzero()[0])
            at = tuple(int(k) for k in torch.unravel_index(torch.tensor(row), batch)) if batch else ()
            where = f" in row {at[0] if len(at) == 1 else at}" if batch else ""
            raise InputError(f"weights: expected {expected}, got {brief(w[row])}{where}")
    w = w / w.amax(-1, keepdim=True)  # sums of the largest numbers would not be finite
    return w / w.sum(-1, keepdim=True)
