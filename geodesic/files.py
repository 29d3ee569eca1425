"""Files that appear whole or not at all, and array files that need no pickle."""

from __future__ import annotations

import contextlib
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
        temporary.replace(file)
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
        # Opened here, since numpy leaves a damaged .npz open.
        with file.open("rb") as stream:
            stored = np.load(stream, allow_pickle=False)
            if isinstance(stored, np.ndarray):
                raise DataError(f"{file}: expected an .npz of named arrays, got a single array; save with numpy.savez")
            with stored:
                return {key: stored[key] for key in stored.files}
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; check the path") from None
    except DataError:
        raise
    except Exception as error:  # a foreign or damaged file can make numpy fail in any way
        raise DataError(
            f"{file}: truncated, or not an .npz of plain arrays ({error}); save it again with numpy.savez"
        ) from None
