"""The exponential map with its derivatives: how the end of a geodesic follows its beginning."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import rows_at_once
from geodesic.geometry.pieces import pieced
from geodesic.geometry.points import deficiency_at, inverse_at
from geodesic.riemannian.maps.discrete import follow_discretely
from geodesic.riemannian.maps.flow import follow_with_neighbors
from geodesic.riemannian.maps.stride import Stride

__all__ = ["Neighbors", "ends_by_beginnings", "exp_with_neighbors", "varied"]


class Neighbors(NamedTuple):
    """Geodesics over unit time, and the derivatives of their ends.

    Attributes:
        path: Nodes, (N, T + 1, d).
        by_point: Derivative of the end in the first point, (N, d, d): what is kept is the velocity in parallel for
            "ode", the momentum for "discrete".
        by_velocity: Derivative of the end in the velocity, (N, d, d).
        reached: Whether unit time was reached, (N,).
    """

    path: Float[Tensor, "N nodes d"]
    by_point: Float[Tensor, "N d d"]
    by_velocity: Float[Tensor, "N d d"]
    reached: Bool[Tensor, " N"]


def exp_with_neighbors(
    manifold: Manifold, z: Float[Tensor, "N d"], v: Float[Tensor, "N d"], stride: Stride
) -> Neighbors:
    """exp_z(v) with its derivatives in z and v.

    "ode" takes Jacobi fields. "discrete" differentiates its own steps, so that its derivatives are exact:

    H_{i,i-1} Y_{i-1} + H_{i,i} Y_i + H_{i,i+1} Y_{i+1} = 0,   H the Hessian of the discrete energy.
    """
    N, d = z.shape
    units = torch.eye(d, dtype=z.dtype, device=z.device).expand(N, d, d)
    # Where nothing moves the derivatives are known, and sizes relative to the length are not.
    path = z[:, None].expand(-1, stride.segments + 1, -1).clone()
    by_point, by_velocity = units.clone(), units.clone()
    reached = torch.ones(N, dtype=torch.bool, device=z.device)
    (moving,) = (v != 0).any(-1).nonzero(as_tuple=True)
    step = _by_jacobi_fields if stride.method == "ode" else _by_the_discrete_energy
    size = rows_at_once(manifold, z)
    size = size if stride.method == "ode" else max(1, size // (stride.segments + 3))
    for rows in moving.split(size) if len(moving) else ():
        path[rows], by_point[rows], by_velocity[rows], reached[rows] = step(manifold, z[rows], v[rows], stride)
    return Neighbors(path, by_point, by_velocity, reached)


def varied(
    manifold: Manifold,
    stride: Stride,
    z: Float[Tensor, "N d"],
    v: Float[Tensor, "N d"],
    change: Float[Tensor, "N d"],
    turn: Float[Tensor, "N d"],
) -> tuple[Float[Tensor, "N d"], Float[Tensor, "N d"]]:
    """Points and velocities that differ by (change, turn) to first order, as the derivatives of `Neighbors` mean it.

    "ode": v is carried to z + change by the connection. "discrete": the momentum G v is kept, which needs none.
    """
    if stride.method == "ode":
        carried = manifold.lowered_connection(z, v) @ change[..., None]
        return z + change, v + turn - inverse_at(manifold, z, on_range=True)(carried[..., 0])
    momentum = manifold.lowered(z, v + turn).detach()
    return z + change, inverse_at(manifold, z + change, on_range=True)(momentum)


def _by_jacobi_fields(manifold: Manifold, z: Tensor, v: Tensor, stride: Stride) -> Neighbors:
    d = z.shape[-1]
    units = torch.eye(d, dtype=z.dtype, device=z.device).expand(len(z), d, d)
    none = torch.zeros_like(units)
    Y, W = torch.cat([units, none], dim=-1), torch.cat([none, units], dim=-1)
    beside = follow_with_neighbors(manifold, z, v, Y, W, stride)
    by_point, by_velocity = beside.Y[:, -1].split(d, dim=-1)
    return Neighbors(beside.path, by_point, by_velocity, beside.run.time == 1)


def _by_the_discrete_energy(manifold: Manifold, z: Tensor, v: Tensor, stride: Stride) -> Neighbors:
    run = follow_discretely(manifold, z, v, stride.segments)
    return Neighbors(run.path, *ends_by_beginnings(manifold, run.path), run.time == 1)


def ends_by_beginnings(manifold: Manifold, path: Float[Tensor, "N nodes d"]) -> tuple[Tensor, Tensor]:
    """Derivatives of the last node of discrete geodesics in the first node and in the velocity there, (N, d, d) each.

    For a change of the first node the momentum is kept. Where the decoder ignores directions at the first nodes, blocks
    are inverted on their range, and nodes do not change along those.
    """
    inverse_of = _inverse_of_blocks(manifold, path[:, 0])
    T, G = path.shape[1] - 1, pieced(manifold, path).metric_tensor(path[:, 0]).detach()
    # With its second node before the first and its last but one behind the last, all blocks are those of interior
    # nodes; at either end both neighbors are the same, which doubles the block.
    longer = torch.cat([path[:, 1:2], path, path[:, -2:-1]], dim=1)
    H = pieced(manifold, longer).expansion(longer).hessian
    units, none = torch.eye(G.shape[-1], dtype=G.dtype, device=G.device).expand_as(G), torch.zeros_like(G)
    before = torch.cat([units, none], dim=-1)  # Y_0, for changes of the point and of the velocity
    p = torch.cat([none, G], dim=-1)  # of the momentum
    Y = -inverse_of(H.upper[:, 0], p / T + H.diagonal[:, 0] @ before / 2)
    for i in range(1, T):
        after = -inverse_of(H.upper[:, i], H.upper[:, i - 1].mT @ before + H.diagonal[:, i] @ Y)
        before, Y = Y, after
    by_point, by_velocity = Y.chunk(2, dim=-1)
    return by_point, by_velocity


def _inverse_of_blocks(manifold: Manifold, z: Float[Tensor, "N d"]) -> Callable[[Tensor, Tensor], Tensor]:
    """(A, B) -> A^{-1} B, for blocks A of the rank that the metric has at points z."""
    deficiency = deficiency_at(manifold, z)
    if not bool(deficiency.any()):
        return lambda A, B: torch.linalg.solve_ex(A, B).result
    d = z.shape[-1]
    size = manifold.metric_tensor(z).detach().diagonal(dim1=-2, dim2=-1).sqrt()
    size = torch.where(size > 0, size, 1)  # so that units of the coordinates do not matter
    seen = torch.arange(d, device=z.device) < (d - deficiency)[:, None]

    def on_range(A: Tensor, B: Tensor) -> Tensor:
        known = A.isfinite().flatten(1).all(1)[:, None, None]
        even = torch.where(known, A / size[:, :, None] / size[:, None, :], 0)
        U, S, Vh = torch.linalg.svd(even)
        inverse = (Vh.mT * torch.where(seen, 1 / S, 0)[:, None, :]) @ U.mT
        return torch.where(known, inverse @ (B / size[:, :, None]) / size[:, :, None], torch.nan)

    return on_range
