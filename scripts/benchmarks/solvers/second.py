"""The second work: an untrained decoder whose figures at other programs are known."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console
from scipy.interpolate import CubicSpline
from torch import Tensor

import geodesic
from scripts.benchmarks.counting import Trace
from scripts.benchmarks.solvers.excess import excess_energy, first_below, polish, warm_up
from scripts.benchmarks.solvers.headlines import DEFAULT, Headline
from scripts.benchmarks.solvers.methods import between, explain
from scripts.benchmarks.solvers.problems import STRETCHES, Problem, second_problem
from scripts.benchmarks.tables import counts, make_table

CHORDS = 400
LBFGS, LEVEL = "torch-lbfgs", 1e-3  # what our whole call is compared with, and to which mean excess energy


def section(options: argparse.Namespace, console: Console) -> tuple[list[dict], list[Headline]]:
    """Length over the straight line's, against milliseconds of the whole call."""
    rows, headlines = [], []
    for stretch in STRETCHES:
        problem = second_problem(stretch, options.pairs)
        found = _measure(problem, options)
        title = f"{problem.name}, {len(problem.start)} pairs: length of the spline over the straight line's, mean"
        table = make_table(title, "method", "tol", "ratio", "ms a pair", f"to {LEVEL:g}", "ended")
        for row in found:
            tol = "" if row["tol"] is None else f"{row['tol']:g}"
            cells = ["-", "-", "-"]
            if not row["message"]:
                early = "-" if row["early"] is None else f"{row['early']:.2f}"
                cells = [f"{row['ratio']:.6f}", f"{row['milliseconds']:.2f}", early]
            table.add_row(row["method"], tol, *cells, row["message"] or row["remark"])
        console.print(table)
        rows += found
        headlines += [
            Headline(
                f"{problem.name}: length ratio, tol {row['tol']:g}",
                f"{row['ratio']:.5f} at {row['milliseconds']:.1f} ms a pair",
            )
            for row in found
            if row["method"] == DEFAULT and not row["message"]
        ]
        headlines += _beside_lbfgs(problem.name, found)
    return rows, headlines


def _beside_lbfgs(name: str, rows: Sequence[dict]) -> list[Headline]:
    """Our whole call at its usual tolerance, and what torch's L-BFGS takes to an excess."""
    ours = [row for row in rows if row["method"] == DEFAULT and not row["message"]]
    theirs = [row for row in rows if row["method"] == LBFGS and not row["message"]]
    if not (ours and theirs):
        return []
    row = min(ours, key=lambda row: row["tol"])
    early = f"{theirs[0]['early']:.1f} ms" if theirs[0]["early"] is not None else "never"
    what = f"{name}: our whole call, tol {row['tol']:g}, and {LBFGS} to an excess of {LEVEL:g}, a pair"
    return [Headline(what, f"{row['milliseconds']:.1f} ms, {early}")]


def _measure(problem: Problem, options: argparse.Namespace) -> list[dict]:
    """A row for each method, and for each tol of ours; the runs take turns."""
    cases = [(method, tol) for method in options.methods for tol in (options.second_tol if method.ours else [None])]
    rows = [{"problem": problem.name, "method": method.name, "tol": tol, "message": ""} for method, tol in cases]
    times: list[list[float]] = [[] for _ in cases]
    early: list[float | None] = []  # of torch's L-BFGS, in seconds
    warm_up(problem, options.methods, options)
    for _ in range(options.repeats):
        for (method, tol), row, seconds in zip(cases, rows, times, strict=True):
            if row["message"] or (seconds and seconds[0] > options.repeat_seconds):
                continue
            try:
                trace = method.trace(problem, options.budget if tol is None else replace(options.budget, tol=tol))
            except Exception as error:  # its message is the row
                row["message"] = explain(error)
                continue
            seconds.append(trace.total_seconds)
            found = ~trace.energies[-1].isnan()
            row["ratio"] = float(length_ratio(problem, trace.path)[found].mean())
            row["milliseconds"] = 1e3 * statistics.median(seconds) / len(problem.start)
            row["remark"] = trace.remark or counts(trace.statuses)
            row["early"] = None
            if method.name == LBFGS:
                early.append(_seconds_to(LEVEL, problem, trace))
                if None not in early:
                    row["early"] = 1e3 * statistics.median(early) / len(problem.start)
    return rows


def _seconds_to(level: float, problem: Problem, trace: Trace) -> float | None:
    """Seconds until the mean excess of the batch, over the minima in its own basins, is at most a level."""
    reference, _ = polish(problem, trace.path)
    k = first_below(excess_energy(trace.energies, reference).mean(1), level)
    return None if k is None else trace.seconds[k]


def length_ratio(problem: Problem, path: Tensor) -> Tensor:
    """Length of the not-a-knot spline through the nodes over that of the straight line, (P,), both by 400 chords."""
    t = np.linspace(0, 1, path.shape[1])
    spline = CubicSpline(t, np.eye(path.shape[1]), bc_type="not-a-knot")(np.linspace(0, 1, CHORDS + 1))
    curve = torch.as_tensor(spline, dtype=path.dtype) @ between(problem, path)
    line = geodesic.straight_path(problem.start, problem.end, CHORDS)
    with torch.no_grad():
        curve_length, line_length = (problem.manifold.squared_chords(p).sqrt().sum(-1) for p in (curve, line))
    return curve_length / line_length
