"""Parallel transport through the faces of a decoder that is affine on pieces: exact, along the polygon of the nodes."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import grouped
from geodesic.riemannian.maps.exits import between, entered, leave
from geodesic.riemannian.maps.refraction import through_face

__all__ = ["along_faces"]

_MOST_FACES = 10_000  # of one segment


def along_faces(
    manifold: Manifold, path: Float[Tensor, "N nodes d"], v: Float[Tensor, "N d"], size: int
) -> tuple[Float[Tensor, "N nodes d"], Float[Tensor, "N nodes"]]:
    """Vectors at all nodes, and their norms; NaN from where a vertex or a piece of lower rank is on the way.

    v_{i+1} = P_i v_i   with P_i the product over the faces that segment i crosses, see `through_face`

    Vectors are those of the pieces that the path goes on into. On each piece they stay as they are.

    Args:
        manifold: Affine on pieces.
        path: Nodes, between which the path is straight.
        v: Vectors at the first of them.
        size: Points that are worked on at once.
    """
    N, T = path.shape[0], path.shape[1] - 1
    ends = path[:, 1:].flatten(0, 1), path.diff(dim=1).flatten(0, 1)
    P, J, last, known = grouped(lambda end, step: _carriers(manifold, end - step, step), size, *ends)
    # At a node on a face the next segment begins in another piece.
    P, J, last, known = (x.unflatten(0, (N, T)) for x in (P, J, last, known))
    inner = between(manifold, path[:, 1:-1].flatten(0, 1), last[:, :-1].flatten(0, 1), J[:, 1:].flatten(0, 1))
    at_node, regular = through_face(inner, last[:, :-1].flatten(0, 1))
    eye = torch.eye(path.shape[-1], dtype=path.dtype, device=path.device)
    at_node = torch.where(inner.crossed[:, None, None], at_node, eye).unflatten(0, (N, T - 1))
    passed = (~inner.crossed | (inner.single & regular)).unflatten(0, (N, T - 1))
    vectors = [v]
    for i in range(T):
        carried = (P[:, i] @ vectors[-1][..., None])[..., 0]
        fine = known[:, i]
        if i < T - 1:
            carried, fine = (at_node[:, i] @ carried[..., None])[..., 0], fine & passed[:, i]
        vectors.append(torch.where(fine[:, None], carried, torch.nan))
    carried = torch.stack(vectors, 1)
    pieces = torch.cat([J, last[:, -1:]], 1)
    return carried, (pieces @ carried[..., None])[..., 0].norm(dim=-1)


def _carriers(
    manifold: Manifold, z: Float[Tensor, "N d"], step: Float[Tensor, "N d"]
) -> tuple[Float[Tensor, "N d d"], Float[Tensor, "N D d"], Float[Tensor, "N D d"], Bool[Tensor, " N"]]:
    """For segments z + t step: what carries vectors along, the first and the last Jacobian, and whether it is known."""
    first, known = entered(manifold, z, step)
    J, time = first.clone(), torch.zeros_like(z[:, 0])
    P = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device).expand(len(z), -1, -1).clone()
    (rows,) = known.nonzero(as_tuple=True)
    for _ in range(_MOST_FACES):
        if not len(rows):
            return P, first, J, known
        here = z[rows] + time[rows, None] * step[rows]
        left = 1 - time[rows]
        exit = leave(manifold, here, step[rows], J[rows], left, left)
        through, regular = through_face(exit, J[rows])
        crossed = exit.crossed
        known[rows[crossed & ~(exit.single & regular)]] = False
        rows, exit, through = rows[crossed], exit._replace(time=exit.time[crossed], J=exit.J[crossed]), through[crossed]
        P[rows], J[rows] = through @ P[rows], exit.J
        time[rows] = time[rows] + exit.time
        rows = rows[known[rows] & (time[rows] < 1)]
    known[rows] = False
    return P, first, J, known
