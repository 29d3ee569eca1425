"""What distances come to: figures from rows of a matrix, which need not all be in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodesic.distances.neighborhoods import decided_by_bounds, in_common, label_hits, nearest_others, spread_of_mean
from geodesic.solvers.status import Status

__all__ = ["distance_rows", "rows_of_parts"]

_KEPT = 2_000_000  # ratios of lengths, for quantiles


def distance_rows(arrays: Mapping[str, NDArray], nearest: int) -> list[dict[str, Any]]:
    """A row for each figure that distances come to: its value, of how many, and between which it lies with 95 %.

    Args:
        arrays: Those that `measure_distances` wrote.
        nearest: Neighbors that are compared with latent ones.

    Example:
        >>> import numpy as np
        >>> from geodesic.distances.key_figures import distance_rows
        >>> D = np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 2.5], [3.0, 2.5, 0.0]])
        >>> arrays = dict.fromkeys(("length", "lower", "upper", "straight_length", "latent_distance"), D)
        >>> rows = distance_rows(arrays | {"status": np.ones((3, 3), int)}, 1)
        >>> rows[3]["quantity"], rows[3]["value"], rows[3]["of"]
        ('share of points whose nearest neighbor is not the latent one', 0.0, '3 points')
    """
    return rows_of_parts([arrays], len(arrays["length"]), nearest, arrays.get("labels"))


def rows_of_parts(
    parts: Iterable[Mapping[str, NDArray]], count: int, nearest: int, labels: NDArray | None
) -> list[dict[str, Any]]:
    """The same, from groups of rows of the matrices, one after the other.

    Args:
        parts: `length`, `lower`, `upper`, `straight_length`, `latent_distance` and `status`, (n, N) each.
        count: Points, N.
        nearest: Neighbors that are compared with latent ones.
        labels: (N,), if there are any.
    """
    found = _Figures(count, nearest, labels)
    for part in parts:
        found.add(part)
    return found.rows()


class _Figures:
    """What was found in the rows until now."""

    def __init__(self, count: int, nearest: int, labels: NDArray | None) -> None:
        self.count, self.nearest, self.labels = count, nearest, labels
        self._every = -(-count * (count - 1) // 2 // _KEPT)
        self._first = self._ratios = self._sought = self._unresolved = 0
        self._largest = -np.inf
        self._kept: list[NDArray] = []
        self._points: dict[str, list[NDArray]] = {}

    def add(self, part: Mapping[str, NDArray]) -> None:
        first, n = self._first, len(part["length"])
        at = np.arange(n)
        above = np.arange(self.count) > (first + at)[:, None]  # each pair once
        length, straight, status = (part[key][above] for key in ("length", "straight_length", "status"))
        sought = status != Status.NOT_SOUGHT
        some = sought & (length > 0)
        ratio = straight[some] / length[some]
        ratio = ratio[np.isfinite(ratio)]
        self._ratios += len(ratio)
        self._kept.append(ratio[:: self._every])
        self._largest = max(self._largest, ratio.max(initial=-np.inf))
        self._sought += int(sought.sum())
        self._unresolved += int((sought & (status != Status.CONVERGED)).sum())
        latent, near = (nearest_others(part[key], self.nearest, first) for key in ("latent_distance", "length"))
        self._note("other", (latent != near)[:, 0])
        self._note("common", in_common(latent, near))
        self._note("decided", decided_by_bounds(part["lower"], part["upper"], near[:, 0], first))
        if self.labels is not None:
            self._note("latent", label_hits(latent, self.labels, first))
            self._note("geodesic", label_hits(near, self.labels, first))
        self._first += n

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []

        def add(quantity: str, value: float, of: str, low: float = np.nan, high: float = np.nan) -> None:
            rows.append({"quantity": quantity, "value": float(value), "low": low, "high": high, "of": of})

        ratio, points = np.concatenate(self._kept), f"{self.count:,} points"
        pairs = f"{self._ratios:,} pairs"
        if len(ratio):
            some = pairs if len(ratio) == self._ratios else f"{len(ratio):,} of {pairs}"
            add("straight over geodesic length, median", np.quantile(ratio, 0.5), some)
            add("straight over geodesic length, 95 %", np.quantile(ratio, 0.95), some)
            add("straight over geodesic length, largest", self._largest, pairs)
        of = {name: np.concatenate(values) for name, values in self._points.items()}
        add("share of points whose nearest neighbor is not the latent one", of["other"].mean(), points)
        add(f"share of {self.nearest} nearest neighbors in common", of["common"].mean(), points)
        add("share of nearest neighbors that bounds decide", of["decided"].mean(), points)
        if self.labels is not None:
            for name in ("latent", "geodesic"):
                add(f"label accuracy of the nearest neighbor, {name}", of[name].mean(), points)
            gain = of["geodesic"] - of["latent"]
            add("their difference", gain.mean(), points, *spread_of_mean(gain))
        add("pairs not resolved", self._unresolved, f"{self._sought:,} geodesics")
        return rows

    def _note(self, name: str, values: NDArray) -> None:
        self._points.setdefault(name, []).append(values)
