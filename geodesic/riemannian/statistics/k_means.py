"""Clusters of points under geodesic distances: round Fréchet means, or round points of their own."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.errors import GeodesicWarning, InputError
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import Rows, require_limit
from geodesic.riemannian.maps.exp_map import checked
from geodesic.riemannian.outcome import Outcome
from geodesic.riemannian.statistics.centers import Cloud, Pairs, check_search, find_center, geodesics
from geodesic.riemannian.statistics.mean import path_tolerance, tolerance
from geodesic.solvers.solve import solve

__all__ = ["Clustering", "MedoidClustering", "k_means", "k_medoids"]

_PAIRS = 4096  # solved at once for a matrix of distances: bounds what their paths take


@dataclass(frozen=True)
class Clustering:
    """What `k_means` found. Leading axes are those before the axis of the points.

    Attributes:
        centers: Fréchet means of the clusters, (*batch, K, d).
        labels: The cluster of each point, (*batch, N), from 0 on.
        distances: From each point to the center of its cluster, (*batch, N).
        inertia: The sum of their squares, (*batch,).
        history: What was minimised, the sum of squared distances from discrete energies, after the seeding and
            after each step, (*batch, most steps + 1), NaN after a row's last step. It never rises; it differs
            from `inertia` by order 1/T^2.
        converged: Whether the labels have come to rest with all means and geodesics converged, (*batch,), boolean.
        steps: Steps taken, (*batch,).
    """

    centers: Float[Tensor, "*centers"]
    labels: Int[Tensor, "*batch N"]
    distances: Float[Tensor, "*batch N"]
    inertia: Float[Tensor, "*batch"]
    history: Float[Tensor, "*batch steps"]
    converged: Bool[Tensor, "*batch"]
    steps: Int[Tensor, "*batch"]


@dataclass(frozen=True)
class MedoidClustering:
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


def k_means(
    manifold: Manifold,
    points: Tensor,
    clusters: int,
    *,
    seed: int = 0,
    max_steps: int = 100,
    method: str = "discrete",
    tol: float | None = None,
    rtol: float | None = None,
    **search: Any,
) -> Clustering:
    """K-means under geodesic distances: clusters round their Fréchet means.

    minimise  sum_i min_k d(m_k, x_i)^2   in m_1, ..., m_K

    Seeded by k-means++, then in turn (Lloyd): every center to the mean of its points, every point to its nearest
    center. Means are searched from the last centers along the last paths, all in one call of `solve` for each step. A
    distance is computed only where `Manifold.lower_bound` does not rule a center out. An emptied cluster begins anew
    at the point that is farthest from its center.

    Warning:
        A local minimum, as everywhere: other seeds may end lower, compare `inertia`. Means need not be unique on
        manifolds of positive curvature, see `frechet_mean`; here no warning is issued.

    Reference:
        D. Arthur, S. Vassilvitskii, k-means++: the advantages of careful seeding, 2007. S. P. Lloyd, Least squares
        quantization in PCM, 1982.

    Args:
        manifold: Where to measure.
        points: x, (*batch, N, d), floating point; (*batch, N, *latent_shape) for a manifold with a `latent_shape`. Sets
            of points are clustered one after the other.
        clusters: K, from 1 to N.
        seed: Of the random seeding, the same for each set of points.
        max_steps: Most steps of reassignment, and of each search for means.
        method: "discrete" or "ode", as for `frechet_mean`.
        tol: Of the means, as for `frechet_mean`.
        rtol: Of the integration, as in `exp_map`; for "ode" alone.
        search: `solver`, `segments` and `memory` of `solve`.

    Returns:
        The clusters.

    Raises:
        InputError: Shapes or settings cannot be used, `clusters` is below 1 or above N, or the manifold has no lengths.
        DecoderError: As from `solve`.

    Example:
        >>> import torch, geodesic
        >>> points = torch.tensor([[1.0, 0.0], [1.2, 0.1], [1.1, -0.1], [6.0, 0.0], [6.1, 0.2]])
        >>> answer = geodesic.k_means(geodesic.SwissRoll(), points, 2, segments=8)
        >>> sorted(answer.labels.bincount().tolist()), bool(answer.converged)
        ([2, 3], True)
    """
    sets, given = _points(manifold, points, clusters)
    require_limit(manifold, "Fréchet mean")
    check_search(search, method)
    tol = tolerance(tol, sets.dtype)
    rtol = checked(rtol, sets.dtype, 1, max_steps)
    settings = {"method": method, "tol": path_tolerance(tol, sets.dtype), "rtol": rtol, "search": search}
    with torch.inference_mode(False):
        rows = [_clustered(_Lloyd(manifold, x, clusters, seed, settings), tol, max_steps) for x in sets]
    longest = max(len(row["history"]) for row in rows)
    for row in rows:
        padding = (0, longest - len(row["history"]))
        row["history"] = torch.nn.functional.pad(row["history"], padding, value=torch.nan)
    return Clustering(**_stacked(rows, given))


def _clustered(run: _Lloyd, tol: float, max_steps: int) -> dict[str, Tensor]:
    """Means and labels in turn, until the labels stay."""
    history, steps, rested = [run.squared.sum()], 0, False
    while not rested and steps < max_steps:
        run.move_centers(tol, max_steps)
        rested = not run.assign()
        history.append(run.squared.sum())
        steps += 1
    return {
        "centers": run.centers,
        "labels": run.labels,
        "distances": run.length,
        "inertia": run.length.square().sum(),
        "history": torch.stack(history),
        "converged": run.found.all() & run.centered & rested,
        "steps": torch.full_like(run.labels[0], steps),
    }


class _Lloyd:
    """The state of k-means: centers, and for each point its label, and the geodesic from its center.

    Attributes:
        centers: (K, d).
        labels: (N,).
        squared: What is minimised, (N,): see `Pairs`.
        length: (N,).
        path: (N, T + 1, d).
        found: Whether the geodesics have converged, (N,).
        centered: Whether the means have.
    """

    def __init__(
        self, manifold: Manifold, x: Float[Tensor, "N d"], clusters: int, seed: int, settings: dict[str, Any]
    ) -> None:
        self.manifold, self.x, self.settings = manifold, x, settings
        generator = torch.Generator().manual_seed(seed)
        first = int(torch.randint(len(x), (), generator=generator, device="cpu"))
        self.centers = x[first : first + 1]
        self.labels = torch.zeros(len(x), dtype=torch.long, device=x.device)
        pairs = self._geodesics(x[first].expand_as(x), x)
        self.squared, self.length, _, self.path, self.found = pairs
        self.centered = torch.ones_like(self.found).all()
        while len(self.centers) < clusters:
            # Points to which no geodesic was found are not drawn; where all are at centers, any will do.
            share = self.squared.cpu().double()
            share = torch.where(share.isfinite(), share, 0)
            share = share if bool((share > 0).any()) else torch.ones_like(share)
            following = int(torch.multinomial(share, 1, generator=generator))
            self.centers = torch.cat([self.centers, x[following : following + 1]])
            self._offer(len(self.centers) - 1)

    def move_centers(self, tol: float, max_steps: int) -> None:
        """Every center to the mean of its points."""
        K = len(self.centers)
        self._refill()
        members = torch.nn.functional.one_hot(self.labels, K).T.to(self.x)
        # As many columns as the largest cluster has points; the others of a row are of weight zero.
        order = members.sort(dim=1, descending=True, stable=True).indices[:, : int(members.sum(1).max())]
        weights = members.gather(1, order)
        cloud = Cloud(
            self.manifold,
            self.x[order],
            weights / weights.sum(1, keepdim=True),
            power=2,
            first="straight",
            graph_points=None,
            **self.settings,
        )
        found = find_center(cloud, self.centers, tol, max_steps, self.path[order])
        self.centered = (found.status == Outcome.CONVERGED).all()
        self.centers = found.point
        taken = weights > 0
        rows = order[taken]
        self.squared, self.length = self.squared.clone(), self.length.clone()
        self.path, self.found = self.path.clone(), self.found.clone()
        visit = found.visit
        self.squared[rows], self.length[rows] = visit.squared[taken], visit.length[taken]
        self.path[rows] = visit.path[taken]
        self.found[rows] = visit.found[:, None].expand_as(taken)[taken]

    def assign(self) -> bool:
        """Every point to its nearest center; whether any point has changed its cluster."""
        before = self.labels.clone()
        for k in range(len(self.centers)):
            self._offer(k)
        return not torch.equal(before, self.labels)

    def _offer(self, k: int) -> None:
        """Points go over to cluster k where its center is nearer than their own."""
        center = self.centers[k].expand_as(self.x)
        with torch.no_grad():
            bound = self.manifold.lower_bound(center, self.x)
        (i,) = ((self.labels != k) & (bound**2 < self.squared.nan_to_num(nan=torch.inf))).nonzero(as_tuple=True)
        if not len(i):
            return
        pairs = self._geodesics(center[i], self.x[i])
        nearer = pairs.squared < self.squared[i] * (1 - 1e-9)  # or equal distances would change sides for ever
        i = i[nearer]
        self.labels[i] = k
        self.squared[i], self.length[i] = pairs.squared[nearer], pairs.length[nearer]
        self.path[i], self.found[i] = pairs.path[nearer], pairs.found[nearer]

    def _refill(self) -> None:
        """Emptied clusters begin anew, each at the point that is then farthest from its center."""
        for k in range(len(self.centers)):
            counts = self.labels.bincount(minlength=len(self.centers))
            if counts[k]:
                continue
            # Not the only point of another cluster, which would be emptied in turn.
            far = torch.where(counts[self.labels] > 1, self.squared, -1).argmax()
            self.centers = self.centers.clone()
            self.centers[k], self.labels[far] = self.x[far], k
            self.squared[far] = self.length[far] = 0
            self.path[far], self.found[far] = self.x[far], True

    def _geodesics(self, start: Tensor, end: Tensor) -> Pairs:
        return geodesics(self.manifold, start, end, init="straight", **self.settings)


def k_medoids(
    manifold: Manifold,
    points: Tensor,
    clusters: int,
    *,
    distances: Tensor | None = None,
    max_steps: int = 100,
    **search: Any,
) -> MedoidClustering:
    """K-medoids under geodesic distances: clusters round points of their own. No mean is needed.

    minimise  sum_i min_k d(x_{m_k}, x_i)   in the points m_1, ..., m_K

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
        max_steps: Most exchanges.
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
    sets, given = _points(manifold, points, clusters)
    checked(None, sets.dtype, 1, max_steps)
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
        rows.append(_round_medoids(x, D, found, clusters, max_steps))
    return MedoidClustering(**_stacked(rows, given))


