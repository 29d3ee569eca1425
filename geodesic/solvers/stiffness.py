"""The stiffness matrix of a path, by a few samples of the metric or by a single number: block tridiagonal in time."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold, weighted
from geodesic.numerics.block_tridiagonal import BlockTridiagonal

__all__ = ["Laplacian", "Separable", "inverse_laplacian", "separable", "stiffness", "stiffness_of"]


class Laplacian:
    """S = c K with a number c for each pair, and K the 1-D Laplacian in time: tridiag(-1, 2, -1) at equal times."""

    def __init__(self, scale: Float[Tensor, " P"], weights: Float[Tensor, "P T"]) -> None:
        self.scale, self.weights = scale, weights
        self.positive = scale.isfinite() & (scale > 0)

    def __getitem__(self, rows: Tensor) -> Laplacian:
        return Laplacian(self.scale[rows], self.weights[rows])

    def solve(self, right: Float[Tensor, "P interior d"]) -> Float[Tensor, "P interior d"]:
        T = right.shape[1] + 1
        return T / self.scale[:, None, None] * inverse_laplacian(right, self.weights)


class Separable:
    """S = K (x) G, a metric tensor G for each pair and K the 1-D Laplacian in time, see `Laplacian`."""

    def __init__(self, factor: Float[Tensor, "P d d"], time: Laplacian) -> None:
        self.factor, self.time, self.positive = factor, time, time.positive

    def __getitem__(self, rows: Tensor) -> Separable:
        return Separable(self.factor[rows], self.time[rows])

    def solve(self, right: Float[Tensor, "P interior d"]) -> Float[Tensor, "P interior d"]:
        return torch.cholesky_solve(self.time.solve(right).mT, self.factor).mT


def separable(
    manifold: Manifold,
    path: Float[Tensor, "P nodes d"],
    weights: Float[Tensor, "P T"],
    samples: int,
    damping: float = 0.0,
) -> Separable:
    """The mean of a few samples of the metric in space, and its size along the path in time.

    Nearly as good a preconditioner as `stiffness`, at a fraction of its price where d is large: a single factorization
    of d x d numbers. Where the metric is not finite, G is the identity.

    Args:
        manifold: Gives the metric tensor, at `samples` points a path.
        path: Nodes, (P, T + 1, d).
        weights: Of their segments, (P, T).
        samples: Number of points along the path.
        damping: Share of the mean diagonal entry of G that is added to its diagonal.
    """
    T, d = path.shape[1] - 1, path.shape[2]
    with torch.no_grad():
        G = manifold.metric_tensor(_midway(path, samples))
    size = G.diagonal(dim1=-2, dim2=-1).mean(-1)
    mean, eye = size.mean(1, keepdim=True), torch.eye(d, dtype=path.dtype, device=path.device)
    L, failed = torch.linalg.cholesky_ex(G.mean(1) + damping * mean[..., None] * eye)
    good = ((failed == 0) & L.isfinite().flatten(1).all(1) & (size > 0).all(1))[:, None]
    times = torch.where(good, _along(size / mean, T), 1)
    return Separable(torch.where(good[..., None], L, eye), Laplacian(torch.ones_like(mean[:, 0]), weights * times))


def stiffness(
    manifold: Manifold,
    path: Float[Tensor, "P nodes d"],
    weights: Float[Tensor, "P T"],
    samples: int,
    damping: float = 0.0,
) -> BlockTridiagonal:
    """The stiffness matrix of half the weighted squared chords: the metric at the midpoints of the segments.

    w_{i-1} G_{i-1/2} + w_i G_{i+1/2} on the diagonal and -w_i G_{i+1/2} beside it: the Gauss-Newton Hessian up to
    order 1/T^2. A few samples of the metric along the path suffice for a preconditioner; between them it is
    interpolated.

    Args:
        manifold: Gives the metric tensor, at `samples` points a path.
        path: Nodes, (P, T + 1, d).
        weights: Of their segments, (P, T).
        samples: Number of points along the path.
        damping: Share of the mean diagonal entry of G that is added to its diagonal.
    """
    T, d = path.shape[1] - 1, path.shape[2]
    with torch.no_grad():
        G = manifold.metric_tensor(_midway(path, samples))
    mean = G.diagonal(dim1=-2, dim2=-1).mean((-2, -1))[:, None, None, None]
    G = G + damping * mean * torch.eye(d, dtype=path.dtype, device=path.device)
    return stiffness_of(_along(G, T), weights)


def stiffness_of(G: Float[Tensor, "*segments d d"], weights: Float[Tensor, "P T"]) -> BlockTridiagonal:
    """The stiffness matrix by the metric at the midpoints of all segments, or by one that is the same for all."""
    G = weighted(G.expand(*weights.shape, *G.shape[-2:]), weights)
    return BlockTridiagonal(G[:, :-1] + G[:, 1:], -G[:, 1:-1])


def _midway(path: Float[Tensor, "P nodes d"], samples: int) -> Float[Tensor, "P samples d"]:
    """Points in the middle of equal parts of paths."""
    T = path.shape[1] - 1
    at = (torch.arange(samples, dtype=path.dtype, device=path.device) + 0.5) * T / samples
    node = at.long().clamp(max=T - 1)
    return torch.lerp(path[:, node], path[:, node + 1], (at - node)[:, None])


def _along(samples: Float[Tensor, "P samples *event"], T: int) -> Float[Tensor, "P T *event"]:
    """Values at the points of `_midway`, interpolated in the middle of T segments."""
    count = samples.shape[1]
    middle = torch.arange(T, dtype=samples.dtype, device=samples.device) + 0.5
    position = (middle * count / T - 0.5).clamp(0, count - 1)
    before = position.long().clamp(max=max(count - 2, 0))
    after = (before + 1).clamp(max=count - 1)
    share = (position - before).reshape(T, *(1,) * (samples.dim() - 2))
    return torch.lerp(samples[:, before], samples[:, after], share)


def inverse_laplacian(
    eta: Float[Tensor, "*batch interior d"], weights: Float[Tensor, "*batch T"]
) -> Float[Tensor, "*batch interior d"]:
    """Solve T K p = eta along the nodes, K p = w_{i-1} (p_i - p_{i-1}) - w_i (p_{i+1} - p_i), with p = 0 at both ends.

    Differences of differences are undone by summing twice; the straight line that is left over is fixed by the ends.

    Args:
        eta: Right-hand side at the interior nodes, (*batch, T - 1, d).
        weights: w of the segments, (*batch, T): 1 / (T h) for a time h.

    Returns:
        The solution, (*batch, T - 1, d).
    """
    T = eta.shape[-2] + 1
    slope = torch.nn.functional.pad(-eta.cumsum(-2) / T, (0, 0, 1, 0))
    p = (slope / weights[..., None]).cumsum(-2)  # p_1 ... p_T up to the time times the unknown first slope
    time = (1 / weights).cumsum(-1)
    return (p - (time / time[..., -1:])[..., None] * p[..., -1:, :])[..., :-1, :]
