"""A matrix of distances on disk, read where it is looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodesic.distances.record import DistanceMatrix
from geodesic.distances.solved import Found
from geodesic.distances.store.blocks import StoredArray
from geodesic.distances.store.folder import Folder
from geodesic.distances.store.job import Chunk
from geodesic.distances.store.manifest import FORMAT
from geodesic.errors import DataError, InputError
from geodesic.solvers.status import Status, remedies

__all__ = ["StoredDistances", "manifest_at", "open_distances"]

Part = slice | Sequence[int] | NDArray[Any]


@dataclass(frozen=True)
class StoredDistances:
    """What `distance_matrix` found, in a folder: the fields of a `DistanceMatrix`, each an array that is read in parts.

    With Dask they are its arrays, `length.mean(axis=0).compute()`; without, an index reads, `length[:10]`. What is not
    computed yet is NaN, with the status RUNNING.

    Attributes:
        path: The folder.
        shape: N and M.
        tile: Points on each side of a tile.
        symmetric: Whether points were measured among themselves.
        method: How they were found.
        tol: Largest relative excess energy of a geodesic that counts as converged.
        length_rtol: Largest estimated relative error of a resolved length.
    """

    path: Path
    shape: tuple[int, int]
    tile: int
    symmetric: bool
    method: str
    tol: float
    length_rtol: float

    @property
    def length(self) -> Any:
        """Of the shortest curves found, (N, M)."""
        return self._lazy("length")

    @property
    def lower(self) -> Any:
        """What the distances are never below, (N, M)."""
        return self._lazy("lower")

    @property
    def upper(self) -> Any:
        """What they are never above, (N, M)."""
        return self._lazy("upper")

    @property
    def straight_length(self) -> Any:
        """Of straight latent lines, (N, M)."""
        return self._lazy("straight_length")

    @property
    def error(self) -> Any:
        """Estimated relative errors of lengths, (N, M)."""
        return self._lazy("error")

    @property
    def status(self) -> Any:
        """`Status` as integer, (N, M)."""
        return self._lazy("status")

    @property
    def segments(self) -> Any:
        """Of the geodesics, (N, M)."""
        return self._lazy("segments")

    @cached_property
    def points(self) -> Tensor:
        """The points, (N, d)."""
        return torch.as_tensor(Folder(self.path).points()["points"])

    @cached_property
    def others(self) -> Tensor:
        """The points that were measured to, (M, d)."""
        stored = Folder(self.path).points()
        return torch.as_tensor(stored["points" if self.symmetric else "others"])

    @property
    def missing(self) -> list[Chunk]:
        """Tiles that are not computed yet, by row and column of tiles."""
        done = Folder(self.path).marked()
        return [chunk for chunk in self._tiles() if chunk not in done]

    def load(self, rows: Part = slice(None), columns: Part = slice(None)) -> DistanceMatrix:
        """The distances between some points and others, or all of them, in memory; no other tiles are read.

        Args:
            rows: A slice, or numbers of points.
            columns: The same, of what they are measured to.

        Raises:
            DataError: A tile is damaged.
        """
        names = [field.name for field in fields(Found)]
        values = {name: torch.as_tensor(self._stored(name)[rows, columns]) for name in names}
        values |= {name: values[name].long() for name in ("status", "segments")}
        N, M = self.shape
        same = np.array_equal(np.arange(N)[rows], np.arange(M)[columns])
        return DistanceMatrix(
            **values,
            method=self.method,
            symmetric=self.symmetric and same,
            tol=self.tol,
            length_rtol=self.length_rtol,
        )

    def summary(self) -> str:
        """How many pairs there are, how many were resolved, how far apart the bounds are at most, which tiles lack.

        Tile by tile: no more than one is in memory.
        """
        statuses: Counter[int] = Counter()
        apart, pairs, missing = 0.0, 0, set(self.missing)
        for chunk in self._tiles():
            if chunk in missing:
                continue
            i, j = (slice(n * self.tile, (n + 1) * self.tile) for n in chunk)
            block = self.load(i, j)
            at = block.pairs
            statuses.update(block.status[at].tolist())
            ratio = block.upper[at] / block.lower[at]
            ratio = ratio[ratio.isfinite()]
            apart = max([apart, *ratio.amax(0, keepdim=True).tolist()] if len(ratio) else [apart])
            pairs += len(at[0])
        return "\n".join(self._lines(pairs, statuses, apart, len(missing)))

    def _lines(self, pairs: int, statuses: Counter[int], apart: float, missing: int) -> list[str]:
        sought = {status: count for status, count in statuses.items() if status != Status.NOT_SOUGHT}
        resolved, all_ = sought.get(int(Status.CONVERGED), 0), sum(sought.values())
        of = f" of {all_:,}" if resolved < all_ else ""
        found = (
            f"{resolved:,}{of} geodesics resolved (length_rtol {self.length_rtol:g})"
            if sought
            else "no geodesics sought"
        )
        lines = [f'{pairs:,} pairs by "{self.method}": {found}']
        if apart:
            lines.append(f"upper over lower bound: at most {apart:.4f}")
        if missing:
            lines.append(f"{missing:,} of {len(self._tiles()):,} tiles are missing: call distance_matrix again")
        return [*lines, *remedies([status for status, count in sought.items() for _ in range(count)])]

    def _tiles(self) -> list[Chunk]:
        rows, columns = (-(-count // self.tile) for count in self.shape)
        return [(i, j) for i in range(rows) for j in range(i if self.symmetric else 0, columns)]

    def _stored(self, name: str) -> StoredArray:
        return StoredArray(self.path, name, self.symmetric)

    def _lazy(self, name: str) -> Any:
        stored = self._stored(name)
        if find_spec("dask") is None:
            return stored
        import dask.array

        return dask.array.from_array(stored, chunks=stored.chunks, name=False, meta=np.empty((0, 0), stored.dtype))


def open_distances(path: Path | str) -> StoredDistances:
    """The distances that `distance_matrix(..., store=path)` wrote, or is writing: read where they are looked at.

    Args:
        path: The folder.

    Raises:
        DataError: It is no store of a matrix.
        MissingExtraError: Zarr is not installed.

    Example:
        >>> import tempfile, torch, geodesic
        >>> points = torch.tensor([[1.0, 0.0], [1.2, 0.1], [6.0, 0.0]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = geodesic.distance_matrix(geodesic.surfaces.SwissRoll(), points, store=f"{folder}/roll")
        ...     stored = geodesic.open_distances(f"{folder}/roll")
        ...     print(stored.missing, stored.load([0], [2]).length.round(decimals=2))
        [] tensor([[18.3500]])
    """
    manifest, folder = manifest_at(path, "matrix", "distance_matrix"), Path(path).expanduser().absolute()
    settings, tolerances = manifest["settings"], manifest["tolerances"]
    N, M = settings["shape"]
    return StoredDistances(
        path=folder,
        shape=(N, M),
        tile=settings["tile"],
        symmetric=settings["symmetric"],
        method=settings["method"],
        tol=tolerances["tol"],
        length_rtol=tolerances["length_rtol"],
    )


def manifest_at(path: Path | str, kind: str, function: str) -> dict[str, Any]:
    """What a store says of itself.

    Args:
        path: The folder.
        kind: Of the store.
        function: That fills such.

    Raises:
        DataError: There is none, or one of another kind or version.
    """
    if not isinstance(path, Path | str):
        raise InputError(f"path: expected the path of a store, got {type(path).__name__}")
    manifest = Folder(Path(path).expanduser().absolute()).manifest()
    if manifest is None:
        raise DataError(f"{path}: no store of distances; check the path, or fill one with {function}(..., store=...)")
    if any(manifest.get(name) != value for name, value in FORMAT.items()):
        raise DataError(f"{path}: a store of another version of geodesic; read it with the one that filled it")
    if manifest.get("kind") != kind:
        raise DataError(f"{path}: a store that {function} did not fill; open it with open_distances or open_neighbors")
    return manifest
