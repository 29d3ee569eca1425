"""How neighbors by one distance differ from those by another, and what they say of labels. Arrays only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["in_common", "label_hits", "nearest_others", "spread_of_mean"]

_RESAMPLES = 10_000
_AT_ONCE = 2**24  # numbers of a block of resamples


def nearest_others(D: NDArray, k: int) -> NDArray:
    """The k nearest other points to each, nearest first, (N, k), by distances (N, N); what is not a number is far.

    Example:
        >>> import numpy as np
        >>> from geodesic.experiment.studies.neighborhoods import nearest_others
        >>> nearest_others(np.array([[0.0, 2.0, 1.0], [2.0, 0.0, 3.0], [1.0, 3.0, 0.0]]), 1).ravel()
        array([2, 0, 0])
    """
    D = np.where(np.isnan(D), np.inf, D)
    np.fill_diagonal(D, np.inf)
    D = np.where(np.isinf(D), np.finfo(np.float64).max, D)
    np.fill_diagonal(D, np.inf)  # a point itself is last, behind those that are infinitely far
    return D.argsort(axis=1, kind="stable")[:, :k]


def in_common(first: NDArray, second: NDArray) -> NDArray:
    """Of each point, the share of its neighbors (N, k) that are among other ones (N, k), (N,)."""
    return (first[:, :, None] == second[:, None]).any(2).mean(1)


def label_hits(nearest: NDArray, labels: NDArray) -> NDArray:
    """Whether the nearest other point, the first of (N, k), has the label of the point, (N,), as 0 or 1."""
    return (labels[nearest[:, 0]] == labels).astype(float)


def spread_of_mean(values: NDArray, seed: int = 0) -> tuple[float, float]:
    """Where the mean of values (N,) lies with 95 %: between these quantiles of the means of resamples.

    B. Efron, Bootstrap methods: another look at the jackknife, 1979.

    Example:
        >>> import numpy as np
        >>> from geodesic.experiment.studies.neighborhoods import spread_of_mean
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
