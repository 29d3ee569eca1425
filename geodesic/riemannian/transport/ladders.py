"""Parallel transport by ladders: geodesic parallelograms from node to node."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.geometry.pieces import pieced
from geodesic.geometry.points import inverse_at, norms_at

__all__ = ["along_ladder"]

_MOST_ITERATIONS = 50


def along_ladder(
    manifold: Manifold, path: Float[Tensor, "N nodes d"], v: Float[Tensor, "N d"], size: int, *, schild: bool
) -> tuple[Float[Tensor, "N nodes d"], Bool[Tensor, " N"]]:
    """Vectors carried along geodesics from node to node, by the pole ladder or by Schild's.

    pole:    m = exp_x(log_x(y) / 2),   b = exp_m(-log_m(exp_x(w))),   w' = -log_y(b)
    Schild:  a = exp_x(w),   m = exp_a(log_a(y) / 2),   b = exp_x(2 log_x(m)),   w' = log_y(b)

    x and y are neighboring nodes, w is the vector, scaled: its norm is the mean length of the segments, for
    Schild's ladder divided by T. One rung of the pole ladder errs by order 4 in the sides of its parallelogram,
    Schild's by order 3, twice of it in w, and so needs sides that shrink with 1/T^2: either way the whole is of
    order 2. In float32 that costs Schild's ladder many digits.

    The middle of a rung is halfway along its own geodesic. On the spline through the nodes instead, which differs
    from it by order 1/T^2 where the path is no geodesic, nothing would converge: the difference is divided by w.

    Args:
        manifold: Gives the metric and the acceleration of geodesics.
        path: Nodes.
        v: Vectors at the first of them.
        size: For how many points to take derivatives at once.
        schild: Which ladder.

    Returns:
        The vectors at all nodes, and where an inverse exponential was not found.
    """
    T = path.shape[1] - 1
    speed = norms_at(manifold, path[:, 0], v)
    side = pieced(manifold, path).squared_chords(path).clamp_min(0).sqrt().mean(-1) / (T if schild else 1)
    still = (side == 0) | (speed == 0)
    scale = torch.where(still, 0, side / torch.where(still, 1, speed))[:, None]
    groups = zip(path.split(size), (scale * v).split(size), strict=True)
    climb = _schild_ladder if schild else _pole_ladder
    parts = [climb(manifold, nodes, w, size) for nodes, w in groups]
    w, stalled = (torch.cat(x) for x in zip(*parts, strict=True))
    vectors = torch.cat([v[:, None], w / scale[..., None]], dim=1)
    return torch.where(still[:, None, None], v[:, None], vectors), stalled & ~still


def _pole_ladder(manifold: Manifold, path: Tensor, w: Tensor, size: int) -> tuple[Tensor, Tensor]:
    N, T = path.shape[0], path.shape[1] - 1
    # The rungs do not depend on the vector: their middles are found for all at once.
    starts, ends = path[:, :-1].flatten(0, 1), path[:, 1:].flatten(0, 1)
    middles = [_middle(manifold, x, y) for x, y in zip(starts.split(size), ends.split(size), strict=True)]
    m, stalled = (torch.cat(x).unflatten(0, (N, T)) for x in zip(*middles, strict=True))
    lost, vectors = stalled.any(-1), []
    for i in range(T):
        side, first = _logarithm(manifold, m[:, i], _exponential(manifold, path[:, i], w))
        minus, second = _logarithm(manifold, path[:, i + 1], _exponential(manifold, m[:, i], -side))
        w, lost = -minus, lost | first | second
        vectors.append(w)
    return torch.stack(vectors, dim=1), lost


def _schild_ladder(manifold: Manifold, path: Tensor, w: Tensor, size: int) -> tuple[Tensor, Tensor]:
    lost, vectors = torch.zeros_like(w[:, 0], dtype=torch.bool), []
    for x, y in zip(path[:, :-1].unbind(1), path[:, 1:].unbind(1), strict=True):
        m, first = _middle(manifold, _exponential(manifold, x, w), y)
        half, second = _logarithm(manifold, x, m)
        w, third = _logarithm(manifold, y, _exponential(manifold, x, 2 * half))
        lost = lost | first | second | third
        vectors.append(w)
    return torch.stack(vectors, dim=1), lost


def _middle(manifold: Manifold, a: Float[Tensor, "N d"], b: Float[Tensor, "N d"]) -> tuple[Tensor, Tensor]:
    """Halfway along short geodesics from a to b, and where they were not found."""
    v, stalled = _logarithm(manifold, a, b)
    return _exponential(manifold, a, v / 2), stalled


def _exponential(manifold: Manifold, z: Float[Tensor, "N d"], v: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
    """exp_z(v) for short v, by one step of the classical Runge-Kutta method, which errs by |v|^5.

    Over the whole ladder that is order 3, below the ladder's own error of order 2.
    """

    def acceleration(z: Tensor, v: Tensor) -> Tensor:
        bend = manifold.lowered_acceleration(z, v, torch.zeros_like(v))
        return -inverse_at(manifold, z, on_range=True)(bend)

    k1 = acceleration(z, v)
    k2 = acceleration(z + v / 2, v + k1 / 2)
    k3 = acceleration(z + v / 2 + k1 / 4, v + k2 / 2)
    return z + v + (k1 + k2 + k3) / 6


def _logarithm(manifold: Manifold, a: Float[Tensor, "N d"], b: Float[Tensor, "N d"]) -> tuple[Tensor, Tensor]:
    """The v with exp_a(v) = b for near points, by v <- v + D^{-1} (b - exp_a(v)).

    D is I - Gamma(v_0, .) at first, the derivative of the exponential map to first order in v, and improved by
    Broyden's updates: with D = I this is the plain fixed-point iteration, which takes thrice as long. Each row goes
    on until rounding is reached or nothing is gained any more. What the decoder ignores at a is no part of b - a.

    Returns:
        v, and where it was not found.
    """
    inverse = inverse_at(manifold, a, on_range=True)
    eps, v = torch.finfo(a.dtype).eps, inverse.seen(b - a)
    eye = torch.eye(v.shape[-1], dtype=v.dtype, device=v.device)
    gamma = inverse(manifold.lowered_connection(a, v))
    active = gamma.isfinite().flatten(1).all(-1)
    D = torch.where(active[:, None, None], eye - gamma, eye)
    v = v + (gamma @ v[..., None])[..., 0] / 2  # exp_a(v) = a + v - Gamma(v, v) / 2 + ...
    rest, step = torch.full_like(v[:, 0], torch.inf), torch.zeros_like(v)
    for _ in range(_MOST_ITERATIONS):
        r = inverse.seen(b - _exponential(manifold, a, v))
        size, length = ((inverse.factor.mT @ x[..., None])[..., 0].norm(dim=-1) for x in (r, v))
        shrinks = size < 0.9 * rest  # false for NaN
        rest = torch.where(active, size, rest)
        active = active & shrinks & (size > 100 * eps * length)
        if not active.any():
            break
        square = step.square().sum(-1, keepdim=True)
        update = r[..., None] * (step / torch.where(square > 0, square, 1))[:, None]
        D = torch.where(active[:, None, None], D - update, D)
        step = torch.where(active[:, None], torch.linalg.solve_ex(D, r).result, 0)
        v = v + step
    return v, ~(rest <= eps**0.5 * (inverse.factor.mT @ v[..., None])[..., 0].norm(dim=-1))
