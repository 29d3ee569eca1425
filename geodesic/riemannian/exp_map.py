"""The exponential map: where a geodesic leads that leaves a point with a velocity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.inverse import MetricInverse, require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import Rows, require_limit
from geodesic.riemannian.flow import default_rtol, follow
from geodesic.riemannian.outcome import Outcome

__all__ = ["ExponentialMap", "exp_map"]

_SPEED = 1000  # times rtol: the largest relative change of the speed along what counts as a geodesic


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
    segments: int = 32,
    rtol: float | None = None,
    max_steps: int = 10_000,
) -> ExponentialMap:
    """Exponential map exp_z(t v): the point at time t of the geodesic that leaves z with velocity v.

    z'' = -Gamma(z', z') = -(J^T J)^{-1} J^T D^2 x (z', z')

    Followed by Dormand and Prince's method of order 8, with a step size for each row. Christoffel symbols are never
    formed: their product with a velocity is one second derivative along a curve, pulled back.

    Warning:
        Decoders with kinks (ReLU) have no geodesic equation: between the kinks their second derivatives vanish, and
        the kinks themselves are not seen. Such rows are reported as `Outcome.SPEED_CHANGED`.

    Reference:
        G. Arvanitidis, L. K. Hansen, S. Hauberg, Latent Space Oddity, 2018, equation 8; for the projection onto a
        decoder's image see `shoot`.

    Args:
        manifold: Where to follow the geodesics.
        z: Points, (*batch, d), floating point; (*batch, *latent_shape) for a manifold with a `latent_shape`.
        v: Velocities there in latent coordinates, of the same shape.
        t: Time to follow them for, a number or (*batch,); negative times lead backwards.
        segments: Number T of segments of the path that is returned. It does not influence the accuracy.
        rtol: Largest error of a step, relative to the length of the path, measured by the metric. By default 1e-8 in
            float64 and 1e-5 in float32.
        max_steps: Most steps of the integration that a row may attempt.

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
    rows, v_rows = given.rows
    time = times(t, given, rows)
    with torch.inference_mode(False):
        G = manifold.metric_tensor(rows).detach()
        require_regular(rows, MetricInverse(G))
        pace = v_rows * time[:, None]
        moving = (pace != 0).any(-1)
        states = torch.cat([rows, pace], dim=-1)[:, None].expand(-1, segments + 1, -1).clone()
        share, steps = torch.ones_like(time), torch.zeros(len(rows), dtype=torch.long, device=rows.device)
        stuck = ~moving & False
        if moving.any():
            run = follow(manifold, rows[moving], pace[moving], segments, rtol, max_steps)
            states[moving], share[moving], steps[moving], stuck[moving] = run.states, run.time, run.steps, run.stuck
        path, velocity = states.split(rows.shape[-1], dim=-1)
        with torch.no_grad():
            speed = manifold.squared_norm(path, velocity).clamp_min(0).sqrt()
    change = ((speed - speed[:, :1]).abs().amax(-1) / speed[:, 0]).nan_to_num(nan=torch.inf)
    change = torch.where(moving, change, 0)
    status = torch.full_like(steps, Outcome.CONVERGED)
    status = torch.where(change > _SPEED * rtol, Outcome.SPEED_CHANGED, status)
    status = torch.where(share < 1, Outcome.MAX_STEPS, status)
    status = torch.where(stuck, Outcome.NOT_FINITE, status)
    still = (time == 0)[:, None, None]
    velocity = torch.where(still, v_rows[:, None], velocity / torch.where(still, 1, time[:, None, None]))
    return ExponentialMap(
        point=given.back(path[:, -1]),
        path=given.back(path),
        velocity=given.back(velocity),
        time=given.each(share * time),
        speed_change=given.each(change),
        converged=given.each(status == Outcome.CONVERGED),
        status=given.each(status),
        steps=given.each(steps),
    )


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


def times(t: Any, given: Rows, rows: Tensor) -> Float[Tensor, " N"]:
    """The times that were given, one for each row."""
    if isinstance(t, Tensor) and t.dim() > 0:
        if t.shape != given.batch or not bool(t.isfinite().all()):
            raise InputError(f"t: expected finite times, a number or of shape {tuple(given.batch)}, got {t}")
        return t.detach().to(rows).reshape(-1)
    number = float(t)
    if not math.isfinite(number):
        raise InputError(f"t: expected a finite time, got {t!r}")
    return rows.new_full((len(rows),), number)