def _round_medoids(
    x: Float[Tensor, "N d"], D: Float[Tensor, "N N"], found: Bool[Tensor, ""], clusters: int, max_steps: int
) -> dict[str, Tensor]:
    """Clusters by the distances between all points."""
    medoids = _build(D, clusters)
    steps, rested = 0, False
    while steps <= max_steps:
        exchanged = _swap(D, medoids)
        rested = exchanged is None
        if exchanged is None or steps == max_steps:
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


def _points(manifold: Any, points: Any, clusters: Any) -> tuple[Float[Tensor, "B N d"], Rows]:
    """The sets of points, and the points as given."""
    given = Rows(manifold, points=points)
    if not given.batch:
        raise InputError(f"points: expected (*batch, N, d), got {tuple(points.shape)}")
    N = given.batch[-1]
    if isinstance(clusters, bool) or not isinstance(clusters, int) or not 1 <= clusters <= N:
        raise InputError(f"clusters: expected an integer from 1 to the number of points, {N}, got {clusters!r}")
    (x,) = given.rows
    return x.reshape(-1, N, x.shape[-1]), given


def _stacked(rows: list[dict[str, Tensor]], given: Rows) -> dict[str, Tensor]:
    """The answers for all sets of points, with their leading axes and those of a point."""
    batch = given.batch[:-1]
    found = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    found = {name: x.reshape(batch + x.shape[1:]) for name, x in found.items()}
    centers = found["centers"]
    return found | {"centers": centers.reshape(*centers.shape[:-1], *given.event)}
