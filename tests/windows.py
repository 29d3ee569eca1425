"""Exact shortest distances on a polyhedral surface, over all strips of its faces, by windows.

Reference:
    Xin, Wang. Improving Chen and Han's algorithm on the discrete geodesic problem. 2009.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from tests.polyhedral import Array, Polyhedron, cross

# Relative; windows that are no better by more than that are left out.
EPS = 1e-12


def distance(surface: Polyhedron, start: Array, end: Array) -> float:
    """The length of a shortest path between two latent points (2,), over all strips of cells within the square.

    Windows are intervals of edges that straight lines from a source reach without a corner; they go on from face to
    face, nearest first. New sources are the vertices that paths can bend at: saddles, of more than a full turn.
    """
    faces, lengths = _triangles(surface, start, end)
    return Front(faces, lengths).distance()


@dataclass(frozen=True)
class _Window:
    """What is seen of the edge u -> v, from low to high, through which rays enter the face at its left."""

    u: int
    v: int
    low: float
    high: float
    x: float  # the source, unfolded: u lies at 0, v at (length, 0), the face above; y < 0
    y: float
    before: float  # the distance from the start to the source
    source: int


class Front:
    SOURCE, TARGET = -1, -2

    def __init__(self, faces: dict[tuple[int, int], int], lengths: dict[tuple[int, int], float]) -> None:
        self.faces, self.lengths = faces, lengths
        self.best: dict[int, float] = defaultdict(lambda: math.inf)
        self.around: dict[int, list[tuple[int, int]]] = defaultdict(list)
        angles: dict[int, float] = defaultdict(float)
        for (u, v), w in faces.items():
            self.around[w].append((u, v))
            angles[w] += self._angle(w, u, v)
        rim = {w for u, v in faces if (v, u) not in faces for w in (u, v)}
        self.bends = {w for w, a in angles.items() if a > (math.pi if w in rim else 2 * math.pi) + 1e-9}
        self.queue: list[tuple[float, int, _Window]] = []
        self.pushed = 0

    def length(self, u: int, v: int) -> float:
        return self.lengths[min(u, v), max(u, v)]

    def _angle(self, w: int, u: int, v: int) -> float:
        a, b, c = self.length(w, u), self.length(w, v), self.length(u, v)
        return math.acos(max(-1.0, min(1.0, (a * a + b * b - c * c) / (2 * a * b))))

    def apex(self, u: int, v: int) -> tuple[int, float, float]:
        """The third vertex of the face left of u -> v, and its place."""
        w = self.faces[u, v]
        L, a, b = self.length(u, v), self.length(u, w), self.length(v, w)
        x = (a * a - b * b + L * L) / (2 * L)
        return w, x, math.sqrt(max(a * a - x * x, 0.0))

    def distance(self) -> float:
        self.reach(self.SOURCE, 0.0)
        while self.queue:
            nearest, _, window = heapq.heappop(self.queue)
            if nearest >= self.best[self.TARGET]:
                break
            if window.before <= self.best[window.source] * (1 + EPS):
                self.cross_face(window)
        return self.best[self.TARGET]

    def reach(self, vertex: int, distance: float) -> None:
        """A vertex has been reached: where paths can bend at it, or begin, it looks at the edges opposite."""
        if distance >= self.best[vertex] * (1 - EPS):
            return
        self.best[vertex] = distance
        if vertex != self.SOURCE and vertex not in self.bends:
            return
        for u, v in self.around[vertex]:
            self.reach(u, distance + self.length(vertex, u))
            self.reach(v, distance + self.length(vertex, v))
            if (v, u) in self.faces:
                _, x, y = self.apex(u, v)
                L = self.length(u, v)
                self.push(_Window(v, u, 0.0, L, L - x, -y, distance, vertex))

    def push(self, window: _Window) -> None:
        nearest = min(max(window.x, window.low), window.high)
        self.pushed += 1
        key = window.before + math.hypot(window.x - nearest, window.y)
        heapq.heappush(self.queue, (key, self.pushed, window))

    def cross_face(self, window: _Window) -> None:
        u, v, s, t = window.u, window.v, window.x, window.y
        w, x, y = self.apex(u, v)
        L = self.length(u, v)
        at = s + (x - s) * -t / (y - t)  # where the ray to w crosses the edge
        if window.low <= at <= window.high:
            self.reach(w, window.before + math.hypot(x - s, y - t))
        corners = {u: (0.0, 0.0), v: (L, 0.0), w: (x, y)}
        if window.low < at - EPS * L:
            self.enter(window, (u, w), v, (window.low, min(window.high, at)), corners)
        if window.high > at + EPS * L:
            self.enter(window, (w, v), u, (max(window.low, at), window.high), corners)

    def enter(
        self,
        window: _Window,
        edge: tuple[int, int],
        third: int,
        interval: tuple[float, float],
        corners: dict[int, tuple[float, float]],
    ) -> None:
        """The part of a window's rays that leave its face by another edge, unless no shortest path is among them."""
        a, b = edge
        if (a, b) not in self.faces:
            return
        p, q = complex(*corners[a]), complex(*corners[b])
        source, L = complex(window.x, window.y), abs(q - p)
        ends = []
        for at in interval:
            ray = at - source
            # p + r (q - p) on the ray from the source
            side = q - p
            r = ((p - source).conjugate() * ray).imag / -(side.conjugate() * ray).imag
            ends.append(min(max(r, 0.0), 1.0))
        if ends[1] - ends[0] < EPS:
            return
        A, B = (p + r * (q - p) for r in ends)
        far = B if third == window.u else A
        d = window.before
        if (
            self.best[a] + abs(p - B) < d + abs(source - B) - EPS
            or self.best[b] + abs(q - A) < d + abs(source - A) - EPS
            or self.best[third] + abs(complex(*corners[third]) - far) < d + abs(source - far) - EPS
        ):
            return
        local = (source - p) / ((q - p) / L)
        self.push(_Window(a, b, ends[0] * L, ends[1] * L, local.real, local.imag, d, window.source))


