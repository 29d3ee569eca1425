"""Where a search may start: shortest paths in a graph over latent points."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from geodesic.arrays import TensorRecord
from geodesic.checks import require_alike, require_cloud, require_finite, require_integer
from geodesic.errors import InputError
from geodesic.geometry.checks import guarded
from geodesic.geometry.copies import nearest_copy
from geodesic.geometry.energy import path_energy
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import bytes_a_row, comfortable, grouped, rows_within
from geodesic.geometry.path import chord_length, constant_speed, straight_path
from geodesic.geometry.period import Period, on_circles, periods_of, unwrapped
from geodesic.keywords import renamed

__all__ = ["GraphPaths", "graph_path"]

# Of the Gauss-Legendre rule along an edge. On MNIST VAEs at d = 2 one point gave starts of up to 2 % more energy, for
# it cannot see a ridge between two nodes; a third point gained 0.4 %, for half as much work again.
_EDGE_POINTS = 2
_FASTEST = 2048  # points given to the manifold at once, where memory allows: larger groups were slower on a CPU
# Widths of the heat kernel that rounds a polygon's corners, in fractions of the path. None suits all: on MNIST VAEs at
# d = 2, the best for each pair gave 0.5 to 1 % less energy than any one of them, and 3 % less than none.
_WIDTHS = (0.0, 0.05, 0.1, 0.2)
_SPREAD = 1.5  # of drawn points, for ends up to twice as far from the origin: N(0, 1) encodings, and room around them


# Costs are two derivatives along each of about 0.6 * points * neighbors edges, however few the pairs: 1.3 s of one core
# for an MLP d-256-256-784, against 10 ms for each pair. 2,000 points found no more of the shortest geodesics.
_MOST_POINTS = 1000
# Times the energy of the straight line, above which a path of the graph is given up. Of the 60 pairs of `graph_path`'s
# warning, 59 remain at 0, all at 0.05.
_EXCESS = 0.05


@dataclass(frozen=True)
class GraphPaths(TensorRecord):
    """What `graph_path` found for each pair.

    Attributes:
        path: Nodes at constant speed, (*batch, T + 1, d).
        connected: Whether the graph joins the two ends, (*batch,).
        straight: Whether the path is the straight line, (*batch,): the graph does not join the ends, or leads to
            much more energy.
    """

    path: Float[Tensor, "*batch nodes d"]
    connected: Bool[Tensor, "*batch"]
    straight: Bool[Tensor, "*batch"]


@guarded
@renamed(points="graph_points")
def graph_path(
    manifold: Manifold,
    start: Tensor,
    end: Tensor,
    segments: int = 32,
    *,
    graph_points: Tensor | None = None,
    neighbors: int = 20,
    seed: int = 0,
) -> GraphPaths:
    """Shortest paths in a neighbor graph over latent points, smoothed: where to start the search for a geodesic.

    weight of the edge (a, b) = integral over [0, 1] of sqrt(u^T G(a + t u) u) dt,   u = b - a

    Every point is joined to its nearest neighbors, as are both ends of a pair; no pair passes through the ends of
    another, so that its path does not depend on the batch. The shortest path is a polygon: it is resampled to
    constant speed and its corners are rounded, as much as lowers its energy. Where it has more than 1.05 times the
    energy of the straight line, the straight line is returned. Where coordinates are periodic, points are neighbors
    over the seam too, and paths end at the copy of the end that they reach.

    Warning:
        This is no geodesic, and sometimes of more energy than the straight line: what it offers is another basin.
        Polish both and keep the shorter. Of 64 pairs of a ReLU VAE at d = 2, `GradientDescent` came within 0.5 % of the
        best length known for 49 from the straight line, 56 from here, 60 by the better of both. In many dimensions
        no affordable number of points is dense: on a VAE at d = 16 the graph's paths had 1.5 times the energy of the
        straight lines, which were returned for 62 of 64 pairs.

    Args:
        manifold: Where to measure.
        start: First endpoints, (*batch, d), floating point; device and dtype are those of the answer.
        end: Last endpoints, of the same shape, dtype and device.
        segments: Number T of segments of each path, at least 1.
        graph_points: Latent points to go through, (N, d), such as encodings of the training data; of more than 1,000
            a random choice is used. They are converted to the dtype and device of `start`. By default as many are drawn
            from N(0, s^2 I), with s = 1.5 * 4^k for the least integer k such that both ends lie within 2 s sqrt(d) of
            the origin. That suits encodings under the prior N(0, I); for a latent space that is not centered, give
            points.
        neighbors: Nearest neighbors to which each point and each end is joined, by Euclidean latent distance;
            all points if there are fewer. On VAEs at d = 2, 10 gave 2 to 4 % more energy, for the polygons zigzag;
            40 cost twice as much for about 1 % less.
        seed: Of the drawn points and of the random choice.

    Returns:
        The paths, which of the pairs the graph connects, and which paths are straight lines. Without history.

    Raises:
        InputError: Endpoints, points or a setting cannot be used.

    Example:
        >>> import torch, geodesic
        >>> hill = geodesic.PullbackManifold(lambda z: torch.cat([z, 3 * (-z.square().sum(1, True)).exp()], dim=1))
        >>> a, b = torch.tensor([-1.5, 0.0]), torch.tensor([1.5, 0.1])
        >>> around = geodesic.graph_path(hill, a, b)
        >>> across = geodesic.straight_path(a, b)
        >>> print(bool(geodesic.path_length(hill, around.path) < 0.7 * geodesic.path_length(hill, across)))
        True
    """
    require_alike(start=start, end=end)  # no pairs have no paths, which is no mistake
    require_finite("start", start)
    require_finite("end", end)
    require_integer("segments", segments, least=1)
    require_integer("neighbors", neighbors, least=1)
    require_integer("seed", seed, least=0)
    batch, d = start.shape[:-1], start.shape[-1]
    a, b = start.detach().reshape(-1, d), end.detach().reshape(-1, d)
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        if graph_points is not None:
            cloud = _choose(graph_points, a, generator)
            found = _paths(manifold, a, b, _Graph.of(manifold, cloud, neighbors), segments)
        else:
            cloud = torch.as_tensor(generator.standard_normal((_MOST_POINTS, d)), dtype=a.dtype, device=a.device)
            path = a.new_empty(len(a), segments + 1, d)
            masks = torch.zeros(2, len(a), dtype=torch.bool, device=a.device)
            spreads = _spreads(a, b, manifold.period)
            # One graph a spread, of which there are few, and not one that covers all pairs: see the docstring.
            for spread in spreads.unique():
                rows = spreads == spread
                graph = _Graph.of(manifold, _spread_out(cloud, spread, manifold.period), neighbors)
                path[rows], masks[0, rows], masks[1, rows] = _paths(manifold, a[rows], b[rows], graph, segments)
            found = (path, *masks)
    return GraphPaths(*(x.reshape(batch + x.shape[1:]) for x in found))


class _Graph(NamedTuple):
    """Points and the weighted edges between them, each in both directions."""

    points: Float[Tensor, "N d"]
    tail: NDArray[np.int64]
    head: NDArray[np.int64]
    weight: NDArray[np.float64]
    search: Any  # of nearest neighbors among the points
    neighbors: int
    period: Period | None

    @classmethod
    def of(cls, manifold: Manifold, points: Tensor, neighbors: int) -> _Graph:
        from sklearn.neighbors import NearestNeighbors  # slow to import

        k = min(neighbors, len(points) - 1)
        search = NearestNeighbors(n_neighbors=k).fit(_numpy(on_circles(manifold.period, points)))
        nearest = search.kneighbors(return_distance=False)  # of the points themselves, each without itself
        i, j = np.repeat(np.arange(len(points)), k), nearest.ravel()
        # Symmetric: an edge where either is a neighbor of the other, weighed once.
        i, j = np.unique(np.stack([np.minimum(i, j), np.maximum(i, j)]), axis=1)
        w = _lengths(manifold, points[i], points[j])
        most = min(neighbors, len(points))
        return cls(points, np.append(i, j), np.append(j, i), np.append(w, w), search, most, manifold.period)

    def nearest(self, z: Tensor) -> NDArray[np.int64]:
        return self.search.kneighbors(_numpy(on_circles(self.period, z)), self.neighbors, return_distance=False)


def _paths(manifold: Manifold, a: Tensor, b: Tensor, graph: _Graph, segments: int) -> tuple[Tensor, Tensor, Tensor]:
    path = a.new_empty(len(a), segments + 1, a.shape[-1])
    connected = torch.zeros(len(a), dtype=torch.bool, device=a.device)
    keep = connected.clone()
    pairs = max(1, _at_once(manifold, a) // (segments + 1))
    for rows in (slice(i, i + pairs) for i in range(0, len(a), pairs)):
        polygon, connected[rows] = _shortest(manifold, a[rows], b[rows], graph)
        end = nearest_copy(manifold, a[rows], b[rows])
        line = constant_speed(manifold, straight_path(a[rows], end, segments))
        bent = _smooth(manifold, constant_speed(manifold, polygon, segments))
        E, E_line = path_energy(manifold, bent), path_energy(manifold, line)
        # A straight line through places without a finite metric loses to any other path.
        keep[rows] = connected[rows] & E.isfinite() & ~((1 + _EXCESS) * E_line < E)
        keep[rows] &= (a[rows] != end).any(-1)
        path[rows] = torch.where(keep[rows, None, None], bent, line)
    return path, connected, ~keep


def _shortest(manifold: Manifold, a: Tensor, b: Tensor, graph: _Graph) -> tuple[Tensor, Tensor]:
    """Polygons from a to b, (P, V, d), padded by repeating b, and whether the graph has any, (P,)."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    N, P, k = len(graph.points), len(a), graph.neighbors
    starts, ends = N + np.arange(P), N + P + np.arange(P)
    from_a, to_b = graph.nearest(a), graph.nearest(b)
    w_a, w_b = (
        _lengths(manifold, z.repeat_interleave(k, 0), graph.points[near.ravel()])
        for z, near in ((a, from_a), (b, to_b))
    )
    # Edges leave a start and enter an end, never the other way: no path leads through another pair's.
    tail = np.concatenate([graph.tail, starts.repeat(k), to_b.ravel()])
    head = np.concatenate([graph.head, from_a.ravel(), ends.repeat(k)])
    weight = np.concatenate([graph.weight, w_a, w_b])
    finite = np.isfinite(weight)
    matrix = csr_array((weight[finite], (tail[finite], head[finite])), shape=(N + 2 * P, N + 2 * P))
    distance, before = dijkstra(matrix, indices=starts, return_predecessors=True)
    connected = np.isfinite(distance[np.arange(P), ends])
    nodes = torch.cat([graph.points, a, b])
    vertices = [list(_walk(before[p], int(ends[p])))[::-1] if connected[p] else [starts[p], ends[p]] for p in range(P)]
    V = max(map(len, vertices))
    polygon = nodes[torch.as_tensor(np.array([v + v[-1:] * (V - len(v)) for v in vertices]), device=a.device)]
    for k in range(1, V):  # every vertex in the turn of the one before
        polygon[:, k] = unwrapped(graph.period, polygon[:, k], polygon[:, k - 1])
    return polygon, torch.as_tensor(connected, device=a.device)


