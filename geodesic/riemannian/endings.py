"""How an integration ended, row by row."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.solvers.status import Status

__all__ = ["after_integration", "at_constant_speed"]


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
