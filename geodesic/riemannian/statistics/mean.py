"""Means and medians of points: where the sum of squared distances, or of distances, is least."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.errors import GeodesicWarning, InputError
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.path import path_length, straight_path
from geodesic.geometry.points import Rows, inverse_at, require_limit
from geodesic.riemannian.maps.exp_map import checked
from geodesic.riemannian.outcome import Outcome
from geodesic.riemannian.statistics.centers import Cloud, Found, check_search, find_center
from geodesic.riemannian.statistics.weights import normalised

__all__ = ["FrechetMean", "frechet_mean", "frechet_median", "frechet_variance", "path_tolerance", "tolerance"]

_CANDIDATES = 64  # points among which the second start is looked for: as many of each other's chords are taken
_APART = 1e-3  # of the spread: two answers farther apart than this are two


@dataclass(frozen=True)
class FrechetMean:
    """Means or medians of points. Leading axes are those of the points, without that of their number N.

    Attributes:
        point: m, (*batch, d).
        variance: sum w_i d(m, x_i)^2, (*batch,), with weights of sum 1.
        gradient_norm: Riemannian norm of sum w_i log_m(x_i) over the root of the variance, (*batch,); for a median
            of the least subgradient, sum w_i log_m(x_i) / d_i. Zero at an exact answer, and without unit.
        distances: d(m, x_i), (*batch, N).
        paths: The geodesics from m to the points, (*batch, N, T + 1, d).
        converged: Whether `gradient_norm` is at most `tol` and all geodesics have converged, (*batch,), boolean.
        status: Why the row ended, an `Outcome` as integer, (*batch,).
        steps: Steps attempted, (*batch,).
        start: From where the answer was found, (*batch,): 0, the latent mean of the points, or `init` where it is
            given; 1, the most central of the points.
        unique: False where two starts converged to different points, (*batch,), boolean. True proves nothing.
    """

    point: Float[Tensor, "*point"]
    variance: Float[Tensor, "*batch"]
    gradient_norm: Float[Tensor, "*batch"]
    distances: Float[Tensor, "*batch N"]
    paths: Float[Tensor, "*path"]
    converged: Bool[Tensor, "*batch"]
    status: Int[Tensor, "*batch"]
    steps: Int[Tensor, "*batch"]
    start: Int[Tensor, "*batch"]
    unique: Bool[Tensor, "*batch"]


def frechet_mean(
    manifold: Manifold,
    points: Tensor,
    weights: Tensor | None = None,
    *,
    method: str = "discrete",
    init: Tensor | None = None,
    paths: str = "straight",
    graph_points: Tensor | None = None,
    tol: float | None = None,
    max_steps: int = 100,
    rtol: float | None = None,
    **search: Any,
) -> FrechetMean:
    """Fréchet mean (Karcher mean): the point with the least weighted sum of squared distances to the given ones.

    m = argmin F,   F(m) = 1/2 sum w_i d(m, x_i)^2,   grad F = -sum w_i log_m(x_i)

    "discrete" takes for d^2/2 the energy of the solver's paths: its gradient in m is minus their first momentum, by the
    envelope theorem, exact for this energy, and no second derivative is needed. The mean is then of second order in
    1/T, but exact where the decoder is affine. "ode" goes on from there with the exact geodesics of `log_map`. Both
    minimise by BFGS in latent coordinates, with the inverse metric to begin with, and solve all geodesics of all rows
    in one call for each step, from the paths of the last one.

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
        weights: w, (*batch, N) or (N,), non-negative with a positive sum, to which they are normalised; equal if None.
        method: "discrete" or "ode".
        init: Where to search from, (*batch, d), instead of the two starts.
        paths: Where geodesics are searched from that nothing is known of: "straight", "graph" or "best", as `init` of
            `solve`.
        graph_points: Latent points for the graph, as `points` of `solve`.
        tol: Largest gradient norm, relative to the root of the variance, of a mean that counts as converged. By
            default 1e-6 in float64 and 1e-3 in float32.
        max_steps: Most steps that a row may attempt; "ode" may attempt as many again.
        rtol: Of the integration, as in `exp_map`; for "ode" alone.
        search: `solver`, `segments` and `memory` of `solve`.

    Returns:
        The means, with what was measured from there.

    Raises:
        InputError: Shapes, dtypes, weights or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at `init` is singular, or at all starts.
        DecoderError: As from `solve`.

    Example:
        >>> import torch, geodesic
        >>> corners = torch.tensor([[0.5, 0.0], [0.0, 0.5], [-0.5, 0.0], [0.0, -0.5]])
        >>> mean = geodesic.frechet_mean(geodesic.StereographicSphere(), corners, segments=8)
        >>> print(f"{float(mean.point.norm()):.4f} {float(mean.variance.sqrt()):.4f}", bool(mean.converged))
        0.0000 0.9273 True
    """
    return _center(
        manifold, points, weights, 2, method, init, paths, graph_points, tol, max_steps, rtol, search, "Fréchet mean"
    )


def frechet_median(
    manifold: Manifold,
    points: Tensor,
    weights: Tensor | None = None,
    *,
    method: str = "discrete",
    init: Tensor | None = None,
    paths: str = "straight",
    graph_points: Tensor | None = None,
    tol: float | None = None,
    max_steps: int = 100,
    rtol: float | None = None,
    **search: Any,
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
        weights: w, (*batch, N) or (N,), non-negative with a positive sum, to which they are normalised; equal if None.
        method: "discrete" or "ode", as for `frechet_mean`.
        init: Where to search from, (*batch, d), instead of the two starts.
        paths: As for `frechet_mean`.
        graph_points: As for `frechet_mean`.
        tol: Largest norm of the least subgradient of a median that counts as converged; it is at most 1 for any point.
            By default 1e-6 in float64 and 1e-3 in float32.
        max_steps: As for `frechet_mean`.
        rtol: Of the integration, as in `exp_map`; for "ode" alone.
        search: `solver`, `segments` and `memory` of `solve`.

    Returns:
        The medians; the variance is the sum of the squared distances to them all the same.

    Raises:
        InputError: Shapes, dtypes, weights or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at `init` is singular, or at all starts.
        DecoderError: As from `solve`.

    Example:
        >>> import torch, geodesic
        >>> points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.3, 0.2], [100.0, 100.0]])
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> print([round(x, 3) for x in geodesic.frechet_median(plane, points, segments=4).point.tolist()])
        [0.3, 0.2]
    """
    return _center(
        manifold,
        points,
        weights,
        1,
        method,
        init,
        paths,
        graph_points,
        tol,
        max_steps,
        rtol,
        search,
        "geometric median",
    )


