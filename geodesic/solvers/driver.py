"""One call of `solve`: where it starts, what it runs, and when more segments are worth it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.checks import admit
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import grouped
from geodesic.geometry.path import constant_speed, straight_path
from geodesic.solvers.choose import choose_solver
from geodesic.solvers.initial import graph_path
from geodesic.solvers.measure import StraightLines, measured, straight_lines
from geodesic.solvers.memory import Plan
from geodesic.solvers.progress import Progress, Watch
from geodesic.solvers.rows import joined, resampled, shaped, shorter, with_rows
from geodesic.solvers.run import Run
from geodesic.solvers.search import MOST_SEGMENTS, Search, given_path
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.solver import Solver, select
from geodesic.solvers.status import Status

__all__ = ["Driver"]

_HANDOVER = 1e-6  # relative excess energy, by its own estimate, at which a warm-up is over


@dataclass(frozen=True, eq=False)
class Driver:
    """Everything that stays the same while pairs are solved.

    Attributes:
        manifold: Where to measure.
        search: How to look.
        start: First endpoints, (P, d).
        end: Last endpoints, (P, d).
        given: The user's own paths, if any.
        solver: The one that runs.
        reason: Which it is and why, in words.
        segments: T of the first paths.
        plan: What fits into memory, and how to go about it.
        watch: Tells about progress.
    """

    manifold: Manifold
    search: Search
    start: Float[Tensor, "P d"]
    end: Float[Tensor, "P d"]
    given: Float[Tensor, "P nodes d"] | None
    solver: Solver[Any]
    reason: str
    segments: int
    plan: Plan
    watch: Watch

    @classmethod
    def run(
        cls,
        manifold: Manifold,
        start: Tensor,
        end: Tensor,
        search: Search,
        callback: Callable[[Progress], None] | None,
    ) -> GeodesicSolution:
        """The answer for endpoints of any leading axes."""
        event = (start.shape[-1],) if manifold.latent_shape is None else manifold.latent_shape
        batch = start.shape[: start.dim() - len(event)]
        a, b = (z.detach().clone().reshape(-1, math.prod(event)) for z in (start, end))
        given = given_path(search, start, end, len(event))
        segments = search.segments if given is None else given.shape[1] - 1
        admit(manifold, torch.cat([a, b]), start, finite=True)
        solver, reason = search.solver, repr(search.solver)
        if isinstance(solver, str):
            solver, reason = choose_solver(manifold, a[:1])
        plan = Plan.of(manifold, solver, a[:1], search.memory)
        unusual = manifold.door.note if manifold.door else ""
        reason = "; ".join(filter(None, (reason, plan.said, unusual)))
        watch = Watch(callback, batch, a)
        driver = cls(manifold, search, a, b, given, plan.solver, reason, segments, plan, watch)
        lines = driver._lines()
        answer = shorter([driver._refined(path, usable, lines) for path, usable in driver._starts()])
        return shaped(replace(answer, tol=search.tolerance(a.dtype)), batch, event)

    def _graph_points(self) -> Float[Tensor, "N d"] | None:
        points = self.search.graph_points
        return None if points is None else points.flatten(1)

    def _lines(self) -> StraightLines:
        room = self.plan.at(self.segments)
        groups = zip(self.start.split(room.solver), self.end.split(room.solver), strict=True)
        parts = [straight_lines(room.manifold, *ends, self.segments) for ends in groups]
        return StraightLines(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _starts(self) -> list[tuple[Tensor, Tensor]]:
        """Paths to begin from, and which pairs may begin from them."""
        init, everywhere = self.search.init, torch.ones_like(self.start[:, 0], dtype=torch.bool)
        if self.given is not None:
            return [(self.given, everywhere)]
        starts, room = [], self.plan.at(self.segments)
        if init in ("straight", "best"):
            lines = straight_path(self.start, self.end, self.segments)
            even = grouped(lambda path: constant_speed(room.manifold, path), room.solver, lines)
            starts.append((even, everywhere))
        if init in ("graph", "best"):
            graph = graph_path(room.manifold, self.start, self.end, self.segments, graph_points=self._graph_points())
            # Beside the straight line itself, a second straight line would be solved for nothing.
            starts.append((graph.path, graph.connected & ~(graph.straight & bool(starts))))
        return starts

    def _refined(
        self, path: Float[Tensor, "P nodes d"], usable: Bool[Tensor, " P"], lines: StraightLines
    ) -> GeodesicSolution:
        """Solve and measure; then, if asked for, with twice the segments for the pairs whose length still changes.

        Pairs that did not converge stay as they are: more segments would not help them.
        """
        rows, rtol = torch.arange(len(path), device=path.device), self.search.length_rtol
        tol = self.search.tolerance(path.dtype)
        if rtol is None:
            return self._solved(rows, path, usable, lines, tol)
        tol = min(tol, rtol / 10)  # or two lengths of one and the same curve would agree
        answer = self._solved(rows, path, usable, lines, tol)
        open_rows = rows[answer.converged]
        while len(open_rows) and answer.path.shape[1] - 1 < MOST_SEGMENTS:
            answer = resampled(answer, 2 * (answer.path.shape[1] - 1))
            old = answer[open_rows]
            new = self._solved(open_rows, old.path, usable[open_rows], select(lines, open_rows), tol)
            new = replace(new, iterations=new.iterations + old.iterations)
            answer = with_rows(answer, open_rows, new)
            agreed = (new.length - old.length).abs() <= rtol * new.length
            open_rows = open_rows[~agreed & new.converged]
        # Those that are left have the most segments, and their lengths do not agree yet.
        return replace(answer, resolved=answer.resolved.index_fill(0, open_rows, False))

    def _solved(
        self,
        rows: Int[Tensor, " n"],
        path: Float[Tensor, "n nodes d"],
        usable: Bool[Tensor, " n"],
        lines: StraightLines,
        tol: float,
    ) -> GeodesicSolution:
        """Run the solver on some pairs, after its warm-up, and measure where the paths end."""
        room, most = self.plan.at(path.shape[1] - 1), self.search.max_steps
        reason = "; ".join(filter(None, (self.reason, room.said)))
        status = torch.where(usable, Status.RUNNING, Status.NOT_CONNECTED)
        run = Run(room.manifold, path, torch.ones_like(path[:, 1:, 0]), status, room.warm_up, self.watch.of(rows))
        if self.solver.warm_up is not None:
            steps = int(self.solver.warm_up_share * most)
            run.stage(self.solver.warm_up, max(tol, _HANDOVER), steps, room.warm_up, certified=False)
        run.stage(self.solver, tol, most, room.solver, certified=True)
        groups = torch.arange(len(path), device=path.device).split(room.solver)
        how = (tol, reason, room.bytes_of(len(path)))
        return joined([measured(room.manifold, select(run.ended, i), select(lines, i), *how) for i in groups])
