"""Conjugate points: where neighboring geodesics meet again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.geometry.checks import guarded
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import comfortable, rows_at_once, rows_within
from geodesic.geometry.points import Rows, inverse_at, norms_at, require_limit
from geodesic.keywords import renamed
from geodesic.riemannian.endings import after_integration, at_constant_speed, unless_unseen
from geodesic.riemannian.maps.flow import follow_with_neighbors
from geodesic.riemannian.maps.follow import IN_FOLLOW, Follow, stride_by_equation
from geodesic.riemannian.maps.stride import Stride
from geodesic.riemannian.records import Record
from geodesic.solvers.answer import Answer
from geodesic.solvers.status import Status

__all__ = ["ConjugatePoints", "conjugate_points"]

_WINDOW = 1.5  # segments before a conjugate point, in which its angle is looked for
_CORRECTIONS = 2  # of the time, each of which cubes its error; from the worst that a window admits to 1e-10 of it


@dataclass(frozen=True)
class ConjugatePoints(Answer):
    """The first conjugate points along geodesics over [0, 1]. Leading axes are those of the points.

    Attributes:
        time: When the first one is reached, in (0, 1], (*batch,); infinite where there is none, NaN where the geodesic
            could not be followed far enough to tell.
        margin: The smallest singular value of Y(t) / t over the nodes, in orthonormal frames of G(0) and G(t),
            (*batch,): by how much less neighbors go apart than in flat space. At most 1, the value at t = 0; zero
            where there is a conjugate point.
        converged: Whether the time is known, (*batch,), boolean.
        status: Why the row ended, a `Status` as integer, (*batch,).
        iterations: Steps of the integration attempted, (*batch,).
        error: Largest relative difference of the geodesic's speed to the initial one, (*batch,).
        rank_deficiency: Latent directions that the decoder ignores at the point, (*batch,), integer; no field
            vanishes for their sake.
    """

    time: Float[Tensor, "*batch"]
    margin: Float[Tensor, "*batch"]


@guarded
@renamed(**IN_FOLLOW)
def conjugate_points(
    manifold: Manifold,
    z: Tensor,
    v: Tensor,
    *,
    follow: Follow = Follow(),
) -> ConjugatePoints:
    """The first time in (0, 1] at which geodesics that leave z beside exp_z(t v) meet it again, to first order.

    det Y(t) = 0,   Y'' + R Y = 0,   Y(0) = 0,   Y'(0) = I

    Up to there the geodesic is shortest among curves near it, and no further: the exponential map is singular, and a
    shooting method loses its way. The determinant need not change sign: on a sphere of dimension 3 two fields vanish
    at once. So the angles theta are watched at which Y c = tan(theta) Y' c for some c. They begin at 0, vary
    continuously with t, and pass multiples of pi upwards only, each with speed 1, where a field vanishes: the graph of
    (Y, Y') is a Lagrangian plane, and these are its crossings. The time is refined by integrating from the node
    before it, each time by the angle that is still missing, which cubes the error.

    Where the decoder ignores directions, v and the fields have no part along them.

    Accuracy: about 10 rtol of the time, 1e-7 by default in float64; on spheres and on the outer equator of a torus it
    is better than 1e-8. A conjugate point at the end itself, within 10 rtol, counts.

    Warning:
        Curvature is looked at in the nodes, for whether they are dense enough (where they are not, more are taken): a
        spot of high curvature much smaller than a segment may hide two crossings. There is no conjugate point beyond
        time 1: for those scale v. Second derivatives do not see the kinks of a decoder (ReLU).

    Reference:
        M. P. do Carmo, Riemannian Geometry, 1992, chapter 5; V. I. Arnold, Characteristic class entering in
        quantization conditions, 1967, for the angles.

    Args:
        manifold: Where to follow the geodesics.
        z: Points, (*batch, d), floating point; (*batch, *latent_shape) for a manifold with a `latent_shape`.
        v: Velocities there in latent coordinates, of the same shape.
        follow: How geodesics and fields are followed: by "ode", which alone has fields, in at most 10,000 steps with
            64 segments unless told otherwise. Errors of the fields are relative to their size. Angles are taken at
            the ends of the segments, of which more are taken where curvature asks for them: at most `max_iterations`.

    Returns:
        The times, how far other geodesics are from having conjugate points, and what happened to each row. Without
        history.

    Raises:
        InputError: Shapes, dtypes or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point z is singular, and its rank not the same all around; or it is zero.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> equator, east = torch.tensor([torch.pi / 2, 0.0]), torch.tensor([0.0, 4.0])
        >>> answer = geodesic.conjugate_points(geodesic.surfaces.Sphere(), equator, east)
        >>> print(f"{float(answer.time):.4f}, which is pi / 4")
        0.7854, which is pi / 4
    """
    given = Rows(manifold, z=z, v=v)
    require_limit(manifold, "conjugate points")
    stride = stride_by_equation(follow, z.dtype, segments=64)
    most_segments = max(stride.segments, stride.max_iterations)
    rows, v_rows = given.rows
    with torch.inference_mode(False), torch.no_grad():
        inverse = inverse_at(manifold, rows, on_range=True)
        require_regular(rows, inverse)
        v_rows, frame = inverse.seen(v_rows), inverse.frame  # orthonormal columns: so the fields have the same size
        # Where nothing moves, Y / t stays what it is.
        found = _Search(
            time=torch.full_like(rows[:, 0], torch.inf),
            margin=torch.ones_like(rows[:, 0]),
            status=torch.full_like(rows[:, 0], Status.CONVERGED, dtype=torch.long),
            needed=torch.zeros_like(rows[:, 0]),
            steps=torch.zeros_like(rows[:, 0], dtype=torch.long),
            error=torch.zeros_like(rows[:, 0]),
        )
        (left,) = (v_rows != 0).any(-1).nonzero(as_tuple=True)
        while len(left) and stride.segments <= most_segments:
            for some in left.split(_rows_at_once(manifold, rows, stride.segments)):
                found = found.replaced(some, _search(manifold, rows[some], v_rows[some], frame[some], stride))
            left = left[found.needed[left] > stride.segments]
            stride = replace(stride, segments=4 * stride.segments)
        time = found.time.index_fill(0, left, torch.nan)
        status = found.status.index_fill(0, left, Status.MAX_ITERATIONS)
    return ConjugatePoints(
        time=given.each(time),
        margin=given.each(found.margin),
        converged=given.each(status == Status.CONVERGED),
        status=given.each(status),
        iterations=given.each(found.steps),
        error=given.each(found.error),
        rank_deficiency=given.each(inverse.deficiency),
    )


@dataclass(frozen=True)
class _Search(Record):
    """`ConjugatePoints` of N rows, and how many segments they need at least."""

    time: Float[Tensor, " N"]
    margin: Float[Tensor, " N"]
    status: Int[Tensor, " N"]
    needed: Float[Tensor, " N"]
    steps: Int[Tensor, " N"]
    error: Float[Tensor, " N"]


def _search(manifold: Manifold, z: Tensor, v: Tensor, frame: Tensor, stride: Stride) -> _Search:
    # Speeds of angles: theta' = cos^2 + <R u, u> sin^2. Where theta^2 (1 + |R|) < 1/2 they lie between 1/2 and 3/2, so
    # an angle that crosses 0 lies at most 1.5 segments below it at the node before, and all angles there will cross.
    along = follow_with_neighbors(manifold, z, v, torch.zeros_like(frame), frame, stride)
    end = along.run.time
    times = torch.linspace(0, 1, stride.segments + 1, dtype=z.dtype, device=z.device)
    followed = times <= end[:, None]
    followed[:, 0] = False  # where all angles are zero
    inverse = inverse_at(manifold, along.path, on_range=True)
    coframe, uneven = inverse.coframe, (inverse.deficiency != inverse.deficiency[:, :1]).any(-1)
    speed = norms_at(manifold, along.path, along.velocity)
    status = after_integration(end, along.run.stuck)
    error, status = at_constant_speed(speed, torch.ones_like(along.run.stuck), status, stride.speed_rtol)
    status = unless_unseen(manifold, along.path, status, speed)
    spread = _least_singular_value(coframe, along.Y) / times.clamp_min(torch.finfo(z.dtype).tiny)
    margin = torch.where(followed, spread, 1).amin(-1).clamp(max=1)
    needed = _segments_needed(manifold, along.path, along.velocity, inverse.frame)
    time = torch.where((end < 1) | uneven, torch.nan, torch.full_like(end, torch.inf))
    status = torch.where(uneven & (status == Status.CONVERGED), Status.CUT_SHORT, status)

    below = _angle_below_zero(coframe, along.Y, along.W)
    near = followed & ~uneven[:, None] & (below < _WINDOW / stride.segments)
    (rows,) = near.any(-1).nonzero(as_tuple=True)
    if not len(rows):
        return _Search(time, margin, status, needed, along.run.steps, error)
    node = near[rows].to(torch.uint8).argmax(-1)  # the first
    state = _State(*(x[rows, node] for x in (along.path, along.velocity, along.Y, along.W)))
    root = times[node] + _refined(manifold, state, below[rows, node], stride)
    # Lost on the way to a crossing that lies within the time: nothing is known.
    lost = rows[root.isnan() & (times[node] + below[rows, node] < 1)]
    time[lost], status[lost] = torch.nan, Status.CUT_SHORT
    inside = root <= end[rows] + 10 * stride.rtol  # a conjugate point may be the end itself
    hit = rows[inside]
    time[hit], margin[hit] = root[inside].clamp(max=1), 0
    # What happened afterwards does not matter.
    kept = (status[hit] == Status.SPEED_CHANGED) | (status[hit] == Status.JUMP)
    status[hit] = torch.where(kept, status[hit], Status.CONVERGED)
    return _Search(time, margin, status, needed, along.run.steps, error)


class _State(NamedTuple):
    """Points and velocities of geodesics, and the fields along them: (N, d) twice, (N, d, d) twice."""

    z: Tensor
    v: Tensor
    Y: Tensor
    W: Tensor


def _refined(manifold: Manifold, at: _State, step: Float[Tensor, " N"], stride: Stride) -> Float[Tensor, " N"]:
    """Time from these states to the next crossing, to begin with the given one."""
    for _ in range(_CORRECTIONS):
        # In units of the step, so that it is followed over [0, 1].
        scale = step[:, None, None]
        end = follow_with_neighbors(
            manifold, at.z, at.v * step[:, None], at.Y, at.W * scale, replace(stride, segments=1)
        )
        coframe = inverse_at(manifold, end.path[:, -1], on_range=True).coframe
        angles = _angles(coframe, end.Y[:, -1], end.W[:, -1] / scale)
        nearest = angles.gather(-1, angles.abs().argmin(-1, keepdim=True))[..., 0]
        step = torch.where(end.run.time < 1, torch.nan, step - nearest)
    return step


def _angles(coframe: Float[Tensor, "*n d d"], Y: Float[Tensor, "*n d d"], W: Tensor) -> Float[Tensor, "*n d"]:
    """The theta in (-pi/2, pi/2] with Y c = tan(theta) W c for some c; NaN where the metric is singular.

    With orthonormal columns (S, C) that span the plane of (Y, W), C^T C - S^T S + 2 i C^T S is unitary and symmetric,
    with eigenvalues exp(2 i theta). Neither it nor they depend on the frame at this point. Directions that the decoder
    ignores have an angle of pi/2, which stays.
    """
    valid = coframe.isfinite().flatten(-2).all(-1) & Y.isfinite().flatten(-2).all(-1) & W.isfinite().flatten(-2).all(-1)
    eye = torch.eye(Y.shape[-1], dtype=Y.dtype, device=Y.device)
    both = torch.cat([_in_frame(coframe, Y), coframe @ W], dim=-2)
    both = torch.where(valid[..., None, None], both, eye.repeat(2, 1))
    S, C = torch.linalg.qr(both)[0].chunk(2, dim=-2)
    values = torch.linalg.eigvals(torch.complex(C.mT @ C - S.mT @ S, C.mT @ S + S.mT @ C))
    return torch.where(valid[..., None], values.angle() / 2, torch.nan)


def _angle_below_zero(coframe: Tensor, Y: Tensor, W: Tensor) -> Float[Tensor, "*n"]:
    """How far the nearest angle below zero is from it; infinite where there is none."""
    angles = _angles(coframe, Y, W)
    return torch.where(angles < 0, -angles, torch.inf).amin(-1)


def _in_frame(coframe: Tensor, Y: Tensor) -> Float[Tensor, "*n d d"]:
    """E Y, and one on the diagonal for each direction that the decoder ignores: as good as in flat space."""
    return coframe @ Y + torch.diag_embed((coframe == 0).all(-1).to(Y))


def _least_singular_value(coframe: Tensor, Y: Tensor) -> Float[Tensor, "*n"]:
    fields = _in_frame(coframe, Y)
    valid = fields.isfinite().flatten(-2).all(-1)
    values = torch.linalg.svdvals(torch.where(valid[..., None, None], fields, 0))[..., -1]
    return torch.where(valid, values, torch.inf)


def _segments_needed(manifold: Manifold, path: Tensor, velocity: Tensor, frame: Tensor) -> Float[Tensor, " N"]:
    """So many that angles within the window move with speeds between 1/2 and 3/2."""
    R = frame.mT @ manifold.lowered_curvature(path, velocity) @ frame
    # Its norm bounds its eigenvalues; nodes at which it is not known are not asked.
    bound = torch.linalg.matrix_norm(R.nan_to_num(0.0, 0.0, 0.0)).amax(-1)
    return _WINDOW * (2 * (1 + bound)).sqrt()


def _rows_at_once(manifold: Manifold, z: Tensor, nodes: int) -> int:
    """For how many rows the fields at the nodes, and what is made of them, fit into memory."""
    d = z.shape[-1]
    fields = rows_within(z.element_size() * 20 * (nodes + 1) * d * d, comfortable(z.device))
    return max(1, min(fields, rows_at_once(manifold, z) // (nodes + 1)))
