"""How a matrix of distances is found: frozen records of settings, by the words that settings files use."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from geodesic.arrays import as_tensor
from geodesic.checks import require_flag, require_integer
from geodesic.errors import InputError
from geodesic.registry import Registry, setting

__all__ = ["METHODS", "Exact", "Graph", "Landmarks", "Method", "Straight", "method_of"]


class Method:
    """How the distances of a matrix are found."""


METHODS = Registry[Method]("method")


@METHODS.register("exact")
@dataclass(frozen=True)
class Exact(Method):
    """Solve for the geodesic of every pair.

    Args:
        warm: Begin a pair near the geodesic of neighboring points, where that is known and near; not where the search
            begins from a graph, or from the better of two starts, for every pair.
        mend: Solve again, along the way round, for pairs that are farther apart than by way of a third point; where
            coordinates are periodic the length of that way is taken instead.
    """

    warm: bool = field(default=True, metadata=setting("whether pairs begin near the geodesics of their neighbors"))
    mend: bool = field(default=True, metadata=setting("whether pairs that a third point shortens are solved again"))

    def __post_init__(self) -> None:
        require_flag("warm", self.warm)
        require_flag("mend", self.mend)


@METHODS.register("straight")
@dataclass(frozen=True)
class Straight(Method):
    """Measure straight latent lines: upper bounds, for the price of about two decoder passes over them.

    Warning:
        Jumps of a decoder are not looked for, and a line across one is no curve: `Exact` finds them.

    Args:
        segments: Of the lines, by which they are measured.
    """

    segments: int = field(default=32, metadata=setting("of the lines, by which they are measured", ge=4))

    def __post_init__(self) -> None:
        require_integer("segments", self.segments, least=4)


@METHODS.register("graph")
@dataclass(frozen=True, eq=False)
class Graph(Method):
    """Shortest paths in a graph whose edges are geodesics of nearest neighbors and straight lines of other points.

    Upper bounds always. Without `straight` the points alone decide how good they are: between few of them, or in many
    latent dimensions, ways over neighbors are much longer than geodesics.

    Args:
        neighbors: To which each point is joined by a geodesic, those with the least distance through the surrounding
            space, or in latent space where there is none.
        straight: Segments by which straight latent lines are measured; 0 without these.
        lines: Points to which each is joined by a straight line where no geodesic joins them: half of them its nearest,
            half drawn at random; all, where there are no more.
        sample: Pairs drawn at random whose geodesics are solved for, to say how much longer the paths are.
        graph_points: More latent points for paths to go through, (K, d), such as encodings of the training data.
        seed: Of the random lines and of the sample.
    """

    neighbors: int = field(default=5, metadata=setting("to which each point is joined", ge=1))
    straight: int = field(default=8, metadata=setting("segments of the straight lines; 0 without", ge=0))
    lines: int = field(
        default=50,
        metadata=setting("points to which each is joined so, half near and half random", ge=1),
    )
    sample: int = field(default=100, metadata=setting("random pairs by which the error is measured", ge=0))
    graph_points: Tensor | None = field(default=None, repr=False)
    seed: int = field(default=0, metadata=setting("of the random lines and of the sample", ge=0))

    def __post_init__(self) -> None:
        require_integer("neighbors", self.neighbors, least=1)
        require_integer("straight", self.straight, least=0)
        if 0 < self.straight < 4:
            raise InputError(f"straight: expected at least 4 segments, or 0 for no straight lines, got {self.straight}")
        require_integer("lines", self.lines, least=1)
        require_integer("sample", self.sample, least=0)
        require_integer("seed", self.seed, least=0)
        object.__setattr__(self, "graph_points", as_tensor("graph_points", self.graph_points))
        if self.graph_points is not None and not isinstance(self.graph_points, torch.Tensor):
            raise InputError(f"graph_points: expected latent points, (K, d), got {type(self.graph_points).__name__}")


@METHODS.register("landmarks")
@dataclass(frozen=True)
class Landmarks(Method):
    """Geodesics to some points alone; between others the triangle inequality gives an upper bound and an estimate.

    V. de Silva, J. B. Tenenbaum, Sparse multidimensional scaling using landmark points, 2004, for the choice: each
    landmark is as far as possible from those before it.

    Args:
        count: Landmarks.
    """

    count: int = field(default=20, metadata=setting("of the points that geodesics are solved to", ge=1))

    def __post_init__(self) -> None:
        require_integer("count", self.count, least=1)


def method_of(method: object) -> Method:
    """The record of what a user said: a word, or the record itself.

    Raises:
        InputError: It is neither.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, str):
        if method not in METHODS:
            raise InputError(f"method: expected one of {', '.join(map(repr, METHODS))}, got {method!r}")
        return METHODS.make(method)
    raise InputError(
        f"method: expected one of {', '.join(map(repr, METHODS))}, or a record such as Graph(neighbors=20), got "
        f"{type(method).__name__}"
    )
