"""K-means under geodesic distances: clusters round Fréchet means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.checks import require_integer, require_same_type
from geodesic.distances.record import DistanceMatrix
from geodesic.errors import InputError
from geodesic.geometry.checks import guarded
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import Rows, deficiency_at, inverse_at, require_limit
from geodesic.keywords import mistaken, renamed
from geodesic.riemannian.maps.follow import Follow
from geodesic.riemannian.maps.followed import Followed
from geodesic.riemannian.records import Record
from geodesic.riemannian.statistics.between import known_between
from geodesic.riemannian.statistics.cloud import Cloud
from geodesic.riemannian.statistics.descent import begun, finished, improved
from geodesic.riemannian.statistics.pairs import RENAMED, Geodesics
from geodesic.riemannian.statistics.pam import partition
from geodesic.riemannian.statistics.sets import sets_of_points, stacked
from geodesic.riemannian.statistics.stop import Stop
from geodesic.solvers.doubts import of_all, warn_of_doubts
from geodesic.solvers.search import Search
from geodesic.solvers.status import Status

__all__ = ["Clustering", "k_means"]

_UNSURE = 1e-3  # of a squared distance that was found roughly, by which it may be too large


@dataclass(frozen=True)
class Clustering(Followed):
    """What `k_means` found. Leading axes are those before the axis of the points.

    Attributes:
        centers: Fréchet means of the clusters, (*batch, K, d).
        labels: The cluster of each point, (*batch, N), from 0 on.
        distances: From each point to the center of its cluster, (*batch, N).
        inertia: The sum of their squares, (*batch,).
        history: What was minimized, the sum of squared distances from discrete energies, after the seeding and
            after each iteration, (*batch, most iterations + 1), NaN after a row's last one. It never rises; it
            differs from `inertia` by order 1/T^2.
        converged: Whether the labels have come to rest with all means and geodesics converged, (*batch,), boolean.
        status: Why the row ended, a `Status` as integer, (*batch,): where a mean has not converged, that of the mean.
        iterations: How often centers and labels changed in turn, (*batch,).
        error: The largest of the means, (*batch,), as in `FrechetMean`: norm of the gradient over the root of the
            variance.
        rank_deficiency: Latent directions that the decoder ignores at a center, (*batch,), integer, the most of all.
            Distances do not count them, and centers keep what they had of them.
    """

    centers: Float[Tensor, "*centers"]
    labels: Int[Tensor, "*batch N"]
    distances: Float[Tensor, "*batch N"]
    inertia: Float[Tensor, "*batch"]
    history: Float[Tensor, "*batch steps"]


# Nine parameters: what is clustered, the starting centers, or the distances or the seed that they come from, and the
# three records.
@guarded
@mistaken(initial_point="it is `initial_points` here, one for each cluster")
@renamed(**(RENAMED | {"init": "initial_points"}))
def k_means(
    manifold: Manifold,
    points: Tensor,
    clusters: int,
    *,
    initial_points: Tensor | None = None,
    distances: Tensor | DistanceMatrix | None = None,
    seed: int = 0,
    stop: Stop = Stop(),
    follow: Follow = Follow(),
    search: Search = Search(),
) -> Clustering:
    """K-means under geodesic distances: clusters round their Fréchet means.

    minimize  sum_i min_k d(m_k, x_i)^2   in m_1, ..., m_K

    Seeded by k-means++ unless `initial_points` are given, then in turn (Lloyd): every center to the mean of its
    points, every point to its nearest center. Means are searched from the last centers along the last paths, all at
    once, and certified when the labels have come to rest. A distance is computed only where `Manifold.lower_bound`
    does not rule a center out. An emptied cluster begins anew at the point that is farthest from its center.

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
        initial_points: Starting centers, (*batch, K, d) or (K, d) for all sets; drawn by k-means++ if None.
        distances: Of all points, where they are known: (*batch, N, N), or a `DistanceMatrix` of one set of points. Then
            centers begin at the medoids of their squares, and no chance is involved.
        seed: Of the random seeding, the same for each set of points.
        stop: When means have converged, as in `frechet_mean`, and how many steps each search for them may take, and how
            many reassignments there may be.
        follow: How geodesics are followed, as in `frechet_mean`.
        search: How geodesics are looked for, as in `frechet_mean`.

    Returns:
        The clusters. Without history.

    Raises:
        InputError: Shapes or settings cannot be used, `clusters` is below 1 or above N, the distances are not symmetric
            or between other points, or the manifold has no lengths.
        SingularMetricError: The metric at a starting center is singular, and its rank not the same all around; or it is
            zero. Where the decoder ignores directions, centers keep what the first ones have of them.
        DecoderError: As from `solve`.

    Example:
        >>> import torch, geodesic
        >>> points = torch.tensor([[1.0, 0.0], [1.2, 0.1], [1.1, -0.1], [6.0, 0.0], [6.1, 0.2]])
        >>> answer = geodesic.k_means(geodesic.surfaces.SwissRoll(), points, 2, search=geodesic.Search(segments=8))
        >>> sorted(answer.labels.bincount().tolist()), bool(answer.converged)
        ([2, 3], True)
    """
    sets, given = sets_of_points(manifold, points, clusters)
    require_limit(manifold, "Fréchet mean")
    require_integer("seed", seed)
    geodesics = Geodesics.from_user(manifold, search, follow, stop, points.dtype)
    with torch.inference_mode(False):
        if distances is not None:
            if initial_points is not None:
                raise InputError("initial_points: got some and distances, which give their own; leave one of them out")
            known = known_between(manifold, distances, given, sets)
            begun = [_from_medoids(geodesics, x, D.matrix, clusters) for x, D in zip(sets, known, strict=True)]
        elif initial_points is None:
            begun = [_seeded(geodesics, x, clusters, seed) for x in sets]
        else:
            starts = _starting_centers(manifold, initial_points, clusters, given)
            begun = [_around(geodesics, x, centers) for x, centers in zip(sets, starts, strict=True)]
        rows = [_lloyd(geodesics, x, start) for x, start in zip(sets, begun, strict=True)]
    doubts = torch.cat([row.pop("doubts") for row in rows])
    warn_of_doubts("k-means", doubts, "answers that build on them are inexact")
    longest = max(len(row["history"]) for row in rows)
    for row in rows:
        padding = (0, longest - len(row["history"]))
        row["history"] = torch.nn.functional.pad(row["history"], padding, value=torch.nan)
    return Clustering(**stacked(rows, given), method=geodesics.method)


@dataclass(frozen=True)
class _Members(Record):
    """For each of N points: its cluster, and the geodesic to it from the center, see `Pairs`."""

    labels: Int[Tensor, " N"]
    squared: Float[Tensor, " N"]
    length: Float[Tensor, " N"]
    path: Float[Tensor, "N nodes d"]
    doubts: Int[Tensor, " N"]


@dataclass(frozen=True)
class _Clusters:
    """K centers with their members, how the search for means ended that put them there, and its error."""

    centers: Float[Tensor, "K d"]
    members: _Members
    status: Int[Tensor, ""]
    error: Float[Tensor, ""]


def _lloyd(geodesics: Geodesics, x: Float[Tensor, "N d"], now: _Clusters) -> dict[str, Tensor]:
    """Means and labels in turn, until the labels stay."""
    history, iterations, rested = [now.members.squared.sum()], 0, False
    while not rested and iterations < geodesics.max_iterations:
        centered = _centered(geodesics, x, _refilled(x, now), exactly=False)
        now = _assigned(geodesics, x, centered)
        rested = torch.equal(now.members.labels, centered.members.labels)
        iterations += 1
        if rested:
            now = _centered(geodesics, x, now, exactly=True)
        elif iterations == geodesics.max_iterations:
            now = _certified(geodesics, x, now)
        history.append(now.members.squared.sum())
    members = now.members
    status = now.status if rested else torch.full_like(now.status, Status.MAX_ITERATIONS)
    status = torch.where(status == Status.CONVERGED, of_all(members.doubts), status)
    return {
        "centers": now.centers,
        "labels": members.labels,
        "distances": members.length,
        "inertia": members.length.square().sum(),
        "history": torch.stack(history),
        "converged": status == Status.CONVERGED,
        "status": status,
        "iterations": torch.full_like(status, iterations),
        "error": now.error,
        "rank_deficiency": deficiency_at(geodesics.manifold, now.centers).amax(),
        "doubts": members.doubts,
    }


def _seeded(geodesics: Geodesics, x: Float[Tensor, "N d"], clusters: int, seed: int) -> _Clusters:
    """k-means++: each center a point drawn with the squared distance from those before as its weight."""
    generator = torch.Generator().manual_seed(seed)
    first = int(torch.randint(len(x), (), generator=generator, device="cpu"))
    now = _around(geodesics, x, x[first : first + 1])
    while len(now.centers) < clusters:
        # Points to which no geodesic was found are not drawn; where all are at centers, any will do.
        share = now.members.squared.cpu().double()
        share = torch.where(share.isfinite(), share, 0)
        share = share if bool((share > 0).any()) else torch.ones_like(share)
        following = int(torch.multinomial(share, 1, generator=generator))
        now = replace(now, centers=torch.cat([now.centers, x[following : following + 1]]))
        now = _offered(geodesics, x, now, len(now.centers) - 1)
    return now


def _from_medoids(geodesics: Geodesics, x: Float[Tensor, "N d"], D: Float[Tensor, "N N"], clusters: int) -> _Clusters:
    """Clusters round the points from which the sum of squared distances that are known is least."""
    medoids, _, _ = partition(D.double().square(), clusters, geodesics.max_iterations)
    return _around(geodesics, x, x[medoids])


def _around(geodesics: Geodesics, x: Float[Tensor, "N d"], centers: Float[Tensor, "K d"]) -> _Clusters:
    """Clusters round centers of which nothing is known."""
    pairs = geodesics.between(centers[0].expand_as(x), x, roughly=True)
    labels = torch.zeros(len(x), dtype=torch.long, device=x.device)
    members = _Members(labels, pairs.squared, pairs.length, pairs.path, pairs.doubts)
    unknown = torch.full_like(pairs.squared[0], torch.nan)
    return _assigned(geodesics, x, _Clusters(centers, members, torch.zeros_like(labels[0]), unknown))


def _starting_centers(manifold: Manifold, points: Any, clusters: int, given: Rows) -> Float[Tensor, "B K d"]:
    """The centers that a user gave, for each set of points."""
    rows = Rows(manifold, initial_points=points)
    batch = given.batch[:-1]
    if rows.batch not in ((clusters,), (*batch, clusters)) or rows.event != given.event:
        one = (clusters, *given.event)
        expected = f"{(*batch, *one)} or {one}" if batch else f"{one}"
        raise InputError(
            f"initial_points: expected one point for each of {clusters} clusters, shape {expected}, got "
            f"{tuple(points.shape)}"
        )
    require_same_type("initial_points", points, "points", given.rows[0])
    (z,) = rows.rows
    require_regular(z, inverse_at(manifold, z, on_range=True), "initial_points")
    return z.reshape(*rows.batch, -1).expand(*batch, clusters, -1).reshape(-1, clusters, z.shape[-1])


def _assigned(geodesics: Geodesics, x: Float[Tensor, "N d"], now: _Clusters) -> _Clusters:
    """Every point to its nearest center."""
    for k in range(len(now.centers)):
        now = _offered(geodesics, x, now, k)
    return now


def _offered(geodesics: Geodesics, x: Float[Tensor, "N d"], now: _Clusters, k: int) -> _Clusters:
    """Points go over to cluster k where its center is nearer than their own."""
    members, center = now.members, now.centers[k].expand_as(x)
    with torch.no_grad():
        bound = geodesics.manifold.lower_bound(center, x)
    (i,) = ((members.labels != k) & (bound**2 < members.squared.nan_to_num(nan=torch.inf))).nonzero(as_tuple=True)
    if not len(i):
        return now
    pairs = geodesics.between(center[i], x[i], roughly=True)
    own = members.squared[i] * (1 - 1e-9)  # or equal distances would change sides for ever
    (close,) = ((pairs.squared >= own) & (pairs.squared * (1 - _UNSURE) < own)).nonzero(as_tuple=True)
    if len(close):
        exactly = geodesics.between(center[i[close]], x[i[close]], pairs.path[close])
        pairs = pairs.replaced(close, exactly)
    nearer = pairs.squared < own
    some = pairs.of(nearer)
    labels = torch.full_like(i[nearer], k)
    newcomers = _Members(labels, some.squared, some.length, some.path, some.doubts)
    return replace(now, members=members.replaced(i[nearer], newcomers))


def _refilled(x: Float[Tensor, "N d"], now: _Clusters) -> _Clusters:
    """Emptied clusters begin anew, each at the point that is then farthest from its center."""
    K = len(now.centers)
    for k in range(K):
        members, counts = now.members, now.members.labels.bincount(minlength=K)
        if counts[k]:
            continue
        # Not the only point of another cluster, which would be emptied in turn.
        far = torch.where(counts[members.labels] > 1, members.squared, -1).argmax()[None]
        nothing, path = torch.zeros_like(members.squared[far]), x[far, None].expand_as(members.path[far])
        alone = _Members(torch.full_like(far, k), nothing, nothing, path, torch.full_like(far, Status.CONVERGED))
        centers = now.centers.index_put((torch.full_like(far, k),), x[far])
        now = replace(now, centers=centers, members=members.replaced(far, alone))
    return now


def _certified(geodesics: Geodesics, x: Float[Tensor, "N d"], now: _Clusters) -> _Clusters:
    """The same clusters, with geodesics as exact as an answer needs them."""
    members = now.members
    pairs = geodesics.between(now.centers[members.labels], x, members.path)
    return replace(now, members=_Members(members.labels, pairs.squared, pairs.length, pairs.path, pairs.doubts))


def _centered(geodesics: Geodesics, x: Float[Tensor, "N d"], now: _Clusters, *, exactly: bool) -> _Clusters:
    """Every center to the mean of its points; with certified geodesics where that is the answer."""
    members = now.members
    belongs = torch.nn.functional.one_hot(members.labels, len(now.centers)).T.to(x)
    # As many columns as the largest cluster has points; the others of a row are of weight zero.
    order = belongs.sort(dim=1, descending=True, stable=True).indices[:, : int(belongs.sum(1).max())]
    weights = belongs.gather(1, order)
    cloud = Cloud(geodesics, x[order], weights / weights.sum(1, keepdim=True), power=2)
    search = begun(cloud, now.centers, members.path[order])
    mean = (finished(cloud, search) if exactly else improved(cloud, search, geodesics.tol)).found
    taken, visit = weights > 0, mean.visit
    rows = order[taken]
    seen = _Members(
        members.labels[rows], visit.squared[taken], visit.length[taken], visit.path[taken], visit.doubts[taken]
    )
    worst = (mean.status != Status.CONVERGED).to(torch.uint8).argmax()
    return _Clusters(mean.point, members.replaced(rows, seen), mean.status[worst], mean.visit.size.amax())
