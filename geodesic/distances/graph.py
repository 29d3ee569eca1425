"""Distances in a graph of neighbors: lengths of the shortest ways over geodesics of its edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from geodesic.checks import require_cloud
from geodesic.distances.methods import Graph
from geodesic.distances.solved import Found, joined
from geodesic.distances.straight import straight_found
from geodesic.distances.surroundings import Surroundings
from geodesic.distances.work import Work
from geodesic.solvers.status import Status

__all__ = ["along_graph"]


def along_graph(work: Work, method: Graph) -> dict[str, Any]:
    """Fill in shortest ways for all pairs, and geodesics for neighbors and for the sample; that sample.

    Args:
        work: The points.
        method: Settings.

    Returns:
        `sample`, as in `DistanceMatrix`.
    """
    z, rows, columns = work.nodes
    if method.graph_points is not None:
        require_cloud("graph_points", method.graph_points.flatten(1), size=z.shape[1])
        z = torch.cat([z, method.graph_points.flatten(1).to(z)])
    surroundings = Surroundings(work.solver.manifold, z)
    i, j = _edges(surroundings, method.neighbors)
    work.teller.pairs = work.teller.done
    found = work.between(i, j, z)
    edges = _with_lines(work, method, (i, j, found), surroundings)
    length, upper = (_shortest(len(z), *edges[:2], x, rows)[:, columns] for x in (edges[2].length, edges[2].upper))
    work.fill(length, upper, surroundings.lower_bounds(rows, columns))
    return {"sample": _sample(work, method, length, z)}


def _sample(work: Work, method: Graph, length: Float[Tensor, "N M"], z: Tensor) -> Float[Tensor, "S 2"]:
    """How much longer than geodesics ways are, of pairs drawn at random; those whose geodesics were found."""
    a, b = work.pairs
    drawn = torch.randperm(len(a), generator=torch.Generator().manual_seed(method.seed))[: method.sample].to(a.device)
    a, b = a[drawn], b[drawn]
    exact = work.between(a, b if work.symmetric else b + len(work.points), z)
    known = (exact.status != Status.NOT_SOUGHT) & (exact.length > 0)
    return torch.stack([length[a, b] / exact.length, exact.error], dim=1)[known]


def _with_lines(
    work: Work, method: Graph, edges: tuple[Tensor, Tensor, Found], surroundings: Surroundings
) -> tuple[Tensor, Tensor, Found]:
    """The edges, and straight lines between some of the points that are not joined by them."""
    i, j, found = edges
    z = surroundings.points
    if not method.straight:
        return edges
    _, rows, columns = work.nodes
    a, b = _joined(surroundings, rows, columns, method)
    (apart,) = (~torch.isin(a * len(z) + b, i * len(z) + j)).nonzero(as_tuple=True)
    if not len(apart):
        return edges
    a, b = a[apart], b[apart]
    lines = straight_found(work.solver.manifold, z[a], z[b], method.straight)
    return torch.cat([i, a]), torch.cat([j, b]), joined([found, lines])


def _joined(surroundings: Surroundings, rows: Tensor, columns: Tensor, method: Graph) -> Int[Tensor, "2 E"]:
    """Pairs that straight lines join, each once: of near points and of random ones, or all where these are few.

    Lines to the nearest alone lead round the gaps between clusters: random ones lead across.
    """
    drawn = method.lines // 2 if method.lines < len(columns) else 0
    pairs = []
    for some, others in ((rows, columns), (columns, rows))[: 1 if rows is columns else 2]:
        near = surroundings.nearest(some, others, min(method.lines - drawn, len(others) - int(rows is columns)))
        pairs.append(torch.stack([some.repeat_interleave(near.shape[1]), near.reshape(-1)]))
    generator = torch.Generator().manual_seed(method.seed)
    far = torch.randint(len(columns), (len(rows) * drawn,), generator=generator).to(columns.device)
    pairs.append(torch.stack([rows.repeat_interleave(drawn), columns[far]]))
    both = torch.cat(pairs, dim=1)
    both = torch.stack([both.amin(0), both.amax(0)]).unique(dim=1)
    return both[:, both[0] != both[1]]


def _edges(surroundings: Surroundings, neighbors: int) -> tuple[Int[Tensor, " E"], Int[Tensor, " E"]]:
    """Neighbors, each pair once, and the shortest bridges that make the graph whole."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    N = len(surroundings.points)
    nodes = torch.arange(N, device=surroundings.points.device)
    near = surroundings.nearest(nodes, nodes, min(neighbors, N - 1))
    pairs = torch.stack([nodes.repeat_interleave(near.shape[1]), near.reshape(-1)])
    while True:
        pairs = torch.stack([pairs.amin(0), pairs.amax(0)]).unique(dim=1)
        i, j = pairs.cpu().numpy()
        parts, part = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(N, N)), directed=False)
        if parts == 1:
            return pairs[0], pairs[1]
        part = torch.as_tensor(part, device=nodes.device)
        bridges = [_bridge(surroundings, nodes[part == k], nodes[part != k]) for k in range(parts)]
        pairs = torch.cat([pairs, torch.stack(bridges, dim=1)], dim=1)


def _bridge(surroundings: Surroundings, inside: Tensor, outside: Tensor) -> Int[Tensor, " 2"]:
    """The two nearest points of a part of the graph and of all others."""
    D = surroundings.distances(inside, outside)
    at = D.argmin()
    return torch.stack([inside[at // len(outside)], outside[at % len(outside)]])


def _shortest(N: int, i: Tensor, j: Tensor, weight: Tensor, rows: Tensor) -> Tensor:
    """Lengths of the shortest ways from some nodes to all, (n, N)."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    tail, head, w = (x.double().cpu().numpy() for x in (i, j, weight))
    known: NDArray[Any] = np.isfinite(w)
    # A weight of zero would be no edge to scipy.
    w = np.maximum(w, np.finfo(np.float64).tiny)
    matrix = csr_array((w[known], (tail[known].astype(int), head[known].astype(int))), shape=(N, N))
    return torch.as_tensor(dijkstra(matrix, directed=False, indices=rows.cpu().numpy())).to(weight)
