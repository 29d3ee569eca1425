"""The geodesic equation, and with it the equation of Jacobi for the geodesics beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import rows_at_once
from geodesic.geometry.points import inverse_from
from geodesic.numerics.ode import Trajectory, integrate
from geodesic.riemannian.maps.stride import Stride

__all__ = ["JacobiFlow", "follow", "follow_with_neighbors"]


class JacobiFlow(NamedTuple):
    """Geodesics with Jacobi fields: the run, points and velocities, (N, T + 1, d), and Y, W, (N, T + 1, d, k)."""

    run: Trajectory
    path: Tensor
    velocity: Tensor
    Y: Tensor
    W: Tensor


def follow(manifold: Manifold, z: Float[Tensor, "N d"], v: Float[Tensor, "N d"], stride: Stride) -> Trajectory:
    """Geodesics from z with velocity v over [0, 1]: states (z, v), (N, T + 1, 2 d).

    z' = v,   v' = -Gamma(v, v) = -G^{-1} J^T D^2 x (v, v)

    Errors are measured by the metric: of the position over the length of the geodesic, of the velocity over its
    speed. So they do not depend on the units of the latent coordinates. Where the decoder ignores directions, the
    metric is inverted on its range.
    """
    d, inverse = z.shape[-1], inverse_from(manifold, z)

    def field(state: Tensor) -> Tensor:
        z, v = state[:, :d], state[:, d:]
        bend = manifold.lowered_acceleration(z, v, torch.zeros_like(v))
        return torch.cat([v, -inverse(z)(bend)], dim=-1)

    def measure(state: Tensor) -> Callable[[Tensor], Tensor]:
        factor = inverse(state[:, :d]).factor
        speed = _norms(factor, state[:, d:, None])[:, 0]
        return lambda error: _norms(factor, error.unflatten(-1, (2, d)).mT).amax(-1) / speed

    return _integrated(field, measure, torch.cat([z, v], dim=-1), rows_at_once(manifold, z), stride)


def follow_with_neighbors(
    manifold: Manifold,
    z: Float[Tensor, "N d"],
    v: Float[Tensor, "N d"],
    Y: Float[Tensor, "N d k"],
    W: Float[Tensor, "N d k"],
    stride: Stride,
) -> JacobiFlow:
    """Geodesics with k Jacobi fields along each: how its neighbors go apart.

    D Y/dt = W,   D W/dt = -R(Y, v) v

    D/dt is the covariant derivative: only second derivatives of the decoder are needed, where differentiating the
    geodesic equation would take third ones.

    Args:
        manifold: Where to follow them.
        z: Points, (N, d).
        v: Velocities, (N, d).
        Y: Jacobi fields at the points, by columns, (N, d, k).
        W: Their covariant derivatives there, (N, d, k).
        stride: Segments and tolerance; errors of the fields are measured relative to their size.
    """
    d, k, inverse = *Y.shape[-2:], inverse_from(manifold, z)

    def parts(state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        z, v, Y, W = state.split([d, d, d * k, d * k], dim=-1)
        return z, v, Y.unflatten(-1, (d, k)), W.unflatten(-1, (d, k))

    def field(state: Tensor) -> Tensor:
        z, v, Y, W = parts(state)
        at = manifold.deviation(z, v)
        connection, curvature = inverse(z, at.metric)(torch.cat([at.connection, at.curvature], dim=-1)).chunk(2, -1)
        bend = (connection @ v[..., None])[..., 0]
        Y, W = W - connection @ Y, -curvature @ Y - connection @ W
        return torch.cat([v, -bend, Y.flatten(1), W.flatten(1)], dim=-1)

    def measure(state: Tensor) -> Callable[[Tensor], Tensor]:
        z, v, Y, W = parts(state)
        factor = inverse(z).factor
        speed = _norms(factor, v[..., None])[:, 0]
        fields = _norms(factor, torch.cat([Y, W], dim=-1)).norm(dim=-1)

        def size(error: Tensor) -> Tensor:
            dz, dv, dY, dW = parts(error)
            change = _norms(factor, torch.stack([dz, dv], dim=-1)).amax(-1) / speed
            errors = _norms(factor, torch.cat([dY, dW], dim=-1)).norm(dim=-1)
            # Fields that vanish do so for good, without an error.
            return torch.maximum(change, errors / torch.where(fields > 0, fields, 1))

        return size

    start = torch.cat([z, v, Y.flatten(1), W.flatten(1)], dim=-1)
    run = _integrated(field, measure, start, rows_at_once(manifold, z), stride)
    return JacobiFlow(run, *parts(run.states))


def _norms(factor: Float[Tensor, "N d d"], vectors: Float[Tensor, "N d k"]) -> Float[Tensor, "N k"]:
    """Riemannian norms of vectors by columns."""
    return (factor.mT @ vectors).norm(dim=-2)


def _integrated(
    field: Callable[[Tensor], Tensor],
    measure: Callable[[Tensor], Callable[[Tensor], Tensor]],
    start: Float[Tensor, "N k"],
    size: int,
    stride: Stride,
) -> Trajectory:
    """`integrate` for `size` rows at a time."""

    def run(rows: Tensor) -> Trajectory:
        return integrate(
            field, rows, nodes=stride.segments, rtol=stride.rtol, measure=measure, max_iterations=stride.max_iterations
        )

    with torch.no_grad():
        parts = [run(rows) for rows in start.split(size)]
    return Trajectory(*(torch.cat([getattr(p, name) for p in parts]) for name in ("states", "time", "stuck", "steps")))
