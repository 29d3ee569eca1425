"""What every method needs on one problem: rows of the metric, operations, seconds."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

import geodesic
from geodesic.solvers.solver import Solver
from scripts.benchmarks.counting import Operations
from scripts.benchmarks.georce.method import Georce
from scripts.benchmarks.georce.metrics import Metric, Problem

GEORCE, HALVING, NEWTON, LBFGS, LBFGS_FULL = METHODS = (
    "GEORCE",
    "GEORCE, 1/2",
    "Newton",
    "L-BFGS",
    "L-BFGS, G(z)",
)
TOLERANCES = (1e-6, 1e-10)
LEVELS = (1e-2, 1e-3, 1e-6)  # excess energies to which rows and times are measured
SHARE = 0.9  # of the pairs that have to be there: a pair that never arrives should not hide the others


@dataclass(frozen=True)
class Row:
    """One method on one problem.

    Args:
        problem: Its name.
        segments: T.
        method: One of `METHODS`.
        converged: Pairs that converged, for each of `TOLERANCES`.
        steps: Median steps of a pair to the last tolerance.
        rows: Rows of the metric a pair and segment: to each of `LEVELS`, then of the whole solve for each tolerance.
        operations: Operations of the whole solve to the last tolerance, in evaluations of the metric on one row, a
            pair and segment.
        milliseconds: Median times: to each of `LEVELS`, then of the whole solve for each tolerance.
        length: Mean final length.
        shortest: Pairs whose length is within 1e-4 of the shortest that any method found.
    """

    problem: str
    segments: int
    method: str
    converged: tuple[int, ...]
    steps: float
    rows: tuple[float, ...]
    operations: float
    milliseconds: tuple[float, ...]
    length: float
    shortest: int


def solvers(segments: int) -> dict[str, Solver[Any]]:
    return {
        GEORCE: Georce(),
        HALVING: Georce(adaptive=False),
        NEWTON: geodesic.Newton(),
        LBFGS: geodesic.LBFGS(),
        LBFGS_FULL: geodesic.LBFGS(metric_samples=segments),
    }


class _Run(NamedTuple):
    solution: geodesic.GeodesicSolution
    seconds: float
    rows: int
    trace: list[tuple[Tensor, float, int]]  # energies, seconds, rows


def run(problem: Problem, solver: Solver[Any], init: Tensor, tol: float) -> _Run:
    """One solve, and what it took until each step."""
    manifold, trace = Metric(problem.metric), []
    begin = time.perf_counter()

    def callback(progress: geodesic.solvers.Progress) -> None:
        if progress.stepped:
            trace.append((progress.energy, time.perf_counter() - begin, manifold.rows))

    solution = geodesic.solve(
        manifold,
        problem.start,
        problem.end,
        solver=solver,
        init=init,
        tol=tol,
        memory=1e12,  # all pairs at once, so that the levels mean the same for all methods
        callback=callback,
    )
    return _Run(solution, time.perf_counter() - begin, manifold.rows, trace)


def reached(one: _Run, best: Tensor) -> tuple[list[float], list[float]]:
    """Seconds and rows until most pairs were within each level of their best energy; infinite where they never were."""
    seconds, rows = [], []
    for level in LEVELS:
        there = (entry for entry in one.trace if float((entry[0] <= (1 + level) * best).double().mean()) >= SHARE)
        _, s, r = next(there, (None, math.inf, math.inf))
        seconds.append(s)
        rows.append(r)
    return seconds, rows


def measure(problem: Problem, segments: int, repeats: int) -> list[Row]:
    """Every method on one problem."""
    methods, unit = solvers(segments), len(problem.start) * segments
    with Operations() as one:
        problem.metric(problem.start)
    init = geodesic.geometry.constant_speed(
        Metric(problem.metric), geodesic.straight_path(problem.start, problem.end, segments)
    )
    price = one.total / len(problem.start)
    operations: dict[str, float] = {}
    for name, solver in methods.items():
        with Operations() as counted:
            run(problem, solver, init, TOLERANCES[-1])
        operations[name] = counted.total / price / unit
    runs: dict[str, list[list[_Run]]] = {name: [] for name in methods}
    for _ in range(repeats):
        for name, solver in methods.items():
            runs[name].append([run(problem, solver, init, tol) for tol in TOLERANCES])

    lengths = {name: runs[name][0][-1].solution.length for name in methods}
    shortest = torch.stack(list(lengths.values())).amin(0)
    rows = []
    for name in methods:
        loose, tight = runs[name][0]
        found = tight.solution
        best = found.energy * torch.where(found.converged, 1 - found.relative_excess_energy, 1)
        times = [reached(repeat[-1], best)[0] + [each.seconds for each in repeat] for repeat in runs[name]]
        rows.append(
            Row(
                problem.name,
                segments,
                name,
                tuple(int(each.solution.converged.sum()) for each in (loose, tight)),
                float(tight.solution.iterations.double().median()),
                tuple(r / unit for r in (*reached(tight, best)[1], loose.rows, tight.rows)),
                operations[name],
                tuple(1e3 * statistics.median(column) for column in zip(*times, strict=True)),
                float(lengths[name].mean()),
                int((lengths[name] <= shortest * (1 + 1e-4)).sum()),
            )
        )
    return rows
