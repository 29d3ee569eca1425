"""Geodesics from candidates for a center to points: how they are found, and what is measured along them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.checks import require_fraction, require_integer
from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import inverse_at
from geodesic.riemannian.maps.discrete import first_momentum
from geodesic.riemannian.maps.log_map import log_map
from geodesic.riemannian.maps.stride import integration_rtol, require_method
from geodesic.riemannian.records import Record
from geodesic.solvers.solve import solve

__all__ = ["Geodesics", "Pairs", "check_search"]

_SOLVER_STEPS = 50  # from the paths of the last step; two or three are usual
_TOL = {torch.float64: 1e-6, torch.float32: 1e-3}
_ELSEWHERE = {
    "init": "paths for where its paths begin",
    "points": "graph_points for the points of a graph",
    "length_rtol": "segments, which stay the same while the point moves",
    "callback": "none",
}


@dataclass(frozen=True)
class Pairs(Record):
    """Geodesics of pairs, (*batch): squared distances, lengths, vectors, paths, and whether they are found.

    `squared` is what is minimized: twice the discrete energy, or the squared length where that is exact. `covector` is
    minus half its derivative in the first end.
    """

    squared: Float[Tensor, "*batch"]
    length: Float[Tensor, "*batch"]
    covector: Float[Tensor, "*batch d"]
    path: Float[Tensor, "*batch nodes d"]
    found: Bool[Tensor, "*batch"]


def check_search(search: dict[str, Any], method: Any) -> None:
    """Refuse keywords that `solve` has and that have no meaning here, with the reason."""
    require_method(method)
    for name in search:
        if name not in ("solver", "segments", "memory"):
            remedy = f"; here it is {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
            raise InputError(f"{name}: expected of the keywords of `solve` solver, segments or memory{remedy}")


@dataclass(frozen=True)
class Geodesics:
    """How geodesics are found while a center is searched: by `solve` and, for "ode", `log_map`.

    Attributes:
        manifold: Where.
        method: "discrete" or "ode".
        tol: Largest gradient norm of a center, relative to the root of the variance.
        max_iterations: Most steps of a search.
        rtol: Of the integration, for "ode".
        search: `solver`, `segments` and `memory` of `solve`.
        first: Where paths begin that nothing is known of: "straight", "graph" or "best", as `init` of `solve`.
        graph_points: Latent points for the graph, as `points` of `solve`.
    """

    manifold: Manifold
    method: str
    tol: float
    max_iterations: int
    rtol: float
    search: dict[str, Any]
    first: str = "straight"
    graph_points: Tensor | None = None

    @classmethod
    def from_user(
        cls,
        manifold: Manifold,
        method: Any,
        tol: Any,
        max_iterations: Any,
        rtol: Any,
        search: dict[str, Any],
        like: Tensor,
    ) -> Geodesics:
        """The record of what a user gave, after checks; defaults are those of the dtype of `like`.

        Raises:
            InputError: One of the settings cannot be used.
        """
        check_search(search, method)
        if tol is None:
            tol = _TOL[like.dtype]
        require_fraction("tol", tol)
        require_integer("max_iterations", max_iterations, least=1)
        return cls(manifold, method, float(tol), max_iterations, integration_rtol(rtol, like.dtype), search)

    def path_tol(self, dtype: torch.dtype) -> float:
        """Relative excess energy that geodesics may have: momenta are known to its root, as they are of first order."""
        return max((self.tol / 10) ** 2, torch.finfo(dtype).eps ** 1.5)

    def between(
        self, start: Float[Tensor, "P d"], end: Float[Tensor, "P d"], path: Float[Tensor, "P nodes d"] | None = None
    ) -> Pairs:
        """Geodesics between rows of points, searched from paths between them where some are known."""
        shape = (len(start), *(self.manifold.latent_shape or start.shape[1:]))
        a, b = start.reshape(shape), end.reshape(shape)
        search: dict[str, Any] = {**self.search, "init": self.first}
        if path is not None:
            search |= {"init": path.reshape(len(start), -1, *shape[1:]), "max_steps": _SOLVER_STEPS}
        elif self.graph_points is not None:
            search["points"] = self.graph_points
        solution = solve(self.manifold, a, b, tol=self.path_tol(start.dtype), **search)
        found = solution.path.reshape(len(start), -1, start.shape[1])
        if self.method == "discrete":
            p = first_momentum(self.manifold, found)
            return Pairs(2 * solution.energy, solution.length, p, found, solution.converged)
        there = log_map(self.manifold, a, b, method="ode", rtol=self.rtol, solution=solution)
        factor = inverse_at(self.manifold, start).factor
        p = (factor @ (factor.mT @ there.vector.reshape(*start.shape, 1)))[..., 0]
        return Pairs(there.length**2, there.length, p, there.path.reshape(found.shape), there.converged)
