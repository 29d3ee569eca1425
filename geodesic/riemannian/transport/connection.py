"""Parallel transport by the connection: rotations of orthonormal frames."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.inverse import MetricInverse
from geodesic.geometry.manifold import Manifold
from geodesic.numerics.spline import spline_at

__all__ = ["along_connection"]


def along_connection(
    manifold: Manifold, path: Float[Tensor, "N nodes d"], v: Float[Tensor, "N d"], size: int
) -> tuple[Float[Tensor, "N nodes d"], Float[Tensor, " N"]]:
    """Vectors carried along the spline c through the nodes, by Magnus's method of order 4.

    G = L L^T,   u = L^T v,   u' = S u,   S = A^T - A,   A the part below the diagonal of L^{-1} B L^{-T}
    u_{i+1} = exp(h (S_1 + S_2) / 2 + sqrt(3) h^2 [S_2, S_1] / 12) u_i,   S_1, S_2 at the two Gauss points

    B is the lowered connection along c'. S is skew, so every step is a rotation and norms are kept to rounding. It is
    Phi(M + M^T)^T - M with M = L^{-1} B L^{-T}, Phi the lower triangle with half its diagonal, which is how a factor
    of Cholesky changes with its matrix; all but the entries of M below the diagonal cancel.

    Args:
        manifold: Gives the metric and the connection.
        path: Nodes.
        v: Vectors at the first of them.
        size: For how many points to take derivatives at once.

    Returns:
        The vectors at all nodes, NaN from where the metric is singular on; and an estimate of their relative error.
        Rotations keep norms even along a wrong connection, so these say nothing: the change of the metric from node
        to node must be the integral of B + B^T, and what it differs by, added up in the frames that are carried along,
        is what lengths of vectors would have changed by. It lies above the error where there are too few nodes, and
        does not vanish where kinks hide a part of the connection (ReLU).
    """
    N, T, d = path.shape[0], path.shape[1] - 1, path.shape[2]
    h = 1 / T
    c, velocity = (
        (torch.as_tensor(matrix, dtype=path.dtype, device=path.device) @ path).flatten(0, 1) for matrix in _gauss(T)
    )
    parts = [_generator(manifold, *rows) for rows in zip(c.split(size), velocity.split(size), strict=True)]
    B, S = (torch.cat(x).reshape(N, T, 2, d, d) for x in zip(*parts, strict=True))
    S1, S2 = S.unbind(2)
    Omega = h / 2 * (S1 + S2) + 3**0.5 / 12 * h**2 * (S2 @ S1 - S1 @ S2)
    lost = ~Omega.isfinite().flatten(2).all(-1)
    rotation = torch.matrix_exp(Omega.masked_fill(lost[..., None, None], 0))
    rotation = rotation.masked_fill(lost[..., None, None], torch.nan)

    G = torch.cat([manifold.metric_tensor(points) for points in path.flatten(0, 1).split(size)]).reshape(N, T + 1, d, d)
    L = MetricInverse(G).factor
    turned = [torch.eye(d, dtype=path.dtype, device=path.device).expand(N, d, d)]
    for i in range(T):
        turned.append(rotation[:, i] @ turned[-1])
    frames = torch.linalg.solve_triangular(L.mT, torch.stack(turned, dim=1), upper=True)
    vectors = (frames @ (L[:, :1].mT @ v[:, None, :, None]))[..., 0]
    vectors = torch.cat([v[:, None], vectors[:, 1:]], dim=1)  # the first one as it was given, bit for bit

    missed = G.diff(dim=1) - h / 2 * (B + B.mT).sum(2)
    drift = (frames[:, :-1].mT @ missed @ frames[:, :-1]).cumsum(1) / 2
    known = drift.isfinite().flatten(2).all(-1)
    size_of_drift = torch.linalg.matrix_norm(drift.masked_fill(~known[..., None, None], 0), ord=2)
    return vectors, torch.where(known, size_of_drift, torch.inf).amax(-1)


def _generator(manifold: Manifold, z: Float[Tensor, "N d"], v: Float[Tensor, "N d"]) -> tuple[Tensor, Tensor]:
    """B and S at points z of a curve, for its velocity v there."""
    B = manifold.lowered_connection(z, v)
    L = MetricInverse(manifold.metric_tensor(z)).factor
    half = torch.linalg.solve_triangular(L, B, upper=False)
    M = torch.linalg.solve_triangular(L, half.mT, upper=False).mT
    A = M.tril(-1)
    return B, A.mT - A


@lru_cache(maxsize=64)
def _gauss(T: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices (2 T, T + 1) from nodes to the spline and its derivative at two Gauss points of every segment."""
    points = 0.5 + np.array([-1, 1]) * 3**0.5 / 6
    return spline_at(T, ((np.arange(T)[:, None] + points) / T).ravel())
