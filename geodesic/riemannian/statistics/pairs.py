"""Geodesics from candidates for a center to points: how they are found, and what is measured along them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.copies import to_nearest_copies
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import inverse_at
from geodesic.numerics.block_tridiagonal import BlockCholesky
from geodesic.numerics.tolerance import excess_for_vectors, step_for
from geodesic.riemannian.maps.discrete import first_momentum
from geodesic.riemannian.maps.follow import IN_FOLLOW, Follow, stride_of
from geodesic.riemannian.maps.log_map import log_map
from geodesic.riemannian.records import Record
from geodesic.riemannian.statistics.relaxation import Relaxed, energies, relaxed
from geodesic.riemannian.statistics.stop import IN_STOP, require_stop
from geodesic.solvers.doubts import doubts_of
from geodesic.solvers.search import IN_SEARCH, Search, require_search
from geodesic.solvers.solve import find
from geodesic.solvers.status import Status

__all__ = ["RENAMED", "Geodesics", "Pairs", "followed", "require_for_moving_ends"]

# What arguments of statistics are called now that were called otherwise, or that are in the search.
RENAMED = IN_SEARCH | IN_FOLLOW | IN_STOP | {"segments": IN_SEARCH["segments"]}

_ROUGH = 1e-4  # relative excess energy of geodesics as a search for a center begins
_AHEAD = 0.3  # of the size of its gradient, what a step of the center leaves of it at best
_AGAIN = 50  # the part of `max_steps` that paths may take as their ends move; two or three steps are usual


@dataclass(frozen=True)
class Pairs(Record):
    """Geodesics of pairs, (*batch): squared distances, lengths, vectors, paths, and how they ended.

    `squared` is what is minimized: twice the discrete energy, or the squared length where that is exact. `covector` is
    minus half its derivative in the first end, `doubts` as by `doubts_of`, or `Status.RUNNING` where nothing is
    certified yet, and `steps` those that it took to keep the paths near.
    """

    squared: Float[Tensor, "*batch"]
    length: Float[Tensor, "*batch"]
    covector: Float[Tensor, "*batch d"]
    path: Float[Tensor, "*batch nodes d"]
    doubts: Int[Tensor, "*batch"]
    steps: Int[Tensor, "*batch"]


def require_for_moving_ends(search: Any) -> None:
    """Refuse a search that cannot be made again and again while the ends move.

    Raises:
        InputError: It is no `Search`, has paths of its own, or refines their segments.
    """
    require_search(search)
    if not isinstance(search.init, str):
        raise InputError(
            "search: expected init to be 'straight', 'graph' or 'best', as the ends of the paths are not known before, "
            "got paths"
        )
    search.even("a statistic")


def followed(follow: Any, search: Search, tol: float, dtype: torch.dtype) -> Follow:
    """How geodesics are followed: by "discrete" unless told otherwise, by "ode" as exactly as `tol` needs.

    Exact geodesics take up to 23 times the time of discrete ones (means of 10 points on smooth networks and on
    surfaces), for means that differ by 1e-4 and variances by 1e-6: "discrete" suits statistics on every decoder.

    Raises:
        InputError: It is no `Follow`, has settings that cannot be used, or other segments than the paths of the search.
    """
    method = stride_of(follow, dtype, "discrete").method
    if follow.segments not in (None, search.first_segments):
        raise InputError(
            f"follow: geodesics have the segments of search here, {search.first_segments}, got "
            f"segments={follow.segments}; set search=Search(segments=...)"
        )
    exact = method == "ode" and follow.rtol is None
    return replace(follow, method=method, rtol=step_for(tol, dtype) if exact else follow.rtol)


@dataclass(frozen=True)
class Geodesics:
    """How geodesics are found while a center is searched: by the solver and, for "ode", `log_map`.

    Attributes:
        manifold: Where.
        search: How they are looked for.
        follow: How they are followed, its `method` told.
        tol: Largest gradient norm of a center, relative to the root of the variance.
        max_iterations: Most iterations of a search for a center.
    """

    manifold: Manifold
    search: Search
    follow: Follow
    tol: float
    max_iterations: int

    @classmethod
    def from_user(cls, manifold: Manifold, search: Any, follow: Any, stop: Any, dtype: torch.dtype) -> Geodesics:
        """The record of what a user gave, after checks.

        Raises:
            InputError: One of the settings cannot be used.
        """
        require_for_moving_ends(search)
        require_stop(stop)
        tol = stop.tolerance(dtype)
        return cls(manifold, search, followed(follow, search, tol, dtype), tol, stop.max_iterations)

    @property
    def method(self) -> str:
        """How geodesics are followed, "discrete" or "ode"."""
        return self.follow.method or "discrete"

    def path_tol(self, dtype: torch.dtype) -> float:
        """Relative excess energy that geodesics may have: gradients are known ten times better than they are small."""
        return excess_for_vectors(self.tol / 10, dtype) if self.search.tol is None else self.search.tol

    def rough_tol(self, dtype: torch.dtype) -> float:
        """What geodesics have that are found as a search begins: a `tol` of the user holds for them as well."""
        tol = self.path_tol(dtype)
        return tol if self.search.tol is not None or self.method == "ode" else max(tol, _ROUGH)

    def path_tol_near(self, size: Float[Tensor, " R"]) -> Float[Tensor, " R"]:
        """The same where the gradient of a center is still of this size: a step from there leads to a smaller one."""
        return (_AHEAD * size / 10).square().clamp_min(self.path_tol(size.dtype))

    def between(
        self,
        start: Float[Tensor, "P d"],
        end: Float[Tensor, "P d"],
        path: Float[Tensor, "P nodes d"] | None = None,
        *,
        roughly: bool = False,
    ) -> Pairs:
        """Geodesics between rows of points, searched from paths between them where some are known.

        Those that are found roughly, see `rough_tol`, do not count as certified.
        """
        shape = (len(start), *(self.manifold.latent_shape or start.shape[1:]))
        a, b = start.reshape(shape), end.reshape(shape)
        exactly, tol = self.path_tol(start.dtype), self.rough_tol(start.dtype)
        roughly = roughly and tol > exactly
        search = replace(self.search.even("a statistic"), tol=tol if roughly else exactly)
        if path is not None:
            known = to_nearest_copies(self.manifold, path).reshape(len(start), -1, *shape[1:])
            search = replace(search, init=known, graph_points=None, segments=None)
        solution = find(self.manifold, a, b, search)
        found = solution.path.reshape(len(start), -1, start.shape[1])
        none = torch.zeros_like(solution.status)
        if self.method == "discrete":
            p = first_momentum(self.manifold, found)
            doubts = torch.full_like(none, Status.RUNNING) if roughly else doubts_of(solution)
            return Pairs(2 * solution.energy, solution.length, p, found, doubts, none)
        there = log_map(self.manifold, a, b, follow=self.follow, solution=solution)
        factor = inverse_at(self.manifold, start).factor
        p = (factor @ (factor.mT @ there.vector.reshape(*start.shape, 1)))[..., 0]
        return Pairs(there.length**2, there.length, p, there.path.reshape(found.shape), there.status, none)

    def near(self, path: Float[Tensor, "P nodes d"], factors: BlockCholesky | None, tol: Float[Tensor, " P"]) -> Pairs:
        """Geodesics near paths, by a few steps without certificates; their lengths are those of their energies.

        Args:
            path: Between the points.
            factors: See `relaxed`.
            tol: Relative excess energy that they may have; infinite for paths that are to stay as they are.
        """
        path = to_nearest_copies(self.manifold, path)
        if bool(tol.isinf().all()):
            none = torch.zeros_like(tol, dtype=torch.long)
            way = Relaxed(path, energies(self.manifold, path), none)
        else:
            way = relaxed(self.manifold, path, factors, tol, max(1, self.search.max_steps // _AGAIN))
        p = torch.where(way.energy[:, None] == 0, 0, first_momentum(self.manifold, way.path))
        length = (2 * way.energy).clamp_min(0).sqrt()
        return Pairs(2 * way.energy, length, p, way.path, torch.full_like(way.steps, Status.RUNNING), way.steps)
