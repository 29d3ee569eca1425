"""Preconditioners for directions along a path: what makes steps independent of T, and of latent scales."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold, weighted
from geodesic.numerics.block_tridiagonal import BlockTridiagonal

__all__ = ["Laplacian", "Preconditioner", "inverse_laplacian", "precondition", "preconditioned_by", "stiffness"]

_DAMPING = 1e-3  # of the mean diagonal entry of the metric: latent coordinates that the decoder ignores stay put
_LARGEST_METRIC = 128  # latent coordinates above which d x d blocks cost more than they save


@runtime_checkable
class Preconditioner(Protocol):
    """An approximation S of the Hessian of half the weighted squared chords that is easy to invert."""

    positive: Bool[Tensor, " P"]
    """Whether S is positive definite, for each pair."""

    def __getitem__(self, rows: Tensor) -> Preconditioner:
        """That of some pairs."""

    def solve(self, right: Float[Tensor, "P interior d"]) -> Float[Tensor, "P interior d"]:
        """S^{-1} right."""


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


def precondition(
    manifold: Manifold,
    path: Float[Tensor, "P nodes d"],
    weights: Float[Tensor, "P T"],
    squared_chords: Float[Tensor, "P T"],
    samples: int,
) -> Preconditioner:
    """The preconditioner for paths: the stiffness matrix of a few samples of the metric, or a Laplacian.

    Args:
        manifold: Where to measure.
        path: Nodes, (P, T + 1, d).
        weights: Of their segments, (P, T).
        squared_chords: Times their weights, which scale the Laplacian.
        samples: Points along a path at which to take the metric; 0 for the Laplacian.
    """
    T, d = squared_chords.shape[1], path.shape[2]
    if _takes_metric(samples, d, manifold.forms_metric):
        return stiffness(manifold, path, weights, min(samples, T), _DAMPING).cholesky()
    return Laplacian(squared_chords.sum(1) / weighted(path.diff(dim=1).square(), weights).sum((1, 2)), weights)


def preconditioned_by(samples: int, d: int, forms_metric: bool) -> str:
    """What `precondition` does, in words.

    Args:
        samples: As there.
        d: Latent coordinates.
        forms_metric: Whether memory suffices for the metric tensor of a point.
    """
    if _takes_metric(samples, d, forms_metric):
        return f"the metric at {samples} points of a path"
    return "the Laplacian in time"


def _takes_metric(samples: int, d: int, forms_metric: bool) -> bool:
    return bool(samples) and d <= _LARGEST_METRIC and forms_metric


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
    at = (torch.arange(samples, dtype=path.dtype, device=path.device) + 0.5) * T / samples
    node = at.long().clamp(max=T - 1)
    points = torch.lerp(path[:, node], path[:, node + 1], (at - node)[:, None])
    with torch.no_grad():
        G = manifold.metric_tensor(points)
    mean = G.diagonal(dim1=-2, dim2=-1).mean((-2, -1))[:, None, None, None]
    G = G + damping * mean * torch.eye(d, dtype=path.dtype, device=path.device)
    middle = torch.arange(T, dtype=path.dtype, device=path.device) + 0.5
    position = (middle * samples / T - 0.5).clamp(0, samples - 1)
    before = position.long().clamp(max=max(samples - 2, 0))
    after = (before + 1).clamp(max=samples - 1)
    G = weighted(torch.lerp(G[:, before], G[:, after], (position - before)[:, None, None]), weights)
    return BlockTridiagonal(G[:, :-1] + G[:, 1:], -G[:, 1:-1])


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
