"""What `solve` tells on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Progress", "Report", "Watch", "in_words"]

Report = Callable[[int, Tensor, Tensor, Tensor], None]
"""Takes the step, and energies, active and converged pairs, (P,)."""

_KNOWN = 10  # one pair in so many must have ended before their pace is believed


@dataclass(frozen=True)
class Progress:
    """What `solve` tells its callback after each step and when a stage begins, for all pairs, in the order given.

    `str(progress)` is a line for people, so `callback=print` shows what is going on.

    Where a warm-up hands over to its solver, the same number of steps is told twice: before and after. With
    `init="best"`, with more segments, and where memory allows only groups of pairs, steps begin anew.

    Attributes:
        step: Number of steps done; 0 before the first.
        energy: Energies, (*batch,); NaN for pairs whose turn has not come.
        active: Which pairs are still being improved, (*batch,), boolean.
        converged: Which pairs have converged, (*batch,), boolean.
        stepped: True before the first step and after each one; False where a stage begins, which repeats the step
            and the energies told before.
        stage: What is being done: "first paths", "warm-up by LBFGS", "Newton", "measuring", "refining to 64
            segments", "done".
        segments: Number T of segments of the paths that are worked on.
        ended: Number of pairs that have ended, converged or not; it never falls. A pair that may get more
            segments has ended when it has its last ones, and with `init="best"` from the second start only.
        pairs: Number of all pairs.
        seconds: Since the call began.
        seconds_left: An estimate from the pairs that have ended a second, made when the last ones ended; None while
            fewer than one in ten have, and where it has passed without an end. 0 when all have ended. Pairs that need
            more segments end later and together, so it is rough while there are such.

    Example:
        >>> import torch, geodesic
        >>> told = []
        >>> a, b = torch.tensor([torch.pi / 4, 0.0]), torch.tensor([torch.pi / 4, 2.0])
        >>> solution = geodesic.solve(geodesic.surfaces.Sphere(), a, b, callback=told.append)
        >>> print(told[0])
        0 of 1 pairs ended: first paths, 32 segments
        >>> print(told[-1])
        1 of 1 pairs ended: done, 32 segments
    """

    step: int
    energy: Float[Tensor, "*batch"]
    active: Bool[Tensor, "*batch"]
    converged: Bool[Tensor, "*batch"]
    stepped: bool
    stage: str
    segments: int
    ended: int
    pairs: int
    seconds: float
    seconds_left: float | None

    def __str__(self) -> str:
        left = f", {in_words(self.seconds_left)} left" if self.seconds_left else ""
        segments = "" if self.stage.endswith("segments") else f", {self.segments} segments"
        step = f", step {self.step}" if self.stepped else ""
        return f"{self.ended} of {self.pairs} pairs ended{left}: {self.stage}{segments}{step}"


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
        self._converged, self._ended = torch.zeros_like(self._active), torch.zeros_like(self._active)
        self._step, self._stage, self._segments = 0, "", 0
        self._starts_left, self._fixed = 0, False
        self._called = self._since = time.monotonic()  # the second: since when pairs end
        self._counted = 0  # pairs that had ended when the time left was estimated
        self._due: float | None = None  # when the last pair ends, by that estimate

    def start(self, starts_left: int, fixed: bool) -> None:
        """All pairs begin, with so many other starts to come; with fixed segments they end where the solver ends."""
        self._starts_left, self._fixed, self._since = starts_left, fixed, time.monotonic()
        self._active.fill_(True)

    def stage(self, stage: str, segments: int, ends: bool = False) -> None:
        """A stage begins, in words; `ends` where it is the one that ends pairs."""
        self._stage, self._segments = stage, segments
        if ends and self._fixed:
            self._since = time.monotonic()
        self._tell(stepped=False)

    def refine(self, rows: Int[Tensor, " n"], segments: int) -> None:
        """These pairs alone go on, with more segments."""
        self._active.fill_(False)[rows] = True
        self._converged &= ~self._active
        if not self._starts_left:
            self._ended |= ~self._active
        self.stage(f"refining to {segments} segments", segments)

    def done(self) -> None:
        """All pairs have ended."""
        self._active.fill_(False)
        self._ended.fill_(True)
        self.stage("done", self._segments)

    def of(self, rows: Tensor) -> Report:
        """The report of a run on these rows."""

        def report(step: int, energy: Tensor, active: Tensor, converged: Tensor) -> None:
            if self._callback is None:
                return
            self._energy[rows], self._active[rows], self._converged[rows] = energy, active, converged
            if self._fixed and not self._starts_left:
                self._ended |= ~self._active
            self._step = step
            self._tell(stepped=True)

        return report

    def _tell(self, stepped: bool) -> None:
        if self._callback is None:
            return
        energy, active, converged = (
            x.clone().reshape(self._batch) for x in (self._energy, self._active, self._converged)
        )
        ended, pairs, now = int(self._ended.sum()), len(self._ended), time.monotonic()
        self._callback(
            Progress(
                self._step,
                energy,
                active,
                converged,
                stepped=stepped,
                stage=self._stage,
                segments=self._segments,
                ended=ended,
                pairs=pairs,
                seconds=now - self._called,
                seconds_left=self._seconds_left(ended, now),
            )
        )

    def _seconds_left(self, ended: int, now: float) -> float | None:
        """At the pace of the pairs that have ended, from when the last of them did."""
        left = len(self._ended) - ended
        if not left:
            return 0.0
        if ended > self._counted and _KNOWN * ended >= len(self._ended):
            self._counted, self._due = ended, now + (now - self._since) / ended * left
        return None if self._due is None or self._due <= now else self._due - now


def in_words(seconds: float) -> str:
    """A duration, about, for people."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 95:
        return f"about {round(seconds, -1):.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.{1 if seconds < 36000 else 0}f} h"