def _walk(before: NDArray[np.int32], node: int) -> Iterator[int]:
    """From a node back to where the search began."""
    while node >= 0:
        yield node
        node = int(before[node])


def _smooth(manifold: Manifold, path: Tensor) -> Tensor:
    """Of the path rounded by each width, the one of least energy at constant speed, each path for itself."""
    T = path.shape[-2] - 1
    best, least = path, torch.full_like(path[:, 0, 0], math.inf)
    for width in _WIDTHS:
        # (1, 2, 1) / 4 has variance 1/2: so many passes give the width, whatever T is.
        passes = round(2 * (width * T) ** 2)
        kernel = np.linalg.matrix_power(_averaging(T), passes)
        rounded = torch.as_tensor(kernel, dtype=path.dtype, device=path.device) @ path
        rounded = torch.cat([path[:, :1], rounded[:, 1:-1], path[:, -1:]], dim=1)
        chords = chord_length(manifold, rounded)  # whose square is 2 E at constant speed
        better = chords < least
        best, least = torch.where(better[:, None, None], rounded, best), torch.where(better, chords, least)
    return constant_speed(manifold, best)


def _averaging(T: int) -> NDArray[np.float64]:
    A = (np.eye(T + 1, k=-1) + 2 * np.eye(T + 1) + np.eye(T + 1, k=1)) / 4
    A[0], A[-1] = np.eye(T + 1)[0], np.eye(T + 1)[-1]
    return A


