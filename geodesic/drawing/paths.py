"""Pictures of paths in latent space, from the answers of tools."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodesic.arrays import with_arrays
from geodesic.errors import InputError
from geodesic.pictures.paths import named, plot_latent
from geodesic.solvers.answer import Answer
from geodesic.solvers.solution import GeodesicSolution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["background", "curves_of", "plot"]

_CURVE = 100  # segments of a drawn curve


def plot(
    solution: Any,
    points: Tensor | NDArray | None = None,
    labels: Any = None,
    *,
    straight: bool = True,
    ax: Axes | None = None,
) -> Figure:
    """Draw paths in latent space, the straight lines between their ends (dashed), and data by label.

    Of two latent coordinates the plane is drawn; of more the plane of the two leading principal directions of the
    paths, and the axes say how much of the paths they show; a single coordinate is drawn against time.

    Args:
        solution: The answer of `solve`, that of another tool with a `path` such as `exp_map`, or nodes,
            (*batch, T + 1, d). Several are compared as a dictionary of names: `plot({"plain": one, "blended": other})`.
            Which pairs is said by an index: `plot(solution[:5])`.
        points: Latent points of the background, (N, d), such as the encodings of the data; none if None.
        labels: Their classes, (N,), integers or words: a tensor, an array or a list.
        straight: Whether the straight lines are drawn.
        ax: Axes of matplotlib to draw on; a new figure if None.

    Returns:
        The figure, which a notebook shows by itself; `figure.savefig("paths.png")` writes it.

    Raises:
        InputError: There are no paths, or what is drawn with them does not go with them.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> import torch, geodesic
        >>> sphere = geodesic.surfaces.Sphere()
        >>> a, b = torch.tensor([[0.8, 0.0], [1.0, 0.2]]), torch.tensor([[0.8, 2.0], [0.4, 1.5]])
        >>> figure = geodesic.plot(geodesic.solve(sphere, a, b))
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['straight', 'geodesic']
    """
    given = solution if isinstance(solution, Mapping) else {_kind(solution): solution}
    if not given:
        raise InputError("solution: expected at least one, got an empty dictionary")
    curves: dict[str, NDArray] = {}
    for name, paths in given.items():
        curve, converged = curves_of(paths)
        curves[named(str(name), converged)] = curve
    sizes = sorted({curve.shape[-1] for curve in curves.values()})
    if len(sizes) > 1:
        raise InputError(
            f"solution: expected paths in one latent space, got {' and '.join(map(str, sizes))} coordinates"
        )
    return plot_latent(curves, *background(points, labels, sizes[0]), straight=straight, axes=ax)


def background(points: Any, labels: Any, d: int) -> tuple[NDArray | None, NDArray | None]:
    """Latent points and their classes as arrays, (N, d) and (N,); None where there are none.

    Args:
        points: Of the user's.
        labels: Of the user's.
        d: Latent coordinates.

    Raises:
        InputError: They do not go together, or not with the paths.
    """
    encodings = None if points is None else _cloud(points, d)
    return encodings, _classes(labels, encodings)


def curves_of(paths: Any, argument: str = "solution") -> tuple[NDArray, NDArray | None]:
    """Paths at equal times, (P, nodes, d), and which of them have converged, (P,), where that is known.

    Args:
        paths: What `plot` takes, one of it.
        argument: The user's name for it.

    Raises:
        InputError: It has no paths.
    """
    if isinstance(paths, GeodesicSolution):
        nodes = with_arrays(
            paths(torch.linspace(0, 1, _CURVE + 1, device="cpu"))
        )  # not its nodes: how many there are differs
        batch = paths.status.ndim
    elif isinstance(paths, Answer) and hasattr(paths, "path"):
        nodes, batch = with_arrays(paths.path), paths.status.ndim
    elif isinstance(paths, Tensor | np.ndarray) and paths.ndim >= 2:
        nodes, batch = with_arrays(paths), paths.ndim - 2
    else:
        got = f"shape {tuple(paths.shape)}" if isinstance(paths, Tensor | np.ndarray) else type(paths).__name__
        raise InputError(
            f"{argument}: expected the answer of solve, another answer with a path, or nodes (*batch, T + 1, d), got "
            f"{got}"
        )
    count, event = math.prod(nodes.shape[:batch]), nodes.shape[batch + 1 :]
    if not count or nodes.shape[batch] < 2:
        raise InputError(f"{argument}: expected at least one path of two nodes, got shape {tuple(nodes.shape)}")
    converged = with_arrays(paths.converged).reshape(-1) if isinstance(paths, Answer) else None
    return nodes.reshape(count, -1, math.prod(event)).astype(float), converged


def _kind(paths: Any) -> str:
    """What paths without a name are called in a legend."""
    return "geodesic" if isinstance(paths, Answer) else "path"


def _cloud(points: Any, d: int) -> NDArray:
    cloud = np.asarray(with_arrays(points))
    if cloud.ndim < 2 or cloud.dtype.kind not in "fiu" or math.prod(cloud.shape[1:]) != d:
        raise InputError(f"points: expected latent points of shape (N, {d}), as the paths have, got {cloud.shape}")
    return cloud.reshape(len(cloud), d).astype(float)


def _classes(labels: Any, encodings: NDArray | None) -> NDArray | None:
    if labels is None:
        return None
    if encodings is None:
        raise InputError("labels: there are no points that they could belong to; give points too")
    classes = np.asarray(with_arrays(labels))
    if classes.shape != (len(encodings),):
        raise InputError(f"labels: expected one for each of the {len(encodings)} points, got shape {classes.shape}")
    return classes
