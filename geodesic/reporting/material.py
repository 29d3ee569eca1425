"""What a report is made from. What is not there is None, and the page says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from geodesic.distances.key_figures import distance_rows
from geodesic.drawing.best import BestCurves, best_of
from geodesic.geometry.manifold import Manifold
from geodesic.reporting.neighbors import Neighbors, neighbors_in
from geodesic.reporting.verdict import Verdict, verdict_on
from geodesic.solvers.solution import GeodesicSolution

__all__ = ["Material"]

Pictured = Callable[[NDArray, NDArray], NDArray]


@dataclass(frozen=True)
class Material:
    """Solutions of P pairs, and what is known around them.

    Attributes:
        title: Of the page.
        solutions: Method name to solution, of the same pairs.
        names: Of the pairs, P.
        manifold: The geometry that they were found in.
        pictured: From latent points of some pairs, (p, n, d), and which pairs those are, (p,), to what the decoder
            makes of them, (p, n, *event).
        points: Latent points of data, (N, d).
        labels: Their classes, (N,).
        distances: Arrays of a matrix of distances, with `latent_distance` and, if there are any, `labels`.
        neighbors: How many nearest neighbors change, where there is no such matrix.
        nearest: Neighbors that are compared in the matrix.
        facts: About model and data, name to text.
        divergences: The KL of each latent dimension, (d,), nats.
        collapsed: Below so many nats a dimension has collapsed.
        settings: As YAML.
        versions: Name to version.
        commands: What repeats it.
        missing: What could not be had, and why: name of the part to a sentence.
    """

    title: str
    solutions: Mapping[str, GeodesicSolution]
    names: Sequence[str]
    manifold: Manifold | None = None
    pictured: Pictured | None = None
    points: NDArray | None = None
    labels: NDArray | None = None
    distances: Mapping[str, NDArray] | None = None
    neighbors: Neighbors | None = None
    nearest: int = 5
    facts: Mapping[str, str] = field(default_factory=dict)
    divergences: NDArray | None = None
    collapsed: float = 0.01
    settings: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[str] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def best(self) -> BestCurves:
        """The best curve of each pair."""
        return best_of(self.solutions)

    @cached_property
    def verdict(self) -> Verdict:
        """Whether geodesics matter."""
        return verdict_on(self.best, self.neighbors if self.distances is None else neighbors_in(self.distances))

    @property
    def distance_rows(self) -> list[dict[str, Any]]:
        """What the matrix comes to."""
        if self.distances is None:
            return []
        return distance_rows(self.distances, min(self.nearest, len(self.distances["length"]) - 1))
