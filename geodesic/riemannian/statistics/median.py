"""Medians of points: where the sum of distances is least."""

from __future__ import annotations

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

__all__ = ["frechet_median"]


# Eight parameters: those of `frechet_mean`.
@guarded
@mistaken(initial_points="it is `initial_point` here, one for each row")
@renamed(**(RENAMED | {"init": "initial_point"}))
def frechet_median(
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
    """Geometric median: the point with the least weighted sum of distances to the given ones. Outliers move it little.

    m = argmin F,   F(m) = sum w_i d(m, x_i),   grad F = -sum w_i log_m(x_i) / d(m, x_i)

    Weiszfeld's step is m + sum u_i log_m(x_i) / sum u_i, u_i = w_i / d(m, x_i). Here it is the first step, and the
    one after every jump; between them BFGS learns the Hessian, so that the last digits do not cost hundreds of steps.
    A point of the cloud is the median where the others together pull less than its own weight: when that may be so of
    the nearest one, it is tried.

    Warning:
        Where the curvature is not too large the median is unique, unless the points lie on one geodesic: for an even
        number of them every point between the middle two is a median, of which one is returned with a
        `GeodesicWarning`. Otherwise as for `frechet_mean`.

    Reference:
        P. T. Fletcher, S. Venkatasubramanian, S. Joshi, The geometric median on Riemannian manifolds with application
        to robust atlas estimation, 2009. Y. Vardi, C.-H. Zhang, The multivariate L1-median and associated data
        depth, 2000.

    Args:
        manifold: Where to measure.
        points: x, (*batch, N, d), floating point; (*batch, N, *latent_shape) for a manifold with a `latent_shape`.
        weights: w, (*batch, N) or (N,), non-negative with a positive sum, to which they are normalized; equal if None.
        initial_point: Where to begin, (*batch, d), instead of the two starts.
        distances: Of all points, where they are known: (*batch, N, N), or a `DistanceMatrix` of one set of points. Then
            it begins at the medoid alone: the point with the least weighted sum of distances.
        stop: When a row has converged, and how many steps it may attempt; "ode" may attempt as many again. Its `tol` is
            for the norm of the least subgradient, at most 1 for any point.
        follow: How geodesics are followed: by "discrete" unless told otherwise; for "ode" the `rtol` is a hundredth of
            the `tol` of `stop`. Segments are those of `search`.
        search: How the geodesics to the points are looked for, before paths are known. If its `tol` is None, to the
            square of a tenth of the `tol` of `stop`, but never below 1e-8 in float32. No `length_rtol`, nor paths of
            your own.

    Returns:
        The medians; the variance is the sum of the squared distances to them all the same. Without history.

    Raises:
        InputError: Shapes, dtypes, weights or settings cannot be used, the distances are not symmetric or between other
            points, or the manifold has no lengths.
        SingularMetricError: The metric at `initial_point` is singular, or at all starts, as at a pole of coordinates.
            Where the decoder ignores a direction the answer stays where it began along it.
        DecoderError: As from `solve`.

    Example:
        >>> import torch, geodesic
        >>> points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.3, 0.2], [100.0, 100.0]])
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> median = geodesic.frechet_median(plane, points, search=geodesic.Search(segments=4))
        >>> print([round(x, 3) for x in median.point.tolist()])
        [0.3, 0.2]
    """
    keywords = CenterKeywords(initial_point, stop, follow, search, distances)
    return center(manifold, points, weights, keywords, power=1, what="geometric median")