def _triangles(
    surface: Polyhedron, start: Array, end: Array
) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], float]]:
    """Faces by their directed edges, and lengths of edges, with the ends as vertices."""
    places = {surface.cell_at(start): [(Front.SOURCE, start)]}
    places.setdefault(surface.cell_at(end), []).append((Front.TARGET, end))
    points = {**dict(enumerate(surface.points)), Front.SOURCE: start, Front.TARGET: end}
    faces: dict[tuple[int, int], int] = {}
    lengths: dict[tuple[int, int], float] = {}
    for k, cell in enumerate(surface.cells):
        n = len(cell.vertices)
        triangles = [(cell.vertices[0], cell.vertices[i], cell.vertices[i + 1]) for i in range(1, n - 1)]
        for number, z in places.get(k, []):
            triangles = _inserted(triangles, number, z, points)
        for triangle in triangles:
            for u, v, w in (triangle, triangle[1:] + triangle[:1], triangle[2:] + triangle[:2]):
                faces[u, v] = w
                lengths[min(u, v), max(u, v)] = float(np.linalg.norm(cell.A @ (points[u] - points[v])))
    return faces, lengths


def _inserted(
    triangles: list[tuple[int, int, int]], number: int, z: Array, points: dict[int, Array]
) -> list[tuple[int, int, int]]:
    """Triangles, counterclockwise, with the one that holds a point divided by it."""

    def depth(triangle: tuple[int, int, int]) -> float:
        a, b, c = (points[v] - z for v in triangle)
        return min(cross(a, b), cross(b, c), cross(c, a))

    u, v, w = holder = max(triangles, key=depth)
    return [t for t in triangles if t != holder] + [(u, v, number), (v, w, number), (w, u, number)]
