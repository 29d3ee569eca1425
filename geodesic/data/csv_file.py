"""Tables in a .csv file."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from geodesic.data.source import DATA_SETS
from geodesic.data.tables import Columns, TableFile, listed_names
from geodesic.errors import DataError, InputError
from geodesic.registry import setting

__all__ = ["CSVFile"]

_CHUNK = 1000  # rows that are text at a time
_NOTHING = ("", "na", "nan", "null", "none")  # what stands where a number is missing


@DATA_SETS.register("csv")
@dataclass(frozen=True)
class CSVFile(TableFile):
    r"""A .csv of numbers, whose first line names the columns.

    A first column without a name holds names of rows, as pandas writes it, and is left out.

    Args:
        path: The file; may use environment variables.
        delimiter: What stands between the columns.
        labels: Name of the column with the labels: whole numbers, or words, which are numbered in their order.
        ignore: Names of columns that are left out.
        test_fraction: Part of the rows held out.
        limit: Keep only the first so many training rows.
        seed: Seed of the split.

    Example:
        >>> import pathlib, tempfile
        >>> from geodesic.data.csv_file import CSVFile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "cells.csv"
        >>> _ = file.write_text("gene1,gene2,kind\n0,3,B\n2,1,T\n5,0,B\n")
        >>> CSVFile(str(file), labels="kind").load().event_shape
        (2,)
    """

    path: str = field(metadata=setting("a .csv whose first line names the columns"))
    delimiter: str = field(default=",", metadata=setting('what stands between the columns: "\\t", say'))

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.delimiter) != 1:
            raise InputError(f"delimiter: expected one character, got {self.delimiter!r}")

    @property
    def file(self) -> str:
        return self.path

    def columns(self, file: Path) -> Columns:
        parts: dict[str, list[np.ndarray]] = {}
        try:
            with file.open(newline="", encoding="utf-8-sig") as stream:
                lines = csv.reader(stream, delimiter=self.delimiter)
                names = _names(file, next(lines, []))
                numbered = ((lines.line_num, line) for line in lines if line)
                while chunk := list(islice(numbered, _CHUNK)):
                    for number, line in chunk:
                        if len(line) != len(names):
                            raise DataError(
                                f"{file}: line {number} has {len(line)} columns and the first line {len(names)}; check "
                                f"the line, and the delimiter, {self.delimiter!r}"
                            )
                    for name, texts in zip(names, zip(*(line for _, line in chunk), strict=True), strict=True):
                        # Labels stay as they are written: 007 is another than 7 where one of them is a word.
                        part = np.array(texts, dtype=object) if name == self.labels else _numbers(texts)
                        parts.setdefault(name, []).append(part)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{file}: not readable as CSV ({error}); save it as UTF-8 text") from None
        columns = {name: np.concatenate(parts.get(name, [np.empty(0)])) for name in names}
        if self.labels in columns:
            columns[self.labels] = _numbers(tuple(columns[self.labels]))
        if names and not names[0]:
            del columns[""]  # names of rows
        return columns


def _names(file: Path, names: list[str]) -> list[str]:
    """The names of columns in the first line."""
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{file}: the column {twice[0]!r} is there twice; give each column its own name")
    if names and _numbers(tuple(names)).dtype == np.float64:
        raise DataError(f"{file}: its first line holds numbers, {listed_names(names, 3)}; name the columns there")
    return names


def _numbers(texts: tuple[str, ...]) -> np.ndarray:
    """Numbers, NaN where there is nothing; or the texts, if one is no number."""
    try:
        return np.array(["nan" if text.strip().lower() in _NOTHING else text for text in texts], dtype=np.float64)
    except ValueError:
        return np.array(texts, dtype=object)
