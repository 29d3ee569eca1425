"""Geodesics of decoders that are affine on pieces: straight on each, refracted at the faces between them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.inverse import MetricInverse
from geodesic.geometry.manifold import Manifold
from geodesic.riemannian.maps.exits import Exit, entered, leave
from geodesic.solvers.status import Status

__all__ = ["RefractedFlow", "follow_refracting", "has_affine_pieces", "require_affine_pieces", "through_face"]

_MOST_FACES = 10_000  # that a geodesic may cross


class RefractedFlow(NamedTuple):
    """Geodesics by refraction.

    Attributes:
        path: Nodes at equal times, (N, T + 1, d).
        velocity: There, (N, T + 1, d).
        speed: |J v| there, (N, T + 1).
        time: Share of the time for which each was followed, (N,).
        status: Why it ended, a `Status` as integer, (N,).
        faces: How many faces it crossed, (N,).
    """

    path: Float[Tensor, "N nodes d"]
    velocity: Float[Tensor, "N nodes d"]
    speed: Float[Tensor, "N nodes"]
    time: Float[Tensor, " N"]
    status: Int[Tensor, " N"]
    faces: Int[Tensor, " N"]


def has_affine_pieces(manifold: Manifold, z: Float[Tensor, "N d"]) -> bool:
    """Whether outputs are affine between their kinks, as far as it was looked."""
    return manifold.has_embedding and manifold.door is not None and manifold.door.findings(z).affine_on_pieces


def require_affine_pieces(manifold: Manifold, z: Float[Tensor, "N d"]) -> None:
    """Raise `InputError` where geodesics at points like z cannot be followed by refraction."""
    if z.dtype != torch.float64:
        raise InputError(f"z: 'refraction' finds faces by rounding and needs float64, got {z.dtype}")
    if not has_affine_pieces(manifold, z):
        raise InputError(
            "manifold: 'refraction' needs outputs that are affine on pieces, as of a network of ReLUs with a linear "
            "last layer under Euclidean outputs; use follow=Follow(method='discrete')"
        )


def through_face(exit: Exit, J: Float[Tensor, "N D d"]) -> tuple[Float[Tensor, "N d d"], Bool[Tensor, " N"]]:
    """What carries vectors through faces, P, and whether both sides have a metric there.

    P = I + (m_+ - m_-) n^T / |n|_-,   m = G^{-1} n / |n|,   |n|^2 = n^T G^{-1} n

    Both pieces unfold into one flat space. Along the face they agree as they are, and its unit normals m_- and m_+ are
    one vector there: what is straight goes on straight, and what is parallel stays parallel.
    """
    n = exit.normal
    before, after = (MetricInverse(K.mT @ K) for K in (J, exit.J))
    size_before, size_after = (torch.linalg.vecdot(n, inverse(n)).sqrt()[:, None] for inverse in (before, after))
    change = after(n) / size_after - before(n) / size_before
    eye = torch.eye(n.shape[-1], dtype=n.dtype, device=n.device)
    return eye + change[:, :, None] * (n / size_before)[:, None], before.regular & after.regular


def follow_refracting(
    manifold: Manifold, z: Float[Tensor, "N d"], v: Float[Tensor, "N d"], segments: int
) -> RefractedFlow:
    """Follow geodesics over unit time, from face to face, for all rows at once.

    Exact to rounding where the outputs are affine on pieces of full rank. At a vertex, or any place where several faces
    meet, no direction is the straight one, and at a piece of lower rank none is known: rows end there.
    """
    N, T = len(z), segments
    clock = torch.arange(T + 1, dtype=z.dtype, device=z.device) / T
    path, velocity = (x[:, None].expand(-1, T + 1, -1).clone() for x in (z, v))
    status = torch.full((N,), Status.CONVERGED, dtype=torch.long, device=z.device)
    time, faces = torch.zeros_like(z[:, 0]), torch.zeros_like(status)
    J, inside = entered(manifold, z, v)
    speed = _speed(J, v)[:, None].expand(-1, T + 1).clone()
    still = (v == 0).all(-1)
    time = torch.where(still, 1.0, time)
    status = torch.where(~still & ~(inside & MetricInverse(J.mT @ J).regular), Status.CUT_SHORT, status)
    (rows,) = (~still & (status == Status.CONVERGED)).nonzero(as_tuple=True)
    z, v, J, guess = z[rows], v[rows], J[rows], torch.full_like(z[rows, 0], 1 / T)
    for _ in range(_MOST_FACES):
        if not len(rows):
            break
        exit = leave(manifold, z, v, J, 1 - time[rows], guess)
        until = torch.where(exit.crossed, time[rows] + exit.time, 1.0)
        # All later nodes: those beyond the next face are set again.
        ahead = (clock >= time[rows, None]).nonzero(as_tuple=True)
        which, node = rows[ahead[0]], ahead[1]
        t = torch.minimum(clock[node], until[ahead[0]]) - time[which]
        path[which, node] = z[ahead[0]] + t[:, None] * v[ahead[0]]
        velocity[which, node] = v[ahead[0]]
        speed[which, node] = _speed(J, v)[ahead[0]]
        P, regular = through_face(exit, J)
        passed = exit.crossed & exit.single & regular
        time[rows] = until
        faces[rows] += exit.crossed
        status[rows[exit.crossed & ~passed]] = Status.CUT_SHORT
        z, v, J = z + exit.time[:, None] * v, (P @ v[..., None])[..., 0], exit.J
        guess = 2 * exit.time.clamp_min(1e-9)
        keep = passed & (until < 1)
        rows, z, v, J, guess = rows[keep], z[keep], v[keep], J[keep], guess[keep]
    status[rows] = Status.MAX_ITERATIONS
    return RefractedFlow(path, velocity, speed, time, status, faces)


def _speed(J: Float[Tensor, "N D d"], v: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
    return (J @ v[..., None])[..., 0].norm(dim=-1)
