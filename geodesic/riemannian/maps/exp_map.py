"""The exponential map: where a geodesic leads that leaves a point with a velocity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.geometry.checks import guarded
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import grouped, rows_at_once
from geodesic.geometry.points import Rows, inverse_at, norms_at, require_limit
from geodesic.keywords import renamed
from geodesic.riemannian.endings import after_integration, at_constant_speed, unless_unseen
from geodesic.riemannian.maps.discrete import follow_discretely
from geodesic.riemannian.maps.flow import follow as integrate
from geodesic.riemannian.maps.follow import IN_FOLLOW, Follow, method_at, stride_of
from geodesic.riemannian.maps.followed import Followed
from geodesic.riemannian.maps.refraction import follow_refracting, has_affine_pieces, require_affine_pieces
from geodesic.riemannian.maps.stride import Stride, times_from
from geodesic.solvers.status import Status

__all__ = ["ExponentialMap", "exp_map", "per_time"]

_DISCRETE_SPEED = 1e-2  # largest relative change of the speed after steps of second order, which `segments` decides
_REFRACTED_SPEED = 1e-6  # the same where geodesics are exact to rounding
_MOST_STEPS = 512  # to so many "discrete" goes where nobody says how many it takes


@dataclass(frozen=True)
class ExponentialMap(Followed):
    """Geodesics that leave points with given velocities. Leading axes are those of the points.

    Attributes:
        point: Where they are at the given time, (*batch, d); where they were lost, if they do not get there.
        path: Nodes at equal times, (*batch, T + 1, d).
        velocity: Velocities at the nodes, (*batch, T + 1, d), per unit of the caller's time.
        time: Up to when each was followed, (*batch,).
        rank_deficiency: Latent directions that the decoder ignores at the point, (*batch,), integer: nothing moves
            along them.
        error: Largest relative difference of the speed along the path to the initial one, (*batch,): zero for
            an exact geodesic, and so a check that owes nothing to the integrator's own estimates.
        converged: Whether the time was reached at constant speed, (*batch,), boolean.
        status: Why the row ended, a `Status` as integer, (*batch,).
        iterations: Steps of the integration attempted, (*batch,).
    """

    point: Float[Tensor, "*point"]
    path: Float[Tensor, "*path"]
    velocity: Float[Tensor, "*path"]
    time: Float[Tensor, "*batch"]


@guarded
@renamed(**(IN_FOLLOW | {"max_steps": IN_FOLLOW["max_iterations"]}))
def exp_map(
    manifold: Manifold,
    z: Tensor,
    v: Tensor,
    t: float | Tensor = 1.0,
    *,
    follow: Follow = Follow(),
) -> ExponentialMap:
    """Exponential map exp_z(t v): the point at time t of the geodesic that leaves z with velocity v.

    z'' = -Gamma(z', z') = -(J^T J)^{-1} J^T D^2 x (z', z')

    "ode" follows this equation by Dormand and Prince's method of order 8, with a step size for each row. Christoffel
    symbols are never formed: their product with a velocity is one second derivative along a curve, pulled back.
    "discrete" takes T steps, each of which makes the derivative of the discrete energy vanish: of second order in 1/T,
    the exact inverse of what `solve` finds with as many segments, and without second derivatives. "refraction" is for
    decoders that are affine on pieces, such as networks of ReLUs with a linear end under Euclidean outputs, and exact
    there: pieces are flat, geodesics straight on each of them, and at a face they go on straight in the plane that the
    pieces on both sides unfold to. Unless told otherwise it is "ode" where second derivatives are continuous,
    "refraction" where outputs are affine on pieces in float64, and "discrete" elsewhere.

    Warning:
        Decoders with kinks (ReLU) have no geodesic equation: between the kinks their second derivatives vanish, and
        the kinks themselves are not seen; "ode" reports such rows as `Status.SPEED_CHANGED`. Where second derivatives
        jump (ELU), every jump costs "ode" a series of short steps. The chords of "discrete" see all of it; a step into
        a kink so sharp that it has no solution is reported as `Status.NO_NEARER`. At a vertex, where several faces
        meet, and at a piece of lower rank no direction is the straight one: "refraction" ends there, as
        `Status.CUT_SHORT`. A piece far narrower than the last one that was crossed may be missed. A velocity at a
        point on a face is one of the piece that it leads into.

    Reference:
        "ode": G. Arvanitidis, L. K. Hansen, S. Hauberg, Latent Space Oddity, 2018. "discrete": M. Rumpf, B. Wirth,
        Variational time discretization of geodesic calculus, 2015. For the projection onto a decoder's image see
        `shoot`.

    Args:
        manifold: Where to follow the geodesics.
        z: Points, (*batch, d), floating point; (*batch, *latent_shape) for a manifold with a `latent_shape`.
        v: Velocities there in latent coordinates, of the same shape.
        t: Time to follow them for, a number or (*batch,); negative times lead backwards.
        follow: How the geodesics are followed, see `Follow`; unless told otherwise "ode" takes at most 1000 steps, and
            paths have 32 segments. Where nobody says how many, rows whose speed changes by more than a hundredth in the
            32 steps of "discrete" are tried with up to 512, and these taken where they mend it.

    Returns:
        The points, the paths to them, and what happened to each row. Without history.

    Raises:
        InputError: Shapes, dtypes or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point z is singular, and its rank not the same all around: a pole. Where
            the decoder ignores a direction everywhere near z, the part of v along it is dropped; where the rank changes
            on the way, rows are reported as `Status.CUT_SHORT`.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> equator, south = torch.tensor([torch.pi / 2, 0.0]), torch.tensor([1.0, 0.0])
        >>> answer = geodesic.exp_map(geodesic.surfaces.Sphere(), equator, south, t=0.5)
        >>> print([round(x, 4) for x in answer.point.tolist()], bool(answer.converged))
        [2.0708, 0.0] True
    """
    given = Rows(manifold, z=z, v=v)
    require_limit(manifold, "exponential map")
    rows, v_rows = given.rows
    stride = stride_of(follow, z.dtype, _method_at(follow, manifold, rows), refracts=True)
    if stride.method == "refraction":
        require_affine_pieces(manifold, rows)
    time = times_from(t, given, rows)
    with torch.inference_mode(False):
        inverse = inverse_at(manifold, rows, on_range=True)
        require_regular(rows, inverse)
        pace = inverse.seen(v_rows) * time[:, None]
        moving = (pace != 0).any(-1)
        if stride.method == "ode":
            flow = _by_equation(manifold, rows, pace, stride)
        elif stride.method == "refraction":
            flow = _by_refraction(manifold, rows, pace, stride.segments)
        else:
            flow = _by_energy(manifold, rows, pace, stride.segments)
            if follow.segments is None:
                flow = _in_shorter_steps(manifold, flow, pace)
        speed = norms_at(manifold, flow.path, flow.velocity) if flow.speed is None else flow.speed
        change, status = at_constant_speed(speed, moving, flow.status, flow.speed_rtol)
        status = unless_unseen(manifold, flow.path, status, speed)
        if bool(inverse.deficiency.any()):
            ignored = inverse_at(manifold, flow.path, on_range=True).deficiency
            uneven = (ignored != inverse.deficiency[:, None]).any(-1)
            status = torch.where(uneven & (status == Status.CONVERGED), Status.CUT_SHORT, status)
    return ExponentialMap(
        point=given.back(flow.path[:, -1]),
        path=given.back(flow.path),
        velocity=given.back(per_time(flow.velocity, v_rows, time)),
        time=given.each(flow.time * time),
        error=given.each(change),
        converged=given.each(status == Status.CONVERGED),
        status=given.each(status),
        iterations=given.each(flow.iterations),
        method=stride.method,
        rank_deficiency=given.each(inverse.deficiency),
    )


def _method_at(follow: Follow, manifold: Manifold, z: Float[Tensor, "N d"]) -> str:
    """`method_at`, and "refraction" where it would be "discrete" and outputs are affine on pieces."""
    method = method_at(follow, manifold, z)
    left_open = isinstance(follow, Follow) and follow.method is None and method == "discrete"
    refracts = left_open and manifold.has_embedding and z.dtype == torch.float64
    return "refraction" if refracts and has_affine_pieces(manifold, z) else method


def per_time(
    velocity: Float[Tensor, "N nodes d"], v: Float[Tensor, "N d"], time: Float[Tensor, " N"]
) -> Float[Tensor, "N nodes d"]:
    """Velocities over unit time, per unit of the caller's time; those that were given where no time passes."""
    still = (time == 0)[:, None, None]
    return torch.where(still, v[:, None], velocity / torch.where(still, 1, time[:, None, None]))


