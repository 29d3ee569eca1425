"""Tables of numbers with named columns: what kinds of data that hold one have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
import torch

from geodesic.data.dataset import Dataset, Split
from geodesic.data.source import ShuffledSource, expand_path
from geodesic.errors import DataError, InputError
from geodesic.registry import setting

__all__ = ["Columns", "TableFile", "as_rows", "codes", "listed_names", "require_finite"]

Columns = Mapping[str, np.ndarray]
"""Columns of a table by name: numbers, or text."""


@dataclass(frozen=True, kw_only=True)
class TableFile(ShuffledSource):
    """A table of numbers, a row for each row, of which one column may be its label.

    Args:
        labels: Name of the column with the labels: whole numbers, or words, which are numbered in their order.
        ignore: Names of columns that are left out.
        test_fraction: Part of the rows held out.
        limit: Keep only the first so many training rows.
        seed: Seed of the split.

    Raises:
        InputError: A number is out of range, or the label is left out.
    """

    labels: str | None = field(default=None, metadata=setting("name of the column with the labels"))
    ignore: tuple[str, ...] = field(default=(), metadata=setting("names of columns that are left out"))

    def __post_init__(self) -> None:
        super().__post_init__()
        names = (self.ignore,) if isinstance(self.ignore, str) else tuple(self.ignore)
        object.__setattr__(self, "ignore", names)
        if self.labels in self.ignore:
            raise InputError(f"ignore: {self.labels!r} has the labels; name it in one of the two")

    @property
    @abstractmethod
    def file(self) -> str:
        """Its path, as it was given."""

    @abstractmethod
    def columns(self, file: Path) -> Columns:
        """All columns, each of N numbers or of N words, NaN or "" where there is nothing."""

    @final
    def read(self) -> Dataset:
        """All rows, shuffled, with their labels if there are any."""
        file = expand_path(self.file)
        if not file.is_file():
            raise DataError(f"{file}: no such file; check the path")
        columns = dict(self.columns(file))
        for name in (*self.ignore, *([] if self.labels is None else [self.labels])):
            if name not in columns:
                raise DataError(f"{file}: has no column {name!r}; its columns are {listed_names(columns)}")
        labels = None if self.labels is None else codes(file, self.labels, columns.pop(self.labels))
        used = {name: column for name, column in columns.items() if name not in self.ignore}
        return self.split(Split(as_rows(file, used), labels), str(file))


def as_rows(file: Path, columns: Columns) -> torch.Tensor:
    """The numbers of a table, (N, D), float32.

    Args:
        file: Where they come from, for messages.
        columns: N numbers each.

    Raises:
        DataError: There are none, one holds text, or a number is missing or infinite.
    """
    text = [name for name, column in columns.items() if column.dtype.kind not in "fiub"]
    if text:
        place, found = next((row, value) for row, value in enumerate(columns[text[0]]) if not _is_number(value))
        others = f" (and {listed_names(text[1:])})" if text[1:] else ""
        raise DataError(
            f"{file}: the column {text[0]!r}{others} holds text, {str(found)!r} in row {place}; name it in "
            "labels or ignore"
        )
    if not columns or not len(next(iter(columns.values()))):
        raise DataError(f"{file}: holds no numbers; expected a table of rows")
    with np.errstate(over="ignore"):  # to infinities, which are refused next
        values = np.stack([column.astype(np.float32) for column in columns.values()], axis=1)
    require_finite(file, values, list(columns), "remove these rows, or name the column in ignore")
    return torch.from_numpy(values)


def require_finite(file: Path, values: np.ndarray, names: Sequence[str], otherwise: str) -> None:
    """Refuse numbers that are missing or infinite.

    Args:
        file: Where they come from, for messages.
        values: The numbers, (N, D), in float32.
        names: Of the D columns.
        otherwise: What can be done but to fill them in, for messages.

    Raises:
        DataError: A number is missing or infinite; the message has the place of the first.
    """
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"{file}: {int(bad.sum())} values are missing or not finite in float32, the first in row {row}, column "
            f"{names[column]!r}; fill them in, or {otherwise}"
        )


def codes(file: Path, name: str, column: np.ndarray) -> torch.Tensor:
    """Labels as whole numbers, (N,): as they are, or the place of each word among all of them in order.

    Args:
        file: Where they come from, for messages.
        name: Of the column.
        column: N whole numbers, or N words.

    Raises:
        DataError: Some are missing, or are numbers that are not whole.
    """
    if column.dtype.kind in "fiub":
        numbers = column.astype(np.float64)
        whole = np.isfinite(numbers) & (numbers == np.floor(numbers))
        if whole.all():
            return torch.from_numpy(numbers.astype(np.int64))
        place = int(np.argmin(whole))
        raise DataError(
            f"{file}: the labels {name!r} are no whole numbers, {numbers[place]:g} in row {place}; name a column of "
            "classes"
        )
    words = np.array([str(word) for word in column])
    if (words == "").any():
        raise DataError(f"{file}: the label {name!r} is missing in row {int(np.argmax(words == ''))}; fill it in")
    return torch.from_numpy(np.unique(words, return_inverse=True)[1].astype(np.int64))


def listed_names(names: Iterable[str], most: int = 8) -> str:
    """Some names, for messages."""
    every: Sequence[str] = list(names)
    return ", ".join(map(repr, every[:most])) + (f" and {len(every) - most} more" if len(every) > most else "")


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True
