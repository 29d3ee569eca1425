"""Time-discrete geodesics: the step that the discrete energy itself takes, without second derivatives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.geometry.inverse import MetricInverse
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import grouped, rows_at_once
from geodesic.geometry.points import inverse_from

__all__ = ["DiscreteFlow", "first_momentum", "follow_discretely"]

_ITERATIONS = 60  # of one step's equation; a step that needs as many is too long


class DiscreteFlow(NamedTuple):
    """Discrete geodesics: nodes and velocities, (N, T + 1, d), and the share of the steps that could be taken, (N,)."""

    path: Tensor
    velocity: Tensor
    time: Tensor


def first_momentum(manifold: Manifold, path: Float[Tensor, "N nodes d"]) -> Float[Tensor, "N d"]:
    """P = -T/2 times the derivative of the first squared chord in its first node: minus the derivative of E in z_0.

    G^{-1} p is the initial velocity, of second order in 1/T. For an embedding p = T J_0^T (x_1 - x_0).
    """
    size = rows_at_once(manifold, path[:, 0], order=1)
    slope, _ = grouped(lambda a, b: _half_slopes(manifold, a, b), size, path[:, 0], path[:, 1])
    return (path.shape[1] - 1) * -slope


def follow_discretely(
    manifold: Manifold, z: Float[Tensor, "N d"], v: Float[Tensor, "N d"], segments: int
) -> DiscreteFlow:
    """Follow geodesics by the stationary points of the discrete energy, in T steps, for all rows at once.

    -d L(z_i, z_{i+1}) / d z_i = p_i  for z_{i+1},   p_{i+1} = d L(z_i, z_{i+1}) / d z_{i+1},   L = T/2 squared chord

    p is the momentum G z'. Nodes that follow each other in this way make the derivative of the energy vanish in the
    node between them: this is the inverse of what `solve` does, and of second order in 1/T. Chords are all that it
    needs, so it also sees the kinks of a decoder that has no second derivatives.
    """
    size = rows_at_once(manifold, z, order=1)
    return DiscreteFlow(*grouped(lambda z, v: _followed(manifold, z, v, segments), size, z, v))


def _followed(manifold: Manifold, z: Float[Tensor, "N d"], v: Float[Tensor, "N d"], segments: int) -> DiscreteFlow:
    """`follow_discretely` for rows that fit into memory."""
    N, T = len(z), segments
    path, velocity = (x[:, None].expand(-1, T + 1, -1).clone() for x in (z, v))
    inverse_of = inverse_from(manifold, z)
    inverse = inverse_of(z)
    p = torch.linalg.vecdot(manifold.metric_tensor(z).detach(), v[:, None])
    time = z.new_ones(N)
    alive = inverse.regular.clone()
    for i in range(T):
        # Extrapolated from the nodes behind: two more orders than the velocity alone would give.
        guess = path[:, i] + velocity[:, i] / T if i < 2 else 3 * path[:, i] - 3 * path[:, i - 1] + path[:, i - 2]
        after, solved = _next(manifold, inverse, path[:, i], guess, p / T)
        alive = alive & solved
        path[alive, i + 1 :] = after[alive, None]
        p = T * _half_slopes(manifold, path[:, i], path[:, i + 1])[1]
        inverse = inverse_of(path[:, i + 1])
        alive &= inverse.regular
        velocity[alive, i + 1 :] = inverse(p)[alive, None]
        time = torch.where(alive | (time < 1), time, i / T)
    return DiscreteFlow(path, velocity, time)


def _next(
    manifold: Manifold, inverse: MetricInverse, z: Tensor, after: Tensor, p: Tensor
) -> tuple[Float[Tensor, "N d"], Bool[Tensor, " N"]]:
    """Solve -d(half a squared chord)/dz = p for the other end, by Newton's method with the metric as its matrix."""
    eps = torch.finfo(z.dtype).eps
    stride = torch.linalg.vecdot(p, inverse(p)).clamp_min(0).sqrt()
    solved = stride == 0
    best = torch.full_like(stride, torch.inf)
    for _ in range(_ITERATIONS):
        change = inverse(p + _half_slopes(manifold, z, after)[0])
        size = (inverse.factor.mT @ change[..., None])[..., 0].norm(dim=-1)
        after = torch.where(solved[:, None], after, after + change)
        # To rounding: as small as it gets, and no longer falling.
        solved |= (size <= 4 * eps * stride) | ((size <= 1e4 * eps**0.9 * stride) & (size >= best / 2))
        best = torch.minimum(best, size)
        if bool(solved.all()):
            break
    return after, solved


def _half_slopes(manifold: Manifold, a: Float[Tensor, "N d"], b: Float[Tensor, "N d"]) -> tuple[Tensor, Tensor]:
    """Derivatives of half the squared chord from a to b in both of its ends."""
    d = a.shape[-1]

    def half_chord(ends: Tensor) -> Tensor:
        return manifold.squared_chords(ends.reshape(-1, 2, d))[:, 0] / 2

    with torch.no_grad():
        slope = manifold.way(a).pull(half_chord, torch.cat([a, b], dim=-1), a.new_ones(len(a)))
    return slope[:, :d], slope[:, d:]
