"""A geodesic that follows the ends that are dragged: roughly while they move, certified when they rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.checks import guarded
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.path import chord_length, path_length, straight_path
from geodesic.geometry.period import unwrapped
from geodesic.numerics.spline import through
from geodesic.solvers.mesh import even
from geodesic.solvers.plan import Plan
from geodesic.solvers.search import Search
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.solve import find
from geodesic.solvers.solver import Solver
from geodesic.solvers.status import Status

__all__ = ["STAGES", "Follower", "Rough"]

STAGES = ("moving", "resting", "resolved", "final")
"""What is asked for: a rough path; one that is certified, as few segments have it; one with as many as its length
needs; and the shorter one of this and of that which `solve` gives by itself."""

# Segments. Pairs that 32 do not resolve mostly need 128: on a MNIST VAE, to begin with these took half as long as to
# get there by doubling.
_FEW, _RESOLVED = 32, 128
# Relative excess energy, and steps. On MNIST VAEs paths then stay within 1e-3 of the least energy as a rule: less than
# the width of a line.
_TOL, _STEPS = 1e-4, 8
_MOMENT = 0.05  # seconds after which no other step of a dear decoder is begun: the next position comes sooner


@dataclass(frozen=True)
class Rough:
    """A path that follows: nothing is certain about it.

    Attributes:
        path: Nodes, (T + 1, d).
        length: Of the spline through the nodes; of a dear decoder the sum of the chords, somewhat too short.
        straight_length: That of the straight line.
        steps: So many were taken.
    """

    path: Float[Tensor, "nodes d"]
    length: float
    straight_length: float
    steps: int

    def __call__(self, t: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """Places at times."""
        return through(self.path[None], t[None])[0][0]


@dataclass
class Follower:
    """The last path of one pair of ends, where the next begins.

    Attributes:
        answer: The last answer that is no rough one; None while an end moves.
    """

    answer: GeodesicSolution | None = None
    _ends: tuple[Tensor, Tensor] | None = None
    _last: Float[Tensor, "nodes d"] | None = None
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
    ) -> GeodesicSolution | Rough:
        """The geodesic between two points, from the last path on.

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
        same = self._ends is not None and all(map(torch.equal, ends, self._ends))
        before, self.answer, self._ends = (self.answer if same else None), None, ends
        if stage == "moving" and self._last is not None and solver in self._plans:
            path = _moved(self._last, manifold, ends, _FEW)
            rough = improved(manifold, path, cast(Solver[Any], self._plans[solver].solver))
            self._last = rough.path
            return rough
        if solver in self._plans:
            search = replace(search, plan=self._plans[solver], solver="auto", memory=None)
        solution = self._solved(manifold, ends, search, stage, callback)
        if stage == "final" and before is not None:
            solution = _better(solution, before)
        self._plans.setdefault(solver, solution.plan)
        self.answer = None if stage == "moving" else solution
        t = torch.linspace(0, 1, _FEW + 1, dtype=solution.path.dtype, device=solution.path.device)
        curve = solution(t).flatten(1)
        self._last = curve if bool(curve.isfinite().all()) else None
        return solution

    def _solved(
        self,
        manifold: Manifold,
        ends: tuple[Tensor, Tensor],
        search: Search,
        stage: str,
        callback: Callable[[Any], None],
    ) -> GeodesicSolution:
        a, b = (end.reshape(manifold.latent_shape or end.shape) for end in ends)
        segments = _RESOLVED if stage == "resolved" else _FEW
        known = None if self._last is None else even(_moved(self._last, manifold, ends, segments)[None])
        here = replace(search, init="straight", graph_points=None)
        if stage == "final":
            return find(manifold, a, b, search, callback)
        few = here if stage == "resolved" else replace(here, segments=_FEW, length_rtol=None)
        return find(manifold, a, b, few, callback, known)


@guarded
def improved(manifold: Manifold, path: Float[Tensor, "nodes d"], solver: Solver[Any]) -> Rough:
    """A path after a few steps of a solver, which nobody certifies: a sixth of the work of `solve`.

    Args:
        manifold: Where to measure.
        path: Nodes, with the ends that they keep.
        solver: What improves it.

    Raises:
        DecoderError: The decoder cannot be used there.

    Example:
        >>> import torch, geodesic
        >>> from geodesic.explorer.follow import improved
        >>> line = geodesic.straight_path(torch.tensor([0.8, 0.0]), torch.tensor([0.8, 2.0]), 16)
        >>> rough = improved(geodesic.surfaces.Sphere(), line, geodesic.Newton())
        >>> rough.length < rough.straight_length
        True
    """
    mesh = even(path[None])
    # The warm-up forms no Jacobians: as good as Newton this far from the end, and with convolutions a third faster.
    solver, begun = solver.warm_up or solver, time.perf_counter()
    state, steps = solver.begin(manifold, mesh.path, mesh.weights), 0
    while int(state.status) == Status.RUNNING and not 0 < float(state.excess) <= _TOL:
        state, steps = solver.step(manifold, state), steps + 1
        if steps == _STEPS or time.perf_counter() - begun > _MOMENT:
            break
    line = straight_path(path[0], path[-1], len(path) - 1)
    with torch.no_grad():
        paths = torch.stack([state.path[0], path, line])
        if time.perf_counter() - begun > _MOMENT:  # the quadrature takes as long again
            lengths = chord_length(manifold, paths)
        else:
            lengths = path_length(manifold, paths)
    # Few nodes come to leap over a ridge: then the curve through them is longer than that which was there before.
    best = int(lengths.nan_to_num(torch.inf).argmin())
    return Rough(paths[best], float(lengths[best]), float(lengths[2]), steps)


def _better(one: GeodesicSolution, other: GeodesicSolution) -> GeodesicSolution:
    """The shorter of two answers, if both have converged and are resolved."""
    sure = [bool(found.converged & found.resolved) for found in (one, other)]
    if sure[0] != sure[1]:
        return one if sure[0] else other
    return other if bool(other.length < one.length) else one


def _moved(
    last: Float[Tensor, "nodes d"], manifold: Manifold, ends: tuple[Tensor, Tensor], segments: int
) -> Float[Tensor, "nodes_ d"]:
    """The last path, bent so that it has new ends: each node moves by its share of either end's step."""
    a, b = ends
    b = unwrapped(manifold.period, b, last[-1])
    t = torch.linspace(0, 1, segments + 1, dtype=a.dtype, device=a.device)
    path = through(last[None], t[None])[0][0]
    path = path + (1 - t[:, None]) * (a - path[0]) + t[:, None] * (b - path[-1])
    path[0], path[-1] = a, b
    return path
