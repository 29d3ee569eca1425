"""Why a pair ended, and what to do about it."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Status"]


class Status(IntEnum):
    """Why a pair ended. `remedy` says what to do about it.

    Example:
        >>> import geodesic
        >>> print(geodesic.Status.MAX_STEPS.remedy)
        the step limit came first: raise max_steps, raise tol, or try another solver
    """

    RUNNING = 0
    CONVERGED = 1
    MAX_STEPS = 2
    STALLED = 3
    OWN_RULE = 4
    DIVERGED = 5
    NOT_FINITE = 6
    NOT_CONNECTED = 7

    @property
    def remedy(self) -> str:
        """What happened and what to do, in one line."""
        return _REMEDIES[self]


_REMEDIES = {
    Status.RUNNING: "still running",
    Status.CONVERGED: "converged: the relative excess energy is at most tol",
    Status.MAX_STEPS: "the step limit came first: raise max_steps, raise tol, or try another solver",
    Status.STALLED: (
        "steps no longer lower the energy: use the decoder direction if this was the encoder's, float64 if this was "
        "float32; a decoder with kinks (ReLU) can have its minimum on one, where no gradient vanishes"
    ),
    Status.OWN_RULE: (
        "the solver's own rule stopped it before the relative excess energy reached tol: lower epsilon, or "
        "use the decoder direction if this was the encoder's"
    ),
    Status.NOT_FINITE: (
        "the decoder or its derivatives are not finite along the path, or their squares leave the range of the dtype: "
        "check the weights there, give a path around, use float64, or an activation with two derivatives"
    ),
    Status.NOT_CONNECTED: (
        'the neighbor graph does not connect the ends: give more points, raise neighbors, or use init="best"'
    ),
    Status.DIVERGED: "the fixed step left the region where the energy is finite: lower step_size or drop it",
}
