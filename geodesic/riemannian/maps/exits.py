"""Faces between the pieces of a decoder that is affine on each of them, found along straight lines."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold

__all__ = ["Exit", "between", "entered", "leave"]

_PARTS = 4  # that a stretch is divided into, in search of its first kink
_SEARCHES = 100  # of one face; where as many do not tell two faces apart, they cross there
_ROUNDINGS = 1e3  # of the outputs: what straightens lines may be off by
_NEAR = 1e-7  # of the size of a point: no geodesic is followed past a vertex that is as near
_RANK = 1e-6  # of a change of the Jacobian that its second singular value may have, across one face


class Exit(NamedTuple):
    """Where straight lines leave their pieces.

    Attributes:
        time: When, (N,); the limit where they stay inside.
        crossed: Whether they leave before the limit, (N,), boolean.
        J: The Jacobian beyond, (N, D, d); that of the piece itself where they stay inside.
        normal: Of the face, a covector of latent space, (N, d).
        single: Whether it is one face, (N,), boolean: no vertex, where several meet, and no bend.
    """

    time: Float[Tensor, " N"]
    crossed: Bool[Tensor, " N"]
    J: Float[Tensor, "N D d"]
    normal: Float[Tensor, "N d"]
    single: Bool[Tensor, " N"]


def entered(manifold: Manifold, z: Float[Tensor, "N d"], v: Float[Tensor, "N d"]) -> tuple[Tensor, Tensor]:
    """The Jacobians, (N, D, d), of the pieces that z + t v lies in for small t > 0, and whether there are any, (N,)."""
    x = manifold.observe(z).flatten(1)
    t = torch.ones_like(z[:, 0])
    for _ in range(_SEARCHES):
        J = _jacobian(manifold, z + t[:, None] * v)
        straight = x + t[:, None] * _times(J, v)
        off = _norm(manifold.observe(z + t[:, None] * v).flatten(1) - straight)
        inside = off <= _noise(x, t[:, None] * _times(J, v))
        if bool(inside.all()):
            break
        t = torch.where(inside, t, t / 2)
    return J, inside


def leave(
    manifold: Manifold,
    z: Float[Tensor, "N d"],
    v: Float[Tensor, "N d"],
    J: Float[Tensor, "N D d"],
    limit: Float[Tensor, " N"],
    guess: Float[Tensor, " N"],
) -> Exit:
    """Where lines z + t v leave the pieces on which x(z + t v) = x(z) + t J v, for t up to a limit.

    t* = t - <r, k> / <k, k>,   r = x(z + t v) - x(z) - t J v,   k = J(z + t v) v - J v

    This is exact from any t in the next piece, which is known by r = (t - t*) k; until then t is brought nearer.

    Args:
        manifold: The embedding.
        z: Where lines begin, inside of their pieces or on faces of them.
        v: Their velocities.
        J: Of their pieces.
        limit: How far they are followed, positive.
        guess: When they may leave, positive: where the search begins.
    """
    x, slope = manifold.observe(z).flatten(1), _times(J, v)
    low, high = torch.zeros_like(limit), torch.minimum(guess, limit)
    time, found, crossed = limit.clone(), torch.zeros_like(limit, dtype=torch.bool), torch.zeros_like(limit).bool()
    bent, beyond = torch.zeros_like(found), J
    parts = torch.arange(1, _PARTS + 1, dtype=z.dtype, device=z.device) / _PARTS
    for _ in range(_SEARCHES):
        t = low[:, None] + (high - low)[:, None] * parts
        r = (
            manifold.observe(z[:, None] + t[..., None] * v[:, None]).flatten(2)
            - x[:, None]
            - t[..., None] * slope[:, None]
        )
        off = _norm(r) > _noise(x[:, None], t[..., None] * slope[:, None])
        some, first = off.any(1), off.to(torch.uint8).argmax(1)
        at = torch.where(some, first, _PARTS - 1)[:, None]
        here = t.gather(1, at)[:, 0]
        through = ~found & ~some & (here >= limit)  # straight up to the limit
        found = found | through
        low = torch.where(some, torch.where(first > 0, t.gather(1, (at - 1).clamp_min(0))[:, 0], low), here)
        high = torch.where(some, here, torch.where(bent, high, torch.minimum(2 * here, limit)))
        bent = bent | some
        ahead = _jacobian(manifold, z + high[:, None] * v)
        k = _times(ahead, v) - slope
        r = manifold.observe(z + high[:, None] * v).flatten(1) - x - high[:, None] * slope
        s = (r * k).sum(-1) / k.square().sum(-1)
        fits = _norm(r - s[:, None] * k) <= _noise(x, high[:, None] * slope)
        new = ~found & bent & fits & (s > 0) & (high - s >= low - 1e-12 * high)
        time = torch.where(new, (high - s).clamp_min(0), time)
        beyond = torch.where(new[:, None, None], ahead, beyond)
        found, crossed = found | new, crossed | new
        if bool(found.all()):
            break
    lost = ~found
    time = torch.where(lost, low, time)
    exit = between(manifold, z + time[:, None] * v, J, beyond)
    return exit._replace(time=time, crossed=crossed | lost, single=exit.single & ~lost)


def between(
    manifold: Manifold, z: Float[Tensor, "N d"], J: Float[Tensor, "N D d"], beyond: Float[Tensor, "N D d"]
) -> Exit:
    """Faces at points z between pieces of two Jacobians, crossed at once; none where these are the same."""
    _, S, Vt = torch.linalg.svd(beyond - J, full_matrices=True)
    size = torch.finfo(J.dtype).eps * _ROUNDINGS * J.flatten(1).norm(dim=1)
    one = (S[:, 1:] <= _RANK * S[:, :1] + size[:, None]).all(1)
    return Exit(torch.zeros_like(z[:, 0]), S[:, 0] > size, beyond, Vt[:, 0], one & _is_flat(manifold, z, J, Vt[:, 1:]))


def _is_flat(
    manifold: Manifold, z: Float[Tensor, "N d"], J: Float[Tensor, "N D d"], along: Float[Tensor, "N k d"]
) -> Bool[Tensor, " N"]:
    """Whether faces go on around points of them, where outputs are those of the pieces beside them: no vertex is there.

    Args:
        manifold: The embedding.
        z: On faces.
        J: Of pieces beside them.
        along: A basis of the faces.
    """
    side = along.sum(1) * _NEAR * (1 + z.abs().amax(1, keepdim=True))
    x, slope = manifold.observe(z).flatten(1), _times(J, side)
    off = [manifold.observe(z + sign * side).flatten(1) - x - sign * slope for sign in (1, -1)]
    return (torch.maximum(*map(_norm, off)) <= _noise(x, slope)) | (along.shape[1] == 0)


def _jacobian(manifold: Manifold, z: Tensor) -> Float[Tensor, "N D d"]:
    J = manifold.jacobian(z).detach()
    return J.reshape(len(z), -1, z.shape[-1])


def _times(J: Tensor, v: Tensor) -> Float[Tensor, "N D"]:
    return (J @ v[..., None])[..., 0]


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1)


def _noise(x: Tensor, step: Tensor) -> Tensor:
    """What rounding leaves of a difference between outputs x and x + step."""
    return _ROUNDINGS * torch.finfo(x.dtype).eps * (_norm(x) + _norm(step))
