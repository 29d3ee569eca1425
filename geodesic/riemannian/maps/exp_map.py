"""The exponential map: where a geodesic leads that leaves a point with a velocity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import Rows, inverse_at, norms_at, require_limit
from geodesic.riemannian.maps.discrete import follow_discretely
from geodesic.riemannian.maps.flow import default_rtol, follow, require_method
from geodesic.riemannian.outcome import Outcome

__all__ = ["ExponentialMap", "exp_map"]

SPEED = 1000  # times rtol: the largest relative change of the speed along what counts as a geodesic
_DISCRETE_SPEED = 1e-2  # the same for steps of second order, whose error `segments` decides


@dataclass(frozen=True)
class ExponentialMap:
    """Geodesics that leave points with given velocities. Leading axes are those of the points.

    Attributes:
        point: Where they are at the given time, (*batch, d); where they were lost, if they do not get there.
        path: Nodes at equal times, (*batch, T + 1, d).
        velocity: Velocities at the nodes, (*batch, T + 1, d), per unit of the caller's time.
        time: Up to when each was followed, (*batch,).
        speed_change: Largest relative difference of the speed along the path to the initial one, (*batch,): zero for
            an exact geodesic, and so a check that owes nothing to the integrator's own estimates.
        converged: Whether the time was reached at constant speed, (*batch,), boolean.
        status: Why the row ended, an `Outcome` as integer, (*batch,).
        steps: Steps attempted, (*batch,).
    """

    point: Float[Tensor, "*point"]
    path: Float[Tensor, "*path"]
    velocity: Float[Tensor, "*path"]
    time: Float[Tensor, "*batch"]
    speed_change: Float[Tensor, "*batch"]
    converged: Bool[Tensor, "*batch"]
    status: Int[Tensor, "*batch"]
    steps: Int[Tensor, "*batch"]


def exp_map(
    manifold: Manifold,
    z: Tensor,
    v: Tensor,
    t: float | Tensor = 1.0,
    *,
    method: str = "ode",
    segments: int = 32,
    rtol: float | None = None,
    max_steps: int = 1000,
) -> ExponentialMap:
    """Exponential map exp_z(t v): the point at time t of the geodesic that leaves z with velocity v.

    z'' = -Gamma(z', z') = -(J^T J)^{-1} J^T D^2 x (z', z')

    "ode" follows this equation by Dormand and Prince's method of order 8, with a step size for each row. Christoffel
    symbols are never formed: their product with a velocity is one second derivative along a curve, pulled back.
    "discrete" takes T steps, each of which makes the derivative of the discrete energy vanish: of second order in 1/T,
    the exact inverse of what `solve` finds with as many segments, and without second derivatives.

    Warning:
        Decoders with kinks (ReLU) have no geodesic equation: between the kinks their second derivatives vanish, and
        the kinks themselves are not seen; such rows are reported as `Outcome.SPEED_CHANGED`. Where second derivatives
        jump (ELU), every jump costs "ode" a series of short steps. For both take "discrete", whose chords see all of
        it; a step into a kink so sharp that it has no solution is reported as `Outcome.STALLED`.

    Reference:
        "ode": G. Arvanitidis, L. K. Hansen, S. Hauberg, Latent Space Oddity, 2018. "discrete": M. Rumpf, B. Wirth,
        Variational time discretization of geodesic calculus, 2015. For the projection onto a decoder's image see
        `shoot`.

    Args:
        manifold: Where to follow the geodesics.
        z: Points, (*batch, d), floating point; (*batch, *latent_shape) for a manifold with a `latent_shape`.
        v: Velocities there in latent coordinates, of the same shape.
        t: Time to follow them for, a number or (*batch,); negative times lead backwards.
        method: "ode" or "discrete".
        segments: Number T of segments of the path that is returned. For "ode" it does not influence the accuracy.
        rtol: Largest error of a step, relative to the length of the path, measured by the metric. By default 1e-8 in
            float64 and 1e-5 in float32.
            For "ode" alone.
        max_steps: Most steps of the integration that a row may attempt. For "ode" alone.

    Returns:
        The points, the paths to them, and what happened to each row.

    Raises:
        InputError: Shapes, dtypes or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point z is singular.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> equator, south = torch.tensor([torch.pi / 2, 0.0]), torch.tensor([1.0, 0.0])
        >>> answer = geodesic.exp_map(geodesic.Sphere(), equator, south, t=0.5)
        >>> print([round(x, 4) for x in answer.point.tolist()], bool(answer.converged))
        [2.0708, 0.0] True
    """
    given = Rows(manifold, z=z, v=v)
    require_limit(manifold, "exponential map")
    rtol = checked(rtol, z.dtype, segments, max_steps)
    require_method(method)
    rows, v_rows = given.rows
    time = times(t, given, rows)
    with torch.inference_mode(False):
        require_regular(rows, inverse_at(manifold, rows))
        pace = v_rows * time[:, None]
        moving = (pace != 0).any(-1)
        if method == "ode":
            flow = _follow(manifold, rows, pace, moving, segments, rtol, max_steps)
        else:
            flow = _follow_discretely(manifold, rows, pace, segments)
        speed = norms_at(manifold, flow.path, flow.velocity)
    allowed = SPEED * rtol if method == "ode" else _DISCRETE_SPEED
    change, status = judged(speed, moving, flow.status, allowed)
    path, velocity = flow.path, flow.velocity
    still = (time == 0)[:, None, None]
    velocity = torch.where(still, v_rows[:, None], velocity / torch.where(still, 1, time[:, None, None]))
    return ExponentialMap(
        point=given.back(path[:, -1]),
        path=given.back(path),
        velocity=given.back(velocity),
        time=given.each(flow.time * time),
        speed_change=given.each(change),
        converged=given.each(status == Outcome.CONVERGED),
        status=given.each(status),
        steps=given.each(flow.steps),
    )


class _Flow(NamedTuple):
    """What either method finds: (N, T + 1, d) twice, and (N,) each."""

    path: Tensor
    velocity: Tensor
    time: Tensor
    status: Tensor
    steps: Tensor


def _follow(
    manifold: Manifold, z: Tensor, v: Tensor, moving: Tensor, segments: int, rtol: float, max_steps: int
) -> _Flow:
    states = torch.cat([z, v], dim=-1)[:, None].expand(-1, segments + 1, -1).clone()
    time, steps = torch.ones_like(z[:, 0]), torch.zeros(len(z), dtype=torch.long, device=z.device)
    status = torch.full_like(steps, Outcome.CONVERGED)
    if moving.any():
        run = follow(manifold, z[moving], v[moving], segments, rtol, max_steps)
        states[moving], time[moving], steps[moving] = run.states, run.time, run.steps
        status[moving] = ended(run.time, run.stuck)
    path, velocity = states.split(z.shape[-1], dim=-1)
    return _Flow(path, velocity, time, status, steps)


def _follow_discretely(manifold: Manifold, z: Tensor, v: Tensor, segments: int) -> _Flow:
    path, velocity, time = follow_discretely(manifold, z, v, segments)
    steps = (time * segments).round().long()
    return _Flow(path, velocity, time, torch.where(time < 1, Outcome.STALLED, Outcome.CONVERGED), steps)


def checked(rtol: Any, dtype: torch.dtype, segments: Any, max_steps: Any) -> float:
    """The tolerance to use, after the settings of an integration have been checked."""
    for name, value in (("segments", segments), ("max_steps", max_steps)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name}: expected an integer of at least 1, got {value!r}")
    if rtol is None:
        return default_rtol(dtype)
    if isinstance(rtol, bool) or not isinstance(rtol, int | float) or not 0 < rtol < 1:
        raise InputError(f"rtol: expected a number between 0 and 1, got {rtol!r}")
    least = 10 * torch.finfo(dtype).eps
    if rtol < least:
        raise InputError(f"rtol: expected at least {least:.1e}, which is what {dtype} can tell apart, got {rtol!r}")
    return float(rtol)


def ended(time: Float[Tensor, " N"], stuck: Bool[Tensor, " N"]) -> Int[Tensor, " N"]:
    """The `Outcome` of an integration over [0, 1] that came so far."""
    status = torch.where(time < 1, Outcome.MAX_STEPS, Outcome.CONVERGED)
    return torch.where(stuck, Outcome.NOT_FINITE, status)


def judged(
    speed: Float[Tensor, "N nodes"], moving: Bool[Tensor, " N"], status: Int[Tensor, " N"], allowed: float
) -> tuple[Float[Tensor, " N"], Int[Tensor, " N"]]:
    """The relative change of the speed along geodesics, and their status with it: none that converged may exceed it."""
    change = ((speed - speed[:, :1]).abs().amax(-1) / speed[:, 0]).nan_to_num(nan=torch.inf)
    change = torch.where(moving, change, 0)
    return change, torch.where((status == Outcome.CONVERGED) & (change > allowed), Outcome.SPEED_CHANGED, status)


def times(t: Any, given: Rows, rows: Tensor) -> Float[Tensor, " N"]:
    """The times that were given, one for each row."""
    if isinstance(t, Tensor) and t.dim() > 0:
        if t.shape != given.batch or not bool(t.isfinite().all()):
            raise InputError(f"t: expected finite times, a number or of shape {tuple(given.batch)}, got {t!r}")
        return t.detach().to(rows).reshape(-1)
    if isinstance(t, bool) or not isinstance(t, int | float | Tensor) or not math.isfinite(number := float(t)):
        raise InputError(f"t: expected a finite time, a number or of shape {tuple(given.batch)}, got {t!r}")
    return rows.new_full((len(rows),), number)
