"""Means of points: where the sum of squared distances is least."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from geodesic.distances.record import DistanceMatrix
from geodesic.geometry.checks import guarded
from geodesic.geometry.manifold import Manifold
from geodesic.keywords import mistaken, renamed
from geodesic.riemannian.maps.follow import Follow
from geodesic.riemannian.statistics.centers import CenterKeywords, FrechetMean, center
from geodesic.riemannian.statistics.pairs import RENAMED
from geodesic.riemannian.statistics.stop import Stop
from geodesic.solvers.search import Search

__all__ = ["frechet_mean", "frechet_variance"]


# Eight parameters: what is averaged, where to begin, by a point or from distances, and the three records.
@guarded
@mistaken(initial_points="it is `initial_point` here, one for each row")
@renamed(**(RENAMED | {"init": "initial_point"}))
def frechet_mean(
    manifold: Manifold,
    points: Tensor,
    weights: Tensor | None = None,
    *,
    initial_point: Tensor | None = None,
    distances: Tensor | DistanceMatrix | None = None,
    stop: Stop = Stop(),
    follow: Follow = Follow(),
    search: Search = Search(),
) -> FrechetMean:
    """Fréchet mean (Karcher mean): the point with the least weighted sum of squared distances to the given ones.

    m = argmin F,   F(m) = 1/2 sum w_i d(m, x_i)^2,   grad F = -sum w_i log_m(x_i)

    "discrete" takes for d^2/2 the energy of the solver's paths: its gradient in m is minus their first momentum, by the
    envelope theorem, exact for this energy, and no second derivative is needed. The mean is then of second order in
    1/T, but exact where the decoder is affine. "ode" goes on from there with the exact geodesics of `log_map`. Both
    minimize by BFGS in latent coordinates; it begins with the Hessian of F, which follows from those of the paths, or
    with the metric where these are too dear. The geodesics of all rows are found once and roughly; as m moves, a few
    steps keep them near enough for the gradient that is left, and those of the answer are solved and certified.

    Warning:
        The mean is unique where the points lie in a ball of radius min(injectivity radius, pi / sqrt(K)) / 2, K a bound
        of the curvature (Afsari 2011), otherwise there may be several. Two starts are tried, the weighted latent mean
        and the most central of the points; where they do not agree, a `GeodesicWarning` is issued and the answer is
        that of the smaller F. Two that agree prove nothing. Distances are those of the geodesics that the solver finds.

    Reference:
        H. Karcher, Riemannian center of mass and mollifier smoothing, 1977. B. Afsari, Riemannian L^p center of
        mass: existence, uniqueness, and convexity, 2011. Discrete: M. Rumpf, B. Wirth, Variational time
        discretization of geodesic calculus, 2015.

    Args:
        manifold: Where to measure.
        points: x, (*batch, N, d), floating point; (*batch, N, *latent_shape) for a manifold with a `latent_shape`.
        weights: w, (*batch, N) or (N,), non-negative with a positive sum, to which they are normalized; equal if None.
        initial_point: Where to begin, (*batch, d), instead of the two starts.
        distances: Of all points, where they are known: (*batch, N, N), or a `DistanceMatrix` of one set of points. Then
            it begins at the medoid alone: the point with the least weighted sum of squared distances.
        stop: When a row has converged, and how many steps it may attempt; "ode" may attempt as many again. Its `tol` is
            for the Riemannian norm of the gradient over the root of the variance.
        follow: How geodesics are followed: by "discrete" unless told otherwise; for "ode" the `rtol` is a hundredth of
            the `tol` of `stop`. Segments are those of `search`.
        search: How the geodesics to the points are looked for, before paths are known. If its `tol` is None, to the
            square of a tenth of the `tol` of `stop`, but never below 1e-8 in float32. No `length_rtol`, nor paths of
            your own.

    Returns:
        The means, with what was measured from there. Without history.

    Raises:
        InputError: Shapes, dtypes, weights or settings cannot be used, the distances are not symmetric or between other
            points, or the manifold has no lengths.
        SingularMetricError: The metric at `initial_point` is singular, or at all starts, as at a pole of coordinates.
            Where the decoder ignores a direction the answer stays where it began along it.
        DecoderError: As from `solve`.

    Example:
        >>> import torch, geodesic
        >>> corners = torch.tensor([[0.5, 0.0], [0.0, 0.5], [-0.5, 0.0], [0.0, -0.5]])
        >>> surface = geodesic.surfaces.StereographicSphere()
        >>> mean = geodesic.frechet_mean(surface, corners, search=geodesic.Search(segments=8))
        >>> print(f"{float(mean.point.norm()):.4f} {float(mean.variance.sqrt()):.4f}", bool(mean.converged))
        0.0000 0.9273 True
    """
    keywords = CenterKeywords(initial_point, stop, follow, search, distances)
    return center(manifold, points, weights, keywords, power=2, what="Fréchet mean")


@guarded
def frechet_variance(
    manifold: Manifold, points: Tensor, weights: Tensor | None = None, **settings: Any
) -> Float[Tensor, "*batch"]:
    """Fréchet variance: the least weighted mean of squared distances that any point has to the given ones.

    min over m of sum w_i d(m, x_i)^2,   with weights of sum 1

    Args:
        manifold: Where to measure.
        points: x, (*batch, N, d), floating point; (*batch, N, *latent_shape) for a manifold with a `latent_shape`.
        weights: w, (*batch, N) or (N,), non-negative with a positive sum; equal if None.
        settings: Keywords of `frechet_mean`.

    Returns:
        The variances, (*batch,). There is no division by N - 1. Without history.

    Raises:
        InputError: As from `frechet_mean`.

    Example:
        >>> import torch, geodesic
        >>> ends = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
        >>> surface = geodesic.surfaces.Cylinder()
        >>> variance = geodesic.riemannian.frechet_variance(surface, ends, search=geodesic.Search(segments=8))
        >>> print(f"{float(variance):.4f}")
        1.0000
    """
    return frechet_mean(manifold, points, weights, **settings).variance
