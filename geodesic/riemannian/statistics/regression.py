"""Geodesic regression: the geodesic that points follow as a number changes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.path import straight_path
from geodesic.geometry.points import Rows, inverse_at, require_limit
from geodesic.riemannian.maps.exp_map import checked, exp_map
from geodesic.riemannian.maps.flow import require_method
from geodesic.riemannian.maps.log_map import log_map
from geodesic.riemannian.maps.neighbours import Stride, exp_with_neighbours
from geodesic.riemannian.outcome import Outcome
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.solve import solve

__all__ = ["GeodesicRegression", "geodesic_regression"]

_SOLVED = {torch.float64: 1e-12, torch.float32: 1e-6}  # relative excess energy of the geodesics to the points
_NEAR = 1e-7  # times the spread: predictions this near to a point need no certified geodesic to it
_SHORT = 1e-4  # times the spread: a discrete logarithm is exact to 1e-8 / T^2 of itself, and shooting meets rounding
_DAMPING = 1e-3  # at first, as a share of the diagonal
_MOST_DAMPING = 1e8


@dataclass(frozen=True)
class GeodesicRegression:
    """A geodesic fitted to points. Leading axes are those before the axis of the points.

    Attributes:
        point: The geodesic at x = 0, (*batch, d); NaN where it does not lead as far from the data.
        velocity: Its velocity there, per unit of x, (*batch, d).
        centre: The mean of x, (*batch,).
        point_at_centre: The geodesic at the mean of x, (*batch, d).
        velocity_at_centre: Its velocity there, per unit of x, (*batch, d).
        predictions: The geodesic at each x, (*batch, N, d).
        residuals: Distances of the points from the predictions, (*batch, N).
        variance: Mean squared distance of the points from their Fréchet mean, (*batch,); NaN where that was not found.
        r_squared: Share of the variance that the geodesic explains, (*batch,): 1 for points on it, 0 for points that
            do not follow x. NaN where all points are the same, or there is no variance.
        converged: Whether the fit is stationary and all its geodesics were found, (*batch,), boolean.
        status: Why the row ended, an `Outcome` as integer, (*batch,).
        steps: Steps attempted, (*batch,), those to the mean among them.
    """

    point: Float[Tensor, "*point"]
    velocity: Float[Tensor, "*point"]
    centre: Float[Tensor, "*batch"]
    point_at_centre: Float[Tensor, "*point"]
    velocity_at_centre: Float[Tensor, "*point"]
    predictions: Float[Tensor, "*points"]
    residuals: Float[Tensor, "*batch N"]
    variance: Float[Tensor, "*batch"]
    r_squared: Float[Tensor, "*batch"]
    converged: Bool[Tensor, "*batch"]
    status: Int[Tensor, "*batch"]
    steps: Int[Tensor, "*batch"]


def geodesic_regression(
    manifold: Manifold,
    x: Tensor,
    points: Tensor,
    *,
    method: str = "discrete",
    segments: int = 32,
    rtol: float | None = None,
    tol: float = 1e-6,
    max_steps: int = 50,
) -> GeodesicRegression:
    """Least squares for points of a manifold: the geodesic that comes nearest to them at the times x.

    minimise sum_i d(exp_p(x_i v), y_i)^2   in p and v

    By Levenberg and Marquardt's method. The derivative of a prediction in p and v is given by the Jacobi fields along
    the geodesic, the derivative of half a squared distance by the logarithm, so the gradient is exact; the
    curvature of the distances is left out of the matrix. x is centred at its mean, and the search begins at
    the Fréchet mean of the points, found in the same way with v = 0.

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
        method: "ode" or "discrete", as for `exp_map` and `log_map`.
        segments: Number T of segments of each geodesic, at least 2.
        rtol: Of the integration, as in `exp_map`. For "ode" alone.
        tol: The fit has converged when a step moves the predictions by at most this share of the spread of the
            points, both root mean squares.
        max_steps: Most steps of the fit, and of the search for the mean before it.

    Returns:
        The geodesic, what it predicts, and how well.

    Raises:
        InputError: Shapes or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point is singular.
        DecoderError: As from `solve`.

    Example:
        >>> import torch, geodesic
        >>> x = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
        >>> meridian = torch.stack([1 + 0.2 * x, torch.ones_like(x)], dim=-1)
        >>> fit = geodesic.geodesic_regression(geodesic.Sphere(), x, meridian)
        >>> print([f"{z:.3f}" for z in fit.point.tolist()], f"{fit.velocity[0]:.3f}", f"{float(fit.r_squared):.3f}")
        ['1.000', '1.000'] 0.200 1.000
    """
    given = Rows(manifold, points=points)
    require_limit(manifold, "geodesics")
    require_method(method)
    rtol = checked(rtol, points.dtype, segments, max_steps)
    if segments < 2:
        raise InputError(f"segments: expected an integer of at least 2, got {segments!r}")
    if isinstance(tol, bool) or not isinstance(tol, int | float) or not 0 < tol < 1:
        raise InputError(f"tol: expected a share of the spread, between 0 and 1, got {tol!r}")
    if not given.batch or given.batch[-1] < 2:
        raise InputError(
            f"points: expected at least 2 points, (*batch, N, d), got {tuple(points.shape)}: a geodesic through one is "
            "not determined"
        )
    times = _times(x, given, points)
    centre = times.mean(-1)
    spread = (times - centre[:, None]).square().mean(-1).sqrt()
    require_regular(given.rows[0], inverse_at(manifold, given.rows[0]), "points")
    with torch.inference_mode(False):
        y = given.rows[0].reshape(*times.shape, -1)
        fit = _Fit(manifold, (times - centre[:, None]) / spread[:, None], y, Stride(method, segments, rtol, 1000), tol)
        start = fit.at(_middle(manifold, y), torch.zeros_like(y[:, 0]))
        mean = fit.improved(start, max_steps, total=start.loss, slope=False)
        total = mean.state.loss
        best = fit.improved(fit.towards(mean.state), max_steps, total=total, slope=True)
        state = best.state
        p, v = state.point, state.velocity / spread[:, None]
        where = (manifold, p.reshape(-1, *given.event), v.reshape(-1, *given.event))
        at_zero = exp_map(*where, -centre, method=method, segments=segments, rtol=rtol)
    # The velocity at time 0 of the caller is that of the last node; a centre at 0 has moved nowhere.
    zero = at_zero.point.flatten(1), at_zero.velocity[:, -1].flatten(1)
    point, velocity = (torch.where(at_zero.converged[:, None], a, torch.nan) for a in zero)
    status = torch.where(mean.status == Outcome.CONVERGED, best.status, mean.status)
    status = torch.where(best.status == Outcome.CONVERGED, best.status, status)
    total = torch.where(mean.status == Outcome.CONVERGED, total, torch.nan)
    batch, N = given.batch[:-1], given.batch[-1]

    def rows(z: Tensor) -> Tensor:
        return z.reshape(*batch, *given.event)

    return GeodesicRegression(
        point=rows(point),
        velocity=rows(velocity),
        centre=centre.reshape(batch),
        point_at_centre=rows(p),
        velocity_at_centre=rows(v),
        predictions=state.predictions.reshape(*batch, N, *given.event),
        residuals=state.squared.sqrt().reshape(*batch, N),
        variance=(total / N).reshape(batch),
        r_squared=(1 - state.loss / total).reshape(batch),
        converged=(status == Outcome.CONVERGED).reshape(batch),
        status=status.reshape(batch),
        steps=(mean.steps + best.steps).reshape(batch),
    )


@dataclass(frozen=True)
class _State:
    """B geodesics with what belongs to them: squared distances of N predictions, and the way to the points."""

    point: Float[Tensor, "B d"]
    velocity: Float[Tensor, "B d"]
    predictions: Float[Tensor, "B N d"]
    jacobian: Float[Tensor, "B N d k"]  # of the predictions in point and velocity, k = 2 d, orthonormal frames
    residual: Float[Tensor, "B N d"]  # log_prediction(point), in an orthonormal frame
    squared: Float[Tensor, "B N"]
    paths: Float[Tensor, "B N nodes d"]
    found: Bool[Tensor, "B N"]

    @property
    def loss(self) -> Float[Tensor, " B"]:
        return self.squared.sum(-1)

    def replaced(self, rows: Tensor, other: _State) -> _State:
        """With rows taken from another."""
        names = self.__dataclass_fields__
        return _State(**{name: getattr(self, name).index_put((rows,), getattr(other, name)) for name in names})


@dataclass(frozen=True)
class _Improved:
    state: _State
    status: Int[Tensor, " B"]
    steps: Int[Tensor, " B"]


@dataclass(frozen=True)
class _Fit:
    """The problem: points y, (B, N, d), at times x, (B, N), of mean 0 and variance 1."""

    manifold: Manifold
    x: Float[Tensor, "B N"]
    y: Float[Tensor, "B N d"]
    stride: Stride
    tol: float

    def at(self, p: Tensor, v: Tensor, before: _State | None = None, rows: Tensor | None = None) -> _State:
        """Follow the geodesics of some rows to the predictions, and search the geodesics from there to the points."""
        x, y = (self.x, self.y) if rows is None else (self.x[rows], self.y[rows])
        B, N, d = y.shape
        start, pace = p[:, None].expand(B, N, d), x[..., None] * v[:, None]
        # Jacobi fields need no nodes on the way, discrete steps do.
        stride = self.stride if self.stride.method == "discrete" else self.stride._replace(segments=1)
        there = exp_with_neighbours(self.manifold, start.reshape(-1, d), pace.reshape(-1, d), stride)
        G, at_start = (inverse_at(self.manifold, z) for z in (there.path[:, -1], p))
        usable = (there.reached & G.regular).reshape(B, N).all(1) & at_start.regular
        predictions = there.path[:, -1].reshape(B, N, d)
        squared = torch.full_like(x, torch.inf)
        residual, J = torch.zeros_like(y), y.new_zeros(B, N, d, 2 * d)
        paths = y.new_zeros(B, N, self.stride.segments + 1, d)
        found = torch.zeros_like(x, dtype=torch.bool)
        (good,) = usable.nonzero(as_tuple=True)
        if len(good):
            old = None if before is None else (before.predictions[good], before.paths[good])
            vector, squared[good], paths[good], found[good] = self._residual(predictions[good], y[good], old)
            L = G.factor.reshape(B, N, d, d)[good]
            residual[good] = (vector[..., None, :] @ L)[..., 0, :]
            back = torch.linalg.inv(at_start.factor[good].mT)[:, None]
            columns = (A.reshape(B, N, d, d)[good] for A in (there.by_point, there.by_velocity))
            by_point, by_velocity = (L.mT @ A @ back for A in columns)
            J[good] = torch.cat([by_point, x[good, :, None, None] * by_velocity], dim=-1)
        return _State(p, v, predictions, J, residual, squared, paths, found)

    def _residual(
        self, z: Tensor, y: Tensor, old: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logarithms of y at predictions z, squared distances, paths, and whether they were found, (B, N, ...)."""
        B, N, d = y.shape
        T, event = self.stride.segments, self.manifold.latent_shape or (d,)
        ends = z.reshape(-1, d), y.reshape(-1, d)
        init = straight_path(*ends, T)
        if old is not None:
            # The last geodesic, its end moved: a start from which few steps are left, and the same geodesic again.
            # Where the end has moved as far as the point is away, it is no better than the straight line.
            shift, path = ends[0] - old[0].reshape(-1, d), old[1].reshape(-1, T + 1, d)
            fade = torch.linspace(1, 0, T + 1, dtype=y.dtype, device=y.device)[:, None]
            moved = path + fade * shift[:, None]
            near = shift.norm(dim=-1) < (ends[1] - ends[0]).norm(dim=-1) / 2
            init = torch.where(near[:, None, None], moved, init)
            init[:, 0], init[:, -1] = ends
        a, b = (z.reshape(-1, *event) for z in ends)
        init = init.reshape(-1, T + 1, *event)
        solution = solve(self.manifold, a, b, init=init, tol=_SOLVED[y.dtype])
        there = log_map(self.manifold, a, b, method="discrete", solution=solution)
        vector, found = there.vector.reshape(-1, d).clone(), there.converged.clone()
        # The discrete logarithm is the gradient of the discrete energy: with it as the squared distance nothing of
        # order 1/T^2 stands between the loss and its gradient.
        squared = 2 * solution.energy
        if self.stride.method == "ode":
            spread = (y - y.mean(1, keepdim=True)).norm(dim=-1).amax(1, keepdim=True)
            long = ((y - z).norm(dim=-1) > _SHORT * spread).flatten()
            squared = there.length.square()
            if bool(long.any()):
                shot = log_map(self.manifold, a[long], b[long], rtol=self.stride.rtol, solution=_paths(solution, long))
                vector[long], found[long] = shot.vector.reshape(-1, d), shot.converged
                squared[long] = shot.length.square()
        return (
            vector.reshape(B, N, d),
            squared.reshape(B, N),
            solution.path.reshape(B, N, T + 1, d),
            found.reshape(B, N),
        )

    def towards(self, mean: _State) -> _State:
        """The linear regression of the logarithms at the mean, or the mean itself where that is nearer."""
        L = inverse_at(self.manifold, mean.point).factor
        frame = (self.x[..., None] * mean.residual).mean(1)
        v = torch.linalg.solve_triangular(L.mT, frame[..., None], upper=True)[..., 0]
        regular = v.isfinite().all(-1, keepdim=True)
        guess = self.at(mean.point, torch.where(regular, v, 0))
        (worse,) = (guess.loss > mean.loss).nonzero(as_tuple=True)
        return guess if not len(worse) else guess.replaced(worse, _some(mean, worse))

    def improved(self, state: _State, max_steps: int, *, total: Tensor, slope: bool) -> _Improved:
        """Levenberg and Marquardt's steps for all rows that are still open; without a slope the velocity stays."""
        B, N, d = self.y.shape
        k = 2 * d if slope else d
        discrete = self.stride.method == "discrete"
        eps = torch.finfo(self.y.dtype).eps
        slack = 1e4 * eps if discrete else 10 * self.stride.rtol  # of the loss, by which it is not known
        damping = torch.full_like(total, _DAMPING)
        steps = torch.zeros(B, dtype=torch.long, device=self.y.device)
        status = torch.full_like(steps, Outcome.MAX_STEPS)
        status[~state.loss.isfinite()] = Outcome.NOT_FINITE
        eye = torch.eye(k, dtype=self.y.dtype, device=self.y.device)
        for attempt in range(max_steps + 1):
            J = state.jacobian[..., :k].flatten(1, 2)
            r = state.residual.flatten(1, 2)
            H, g = J.mT @ J, (J.mT @ r[..., None])[..., 0]
            size = H.diagonal(dim1=-2, dim2=-1)
            # What a step without damping moves the predictions by, squared.
            tiny = eps * size.amax(-1)[:, None, None] * eye
            move = torch.linalg.vecdot(g, torch.linalg.solve_ex(H + tiny, g[..., None]).result[..., 0])
            still = (move <= self.tol**2 * total) & (status == Outcome.MAX_STEPS)
            near = state.squared <= _NEAR**2 * (total / N)[:, None]
            sure = (state.found | near).all(1)
            status[still] = torch.where(sure, Outcome.CONVERGED, Outcome.NO_GEODESIC)[still]
            (rows,) = (status == Outcome.MAX_STEPS).nonzero(as_tuple=True)
            if not len(rows) or attempt == max_steps:
                break
            damped = H[rows] + torch.diag_embed(damping[rows, None] * size[rows]) + tiny[rows]
            step = torch.linalg.solve_ex(damped, g[rows][..., None]).result[..., 0]
            trial = self._stepped(state, rows, step)
            better = trial.loss <= state.loss[rows] * (1 + slack)
            taken = better.nonzero(as_tuple=True)[0]
            if len(taken):
                state = state.replaced(rows[taken], _some(trial, taken))
            damping[rows] = torch.where(better, damping[rows] / 10, damping[rows] * 10)
            steps[rows] += 1
            status[rows[damping[rows] > _MOST_DAMPING]] = Outcome.STALLED
        return _Improved(state, status, steps)

    def _stepped(self, state: _State, rows: Tensor, step: Tensor) -> _State:
        d = self.y.shape[-1]
        now = _some(state, rows)
        step = torch.nan_to_num(torch.nn.functional.pad(step, (0, 2 * d - step.shape[-1])))
        L = inverse_at(self.manifold, now.point).factor
        change, turn = (
            torch.linalg.solve_triangular(L.mT, part[..., None], upper=True)[..., 0] for part in step.split(d, dim=-1)
        )
        p, v = self.stride.vary(self.manifold, now.point, now.velocity, change, turn)
        usable = (p.isfinite() & v.isfinite()).all(-1, keepdim=True)
        return self.at(torch.where(usable, p, now.point), torch.where(usable, v, now.velocity), now, rows)


def _middle(manifold: Manifold, y: Float[Tensor, "B N d"]) -> Float[Tensor, "B d"]:
    """The latent means, or the points nearest to them where the metric there is singular."""
    mean = y.mean(1)
    nearest = (y - mean[:, None]).norm(dim=-1).argmin(1)
    return torch.where(
        inverse_at(manifold, mean).regular[:, None], mean, y[torch.arange(len(y), device=y.device), nearest]
    )


def _paths(solution: GeodesicSolution, rows: Tensor) -> GeodesicSolution:
    """The solution of some of the pairs, along one batch axis."""
    values = {field.name: getattr(solution, field.name) for field in fields(solution)}
    some: dict[str, Any] = {name: x[rows] for name, x in values.items() if isinstance(x, Tensor)}
    return replace(solution, **some)


def _some(state: _State, rows: Tensor) -> _State:
    return _State(**{name: getattr(state, name)[rows] for name in state.__dataclass_fields__})


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
