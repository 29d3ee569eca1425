"""Tables in a .parquet file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from geodesic.data.source import DATA_SETS
from geodesic.data.tables import Columns, TableFile
from geodesic.errors import DataError
from geodesic.installation import require
from geodesic.registry import setting

__all__ = ["ParquetFile"]


@DATA_SETS.register("parquet")
@dataclass(frozen=True)
class ParquetFile(TableFile):
    """A .parquet of numbers; needs the extra `parquet`.

    A column that pandas wrote as the names of rows, `__index_level_0__`, is left out.

    Args:
        path: The file; may use environment variables.
        labels: Name of the column with the labels: whole numbers, or words, which are numbered in their order.
        ignore: Names of columns that are left out.
        test_fraction: Part of the rows held out.
        limit: Keep only the first so many training rows.
        seed: Seed of the split.

    Example:
        >>> from geodesic.data.parquet import ParquetFile
        >>> ParquetFile("cells.parquet", labels="kind").file
        'cells.parquet'
    """

    path: str = field(metadata=setting("a .parquet"))

    @property
    def file(self) -> str:
        return self.path

    def columns(self, file: Path) -> Columns:
        require("parquet", "pyarrow")
        from pyarrow import ArrowException, types
        from pyarrow.parquet import read_table

        try:
            table = read_table(file)
        except (ArrowException, OSError) as error:
            raise DataError(f"{file}: not readable as Parquet ({error}); write it again") from None
        names = [name for name in table.column_names if name != "__index_level_0__"]
        columns = {}
        for name in names:
            column = table.column(name)
            if types.is_floating(column.type) or types.is_integer(column.type) or types.is_boolean(column.type):
                # What is missing becomes NaN.
                columns[name] = np.asarray(column.cast("float64").to_numpy(), dtype=np.float64)
            else:
                columns[name] = np.array(["" if x is None else str(x) for x in column.to_pylist()], dtype=object)
        return columns
