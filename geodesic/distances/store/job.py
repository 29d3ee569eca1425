"""What a store is filled with: arrays in chunks, each of which can be computed by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.solvers.search import Search

__all__ = ["Chunk", "Job", "Layout", "name_of", "one_thread", "span"]

Chunk = tuple[int, ...]
"""Which part of the arrays: row and column of a tile, or the number of a group of rows."""


@dataclass(frozen=True)
class Layout:
    """An array on disk.

    Attributes:
        shape: Of the whole.
        chunks: Of a part.
        dtype: As NumPy says it.
        fill: What stands where nothing is known yet.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    fill: float | int | bool


class Job(ABC):
    """Chunks of distances to be found, with all that they depend on: a worker gets one, once.

    Attributes:
        kind: What it is, for the manifest.
        manifold: Where to measure.
        points: (N, d).
        search: How to look.
    """

    kind: ClassVar[str]
    manifold: Manifold
    points: Tensor
    search: Search

    @property
    @abstractmethod
    def second(self) -> Tensor | None:
        """The other points, (M, d), if there are any."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What else the answers depend on, as JSON has it."""

    @property
    @abstractmethod
    def layouts(self) -> dict[str, Layout]:
        """The arrays, by name."""

    def prepared(self) -> dict[str, NDArray[Any]]:
        """What is found once, before all chunks, and kept with the points."""
        return {}

    def with_prepared(self, found: Mapping[str, NDArray[Any]]) -> Job:
        """The job that has what was found."""
        return self

    @abstractmethod
    def chunks(self) -> Iterator[Chunk]:
        """All chunks, in the order in which they are computed."""

    @abstractmethod
    def pairs(self, chunk: Chunk) -> int:
        """How many pairs of points a chunk holds, each counted once."""

    @abstractmethod
    def compute(self, chunk: Chunk) -> tuple[dict[str, NDArray[Any]], dict[str, int]]:
        """The values of the arrays there, and numbers to be noted beside: the same bits whoever computes them."""


def name_of(chunk: Chunk) -> str:
    """A chunk in words: "3.5" is the tile in row 3 and column 5."""
    return ".".join(map(str, chunk))


def span(number: int, size: int, count: int) -> slice:
    """Which of `count` rows a part of so many of them has."""
    return slice(number * size, min((number + 1) * size, count))


class one_thread:  # noqa: N801  a context, read as words: with one_thread():
    """Within it torch computes with one thread: sums do not depend on how they are split, and workers do not fight."""

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._before)
