"""Shooting through the space of outputs: the exponential map by tangent steps and projections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.errors import InputError
from geodesic.geometry.checks import guarded
from geodesic.geometry.encoder import Encoder
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.period import unwrapped
from geodesic.geometry.points import Rows, require_limit
from geodesic.riemannian.endings import unless_unseen
from geodesic.riemannian.maps.exp_map import ExponentialMap, per_time
from geodesic.riemannian.maps.stride import times_from
from geodesic.riemannian.transport.projection import TangentSpaces
from geodesic.solvers.status import Status

__all__ = ["shoot"]

_SPEED = 0.05  # largest relative change of the speed along what counts as a geodesic
_MOST_ITERATIONS = 20


@guarded
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
    which it errs by the square of the angle of the kink. Along directions that the decoder ignores nothing moves.

    Warning:
        The encoder's bias h(g(z)) - z is paid at every step, and adds up to T times itself: more segments then make
        the answer worse. Trained encoders are no left inverses. Leave the encoder out, or see `error`.

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
        construction, so `error` is read off the chords of the path, with which a good answer agrees to order 1/T; a row
        where they differ by a twentieth has not converged. `iterations` are the steps that were taken. Without history.

    Raises:
        InputError: Shapes, dtypes or settings cannot be used, or the manifold has no embedding.
        SingularMetricError: The decoder's Jacobian at a point z is singular, and its rank not the same all around; or
            it is zero.
        DecoderError: The decoder is in training mode, or the encoder is, its rows are coupled, or it is random.

    Example:
        >>> import torch, geodesic
        >>> equator, south = torch.tensor([torch.pi / 2, 0.0]), torch.tensor([1.0, 0.0])
        >>> answer = geodesic.shoot(geodesic.surfaces.Sphere(), equator, south, t=0.5, segments=100)
        >>> print([round(x, 4) for x in answer.point.tolist()], bool(answer.converged))
        [2.0708, 0.0] True
    """
    given = Rows(manifold, z=z, v=v)
    require_limit(manifold, "exponential map")
    if not manifold.has_embedding:
        raise InputError(
            f"manifold: shooting steps through an embedding, and {type(manifold).__name__} has none; use exp_map"
        )
    require_integer("segments", segments, least=1)
    rows, v_rows = given.rows
    time = times_from(t, given, rows)
    with torch.inference_mode(False), torch.no_grad():
        start, pace = rows.clone(), v_rows.clone() * time[:, None]  # over [0, 1]
        tangent = TangentSpaces(manifold, start)
        require_regular(start, tangent.regular)
        a = tangent.of_latent(pace)
        pace = torch.where((tangent.deficiency > 0)[:, None], tangent.latent(a), pace)
        through = None if encoder is None else Encoder(encoder)
        shot = _Shot(manifold, through, segments, speed=_norm(a))
        states = [shot.first(tangent, start, pace, a)]
        for _ in range(segments):
            states.append(shot.following(states[-1]))
    last, steps = states[-1], torch.stack([state.alive for state in states[1:]]).sum(0)
    change = torch.where(last.change > 0, last.change / shot.speed[:, 0], 0)
    status = torch.full_like(steps, Status.CONVERGED)
    status = torch.where(change > _SPEED, Status.SPEED_CHANGED, status)
    status = torch.where(last.stalled, Status.NO_NEARER, status)
    status = torch.where(~last.alive, Status.CUT_SHORT, status)
    path, velocity = (torch.stack(x, dim=1) for x in zip(*((now.point, now.velocity) for now in states), strict=True))
    status = unless_unseen(manifold, path, status, shot.speed.expand(-1, segments + 1))
    return ExponentialMap(
        point=given.back(last.point),
        path=given.back(path),
        velocity=given.back(per_time(velocity, v_rows, time)),
        time=given.each(steps.to(time) / segments * time),
        error=given.each(change),
        converged=given.each(status == Status.CONVERGED),
        status=given.each(status),
        iterations=given.each(steps),
        method="shooting",
        rank_deficiency=given.each(tangent.deficiency),
    )


class _State(NamedTuple):
    """Where N shots are: z, its velocity, x = g(z), and the velocity u in the space of outputs."""

    point: Float[Tensor, "N d"]
    velocity: Float[Tensor, "N d"]
    x: Float[Tensor, "N D"]
    u: Float[Tensor, "N D"]
    alive: Bool[Tensor, " N"]
    stalled: Bool[Tensor, " N"]  # an output was not projected
    change: Float[Tensor, " N"]  # of the speed, at most


@dataclass(frozen=True)
class _Shot:
    """What stays the same while N shots are under way; `speed` is (N, 1)."""

    manifold: Manifold
    encoder: Encoder | None
    segments: int
    speed: Float[Tensor, "N 1"]

    def first(self, tangent: TangentSpaces, z: Tensor, v: Tensor, a: Tensor) -> _State:
        """At points z with latent velocities v, which are a in the bases of the tangent spaces."""
        alive = torch.ones_like(z[:, 0], dtype=torch.bool)
        outputs = self.manifold.embed(z)
        if self.encoder is not None:
            self.encoder.require_apart(outputs, z.shape[1])
        return _State(z, v, outputs.flatten(1), _in_outputs(tangent, a), alive, ~alive, torch.zeros_like(z[:, 0]))

    def following(self, now: _State) -> _State:
        """One step; shots that leave the finite numbers stay where they are."""
        landed, tangent, missed = self._landed(now)
        a = tangent.coefficients(now.u)
        a = torch.where(self.speed > 0, a * (self.speed / _norm(a)), 0)
        x = self.manifold.embed(landed).flatten(1)
        alive = now.alive & landed.isfinite().all(-1) & x.isfinite().all(-1) & a.isfinite().all(-1)
        pace = _norm(x - now.x)[:, 0] * self.segments
        change = torch.maximum(now.change, (pace - self.speed[:, 0]).abs())
        keep = alive[:, None]
        return _State(
            point=torch.where(keep, landed, now.point),
            velocity=torch.where(keep, tangent.latent(a), now.velocity),
            x=torch.where(keep, x, now.x),
            u=torch.where(keep, _in_outputs(tangent, a), now.u),
            alive=alive,
            stalled=now.stalled | (now.alive & missed),
            change=torch.where(alive, change, now.change),
        )

    def _landed(self, now: _State) -> tuple[Tensor, TangentSpaces, Tensor]:
        """Back on the manifold after a straight step: points, tangent spaces there, and which were not found."""
        aim = now.x + now.u / self.segments
        if self.encoder is None:
            guess = now.point + now.velocity / self.segments
            return _projected(self.manifold, aim, guess, now.alive, self.speed[:, 0] / self.segments)
        outputs = self.manifold.embed(now.point)
        landed = self.encoder.at(aim.reshape(outputs.shape), now.point.shape[1])
        landed = unwrapped(self.manifold.period, landed, now.point)  # an encoder knows one turn alone
        tangent = TangentSpaces(self.manifold, torch.where(landed.isfinite(), landed, now.point))
        return landed, tangent, torch.zeros_like(now.alive)


def _in_outputs(tangent: TangentSpaces, a: Float[Tensor, "N k"]) -> Float[Tensor, "N D"]:
    """U a."""
    return (tangent.basis @ a[..., None])[..., 0]


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
