"""Jacobi fields: how neighbouring geodesics go apart, and where they meet again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import rows_at_once
from geodesic.geometry.points import Rows, inverse_at, norms_at, require_limit
from geodesic.riemannian.maps.exp_map import SPEED, checked, ended, judged
from geodesic.riemannian.maps.flow import follow_with_neighbours
from geodesic.riemannian.outcome import Outcome

__all__ = ["ConjugatePoints", "JacobiField", "conjugate_points", "jacobi_field"]

_BYTES = 1e9  # of the fields at the nodes, at once
_WINDOW = 1.5  # segments before a conjugate point, in which its angle is looked for
_CORRECTIONS = 2  # of the time, each of which cubes its error; from the worst that a window admits to 1e-10 of it


@dataclass(frozen=True)
class JacobiField:
    """Jacobi fields along geodesics over [0, 1]. Leading axes are those of the points.

    Attributes:
        path: Nodes of the geodesic at equal times, (*batch, T + 1, d).
        velocity: Its velocities there, (*batch, T + 1, d).
        field: The field Y at the nodes, (*batch, T + 1, d).
        derivative: Its covariant derivative D Y/dt there, (*batch, T + 1, d).
        time: Up to when each was followed, (*batch,); nodes behind it repeat what was reached.
        speed_change: Largest relative change of the geodesic's speed, as in `ExponentialMap`, (*batch,).
        converged: Whether time 1 was reached at constant speed, (*batch,), boolean.
        status: Why the row ended, an `Outcome` as integer, (*batch,).
    """

    path: Float[Tensor, "*path"]
    velocity: Float[Tensor, "*path"]
    field: Float[Tensor, "*path"]
    derivative: Float[Tensor, "*path"]
    time: Float[Tensor, "*batch"]
    speed_change: Float[Tensor, "*batch"]
    converged: Bool[Tensor, "*batch"]
    status: Int[Tensor, "*batch"]


@dataclass(frozen=True)
class ConjugatePoints:
    """The first conjugate points along geodesics over [0, 1]. Leading axes are those of the points.

    Attributes:
        time: When the first one is reached, in (0, 1], (*batch,); infinite where there is none, NaN where the geodesic
            could not be followed far enough to tell.
        margin: The smallest singular value of Y(t) / t over the nodes, in orthonormal frames of G(0) and G(t),
            (*batch,): by how much less neighbours go apart than in flat space. At most 1, the value at t = 0; zero
            where there is a conjugate point.
        converged: Whether the time is known, (*batch,), boolean.
        status: Why the row ended, an `Outcome` as integer, (*batch,).
    """

    time: Float[Tensor, "*batch"]
    margin: Float[Tensor, "*batch"]
    converged: Bool[Tensor, "*batch"]
    status: Int[Tensor, "*batch"]


def jacobi_field(
    manifold: Manifold,
    z: Tensor,
    v: Tensor,
    Y: Tensor,
    W: Tensor,
    *,
    segments: int = 32,
    rtol: float | None = None,
    max_steps: int = 10_000,
) -> JacobiField:
    """The Jacobi field Y(t) along the geodesic exp_z(t v), 0 <= t <= 1, from its value and derivative at z.

    D^2 Y/dt^2 + R(Y, v) v = 0

    It is the derivative of a family of geodesics: of exp_{z(s)}(t v(s)) with z'(0) = Y and D v/ds (0) = W. With Y = 0
    this is t times the derivative of the exponential map at t v in the direction W.

    Warning:
        Decoders with kinks: see `exp_map`. Fields grow exponentially where the curvature is negative, and so do errors.

    Reference:
        M. P. do Carmo, Riemannian Geometry, 1992, chapter 5.

    Args:
        manifold: Where to follow the geodesics.
        z: Points, (*batch, d), floating point; (*batch, *latent_shape) for a manifold with a `latent_shape`.
        v: Velocities there in latent coordinates, of the same shape.
        Y: Values of the fields there, of the same shape.
        W: Their covariant derivatives D Y/dt there, of the same shape.
        segments: Number T of segments of the paths that are returned. It does not influence the accuracy.
        rtol: Largest error of a step, relative to the length of the geodesic and the size of the field. By default
            1e-8 in float64 and 1e-5 in float32.
        max_steps: Most steps of the integration that a row may attempt.

    Returns:
        Geodesics and fields at equal times, and what happened to each row.

    Raises:
        InputError: Shapes, dtypes or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point z is singular.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> equator, east, zero = torch.tensor([torch.pi / 2, 0.0]), torch.tensor([0.0, 2.0]), torch.zeros(2)
        >>> answer = geodesic.jacobi_field(geodesic.Sphere(), equator, east, zero, torch.tensor([1.0, 0.0]))
        >>> print(f"{float(answer.field[-1, 0]):.4f} {float(torch.tensor(2.0).sin() / 2):.4f}")
        0.4546 0.4546
    """
    given = Rows(manifold, z=z, v=v, Y=Y, W=W)
    require_limit(manifold, "Jacobi fields")
    rtol = checked(rtol, z.dtype, segments, max_steps)
    rows, v_rows, Y_rows, W_rows = given.rows
    with torch.inference_mode(False):
        require_regular(rows, inverse_at(manifold, rows))
        moving = (v_rows != 0).any(-1)
        # Where nothing moves, covariant derivatives are derivatives: Y + t W.
        time = torch.linspace(0, 1, segments + 1, dtype=z.dtype, device=z.device)[:, None]
        path, velocity, derivative = (x[:, None].repeat(1, segments + 1, 1) for x in (rows, v_rows, W_rows))
        field = Y_rows[:, None] + time * derivative
        share, stuck = rows.new_ones(len(rows)), torch.zeros_like(moving)
        if moving.any():
            Y_0, W_0 = Y_rows[moving][..., None], W_rows[moving][..., None]
            run, *along = follow_with_neighbours(
                manifold, rows[moving], v_rows[moving], Y_0, W_0, segments, rtol, max_steps
            )
            share[moving], stuck[moving] = run.time, run.stuck
            path[moving], velocity[moving], field[moving], derivative[moving] = (
                x.reshape(-1, segments + 1, rows.shape[-1]) for x in along
            )
        speed = norms_at(manifold, path, velocity)
    change, status = judged(speed, moving, ended(share, stuck), SPEED * rtol)
    return JacobiField(
        path=given.back(path),
        velocity=given.back(velocity),
        field=given.back(field),
        derivative=given.back(derivative),
        time=given.each(share),
        speed_change=given.each(change),
        converged=given.each(status == Outcome.CONVERGED),
        status=given.each(status),
    )


def conjugate_points(
    manifold: Manifold,
    z: Tensor,
    v: Tensor,
    *,
    segments: int = 64,
    rtol: float | None = None,
    max_steps: int = 10_000,
) -> ConjugatePoints:
    """The first time in (0, 1] at which geodesics that leave z beside exp_z(t v) meet it again, to first order.

    det Y(t) = 0,   Y'' + R Y = 0,   Y(0) = 0,   Y'(0) = I

    Up to there the geodesic is shortest among curves near it, and no further: the exponential map is singular, and a
    shooting method loses its way. The determinant need not change sign: on a sphere of dimension 3 two fields vanish
    at once. So the angles theta are watched at which Y c = tan(theta) Y' c for some c. They begin at 0, vary
    continuously with t, and pass multiples of pi upwards only, each with speed 1, where a field vanishes: the graph of
    (Y, Y') is a Lagrangian plane, and these are its crossings. The time is refined by integrating from the node
    before it, each time by the angle that is still missing, which cubes the error.

    Accuracy: about 10 rtol of the time, 1e-7 by default in float64; on spheres and on the outer equator of a torus it
    is better than 1e-8. A conjugate point at the end itself, within 10 rtol, counts.

    Warning:
        Curvature is looked at in the nodes, for whether they are dense enough (where they are not, more are taken): a
        spot of high curvature much smaller than a segment may hide two crossings. There is no conjugate point beyond
        time 1: for those scale v. Decoders with kinks: see `exp_map`.

    Reference:
        M. P. do Carmo, Riemannian Geometry, 1992, chapter 5; V. I. Arnold, Characteristic class entering in
        quantization conditions, 1967, for the angles.

    Args:
        manifold: Where to follow the geodesics.
        z: Points, (*batch, d), floating point; (*batch, *latent_shape) for a manifold with a `latent_shape`.
        v: Velocities there in latent coordinates, of the same shape.
        segments: Number T of segments at whose ends angles are taken, at least.
        rtol: As in `jacobi_field`.
        max_steps: Most steps of the integration that a row may attempt, and most segments.

    Returns:
        The times, how far other geodesics are from having conjugate points, and what happened to each row.

    Raises:
        InputError: Shapes, dtypes or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point z is singular.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> equator, east = torch.tensor([torch.pi / 2, 0.0]), torch.tensor([0.0, 4.0])
        >>> answer = geodesic.conjugate_points(geodesic.Sphere(), equator, east)
        >>> print(f"{float(answer.time):.4f}, which is pi / 4")
        0.7854, which is pi / 4
    """
    given = Rows(manifold, z=z, v=v)
    require_limit(manifold, "conjugate points")
    rtol = checked(rtol, z.dtype, segments, max_steps)
    rows, v_rows = given.rows
    with torch.inference_mode(False), torch.no_grad():
        inverse = inverse_at(manifold, rows)
        require_regular(rows, inverse)
        frame = torch.linalg.inv(inverse.factor).mT  # orthonormal columns: so the fields have the same size
        time, margin = torch.full_like(rows[:, 0], torch.inf), torch.ones_like(rows[:, 0])
        status = torch.full_like(time, Outcome.CONVERGED, dtype=torch.long)
        # Where nothing moves, Y / t stays what it is.
        (left,) = (v_rows != 0).any(-1).nonzero(as_tuple=True)
        nodes = segments
        while len(left):
            sparse = []
            size = min(_rows_of_fields(rows, nodes), max(1, rows_at_once(manifold, rows) // (nodes + 1)))
            for some in left.split(size):
                search = _search(manifold, rows[some], v_rows[some], frame[some], nodes, rtol, max_steps)
                time[some], margin[some], status[some] = search.time, search.margin, search.status
                sparse.append(some[search.needed > nodes])
            left = torch.cat(sparse)
            nodes *= 4
            if len(left) and nodes > max_steps:
                time[left], status[left] = torch.nan, Outcome.MAX_STEPS
                break
    return ConjugatePoints(
        time=given.each(time),
        margin=given.each(margin),
        converged=given.each(status == Outcome.CONVERGED),
        status=given.each(status),
    )


@dataclass(frozen=True)
class _Search:
    """`ConjugatePoints` of some rows, and how many segments they need at least."""

    time: Tensor
    margin: Tensor
    status: Tensor
    needed: Tensor


def _search(
    manifold: Manifold, z: Tensor, v: Tensor, frame: Tensor, nodes: int, rtol: float, max_steps: int
) -> _Search:
    # Speeds of angles: theta' = cos^2 + <R u, u> sin^2. Where theta^2 (1 + |R|) < 1/2 they lie between 1/2 and 3/2, so
    # an angle that crosses 0 lies at most 1.5 segments below it at the node before, and all angles there will cross.
    run, path, velocity, Y, W = follow_with_neighbours(
        manifold, z, v, torch.zeros_like(frame), frame, nodes, rtol, max_steps
    )
    times = torch.linspace(0, 1, nodes + 1, dtype=z.dtype, device=z.device)
    followed = times <= run.time[:, None]
    followed[:, 0] = False  # where all angles are zero
    factor = inverse_at(manifold, path).factor
    needed = _segments_needed(manifold, path, velocity, factor)
    speed = norms_at(manifold, path, velocity)
    _, status = judged(speed, torch.ones_like(run.stuck), ended(run.time, run.stuck), SPEED * rtol)

    spread = _least_singular_value(factor, Y) / times.clamp_min(torch.finfo(z.dtype).tiny)
    margin = torch.where(followed, spread, 1).amin(-1).clamp(max=1)
    below = _angle_below_zero(factor, Y, W)
    near = followed & (below < _WINDOW / nodes)

    time = torch.where(run.time < 1, torch.nan, torch.full_like(run.time, torch.inf))
    (found,) = near.any(-1).nonzero(as_tuple=True)
    if len(found):
        node = near[found].to(torch.uint8).argmax(-1)  # the first
        state = (path[found, node], velocity[found, node], Y[found, node], W[found, node])
        root = times[node] + _refined(manifold, state, below[found, node], rtol, max_steps)
        # Lost on the way to a crossing that lies within the time: nothing is known.
        lost = found[root.isnan() & (times[node] + below[found, node] < 1)]
        time[lost], status[lost] = torch.nan, Outcome.NOT_FINITE
        inside = root <= run.time[found] + 10 * rtol  # a conjugate point may be the end itself
        hit = found[inside]
        time[hit], margin[hit] = root[inside].clamp(max=1), 0
        # What happened afterwards does not matter.
        status[hit] = torch.where(status[hit] == Outcome.SPEED_CHANGED, status[hit], Outcome.CONVERGED)
    return _Search(time, margin, status, needed)


def _refined(
    manifold: Manifold, state: tuple[Tensor, Tensor, Tensor, Tensor], step: Tensor, rtol: float, max_steps: int
) -> Float[Tensor, " N"]:
    """Time from these states to the next crossing, to begin with the given one."""
    z, v, Y, W = state
    for _ in range(_CORRECTIONS):
        # In units of the step, so that it is followed over [0, 1].
        scale = step[:, None, None]
        run, path, _, Y_1, W_1 = follow_with_neighbours(
            manifold, z, v * step[:, None], Y, W * scale, 1, rtol, max_steps
        )
        factor = inverse_at(manifold, path[:, -1]).factor
        angles = _angles(factor, Y_1[:, -1], W_1[:, -1] / scale)
        nearest = angles.gather(-1, angles.abs().argmin(-1, keepdim=True))[..., 0]
        step = torch.where(run.time < 1, torch.nan, step - nearest)
    return step


def _angles(factor: Float[Tensor, "*n d d"], Y: Float[Tensor, "*n d d"], W: Tensor) -> Float[Tensor, "*n d"]:
    """The theta in (-pi/2, pi/2] with Y c = tan(theta) W c for some c; NaN where the metric is singular.

    With orthonormal columns (S, C) that span the plane of (Y, W), C^T C - S^T S + 2 i C^T S is unitary and symmetric,
    with eigenvalues exp(2 i theta). Neither it nor they depend on the frame at this point.
    """
    valid = factor.isfinite().flatten(-2).all(-1) & Y.isfinite().flatten(-2).all(-1) & W.isfinite().flatten(-2).all(-1)
    eye = torch.eye(Y.shape[-1], dtype=Y.dtype, device=Y.device)
    both = torch.where(valid[..., None, None], torch.cat([factor.mT @ Y, factor.mT @ W], dim=-2), eye.repeat(2, 1))
    S, C = torch.linalg.qr(both)[0].chunk(2, dim=-2)
    values = torch.linalg.eigvals(torch.complex(C.mT @ C - S.mT @ S, C.mT @ S + S.mT @ C))
    return torch.where(valid[..., None], values.angle() / 2, torch.nan)


def _angle_below_zero(factor: Tensor, Y: Tensor, W: Tensor) -> Float[Tensor, "*n"]:
    """How far the nearest angle below zero is from it; infinite where there is none."""
    angles = _angles(factor, Y, W)
    return torch.where(angles < 0, -angles, torch.inf).amin(-1)


def _least_singular_value(factor: Tensor, Y: Tensor) -> Float[Tensor, "*n"]:
    fields = factor.mT @ Y
    valid = fields.isfinite().flatten(-2).all(-1)
    values = torch.linalg.svdvals(torch.where(valid[..., None, None], fields, 0))[..., -1]
    return torch.where(valid, values, torch.inf)


def _segments_needed(manifold: Manifold, path: Tensor, velocity: Tensor, factor: Tensor) -> Float[Tensor, " N"]:
    """So many that angles within the window move with speeds between 1/2 and 3/2."""
    curvature = manifold.lowered_curvature(path, velocity)
    inverse = torch.linalg.inv(
        torch.where(factor.isfinite(), factor, torch.eye(path.shape[-1], dtype=path.dtype, device=path.device))
    )
    R = inverse @ curvature @ inverse.mT
    # Its norm bounds its eigenvalues; nodes at which it is not known are not asked.
    bound = torch.linalg.matrix_norm(R.nan_to_num(0.0, 0.0, 0.0)).amax(-1)
    return _WINDOW * (2 * (1 + bound)).sqrt()


def _rows_of_fields(z: Tensor, nodes: int) -> int:
    """For how many rows the fields at the nodes, and what is made of them, fit into memory."""
    d = z.shape[-1]
    return max(1, int(_BYTES / (z.element_size() * 20 * (nodes + 1) * d * d)))
