"""Levenberg and Marquardt's method for geodesics, many at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.riemannian.records import Record
from geodesic.riemannian.statistics.fit import Data, Fit
from geodesic.riemannian.statistics.stop import Stop
from geodesic.solvers.doubts import of_all
from geodesic.solvers.status import Status

__all__ = ["Improved", "least_squares", "near_enough"]

_NEAR = 1e-7  # times the spread: predictions this near to a point need no certified geodesic to it
_DAMPING = 1e-3  # at first, as a share of the diagonal
_MOST_DAMPING = 1e8


@dataclass(frozen=True)
class Improved(Record):
    """Fits, why the search for each ended, the steps it took, and the damping of the next one.

    Attributes:
        error: By what share of the root of the total a step without damping moves the predictions.
    """

    fit: Fit
    status: Int[Tensor, " B"]
    iterations: Int[Tensor, " B"]
    error: Float[Tensor, " B"]
    damping: Float[Tensor, " B"]


@dataclass(frozen=True)
class _Normal(Record):
    """Gauss and Newton's equations H step = g, with a little on the diagonal, and the squared norm of that step.

    The norm is that by which the step without damping moves the predictions.
    """

    H: Float[Tensor, "B k k"]
    g: Float[Tensor, "B k"]
    tiny: Float[Tensor, "B k k"]
    move: Float[Tensor, " B"]


def least_squares(data: Data, start: Fit, *, columns: int, total: Float[Tensor, " B"], stop: Stop) -> Improved:
    """Lessen the sum of squared distances of geodesics from points.

    (H + damping diag H) step = g,   H = J^T J,   g = J^T log_prediction(y)

    Args:
        data: The points.
        start: Where to begin.
        columns: How many columns of the Jacobian to use: d, which leaves the velocity as it is, or 2 d.
        total: Sums of squares about the mean, whose roots are the unit of errors.
        stop: When a fit has converged, and how many steps a row may take.
    """
    none = torch.zeros_like(total, dtype=torch.long)
    status = torch.where(start.loss.isfinite(), Status.MAX_ITERATIONS, Status.CUT_SHORT)
    now = Improved(start, status, none, torch.full_like(total, torch.nan), torch.full_like(total, _DAMPING))
    tol, most = stop.tolerance(total.dtype), stop.max_iterations
    for attempt in range(most + 1):
        now, normal = _judged(data, now, columns, total, tol)
        (rows,) = (now.status == Status.MAX_ITERATIONS).nonzero(as_tuple=True)
        if not len(rows) or attempt == most:
            break
        now = now.replaced(rows, _stepped(data.of(rows), now.of(rows), normal.of(rows)))
    return replace(now, fit=_certified(data, now.fit, now.status != Status.CUT_SHORT))


def _normal_equations(fit: Fit, columns: int) -> _Normal:
    J = fit.jacobian[..., :columns].flatten(1, 2)
    H, g = J.mT @ J, (J.mT @ fit.residual.flatten(1, 2)[..., None])[..., 0]
    eye = torch.eye(columns, dtype=J.dtype, device=J.device)
    tiny = torch.finfo(J.dtype).eps * H.diagonal(dim1=-2, dim2=-1).amax(-1)[:, None, None] * eye
    move = torch.linalg.vecdot(g, torch.linalg.solve_ex(H + tiny, g[..., None]).result[..., 0])
    return _Normal(H, g, tiny, move)


def _judged(
    data: Data, now: Improved, columns: int, total: Float[Tensor, " B"], tol: float
) -> tuple[Improved, _Normal]:
    """With the errors, and the status of rows that have ended; and the equations of the next step.

    An error that is small enough by geodesics that were kept near is measured again by certified ones.
    """
    normal = _normal_equations(now.fit, columns)
    near = (now.status == Status.MAX_ITERATIONS) & (_error(normal, total) <= tol)
    fit = _certified(data, now.fit, near)
    if fit is not now.fit:
        now, normal = replace(now, fit=fit), _normal_equations(fit, columns)
    return _ended(now, normal, total, tol), normal


def _certified(data: Data, fit: Fit, wanted: Bool[Tensor, " B"]) -> Fit:
    """The fit with certified geodesics in some rows, where they are not yet."""
    (rows,) = (wanted & (fit.doubts == Status.RUNNING).any(-1)).nonzero(as_tuple=True)
    return fit.replaced(rows, data.of(rows).certified(fit.of(rows))) if len(rows) else fit


def _error(normal: _Normal, total: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    return torch.where(normal.move > 0, (normal.move.clamp_min(0) / total).sqrt(), 0)


def _ended(now: Improved, normal: _Normal, total: Float[Tensor, " B"], tol: float) -> Improved:
    """With the status of the rows whose predictions would hardly move any more."""
    error = _error(normal, total)
    still = (error <= tol) & (now.status == Status.MAX_ITERATIONS)
    reached = of_all(near_enough(now.fit, total))
    return replace(now, status=torch.where(still, reached, now.status), error=error)


def near_enough(fit: Fit, total: Float[Tensor, " B"]) -> Int[Tensor, "B N"]:
    """How the geodesics of a fit ended, but for those to points so near that their chords are rounding."""
    near = fit.squared <= _NEAR**2 * (total / fit.squared.shape[1])[:, None]
    return torch.where(near, Status.CONVERGED, fit.doubts)


def _stepped(data: Data, now: Improved, normal: _Normal) -> Improved:
    """One damped step, taken where it does not raise the sum of squares."""
    eps, rtol = torch.finfo(data.y.dtype).eps, data.stride.rtol
    # Of the loss, by which it is not known.
    near = data.geodesics.path_tol_near(now.error)
    slack = 1e4 * eps + near if data.stride.method == "discrete" else torch.full_like(near, 10 * rtol)
    H, size = normal.H, normal.H.diagonal(dim1=-2, dim2=-1)
    damped = H + torch.diag_embed(now.damping[:, None] * size) + normal.tiny
    trial = data.varied(now.fit, torch.linalg.solve_ex(damped, normal.g[..., None]).result[..., 0], now.error)
    better = trial.loss <= now.fit.loss * (1 + slack)
    (taken,) = better.nonzero(as_tuple=True)
    damping = torch.where(better, now.damping / 10, now.damping * 10)
    return Improved(
        fit=now.fit.replaced(taken, trial.of(taken)),
        status=torch.where(damping > _MOST_DAMPING, Status.NO_NEARER, now.status),
        iterations=now.iterations + 1,
        error=now.error,
        damping=damping,
    )