class _Flow(NamedTuple):
    """What either method finds, for N rows, and by how much speeds may change along it."""

    path: Float[Tensor, "N nodes d"]
    velocity: Float[Tensor, "N nodes d"]
    time: Float[Tensor, " N"]
    status: Int[Tensor, " N"]
    iterations: Int[Tensor, " N"]
    speed_rtol: float
    speed: Float[Tensor, "N nodes"] | None = None

    def replaced(self, rows: Tensor, other: _Flow, chosen: Tensor) -> _Flow:
        """With rows, by their numbers, taken from the chosen ones of another."""
        return _Flow(
            path=self.path.index_put((rows,), other.path[chosen]),
            velocity=self.velocity.index_put((rows,), other.velocity[chosen]),
            time=self.time.index_put((rows,), other.time[chosen]),
            status=self.status.index_put((rows,), other.status[chosen]),
            iterations=self.iterations.index_put((rows,), other.iterations[chosen]),
            speed_rtol=self.speed_rtol,
        )


def _by_equation(manifold: Manifold, z: Tensor, v: Tensor, stride: Stride) -> _Flow:
    moving = (v != 0).any(-1)
    states = torch.cat([z, v], dim=-1)[:, None].expand(-1, stride.segments + 1, -1).clone()
    time, steps = torch.ones_like(z[:, 0]), torch.zeros(len(z), dtype=torch.long, device=z.device)
    status = torch.full_like(steps, Status.CONVERGED)
    if moving.any():
        run = integrate(manifold, z[moving], v[moving], stride)
        states[moving], time[moving], steps[moving] = run.states, run.time, run.steps
        status[moving] = after_integration(run.time, run.stuck)
    path, velocity = states.split(z.shape[-1], dim=-1)
    return _Flow(path, velocity, time, status, steps, stride.speed_rtol)


