"""Principal geodesics: in which directions a cloud of points extends around its mean, and how far."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.checks import require_integer, require_same_type
from geodesic.errors import InputError
from geodesic.geometry.checks import guarded
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import Rows, inverse_at, require_limit
from geodesic.keywords import renamed
from geodesic.numerics.tolerance import usual_tol
from geodesic.riemannian.maps.follow import IN_FOLLOW, Follow
from geodesic.riemannian.maps.followed import Followed
from geodesic.riemannian.maps.log_map import LogarithmMap, log_map
from geodesic.riemannian.statistics.centers import FrechetMean
from geodesic.riemannian.statistics.mean import frechet_mean
from geodesic.riemannian.statistics.pairs import followed, require_for_moving_ends
from geodesic.riemannian.statistics.weights import normalized
from geodesic.solvers.doubts import doubts_of, warn_of_doubts
from geodesic.solvers.search import IN_SEARCH, Search
from geodesic.solvers.status import Status

__all__ = ["PrincipalGeodesics", "principal_geodesic_analysis"]

_TIE = 1e-6  # coordinates that differ by less than this share are equally large when a sign is chosen


@dataclass(frozen=True)
class PrincipalGeodesics(Followed):
    """Directions at a mean in which points extend most. Leading axes are those of the mean.

    Attributes:
        mean: Where the directions are, (*batch, d).
        directions: Vectors at the mean in latent coordinates, of unit Riemannian norm and orthogonal to each other
            under G(mean), (*batch, k, d). Of the largest coordinates of each the first is positive. Where the decoder
            ignores directions, none of them has a part along these, and those beyond the rank of the metric are zero.
        variances: Mean squared scores, descending, (*batch, k).
        scores: Coordinates of the points along the directions, (*batch, N, k): lengths, in the unit of the outputs.
            `exp_map(manifold, mean, scores @ directions)` are the points, where k is d.
        explained: Share of each direction in the mean squared distance from the mean, (*batch, k).
        converged: Whether the mean, if it was looked for, and all geodesics to points of positive weight were found,
            (*batch,), boolean.
        status: Why the row ended, a `Status` as integer, (*batch,): that of the mean, or of the first geodesic that
            was not found.
        iterations: Those of the search for the mean, (*batch,); 0 where it was given.
        error: The larger of two numbers, (*batch,): that of the mean, as in `FrechetMean`, and by how much a geodesic
            misses its point, over its length.
        rank_deficiency: Latent directions that the decoder ignores at the mean, (*batch,), integer; directions have no
            part along these.
    """

    mean: Float[Tensor, "*point"]
    directions: Float[Tensor, "*directions"]
    variances: Float[Tensor, "*batch k"]
    scores: Float[Tensor, "*batch N k"]
    explained: Float[Tensor, "*batch k"]


@guarded
@renamed(**(IN_SEARCH | IN_FOLLOW | {"segments": IN_SEARCH["segments"]}))
def principal_geodesic_analysis(
    manifold: Manifold,
    points: Tensor,
    weights: Tensor | None = None,
    *,
    mean: Tensor | None = None,
    components: int | None = None,
    follow: Follow = Follow(),
    search: Search = Search(),
) -> PrincipalGeodesics:
    """Principal geodesic analysis: the principal components of log_mean(points) in the inner product of G(mean).

    u_k maximizes sum_i w_i <log_mean(y_i), u>^2 / sum_i w_i over unit vectors orthogonal to u_1, ..., u_{k-1}

    Points spread along a geodesic through the mean have one component, whatever curve it is in latent
    coordinates. Directions and variances do not depend on these coordinates.

    Warning:
        The logarithms are taken as they are and not centered: variances are about the mean that is given. Where it
        is not the Fréchet mean of the points, the first direction may be that to their mean. Components are those of
        the tangent space: projections onto geodesic subspaces differ from them to second order in the spread.
        Decoders with kinks (ReLU) need "discrete".

    Reference:
        P. T. Fletcher, C. Lu, S. M. Pizer, S. Joshi, Principal geodesic analysis for the study of nonlinear
        statistics of shape, 2004.

    Args:
        manifold: Where to measure.
        points: The points y, (*batch, N, d), floating point; (*batch, N, *latent_shape) for a manifold with a
            `latent_shape`.
        weights: How much each point counts, (N,) or (*batch, N), not negative; all alike if None.
        mean: Where to take the directions, (*batch, d). If None the Fréchet mean, looked for with the defaults of
            `frechet_mean`; give the point that it finds where you want others.
        components: Number k of directions, at most min(N, d), which is taken if None.
        follow: How geodesics are followed: "discrete", unless told otherwise, takes the initial velocities of the
            solver's paths, "ode" exact logarithms. Segments are those of `search`.
        search: How geodesics to the points are looked for. Where its `tol` is None, it is that of `log_map`. No
            `length_rtol`, nor paths of your own.

    Returns:
        The directions, the variances along them, and the points' coordinates. Without history.

    Raises:
        InputError: Shapes, weights or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at the mean or at a point is singular, and its rank not the same all around; or
            it is zero.
        DecoderError: As from `solve`.

    Example:
        >>> import torch, geodesic
        >>> latitude = torch.linspace(-1, 1, 5)
        >>> meridian = torch.stack([torch.pi / 2 + latitude, torch.zeros(5)], dim=-1)
        >>> equator = torch.tensor([torch.pi / 2, 0.0])
        >>> answer = geodesic.principal_geodesic_analysis(geodesic.surfaces.Sphere(), meridian, mean=equator)
        >>> print([f"{x:.3f}" for x in answer.variances.tolist()], [f"{x:.3f}" for x in answer.explained.tolist()])
        ['0.500', '0.000'] ['1.000', '0.000']
    """
    require_for_moving_ends(search)
    dtype = Rows(manifold, points=points).rows[0].dtype
    way = followed(follow, search, usual_tol(dtype), dtype)
    found = None
    if mean is None:
        found = frechet_mean(manifold, points, weights, follow=follow, search=search)
        mean = found.point
    given, center = _sets_and_means(manifold, points, mean)
    (z,), (flat,), N = center.rows, given.rows, given.batch[-1]
    B, d = z.shape
    share = normalized(weights, center.batch, flat.reshape(B, N, d))
    k = min(N, d) if components is None else components
    require_integer("components", k, least=1, most=min(N, d), note="the smaller of N and d; None takes all")
    inverse = inverse_at(manifold, z, on_range=True)
    require_regular(z, inverse, "mean")
    start = mean.detach().unsqueeze(mean.dim() - len(given.event)).expand_as(points)
    if found is not None and bool(found.paths.isfinite().all()):  # the geodesics are those of the mean
        search = replace(search, init=found.paths, graph_points=None, segments=None)
    there = log_map(manifold, start, points.detach(), follow=way, search=search)
    # In an orthonormal frame: with G = E^T E the inner product of v and w is that of E v and E w.
    y = there.vector.reshape(B, N, d) @ inverse.coframe.mT
    frame, variances = _principal_axes(y, share, d - inverse.deficiency)
    directions = frame[:, :k] @ inverse.frame.mT
    sign = _signs(directions)[..., None]
    total = variances.sum(-1, keepdim=True)
    explained = torch.where(total > 0, variances / total, 0)
    if found is None:  # the mean has said it otherwise, of the same geodesics
        doubts = there.status if there.method == "ode" else doubts_of(there.solution)
        counted = torch.where(share.reshape(doubts.shape) > 0, doubts, Status.CONVERGED)
        warn_of_doubts("principal geodesic analysis", counted, "answers that build on them are inexact")
    ended = _ended(there, found, share)
    batch = center.batch
    return PrincipalGeodesics(
        mean=mean.detach().clone(),
        directions=(sign * directions).reshape(*batch, k, *given.event),
        variances=variances[:, :k].reshape(*batch, k),
        scores=(y @ (sign * frame[:, :k]).mT).reshape(*batch, N, k),
        explained=explained[:, :k].reshape(*batch, k),
        converged=(ended.status == Status.CONVERGED).reshape(batch),
        status=ended.status.reshape(batch),
        iterations=ended.iterations.reshape(batch),
        error=ended.error.reshape(batch),
        method=there.method,
        rank_deficiency=inverse.deficiency.reshape(batch),
    )


class _Ended(NamedTuple):
    """Statuses, iterations and errors of B analyses."""

    status: Int[Tensor, " B"]
    iterations: Int[Tensor, " B"]
    error: Float[Tensor, " B"]


def _ended(there: LogarithmMap, found: FrechetMean | None, share: Float[Tensor, "B N"]) -> _Ended:
    """How the search for the mean, if there was one, and those for the logarithms ended."""
    status = torch.where(share > 0, there.status.reshape(share.shape), Status.CONVERGED)
    first = (status != Status.CONVERGED).to(torch.uint8).argmax(-1, keepdim=True)
    status = status.gather(-1, first)[:, 0]
    error = torch.where(share > 0, there.error.reshape(share.shape), 0).amax(-1)
    if found is None:
        return _Ended(status, torch.zeros_like(status), error)
    of_mean = found.status.reshape(status.shape)
    status = torch.where(of_mean == Status.CONVERGED, status, of_mean)
    return _Ended(
        status, found.iterations.reshape(status.shape), torch.maximum(error, found.error.reshape(error.shape))
    )


def _sets_and_means(manifold: Manifold, points: Any, mean: Any) -> tuple[Rows, Rows]:
    """The sets of points and their means as given, after checks."""
    given, center = Rows(manifold, points=points), Rows(manifold, mean=mean)
    require_limit(manifold, "logarithm map")
    if not given.batch or given.batch[:-1] != center.batch or given.event != center.event:
        raise InputError(
            f"mean: expected a point for each set of points, {(*given.batch[:-1], *given.event)} for points of shape "
            f"{tuple(points.shape)}, (*batch, N, d), got {tuple(mean.shape)}"
        )
    require_same_type("mean", mean, "points", points)
    return given, center


def _principal_axes(
    y: Float[Tensor, "B N d"], share: Float[Tensor, "B N"], rank: Int[Tensor, " B"]
) -> tuple[Float[Tensor, "B k d"], Float[Tensor, "B k"]]:
    """Orthonormal directions in which weighted vectors extend most, and their mean squares along them.

    A point without a logarithm, or without a say, has no part in them. Of those beyond the rank of the metric, where
    all coordinates are zero, there is none: they are zero.
    """
    known = y.isfinite().all(-1) & (share > 0)
    weighted, k = torch.where(known[..., None], share.sqrt()[..., None] * y, 0), min(y.shape[1:])
    frame, variances = y.new_zeros(len(y), k, y.shape[-1]), y.new_zeros(len(y), k)
    for r in rank.unique().tolist():
        (rows,) = (rank == r).nonzero(as_tuple=True)
        _, S, Vh = torch.linalg.svd(weighted[rows, :, :r], full_matrices=False)
        frame[rows, : Vh.shape[1], :r], variances[rows, : Vh.shape[1]] = Vh, S.square()
    return frame, variances


def _signs(directions: Float[Tensor, "B k d"]) -> Float[Tensor, "B k"]:
    """1 or -1, so that the first among the largest coordinates becomes positive: answers can be repeated."""
    size = directions.abs()
    largest = size >= (1 - _TIE) * size.amax(-1, keepdim=True)
    first = largest.to(torch.int8).argmax(-1, keepdim=True)
    return torch.where(directions.gather(-1, first)[..., 0] < 0, -1, 1).to(directions)
