"""K-medoids under geodesic distances: clusters round points of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.errors import InputError
from geodesic.geometry.checks import guarded
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import deficiency_at
from geodesic.keywords import renamed
from geodesic.riemannian.statistics.sets import sets_of_points, stacked
from geodesic.solvers.answer import Answer
from geodesic.solvers.doubts import doubts_of, of_all, warn_of_doubts
from geodesic.solvers.search import IN_SEARCH, Search, require_search
from geodesic.solvers.solve import find
from geodesic.solvers.status import Status

__all__ = ["MedoidClustering", "k_medoids"]

_PAIRS = 4096  # solved at once for a matrix of distances: bounds what their paths take


@dataclass(frozen=True)
class MedoidClustering(Answer):
    """What `k_medoids` found. Leading axes are those before the axis of the points.

    Attributes:
        medoids: Which points the clusters are round, (*batch, K).
        centers: These points, (*batch, K, d).
        labels: The cluster of each point, (*batch, N), from 0 on.
        distances: From each point to the medoid of its cluster, (*batch, N).
        cost: Their sum, (*batch,).
        matrix: All distances, (*batch, N, N).
        converged: Whether no exchange of a medoid for another point lowers the cost, and all geodesics have converged,
            (*batch,), boolean.
        status: Why the row ended, a `Status` as integer, (*batch,).
        iterations: Exchanges made, (*batch,).
        error: Largest estimated relative error of a distance, (*batch,), as in `GeodesicSolution`; 0 where the
            distances were given.
        rank_deficiency: Latent directions that the decoder ignores at a medoid, (*batch,), integer, the most of them;
            distances do not count these.
    """

    medoids: Int[Tensor, "*batch K"]
    centers: Float[Tensor, "*centers"]
    labels: Int[Tensor, "*batch N"]
    distances: Float[Tensor, "*batch N"]
    cost: Float[Tensor, "*batch"]
    matrix: Float[Tensor, "*batch N N"]


@guarded
@renamed(**IN_SEARCH)
def k_medoids(
    manifold: Manifold,
    points: Tensor,
    clusters: int,
    *,
    distances: Tensor | None = None,
    max_iterations: int = 100,
    search: Search = Search(),
) -> MedoidClustering:
    """K-medoids under geodesic distances: clusters round points of their own. No mean is needed.

    minimize  sum_i min_k d(x_{m_k}, x_i)   in the points m_1, ..., m_K

    PAM: medoids are added one by one, each where it lowers the cost most (build), then the exchange of a medoid and
    another point that lowers the cost most is made until there is none (swap). No chance is involved.

    Warning:
        N (N - 1) / 2 geodesics, unless distances are given. The answer is a local minimum: no single exchange
        is better.

    Reference:
        L. Kaufman, P. J. Rousseeuw, Partitioning around medoids (program PAM), 1990.

    Args:
        manifold: Where to measure.
        points: x, (*batch, N, d), floating point; (*batch, N, *latent_shape) for a manifold with a `latent_shape`. Sets
            of points are clustered one after the other.
        clusters: K, from 1 to N.
        distances: All distances, (*batch, N, N), symmetric, where they are known already.
        max_iterations: Most exchanges.
        search: How geodesics between all points are looked for, where distances are not given. No paths of your own.

    Returns:
        The clusters, with the distances. Without history.

    Raises:
        InputError: Shapes or settings cannot be used, or `clusters` is below 1 or above N.
        DecoderError: As from `solve`.

    Example:
        >>> import torch, geodesic
        >>> points = torch.tensor([[1.0, 0.0], [1.2, 0.1], [1.1, -0.1], [6.0, 0.0], [6.1, 0.2]])
        >>> answer = geodesic.k_medoids(geodesic.surfaces.SwissRoll(), points, 2)
        >>> sorted(answer.medoids.tolist()), bool(answer.converged)
        ([2, 3], True)
    """
    sets, given = sets_of_points(manifold, points, clusters)
    require_integer("max_iterations", max_iterations, least=1)
    require_search(search)
    if distances is None:
        shaped = points.detach().reshape(*sets.shape[:2], *given.event)
        matrices = [_distance_matrix(manifold, some, search) for some in shaped]
    else:
        known = _matrices(distances, given.batch, sets)
        matrices = [
            _Distances(D, torch.full_like(D[0, 0], Status.CONVERGED, dtype=torch.long), torch.zeros_like(D[0, 0]))
            for D in known
        ]
    rows = [_round_medoids(x, D, clusters, max_iterations) for x, D in zip(sets, matrices, strict=True)]
    found = stacked(rows, given)
    ignored = deficiency_at(manifold, torch.stack([row["centers"] for row in rows]))
    return MedoidClustering(**found, rank_deficiency=ignored.amax(-1).reshape(given.batch[:-1]))


@dataclass(frozen=True)
class _Distances:
    """Distances between all points, how the geodesics behind them ended, and their largest error."""

    matrix: Float[Tensor, "N N"]
    status: Int[Tensor, ""]
    error: Float[Tensor, ""]


def _round_medoids(
    x: Float[Tensor, "N d"], distances: _Distances, clusters: int, max_iterations: int
) -> dict[str, Tensor]:
    """Clusters by the distances between all points."""
    D = distances.matrix
    medoids = _build(D, clusters)
    iterations, better = 0, _swap(D, medoids)
    while better is not None and iterations < max_iterations:
        medoids, iterations = better, iterations + 1
        better = _swap(D, medoids)
    rested = Status.CONVERGED if better is None else Status.MAX_ITERATIONS
    near, labels = D[medoids].min(0)
    # A medoid belongs to itself, also where another one is at the same place.
    labels[medoids] = torch.arange(clusters, device=x.device)
    status = torch.full_like(labels[0], rested)
    status = torch.where(distances.status == Status.CONVERGED, status, distances.status)
    return {
        "medoids": medoids,
        "centers": x[medoids],
        "labels": labels,
        "distances": near,
        "cost": near.sum(),
        "matrix": D,
        "converged": status == Status.CONVERGED,
        "status": status,
        "iterations": torch.full_like(status, iterations),
        "error": distances.error,
    }


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


def _distance_matrix(manifold: Manifold, points: Tensor, search: Search) -> _Distances:
    """Distances between all points, from one geodesic for each pair."""
    N = len(points)
    i, j = torch.triu_indices(N, N, offset=1, device=points.device)
    D = points.new_zeros(N, N)
    doubts, error = torch.full_like(i, Status.CONVERGED), points.new_zeros(len(i))
    for some in torch.arange(len(i), device=points.device).split(_PAIRS) if N > 1 else ():
        a, b = i[some], j[some]
        solution = find(manifold, points[a], points[b], search)
        # A pair without a path is farther apart than all others, and still has a sum.
        D[a, b] = D[b, a] = solution.length.nan_to_num(nan=torch.finfo(D.dtype).max ** 0.5)
        doubts[some], error[some] = doubts_of(solution), solution.error
    warn_of_doubts("k-medoids", doubts, "their lengths are too large, or inexact", refined=search.refines)
    return _Distances(D, of_all(doubts), error.amax() if N > 1 else points.new_zeros(()))


def _matrices(distances: Any, batch: torch.Size, sets: Float[Tensor, "B N d"]) -> Float[Tensor, "B N N"]:
    N = batch[-1]
    if not isinstance(distances, Tensor) or distances.shape != (*batch, N):
        got = tuple(distances.shape) if isinstance(distances, Tensor) else type(distances).__name__
        raise InputError(f"distances: expected a tensor of shape {(*batch, N)}, one row for each point, got {got}")
    D = distances.detach().to(sets).reshape(-1, N, N).clone()
    if not bool((D.isfinite() & (D >= 0)).all()):
        where = (~(D.isfinite() & (D >= 0))).nonzero()[0].tolist()
        raise InputError(
            f"distances: expected finite numbers, none below zero, got {D[tuple(where)].item()} at {where}"
        )
    if not torch.allclose(D, D.mT, rtol=1e-3, atol=1e-3 * float(D.max())):
        raise InputError("distances: expected a symmetric matrix; give (D + D.T) / 2, if that is what is meant")
    return D
