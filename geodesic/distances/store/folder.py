"""The files of a store: chunks of arrays, and a mark beside each that is whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from geodesic.distances.store.job import Chunk, Layout, name_of
from geodesic.errors import DataError
from geodesic.files import read_npz, write_npz, write_text
from geodesic.installation import require

__all__ = ["Folder", "writing"]


class Folder:
    """A store on disk.

    `manifest.json` says what it was made from, `points.npz` has the points. `arrays` is a group of Zarr, version 3,
    whose arrays have one file a chunk; `done` has a mark for every chunk that is whole, with the hashes of its files.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        require("scale", "zarr")
        self.path = path
        self.arrays, self._marks = path / "arrays", path / "done"
        self._manifest, self._points = path / "manifest.json", path / "points.npz"
        self._axes: dict[str, int] = {}

    def create(
        self, manifest: Mapping[str, Any], points: Mapping[str, NDArray[Any]], layouts: Mapping[str, Layout]
    ) -> None:
        """Make the folder, whole or not at all.

        Raises:
            DataError: Something else is there, or it cannot be written.
        """
        import zarr
        from zarr.codecs import Crc32cCodec, ZstdCodec

        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise DataError(f"store: {self.path} is there and is no store of distances; choose another folder")
        made = Folder(self.path.with_name(f".{self.path.name}.partial"))
        with writing(self.path):
            shutil.rmtree(made.path, ignore_errors=True)  # of a process that was ended
            try:
                made._marks.mkdir(parents=True)
                group = zarr.create_group(made.arrays, zarr_format=3)
                for name, layout in layouts.items():
                    group.create_array(
                        name,
                        shape=layout.shape,
                        chunks=layout.chunks,
                        dtype=layout.dtype,
                        fill_value=layout.fill,
                        compressors=[ZstdCodec(level=3), Crc32cCodec()],
                    )
                write_npz(made._points, points)
                write_text(made._manifest, json.dumps(manifest, indent=2))
                if self.path.exists():
                    self.path.rmdir()
                made.path.rename(self.path)
            finally:
                shutil.rmtree(made.path, ignore_errors=True)

    def manifest(self) -> dict[str, Any] | None:
        """What it was made from; None where there is no store.

        Raises:
            DataError: It cannot be read.
        """
        try:
            return dict(json.loads(self._manifest.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"store: {self._manifest} cannot be read ({error}); put it back from a copy, or choose another folder"
            ) from None

    def points(self) -> dict[str, NDArray[Any]]:
        """The points, and the outputs at the first of them."""
        return read_npz(self._points)

    def array(self, name: str, mode: str = "r") -> Any:
        """An array of Zarr."""
        import zarr

        with zarr.config.set({"array.write_empty_chunks": True}):  # a chunk without a file would be none
            return zarr.open_array(self.arrays / name, mode=mode, zarr_format=3)

    def marked(self) -> set[Chunk]:
        """The chunks that are said to be whole."""
        with contextlib.suppress(FileNotFoundError):
            names = (mark.name.removesuffix(".json") for mark in self._marks.iterdir() if mark.name[0] != ".")
            return {tuple(map(int, name.split("."))) for name in names}
        return set()

    def note(self, chunk: Chunk) -> dict[str, Any]:
        """What was noted beside a chunk; nothing where its mark cannot be read."""
        try:
            return dict(json.loads(self._mark(chunk).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return {}

    def is_sound(self, chunk: Chunk) -> bool:
        """Whether the files of a chunk are those that were written."""
        files = self.note(chunk).get("files")
        if not isinstance(files, dict) or not files:
            return False
        try:
            return all(_digest(self._file(name, chunk)) == digest for name, digest in files.items())
        except OSError:
            return False

    def put(self, chunk: Chunk, values: Mapping[str, NDArray[Any]], note: Mapping[str, int]) -> None:
        """Write a chunk, and then its mark.

        Raises:
            DataError: It cannot be written; what is there of it is taken away.
        """
        with writing(self.path):
            try:
                self.discard(chunk, values)
                for name, value in values.items():
                    array = self.array(name, "r+")
                    sizes = zip(chunk, array.chunks, array.shape, strict=False)  # the last axis may be whole
                    array[tuple(slice(i * size, min((i + 1) * size, count)) for i, size, count in sizes)] = value
                files = {name: _digest(self._file(name, chunk)) for name in values}
                write_text(self._mark(chunk), json.dumps({**note, "files": files}))
            except BaseException:
                with contextlib.suppress(OSError):
                    self.discard(chunk, values)
                raise

    def discard(self, chunk: Chunk, names: Mapping[str, Any]) -> None:
        """Take away what there is of a chunk, its mark first."""
        self._mark(chunk).unlink(missing_ok=True)
        for name in names:
            file = self._file(name, chunk)
            file.unlink(missing_ok=True)
            for partial in file.parent.glob(f"{file.name}.*.partial"):
                partial.unlink(missing_ok=True)

    def _mark(self, chunk: Chunk) -> Path:
        return self._marks / f"{name_of(chunk)}.json"

    def _file(self, name: str, chunk: Chunk) -> Path:
        """Where Zarr keeps a chunk: an axis that is not divided is divided into one part."""
        if name not in self._axes:
            self._axes[name] = len(json.loads((self.arrays / name / "zarr.json").read_bytes())["shape"])
        axes = (*chunk, *[0] * (self._axes[name] - len(chunk)))
        return self.arrays.joinpath(name, "c", *map(str, axes))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one way that a disk is full, or may not be written.

    Raises:
        DataError: With what the system says.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"store: {path} cannot be written ({error.strerror or error}); chunks that are done stay: make room, or "
            "get the right to write there, and call again"
        ) from None


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
