"""The nearest neighbors of groups of queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodesic.distances.approximate import Approximate, approximate_candidates
from geodesic.distances.candidates import Queries
from geodesic.distances.solved import Solver
from geodesic.distances.store.job import Chunk, Job, Layout, span
from geodesic.distances.told import Teller
from geodesic.geometry.manifold import Manifold
from geodesic.solvers.search import Search

__all__ = ["NearestJob"]


@dataclass(frozen=True, eq=False)
class NearestJob(Job):
    """The k nearest points to each query, some queries at a time.

    Attributes:
        manifold: Where to measure.
        points: To choose from, (N, d).
        queries: (Q, d); None where they are the points.
        k: Neighbors.
        search: How to look.
        tile: Queries at a time.
        candidates: How few points are chosen to look at; None for all.
        among: Which these are, (Q, C).
    """

    manifold: Manifold
    points: Tensor
    queries: Tensor | None
    k: int
    search: Search
    tile: int
    candidates: Approximate | None = None
    among: Tensor | None = None

    kind: ClassVar[str] = "nearest"

    @property
    def second(self) -> Tensor | None:
        return self.queries

    @property
    def _asked(self) -> Tensor:
        return self.points if self.queries is None else self.queries

    @property
    def settings(self) -> dict[str, Any]:
        settings = {"k": self.k, "tile": self.tile, "points": len(self.points), "queries": len(self._asked)}
        return settings if self.candidates is None else settings | {"candidates": str(self.candidates)}

    def prepared(self) -> dict[str, NDArray[Any]]:
        if self.candidates is None:
            return {}
        among, recall = approximate_candidates(self.manifold, self.points, self.queries, self.candidates)
        return {"among": among.cpu().numpy().astype("int32"), "recall": np.array(recall)}

    def with_prepared(self, found: Mapping[str, NDArray[Any]]) -> Job:
        if self.candidates is None:
            return self
        return replace(self, among=torch.as_tensor(found["among"], device=self.points.device).long())

    @property
    def layouts(self) -> dict[str, Layout]:
        real, Q = str(self.points.dtype).removeprefix("torch."), len(self._asked)
        of_k: dict[str, tuple[str, float | int | bool]] = {
            "indices": ("int64", -1),
            "length": (real, torch.nan),
            "lower": (real, 0.0),
            "upper": (real, torch.inf),
            "open": ("bool", True),
            "unordered": ("bool", True),
            "solved": ("bool", False),
        }
        layouts = {name: Layout((Q, self.k), (self.tile, self.k), *kind) for name, kind in of_k.items()}
        return layouts | {"candidates": Layout((Q,), (self.tile,), "int64", 0)}

    def chunks(self) -> Iterator[Chunk]:
        for i in range(-(-len(self._asked) // self.tile)):
            yield (i,)

    def pairs(self, chunk: Chunk) -> int:
        rows = span(chunk[0], self.tile, len(self._asked))
        return (rows.stop - rows.start) * self.k

    def compute(self, chunk: Chunk) -> tuple[dict[str, NDArray[Any]], dict[str, int]]:
        rows = span(chunk[0], self.tile, len(self._asked))
        solver, itself = Solver(self.manifold, self.search, steady=True), self.queries is None
        work = Queries(solver, self.points, self._asked, self.k, itself, Teller(None), self.among)
        found = work.of(torch.arange(rows.start, rows.stop, device=self.points.device))
        return {name: values.cpu().numpy() for name, values in found.items()}, {"solved": work.count}
