"""Why a computation on a manifold ended, row by row."""

from __future__ import annotations

from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Outcome", "after_integration", "at_constant_speed"]


class Outcome(IntEnum):
    """Why a row ended. `remedy` says what to do about it.

    Example:
        >>> import geodesic
        >>> print(geodesic.Outcome.MAX_STEPS.remedy)
        the step limit came first: raise max_steps or rtol; where second derivatives jump (ELU), take method="discrete"
    """

    CONVERGED = 1
    MAX_STEPS = 2
    STALLED = 3
    NOT_FINITE = 4
    SPEED_CHANGED = 5
    NO_GEODESIC = 6
    NOT_RESOLVED = 7

    @property
    def remedy(self) -> str:
        """What happened and what to do, in one line."""
        return _REMEDIES[self]


_REMEDIES = {
    Outcome.CONVERGED: "converged",
    Outcome.MAX_STEPS: (
        "the step limit came first: raise max_steps or rtol; where second derivatives jump (ELU), take "
        'method="discrete"'
    ),
    Outcome.STALLED: (
        "steps no longer bring the answer nearer: the ends may be conjugate, discrete steps too long, or rounding is "
        "reached; use more segments, float64, a larger rtol, or nearer points"
    ),
    Outcome.NOT_FINITE: (
        "the geodesic cannot be followed any further: the metric becomes singular there (a pole of the coordinates, a "
        "saturated decoder), values leave the finite numbers, or second derivatives jump (ELU), where "
        'method="discrete" goes on'
    ),
    Outcome.SPEED_CHANGED: (
        "the speed, constant along every geodesic, has changed: lower rtol, raise segments, use float64, or "
        'method="discrete" (the geodesic equation does not see the kinks of a ReLU)'
    ),
    Outcome.NO_GEODESIC: (
        "the solver found no geodesic between the points to begin with: see its status, raise segments or max_steps"
    ),
    Outcome.NOT_RESOLVED: (
        "the nodes are too far apart to carry the vector within tol: use a path with more segments, leave out the "
        "encoder, or use a decoder with two continuous derivatives; for a ReLU, method='projection'"
    ),
}


def after_integration(time: Float[Tensor, " N"], stuck: Bool[Tensor, " N"]) -> Int[Tensor, " N"]:
    """The `Outcome` of integrations over [0, 1] that came as far as `time`."""
    status = torch.where(time < 1, Outcome.MAX_STEPS, Outcome.CONVERGED)
    return torch.where(stuck, Outcome.NOT_FINITE, status)


def at_constant_speed(
    speed: Float[Tensor, "N nodes"], moving: Bool[Tensor, " N"], status: Int[Tensor, " N"], rtol: float
) -> tuple[Float[Tensor, " N"], Int[Tensor, " N"]]:
    """The relative change of the speed along geodesics, and their status with it.

    None that has converged may change its speed by more than `rtol`. Rows that do not move have no speed to change.
    """
    change = ((speed - speed[:, :1]).abs().amax(-1) / speed[:, 0]).nan_to_num(nan=torch.inf)
    change = torch.where(moving, change, 0)
    return change, torch.where((status == Outcome.CONVERGED) & (change > rtol), Outcome.SPEED_CHANGED, status)
