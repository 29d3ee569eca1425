"""How a geodesic that was followed ended, row by row."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.jumps import along, unseen
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import grouped, rows_at_once
from geodesic.solvers.status import Status

__all__ = ["after_integration", "at_constant_speed", "unless_unseen"]

_SHORT = 1e-3  # of its length, by which chords may exceed a geodesic: what a solution calls resolved


def after_integration(time: Float[Tensor, " N"], stuck: Bool[Tensor, " N"]) -> Int[Tensor, " N"]:
    """The `Status` of integrations over [0, 1] that came as far as `time`."""
    status = torch.where(time < 1, Status.MAX_ITERATIONS, Status.CONVERGED)
    return torch.where(stuck, Status.CUT_SHORT, status)


def at_constant_speed(
    speed: Float[Tensor, "N nodes"], moving: Bool[Tensor, " N"], status: Int[Tensor, " N"], rtol: float
) -> tuple[Float[Tensor, " N"], Int[Tensor, " N"]]:
    """The relative change of the speed along geodesics, and their status with it.

    None that has converged may change its speed by more than `rtol`. Rows that do not move have no speed to change.
    """
    change = ((speed - speed[:, :1]).abs().amax(-1) / speed[:, 0]).nan_to_num(nan=torch.inf)
    change = torch.where(moving, change, 0)
    return change, torch.where((status == Status.CONVERGED) & (change > rtol), Status.SPEED_CHANGED, status)


def unless_unseen(
    manifold: Manifold,
    path: Float[Tensor, "N nodes d"],
    status: Int[Tensor, " N"],
    speed: Float[Tensor, "N nodes"] | None = None,
) -> Int[Tensor, " N"]:
    """The status, or what forbids it where derivatives do not see all of the way.

    `Status.JUMP` where the decoder jumps along the path, or hides a part: no equation and no derivative sees that.
    `Status.NOT_RESOLVED` where a geodesic that has converged is shorter than its own chords: it passed over a steep
    place.

    Args:
        manifold: Where the paths lie.
        path: Nodes at equal times in [0, 1], (N, T + 1, d).
        status: What is known otherwise, (N,).
        speed: Riemannian speeds at the nodes, where the paths are to be geodesics.
    """
    if path.shape[1] == 2:  # no spline leads through two nodes
        path = torch.stack([path[:, 0], path.mean(1), path[:, 1]], dim=1)
        speed = None if speed is None else speed[:, :1].expand(-1, 3)

    def look(some: Tensor, *speed: Tensor) -> tuple[Tensor, ...]:
        seen = along(manifold, some)
        short = torch.zeros_like(seen.missed[:, 0], dtype=torch.bool)
        if speed:  # coarse quadrature alone says nothing of a geodesic, whose speed is constant
            lengths = (speed[0][:, 1:] + speed[0][:, :-1]) / 2 / (some.shape[1] - 1)
            beyond = seen.squared_chords.clamp_min(0).sqrt() - torch.maximum(lengths, seen.lengths)
            short = beyond.clamp_min(0).sum(1) > _SHORT * lengths.sum(1)
        return unseen(manifold, some, seen).jump, short

    with torch.no_grad():
        size = max(1, rows_at_once(manifold, path[:, 0], order=1) // (3 * path.shape[1]))
        jumping, short = grouped(look, size, path.detach(), *(() if speed is None else (speed,)))
    if manifold.has_embedding:
        status = torch.where(short & (status == Status.CONVERGED), Status.NOT_RESOLVED, status)
    return torch.where(jumping, Status.JUMP, status)
