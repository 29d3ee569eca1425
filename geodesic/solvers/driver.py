"""One call of `solve`: where it starts, what it runs, and when more segments are worth it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.checks import admit, admit_path
from geodesic.geometry.copies import Copy, nearest_copies
from geodesic.geometry.energy import energy_and_gradient
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.path import chord_length, refine_path, straight_path, with_equal_chords
from geodesic.geometry.period import turns
from geodesic.numerics.masks import divided
from geodesic.solvers.choose import make_plan
from geodesic.solvers.initial import graph_path
from geodesic.solvers.kinks import Kinks, kinks_of
from geodesic.solvers.measure import Asked, StraightLines, above_their_bounds, measured, straight_lines, unmeasured
from geodesic.solvers.memory import Workspace
from geodesic.solvers.mesh import Mesh, bends, even, on_time, placed
from geodesic.solvers.progress import Progress, Watch
from geodesic.solvers.rows import chosen, in_order, sampled, shaped, shorter, with_rows
from geodesic.solvers.run import Ended, Run
from geodesic.solvers.search import MOST_SEGMENTS, Search, given_path
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.solver import select
from geodesic.solvers.status import Status

__all__ = ["Driver"]

_UNSURE = 10  # times `length_rtol`: errors up to this are believed
_STALLS = 2  # so often a pair may stall before it is left as it is
_ROUNDINGS = 100  # of a length, by which two measurements of one curve may differ
_LEAP = 1.1  # times its chords, that a curve is longer which leaps over a fold or a ridge between two nodes
_TRIED = 16  # times as many segments as at first are always tried where curves leap over what their start crosses
_TIRED = 5  # times the solver's patience: steps in all, after which no more segments are tried from a start
_HANDOVER = 1e-6  # relative excess energy, by its own estimate, at which a warm-up is over
_COPIES = 3  # of an end, to which init="best" looks for geodesics where coordinates are periodic
_BEFORE_KINKS = 4  # times as many segments as at first, at most, where answers are made taut after
_TO_KINKS = 0.1  # of the excess that taut ones may have: where a smooth method hands over
_LINE = 16  # segments of the straight lines by which copies are compared, where curves have lengths


class _Start(NamedTuple):
    """Where pairs begin, which of them may do so, (P,), and the straight lines between the same ends."""

    mesh: Mesh
    usable: Bool[Tensor, " P"]
    lines: StraightLines


@dataclass(frozen=True, eq=False)
class Driver:
    """Everything that stays the same while pairs are solved.

    Attributes:
        manifold: Where to measure.
        search: How to look.
        start: First endpoints, (P, d).
        end: Last endpoints, (P, d).
        given: The user's own paths, if any.
        known: Curves near the answers, if any, where pairs begin.
        segments: T of the first paths.
        work: The plan, and how it is followed.
        kinks: How answers are made taut, where the decoder shows kinks.
        watch: Tells about progress.
    """

    manifold: Manifold
    search: Search
    start: Float[Tensor, "P d"]
    end: Float[Tensor, "P d"]
    given: Float[Tensor, "P nodes d"] | None
    known: Mesh | None
    segments: int
    work: Workspace
    kinks: Kinks | None
    watch: Watch

    @classmethod
    def run(
        cls,
        manifold: Manifold,
        start: Tensor,
        end: Tensor,
        search: Search,
        callback: Callable[[Progress], None] | None,
        known: Mesh | None = None,
    ) -> GeodesicSolution:
        """The answer for endpoints of any leading axes; from curves that are `known` already, those of all pairs."""
        event = (start.shape[-1],) if manifold.latent_shape is None else manifold.latent_shape
        batch = start.shape[: start.dim() - len(event)]
        a, b = (z.detach().clone().reshape(-1, math.prod(event)) for z in (start, end))
        given = given_path(search, start, end, len(event), manifold.period)
        first = given if known is None else known.path
        segments = search.first_segments if first is None else first.shape[1] - 1
        watch = Watch(callback, batch, a)
        watch.stage("first paths", segments)
        admit(manifold, torch.cat([a, b]), start, finite=True)
        plan = search.plan
        if plan is None:
            plan = make_plan(manifold, search.solver, a[:1], search.memory)
        else:
            plan.require_suited(manifold, a[:1])
        work = Workspace(manifold, plan, a[:1], len(a))
        kinks = kinks_of(manifold, a, b, search) if search.refines else None
        driver = cls(manifold, search, a, b, given, known, segments, work, kinks, watch)
        starts = driver._starts()
        answers: list[GeodesicSolution] = []
        for begun in starts:
            watch.start(len(starts) - len(answers) - 1, fixed=not driver._moves_nodes)
            to = replace(driver, end=begun.mesh.path[:, -1])  # where coordinates are periodic: a copy of the end
            answers.append(to._tightened(to._refined(begun)))
        answer = shorter(answers)
        if search.init == "best" and kinks is not None and driver._moves_nodes:
            watch.stage("looking beside corners", segments)
            answer = kinks.searched(answer)
        if kinks is not None and driver._moves_nodes:
            answer = kinks.confirmed(answer)
        answer = above_their_bounds(answer, search.rtol)
        if driver._moves_nodes:
            answer = sampled(answer, segments)
        if manifold.period is not None:
            answer = replace(answer, winding=turns(manifold.period, b, answer.mesh[:, -1]))
        watch.done()
        return shaped(replace(answer, plan=work.followed), batch, event)

    @property
    def _rtol(self) -> float:
        """By how much one length must exceed another to be longer: no less than rounding."""
        return max(self.search.rtol, _ROUNDINGS * torch.finfo(self.start.dtype).eps)

    @property
    def _moves_nodes(self) -> bool:
        return self.search.refines and self.manifold.has_length

    @property
    def _most_segments(self) -> int:
        """Of the splines; taut curves have a node on each face."""
        return MOST_SEGMENTS if self.kinks is None else min(MOST_SEGMENTS, _BEFORE_KINKS * self.segments)

    @property
    def _exactness(self) -> float:
        """The relative excess energy that the solver seeks: no smooth method comes nearer than kinks let it."""
        tol = self.search.exactness(self.start.dtype)
        return tol if self.kinks is None else max(tol, _TO_KINKS * self.kinks.tol)

    def _tightened(self, answer: GeodesicSolution) -> GeodesicSolution:
        """The answers, made taut where the decoder has kinks and shows them."""
        if self.kinks is None or not self._moves_nodes:
            return answer
        self.watch.stage("tightening across kinks", self.segments)
        return self.kinks.tightened(answer)

    def _lines(self, start: Float[Tensor, "n d"], end: Float[Tensor, "n d"], segments: int) -> StraightLines:
        return StraightLines(*self.work.at(segments).grouped(partial(straight_lines, segments=segments), start, end))

    def _lines_again(self, lines: StraightLines, rows: Int[Tensor, " n"], segments: int) -> StraightLines:
        """The straight lines, some of them measured with other segments, as their geodesics are."""
        if not len(rows):
            return lines
        length = self._lines(self.start[rows], self.end[rows], segments).length
        return lines._replace(length=lines.length.index_put((rows,), length))

    def _starts(self) -> list[_Start]:
        """Paths to begin from."""
        init, everywhere = self.search.init, torch.ones_like(self.start[:, 0], dtype=torch.bool)
        first = even(self.given) if self.given is not None else self.known
        if self.known is not None:
            room = self.work.at(self.segments)
            first = Mesh(*room.grouped(lambda manifold, *some: on_time(manifold, Mesh(*some)), *self.known))
        if first is not None:
            return [_Start(first, everywhere, self._lines(self.start, first.path[:, -1], self.segments))]
        manifold = self.work.at(self.segments).manifold
        copies = self._copies()
        starts = [self._straight(copy) for copy in copies] if init in ("straight", "best") else []
        if init in ("graph", "best"):
            points = self.search.graph_points
            points = None if points is None else points.flatten(1)
            graph = graph_path(manifold, self.start, self.end, self.segments, graph_points=points)
            end = graph.path[:, -1]
            known = bool(starts) and torch.equal(end, copies[0].end)
            lines = starts[0].lines if known else self._lines(self.start, end, self.segments)
            # Beside the straight line itself, a second straight line would be solved for nothing.
            starts.append(_Start(even(graph.path), graph.connected & ~(graph.straight & bool(starts)), lines))
        return starts

    def _copies(self) -> list[Copy]:
        """The copies of the ends to go to: of each end one, but for those that `init="best"` also looks at."""
        most = _COPIES if self.search.init == "best" else 1
        segments = min(self.segments, _LINE) if self.manifold.has_length else self.segments
        copies = nearest_copies(self.work.at(self.segments).manifold, self.start, self.end, most, segments)
        return [copies[0], *(copy for copy in copies[1:] if bool(copy.usable.any()))]

    def _straight(self, copy: Copy) -> _Start:
        lines = self._lines(self.start, copy.end, self.segments)
        straight = straight_path(self.start, copy.end, self.segments)
        admit_path(self.work.at(self.segments).manifold, straight)
        return _Start(even(with_equal_chords(straight, lines.chords)), copy.usable, lines)

    def _refined(self, begun: _Start) -> GeodesicSolution:
        """Solve and measure; where segments are not fixed, with twice as many for the pairs that are not resolved.

        Pairs that bend too much for their segments have more as soon as the warm-up has ended. Where that led nowhere
        they are solved with few, too.
        """
        rows = torch.arange(len(begun.usable), device=begun.usable.device)
        answer, lines, early = self._doubled(begun, rows, begun.lines)
        (lost,) = (early & ~answer.converged).nonzero(as_tuple=True)
        if len(lost):
            again, lines, _ = self._doubled(begun, lost, self._lines_again(lines, lost, self.segments), look=False)
            again = replace(again, iterations=again.iterations + answer.iterations[lost])
            answer = with_rows(answer, lost, chosen(again.converged, again, answer[lost]))
        return self._no_longer(answer, begun.mesh.path, lines) if self.manifold.has_length else answer

    def _doubled(
        self, begun: _Start, rows: Int[Tensor, " n"], lines: StraightLines, look: bool = True
    ) -> tuple[GeodesicSolution, StraightLines, Bool[Tensor, " n"]]:
        """Answers of some pairs, the straight lines of all, and which pairs had more segments before they were solved.

        What stalls near its minimum lies on a kink of the decoder, as a rule, and other nodes may lie beside it: such a
        pair goes on from there, a few times. No answer is longer than a curve that was known before it.
        """
        mesh, usable = select(begun.mesh, rows), begun.usable[rows]
        early = torch.zeros_like(usable)
        if look and self.known is not None:  # curves near the answers bend about as these do
            early = usable & self._bends(mesh.path, usable)
        run = self._warmed_up(rows, mesh, usable, early)
        if look:
            early |= self._bends(run.path, run.status == Status.RUNNING)
        last = answer = self._finished(run, select(lines, rows), early)
        here, stalls, path = torch.arange(len(rows), device=rows.device), torch.zeros_like(rows), mesh.path
        segments, worse = path.shape[1] - 1, torch.full_like(usable, not self._moves_nodes)
        while True:
            stalled = (last.status == Status.STALLED) & (last.relative_excess_energy <= self.search.rtol)
            stalls = stalls + stalled
            goes_on = last.converged | (stalled & (stalls <= _STALLS)) | (last.status == Status.NOT_RESOLVED)
            on = ~last.resolved & goes_on & ~worse
            here, last, stalls, segments = here[on], last[on], stalls[on], 2 * segments
            if not len(here) or segments > self._most_segments:
                return answer, lines, early
            of = rows[here]
            self.watch.refine(of, segments)
            compared = of[last.length.isfinite()]  # not what was left before it was solved
            coarse, lines = lines, self._lines_again(lines, compared, segments)
            again = self._too_long(last, lines.length[of])
            curves = torch.where(again[:, None, None], refine_path(path[here], segments // 2), last.mesh)
            mesh = Mesh(*self.work.at(segments).grouped(partial(placed, segments=segments), curves))
            before, last = last, self._finished(self._warmed_up(of, mesh, usable[here]), select(lines, of))
            kept, worse = self._kept(last, answer[here], mesh.path, again)
            tired = self._the_same(last, before) | (kept.iterations > _TIRED * self.work.solver.patience)
            worse = worse | (again & self._too_long(last, lines.length[of]) & tired)
            answer = with_rows(answer, here, kept)
            if segments >= _TRIED * self.segments:  # those whose start is known well enough would end there again
                known = (coarse.length / lines.length - 1).abs()[of] <= self._rtol
                worse = worse | (known & self._too_long(last, lines.length[of]))

    def _bends(self, path: Float[Tensor, "n nodes d"], asked: Bool[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Which paths are not worth solving with so few segments, of those that are asked for."""
        early, segments = torch.zeros_like(asked), path.shape[1] - 1
        (rows,) = asked.nonzero(as_tuple=True)
        if self._moves_nodes and len(rows) and 2 * segments <= self._most_segments:
            early[rows] = self.work.at(segments).grouped(partial(bends, rtol=self.search.rtol), path[rows])
        return early

    def _the_same(self, new: GeodesicSolution, old: GeodesicSolution) -> Bool[Tensor, " n"]:
        """Whether many steps from a start have led to where they led with half the segments, as they would again.

        So it is where a decoder is nearly discontinuous, as group normalization is where all of a group are alike.
        """
        many = torch.minimum(new.iterations, old.iterations) > self.work.solver.patience
        return many & ((new.energy / old.energy - 1).abs() <= self.search.rtol)

    def _too_long(self, answer: GeodesicSolution, straight: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Whether curves are longer than the straight lines, or than their own chords.

        Their nodes leap over what the start crosses, a fold or a ridge, and none are left there: the start gets more.
        """
        chords = (2 * answer.energy).sqrt()
        return (answer.length > _LEAP * chords) | (answer.length > (1 + self._rtol) * straight)

    def _kept(
        self,
        new: GeodesicSolution,
        old: GeodesicSolution,
        path: Float[Tensor, "n nodes d"],
        again: Bool[Tensor, " n"],
    ) -> tuple[GeodesicSolution, Bool[Tensor, " n"]]:
        """The answers of more segments; those of fewer where more have not converged, or ended on a longer curve.

        And which ended on a longer curve. What is not resolved yet may seem longer by its error, if that is small.

        Args:
            new: Of more segments.
            old: The best of fewer.
            path: The curves that the new ones began with, through their first nodes.
            again: Which began again from their start, and have nothing to lose.
        """
        new = replace(new, iterations=new.iterations + old.iterations)
        # With more segments a curve is also measured more exactly: its own length counts as that.
        known = self.work.lengths(path, (new.length > old.length) & ~again)
        rtol = self._rtol
        unsure = torch.where(new.resolved, 0, new.error.clamp_max(_UNSURE * rtol))
        worse = new.length > (1 + rtol + unsure) * known
        own = worse & (2 * old.segments == path.shape[1] - 1)  # or else those of a pair that stalled in between
        off = (known / old.length - 1).abs()
        old = replace(
            old,
            iterations=new.iterations,
            length=torch.where(own, known, old.length),
            error=torch.where(own, old.error.maximum(off), old.error),
            quadrature_error=torch.where(own, old.quadrature_error.maximum(off), old.quadrature_error),
        )
        return chosen(worse | (old.converged & ~new.converged), old, new), worse

    def _no_longer(
        self, answer: GeodesicSolution, start: Float[Tensor, "P nodes d"], lines: StraightLines
    ) -> GeodesicSolution:
        """The answers, or the straight lines or the paths that they began with where these are shorter."""
        room, rtol = self.work.at(self.segments), self._rtol
        ended = (answer.status != Status.NOT_CONNECTED) & (answer.status != Status.JUMP) & answer.length.isfinite()
        straight = straight_path(self.start, self.end, self.segments)
        known = [(straight, lines.length)]
        if self.given is not None or self.search.init != "straight":
            known.append((start, room.grouped(chord_length, start)))  # no longer than the path
        for path, least in known:
            (suspects,) = (ended & (answer.length > (1 + rtol) * least)).nonzero(as_tuple=True)
            for T in answer.segments[suspects].unique().tolist():
                # Measured as the answers are: with few segments much of a curve can be missed.
                rows = suspects[answer.segments[suspects] == T]
                curves = path[rows] if path.shape[1] == T + 1 else refine_path(path[rows], T)
                lengths = self.work.lengths(curves, torch.ones_like(rows, dtype=torch.bool))
                if path is straight:
                    lines = lines._replace(length=lines.length.index_put((rows,), lengths))
                    answer = replace(answer, straight_length=answer.straight_length.index_put((rows,), lengths))
                (shorter,) = (answer.length[rows] > (1 + rtol) * lengths).nonzero(as_tuple=True)
                for some in shorter.split(self.work.at(T).solver) if len(shorter) else ():
                    i = rows[some]
                    answer = with_rows(answer, i, self._given_up(answer[i], curves[some], select(lines, i)))
        return answer

    def _given_up(
        self, old: GeodesicSolution, path: Float[Tensor, "n nodes d"], lines: StraightLines
    ) -> GeodesicSolution:
        """The answers for paths that are better than where the solver ended: not those that a jump makes look so."""
        room = self.work.at(path.shape[1] - 1)
        mesh, nothing = even(path), torch.full_like(old.length, torch.nan)
        energy, gradient = energy_and_gradient(room.manifold, path)
        slope = gradient.square().sum((1, 2)).sqrt()
        status = torch.where(old.converged, Status.NOT_SHORTER, old.status)
        ended = Ended(mesh, status, old.iterations, nothing, torch.zeros_like(old.converged), energy, slope)
        new = measured(room.manifold, ended, lines, Asked(old.tol, self.search.rtol, old.plan))
        return chosen(new.status == Status.JUMP, old, new)

    def _warmed_up(
        self, rows: Int[Tensor, " n"], mesh: Mesh, usable: Bool[Tensor, " n"], early: Bool[Tensor, " n"] | None = None
    ) -> Run:
        """Some pairs after the warm-up of their solver, where it has one and it is worth it.

        Args:
            rows: The pairs.
            mesh: Where they begin.
            usable: Which of them may.
            early: Which get more segments before anything is done.
        """
        T, most, tol = mesh.path.shape[1] - 1, self.search.max_steps, self._exactness
        room, solver = self.work.at(T), self.work.solver
        status = torch.where(usable, Status.RUNNING, Status.NOT_CONNECTED)
        if early is not None:
            status = torch.where(early, Status.NOT_RESOLVED, status)
        run = Run(room.manifold, mesh, status, room.warm_up, self.watch.of(rows))
        if solver.warm_up is not None:
            steps = int(solver.warm_up_share * most)
            self.watch.stage(f"warm-up by {type(solver.warm_up).__name__}", T)
            run.stage(solver.warm_up, max(tol, _HANDOVER), steps, room.warm_up, certified=False)
        return run

    def _finished(self, run: Run, lines: StraightLines, early: Bool[Tensor, " n"] | None = None) -> GeodesicSolution:
        """Run the solver on what a warm-up left, and measure where paths end, but for those that get more segments."""
        T, most, tol = run.path.shape[1] - 1, self.search.max_steps, self._exactness
        room, solver = self.work.at(T), self.work.solver
        many, few = divided(torch.zeros_like(run.minimum) if early is None else early)
        run.status[many] = Status.NOT_RESOLVED
        self.watch.stage(type(solver).__name__, T, ends=True)
        run.stage(solver, tol, most, room.solver, certified=True)
        self.watch.stage("measuring", T)
        asked = Asked(tol, self.search.rtol, self.work.plan)
        parts = [(many, unmeasured(select(run.ended, many), select(lines, many), asked))] if len(many) else []
        for i in few.split(room.solver) if len(few) else ():
            parts.append((i, measured(room.manifold, select(run.ended, i), select(lines, i), asked)))
        return in_order(parts)
