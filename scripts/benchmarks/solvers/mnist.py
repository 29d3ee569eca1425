"""Work and time to a relative excess energy: tables, the work-precision diagram, and headlines."""

from __future__ import annotations

import argparse
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scripts.benchmarks.figures import make_figure
from scripts.benchmarks.solvers.excess import LEVELS, TARGETS, Curve, mean, measure
from scripts.benchmarks.solvers.headlines import DEFAULT, Headline
from scripts.benchmarks.solvers.problems import decoder_problem
from scripts.benchmarks.tables import make_table

LBFGS, STOCHMAN = "torch-lbfgs", "stochman"  # what ours is compared with
SAME_BASIN = 1.01  # energies within 1 %, so lengths within 0.5 %


def section(options: argparse.Namespace, console: Console) -> tuple[list[dict], list[Headline]]:
    """Work and time to a relative excess energy."""
    curves: list[Curve] = []
    for name in options.decoders:
        problem = decoder_problem(name, options.runs, options.pairs, options.segments, options.seed)
        found = measure(problem, options.methods, options)
        console.print(work_table(found), time_table(found), sep="\n")
        curves += found
    draw(curves, options.out / "work-precision.png")
    headlines = [headline for name in options.decoders for headline in headlines_of(curves, name)]
    return [asdict(curve) for curve in curves], headlines


def work_table(curves: Sequence[Curve]) -> Table:
    """Forward passes per point to each excess."""
    first = curves[0]
    title = f"{first.problem}, {first.pairs} pairs: forward passes per point to an excess, mean / median (pairs)"
    table = make_table(title, "method", *(f"to {level:g}" for level in TARGETS), "at 1e-6", "worse basin", "ended")
    best = _best_reference(curves)
    for curve in curves:
        if curve.message:
            table.add_row(curve.method, *("-" for _ in range(len(TARGETS) + 2)), curve.message)
            continue
        cells = []
        for level in TARGETS:
            work = [w for w in curve.work.get(level, []) if w is not None]
            cells.append(f"{mean(work):.0f} / {statistics.median(work):.0f} ({len(work)})" if work else "-")
        worse = sum(e > SAME_BASIN * b for e, b in zip(curve.reference, best, strict=True))
        ended = ", ".join(f"{n} {status}" for status, n in Counter(curve.statuses).items() if status != "-")
        table.add_row(curve.method, *cells, f"{curve.reached(1e-6)}", f"{worse}", curve.remark or ended)
    return table


def time_table(curves: Sequence[Curve]) -> Table:
    """Milliseconds a pair until the mean excess of the batch is small enough."""
    title = f"{curves[0].problem}: milliseconds a pair until the mean excess is at most"
    table = make_table(title, "method", *(f"{level:g}" for level in TARGETS), "whole run", "final excess", "polished")
    for curve in (c for c in curves if not c.message):
        cells = ["-" if s is None else f"{1e3 * s:.2f}" for s in curve.seconds.values()]
        table.add_row(
            curve.method, *cells, f"{1e3 * curve.total:.2f}", f"{curve.mean_final():.1e}", f"{curve.certified}"
        )
    return table


def _best_reference(curves: Sequence[Curve]) -> list[float]:
    return [min(energies) for energies in zip(*(c.reference for c in curves if c.reference), strict=True)]


def draw(curves: Sequence[Curve], file: Path) -> None:
    """Excess against time and against work, a row for each decoder."""
    import matplotlib

    names = list(dict.fromkeys(curve.problem for curve in curves))
    methods = list(dict.fromkeys(curve.method for curve in curves))
    colors = dict(zip(methods, matplotlib.colormaps["tab20"].colors, strict=False))
    figure = make_figure(12, 4 * len(names), dpi=120)
    axes = figure.subplots(len(names), 2, squeeze=False)
    for row, name in zip(axes, names, strict=True):
        for curve in (c for c in curves if c.problem == name and not c.message):
            width = 2 if curve.method == DEFAULT else 1
            style = {"color": colors[curve.method], "label": curve.method, "linewidth": width}
            timed = [(level, s) for level in LEVELS if (s := curve.seconds_to(level)) is not None]
            for axis, points, scale in ((row[0], timed, 1e3), (row[1], curve.work_levels, 1)):
                levels, cost = [level for level, _ in points], [scale * c for _, c in points]
                # A method with one note is a point, drawn where it ends.
                if len(set(cost)) == 1:
                    levels, cost = levels[-1:], cost[-1:]
                axis.plot(cost, levels, marker="o" if len(cost) == 1 else None, **style)
        row[0].set(xlabel="milliseconds a pair", ylabel="mean relative excess energy", title=name)
        row[1].set(xlabel="forward passes per point (median pair)", ylabel="relative excess energy", title=name)
        for axis in row:
            axis.set(xscale="log", yscale="log")
            axis.grid(alpha=0.3)
    if any(not curve.message for curve in curves):
        row[0].legend(fontsize="small")
    figure.savefig(file)


def headlines_of(curves: Sequence[Curve], name: str) -> list[Headline]:
    """The headlines of one decoder."""
    found = {c.method: c for c in curves if c.problem == name and not c.message}
    if DEFAULT not in found:
        return []
    ours = found[DEFAULT]
    late = [status for excess, status in zip(ours.final, ours.statuses, strict=True) if not excess <= 1e-6]
    reached = f"{ours.reached(1e-6)} of {ours.pairs}" + (f"; the others: {', '.join(late)}" if late else "")
    work, count = ours.mean_work(1e-4), sum(w is not None for w in ours.work[1e-4])
    headlines = [
        Headline(f"{name}: pairs at excess 1e-6", reached),
        Headline(f"{name}: work to excess 1e-4, mean", f"{work:.1f} ({count} pairs)"),
    ]
    if LBFGS in found:
        times = _times_as_fast(ours, found[LBFGS], 1e-3)
        headlines.append(Headline(f"{name}: times as fast as {LBFGS}, to excess 1e-3", times))
    if STOCHMAN in found:
        level = found[STOCHMAN].mean_final()
        times = _times_as_fast(ours, found[STOCHMAN], level, whole=True)
        headlines.append(Headline(f"{name}: times as fast as {STOCHMAN}, to its final excess, {level:.1e}", times))
        ratio = level / ours.mean_final() if ours.mean_final() > 0 else math.inf
        headlines.append(Headline(f"{name}: {STOCHMAN}'s final excess over ours", f"{ratio:.2g}"))
    return headlines


def _times_as_fast(ours: Curve, other: Curve, level: float, whole: bool = False) -> str:
    """The other's time to the level, or of its whole run, over ours."""
    mine, theirs = ours.seconds_to(level), other.total if whole else other.seconds_to(level)
    if mine is None:
        return f"{ours.method} does not get there"
    if theirs is None:  # what it took to fail is a lower bound
        return f"> {other.total / mine:.1f} ({other.method} does not get there)"
    return f"{theirs / mine:.1f}"
