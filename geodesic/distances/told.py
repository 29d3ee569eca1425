"""What is told while many distances are found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from geodesic.solvers.progress import in_words

__all__ = ["DistanceProgress", "Teller"]


@dataclass(frozen=True)
class DistanceProgress:
    """What `distance_matrix` and `nearest` tell their callback after each group of pairs.

    `str(progress)` is a line for people, so `callback=print` shows what is going on.

    Attributes:
        done: Pairs whose geodesics were found by now, those of an earlier call included.
        pairs: All that are to be found, as far as is known by now.
        seconds: Since the call began.
        rate: Pairs a second of this call.
        seconds_left: For the others at this rate; None before the first group.

    Example:
        >>> from geodesic.distances.told import DistanceProgress
        >>> print(DistanceProgress(done=2000, pairs=124750, seconds=20.0, rate=100.0, seconds_left=1227.5))
        2,000 of 124,750 pairs, 100 a second, about 20 min left
    """

    done: int
    pairs: int
    seconds: float
    rate: float
    seconds_left: float | None

    def __str__(self) -> str:
        rate = f", {self.rate:,.{0 if self.rate >= 10 else 2}f} a second" if self.rate else ""
        left = f", {in_words(self.seconds_left)} left" if self.seconds_left else ""
        return f"{self.done:,} of {self.pairs:,} pairs{rate}{left}"


class Teller:
    """Tells a callback, if there is one.

    Args:
        callback: Whom to tell.

    Attributes:
        pairs: All that are to be found, as far as is known by now.
        done: Those that were found.
    """

    def __init__(self, callback: Callable[[DistanceProgress], None] | None) -> None:
        self._callback, self.pairs, self.done, self._before = callback, 0, 0, 0
        self._began = time.monotonic()

    def tell(self, more: int) -> None:
        """So many more pairs are done."""
        self.done += more
        if self._callback is None:
            return
        seconds = time.monotonic() - self._began
        rate = (self.done - self._before) / max(seconds, 1e-9)
        left = (self.pairs - self.done) / rate if rate else None
        self._callback(DistanceProgress(self.done, self.pairs, seconds, rate, left))

    def known(self, done: int) -> None:
        """So many pairs are known from an earlier call."""
        self.done = self._before = done
