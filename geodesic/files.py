"""Files that appear whole or not at all, and array files that need no pickle."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geodesic.errors import DataError

__all__ = ["read_npz", "replacing", "write_npz", "write_text"]


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside `file` to write to; it takes the file's place when the block ends well."""
    temporary = file.with_name(f".{file.name}.partial")
    try:
        yield temporary
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_npz(file: Path, arrays: Mapping[str, NDArray]) -> None:
    """Write named arrays, whole or not at all."""
    with replacing(file) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def read_npz(file: Path) -> dict[str, NDArray]:
    """Read all arrays of an .npz.

    Raises:
        DataError: The file is missing, truncated, no .npz, or holds objects that would need pickle.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: expected a readable .npz of plain arrays ({error})") from None
