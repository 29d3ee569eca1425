"""A geodesic that follows the ends that are dragged: roughly while they move, certified when they rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.solvers.mesh import Mesh, even
from geodesic.solvers.plan import Plan
from geodesic.solvers.search import Search
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.solve import find

__all__ = ["STAGES", "Follower"]

STAGES = ("moving", "resting", "final")
"""What is asked for: a rough path; one that is certified, as few segments have it; one that is resolved, too."""

_MOVING, _RESTING = 16, 32  # segments
_TOL = 1e-3  # relative excess energy while an end moves: less than half a line's width on the map
_STEPS = 3  # while an end moves: what is left is done when the next position comes
_FEW: dict[str, Any] = {
    "init": "straight",
    "length_rtol": None,
    "graph_points": None,
}  # segments, which stay as they are


@dataclass
class Follower:
    """The last path of one pair of ends, where the next begins.

    Attributes:
        answer: The last answer that is no rough one; None while an end moves.
    """

    answer: GeodesicSolution | None = None
    _last: GeodesicSolution | None = None
    _manifold: Manifold | None = None
    _plans: dict[str, Plan] = field(default_factory=dict)

    def follow(
        self,
        manifold: Manifold,
        ends: tuple[Float[Tensor, " d"], Float[Tensor, " d"]],
        search: Search,
        solver: str,
        stage: str,
        callback: Callable[[Any], None],
    ) -> GeodesicSolution:
        """The geodesic between two points, from the last path on.

        The final answer is the shorter one of two: that which `solve` gives by the search, and that which the path that
        followed leads to.

        Args:
            manifold: Where to measure.
            ends: Both points.
            search: How to look for the final answer.
            solver: The name of its solver: what was found out for it once holds from then on.
            stage: One of `STAGES`.
            callback: As in `solve`.

        Raises:
            DecoderError: The decoder cannot be used there.
        """
        if manifold is not self._manifold:
            self._last, self._manifold = None, manifold
            self._plans.clear()
        self.answer = None
        a, b = (end.reshape(manifold.latent_shape or end.shape) for end in ends)
        if solver in self._plans:
            search = replace(search, plan=self._plans[solver], solver="auto", memory=None)

        def found(how: Search, segments: int) -> GeodesicSolution:
            return find(manifold, a, b, how, callback, _moved(self._last, a, b, segments))

        if stage == "moving":
            solution = found(replace(search, segments=_MOVING, tol=_TOL, max_steps=_STEPS, **_FEW), _MOVING)
        elif stage == "resting":
            solution = found(replace(search, segments=_RESTING, **_FEW), _RESTING)
        else:
            solution = find(manifold, a, b, search, callback)
            if self._last is not None:
                solution = _better(solution, found(replace(search, init="straight", graph_points=None), _RESTING))
        self._plans.setdefault(solver, solution.plan)
        self.answer = None if stage == "moving" else solution
        self._last = solution if bool(solution.path.isfinite().all()) else None
        return solution


def _better(one: GeodesicSolution, other: GeodesicSolution) -> GeodesicSolution:
    """The shorter of two answers, if both have converged."""
    if bool(one.converged) != bool(other.converged):
        return one if bool(one.converged) else other
    return other if bool(other.length < one.length) else one


def _moved(last: GeodesicSolution | None, start: Tensor, end: Tensor, segments: int) -> Mesh | None:
    """The last path, bent so that it has new ends: each node moves by its share of either end's step."""
    if last is None:
        return None
    t = torch.linspace(0, 1, segments + 1, dtype=start.dtype, device=start.device)
    a, b, path = start.reshape(-1), end.reshape(-1), last(t).reshape(segments + 1, -1)
    path = path + (1 - t[:, None]) * (a - path[0]) + t[:, None] * (b - path[-1])
    path[0], path[-1] = a, b
    return even(path[None])
