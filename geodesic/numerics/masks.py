"""Masks, turned into indices with one look at them from the host."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

__all__ = ["divided"]


def divided(mask: Bool[Tensor, " n"]) -> tuple[Int[Tensor, " k"], Int[Tensor, " n-k"]]:
    """Indices of what a mask says yes to, and of the others, both rising.

    A device is waited for once, for the number of the former; indexing by a mask waits each time.

    Example:
        >>> import torch
        >>> from geodesic.numerics.masks import divided
        >>> divided(torch.tensor([True, False, True]))
        (tensor([0, 2]), tensor([1]))
    """
    count = int(mask.sum())
    if count in (0, len(mask)):
        every = torch.arange(len(mask), device=mask.device)
        return (every, every[:0]) if count else (every[:0], every)
    order = torch.argsort(~mask, stable=True)
    return order[:count], order[count:]
