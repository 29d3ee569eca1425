"""Arrays on disk that are read where they are looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodesic.distances.store.folder import Folder
from geodesic.errors import DataError, InputError

__all__ = ["StoredArray"]


class StoredArray:
    """An array of a store: an index reads the chunks that it touches, and no others.

    Of a symmetric matrix only the tiles of the upper triangle are on disk; the others are these, transposed.

    Args:
        path: The folder of the store.
        name: Of the array.
        symmetric: Whether it is mirrored.
    """

    def __init__(self, path: Path, name: str, symmetric: bool = False) -> None:
        self.path, self.name, self.symmetric = path, name, symmetric
        array = Folder(path).array(name)
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.chunks: tuple[int, ...] = tuple(array.chunks)
        self.dtype = np.dtype(array.dtype)
        self.ndim = len(self.shape)
        self._array = array

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "name": self.name, "symmetric": self.symmetric}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"StoredArray({self.name!r}, shape={self.shape}, dtype={self.dtype}, in {self.path})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        given = index if isinstance(index, tuple) else (index,)
        if len(given) > self.ndim or any(part is None or part is Ellipsis for part in given):
            raise InputError(f"index: expected at most {self.ndim} of integers, slices and lists, got {index!r}")
        parts = [np.arange(count) for count in self.shape]
        kept = [part[one] for part, one in zip(parts, (*given, *[slice(None)] * self.ndim), strict=False)]
        values = self._read([np.atleast_1d(part) for part in kept])
        return values.reshape([len(part) for part in kept if part.ndim])

    def _read(self, wanted: list[NDArray[Any]]) -> NDArray[Any]:
        """The product of the indices."""
        found = np.empty([len(part) for part in wanted], self.dtype)
        if not found.size:
            return found
        if not self.symmetric:
            return self._stored(wanted)
        rows, columns = wanted
        row_tiles, column_tiles = rows // self.chunks[0], columns // self.chunks[1]
        for i in np.unique(row_tiles):
            some = np.flatnonzero(row_tiles == i)
            above, below = np.flatnonzero(column_tiles >= i), np.flatnonzero(column_tiles < i)
            if len(above):
                found[np.ix_(some, above)] = self._stored([rows[some], columns[above]])
            if len(below):
                found[np.ix_(some, below)] = self._stored([columns[below], rows[some]]).T
        return found

    def _stored(self, wanted: list[NDArray[Any]]) -> NDArray[Any]:
        try:
            return np.asarray(self._array.oindex[tuple(wanted)])
        except IndexError:
            raise
        except Exception as error:  # what is damaged makes codecs fail in any way
            raise DataError(
                f"store: a chunk of {self.name} of {self.path} that holds rows {wanted[0].min()} to {wanted[0].max()} "
                f"is damaged ({error}); call the function that filled the store again, which does it anew"
            ) from None
