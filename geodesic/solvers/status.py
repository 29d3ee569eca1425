"""Why a row of an answer ended, and what to do about it: one list for the solvers and for all tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Status", "remedies", "with_names"]


class Status(IntEnum):
    """Why a row ended. `remedy` says what to do about it. The numbers are stable: files keep them.

    Example:
        >>> import geodesic
        >>> print(geodesic.Status.MAX_STEPS.remedy)
        the step limit came first: raise max_steps, raise tol, or try another solver
    """

    # Of `solve`, and of all that ends well.
    RUNNING = 0
    CONVERGED = 1
    MAX_STEPS = 2
    STALLED = 3
    OWN_RULE = 4
    DIVERGED = 5
    NOT_FINITE = 6
    NOT_CONNECTED = 7
    # Of the tools that follow geodesics, carry vectors along them, or search with them.
    MAX_ITERATIONS = 8
    NO_NEARER = 9
    CUT_SHORT = 10
    SPEED_CHANGED = 11
    NO_GEODESIC = 12
    NOT_RESOLVED = 13
    # Of all of them.
    JUMP = 14
    # Of `solve` again.
    NOT_SHORTER = 15
    # Of distances between many points.
    NOT_SOUGHT = 16
    # Of `solve` once more.
    FAR_AWAY = 17

    @property
    def remedy(self) -> str:
        """What happened and what to do, in one line."""
        return _REMEDIES[self]


_REMEDIES = {
    Status.RUNNING: "still running",
    Status.CONVERGED: "converged: what is left to gain, or to correct, is at most tol",
    Status.MAX_STEPS: "the step limit came first: raise max_steps, raise tol, or try another solver",
    Status.STALLED: (
        "steps no longer lower the energy: use the decoder direction if this was the encoder's, float64 if this was "
        "float32; a decoder with kinks (ReLU) can have its minimum on one, where no gradient vanishes"
    ),
    Status.OWN_RULE: (
        "the solver's own rule stopped it before the relative excess energy reached tol: lower epsilon, or "
        "use the decoder direction if this was the encoder's"
    ),
    Status.DIVERGED: "the fixed step left the region where the energy is finite: lower step_size or drop it",
    Status.NOT_FINITE: (
        "the decoder or its derivatives are not finite along the path, their squares leave the range of the dtype, or "
        "a metric tensor is not positive definite there: check the weights there, give a path around, use float64, or "
        "an activation with two derivatives"
    ),
    Status.NOT_CONNECTED: (
        'the neighbor graph does not connect the ends: give more graph_points between them, or use init="best"'
    ),
    Status.MAX_ITERATIONS: (
        "the limit of iterations came first: raise max_iterations (that of an integration is "
        "follow=Follow(max_iterations=...)) or the tolerance; where second derivatives jump (ELU), leave "
        'method="ode" out'
    ),
    Status.NO_NEARER: (
        "iterations no longer bring the answer nearer: the ends may be conjugate, discrete steps too long, or rounding "
        "is reached; use more segments, float64, a larger rtol, or nearer points"
    ),
    Status.CUT_SHORT: (
        "the geodesic cannot be followed any further: the metric becomes singular there (a pole of the coordinates, a "
        "saturated decoder), values leave the finite numbers, faces of a decoder that is affine on pieces meet there, "
        'or second derivatives jump (ELU), where follow=Follow(method="discrete") goes on'
    ),
    Status.SPEED_CHANGED: (
        "the speed, constant along every geodesic, has changed: lower rtol or raise segments (in follow=Follow(...), "
        'but for `shoot`), use float64, or follow=Follow(method="discrete") (the geodesic equation does not see the '
        "kinks of a ReLU)"
    ),
    Status.NO_GEODESIC: (
        "the solver found no geodesic between the points to begin with: see its status, raise segments or max_steps in "
        "search=Search(...)"
    ),
    Status.NOT_RESOLVED: (
        "the nodes are too far apart for what happens between them (a vector carried within tol, a length that is no "
        "less than the distance of its ends): use more segments, leave out the encoder, or use a decoder with two "
        "continuous derivatives; for a ReLU, transport='projection'"
    ),
    Status.JUMP: (
        "the decoder jumps between nodes of the path, or hides a part there, which derivatives do not see, so lengths "
        "leave it out, that of the straight line too: look for round, sign, argmax, a hard threshold or .detach() in "
        "it, and put a smooth function in its place, or take ends on one side of the jump"
    ),
    Status.NOT_SHORTER: (
        "the solver ended on a curve longer than the one it began with, which is returned: between its nodes the path "
        'leaves the surface (a fold, a ridge, a normalization of numbers that become alike); set init="best", with '
        "more graph_points where that is not enough, or leave segments out"
    ),
    Status.NOT_SOUGHT: (
        "no geodesic was looked for: the length is that of another curve, and an upper bound of the distance; use "
        'method="exact"'
    ),
    Status.FAR_AWAY: (
        "steps lead ever farther away, by now more than thirty times the size of the ends, and the energy hardly "
        "falls: the decoder hardly sees some coordinates (collapsed ones), and there may be no shortest path; train "
        "with fewer of them or a smaller kl_weight, give the decoder uncertainty away from the data, use "
        "DensityManifold, or raise tol"
    ),
}


def remedies(statuses: Iterable[int]) -> list[str]:
    """A line for each status of rows that have not converged: how many there are, and what to do.

    Example:
        >>> from geodesic.solvers.status import Status, remedies
        >>> print(*remedies([1, 2, 1, 2]))
        2 max_steps: the step limit came first: raise max_steps, raise tol, or try another solver
    """
    counts = Counter(statuses)
    return [f"{counts[k]} {k.name.lower()}: {k.remedy}" for k in Status if counts[k] and k != Status.CONVERGED]


def with_names(arrays: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Arrays to write to a file, with the names of statuses beside their numbers: `status_name` beside `status`.

    Example:
        >>> import numpy as np
        >>> from geodesic.solvers.status import with_names
        >>> with_names({"status": np.array([1, 3])})["status_name"]
        array(['CONVERGED', 'STALLED'], dtype='<U9')
    """
    numbers = {key: x for key, x in arrays.items() if key.endswith("status")}
    return {**arrays, **{f"{key}_name": np.vectorize(lambda k: Status(k).name)(x) for key, x in numbers.items()}}