def _by_refraction(manifold: Manifold, z: Tensor, v: Tensor, segments: int) -> _Flow:
    size = rows_at_once(manifold, z, order=1) // 4  # several points of a row are looked at together
    with torch.no_grad():
        flow = grouped(lambda z, v: follow_refracting(manifold, z, v, segments), size, z, v)
    path, velocity, speed, time, status, faces = flow
    return _Flow(path, velocity, time, status, faces, _REFRACTED_SPEED, speed)


def _by_energy(manifold: Manifold, z: Tensor, v: Tensor, segments: int) -> _Flow:
    path, velocity, time = follow_discretely(manifold, z, v, segments)
    steps = (time * segments).round().long()
    status = torch.where(time < 1, Status.NO_NEARER, Status.CONVERGED)
    return _Flow(path, velocity, time, status, steps, _DISCRETE_SPEED)


def _in_shorter_steps(manifold: Manifold, flow: _Flow, v: Tensor) -> _Flow:
    """The flow, with rows whose speed changes followed in so many more steps that it does not.

    They take twice the steps as long as this halves the change. Their nodes are those at the times of the others. Rows
    that need no more steps, or that gain nothing, stay the inverse of what `solve` finds with as many segments.
    """
    nodes = steps = flow.path.shape[1] - 1
    change = _change(manifold, flow, v)
    (rows,) = (change > _DISCRETE_SPEED).nonzero(as_tuple=True)
    while len(rows) and (steps := 2 * steps) <= _MOST_STEPS:
        finer = _by_energy(manifold, flow.path[rows, 0], v[rows], steps)
        finer = finer._replace(path=finer.path[:, :: steps // nodes], velocity=finer.velocity[:, :: steps // nodes])
        after = _change(manifold, finer, v[rows])
        steady = after <= _DISCRETE_SPEED
        better = ~steady & (after < change[rows] / 2)
        flow = flow.replaced(rows[steady], finer, steady)
        change = change.index_put((rows,), after)
        rows = rows[better]
    return flow


def _change(manifold: Manifold, flow: _Flow, v: Tensor) -> Float[Tensor, " N"]:
    """By how much the speed changes, relative to the first; without bound where a row did not reach its end."""
    speed = norms_at(manifold, flow.path, flow.velocity)
    change, _ = at_constant_speed(speed, (v != 0).any(-1), flow.status, flow.speed_rtol)
    return torch.where(flow.time < 1, torch.inf, change)
