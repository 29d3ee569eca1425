"""The tiles of a matrix of distances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from geodesic.distances.exact import solve_all
from geodesic.distances.methods import METHODS, Exact, Method, Straight, method_of
from geodesic.distances.solved import Found, Solver
from geodesic.distances.store.job import Chunk, Job, Layout, span
from geodesic.distances.straight import straight_all
from geodesic.distances.told import Teller
from geodesic.distances.work import Work
from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold
from geodesic.solvers.search import Search
from geodesic.solvers.status import Status

__all__ = ["MatrixJob", "in_tiles"]

_FILLS: dict[str, float | int] = {
    "length": torch.nan,
    "lower": 0.0,
    "upper": torch.inf,
    "straight_length": torch.nan,
    "error": torch.inf,
    "status": int(Status.RUNNING),
    "segments": 0,
}
_INTEGERS = {"status": "int8", "segments": "int32"}


@dataclass(frozen=True, eq=False)
class MatrixJob(Job):
    """Distances between points, tile by tile; of points among themselves those of the upper triangle.

    Attributes:
        manifold: Where to measure.
        points: (N, d).
        others: (M, d); None where the points are measured among themselves.
        method: How, within a tile.
        search: How to look.
        tile: Points on each side of a tile.
    """

    manifold: Manifold
    points: Tensor
    others: Tensor | None
    method: Method
    search: Search
    tile: int

    kind: ClassVar[str] = "matrix"

    @property
    def second(self) -> Tensor | None:
        return self.others

    @property
    def shape(self) -> tuple[int, int]:
        """N and M."""
        return len(self.points), len(self.points if self.others is None else self.others)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "method": METHODS.kind_of(self.method),
            "of the method": asdict(self.method),  # type: ignore[call-overload]
            "tile": self.tile,
            "symmetric": self.others is None,
            "shape": list(self.shape),
        }

    @property
    def layouts(self) -> dict[str, Layout]:
        real = str(self.points.dtype).removeprefix("torch.")
        return {
            field.name: Layout(self.shape, (self.tile, self.tile), _INTEGERS.get(field.name, real), _FILLS[field.name])
            for field in fields(Found)
        }

    def chunks(self) -> Iterator[Chunk]:
        rows, columns = (-(-count // self.tile) for count in self.shape)
        for i in range(rows):
            for j in range(i if self.others is None else 0, columns):
                yield i, j

    def pairs(self, chunk: Chunk) -> int:
        n, m = (part.stop - part.start for part in self._parts(chunk))
        among = self.others is None and chunk[0] == chunk[1]
        return n * (n - 1) // 2 if among else n * m

    def compute(self, chunk: Chunk) -> tuple[dict[str, NDArray[Any]], dict[str, int]]:
        rows, columns = self._parts(chunk)
        if self.others is None:
            others = None if chunk[0] == chunk[1] else self.points[columns]
        else:
            others = self.others[columns]
        work = Work(Solver(self.manifold, self.search, steady=True), self.points[rows], others, Teller(None))
        if isinstance(self.method, Exact):
            solve_all(work, self.method)
        elif isinstance(self.method, Straight):
            straight_all(work, self.method.segments)
        layouts = self.layouts
        known = {name: getattr(work.known, name).cpu().numpy().astype(layouts[name].dtype) for name in layouts}
        return known, {}

    def _parts(self, chunk: Chunk) -> tuple[slice, slice]:
        N, M = self.shape
        return span(chunk[0], self.tile, N), span(chunk[1], self.tile, M)


def in_tiles(method: str | Method) -> Method:
    """The method with which tiles are filled, each by itself.

    Raises:
        InputError: It looks at all points together.
    """
    if method == "exact":
        return Exact(mend=False)
    how = method_of(method)
    if isinstance(how, Exact) and how.mend:
        raise InputError(
            "method: pairs are mended by way of third points, which lie in other tiles of a store; give "
            "Exact(mend=False), or 'exact'"
        )
    if not isinstance(how, Exact | Straight):
        raise InputError(
            f"method: a store is filled tile by tile, by 'exact' or 'straight', got {METHODS.kind_of(how)!r}, which "
            "looks at all points together; leave out store"
        )
    return how
