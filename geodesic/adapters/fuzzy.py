"""How close neighbors are to each other, as UMAP weighs them: what scanpy calls connectivities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

__all__ = ["connectivities"]

_STEPS = 64
_ENOUGH = 1e-5  # difference to the wished sum at which a scale is good enough
_SMALLEST = 1e-3  # scale of a point, relative to the mean distance to its neighbors


def connectivities(indices: NDArray, distances: NDArray) -> csr_matrix:
    """Weights between N points from the distances to their k nearest, (N, N), symmetric, sparse.

        w_ij = exp(-(d_ij - rho_i) / sigma_i),   sum over j of w_ij = log2 k,   W + W^T - W * W^T

    with rho_i the distance to the nearest neighbor.

    Reference:
        L. McInnes, J. Healy, J. Melville, UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction,
        2018.

    Args:
        indices: Of the neighbors, (N, k), nearest first, each point the first of its own.
        distances: To them, (N, k); infinite where a neighbor cannot be reached.

    Example:
        >>> import numpy as np
        >>> from geodesic.adapters.fuzzy import connectivities
        >>> indices, distances = np.array([[0, 1], [1, 0], [2, 1]]), np.array([[0, 1.0], [0, 1.0], [0, 4.0]])
        >>> connectivities(indices, distances).toarray()
        array([[0., 1., 0.],
               [1., 0., 1.],
               [0., 1., 0.]])
    """
    N, k = indices.shape
    distances = distances.astype(np.float64)
    positive = np.where(distances > 0, distances, np.inf)
    nearest = positive.min(axis=1, keepdims=True)
    nearest = np.where(np.isfinite(nearest), nearest, 0)
    beyond = np.maximum(distances[:, 1:] - nearest, 0)
    reached = np.isfinite(distances)
    mean = np.where(reached, distances, 0).sum(axis=1, keepdims=True) / reached.sum(axis=1, keepdims=True)
    least = _SMALLEST * np.where(nearest > 0, mean, distances[reached].mean())
    scale = np.maximum(_scales(beyond, float(np.log2(k))), least)
    values = np.exp(-np.divide(beyond, scale, out=np.zeros_like(beyond), where=scale > 0))
    rows = np.repeat(np.arange(N), k - 1)
    weights = csr_matrix((values.ravel(), (rows, indices[:, 1:].ravel())), shape=(N, N))
    weights.setdiag(0)
    both = weights + weights.T - weights.multiply(weights.T)
    both = csr_matrix(both)
    both.eliminate_zeros()
    return both


def _scales(beyond: NDArray, target: float) -> NDArray:
    """The scale of each row at which its weights sum to a target, (N, 1), by bisection."""
    low, high = np.zeros((len(beyond), 1)), np.full((len(beyond), 1), np.inf)
    scale = np.ones((len(beyond), 1))
    for _ in range(_STEPS):
        excess = np.exp(-beyond / scale).sum(axis=1, keepdims=True) - target
        settled = abs(excess) < _ENOUGH
        high = np.where(~settled & (excess > 0), scale, high)
        low = np.where(~settled & (excess <= 0), scale, low)
        doubled = np.where(np.isfinite(high), (low + high) / 2, 2 * scale)
        scale = np.where(settled, scale, doubled)
    return scale
