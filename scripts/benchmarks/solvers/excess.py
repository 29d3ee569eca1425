"""The energy that a path has too much, and what it costs to get rid of it."""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

import geodesic
from scripts.benchmarks.counting import FlopCounter, Trace, flops_of
from scripts.benchmarks.solvers.methods import Method, between, explain
from scripts.benchmarks.solvers.problems import Problem

TARGETS = (1e-2, 1e-3, 1e-4, 1e-6)
LEVELS = tuple(10.0 ** (-k / 4) for k in range(2, 41))  # of the diagram
POLISHED = 1e-12  # tol of the paths that excess is measured against


def polish(problem: Problem, path: Tensor) -> tuple[Tensor, Tensor]:
    """The minimal energies in the basins of these paths, and which of them are certified, (P,) each."""
    path = between(problem, path)
    solution = geodesic.solve(
        problem.manifold, problem.start, problem.end, init=path, segments=problem.segments, tol=POLISHED
    )
    with torch.no_grad():
        before = geodesic.path_energy(problem.manifold, path)
    return torch.fmin(before, solution.energy), solution.converged


def excess_energy(energies: Tensor, reference: Tensor) -> Tensor:
    """E / E* - 1 for energies (..., P) and the minima (P,) of their own basins; never below 0."""
    return (energies / reference - 1).clamp_min(0)


def first_below(excess: Tensor, level: float) -> int | None:
    """The first note at which the excess, (notes,), is at most the level."""
    (where,) = (excess <= level).nonzero(as_tuple=True)
    return int(where[0]) if len(where) else None


@dataclass(frozen=True)
class Group:
    """Pairs that were worked on at the same time: all of them, unless `memory` splits the batch.

    A later group begins where the one before took its last note, so what that one still measured is charged to it.

    Args:
        begin: Seconds at which their turn came.
        times: Seconds at each note.
        mean_excess: Mean excess of the group at each note.
    """

    begin: float
    times: list[float]
    mean_excess: list[float]

    def seconds_to(self, level: float) -> float | None:
        """Seconds from the group's beginning until its mean excess is at most the level."""
        k = first_below(torch.tensor(self.mean_excess), level)
        return None if k is None else self.times[k] - self.begin


def groups_of(seconds: Sequence[float], excess: Tensor) -> list[Group]:
    """The groups of a run, told apart by the note at which a pair has its first energy.

    Args:
        seconds: At each note.
        excess: (notes, P), NaN for a pair whose turn has not come. A pair that never gets a path is left out, and the
            run's remark says how many there are.

    Returns:
        One group for each part of the batch; none where no pair has a path.
    """
    excess = excess[:, ~excess[-1].isnan()]
    if not excess.numel():
        return []
    firsts = (~excess.isnan()).int().argmax(dim=0)
    begins = sorted(set(firsts.tolist()))
    groups = []
    for begin, end in zip(begins, [*begins[1:], len(seconds)], strict=True):
        mean_excess = excess[begin:end, firsts == begin].mean(dim=1)
        groups.append(Group(seconds[begin - 1] if begin else 0.0, list(seconds[begin:end]), mean_excess.tolist()))
    return groups


def whole_of(costs: Sequence[float], excess: Tensor) -> Group:
    """All pairs as one group, without those that never get a path; arguments as of `groups_of`."""
    return Group(0.0, list(costs), excess[:, ~excess[-1].isnan()].mean(dim=1).tolist())


def cost_to(level: float, whole: Group | None, groups: Sequence[Group]) -> float | None:
    """Until the mean excess is at most any level: of each group for itself, added up, or of all where one never is."""
    costs = [group.seconds_to(level) for group in groups]
    if None not in costs and costs:
        return sum(costs)
    return None if whole is None else whole.seconds_to(level)


@dataclass(frozen=True)
class Curve:
    """What one method did on one decoder. Lists with an entry a pair hold None where the pair never got there.

    Args:
        problem: Name of the decoder.
        method: Name of the method.
        pairs: P.
        message: Why there is nothing else, if there is nothing else.
        remark: What the reader should know.
        statuses: Of each pair.
        reference: Minimal energy in each pair's basin.
        certified: How many of these were polished to the tolerance.
        final: Excess of each pair at the end.
        work: Target to forward passes per point, for each pair.
        seconds: Target to seconds a pair, until the mean excess of the batch is at most that.
        total: Seconds a pair of the whole run.
        whole: The run's notes, with the mean excess of the batch.
        groups: The same, by group. Where memory splits the batch, each group is timed until its own mean excess is
            small enough, as if it were the batch, and the times are added; but for levels that a group only reaches
            after another has had its turn.
        work_levels: Levels of excess, and the median work of all pairs to each of them.
    """

    problem: str
    method: str
    pairs: int
    message: str = ""
    remark: str = ""
    statuses: list[str] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    certified: int = 0
    final: list[float] = field(default_factory=list)
    work: dict[float, list[float | None]] = field(default_factory=dict)
    seconds: dict[float, float | None] = field(default_factory=dict)
    total: float = math.nan
    whole: Group | None = None
    groups: list[Group] = field(default_factory=list)
    work_levels: list[tuple[float, float]] = field(default_factory=list)

    def reached(self, level: float) -> int:
        """How many pairs end at this excess or below."""
        return sum(excess <= level for excess in self.final)

    def mean_final(self) -> float:
        """Mean excess at the end, of the pairs that have a path."""
        return mean([excess for excess in self.final if not math.isnan(excess)])

    def mean_work(self, level: float) -> float:
        """Mean over the pairs that get there."""
        return mean([work for work in self.work.get(level, []) if work is not None])

    def seconds_to(self, level: float) -> float | None:
        """Seconds a pair until the mean excess is at most any level."""
        seconds = cost_to(level, self.whole, self.groups)
        return None if seconds is None else seconds / self.pairs


