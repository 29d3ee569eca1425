"""What means and medians share: two starts, one search from each, one answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.checks import require_same_type
from geodesic.errors import InputError
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.period import gathered
from geodesic.geometry.points import Rows, deficiency_at, inverse_at, require_limit
from geodesic.riemannian.maps.follow import Follow
from geodesic.riemannian.maps.followed import Followed
from geodesic.riemannian.statistics.between import known_between, medoid
from geodesic.riemannian.statistics.cloud import Cloud
from geodesic.riemannian.statistics.descent import Descent, begun, finished, improved
from geodesic.riemannian.statistics.pairs import Geodesics
from geodesic.riemannian.statistics.starts import agreement, best_of, clear_of_seams, two_starts
from geodesic.riemannian.statistics.weights import normalized
from geodesic.solvers.doubts import warn_of_doubts
from geodesic.solvers.status import Status

__all__ = ["CenterKeywords", "FrechetMean", "center"]

_COMPARED = 1e-5  # size of the gradient at which two searches are compared, and one of them goes on


@dataclass(frozen=True)
class FrechetMean(Followed):
    """Means or medians of points. Leading axes are those of the points, without that of their number N.

    Attributes:
        point: m, (*batch, d).
        variance: sum w_i d(m, x_i)^2, (*batch,), with weights of sum 1.
        distances: d(m, x_i), (*batch, N).
        paths: The geodesics from m to the points, (*batch, N, T + 1, d).
        converged: Whether `error` is at most `tol` and all geodesics have converged, (*batch,), boolean.
        status: Why the row ended, a `Status` as integer, (*batch,).
        iterations: Steps of the point attempted, (*batch,).
        error: Riemannian norm of the gradient, sum w_i log_m(x_i), over the root of the variance, (*batch,); for a
            median of the least subgradient, sum w_i log_m(x_i) / d_i. Zero at an exact answer, and without unit.
        start: From where the answer was found, (*batch,): 0, the latent mean of the points, or `initial_point` where
            it is given; 1, the most central of the points.
        unique: False where two starts converged to different points, or where a point is a quarter of a period or more
            away from m in a periodic coordinate, (*batch,), boolean. True proves nothing.
        rank_deficiency: Latent directions that the decoder ignores at m, (*batch,), integer; along these m stays where
            the search began.
    """

    point: Float[Tensor, "*point"]
    variance: Float[Tensor, "*batch"]
    distances: Float[Tensor, "*batch N"]
    paths: Float[Tensor, "*path"]
    start: Int[Tensor, "*batch"]
    unique: Bool[Tensor, "*batch"]


@dataclass(frozen=True)
class CenterKeywords:
    """The keywords that `frechet_mean` and `frechet_median` share, as the user gave them."""

    initial_point: Any
    stop: Any
    follow: Any
    search: Any
    distances: Any = None


def center(manifold: Any, points: Any, weights: Any, keywords: CenterKeywords, *, power: int, what: str) -> FrechetMean:
    """The mean, for power 2, or the median, for power 1; `what` it is, for messages."""
    given = Rows(manifold, points=points)
    require_limit(manifold, what)
    if not given.batch:
        raise InputError(
            f"points: expected (*batch, N, d), got {tuple(points.shape)}; use points[None] for a single one"
        )
    geodesics = Geodesics.from_user(manifold, keywords.search, keywords.follow, keywords.stop, points.dtype)
    batch, N = given.batch[:-1], given.batch[-1]
    (flat,) = given.rows
    x = flat.reshape(-1, N, flat.shape[-1])
    w = normalized(weights, batch, x)
    x = gathered(manifold.period, x, w)
    with torch.inference_mode(False):
        starts = _starts(manifold, keywords, given, x, w, power)
        S, R = starts.shape[:2]
        every = torch.arange(R, device=x.device)
        cloud = Cloud(geodesics, x, w, power)
        discrete = replace(cloud, geodesics=replace(geodesics, follow=Follow(method="discrete")))
        tried = begun(discrete.of(every.repeat(S)), starts.flatten(0, 1))
        tried = improved(discrete.of(every.repeat(S)), tried, max(geodesics.tol, _COMPARED))
        best = best_of(tried.found, S)
        unique = agreement(manifold, tried.found, best, S, what, geodesics.tol)
        now, best = _best(discrete, tried, best, S)
        unique = unique & clear_of_seams(manifold.period, now.found.point, x, w)
        if geodesics.method == "ode":
            now = _by_exact_geodesics(cloud, now)
        found = now.found
        visit = cloud.completed(found.point, found.visit)
    warn_of_doubts(what, visit.doubts, "answers that build on them are inexact")

    def back(values: Tensor) -> Tensor:
        return values.reshape(*batch, *values.shape[1:-1], *given.event)

    return FrechetMean(
        point=back(found.point),
        variance=(w * visit.length**2).sum(-1).reshape(batch),
        distances=visit.length.reshape(*batch, N),
        paths=back(visit.path),
        converged=(found.status == Status.CONVERGED).reshape(batch),
        status=found.status.reshape(batch),
        iterations=found.iterations.reshape(batch),
        error=visit.size.reshape(batch),
        rank_deficiency=deficiency_at(manifold, found.point).reshape(batch),
        start=best.reshape(batch),
        unique=unique.reshape(batch),
        method=geodesics.method,
    )


def _best(cloud: Cloud, tried: Descent, best: Int[Tensor, " R"], S: int) -> tuple[Descent, Int[Tensor, " R"]]:
    """The search from the best start to its end, or from the other one where it did not converge; and which it was."""
    every = torch.arange(len(best), device=best.device)
    now = replace(finished(cloud, tried.of(best * len(best) + every).resumed()), quadratic=None)
    (rows,) = ((now.found.status != Status.CONVERGED) & (S > 1)).nonzero(as_tuple=True)
    if len(rows):
        begin = tried.of((1 - best[rows]) * len(best) + rows).resumed()
        other = replace(finished(cloud.of(rows), begin), quadratic=None)
        (good,) = (other.found.status == Status.CONVERGED).nonzero(as_tuple=True)
        now, best = now.replaced(rows[good], other.of(good)), best.index_put((rows[good],), 1 - best[rows[good]])
    return now, best


def _by_exact_geodesics(cloud: Cloud, now: Descent) -> Descent:
    """The search goes on from the rows that came anywhere."""
    (rows,) = now.found.visit.value.isfinite().nonzero(as_tuple=True)
    if not len(rows):
        return now
    part, before = cloud.of(rows), now.found.of(rows)
    again = begun(part, before.point, before.visit.path)
    again = replace(
        again,
        found=replace(again.found, iterations=before.iterations),
        limit=before.iterations + cloud.geodesics.max_iterations,
    )
    return replace(now, found=now.found.replaced(rows, finished(part, again).found))


def _starts(
    manifold: Manifold,
    keywords: CenterKeywords,
    given: Rows,
    x: Float[Tensor, "R N d"],
    w: Float[Tensor, "R N"],
    power: int,
) -> Float[Tensor, "S R d"]:
    """From where it is searched: the point that a user gave, the medoid of distances that are known, or two starts."""
    if keywords.distances is None and keywords.initial_point is None:
        return two_starts(manifold, x, w)
    if keywords.distances is None:
        return _given(manifold, keywords.initial_point, given, x)[None]
    if keywords.initial_point is not None:
        raise InputError("initial_point: got one and distances, which give one of their own; leave one of them out")
    known = known_between(manifold, keywords.distances, given, x)
    start = torch.stack(
        [points[medoid(D.matrix, weights, power)] for points, D, weights in zip(x, known, w, strict=True)]
    )
    require_regular(start, inverse_at(manifold, start, on_range=True), "points")
    return start[None]


def _given(manifold: Manifold, point: Any, given: Rows, x: Float[Tensor, "R N d"]) -> Float[Tensor, "R d"]:
    start = Rows(manifold, initial_point=point)
    expected = (*given.batch[:-1], *given.event)
    if point.shape != expected:
        raise InputError(f"initial_point: expected a point for each row, shape {expected}, got {tuple(point.shape)}")
    require_same_type("initial_point", point, "points", x)
    require_regular(start.rows[0], inverse_at(manifold, start.rows[0], on_range=True), "initial_point")
    return start.rows[0]
