"""All geodesics between points: each solved for once, the later ones from those of their neighbors."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from geodesic.distances.landmarks import shorter_by_a_third
from geodesic.distances.methods import Exact
from geodesic.distances.order import stages
from geodesic.distances.paths import KnownPaths
from geodesic.distances.work import Work
from geodesic.solvers.doubts import found
from geodesic.solvers.mesh import Mesh
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.status import Status

__all__ = ["solve_all"]


def solve_all(work: Work, method: Exact) -> None:
    """Solve for all pairs that are not known.

    Args:
        work: The points, and what is known.
        method: Settings.
    """
    manifold = work.solver.manifold
    straight = work.solver.search.init == "straight"  # other starts are asked for every pair
    warm, mend = method.warm and straight, method.mend and work.symmetric and len(work.points) > 2
    keeps = (warm or mend) and manifold.period is None
    paths = KnownPaths(work.points, work.others, work.symmetric, work.solver.room(work.points.device) if keeps else 0.0)
    for stage in stages(work.points, None if work.symmetric else work.others):
        open_ = work.open(stage.first, stage.second)
        first, second = stage.first[open_], stage.second[open_]
        near = stage.near_first[open_], stage.near_second[open_]
        known = paths.known(*near) & warm
        for begins in (False, True):
            (some,) = (known == begins).nonzero(as_tuple=True)
            _solve(work, paths, (first[some], second[some]), (near[0][some], near[1][some]) if begins else None)
    if mend:
        _mend(work, paths)


def _solve(
    work: Work,
    paths: KnownPaths,
    pairs: tuple[Int[Tensor, " P"], Int[Tensor, " P"]],
    near: tuple[Int[Tensor, " P"], Int[Tensor, " P"]] | None,
) -> None:
    """Solve for pairs that begin from the curves of others, or from straight lines."""

    def start(some: Int[Tensor, " n"]) -> Mesh | None:
        if near is None:
            return None
        return paths.moved((near[0][some], near[1][some]), (pairs[0][some], pairs[1][some]))

    def kept(some: Int[Tensor, " n"], solution: GeodesicSolution) -> None:
        paths.keep(pairs[0][some], pairs[1][some], solution)

    work.solve(*pairs, start, kept)


def _mend(work: Work, paths: KnownPaths) -> None:
    """Solve again for pairs that are farther apart than by way of a third point, from there; or note that way.

    A geodesic that is the shortest obeys the triangle inequality, so these are not; nor is there a curve to find where
    none was found straight away, if there is one by a third point.
    """
    length, upper = work.known.length.clone(), work.known.upper.clone()
    ways, third = shorter_by_a_third(length, length)
    first, second = work.pairs
    longest = (1 - work.solver.search.rtol) * length[first, second].nan_to_num(nan=torch.inf)
    (worse,) = (ways[first, second] < longest).nonzero(as_tuple=True)
    i, j = first[worse], second[worse]
    k = third[i, j]
    apart = (length[i, k] > 0) & (length[k, j] > 0)
    _solve_again(work, paths, torch.cat([i[apart], k[apart]]), torch.cat([k[apart], j[apart]]))
    begun = apart & paths.known(i, k) & paths.known(k, j)
    a, b, c = i[begun], j[begun], k[begun]
    work.teller.pairs += len(a)

    def start(some: Int[Tensor, " n"]) -> Mesh:
        one, other = length[a[some], c[some]], length[c[some], b[some]]
        return paths.round(a[some], c[some], b[some], one / (one + other))

    work.solve(a, b, start)
    work.shorten(i, j, ways[i, j], upper[i, k] + upper[k, j], Status.NOT_SHORTER)


def _solve_again(work: Work, paths: KnownPaths, i: Int[Tensor, " P"], j: Int[Tensor, " P"]) -> None:
    """Solve for curves that are not kept any more, from straight lines: lengths are from a file, curves are not."""
    if not paths.has_room:
        return
    pairs = torch.stack([i.minimum(j), i.maximum(j)]).unique(dim=1)
    first, second = pairs[:, found(work.known.status[*pairs]) & ~paths.known(*pairs)]
    work.teller.pairs += len(first)
    _solve(work, paths, (first, second), None)
