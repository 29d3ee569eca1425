"""Nearest neighbors on disk, read where they are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from geodesic.distances.nearest_points import NearestPoints
from geodesic.distances.store.blocks import StoredArray
from geodesic.distances.store.folder import Folder
from geodesic.distances.store.job import Chunk
from geodesic.distances.store.stored import Part, manifest_at

__all__ = ["StoredNeighbors", "open_neighbors"]

_FIELDS = ("indices", "length", "lower", "upper", "open", "unordered", "solved", "candidates")


@dataclass(frozen=True)
class StoredNeighbors:
    """What `nearest` found, in a folder.

    Attributes:
        path: The folder.
        points: How many there are to choose from, N.
        queries: How many queries, Q.
        k: Neighbors.
        tile: Queries of a chunk.
    """

    path: Path
    points: int
    queries: int
    k: int
    tile: int

    @property
    def missing(self) -> list[Chunk]:
        """Chunks of queries that are not computed yet, by number."""
        done = Folder(self.path).marked()
        return [(i,) for i in range(-(-self.queries // self.tile)) if (i,) not in done]

    @property
    def share_solved(self) -> float:
        """Geodesics that were solved for, over all pairs of chunks that are done."""
        folder = Folder(self.path)
        done = folder.marked()
        rows = sum(min(self.tile, self.queries - i * self.tile) for (i,) in done)
        return sum(int(folder.note(chunk).get("solved", 0)) for chunk in done) / max(rows * self.points, 1)

    @property
    def recall(self) -> float:
        """That of the candidates, see `NearestPoints`."""
        return float(Folder(self.path).points().get("recall", 1.0))

    def load(self, rows: Part = slice(None)) -> NearestPoints:
        """The neighbors of some queries, or of all, in memory; those that are not computed yet have the index -1.

        Args:
            rows: A slice, or numbers of queries.

        Raises:
            DataError: A chunk is damaged.
        """
        values: dict[str, Any] = {name: torch.as_tensor(self.array(name)[rows]) for name in _FIELDS}
        return NearestPoints(**values, share_solved=self.share_solved, recall=self.recall)

    def array(self, name: str) -> StoredArray:
        """A field of `NearestPoints`, read by index.

        Args:
            name: Of the field.
        """
        return StoredArray(self.path, name)

    def summary(self) -> str:
        """How many neighbors bounds alone decide, and what it took; and how many chunks are missing."""
        missing = len(self.missing)
        lack = f"\n{missing:,} chunks of {self.tile:,} queries are missing: call nearest again" if missing else ""
        return self.load().summary() + lack


def open_neighbors(path: Path | str) -> StoredNeighbors:
    """The neighbors that `nearest(..., store=path)` wrote, or is writing: read where they are looked at.

    Args:
        path: The folder.

    Raises:
        DataError: It is no store of neighbors.
        MissingExtraError: Zarr is not installed.

    Example:
        >>> import tempfile, torch, geodesic
        >>> points = torch.linspace(1, 12, 40)[:, None] * torch.tensor([1.0, 0.0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = geodesic.nearest(geodesic.surfaces.SwissRoll(), points, points[:2], 3, store=f"{folder}/roll")
        ...     print(geodesic.distances.open_neighbors(f"{folder}/roll").load([0]).indices)
        tensor([[0, 1, 2]])
    """
    settings = manifest_at(path, "nearest", "nearest")["settings"]
    sizes = {name: settings[name] for name in ("points", "queries", "k", "tile")}
    return StoredNeighbors(path=Path(path).expanduser().absolute(), **sizes)
