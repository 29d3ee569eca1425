"""The not-a-knot cubic spline through nodes at equal times in [0, 1]: it is linear in its nodes, so it is matrices.

Natural ends would lose an order: of smooth curves this spline is of order 4 in the distance of the nodes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

__all__ = [
    "at_halves",
    "at_midpoints",
    "constant_speed_at",
    "hermite",
    "like",
    "on_interval",
    "on_segments",
    "polygon_at",
    "slopes",
    "spline_at",
    "spline_matrices",
    "through",
]

_GAUSS_POINTS = 3  # per segment: quadrature of order 6, under the spline's own error of order 4

Matrix = NDArray[np.float64]


def spline_at(T: int, t: Matrix) -> tuple[Matrix, Matrix]:
    """Matrices (K, T + 1) from T + 1 nodes to the spline, and to its derivative, at times t, (K,), in [0, 1]."""
    spline = _spline(T)
    return spline(t), spline(t, 1)


@lru_cache(maxsize=64)
def spline_matrices(T: int, segments: int) -> tuple[Matrix, Matrix]:
    """Matrices (segments + 1, T + 1) from T + 1 nodes to the spline, and to its derivative, at equal steps."""
    return spline_at(T, np.linspace(0, 1, segments + 1))


def slopes(nodes: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes d"]:
    """The derivative of the spline at its nodes, per segment."""
    T = nodes.shape[-2] - 1
    (matrix,) = like(nodes, spline_matrices(T, T)[1])
    return matrix @ nodes / T


def on_segments(nodes: Float[Tensor, "*batch nodes d"]) -> tuple[Tensor, Tensor]:
    """The spline and its derivative per segment at the Gauss-Legendre points of all segments, (*batch, T, Q, d)."""
    (u,), slope = like(nodes, on_interval()[0]), slopes(nodes)
    (z0, z1), (m0, m1) = ((x[..., :-1, None, :], x[..., 1:, None, :]) for x in (nodes, slope))
    return hermite(z0, z1, m0, m1, u[:, None])


def at_midpoints(nodes: Float[Tensor, "*batch nodes d"]) -> tuple[Tensor, Tensor, Tensor]:
    """The spline, its first and its second derivative halfway between the nodes, (*batch, T, d)."""
    T, slope = nodes.shape[-2] - 1, slopes(nodes)
    left, right = slope[..., :-1, :], slope[..., 1:, :]
    value, rate = hermite(nodes[..., :-1, :], nodes[..., 1:, :], left, right, nodes.new_tensor(0.5))
    return value, T * rate, T**2 * (right - left)


def at_halves(nodes: Float[Tensor, "*batch nodes d"]) -> tuple[Tensor, Tensor]:
    """The spline and its derivative per half segment, at the nodes and halfway between: (*batch, 2 T + 1, d)."""
    slope = slopes(nodes)
    z0, z1, m0, m1 = (x[..., some, :] for x in (nodes, slope) for some in (slice(-1), slice(1, None)))
    both = zip(hermite(z0, z1, m0, m1, nodes.new_tensor(0.5)), (nodes, slope), strict=True)
    value, rate = (
        torch.cat([torch.stack([x[..., :-1, :], between], dim=-2).flatten(-3, -2), x[..., -1:, :]], dim=-2)
        for between, x in both
    )
    return value, rate / 2


def on_interval() -> tuple[Matrix, Matrix]:
    """The Gauss-Legendre points of one segment, as shares of it, and their weights, which sum to 1."""
    points, weights = np.polynomial.legendre.leggauss(_GAUSS_POINTS)
    return (points + 1) / 2, weights / 2


def hermite(z0: Tensor, z1: Tensor, m0: Tensor, m1: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """The cubic on [0, 1] with values z and slopes m at 0 and at 1, and its derivative, at u: axes broadcast."""
    value = z0 * (1 - u) ** 2 * (1 + 2 * u) + z1 * u**2 * (3 - 2 * u) + m0 * u * (1 - u) ** 2 - m1 * u**2 * (1 - u)
    rate = 6 * (z1 - z0) * u * (1 - u) + m0 * (1 - u) * (1 - 3 * u) + m1 * u * (3 * u - 2)
    return value, rate


def through(
    nodes: Float[Tensor, "P nodes d"], at: Float[Tensor, "P K"]
) -> tuple[Float[Tensor, "P K d"], Float[Tensor, "P K d"]]:
    """The spline through nodes and its derivative, at times of their own for each path, (P, K), in [0, 1]."""
    T = nodes.shape[1] - 1
    slope = slopes(nodes)
    i = (at * T).long().clamp(0, T - 1)
    u = (at * T - i)[..., None]

    def some(values: Tensor, i: Tensor) -> Tensor:
        return values.gather(1, i[..., None].expand(*i.shape, values.shape[-1]))

    value, rate = hermite(some(nodes, i), some(nodes, i + 1), some(slope, i), some(slope, i + 1), u)
    return value, T * rate


def constant_speed_at(
    nodes: Float[Tensor, "P nodes d"], share: Float[Tensor, "P nodes"], time: Float[Tensor, " K"]
) -> tuple[Float[Tensor, "P K d"], Float[Tensor, "P K d"]]:
    """The spline through nodes, run through at constant speed, and its velocity, at times in [0, 1].

    Its parameter is a cubic Hermite function of the share of the length, with slopes from the spline of the shares.

    Args:
        nodes: (P, T + 1, d).
        share: Of the length up to each node, (P, T + 1), from 0 to 1.
        time: (K,).
    """
    T = nodes.shape[1] - 1
    _, rate = like(share, *spline_matrices(T, T))
    slope = 1 / (rate @ share[..., None])[..., 0]
    times = time.expand(len(share), -1).contiguous()
    i = (torch.searchsorted(share.contiguous(), times, right=True) - 1).clamp(0, T - 1)
    left, right = share.gather(1, i), share.gather(1, i + 1)
    width = (right - left).clamp_min(torch.finfo(share.dtype).tiny)
    u = ((times - left) / width).clamp(0, 1)
    before, after = (k.to(share.dtype) / T for k in (i, i + 1))
    rise, pace = hermite(before, after, slope.gather(1, i) * width, slope.gather(1, i + 1) * width, u)
    values, slopes = through(nodes, rise.clamp(0, 1))
    return values, slopes * (pace / width)[..., None]


def polygon_at(
    nodes: Float[Tensor, "P nodes d"], share: Float[Tensor, "P nodes"], time: Float[Tensor, " K"]
) -> tuple[Float[Tensor, "P K d"], Float[Tensor, "P K d"]]:
    """The polygon through nodes, run through at constant speed, and its velocity: at a corner that behind it.

    Args:
        nodes: (P, T + 1, d).
        share: Of the length up to each node, (P, T + 1), from 0 to 1; nodes behind the last one have 1.
        time: (K,).
    """
    times, share = time.expand(len(share), -1).contiguous(), share.contiguous()
    last = (share < 1).sum(1, keepdim=True) - 1  # the node at which the last segment begins
    i = (torch.searchsorted(share, times, right=True) - 1).clamp_min(0).minimum(last)
    left, right = share.gather(1, i), share.gather(1, i + 1)
    width = (right - left).clamp_min(torch.finfo(share.dtype).tiny)
    at = ((times - left) / width).clamp(0, 1)[..., None]
    first, second = (nodes.gather(1, k[..., None].expand(*k.shape, nodes.shape[2])) for k in (i, i + 1))
    return torch.lerp(first, second, at), (second - first) / width[..., None]


def like(x: Tensor, *matrices: Matrix) -> tuple[Float[Tensor, "..."], ...]:
    """Matrices as tensors of the dtype of x, where it is."""
    return tuple(torch.as_tensor(matrix, dtype=x.dtype, device=x.device) for matrix in matrices)


def _spline(T: int) -> CubicSpline:
    """The one through the unit vectors."""
    return CubicSpline(np.linspace(0, 1, T + 1), np.eye(T + 1), bc_type="not-a-knot")
