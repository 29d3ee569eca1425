"""Piecewise affine decoders at d = 2 as polyhedral surfaces, whose shortest paths are taut strings.

A network of affine layers and (leaky) ReLUs is affine on convex cells. Where its Jacobian has rank 2 in each of them, a
cell with its metric is a flat polygon, and neighbors unfold beside each other. Within a strip of cells the shortest
path is the taut string (`Polyhedron.taut_string`); over all strips it is found by windows (`tests.windows`).

Reference:
    Lee, Preparata. Euclidean shortest paths in the presence of rectilinear barriers. 1984 (the funnel).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """A convex polygon, counterclockwise, by the numbers of its vertices, where the decoder is z -> A z + c."""

    vertices: tuple[int, ...]
    A: Array

    @cached_property
    def R(self) -> Array:
        """Maps the cell to the plane, z -> R z, without stretching or turning it over: R^T R = A^T A, det R > 0."""
        return np.linalg.cholesky(self.A.T @ self.A).T

    @property
    def edges(self) -> Iterator[tuple[int, int]]:
        """Its directed edges; the cell lies to their left."""
        return zip(self.vertices, self.vertices[1:] + self.vertices[:1], strict=True)


class Polyhedron:
    """The cells of a decoder of `nn.Linear`, `nn.ReLU` and `nn.LeakyReLU` within the square [-size, size]^2."""

    def __init__(self, network: nn.Sequential, size: float = 4.0) -> None:
        corners = size * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
        pieces = [(corners, np.eye(2), np.zeros(2))]
        for layer in network:
            if isinstance(layer, nn.Linear):
                W, b = (x.detach().double().numpy() for x in (layer.weight, layer.bias))
                pieces = [(polygon, W @ A, W @ c + b) for polygon, A, c in pieces]
                continue
            for unit in range(len(pieces[0][2])):
                pieces = [part for piece in pieces for part in _split(*piece, unit)]
            slope = getattr(layer, "negative_slope", 0.0)
            pieces = [_bent(*piece, slope) for piece in pieces]
        points: list[Array] = []
        self.cells = [Cell(tuple(_number(p, points) for p in polygon), A) for polygon, A, _ in pieces]
        self.points = np.array(points)
        self.left_of = {edge: k for k, cell in enumerate(self.cells) for edge in cell.edges}

    def cell_at(self, z: Array) -> int:
        """The number of the cell that holds a point (2,)."""

        def depth(cell: Cell) -> float:
            return min(cross(self.points[b] - self.points[a], z - self.points[a]) for a, b in cell.edges)

        return max(range(len(self.cells)), key=lambda k: depth(self.cells[k]))

    def strip(self, path: Array) -> list[int]:
        """Numbers of the cells that a polygon (n, 2) of latent points crosses, without the loops that it makes."""
        cells: list[int] = []
        for start, end in pairwise(path):
            inside = ((*self._inside(cell, start, end), k) for k, cell in enumerate(self.cells))
            for _, cell in sorted(((low + high) / 2, k) for low, high, k in inside if high - low > 1e-10):
                cells = [*cells[: cells.index(cell)], cell] if cell in cells else [*cells, cell]
        return cells

    def _inside(self, cell: Cell, start: Array, end: Array) -> tuple[float, float]:
        """From where to where the segment z = start + t (end - start), 0 <= t <= 1, lies in a cell."""
        low, high = 0.0, 1.0
        for a, b in cell.edges:
            side = self.points[b] - self.points[a]
            height, slope = cross(side, start - self.points[a]), cross(side, end - start)
            if slope > 0:
                low = max(low, -height / slope)
            elif slope < 0:
                high = min(high, -height / slope)
            elif height < 0:
                return 1.0, 0.0
        return low, high

    def taut_string(self, start: Array, end: Array, strip: Sequence[int]) -> tuple[float, list[int]]:
        """Length of the shortest path from start to end (2,) within a strip of cells, and the vertices it bends at."""
        turn, shift = 1.0 + 0.0j, 0.0 + 0.0j  # unfolding: x = turn * (R z) + shift, as complex numbers

        def unfolded(cell: int, z: Array) -> complex:
            return turn * complex(*(self.cells[cell].R @ z)) + shift

        portals, source = [], unfolded(strip[0], start)
        for cell, following in pairwise(strip):
            a, b = next(e for e in self.cells[cell].edges if self.left_of.get(e[::-1]) == following)
            right, left = unfolded(cell, self.points[a]), unfolded(cell, self.points[b])
            portals.append(((left, b), (right, a)))
            p, q = (complex(*(self.cells[following].R @ self.points[v])) for v in (a, b))
            turn = (left - right) / (q - p)
            turn /= abs(turn)
            shift = right - turn * p
        return _funnel(source, unfolded(strip[-1], end), portals)


def _funnel(
    source: complex, target: complex, portals: Sequence[tuple[tuple[complex, int], tuple[complex, int]]]
) -> tuple[float, list[int]]:
    """Length of the string pulled taut through portals, each with a left and a right end, and those it bends at."""
    portals = [*portals, ((target, -1), (target, -1))]
    apex, length, corners = source, 0.0, []
    first = 0
    while True:
        left, right = portals[first]
        left_at = right_at = first
        for k in range(first, len(portals)):
            new_left, new_right = portals[k]
            if _turn(apex, right[0], new_right[0]) >= 0:  # the right side moves in
                if right[0] == apex or _turn(apex, left[0], new_right[0]) <= 0:
                    right, right_at = new_right, k
                else:  # and over the left one: a corner there
                    corner, at = left, left_at
                    break
            if _turn(apex, left[0], new_left[0]) <= 0:
                if left[0] == apex or _turn(apex, right[0], new_left[0]) >= 0:
                    left, left_at = new_left, k
                else:
                    corner, at = right, right_at
                    break
        else:
            return length + abs(target - apex), corners
        length += abs(corner[0] - apex)
        apex = corner[0]
        corners.append(corner[1])
        first = at + 1
        while first < len(portals) - 1 and corner[1] in (portals[first][0][1], portals[first][1][1]):
            first += 1


def cross(a: Array, b: Array) -> float:
    """The area that two vectors (2,) span, positive where the second is to the left."""
    return float(a[0] * b[1] - a[1] * b[0])


def _turn(apex: complex, a: complex, b: complex) -> float:
    return ((a - apex).conjugate() * (b - apex)).imag


def _split(polygon: Array, A: Array, c: Array, unit: int) -> list[tuple[Array, Array, Array]]:
    """A cell, divided where a unit changes sign."""
    heights = polygon @ A[unit] + c[unit]
    if (heights > 0).all() or (heights <= 0).all():
        return [(polygon, A, c)]
    above, below = [], []
    for p, q, h, k in zip(polygon, np.roll(polygon, -1, 0), heights, np.roll(heights, -1), strict=True):
        (above if h > 0 else below).append(p)
        if (h > 0) != (k > 0):
            # From the lower end, so that both cells of an edge find the same point.
            crossing = p + (q - p) * h / (h - k)
            above.append(crossing)
            below.append(crossing)
    return [(np.array(above), A, c), (np.array(below), A, c)]


def _bent(polygon: Array, A: Array, c: Array, slope: float) -> tuple[Array, Array, Array]:
    """A cell after an activation: its units keep their signs on all of it."""
    factors = np.where(A @ polygon.mean(0) + c > 0, 1.0, slope)
    return polygon, factors[:, None] * A, factors * c


def _number(point: Array, points: list[Array]) -> int:
    """The number of a vertex, new or known up to rounding."""
    near = [k for k, p in enumerate(points) if abs(p - point).max() < 1e-9]
    if not near:
        points.append(point)
        return len(points) - 1
    return near[0]
