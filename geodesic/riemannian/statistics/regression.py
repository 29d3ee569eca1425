"""Geodesic regression: the geodesic that points follow as a number changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.checks import guarded
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.period import gathered
from geodesic.geometry.points import Rows, deficiency_at, inverse_at, require_limit
from geodesic.keywords import renamed
from geodesic.riemannian.maps.exp_map import exp_map
from geodesic.riemannian.maps.follow import Follow, stride_of
from geodesic.riemannian.maps.followed import Followed
from geodesic.riemannian.statistics.fit import Data, Fit
from geodesic.riemannian.statistics.least_squares import least_squares, near_enough
from geodesic.riemannian.statistics.pairs import RENAMED, Geodesics
from geodesic.riemannian.statistics.stop import Stop
from geodesic.solvers.doubts import warn_of_doubts
from geodesic.solvers.search import Search
from geodesic.solvers.status import Status

__all__ = ["GeodesicRegression", "geodesic_regression"]


@dataclass(frozen=True)
class GeodesicRegression(Followed):
    """A geodesic fitted to points. Leading axes are those before the axis of the points.

    Attributes:
        point: The geodesic at x = 0, (*batch, d); NaN where it does not lead as far from the data.
        velocity: Its velocity there, per unit of x, (*batch, d).
        center: The mean of x, (*batch,).
        point_at_center: The geodesic at the mean of x, (*batch, d).
        velocity_at_center: Its velocity there, per unit of x, (*batch, d).
        predictions: The geodesic at each x, (*batch, N, d).
        residuals: Distances of the points from the predictions, (*batch, N).
        variance: Mean squared distance of the points from their Fréchet mean, (*batch,); NaN where that was not found.
        r_squared: Share of the variance that the geodesic explains, (*batch,): 1 for points on it, 0 for points that
            do not follow x. NaN where all points are the same, or there is no variance.
        converged: Whether the fit is stationary and all its geodesics were found, (*batch,), boolean.
        status: Why the row ended, a `Status` as integer, (*batch,).
        iterations: Steps attempted, (*batch,), those to the mean among them.
        error: By what share of the spread of the points, both root mean squares, one more step would move the
            predictions, (*batch,).
        rank_deficiency: Latent directions that the decoder ignores at `point_at_center`, (*batch,), integer;
            along these the geodesic does not move.
    """

    point: Float[Tensor, "*point"]
    velocity: Float[Tensor, "*point"]
    center: Float[Tensor, "*batch"]
    point_at_center: Float[Tensor, "*point"]
    velocity_at_center: Float[Tensor, "*point"]
    predictions: Float[Tensor, "*points"]
    residuals: Float[Tensor, "*batch N"]
    variance: Float[Tensor, "*batch"]
    r_squared: Float[Tensor, "*batch"]


@guarded
@renamed(**RENAMED)
def geodesic_regression(
    manifold: Manifold,
    x: Tensor,
    points: Tensor,
    *,
    stop: Stop = Stop(),
    follow: Follow = Follow(),
    search: Search = Search(),
) -> GeodesicRegression:
    """Least squares for points of a manifold: the geodesic that comes nearest to them at the times x.

    minimize sum_i d(exp_p(x_i v), y_i)^2   in p and v

    By Levenberg and Marquardt's method. The derivative of a prediction in p and v is given by the Jacobi fields along
    the geodesic, the derivative of half a squared distance by the logarithm, so the gradient is exact; the
    curvature of the distances is left out of the matrix. x is centered at its mean, and the search begins at
    the Fréchet mean of the points, found in the same way with v = 0. Where the decoder ignores directions, the geodesic
    stays where the latent mean of the points is along them.

    Warning:
        The fit is a stationary point. Points that are spread over more than the injectivity radius may have others.
        The answer at x = 0 is an extrapolation where 0 is no value among the data: prefer that at the mean of x.
        Decoders with kinks (ReLU) need "discrete", whose distances, geodesics and derivatives all belong to
        the energy of paths of T segments.

    Reference:
        P. T. Fletcher, Geodesic regression and the theory of least squares on Riemannian manifolds, 2013.

    Args:
        manifold: Where the points are.
        x: What the points are to be explained by, (N,) or (*batch, N): numbers that are not all the same.
        points: The points y, (*batch, N, d), N at least 2, floating point; (*batch, N, *latent_shape) for a manifold
            with a `latent_shape`.
        stop: When a fit has converged, and how many steps it may take, and the search for the mean before it as many.
            Its `tol` is for the move of the predictions by one more step, over the spread of the points, both root
            mean squares.
        follow: How geodesics are followed: by "discrete" unless told otherwise; for "ode" the `rtol` is a hundredth of
            the `tol` of `stop`. Segments are those of `search`.
        search: How geodesics from the predictions to the points are looked for, before paths are known. If its `tol` is
            None, to the square of a tenth of the `tol` of `stop`, but never below 1e-8 in float32; for "ode" to 1e-12
            and 1e-8. No `length_rtol`, nor paths of your own.

    Returns:
        The geodesic, what it predicts, and how well. Without history.

    Raises:
        InputError: Shapes or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point is singular, and its rank not the same all around; or it is zero.
        DecoderError: As from `solve`.

    Example:
        >>> import torch, geodesic
        >>> x = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
        >>> meridian = torch.stack([1 + 0.2 * x, torch.ones_like(x)], dim=-1)
        >>> fit = geodesic.geodesic_regression(geodesic.surfaces.Sphere(), x, meridian)
        >>> print([f"{z:.3f}" for z in fit.point.tolist()], f"{fit.velocity[0]:.3f}", f"{float(fit.r_squared):.3f}")
        ['1.000', '1.000'] 0.200 1.000
    """
    given = Rows(manifold, points=points)
    require_limit(manifold, "geodesics")
    geodesics = Geodesics.from_user(manifold, search, follow, stop, points.dtype)
    follow = replace(geodesics.follow, segments=search.first_segments)
    stride = stride_of(follow, points.dtype, "discrete")
    if not given.batch or given.batch[-1] < 2:
        raise InputError(
            f"points: expected at least 2 points, (*batch, N, d), got {tuple(points.shape)}: a geodesic through one is "
            "not determined"
        )
    times = _times(x, given, points)
    center = times.mean(-1)
    spread = (times - center[:, None]).square().mean(-1).sqrt()
    require_regular(given.rows[0], inverse_at(manifold, given.rows[0], on_range=True), "points")
    with torch.inference_mode(False):
        y = given.rows[0].reshape(*times.shape, -1)
        y = gathered(manifold.period, y, torch.ones_like(times))
        data = Data(manifold, (times - center[:, None]) / spread[:, None], y, stride, geodesics)
        found = _fitted(data, stop)
        p, v = found.fit.point, found.fit.velocity / spread[:, None]
        start, pace = (z.reshape(-1, *given.event) for z in (p, v))
        at_zero = exp_map(manifold, start, pace, -center, follow=follow)
    warn_of_doubts("geodesic regression", found.doubts, "fits that build on them are inexact")
    # The velocity at time 0 of the caller is that of the last node; a center at 0 has moved nowhere.
    zero = at_zero.point.flatten(1), at_zero.velocity[:, -1].flatten(1)
    point, velocity = (torch.where(at_zero.converged[:, None], a, torch.nan) for a in zero)
    batch, N = given.batch[:-1], given.batch[-1]

    def rows(z: Tensor) -> Tensor:
        return z.reshape(*batch, *given.event)

    return GeodesicRegression(
        point=rows(point),
        velocity=rows(velocity),
        center=center.reshape(batch),
        point_at_center=rows(p),
        velocity_at_center=rows(v),
        predictions=found.fit.predictions.reshape(*batch, N, *given.event),
        residuals=found.fit.squared.sqrt().reshape(*batch, N),
        variance=(found.total / N).reshape(batch),
        r_squared=(1 - found.fit.loss / found.total).reshape(batch),
        converged=(found.status == Status.CONVERGED).reshape(batch),
        status=found.status.reshape(batch),
        iterations=found.iterations.reshape(batch),
        error=found.error.reshape(batch),
        method=stride.method,
        rank_deficiency=deficiency_at(manifold, p).reshape(batch),
    )


@dataclass(frozen=True)
class _Found:
    """The fit, what it ended with, and the sum of squares about the mean."""

    fit: Fit
    status: Int[Tensor, " B"]
    iterations: Int[Tensor, " B"]
    error: Float[Tensor, " B"]
    total: Float[Tensor, " B"]
    doubts: Int[Tensor, "B N"]


def _fitted(data: Data, stop: Stop) -> _Found:
    """First the mean, which is a fit without a velocity, and from there the geodesic."""
    y = data.y
    start = data.fit(_middle(data.manifold, y), torch.zeros_like(y[:, 0]))
    mean = least_squares(data, start, columns=y.shape[-1], total=start.loss, stop=stop)
    total = mean.fit.loss
    begin = _towards(data, mean.fit)
    best = least_squares(data, begin, columns=2 * y.shape[-1], total=total, stop=stop)
    found = mean.status == Status.CONVERGED
    last = found | (best.status == Status.CONVERGED)
    return _Found(
        fit=best.fit,
        status=torch.where(last, best.status, mean.status),
        iterations=mean.iterations + best.iterations,
        error=torch.where(last, best.error, mean.error),
        total=torch.where(found, total, torch.nan),
        doubts=near_enough(best.fit, total),
    )


def _towards(data: Data, mean: Fit) -> Fit:
    """The linear regression of the logarithms at the mean, or the mean itself where that is nearer."""
    slope = (data.x[..., None] * mean.residual).mean(1)
    v = (inverse_at(data.manifold, mean.point, on_range=True).frame @ slope[..., None])[..., 0]
    regular = v.isfinite().all(-1, keepdim=True)
    unknown = torch.ones_like(mean.loss)  # error
    guess = data.fit(mean.point, torch.where(regular, v, 0), mean, unknown)
    (worse,) = (guess.loss > mean.loss).nonzero(as_tuple=True)
    return guess.replaced(worse, mean.of(worse))


def _middle(manifold: Manifold, y: Float[Tensor, "B N d"]) -> Float[Tensor, "B d"]:
    """The latent means, or the points nearest to them where the metric there is singular."""
    mean = y.mean(1)
    nearest = (y - mean[:, None]).norm(dim=-1).argmin(1)
    return torch.where(
        inverse_at(manifold, mean, on_range=True).regular[:, None],
        mean,
        y[torch.arange(len(y), device=y.device), nearest],
    )


def _times(x: Any, given: Rows, points: Tensor) -> Float[Tensor, "B N"]:
    N = given.batch[-1]
    if not isinstance(x, Tensor) or x.shape not in (given.batch, given.batch[-1:]):
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise InputError(
            f"x: expected a number for each point, a tensor of shape {(N,)} or {tuple(given.batch)}, got {got}"
        )
    times = x.detach().to(points).expand(given.batch).reshape(-1, N)
    if not bool(times.isfinite().all()):
        raise InputError("x: expected finite numbers; drop the points without one")
    # Rounding of equal numbers must not pass for a difference.
    spread, size = times.amax(-1) - times.amin(-1), times.abs().amax(-1)
    if bool((spread <= 4 * torch.finfo(points.dtype).eps * size).any()):
        raise InputError(f"x: expected numbers that differ, got {float(times[0, 0]):g} for all points of a set")
    return times
