"""Paths with each node moved a little at random: where it is tried whether a path is shortest among those near it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["SHAKES", "with_shakes"]

SHAKES = (1e-5, 3e-4, 3e-3)
"""How far nodes are moved, over the latent distance of the ends."""


def with_shakes(path: Float[Tensor, "P n d"], sizes: Sequence[float], seed: int = 0) -> Float[Tensor, "P B n d"]:
    """Paths with their nodes moved by normal numbers, by each size; ends, and what fills up a path, stay.

    Args:
        path: From a to b.
        sizes: Standard deviations, over |b - a|.
        seed: Of the numbers.

    Example:
        >>> import torch
        >>> from geodesic.solvers.shakes import with_shakes
        >>> path = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]])
        >>> with_shakes(path, [0.0, 0.1])[0, :, 1, 0] == 1
        tensor([ True, False])
    """
    a, b = path[:, :1], path[:, -1:]
    generator = torch.Generator().manual_seed(seed)
    nodes, d = path.shape[1:]
    # Node by node: how many are filled up behind a path, by others beside it, changes nothing.
    uniform = torch.rand(nodes, len(sizes), d, generator=generator, dtype=path.dtype).transpose(0, 1).to(path.device)
    moves = torch.special.ndtri(uniform.clamp_min(torch.finfo(path.dtype).tiny))
    scale = torch.tensor(sizes, dtype=path.dtype, device=path.device)[:, None, None]
    inner = (path != a).any(2, keepdim=True) & (path != b).any(2, keepdim=True)
    size = torch.where(inner, (b - a).norm(dim=2, keepdim=True), 0)
    return path[:, None] + size[:, None] * scale * moves
