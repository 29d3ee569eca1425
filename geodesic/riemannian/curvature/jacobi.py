"""Jacobi fields: how neighboring geodesics go apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.checks import guarded
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import Rows, inverse_at, norms_at, require_limit
from geodesic.keywords import renamed
from geodesic.riemannian.endings import after_integration, at_constant_speed, unless_unseen
from geodesic.riemannian.maps.flow import follow_with_neighbors
from geodesic.riemannian.maps.follow import IN_FOLLOW, Follow, stride_by_equation
from geodesic.solvers.answer import Answer
from geodesic.solvers.status import Status

__all__ = ["JacobiField", "jacobi_field"]


@dataclass(frozen=True)
class JacobiField(Answer):
    """Jacobi fields along geodesics over [0, 1]. Leading axes are those of the points.

    Attributes:
        path: Nodes of the geodesic at equal times, (*batch, T + 1, d).
        velocity: Its velocities there, (*batch, T + 1, d).
        field: The field Y at the nodes, (*batch, T + 1, d).
        derivative: Its covariant derivative D Y/dt there, (*batch, T + 1, d).
        time: Up to when each was followed, (*batch,); nodes behind it repeat what was reached.
        error: Largest relative difference of the geodesic's speed to the initial one, (*batch,).
        converged: Whether time 1 was reached at constant speed, (*batch,), boolean.
        status: Why the row ended, a `Status` as integer, (*batch,).
        iterations: Steps of the integration attempted, (*batch,).
        rank_deficiency: Latent directions that the decoder ignores at the point, (*batch,), integer; fields have no
            part along these.
    """

    path: Float[Tensor, "*path"]
    velocity: Float[Tensor, "*path"]
    field: Float[Tensor, "*path"]
    derivative: Float[Tensor, "*path"]
    time: Float[Tensor, "*batch"]


@guarded
@renamed(**IN_FOLLOW)
def jacobi_field(
    manifold: Manifold,
    z: Tensor,
    v: Tensor,
    Y: Tensor,
    W: Tensor,
    *,
    follow: Follow = Follow(),
) -> JacobiField:
    """The Jacobi field Y(t) along the geodesic exp_z(t v), 0 <= t <= 1, from its value and derivative at z.

    D^2 Y/dt^2 + R(Y, v) v = 0

    It is the derivative of a family of geodesics: of exp_{z(s)}(t v(s)) with z'(0) = Y and D v/ds (0) = W. With Y = 0
    this is t times the derivative of the exponential map at t v in the direction W. Where the decoder ignores
    directions, the parts of v, Y and W along them are dropped.

    Warning:
        Second derivatives do not see the kinks of a decoder (ReLU). Fields grow exponentially where the curvature is
        negative, and so do errors.

    Reference:
        M. P. do Carmo, Riemannian Geometry, 1992, chapter 5.

    Args:
        manifold: Where to follow the geodesics.
        z: Points, (*batch, d), floating point; (*batch, *latent_shape) for a manifold with a `latent_shape`.
        v: Velocities there in latent coordinates, of the same shape.
        Y: Values of the fields there, of the same shape.
        W: Their covariant derivatives D Y/dt there, of the same shape.
        follow: How geodesics and fields are followed: by "ode", which alone has fields, in at most 10,000 steps with
            32 segments unless told otherwise. Errors of the fields are relative to their size.

    Returns:
        Geodesics and fields at equal times, and what happened to each row. Without history.

    Raises:
        InputError: Shapes, dtypes or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point z is singular, and its rank not the same all around; or it is zero.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> equator, east, zero = torch.tensor([torch.pi / 2, 0.0]), torch.tensor([0.0, 2.0]), torch.zeros(2)
        >>> answer = geodesic.jacobi_field(geodesic.surfaces.Sphere(), equator, east, zero, torch.tensor([1.0, 0.0]))
        >>> print(f"{float(answer.field[-1, 0]):.4f} {float(torch.tensor(2.0).sin() / 2):.4f}")
        0.4546 0.4546
    """
    given = Rows(manifold, z=z, v=v, Y=Y, W=W)
    require_limit(manifold, "Jacobi fields")
    stride = stride_by_equation(follow, z.dtype, segments=32)
    segments = stride.segments
    rows, v_rows, Y_rows, W_rows = given.rows
    with torch.inference_mode(False):
        inverse = inverse_at(manifold, rows, on_range=True)
        require_regular(rows, inverse)
        v_rows, Y_rows, W_rows = (inverse.seen(x) for x in (v_rows, Y_rows, W_rows))
        moving = (v_rows != 0).any(-1)
        # Where nothing moves, covariant derivatives are derivatives: Y + t W.
        time = torch.linspace(0, 1, segments + 1, dtype=z.dtype, device=z.device)[:, None]
        path, velocity, derivative = (x[:, None].repeat(1, segments + 1, 1) for x in (rows, v_rows, W_rows))
        field = Y_rows[:, None] + time * derivative
        share, stuck = rows.new_ones(len(rows)), torch.zeros_like(moving)
        steps = torch.zeros_like(moving, dtype=torch.long)
        if moving.any():
            Y_0, W_0 = Y_rows[moving][..., None], W_rows[moving][..., None]
            run, *along = follow_with_neighbors(manifold, rows[moving], v_rows[moving], Y_0, W_0, stride)
            share[moving], stuck[moving], steps[moving] = run.time, run.stuck, run.steps
            path[moving], velocity[moving], field[moving], derivative[moving] = (
                x.reshape(-1, segments + 1, rows.shape[-1]) for x in along
            )
        speed = norms_at(manifold, path, velocity)
        change, status = at_constant_speed(speed, moving, after_integration(share, stuck), stride.speed_rtol)
        status = unless_unseen(manifold, path, status, speed)
    return JacobiField(
        path=given.back(path),
        velocity=given.back(velocity),
        field=given.back(field),
        derivative=given.back(derivative),
        time=given.each(share),
        error=given.each(change),
        converged=given.each(status == Status.CONVERGED),
        status=given.each(status),
        iterations=given.each(steps),
        rank_deficiency=given.each(inverse.deficiency),
    )
