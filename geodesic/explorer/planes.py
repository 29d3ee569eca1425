"""The plane of a latent space that a page shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geodesic.errors import InputError
from geodesic.pictures.view import View

__all__ = ["bounds_of", "latent", "off_plane", "plane_of"]

_SEEN = (0.005, 0.995)  # quantiles of the data that the view takes in: a few far away would make all others small
_ROOM = 0.12  # around them, in parts of their range
_IN_LINE = 1e-6  # squared sine of the angle at which three points count as on one line


def plane_of(points: NDArray, rows: Sequence[int] | None = None) -> View:
    """The latent plane itself, the two leading principal directions at the mean, or the plane through three points.

    Args:
        points: Latent points, (N, d).
        rows: Numbers of three of them; None for the first two.

    Raises:
        InputError: The points are not three of these, or lie on one line.

    Example:
        >>> import numpy as np
        >>> from geodesic.explorer.planes import plane_of
        >>> plane_of(np.eye(3), [0, 1, 2]).names
        ('direction from point 0 to point 1', 'towards point 2')
    """
    if rows is None:
        return View.of([points], "the data")
    if len(rows) != 3 or not all(0 <= row < len(points) for row in rows):
        raise InputError(f"plane: expected the numbers of three of {len(points)} points, got {list(rows)}")
    a, b, c = points[list(rows)]
    u, v = b - a, c - a
    norm = np.linalg.norm(u)
    u = u / max(norm, np.finfo(float).tiny)
    across = v - (v @ u) * u
    if not norm or across @ across <= _IN_LINE * (v @ v):
        raise InputError(f"plane: points {', '.join(map(str, rows))} lie on one line; choose others")
    names = (f"direction from point {rows[0]} to point {rows[1]}", f"towards point {rows[2]}")
    return View(names, (a + b + c) / 3, np.stack([u, across / np.linalg.norm(across)]))


def latent(view: View, places: NDArray) -> NDArray:
    """The latent points at places of the plane, (n, 2) to (n, d)."""
    return view.origin + places @ view.directions


def off_plane(view: View, z: NDArray) -> float:
    """How far latent points, (n, d), are from the plane at most, in latent units."""
    return float(np.linalg.norm(z - latent(view, view.points(z)), axis=1).max(initial=0.0))


def bounds_of(view: View, points: NDArray) -> list[list[float]]:
    """The square part of the plane where the data are: the least and the largest of each coordinate."""
    seen = view.points(points)
    low, high = np.quantile(seen[np.isfinite(seen).all(1)], _SEEN, axis=0)
    middle, half = (low + high) / 2, (0.5 + _ROOM) * max(float((high - low).max()), 1e-6)
    return [[float(x - half), float(x + half)] for x in middle]
