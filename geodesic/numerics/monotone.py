"""Monotone interpolation: curves that rise where their values rise, each with its own abscissas."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.numerics.spline import hermite

__all__ = ["monotone_at"]


def monotone_at(
    x: Float[Tensor, "P nodes"], y: Float[Tensor, "P nodes"], at: Float[Tensor, "P K"]
) -> Float[Tensor, "P K"]:
    """Values of the monotone cubic through (x, y): once continuously differentiable, and rising where y does.

    Slopes at inner nodes are weighted harmonic means of those beside them, at the ends those of the segments there.

    Reference:
        F. N. Fritsch, J. Butland, A Method for Constructing Local Monotone Piecewise Cubic Interpolants, 1984.

    Args:
        x: Abscissas, (P, n), rising.
        y: Values there, (P, n), not falling.
        at: Where to interpolate, (P, K), between the first and the last x of the row.

    Returns:
        The values, (P, K), within those of y.

    Example:
        >>> import torch
        >>> from geodesic.numerics.monotone import monotone_at
        >>> x = torch.tensor([[0.0, 1.0, 2.0]])
        >>> monotone_at(x, x**2, torch.tensor([[0.5, 1.0]]))
        tensor([[0.4375, 1.0000]])
    """
    tiny = torch.finfo(x.dtype).tiny
    width = x.diff(dim=1).clamp_min(tiny)
    slope = y.diff(dim=1) / width
    left, right = width[:, :-1] + 2 * width[:, 1:], 2 * width[:, :-1] + width[:, 1:]
    a, b = slope[:, :-1].clamp_min(tiny), slope[:, 1:].clamp_min(tiny)
    inner = torch.where((slope[:, :-1] > 0) & (slope[:, 1:] > 0), (left + right) / (left / a + right / b), 0)
    rate = torch.cat([slope[:, :1], inner, slope[:, -1:]], dim=1)
    i = (torch.searchsorted(x.contiguous(), at.contiguous(), right=True) - 1).clamp(0, x.shape[1] - 2)
    step = width.gather(1, i)
    u = ((at - x.gather(1, i)) / step).clamp(0, 1)
    ends = (y.gather(1, i), y.gather(1, i + 1), rate.gather(1, i) * step, rate.gather(1, i + 1) * step)
    return hermite(*ends, u)[0].clamp(y[:, :1], y[:, -1:])