def frechet_variance(
    manifold: Manifold, points: Tensor, weights: Tensor | None = None, **settings: Any
) -> Float[Tensor, "*batch"]:
    """Fréchet variance: the least weighted mean of squared distances that any point has to the given ones.

    min over m of sum w_i d(m, x_i)^2,   with weights of sum 1

    Args:
        manifold: Where to measure.
        points: x, (*batch, N, d), as for `frechet_mean`.
        weights: w, (*batch, N) or (N,), as for `frechet_mean`.
        settings: Keywords of `frechet_mean`.

    Returns:
        The variances, (*batch,). There is no division by N - 1.

    Raises:
        InputError: As from `frechet_mean`.

    Example:
        >>> import torch, geodesic
        >>> ends = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
        >>> print(f"{float(geodesic.frechet_variance(geodesic.Cylinder(), ends, segments=8)):.4f}")
        1.0000
    """
    return frechet_mean(manifold, points, weights, **settings).variance


def tolerance(tol: Any, dtype: torch.dtype) -> float:
    """The largest gradient norm, after a check."""
    if tol is None:
        return 1e-6 if dtype == torch.float64 else 1e-3
    if isinstance(tol, bool) or not isinstance(tol, int | float) or not 0 < tol < 1:
        raise InputError(f"tol: expected a number between 0 and 1, got {tol!r}")
    return float(tol)


