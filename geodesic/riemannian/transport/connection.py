"""Parallel transport by the connection: rotations of orthonormal frames."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.geometry.inverse import MetricInverse
from geodesic.geometry.manifold import Manifold
from geodesic.numerics.kernel import independent
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

    Where the decoder ignores directions, vectors that differ along these count as the same, and are carried along each
    segment in as many coordinates as it sees at its beginning: G and B have the rows and columns of these alone.

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
    G = torch.cat([manifold.metric_tensor(points) for points in path.flatten(0, 1).split(size)]).reshape(N, T + 1, d, d)
    seen = _coordinates(G)
    at_gauss = seen[:, :-1].repeat_interleave(2, 1).flatten(0, 1)
    groups = zip(c.split(size), velocity.split(size), at_gauss.split(size), strict=True)
    parts = [_generator(manifold, *rows) for rows in groups]
    B, S = (torch.cat(x).reshape(N, T, 2, d, d) for x in zip(*parts, strict=True))
    S1, S2 = S.unbind(2)
    Omega = h / 2 * (S1 + S2) + 3**0.5 / 12 * h**2 * (S2 @ S1 - S1 @ S2)
    lost = ~Omega.isfinite().flatten(2).all(-1)
    rotation = torch.matrix_exp(Omega.masked_fill(lost[..., None, None], 0))
    rotation = rotation.masked_fill(lost[..., None, None], torch.nan)

    begins, ends = _restricted(G, seen, 1), _restricted(G[:, 1:], seen[:, :-1], 1)
    L = MetricInverse(begins).factor
    if not bool(seen.all()):
        rotation = _changed(G[:, 1:], L[:, 1:], MetricInverse(ends).factor, seen) @ rotation
        v = torch.where(seen[:, 0].all(-1, keepdim=True), v, _in_coordinates(G[:, 0], L[:, 0], seen[:, 0], v))
    turned = [torch.eye(d, dtype=path.dtype, device=path.device).expand(N, d, d)]
    for i in range(T):
        turned.append(rotation[:, i] @ turned[-1])
    frames = torch.linalg.solve_triangular(L.mT, torch.stack(turned, dim=1), upper=True)
    vectors = (frames @ (L[:, :1].mT @ v[:, None, :, None]))[..., 0]
    vectors = torch.cat([v[:, None], vectors[:, 1:]], dim=1)  # the first one as it was given, bit for bit

    missed = ends - begins[:, :-1] - h / 2 * (B + B.mT).sum(2)
    drift = (frames[:, :-1].mT @ missed @ frames[:, :-1]).cumsum(1) / 2
    known = drift.isfinite().flatten(2).all(-1)
    size_of_drift = torch.linalg.matrix_norm(drift.masked_fill(~known[..., None, None], 0), ord=2)
    return vectors, torch.where(known, size_of_drift, torch.inf).amax(-1)


def _coordinates(G: Float[Tensor, "N nodes d d"]) -> Bool[Tensor, "N nodes d"]:
    """All of them, or where the metric is singular as many as it has rank, on which it is regular."""
    regular = MetricInverse(G).regular[..., None]
    finite = G.isfinite().flatten(2).all(-1)[..., None, None]
    if bool((regular | ~finite[..., 0]).all()):
        return torch.ones_like(regular).expand(G.shape[:-1])
    return regular | ~finite[..., 0] | independent(torch.where(finite, G, 0))


def _restricted(M: Float[Tensor, "*n d d"], seen: Bool[Tensor, "*#n d"], fill: float) -> Float[Tensor, "*n d d"]:
    """Rows and columns of some coordinates; those of the others are of the diagonal matrix with this number."""
    eye = torch.eye(M.shape[-1], dtype=M.dtype, device=M.device)
    return torch.where(seen[..., :, None] & seen[..., None, :], M, fill * eye)


def _in_coordinates(G: Tensor, L: Tensor, seen: Bool[Tensor, "N d"], v: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
    """The vectors of some coordinates alone, on which G is L L^T, that G takes to the same as v."""
    lowered = torch.where(seen, (G @ v[..., None])[..., 0], 0)
    return torch.cholesky_solve(lowered[..., None], L)[..., 0]


def _changed(G: Tensor, L: Tensor, L_before: Tensor, seen: Bool[Tensor, "N nodes d"]) -> Float[Tensor, "N T d d"]:
    """What a vector becomes at the end of each segment: from the frame of its coordinates to that of the next."""
    across = torch.where(seen[:, 1:, :, None] & seen[:, :-1, None, :], G, 0)
    half = torch.linalg.solve_triangular(L, across, upper=False)
    return torch.linalg.solve_triangular(L_before, half.mT, upper=False).mT


def _generator(
    manifold: Manifold, z: Float[Tensor, "N d"], v: Float[Tensor, "N d"], seen: Bool[Tensor, "N d"]
) -> tuple[Tensor, Tensor]:
    """B and S at points z of a curve, for its velocity v there."""
    B = _restricted(manifold.lowered_connection(z, v), seen, 0)
    L = MetricInverse(_restricted(manifold.metric_tensor(z), seen, 1)).factor
    half = torch.linalg.solve_triangular(L, B, upper=False)
    M = torch.linalg.solve_triangular(L, half.mT, upper=False).mT
    A = M.tril(-1)
    return B, A.mT - A


@lru_cache(maxsize=64)
def _gauss(T: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices (2 T, T + 1) from nodes to the spline and its derivative at two Gauss points of every segment."""
    points = 0.5 + np.array([-1, 1]) * 3**0.5 / 6
    return spline_at(T, ((np.arange(T)[:, None] + points) / T).ravel())
