"""How neighbors by one distance differ from those by another, and what they say of labels. Arrays only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["decided_by_bounds", "in_common", "label_hits", "nearest_others", "spread_of_mean"]

_RESAMPLES = 10_000
_AT_ONCE = 2**24  # numbers of a block of resamples


def nearest_others(D: NDArray, k: int, first: int = 0) -> NDArray:
    """The k nearest other points to each, nearest first, (n, k), by distances (n, N); what is not a number is far.

    Args:
        D: Rows of a matrix of distances.
        k: Neighbors.
        first: Which point the first row belongs to.

    Example:
        >>> import numpy as np
        >>> from geodesic.distances.neighborhoods import nearest_others
        >>> nearest_others(np.array([[0.0, 2.0, 1.0], [2.0, 0.0, 3.0], [1.0, 3.0, 0.0]]), 1).ravel()
        array([2, 0, 0])
    """
    D = np.where(np.isfinite(D), D, np.finfo(np.float64).max)
    at = np.arange(len(D))
    D[at, first + at] = np.inf  # a point itself is last, behind those that are infinitely far
    return D.argsort(axis=1, kind="stable")[:, :k]


def decided_by_bounds(lower: NDArray, upper: NDArray, near: NDArray, first: int = 0) -> NDArray:
    """Whether bounds of distances, (n, N), leave no doubt that other points `near`, (n,), are the nearest, (n,).

    Args:
        lower: Rows of a matrix.
        upper: The same rows.
        near: A neighbor of each of these points.
        first: Which point the first row belongs to.
    """
    at, others = np.arange(len(near)), lower.astype(np.float64)
    others[at, first + at] = others[at, near] = np.inf
    decided: NDArray = upper[at, near] < others.min(1)
    return decided


def in_common(first: NDArray, second: NDArray) -> NDArray:
    """Of each point, the share of its neighbors (N, k) that are among other ones (N, k), (N,)."""
    return (first[:, :, None] == second[:, None]).any(2).mean(1)


def label_hits(nearest: NDArray, labels: NDArray, first: int = 0) -> NDArray:
    """Whether the nearest other point, the first of (n, k), has the label of the point, (n,), as 0 or 1.

    Args:
        nearest: Neighbors of some points, one after the other.
        labels: Of all points, (N,).
        first: The first of these points.
    """
    return (labels[nearest[:, 0]] == labels[first : first + len(nearest)]).astype(float)


def spread_of_mean(values: NDArray, seed: int = 0) -> tuple[float, float]:
    """Where the mean of values (N,) lies with 95 %: between these quantiles of the means of resamples.

    B. Efron, Bootstrap methods: another look at the jackknife, 1979.

    Example:
        >>> import numpy as np
        >>> from geodesic.distances.neighborhoods import spread_of_mean
        >>> spread_of_mean(np.ones(5))
        (1.0, 1.0)
    """
    generator, N = np.random.default_rng(seed), len(values)
    rows = max(1, _AT_ONCE // N)
    means = [
        values[generator.integers(N, size=(min(rows, _RESAMPLES - done), N))].mean(1)
        for done in range(0, _RESAMPLES, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)
