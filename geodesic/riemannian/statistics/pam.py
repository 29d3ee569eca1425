"""Clusters round points of their own, from the distances between all points alone."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["partition"]


def partition(D: Float[Tensor, "N N"], clusters: int, max_iterations: int) -> tuple[Int[Tensor, " K"], int, bool]:
    """Medoids, how many exchanges led to them, and whether no other one lowers the sum of distances to them.

    L. Kaufman, P. J. Rousseeuw, Partitioning around medoids (program PAM), 1990: build, then swap.

    Example:
        >>> import torch
        >>> from geodesic.riemannian.statistics.pam import partition
        >>> x = torch.tensor([0.0, 0.1, 0.2, 5.0, 5.1, 5.2])
        >>> partition((x[:, None] - x).abs(), 2, 10)[0].sort().values.tolist()
        [1, 4]
    """
    medoids = _build(D, clusters)
    iterations, better = 0, _swap(D, medoids)
    while better is not None and iterations < max_iterations:
        medoids, iterations = better, iterations + 1
        better = _swap(D, medoids)
    return medoids, iterations, better is None


def _build(D: Float[Tensor, "N N"], clusters: int) -> Int[Tensor, " K"]:
    medoids = D.sum(1).argmin()[None]
    while len(medoids) < clusters:
        near = D[medoids].amin(0)
        cost = torch.minimum(D, near).sum(1)
        cost[medoids] = torch.inf  # or two medoids would be one, where points coincide
        medoids = torch.cat([medoids, cost.argmin()[None]])
    return medoids


def _swap(D: Float[Tensor, "N N"], medoids: Int[Tensor, " K"]) -> Int[Tensor, " K"] | None:
    """The best exchange of one medoid, if there is one that lowers the cost."""
    K = len(medoids)
    current = D[medoids].amin(0).sum()
    best, where = current * (1 - 1e-12), None  # by more than rounding
    for k in range(K):
        others = torch.cat([medoids[:k], medoids[k + 1 :]])
        cost = torch.minimum(D, D[others].amin(0)).sum(1) if K > 1 else D.sum(1)
        cost[medoids] = torch.inf
        if cost.min() < best:
            best, where = cost.min(), (k, cost.argmin())
    if where is None:
        return None
    exchanged = medoids.clone()
    exchanged[where[0]] = where[1]
    return exchanged