def path_tolerance(tol: float, dtype: torch.dtype) -> float:
    """Relative excess energy that geodesics may have: momenta are known to its root, as they are of first order."""
    return max((tol / 10) ** 2, torch.finfo(dtype).eps ** 1.5)


def _center(
    manifold: Any,
    points: Any,
    weights: Any,
    power: int,
    method: Any,
    init: Any,
    paths: Any,
    graph_points: Tensor | None,
    tol: Any,
    max_steps: Any,
    rtol: Any,
    search: dict[str, Any],
    what: str,
) -> FrechetMean:
    given = Rows(manifold, points=points)
    require_limit(manifold, what)
    check_search(search, method)
    if paths not in ("straight", "graph", "best"):
        raise InputError(f"paths: expected 'straight', 'graph' or 'best', got {paths!r}")
    if not given.batch:
        raise InputError(
            f"points: expected (*batch, N, d), got {tuple(points.shape)}; use points[None] for a single one"
        )
    tol = tolerance(tol, points.dtype)
    rtol = checked(rtol, points.dtype, 1, max_steps)
    batch, N = given.batch[:-1], given.batch[-1]
    (flat,) = given.rows
    x = flat.reshape(-1, N, flat.shape[-1])
    w = normalised(weights, batch, x)
    with torch.inference_mode(False):
        starts = _starts(manifold, x, w) if init is None else _given(manifold, init, given, x)[None]
        S, R = starts.shape[:2]
        cloud = Cloud(
            manifold,
            x,
            w,
            power=power,
            method="discrete",
            tol=path_tolerance(tol, x.dtype),
            rtol=rtol,
            first=paths,
            graph_points=graph_points,
            search=search,
        )
        every = torch.arange(R, device=x.device)
        found = find_center(cloud.of(every.repeat(S)), starts.flatten(0, 1), tol, max_steps)
        best = _best(found, S)
        unique = _agreement(manifold, found, best, S, what)
        found = _part(found, best * R + every)
        if method == "ode":
            cloud = Cloud(**{**vars(cloud), "method": "ode"})
            (known,) = found.visit.value.isfinite().nonzero(as_tuple=True)
            if len(known):
                begun = _part(found, known)
                improved = find_center(cloud.of(known), begun.point, tol, max_steps, begun.visit.path)
                found = _replaced(found, known, improved._replace(steps=begun.steps + improved.steps))
        visit = cloud.completed(found.point, found.visit)
    squared = visit.length**2

    def back(values: Tensor, *axes: int) -> Tensor:
        return values.reshape(*batch, *values.shape[1:-1], *given.event)

    return FrechetMean(
        point=back(found.point),
        variance=(w * squared).sum(-1).reshape(batch),
        gradient_norm=visit.size.reshape(batch),
        distances=visit.length.reshape(*batch, N),
        paths=back(visit.path),
        converged=(found.status == Outcome.CONVERGED).reshape(batch),
        status=found.status.reshape(batch),
        steps=found.steps.reshape(batch),
        start=best.reshape(batch),
        unique=unique.reshape(batch),
    )


def _replaced(found: Found, rows: Tensor, part: Found) -> Found:
    visit = type(found.visit)(*(x.index_put((rows,), y) for x, y in zip(found.visit, part.visit, strict=True)))
    point, status, steps = (
        getattr(found, name).index_put((rows,), getattr(part, name)) for name in ("point", "status", "steps")
    )
    return Found(point, visit, status, steps)


def _part(found: Found, rows: Tensor) -> Found:
    visit = type(found.visit)(*(x[rows] for x in found.visit))
    return Found(found.point[rows], visit, found.status[rows], found.steps[rows])


