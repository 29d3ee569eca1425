"""Files that appear whole or not at all, locks that end with their process, and array files that need no pickle."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geodesic.errors import DataError, RunFolderError

if sys.platform != "win32":
    import fcntl

__all__ = ["locked", "read_npz", "replacing", "write_bytes", "write_npz", "write_text"]


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside `file` to write to; it takes the file's place when the block ends well."""
    temporary = file.with_name(f".{file.name}.partial")
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Refuse what another process is writing, and keep others from it while the block runs.

    The lock is the kernel's, on the file `.NAME.lock` beside the path. It ends with the process, however that ends, and
    it stays where the path itself is replaced. Windows and some network file systems have no such locks: there the
    block runs without one.

    Args:
        path: A file or a folder, which need not exist.
        shared: Let others in that ask for the same. Whoever writes asks without it, and is alone.

    Raises:
        RunFolderError: Another process holds the lock.
    """
    lock = path.with_name(f".{path.name}.lock")
    made = not lock.parent.exists()
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = _acquire(lock, shared)
    except BlockingIOError:
        raise RunFolderError(
            f"{path}: another process is {'writing' if shared else 'using'} it; wait until that has ended, or choose "
            "another name"
        ) from None
    try:
        yield
    finally:
        _release(lock, descriptor)
        if made:
            with contextlib.suppress(OSError):  # it is no longer empty
                lock.parent.rmdir()


def _acquire(file: Path, shared: bool) -> int | None:
    """The descriptor of a file that is locked; BlockingIOError where it is somebody else's, None without locks."""
    if sys.platform == "win32":
        return None
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
            # Who had it before may have removed the file since it was opened: then the lock is on nothing.
            if file.exists() and os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                return descriptor
            if not isinstance(error, FileNotFoundError):
                os.close(descriptor)
                raise
        os.close(descriptor)


def _release(file: Path, descriptor: int | None) -> None:
    if sys.platform == "win32" or descriptor is None:
        return
    with contextlib.suppress(OSError):  # others share it: the last of them removes the file
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.unlink(missing_ok=True)
    os.close(descriptor)


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with replacing(file) as temporary:
        temporary.write_bytes(content)


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
