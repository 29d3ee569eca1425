"""Whether geodesics matter for some pairs, from what was measured of them, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geodesic.drawing.best import BestCurves
from geodesic.reporting.neighbors import Neighbors

__all__ = ["LARGE", "MANY", "NOTICEABLE", "Verdict", "verdict_on"]

NOTICEABLE = 0.01
"""Straight lines that are longer by less are as good as geodesics."""
LARGE = 0.05
"""Straight lines that are longer by more at the median are not."""
MANY = 0.1
"""Where a larger share of nearest neighbors changes, and bounds leave no doubt of it, neighbors matter."""


@dataclass(frozen=True)
class Verdict:
    """Whether geodesics matter, and the figures that say so.

    Attributes:
        answer: "yes", "some" (for some pairs), "no", or "unknown".
        pairs: P.
        measured: Of them those with a curve whose length is known.
        median: Of straight over geodesic length, over those measured; NaN where there are none.
        high: Its 95 % quantile.
        worst: Its largest.
        error: Median of the estimated relative errors of the lengths; infinite where they are not known.
        beyond_error: Share of those measured whose straight line is longer by more than that error.
        most: 95 % quantile of straight length over the distance through the surrounding space, which no path is
            shorter than: more than this no search can gain. Infinite where there is no such distance.
        converged: How many pairs have converged.
        resolved: How many of them have segments enough.
        neighbors: How many nearest neighbors change; None where that was not measured.
    """

    answer: str
    pairs: int
    measured: int
    median: float
    high: float
    worst: float
    error: float
    beyond_error: float
    most: float
    converged: int
    resolved: int
    neighbors: Neighbors | None = None


def verdict_on(best: BestCurves, neighbors: Neighbors | None = None) -> Verdict:
    """Whether geodesics matter.

    The length of a curve that has not converged bounds the ratio from below: "yes" needs no convergence, "no" does.

    Args:
        best: Of the pairs.
        neighbors: How many nearest neighbors change, where it is known.

    Example:
        >>> import torch, geodesic
        >>> from geodesic.drawing.best import best_of
        >>> from geodesic.reporting.verdict import verdict_on
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> verdict_on(best_of({"auto": geodesic.solve(plane, torch.zeros(3, 2), torch.ones(3, 2))})).answer
        'no'
    """
    ratio = best.ratio
    known = np.isfinite(ratio)
    excess, error = ratio[known] - 1, best.error[known]
    measured = len(excess)
    bound = best.lower_bound[known]
    over = np.divide(best.straight_length[known], bound, out=np.full(measured, np.inf), where=bound > 0)
    median, high, worst = 1 + np.quantile(excess, [0.5, 0.95, 1.0]) if measured else np.full(3, np.nan)
    return Verdict(
        _answer(excess, error, over, best.converged[known], neighbors),
        pairs=len(ratio),
        measured=measured,
        median=float(median),
        high=float(high),
        worst=float(worst),
        error=float(np.median(error)) if measured else np.inf,
        beyond_error=float((excess > error).mean()) if measured else 0.0,
        most=float(np.quantile(over, 0.95, method="higher")) if measured else np.inf,
        converged=int(best.converged.sum()),
        resolved=int(best.resolved.sum()),
        neighbors=neighbors,
    )


def _answer(excess: NDArray, error: NDArray, over: NDArray, converged: NDArray, neighbors: Neighbors | None) -> str:
    if not len(excess):
        return "unknown"
    clear = np.where(excess > error, excess, 0.0)  # what rounding and too few segments do not explain
    if np.median(clear) > LARGE or (neighbors is not None and neighbors.surely_bent > MANY):
        return "yes"
    if np.quantile(clear, 0.95) > NOTICEABLE:
        return "some"
    if np.quantile(over, 0.95, method="higher") <= 1 + NOTICEABLE:
        return "no"  # whatever a search finds
    hidden = (excess <= error) & (error > NOTICEABLE)
    if hidden.mean() > 0.5 or converged.mean() < 0.5:
        return "unknown"
    return "no"
