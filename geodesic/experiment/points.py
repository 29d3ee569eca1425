"""Which points to measure distances between: encodings of test rows, latent points from a file, or drawn ones."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.errors import DataError, SettingsError
from geodesic.experiment.pairs import Encoded, drawn_rows
from geodesic.files import read_npz
from geodesic.registry import Registry, setting

__all__ = ["POINTS", "DrawnPoints", "EncodedPoints", "FilePoints", "PointChoice", "Points"]

_MOST = 200  # of a number that nobody gave
_COUNT, _SEED = setting("how many", ge=2), setting("of the random choice", ge=0)


@dataclass(frozen=True)
class Points:
    """Latent points to measure distances between.

    Args:
        points: (N, d).
        labels: (N,), if there are any.
        rows: Rows of the test set that they encode, (N,); None for others.
    """

    points: Tensor
    labels: NDArray | None = None
    rows: NDArray | None = None


class PointChoice(ABC):
    """How points are chosen. A new kind is one subclass, a frozen dataclass that is registered in `POINTS`."""

    @abstractmethod
    def choose(self, run: Encoded) -> Points:
        """The points.

        Raises:
            SettingsError: Encodings are asked for, and there are no data or no encoder, fewer than two rows, or fewer
                than asked for.
            DataError: A file of points cannot be used.
        """


POINTS: Registry[PointChoice] = Registry("points")
"""Ways to choose points, by kind."""


@POINTS.register("encodings")
@dataclass(frozen=True)
class EncodedPoints(PointChoice):
    """Encodings of test rows, drawn at random, with their labels.

    Args:
        count: How many; None: 200, or all where there are fewer.
        seed: Of the choice.
    """

    count: int | None = field(default=None, metadata=setting("how many; null: 200, or all where there are fewer", ge=2))
    seed: int = field(default=0, metadata=_SEED)

    def __post_init__(self) -> None:
        _check(_MOST if self.count is None else self.count, self.seed)

    def choose(self, run: Encoded) -> Points:
        """In the order of the test set."""
        if run.test is None or run.test_encodings is None:
            raise SettingsError(
                "distances.points.kind: 'encodings' encodes test rows, so it needs data and an encoder; use "
                "distances.points='{kind: prior}' to draw latent points, or '{kind: file, path: points.npz}' to give "
                "them"
            )
        if len(run.test) < 2:
            raise SettingsError("distances.points: the test set has only 1 row, and a distance needs 2; use more data")
        generator = np.random.default_rng(self.seed)
        rows = drawn_rows(np.arange(len(run.test)), self.count, _MOST, generator, "distances.points.count")
        labels = None if run.test.labels is None else run.test.labels.cpu().numpy()[rows]
        return Points(run.test_encodings[torch.as_tensor(rows, device=run.test_encodings.device)], labels, rows)


@POINTS.register("file")
@dataclass(frozen=True)
class FilePoints(PointChoice):
    """Latent points from a file: an .npy of (N, latent_size), or an .npz with `points` and, if there are any, `labels`.

    Args:
        path: The file; may use environment variables.
    """

    path: str = field(metadata=setting("an .npy of points, or an .npz with `points` and perhaps `labels`"))

    def choose(self, run: Encoded) -> Points:
        """The points of the file, in the precision of the run."""
        file = Path(os.path.expandvars(self.path))
        arrays = {"points": _read_npy(file)} if file.suffix == ".npy" else read_npz(file)
        if "points" not in arrays:
            raise DataError(f"{file}: expected an array `points`, got {sorted(arrays)}")
        points, labels = arrays["points"], arrays.get("labels")
        if points.ndim != 2 or points.shape[1] != run.latent_size or points.dtype.kind != "f":
            raise DataError(
                f"{file}: expected `points` of shape (N, {run.latent_size}) and floating point dtype, got shape "
                f"{points.shape} and {points.dtype}"
            )
        if len(points) < 2:
            raise DataError(f"{file}: expected at least two points to measure between, got {len(points)}")
        if not np.isfinite(points).all():
            row = int(np.flatnonzero(~np.isfinite(points).all(1))[0])
            raise DataError(f"{file}: expected finite numbers, got {points[row].tolist()} in row {row}; leave it out")
        if labels is not None and (labels.shape != (len(points),) or labels.dtype.kind not in "biufU"):
            raise DataError(
                f"{file}: expected `labels` of shape ({len(points)},), one for each point, numbers or text, got shape "
                f"{labels.shape} and {labels.dtype}"
            )
        return Points(torch.as_tensor(points).to(run.device, run.dtype), labels)


@POINTS.register("prior")
@dataclass(frozen=True)
class DrawnPoints(PointChoice):
    """Latent points drawn from the standard normal distribution, for a decoder without data or encoder.

    Args:
        count: How many.
        seed: Of the drawing.
    """

    count: int = field(default=_MOST, metadata=_COUNT)
    seed: int = field(default=0, metadata=_SEED)

    def __post_init__(self) -> None:
        _check(self.count, self.seed)

    def choose(self, run: Encoded) -> Points:
        """Points that depend on the seed and the latent size alone."""
        drawn = np.random.default_rng(self.seed).standard_normal((self.count, run.latent_size))
        return Points(torch.from_numpy(drawn).to(run.device, run.dtype))


def _read_npy(file: Path) -> NDArray:
    try:
        return np.asarray(np.load(file, allow_pickle=False))
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; check the path") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file}: truncated, or no array of numbers ({error}); save it again with numpy.save") from None


def _check(count: int, seed: int) -> None:
    require_integer("count", count, least=2)
    require_integer("seed", seed, least=0)