def _given(manifold: Manifold, init: Any, given: Rows, x: Float[Tensor, "R N d"]) -> Float[Tensor, "R d"]:
    start = Rows(manifold, init=init)
    if init.shape != (*given.batch[:-1], *given.event) or init.dtype != x.dtype or init.device != x.device:
        raise InputError(
            f"init: expected a point for each row, shape {(*given.batch[:-1], *given.event)} of {x.dtype} on "
            f"{x.device}, got {tuple(init.shape)} of {init.dtype} on {init.device}"
        )
    require_regular(start.rows[0], inverse_at(manifold, start.rows[0]), "init")
    return start.rows[0]


def _starts(manifold: Manifold, x: Float[Tensor, "R N d"], w: Float[Tensor, "R N"]) -> Float[Tensor, "2 R d"]:
    """The weighted latent mean, and of the heaviest points that with the least sum of squared chords."""
    middle = (w[..., None] * x).sum(1)
    heavy = w.sort(dim=-1, descending=True, stable=True).indices[:, :_CANDIDATES]
    K = heavy.shape[1]
    some = x.gather(1, heavy[..., None].expand(-1, -1, x.shape[-1]))
    of_some = w.gather(1, heavy)
    pairs = torch.stack([some[:, :, None].expand(-1, K, K, -1), some[:, None].expand(-1, K, K, -1)], dim=-2)
    with torch.no_grad():
        chords = torch.cat([manifold.squared_chords(row)[..., 0] for row in pairs.flatten(0, 1).split(K)])
        sums = (chords.reshape(-1, K, K) * of_some[:, None]).sum(-1).nan_to_num(nan=torch.inf)
        central = torch.where(of_some > 0, sums, torch.inf).argmin(-1)
        point = some[torch.arange(len(x), device=x.device), central]
        usable = [inverse_at(manifold, z).regular[:, None] for z in (middle, point)]
    middle, point = torch.where(usable[0], middle, point), torch.where(usable[1], point, middle)
    require_regular(middle, inverse_at(manifold, middle), "points")
    return torch.stack([middle, point])


def _best(found: Found, S: int) -> Int[Tensor, " R"]:
    """Which start led to the least F, among those that converged if there are any."""
    value = found.visit.value.nan_to_num(nan=torch.inf).unflatten(0, (S, -1))
    converged = (found.status == Outcome.CONVERGED).unflatten(0, (S, -1))
    value = torch.where(converged | ~converged.any(0), value, torch.inf)
    # Two starts at the same point differ by rounding: the first then.
    least = value.amin(0)
    return (value <= least * (1 + 1e-9)).to(torch.uint8).argmax(0)


def _agreement(manifold: Manifold, found: Found, best: Tensor, S: int, what: str) -> Bool[Tensor, " R"]:
    """Whether all starts that converged did so at one point; with a warning where they did not."""
    point, length, status = (v.unflatten(0, (S, -1)) for v in (found.point, found.visit.length, found.status))
    R = len(best)
    every = torch.arange(R, device=best.device)
    winner = point[best, every].expand_as(point)
    spread = length[best, every].amax(-1)
    line = straight_path(winner, point, 8)
    with torch.no_grad():
        apart = path_length(manifold, line).nan_to_num(nan=torch.inf)
    apart = torch.where((winner == point).all(-1) | (status != Outcome.CONVERGED), 0, apart).amax(0)
    apart = torch.where(status[best, every] == Outcome.CONVERGED, apart, 0)
    several = apart > _APART * spread
    if several.any():
        row = int(several.nonzero()[0])
        names = ("the latent mean", "the most central point")
        warnings.warn(
            GeodesicWarning(
                f"{what}: {int(several.sum())} of {R} may not be unique: two starts led to points "
                f"{float(apart[row]):.3g} apart, where the points are up to {float(spread[row]):.3g} away; the "
                f"answer is that of {names[int(best[row])]}, with the smaller sum. Give init to choose, or take fewer "
                "or nearer points"
            ),
            stacklevel=4,
        )
    return ~several
