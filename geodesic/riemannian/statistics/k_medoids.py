"""K-medoids under geodesic distances: clusters round points of their own."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.errors import GeodesicWarning, InputError
from geodesic.geometry.manifold import Manifold
from geodesic.riemannian.answers import Answer
from geodesic.riemannian.statistics.sets import sets_of_points, stacked
from geodesic.solvers.solve import solve

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
        steps: Exchanges made, (*batch,).
    """

    medoids: Int[Tensor, "*batch K"]
    centers: Float[Tensor, "*centers"]
    labels: Int[Tensor, "*batch N"]
    distances: Float[Tensor, "*batch N"]
    cost: Float[Tensor, "*batch"]
    matrix: Float[Tensor, "*batch N N"]
    converged: Bool[Tensor, "*batch"]
    steps: Int[Tensor, "*batch"]


def k_medoids(
    manifold: Manifold,
    points: Tensor,
    clusters: int,
    *,
    distances: Tensor | None = None,
    max_iterations: int = 100,
    **search: Any,
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
        search: Keywords of `solve`, where they are not.

    Returns:
        The clusters, with the distances.

    Raises:
        InputError: Shapes or settings cannot be used, or `clusters` is below 1 or above N.
        DecoderError: As from `solve`.

    Example:
        >>> import torch, geodesic
        >>> points = torch.tensor([[1.0, 0.0], [1.2, 0.1], [1.1, -0.1], [6.0, 0.0], [6.1, 0.2]])
        >>> answer = geodesic.k_medoids(geodesic.SwissRoll(), points, 2, segments=8)
        >>> sorted(answer.medoids.tolist()), bool(answer.converged)
        ([2, 3], True)
    """
    sets, given = sets_of_points(manifold, points, clusters)
    require_integer("max_iterations", max_iterations, least=1)
    known: Any = None
    if distances is not None:
        known = _matrices(distances, given.batch, sets)
        if search:
            raise InputError(f"{next(iter(search))}: expected no keywords of `solve` where distances are given")
    rows, shaped = [], points.detach().reshape(*sets.shape[:2], *given.event)
    for i, x in enumerate(sets):
        if known is None:
            D, found = _distance_matrix(manifold, shaped[i], search)
        else:
            D, found = known[i], torch.ones_like(known[i, 0, 0], dtype=torch.bool)
        rows.append(_round_medoids(x, D, found, clusters, max_iterations))
    return MedoidClustering(**stacked(rows, given))


def _round_medoids(
    x: Float[Tensor, "N d"], D: Float[Tensor, "N N"], found: Bool[Tensor, ""], clusters: int, max_iterations: int
) -> dict[str, Tensor]:
    """Clusters by the distances between all points."""
    medoids = _build(D, clusters)
    steps, rested = 0, False
    while steps <= max_iterations:
        exchanged = _swap(D, medoids)
        rested = exchanged is None
        if exchanged is None or steps == max_iterations:
            break
        medoids, steps = exchanged, steps + 1
    near, labels = D[medoids].min(0)
    # A medoid belongs to itself, also where another one is at the same place.
    labels[medoids] = torch.arange(clusters, device=x.device)
    return {
        "medoids": medoids,
        "centers": x[medoids],
        "labels": labels,
        "distances": near,
        "cost": near.sum(),
        "matrix": D,
        "converged": found & rested,
        "steps": torch.full_like(labels[0], steps),
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


def _distance_matrix(
    manifold: Manifold, points: Tensor, search: dict[str, Any]
) -> tuple[Float[Tensor, "N N"], Bool[Tensor, ""]]:
    """Distances between all points, from one geodesic for each pair; and whether all of these have converged."""
    N = len(points)
    i, j = torch.triu_indices(N, N, offset=1, device=points.device)
    D = points.new_zeros(N, N)
    found = torch.ones_like(i, dtype=torch.bool)
    for some in torch.arange(len(i), device=points.device).split(_PAIRS) if N > 1 else ():
        a, b = i[some], j[some]
        solution = solve(manifold, points[a], points[b], **search)
        # A pair without a path is farther apart than all others, and still has a sum.
        D[a, b] = D[b, a] = solution.length.nan_to_num(nan=torch.finfo(D.dtype).max ** 0.5)
        found[some] = solution.converged
    lost = int((~found).sum())
    if lost:
        warnings.warn(
            GeodesicWarning(
                f"k-medoids: {lost} of {len(i)} geodesics have not converged, and their lengths are too large; raise "
                'max_steps of `solve`, or take init="best", and give the lengths as distances'
            ),
            stacklevel=3,
        )
    return D, found.all()


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
