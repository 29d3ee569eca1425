"""Shooting through the space of outputs: the exponential map by tangent steps and projections."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import Rows, require_limit
from geodesic.riemannian.maps.exp_map import ExponentialMap, checked, times
from geodesic.riemannian.outcome import Outcome
from geodesic.riemannian.transport.projection import TangentSpaces, latent_rows

__all__ = ["shoot"]

_SPEED = 0.05  # largest relative change of the speed along what counts as a geodesic
_MOST_ITERATIONS = 20


def shoot(
    manifold: Manifold,
    z: Tensor,
    v: Tensor,
    t: float | Tensor = 1.0,
    *,
    segments: int = 32,
    encoder: Callable[[Tensor], Tensor] | None = None,
) -> ExponentialMap:
    """Shao et al.'s geodesic shooting: straight steps in the space of outputs, each brought back to the manifold.

    x~ = x_i + dt u_i,   z_{i+1} = h(x~),   x_{i+1} = g(z_{i+1}),   u_{i+1} = U U^T u_i, rescaled to its old norm

    u_0 = J v, and U comes from the thin singular value decomposition of the next Jacobian. Without an encoder h, the
    projection of x~ onto the decoder's image takes its place, by the method of Gauss and Newton.

    Of first order in 1/T: halving the error takes twice the segments, where `exp_map` follows the geodesic to its
    tolerance. It asks for first derivatives alone, and so goes on across the kinks of a decoder (ReLU), at each of
    which it errs by the square of the angle of the kink.

    Warning:
        The encoder's bias h(g(z)) - z is paid at every step, and adds up to T times itself: more segments then make
        the answer worse. Trained encoders are no left inverses. Leave the encoder out, or see `speed_change`.

    Reference:
        H. Shao, A. Kumar, P. T. Fletcher, The Riemannian Geometry of Deep Generative Models, 2017, algorithm 3.

    Args:
        manifold: An embedded manifold.
        z: Points, (*batch, d), floating point; (*batch, *latent_shape) for a manifold with a `latent_shape`.
        v: Velocities there in latent coordinates, of the same shape.
        t: Time to follow them for, a number or (*batch,); negative times lead backwards.
        segments: Number T of steps, and of segments of the path that is returned.
        encoder: The row-wise mean of q(z|x), (N, ...) to (N, d), in place of the projection.

    Returns:
        The points, the paths to them, and what happened to each row. The rescaled velocities keep their norm by
        construction, so `speed_change` is read off the chords of the path, with which a good answer agrees to
        order 1/T; a row where they differ by a twentieth has not converged. `steps` are those that were taken.

    Raises:
        InputError: Shapes, dtypes or settings cannot be used, or the manifold has no embedding.
        SingularMetricError: The decoder's Jacobian at a point z is singular.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> equator, south = torch.tensor([torch.pi / 2, 0.0]), torch.tensor([1.0, 0.0])
        >>> answer = geodesic.shoot(geodesic.Sphere(), equator, south, t=0.5, segments=100)
        >>> print([round(x, 4) for x in answer.point.tolist()], bool(answer.converged))
        [2.0708, 0.0] True
    """
    given = Rows(manifold, z=z, v=v)
    require_limit(manifold, "exponential map")
    if not manifold.has_embedding:
        raise InputError(
            f"manifold: shooting steps through an embedding, and {type(manifold).__name__} has none; use exp_map"
        )
    checked(None, z.dtype, segments, max_steps=1)
    rows, v_rows = given.rows
    time = times(t, given, rows)
    with torch.inference_mode(False), torch.no_grad():
        points, velocities = rows.clone(), v_rows.clone() * time[:, None]  # over [0, 1]
        tangent = TangentSpaces(manifold, points)
        require_regular(points, tangent.regular)
        x = manifold.embed(points).flatten(1)
        a = tangent.of_latent(velocities)
        speed = _norm(a)
        u = (tangent.basis @ a[..., None])[..., 0]
        alive = torch.ones_like(time, dtype=torch.bool)
        stalled, steps = ~alive, torch.zeros_like(time, dtype=torch.long)
        path, along = [points], [velocities]
        change = torch.zeros_like(time)
        for _ in range(segments):
            aim = x + u / segments
            if encoder is None:
                guess = points + velocities / segments
                landed, tangent, missed = _projected(manifold, aim, guess, alive, speed[:, 0] / segments)
                stalled = stalled | (alive & missed)
            else:
                outputs = manifold.embed(points)
                landed = latent_rows(encoder(aim.reshape(outputs.shape)), points)
                tangent = TangentSpaces(manifold, torch.where(landed.isfinite(), landed, points))
            a = tangent.coefficients(u)
            norm = _norm(a)
            a = torch.where(speed > 0, a * (speed / norm), 0)
            y = manifold.embed(landed).flatten(1)
            alive = alive & landed.isfinite().all(-1) & y.isfinite().all(-1) & a.isfinite().all(-1)
            paces = _norm(y - x)[:, 0] * segments
            change = torch.where(alive, torch.maximum(change, (paces - speed[:, 0]).abs()), change)
            keep = alive[:, None]
            points = torch.where(keep, landed, points)
            velocities = torch.where(keep, tangent.latent(a), velocities)
            u = torch.where(keep, (tangent.basis @ a[..., None])[..., 0], u)
            x = torch.where(keep, y, x)
            steps = steps + alive
            path.append(points)
            along.append(velocities)
    change = torch.where(change > 0, change / speed[:, 0], 0)
    status = torch.full_like(steps, Outcome.CONVERGED)
    status = torch.where(change > _SPEED, Outcome.SPEED_CHANGED, status)
    status = torch.where(stalled, Outcome.STALLED, status)
    status = torch.where(~alive, Outcome.NOT_FINITE, status)
    still = (time == 0)[:, None, None]
    velocity = torch.stack(along, dim=1)
    velocity = torch.where(still, v_rows[:, None], velocity / torch.where(still, 1, time[:, None, None]))
    return ExponentialMap(
        point=given.back(points),
        path=given.back(torch.stack(path, dim=1)),
        velocity=given.back(velocity),
        time=given.each(steps.to(time) / segments * time),
        speed_change=given.each(change),
        converged=given.each(status == Outcome.CONVERGED),
        status=given.each(status),
        steps=given.each(steps),
    )


def _projected(
    manifold: Manifold,
    aim: Float[Tensor, "N D"],
    guess: Float[Tensor, "N d"],
    alive: Bool[Tensor, " N"],
    pace: Float[Tensor, " N"],
) -> tuple[Tensor, TangentSpaces, Tensor]:
    """The points nearest to outputs, from guesses near by; the tangent spaces there; where they were not found.

    z <- z + V S^{-1} U^T (aim - g(z)), until what is added is small beside the pace of the shot, or mere rounding.
    """
    eps = torch.finfo(aim.dtype).eps
    z, active = guess, alive
    small = torch.maximum(eps**0.5 * pace, 10 * eps * _norm(aim)[:, 0])
    for _ in range(_MOST_ITERATIONS):
        tangent = TangentSpaces(manifold, z)
        a = tangent.coefficients(aim - manifold.embed(z).flatten(1))
        active = active & ~(_norm(a)[:, 0] <= small) & tangent.regular
        if not active.any():
            break
        z = torch.where(active[:, None], z + tangent.latent(a), z)
    else:
        tangent = TangentSpaces(manifold, z)
    return z, tangent, active


def _norm(a: Float[Tensor, "N k"]) -> Float[Tensor, "N 1"]:
    return torch.linalg.vector_norm(a, dim=-1, keepdim=True)
