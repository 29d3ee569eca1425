"""Shortest paths in a grid over a latent plane: slow, but from everywhere to everywhere, and bound to no start."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

import geodesic
from scripts.benchmarks.solvers.problems import Problem

STEPS = ((1, 0), (0, 1), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1))  # with their opposites: 16 neighbors
MARGIN = 0.05  # of the square, on each side
_CHUNK = 4096


def grid_paths(problem: Problem, size: int) -> tuple[Tensor, Tensor]:
    """The shortest paths in the grid as starts for a solver, and their own lengths.

    The grid is a square that covers the encodings, d = 2. An edge has the Riemannian length of the straight segment, by
    Simpson's rule: all midpoints of edges lie on the grid of half the spacing, so one table of the metric serves all.

    Args:
        problem: A decoder of a plane.
        size: Nodes along each axis.

    Returns:
        Paths with the ends of the pairs, (P, T + 1, 2), resampled to constant speed, and the lengths of the polygons
        before that, (P,).
    """
    axes, spacing = _axes(problem, size)
    half = [torch.linspace(float(a[0]), float(a[-1]), 2 * size - 1, dtype=torch.float64) for a in axes]
    points = torch.cartesian_prod(*half)
    G = torch.cat([problem.manifold.metric_tensor(rows).detach() for rows in points.split(_CHUNK)])
    G = G.reshape(2 * size - 1, 2 * size - 1, 2, 2)

    graph = _graph(G, spacing, size)
    origin = torch.stack([a[0] for a in axes])
    first, last = (((z - origin) / spacing).round().long().clamp(0, size - 1) for z in (problem.start, problem.end))
    sources, targets = (rows[:, 0] * size + rows[:, 1] for rows in (first, last))
    paths, lengths = [], []
    for p in range(len(problem.start)):
        _, before = dijkstra(graph, indices=int(sources[p]), return_predecessors=True)
        nodes = _walk(before, int(targets[p]))
        inner = torch.stack([axes[0][nodes // size], axes[1][nodes % size]], dim=1)
        polygon = torch.cat([problem.start[p : p + 1], inner[1:-1], problem.end[p : p + 1]])
        steps = _segment_lengths(problem.manifold, polygon)
        paths.append(_resampled(polygon, steps, problem.segments))
        lengths.append(steps.sum())
    return torch.stack(paths), torch.stack(lengths)


def _axes(problem: Problem, size: int) -> tuple[list[Tensor], float]:
    """Coordinates of the nodes along each axis, and the spacing, which both share."""
    points = torch.cat([problem.encodings, problem.start, problem.end])
    low, high = points.amin(0), points.amax(0)
    width = float((high - low).max()) * (1 + 2 * MARGIN)
    center = (low + high) / 2
    axes = [torch.linspace(float(c) - width / 2, float(c) + width / 2, size, dtype=torch.float64) for c in center]
    return axes, width / (size - 1)


def _graph(G: Tensor, spacing: float, size: int) -> coo_array:
    """Edge lengths by Simpson's rule from the metric on the half grid, (2 size - 1, 2 size - 1, 2, 2)."""
    number = torch.arange(size * size).reshape(size, size)
    rows, columns, weights = [], [], []
    for i, j in STEPS:
        v = spacing * torch.tensor([i, j], dtype=torch.float64)
        speed = torch.einsum("xyab,a,b->xy", G, v, v).sqrt()
        nodes_x, nodes_y = size - i, size - abs(j)
        y = max(0, -j)  # where a step goes down, it begins higher up

        def at(shift: float, x0: int = 0, y0: int = y, i: int = i, j: int = j, nx: int = nodes_x, ny: int = nodes_y):
            first, second = 2 * x0 + round(2 * shift * i), 2 * y0 + round(2 * shift * j)
            return speed[first : first + 2 * nx - 1 : 2, second : second + 2 * ny - 1 : 2]  # noqa: B023

        rows.append(number[:nodes_x, y : y + nodes_y].flatten())
        columns.append(number[i : i + nodes_x, y + j : y + j + nodes_y].flatten())
        weights.append(((at(0) + 4 * at(0.5) + at(1)) / 6).flatten())
    row, column, weight = (torch.cat(parts).numpy() for parts in (rows, columns, weights))
    both = (np.concatenate([weight, weight]), (np.concatenate([row, column]), np.concatenate([column, row])))
    return coo_array(both, shape=(size * size, size * size)).tocsr()


def _walk(before: np.ndarray, target: int) -> Tensor:
    nodes = [target]
    while before[nodes[-1]] >= 0:
        nodes.append(int(before[nodes[-1]]))
    return torch.tensor(nodes[::-1])


def _segment_lengths(manifold: geodesic.Manifold, polygon: Tensor) -> Tensor:
    """Riemannian lengths of the sides, by Simpson's rule."""
    v = polygon.diff(dim=0)
    with torch.no_grad():
        speeds = [manifold.squared_norm(polygon[:-1] + s * v, v).sqrt() for s in (0.0, 0.5, 1.0)]
    return (speeds[0] + 4 * speeds[1] + speeds[2]) / 6


def _resampled(polygon: Tensor, steps: Tensor, segments: int) -> Tensor:
    """T + 1 points on the polygon, equally far from each other along it; the ends stay bit for bit."""
    s = torch.cat([steps.new_zeros(1), steps.cumsum(0)]).numpy()
    wanted = np.linspace(0, s[-1], segments + 1)
    path = torch.stack([torch.as_tensor(np.interp(wanted, s, x)) for x in polygon.T.numpy()], dim=1)
    path[0], path[-1] = polygon[0], polygon[-1]
    return path
