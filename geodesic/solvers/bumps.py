"""Curves that make bumps beside a path: where a search begins for what lies on the other side of corners."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["BUMPS", "Bump", "with_bumps"]


class Bump(NamedTuple):
    """A half wave or more of a sine, to one side.

    Attributes:
        size: Its amplitude, over the latent distance of the ends.
        waves: Half waves along the path.
    """

    size: float
    waves: int


BUMPS = tuple(Bump(sign * size, waves) for waves in (1, 2) for size in (0.1, 0.2) for sign in (1, -1))
"""What is tried."""


def with_bumps(path: Float[Tensor, "P n d"], bumps: Sequence[Bump]) -> Float[Tensor, "P B n d"]:
    """Paths with each bump in each direction across the line between their ends: in one dimension there is none.

        z(t) + size * |b - a| * sin(waves * pi * t) * direction

    Args:
        path: At equal times, from a to b.
        bumps: Which ones.

    Example:
        >>> import torch
        >>> from geodesic.solvers.bumps import Bump, with_bumps
        >>> path = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]])
        >>> with_bumps(path, [Bump(0.5, 1)])[0, 0].abs()[1]
        tensor([1., 1.])
    """
    P, n, d = path.shape
    a, b = path[:, 0], path[:, -1]
    across = torch.linalg.qr((b - a)[..., None], mode="complete").Q[..., 1:].mT  # the first column lies along the line
    t = torch.linspace(0, 1, n, dtype=path.dtype, device=path.device)
    waves = torch.stack([bump.size * (bump.waves * math.pi * t).sin() for bump in bumps])
    waves[:, [0, -1]] = 0
    sizes = (b - a).norm(dim=1)[:, None, None, None] * waves[:, :, None]  # (P, B, n, 1)
    curves = path[:, None, None] + sizes[:, None] * across[:, :, None, None]
    return curves.reshape(P, (d - 1) * len(bumps), n, d)
