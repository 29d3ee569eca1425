"""K-medoids under geodesic distances: clusters round points of their own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.distances.record import DistanceMatrix
from geodesic.geometry.checks import guarded
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import deficiency_at
from geodesic.keywords import renamed
from geodesic.riemannian.statistics.between import Between, found_between, known_between
from geodesic.riemannian.statistics.pam import partition
from geodesic.riemannian.statistics.sets import sets_of_points, stacked
from geodesic.solvers.answer import Answer
from geodesic.solvers.search import IN_SEARCH, Search, require_search
from geodesic.solvers.status import Status

__all__ = ["MedoidClustering", "k_medoids"]


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
            distances were given as a tensor, infinite where no geodesics were sought for some of them.
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
    distances: Tensor | DistanceMatrix | None = None,
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
        distances: All distances, (*batch, N, N), symmetric, where they are known already; or a `DistanceMatrix` of one
            set of points, by any method.
        max_iterations: Most exchanges.
        search: How geodesics between all points are looked for, as in `distance_matrix`, where distances are not given.
            No paths of your own.

    Returns:
        The clusters, with the distances. Without history.

    Raises:
        InputError: Shapes or settings cannot be used, `clusters` is below 1 or above N, the distances are none, not
            symmetric or between other points, or the manifold has no lengths.
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
        matrices = [found_between(manifold, some, search) for some in shaped]
    else:
        matrices = known_between(manifold, distances, given, sets)
    rows = [_round_medoids(x, D, clusters, max_iterations) for x, D in zip(sets, matrices, strict=True)]
    found = stacked(rows, given)
    ignored = deficiency_at(manifold, torch.stack([row["centers"] for row in rows]))
    return MedoidClustering(**found, rank_deficiency=ignored.amax(-1).reshape(given.batch[:-1]))


def _round_medoids(
    x: Float[Tensor, "N d"], distances: Between, clusters: int, max_iterations: int
) -> dict[str, Tensor]:
    """Clusters by the distances between all points."""
    D = distances.matrix
    medoids, iterations, best = partition(D, clusters, max_iterations)
    rested = Status.CONVERGED if best else Status.MAX_ITERATIONS
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
