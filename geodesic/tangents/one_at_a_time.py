"""Forward mode of torch, which is not made for several threads."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["forward", "prepare_forward_mode"]

_ONE_AT_A_TIME = threading.RLock()  # torch counts the levels of forward mode for all threads together


def forward(f: Callable[[Tensor], Any], z: Tensor, u: Tensor) -> Any:
    """f(z) and J_f(z) u, in one thread at a time.

    Args:
        f: From a tensor to one or several.
        z: Where.
        u: Tangents, of the shape of z.

    Returns:
        What f returns, and the products, of the same structure.

    Example:
        >>> import torch
        >>> from geodesic.tangents import forward
        >>> forward(torch.square, torch.tensor(3.0), torch.tensor(1.0))
        (tensor(9.), tensor(6.))
    """
    with _ONE_AT_A_TIME:
        # Forward mode refuses tensors whose entries share memory, as after `expand`.
        return torch.func.jvp(f, (z.contiguous(),), (u.contiguous(),))


@cache
def prepare_forward_mode() -> None:
    """Make the first forward-mode product now, where torch's own FutureWarning about it can be kept in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        forward(torch.sin, torch.zeros(1), torch.ones(1))
