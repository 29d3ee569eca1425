"""What is explored: a latent space with its data, and what a page may choose among."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold
from geodesic.solvers.search import Search
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.solver import Solver

__all__ = ["Scene", "pictured_rows"]

_DRAWN = 3000  # points of the background that can still be told apart, and hovered over


@dataclass(frozen=True)
class Scene:
    """A latent space, and what is known around it.

    Args:
        title: Of the page.
        points: Latent points of data, (N, d), in the dtype and on the device that geodesics are looked for in.
        geometries: Name to what makes the manifold, which may fail; the first is shown at first.
        labels: Classes of the points, (N,), if there are any.
        decode: From latent points, (n, d), to what is to be seen, (n, *event); None where nothing can be seen.
        rows: From the number of a point to the row of data that it encodes, in the shape of what `decode` returns; None
            where there are only the points.
        solvers: Name to solver, as `solve` takes it.
        pairs: Starts and ends of the pairs that belong together, (P, d) each, and their names; None where there are
            none.
        graph_points: Points for paths that begin in a graph, (M, d); drawn if None.
        answer: Of pairs that are shown and not solved for, where there is no manifold.
        search: How certified answers are looked for, but for where they start and by which solver.
    """

    title: str
    points: Float[Tensor, "N d"]
    geometries: Mapping[str, Callable[[], Manifold]]
    labels: NDArray | None = None
    decode: Callable[[Tensor], NDArray] | None = None
    rows: Callable[[int], NDArray] | None = None
    solvers: Mapping[str, Solver[Any] | str] = field(default_factory=lambda: {"auto": "auto"})
    pairs: tuple[Tensor, Tensor, Sequence[str]] | None = None
    graph_points: Tensor | None = None
    answer: GeodesicSolution | None = None
    search: Search = field(default_factory=Search)

    def __post_init__(self) -> None:
        N, d = self.points.shape
        if d < 2:
            raise InputError("the explorer shows a plane, and this latent space has 1 coordinate; `plot` draws paths")
        if N < 3:
            raise InputError(f"points: expected at least 3 latent points, to show where to look, got {N}")

    @property
    def shown(self) -> NDArray[np.int64]:
        """Numbers of the points that are drawn: evenly chosen where there are many."""
        N = len(self.points)
        return np.linspace(0, N - 1, min(N, _DRAWN)).round().astype(int)


def pictured_rows(values: NDArray) -> NDArray:
    """What a decoder makes of points, (n, *event), as images (n, H, W) or (n, H, W, 3) of bytes, or vectors (n, D).

    Images have values from 0 to 1; others are shown in shades of the range of all that are given.

    Example:
        >>> import numpy as np
        >>> from geodesic.explorer.scene import pictured_rows
        >>> pictured_rows(np.ones((2, 1, 4, 4))).shape, pictured_rows(np.ones((2, 7))).shape
        ((2, 4, 4), (2, 7))
    """
    from geodesic.pictures.outputs import shown_images

    if values.ndim in (3, 4) and min(values.shape[-2:]) > 1:
        (images,) = shown_images(np.nan_to_num(values, nan=0.0)[None])
        return (255 * images[0]).round().astype(np.uint8)
    return values.reshape(len(values), -1).astype(np.float32)