def _lengths(manifold: Manifold, a: Tensor, b: Tensor) -> NDArray[np.float64]:
    """Riemannian lengths of the straight edges from a to the nearest copies of b, both (E, d), by quadrature."""
    b = unwrapped(manifold.period, b, a)
    t, w = (torch.as_tensor(x, dtype=a.dtype, device=a.device) for x in np.polynomial.legendre.leggauss(_EDGE_POINTS))
    t, w = (t + 1) / 2, w / 2

    def length(a: Tensor, b: Tensor) -> Tensor:
        u = (b - a)[:, None].expand(-1, _EDGE_POINTS, -1)
        return manifold.squared_norm(a[:, None] + t[:, None] * u, u).clamp_min(0).sqrt() @ w

    return _numpy(grouped(length, max(1, _at_once(manifold, a) // _EDGE_POINTS), a, b))


def _at_once(manifold: Manifold, z: Tensor) -> int:
    """How many points like these are given to the manifold at once."""
    if not len(z):
        return 1

    def norms(rows: int) -> Tensor:
        some = z[:1].repeat(rows, 1)
        return manifold.squared_norm(some, some)

    a_row = bytes_a_row(manifold, ("squared_norm", z.shape[1], z.dtype, z.device), norms)
    return min(_FASTEST, rows_within(a_row, comfortable(z.device)))


def _spreads(a: Tensor, b: Tensor, period: Period | None) -> Tensor:
    """Standard deviation of the points to draw for each pair: a power of 4 times 1.5, so that few differ."""
    ends = torch.stack([a, b]).double()
    if period is not None:  # a circle has its radius, wherever on it the ends are
        p = periods_of(period, a)
        ends = torch.where(p > 0, p / (2 * math.pi), ends)
    norms = ends.square().mean(-1).sqrt().amax(0)  # as N(0, s^2 I) has norm s
    k = (norms.clamp_min(1e-30) / (2 * _SPREAD)).log2().div(2).ceil()
    return _SPREAD * 4**k


def _spread_out(normal: Tensor, spread: Tensor, period: Period | None) -> Tensor:
    """Points drawn from N(0, I) with another standard deviation, and evenly over a period in periodic coordinates."""
    points = normal * spread.to(normal)
    if period is None:
        return points
    p = periods_of(period, normal)
    return torch.where(p > 0, p * torch.erf(normal / math.sqrt(2)) / 2, points)


def _choose(points: Any, like: Tensor, generator: np.random.Generator) -> Tensor:
    """The points to use, each once, and if they are too many, a random choice of them."""
    require_cloud("graph_points", points, size=like.shape[-1])
    points = points.detach().to(like)
    points = points.unique(dim=0)  # copies of one point would be each other's only neighbors
    if len(points) < 2:
        raise InputError(f"graph_points: expected at least 2 different ones, got {len(points)}; give more, or none")
    if len(points) > _MOST_POINTS:
        rows = generator.choice(len(points), _MOST_POINTS, replace=False)
        points = points[torch.as_tensor(np.sort(rows), device=points.device)]
    return points


def _numpy(x: Tensor) -> NDArray[np.float64]:
    return x.detach().double().cpu().numpy()
