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
from geodesic.numerics.tolerance import excess_for_vectors, step_for
from geodesic.riemannian.maps.discrete import first_momentum
from geodesic.riemannian.maps.follow import IN_FOLLOW, Follow, stride_of
from geodesic.riemannian.maps.log_map import log_map
from geodesic.riemannian.records import Record
from geodesic.riemannian.statistics.stop import IN_STOP, require_stop
from geodesic.solvers.doubts import doubts_of
from geodesic.solvers.search import IN_SEARCH, Search, require_search
from geodesic.solvers.solve import find

__all__ = ["RENAMED", "Geodesics", "Pairs", "followed", "require_for_moving_ends"]

# What arguments of statistics are called now that were called otherwise, or that are in the search.
RENAMED = IN_SEARCH | IN_FOLLOW | IN_STOP | {"segments": IN_SEARCH["segments"]}

_AGAIN = 20  # the part of `max_steps` that is left from the paths of the last step on; two or three steps are usual


@dataclass(frozen=True)
class Pairs(Record):
    """Geodesics of pairs, (*batch): squared distances, lengths, vectors, paths, and how they ended.

    `squared` is what is minimized: twice the discrete energy, or the squared length where that is exact. `covector` is
    minus half its derivative in the first end, `doubts` as by `doubts_of`.
    """

    squared: Float[Tensor, "*batch"]
    length: Float[Tensor, "*batch"]
    covector: Float[Tensor, "*batch d"]
    path: Float[Tensor, "*batch nodes d"]
    doubts: Int[Tensor, "*batch"]


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

    def between(
        self, start: Float[Tensor, "P d"], end: Float[Tensor, "P d"], path: Float[Tensor, "P nodes d"] | None = None
    ) -> Pairs:
        """Geodesics between rows of points, searched from paths between them where some are known."""
        shape = (len(start), *(self.manifold.latent_shape or start.shape[1:]))
        a, b = start.reshape(shape), end.reshape(shape)
        search = replace(self.search.even("a statistic"), tol=self.path_tol(start.dtype))
        if path is not None:
            known = to_nearest_copies(self.manifold, path).reshape(len(start), -1, *shape[1:])
            few = max(1, search.max_steps // _AGAIN)
            search = replace(search, init=known, graph_points=None, segments=None, max_steps=few)
        solution = find(self.manifold, a, b, search)
        found = solution.path.reshape(len(start), -1, start.shape[1])
        if self.method == "discrete":
            p = first_momentum(self.manifold, found)
            return Pairs(2 * solution.energy, solution.length, p, found, doubts_of(solution))
        there = log_map(self.manifold, a, b, follow=self.follow, solution=solution)
        factor = inverse_at(self.manifold, start).factor
        p = (factor @ (factor.mT @ there.vector.reshape(*start.shape, 1)))[..., 0]
        return Pairs(there.length**2, there.length, p, there.path.reshape(found.shape), there.status)
