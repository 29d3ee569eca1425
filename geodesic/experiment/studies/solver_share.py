"""How much of the variation of distances over seeds is that of the solver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["coefficient_of_variation", "solver_rows"]

_RESAMPLES = 10_000


def coefficient_of_variation(distances: NDArray) -> NDArray:
    """Standard deviation over mean, along the axis before the last; not a number where less than two are known.

    Args:
        distances: (..., seeds, P); values that are not a number are left out.

    Returns:
        (..., P), without unit, with the unbiased variance.

    Example:
        >>> import numpy as np
        >>> from geodesic.experiment.studies.solver_share import coefficient_of_variation
        >>> coefficient_of_variation(np.array([[1.0, 5.0], [3.0, 5.0]])).round(3)
        array([0.707, 0.   ])
    """
    known = ~np.isnan(distances)
    count = known.sum(-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, distances, 0).sum(-2) / count
        squares = np.where(known, (distances - mean[..., None, :]) ** 2, 0).sum(-2)
        return np.where(count > 1, np.sqrt(squares / (count - 1)) / mean, np.nan)


def solver_rows(
    decoders: Sequence[int], exact: NDArray, others: Mapping[str, NDArray], seed: int = 0
) -> list[dict[str, object]]:
    """A row for each figure that compares lengths of another solver with exact ones, with an interval of 95 %.

    "excess" is how much longer its curves are, "share" the part of the squared coefficient of variation that exact
    lengths do not have, 1 - mean c^2 / mean c_other^2, for each number of decoders, and "effect" the part of what the
    most decoders take off the coefficient that exact lengths do not show, 1 - (c_1 - c_K) / (c_1' - c_K').

    The interval is that of a bootstrap over pairs; seeds are not drawn anew. B. Efron, Bootstrap methods: another
    look at the jackknife, 1979.

    Args:
        decoders: Numbers of decoders, (K,).
        exact: Lengths, (K, seeds, P); not a number where none is known, which is left out of the others too.
        others: Of other solvers by name, (K, seeds, P).
        seed: Of the bootstrap.

    Returns:
        `solver`, `figure`, `decoders`, `value`, `low`, `high` of each.

    Example:
        >>> import numpy as np
        >>> from geodesic.experiment.studies.solver_share import solver_rows
        >>> exact = np.random.default_rng(0).gamma(50.0, size=(1, 4, 9))
        >>> [(row["figure"], abs(round(row["value"], 3))) for row in solver_rows([1], exact, {"same": 1.1 * exact})]
        [('excess', 0.1), ('share', 0.0)]
    """
    rows: list[dict[str, object]] = []
    P = exact.shape[-1]
    drawn = np.random.default_rng(seed).integers(P, size=(_RESAMPLES, P))
    c = coefficient_of_variation(exact)

    def add(solver: str, figure: str, of: str, values: NDArray) -> None:
        low, high = np.nanquantile(values[1:], [0.025, 0.975]) if np.isfinite(values).any() else (np.nan, np.nan)
        rows.append(
            {"solver": solver, "figure": figure, "decoders": of}
            | {"value": float(values[0]), "low": float(low), "high": float(high)}
        )

    for name, lengths in others.items():
        lengths = np.where(np.isnan(exact), np.nan, lengths)
        found, ratio = coefficient_of_variation(lengths), _mean(lengths / exact - 1, 1)
        for k, count in enumerate(decoders):
            add(name, "excess", str(count), _resampled(ratio[k], drawn))
            add(name, "share", str(count), 1 - _resampled(c[k] ** 2, drawn) / _resampled(found[k] ** 2, drawn))
        if len(decoders) > 1:
            gain, gain_found = (_resampled(x[0], drawn) - _resampled(x[-1], drawn) for x in (c, found))
            add(name, "effect", f"{decoders[0]} to {decoders[-1]}", 1 - gain / gain_found)
    return rows


def _resampled(values: NDArray, drawn: NDArray) -> NDArray:
    """The mean over pairs, and those of resamples, (1 + R,)."""
    return np.concatenate([_mean(values[None], 1), _mean(values[drawn], 1)])


def _mean(values: NDArray, axis: int) -> NDArray:
    """Of what is a number; not a number where nothing is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(known, values, 0).sum(axis) / known.sum(axis))