def measure(problem: Problem, methods: Sequence[Method], options: argparse.Namespace) -> list[Curve]:
    """Run all methods on the problem, in turns, then count their work."""
    budget = options.budget
    traces: dict[str, list[Trace]] = {}
    failed: dict[str, str] = {}
    warm_up(problem, methods, options)
    for _ in range(options.repeats):
        for method in methods:
            done = traces.get(method.name, [])
            if method.name in failed or (done and done[0].total_seconds > options.repeat_seconds):
                continue
            try:
                traces.setdefault(method.name, []).append(method.trace(problem, budget))
            except Exception as error:  # its message is the method's row
                failed[method.name] = explain(error)
    curves = []
    for method in methods:
        try:
            if method.name in failed:
                raise _Failed(failed[method.name])
            curves.append(_curve(problem, method, traces[method.name], options))
        except _Failed as error:
            curves.append(Curve(problem.name, method.name, len(problem.start), message=str(error)))
        except Exception as error:
            curves.append(Curve(problem.name, method.name, len(problem.start), message=explain(error)))
    return curves


def warm_up(problem: Problem, methods: Sequence[Method], options: argparse.Namespace) -> None:
    """Ours in two steps on one pair: the first call of a process also pays for what torch imports on the way."""
    for method in (m for m in methods if m.ours):
        with contextlib.suppress(Exception):  # the timed run will say the same
            method.trace(problem.only(slice(1)), replace(options.budget, max_steps=2))


class _Failed(Exception):
    pass


def _curve(problem: Problem, method: Method, traces: list[Trace], options: argparse.Namespace) -> Curve:
    trace, pairs = traces[0], len(problem.start)
    reference, certified = polish(problem, trace.path)
    excess = excess_energy(trace.energies, reference)
    notes = min(len(t.seconds) for t in traces)
    seconds = [statistics.median(t.seconds[k] for t in traces) for k in range(notes)]
    curve = Curve(
        problem=problem.name,
        method=method.name,
        pairs=pairs,
        remark=trace.remark,
        statuses=trace.statuses,
        reference=reference.tolist(),
        certified=int(certified.sum()),
        final=excess[-1].tolist(),
        total=statistics.median(t.total_seconds for t in traces) / pairs,
        whole=whole_of(seconds, excess[:notes]),
        groups=groups_of(seconds, excess[:notes]),
    )
    curve.seconds.update({level: curve.seconds_to(level) for level in TARGETS})
    counted = _counted(problem, method, trace, options)
    if counted is None:
        return curve
    work, energies = counted
    excess = [excess_energy(e, reference[p]) for p, e in enumerate(energies)]

    def work_to(level: float) -> list[float | None]:
        firsts = [first_below(e, level) for e in excess]
        return [None if k is None else work[p][k] for p, k in enumerate(firsts)]

    curve.work.update({level: work_to(level) for level in TARGETS})
    for level in LEVELS:
        median = statistics.median(math.inf if w is None else w for w in work_to(level))
        if math.isfinite(median):
            curve.work_levels.append((level, median))
    return curve


def _counted(
    problem: Problem, method: Method, trace: Trace, options: argparse.Namespace
) -> tuple[list[list[float]], list[Tensor]] | None:
    """Work at each note, and the energies there, for each pair; None where the work is not counted."""
    pairs = len(problem.start)
    one_pass = flops_of(lambda: problem.manifold.embed(problem.only(slice(1)).straight()))
    if method.counted and not method.together:
        traces = [
            method.trace(problem.only(slice(p, p + 1)), options.budget, FlopCounter())
            for p in range(min(pairs, options.counted or pairs))
        ]
        return [[f / one_pass for f in t.flops] for t in traces], [t.energies[:, 0] for t in traces]
    if method.counted:
        trace = method.trace(problem, options.budget, FlopCounter())
    if trace.flops is None:
        return None
    shared = [f / pairs / one_pass for f in trace.flops]
    return [shared] * pairs, list(trace.energies.T)


def mean(values: Sequence[float]) -> float:
    """NaN where there is nothing."""
    return statistics.fmean(values) if values else math.nan
