"""What `solve` tells on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Progress", "Report", "Watch"]

Report = Callable[[int, Tensor, Tensor, Tensor], None]
"""Takes the step, and energies, active and converged pairs, (P,)."""


@dataclass(frozen=True)
class Progress:
    """What `solve` tells its callback after each step, for all pairs, in the order given.

    Where a warm-up hands over to its solver, the same number of steps is told twice: before and after. With
    `init="best"`, with `length_rtol`, and where memory allows only groups of pairs, steps begin anew.

    Attributes:
        step: Number of steps done; 0 before the first.
        energy: Energies, (*batch,); NaN for pairs whose turn has not come.
        active: Which pairs are still being improved, (*batch,), boolean.
        converged: Which pairs have converged, (*batch,), boolean.
    """

    step: int
    energy: Float[Tensor, "*batch"]
    active: Bool[Tensor, "*batch"]
    converged: Bool[Tensor, "*batch"]


class Watch:
    """Turns what runs on some pairs report into a `Progress` of all pairs.

    Args:
        callback: Whom to tell, if anybody.
        batch: The leading axes of the endpoints.
        like: A tensor, (P, d), of the dtype and on the device of the paths.
    """

    def __init__(
        self, callback: Callable[[Progress], None] | None, batch: torch.Size, like: Float[Tensor, "P d"]
    ) -> None:
        self._callback, self._batch = callback, batch
        self._energy = torch.full_like(like[:, 0], torch.nan)
        self._active = torch.ones_like(self._energy, dtype=torch.bool)
        self._converged = torch.zeros_like(self._active)

    def of(self, rows: Tensor) -> Report:
        """The report of a run on these rows."""

        def report(step: int, energy: Tensor, active: Tensor, converged: Tensor) -> None:
            if self._callback is None:
                return
            self._energy[rows], self._active[rows], self._converged[rows] = energy, active, converged
            now = (self._energy, self._active, self._converged)
            self._callback(Progress(step, *(x.clone().reshape(self._batch) for x in now)))

        return report
