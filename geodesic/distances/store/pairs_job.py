"""Geodesics of given pairs, some pairs at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from geodesic.distances.solved import Solver
from geodesic.distances.store.job import Chunk, Job, Layout, span
from geodesic.geometry.manifold import Manifold
from geodesic.solvers.doubts import doubts_of
from geodesic.solvers.search import Search
from geodesic.solvers.status import Status

__all__ = ["GeodesicsJob", "PairsJob"]


@dataclass(frozen=True, eq=False)
class PairsJob(Job):
    """Something that is found of pairs, `tile` of them at a time.

    Attributes:
        manifold: Where to measure.
        points: Where they begin, (P, d).
        ends: Where they end, (P, d).
        search: How to look.
        tile: Pairs of a chunk.
    """

    manifold: Manifold
    points: Tensor
    ends: Tensor
    search: Search
    tile: int

    @property
    def second(self) -> Tensor | None:
        return self.ends

    @property
    def settings(self) -> dict[str, Any]:
        return {"tile": self.tile, "pairs": len(self.points)}

    def chunks(self) -> Iterator[Chunk]:
        for i in range(-(-len(self.points) // self.tile)):
            yield (i,)

    def pairs(self, chunk: Chunk) -> int:
        rows = span(chunk[0], self.tile, len(self.points))
        return rows.stop - rows.start

    def compute(self, chunk: Chunk) -> tuple[dict[str, NDArray[Any]], dict[str, int]]:
        rows = span(chunk[0], self.tile, len(self.points))
        return self.found(self.points[rows], self.ends[rows]), {}

    @abstractmethod
    def found(self, start: Tensor, end: Tensor) -> dict[str, NDArray[Any]]:
        """The values of the arrays for some pairs."""


@dataclass(frozen=True, eq=False)
class GeodesicsJob(PairsJob):
    """Lengths of geodesics, and whether they can be relied on."""

    kind: ClassVar[str] = "geodesics"

    @property
    def layouts(self) -> dict[str, Layout]:
        real, P = str(self.points.dtype).removeprefix("torch."), len(self.points)
        return {
            "length": Layout((P,), (self.tile,), real, torch.nan),
            "status": Layout((P,), (self.tile,), "int8", int(Status.RUNNING)),
        }

    def found(self, start: Tensor, end: Tensor) -> dict[str, NDArray[Any]]:
        solution = Solver(self.manifold, self.search, steady=True).solve(start, end)
        length = torch.where(solution.converged, solution.length, torch.nan)
        return {"length": length.cpu().numpy(), "status": doubts_of(solution).cpu().numpy().astype("int8")}
