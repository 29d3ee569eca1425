"""Which points to connect: pairs of test rows, or latent points from a file."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.data.dataset import Split
from geodesic.errors import DataError, SettingsError
from geodesic.files import read_npz
from geodesic.registry import Registry, setting

__all__ = [
    "PAIRS",
    "Encoded",
    "FilePairs",
    "IndexPairs",
    "LabelPairs",
    "PairChoice",
    "Pairs",
    "RandomPairs",
    "RowPairs",
    "drawn_rows",
    "names_of",
    "rows_of",
]

_COUNT, _SEED = setting("how many", gt=0), setting("of the random choice", ge=0)


@dataclass(frozen=True)
class Pairs:
    """Latent points to connect.

    Args:
        start: (P, d).
        end: (P, d).
        names: A name for each pair.
        rows: Rows of the test set that they encode, (P, 2); None for points from a file.
    """

    start: Tensor
    end: Tensor
    names: list[str]
    rows: NDArray | None = None

    def arrays(self) -> dict[str, NDArray]:
        """What results hold of them."""
        points = {"start": self.start.cpu().numpy(), "end": self.end.cpu().numpy()}
        return points if self.rows is None else points | {"rows": self.rows}


class Encoded(ABC):
    """What pairs are chosen from: an opened run.

    Attributes:
        device: Where latent points go.
    """

    device: torch.device

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """What latent points become."""

    @property
    @abstractmethod
    def latent_size(self) -> int:
        """D."""

    @property
    @abstractmethod
    def test(self) -> Split | None:
        """The test rows, if there are data."""

    @property
    @abstractmethod
    def test_encodings(self) -> Tensor | None:
        """Their latent points, (N, d), if there are data and an encoder."""


class PairChoice(ABC):
    """How pairs are chosen. A new kind is one subclass, a frozen dataclass that is registered in `PAIRS`."""

    @abstractmethod
    def choose(self, run: Encoded) -> Pairs:
        """The pairs.

        Raises:
            SettingsError: Rows of test data are asked for, and there are no data or no encoder, or no such rows.
            DataError: A file of points cannot be used.
        """


PAIRS: Registry[PairChoice] = Registry("pairs")
"""Ways to choose pairs, by kind."""


class RowPairs(PairChoice):
    """Pairs of test rows: subclasses say which."""

    @abstractmethod
    def rows(self, test: Split) -> NDArray:
        """Rows of the test set to connect, (P, 2).

        Raises:
            SettingsError: A row or a label does not exist.
        """

    @final
    def choose(self, run: Encoded) -> Pairs:
        """The encodings of the rows."""
        if run.test is None or run.test_encodings is None:
            raise SettingsError(
                f"pairs.kind: {PAIRS.kind_of(self)!r} picks rows of the test data and encodes them, so it needs data "
                "and an encoder; use pairs: {kind: prior} to draw latent points, or {kind: file, path: points.npz} to "
                "give them"
            )
        rows = self.rows(run.test)
        start, end = run.test_encodings[rows[:, 0]], run.test_encodings[rows[:, 1]]
        labels = None if run.test.labels is None else run.test.labels.tolist()
        return Pairs(start, end, names_of(rows, labels), rows)


def names_of(rows: NDArray, labels: Sequence[object] | None) -> list[str]:
    """Names of pairs of test rows (P, 2), with the labels of these rows among those of all, if there are any."""
    names = [f"{i} to {j}" for i, j in rows]
    if labels is None:
        return names
    return [f"{n} ({labels[i]} to {labels[j]})" for n, (i, j) in zip(names, rows, strict=True)]


@PAIRS.register("random")
@dataclass(frozen=True)
class RandomPairs(RowPairs):
    """Pairs drawn at random among the test rows.

    Args:
        count: How many.
        seed: Of the choice.
    """

    count: int = field(default=8, metadata=_COUNT)
    seed: int = field(default=0, metadata=_SEED)

    def __post_init__(self) -> None:
        _check(self.count, self.seed)

    def rows(self, test: Split) -> NDArray:
        """No row comes twice, as long as there are enough of them."""
        generator = np.random.default_rng(self.seed)
        if 2 * self.count <= len(test):
            return generator.permutation(len(test))[: 2 * self.count].reshape(2, -1).T
        # More pairs than disjoint ones exist; the ends of one pair still differ.
        return _different_rows(np.arange(len(test)), self.count, generator, "it")


@PAIRS.register("index")
@dataclass(frozen=True)
class IndexPairs(RowPairs):
    """Pairs of test rows by index.

    Args:
        indices: Two rows each.
    """

    indices: Annotated[tuple[tuple[NonNegativeInt, NonNegativeInt], ...], Field(min_length=1)] = field(
        metadata=setting("two rows each")
    )

    def rows(self, test: Split) -> NDArray:
        """These rows, if there are as many."""
        for i, row in enumerate(self.indices):
            if max(row) >= len(test):
                raise SettingsError(f"pairs.indices.{i}: got {list(row)}; the test set has rows 0 to {len(test) - 1}")
        return np.array(self.indices)


@PAIRS.register("label")
@dataclass(frozen=True)
class LabelPairs(RowPairs):
    """Pairs from test rows of one label to test rows of another.

    Args:
        from_: Label of the first rows; `from` in YAML.
        to: Label of the second.
        count: How many.
        seed: Of the choice.
    """

    from_: int = field(metadata=setting("label of the first rows", ge=0, alias="from"))
    to: int = field(metadata=setting("label of the second", ge=0))
    count: int = field(default=8, metadata=_COUNT)
    seed: int = field(default=0, metadata=_SEED)

    def __post_init__(self) -> None:
        _check(self.count, self.seed)

    def rows(self, test: Split) -> NDArray:
        """Rows drawn at random among those of the labels."""
        if test.labels is None:
            raise SettingsError("pairs.kind: 'label' needs data with labels; use random or index")
        generator = np.random.default_rng(self.seed)
        ends = [rows_of(test, f"pairs.{key}", label) for key, label in (("from", self.from_), ("to", self.to))]
        if self.from_ == self.to:
            return _different_rows(ends[0], self.count, generator, f"label {self.to}")
        return np.stack([generator.choice(e, self.count, replace=len(e) < self.count) for e in ends], axis=1)


@PAIRS.register("file")
@dataclass(frozen=True)
class FilePairs(PairChoice):
    """Latent points from an .npz with `start` and `end`, both (N, latent_size).

    Args:
        path: The file; may use environment variables.
    """

    path: str = field(metadata=setting("an .npz with `start` and `end`"))

    def choose(self, run: Encoded) -> Pairs:
        """The points of the file, in the precision of the run."""
        start, end = (torch.as_tensor(a).to(run.device, run.dtype) for a in self._read(run.latent_size))
        return Pairs(start, end, [str(i) for i in range(len(start))])

    def _read(self, latent_size: int) -> tuple[NDArray, NDArray]:
        file = Path(os.path.expandvars(self.path))
        arrays = read_npz(file)
        if {"start", "end"} - set(arrays):
            raise DataError(f"{file}: expected arrays `start` and `end`, got {sorted(arrays)}")
        start, end = arrays["start"], arrays["end"]
        for key, a in (("start", start), ("end", end)):
            if a.ndim != 2 or a.shape[1] != latent_size or a.dtype.kind != "f" or not len(a):
                raise DataError(
                    f"{file}: expected `{key}` of shape (P, {latent_size}) and floating point dtype, got shape "
                    f"{a.shape} and {a.dtype}"
                )
        if len(start) != len(end):
            raise DataError(f"{file}: expected as many starts as ends, got {len(start)} and {len(end)}")
        return start, end


@PAIRS.register("prior")
@dataclass(frozen=True)
class PriorPairs(PairChoice):
    """Pairs of latent points drawn from the standard normal distribution, for a decoder without data or encoder.

    Args:
        count: How many.
        seed: Of the drawing.
    """

    count: int = field(default=8, metadata=_COUNT)
    seed: int = field(default=0, metadata=_SEED)

    def __post_init__(self) -> None:
        _check(self.count, self.seed)

    def choose(self, run: Encoded) -> Pairs:
        """Points that depend on the seed and the latent size alone."""
        drawn = np.random.default_rng(self.seed).standard_normal((2, self.count, run.latent_size))
        start, end = torch.from_numpy(drawn).to(run.device, run.dtype)
        return Pairs(start, end, [str(i) for i in range(self.count)])


def rows_of(test: Split, key: str, label: int) -> NDArray:
    """All test rows of a label, (N,), that the setting `key` asks for.

    Raises:
        SettingsError: There is none, or there are no labels.
    """
    if test.labels is None:
        raise SettingsError(f"{key}: got {label}, and the data have no labels; leave it out")
    labels = test.labels.numpy()
    rows = np.flatnonzero(labels == label)
    if not len(rows):
        raise SettingsError(f"{key}: no test row has label {label}; present: {np.unique(labels).tolist()}")
    return rows


def drawn_rows(rows: NDArray, count: int | None, usual: int, generator: np.random.Generator, key: str) -> NDArray:
    """Some rows, drawn at random, in their order: (count,).

    Args:
        rows: To draw from.
        count: How many were asked for; None: the usual number, or all where there are fewer.
        usual: That number.
        generator: Of the random choice.
        key: The setting that asks, for the error.

    Raises:
        SettingsError: There are fewer than were asked for.
    """
    if count is not None and count > len(rows):
        raise SettingsError(f"{key}: got {count}, and there are {len(rows)} rows; take as many, or leave it out")
    return np.sort(generator.permutation(rows)[: usual if count is None else count])


def _check(count: int, seed: int) -> None:
    require_integer("count", count, least=1)
    require_integer("seed", seed, least=0)


def _different_rows(rows: NDArray, count: int, generator: np.random.Generator, what: str) -> NDArray:
    if len(rows) < 2:
        raise SettingsError(f"pairs: the test set has only 1 row of {what}, and a pair needs 2; use more test data")
    return np.stack([generator.choice(rows, 2, replace=False) for _ in range(count)])
