"""Of several solutions of the same pairs the best curve of each pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geodesic.arrays import with_arrays
from geodesic.drawing.paths import curves_of
from geodesic.errors import InputError
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.status import Status

__all__ = ["BestCurves", "best_of"]

_NOT_CURVES = (Status.NOT_FINITE, Status.DIVERGED, Status.JUMP)  # lengths of these say nothing
_MEASURED = (
    "length",
    "straight_length",
    "lower_bound",
    "error",
    "converged",
    "resolved",
    "minimum",
    "status",
    "rank_deficiency",
)


@dataclass(frozen=True)
class BestCurves:
    """For each of P pairs the shortest converged curve, or the shortest of all where none has converged.

    Attributes:
        curve: At equal times and constant speed, (P, nodes, d).
        method: Whose curve it is, by its place among the solutions, (P,).
        length: And what follows: fields of its `GeodesicSolution`, (P,).
    """

    curve: NDArray
    method: NDArray
    length: NDArray
    straight_length: NDArray
    lower_bound: NDArray
    error: NDArray
    converged: NDArray
    resolved: NDArray
    minimum: NDArray
    status: NDArray
    rank_deficiency: NDArray

    @property
    def ratio(self) -> NDArray:
        """Straight over geodesic length, (P,); NaN where there is no curve with a length."""
        known = np.isfinite(self.length) & np.isfinite(self.straight_length) & (self.length > 0)
        known &= ~np.isin(self.status, _NOT_CURVES)
        return np.divide(self.straight_length, self.length, out=np.full(len(known), np.nan), where=known)

    def most_different(self, most: int) -> NDArray:
        """So many pairs, or all, those first whose straight line is longest beside the geodesic."""
        return np.argsort(-np.nan_to_num(self.ratio, nan=0.0), kind="stable")[:most]

    @property
    def straight(self) -> NDArray:
        """The straight lines between the same ends, (P, nodes, d): which may be a copy of the end that was given."""
        t = np.linspace(0, 1, self.curve.shape[1])[:, None]
        return (1 - t) * self.curve[:, :1] + t * self.curve[:, -1:]


def best_of(solutions: Mapping[str, GeodesicSolution]) -> BestCurves:
    """The best curve of each pair.

    Args:
        solutions: Method name to its answer, for the same pairs.

    Raises:
        InputError: There is none, or they are of different pairs.

    Example:
        >>> import torch, geodesic
        >>> from geodesic.drawing.best import best_of
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> start, end = torch.zeros(3, 2), torch.ones(3, 2)
        >>> solvers = {"newton": geodesic.Newton(), "lbfgs": geodesic.LBFGS()}
        >>> best = best_of({name: geodesic.solve(plane, start, end, solver=one) for name, one in solvers.items()})
        >>> best.curve.shape, best.method.shape
        ((3, 101, 2), (3,))
    """
    if not solutions:
        raise InputError("solutions: expected at least one, got an empty dictionary")
    curves = [curves_of(solution, "solutions")[0] for solution in solutions.values()]
    shapes = {curve.shape for curve in curves}
    if len(shapes) > 1:
        said = " and ".join(f"{len(curve)} pairs of {curve.shape[-1]} coordinates" for curve in curves[:2])
        raise InputError(f"solutions: expected solutions of the same pairs, got {said}; report them one by one")
    found = {
        name: np.stack([with_arrays(getattr(solution, name)).reshape(-1) for solution in solutions.values()])
        for name in _MEASURED
    }
    lengths, converged = found["length"], found["converged"]
    method = np.where(np.isfinite(lengths) & (converged | ~converged.any(0)), lengths, np.inf).argmin(0)
    pair = np.arange(len(method))
    chosen = {name: values[method, pair] for name, values in found.items()}
    return BestCurves(np.stack(curves)[method, pair], method, **chosen)
