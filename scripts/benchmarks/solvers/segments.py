"""Work and time against the number of segments."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from rich.console import Console

from scripts.benchmarks.counting import FlopCounter, flops_of
from scripts.benchmarks.solvers.excess import mean, warm_up
from scripts.benchmarks.solvers.headlines import DEFAULT, Headline
from scripts.benchmarks.solvers.methods import explain
from scripts.benchmarks.solvers.problems import decoder_problem
from scripts.benchmarks.tables import counts, make_table


def section(options: argparse.Namespace, console: Console) -> tuple[list[dict], list[Headline]]:
    """Work in forward passes of one point, and time, against T."""
    rows, headlines = [], []
    name = options.decoders[0]
    warm_up(decoder_problem(name, options.runs, 1, options.segments), options.methods, options)
    for method in (m for m in options.methods if m.ours):
        found: list[dict] = []
        message = ""
        try:
            for T in options.segment_counts:
                problem = decoder_problem(name, options.runs, options.segment_pairs, T, options.seed)
                budget = replace(options.budget, tol=1e-6)  # the default of `solve`
                times = [method.trace(problem, budget).total_seconds for _ in range(options.repeats)]
                point = flops_of(lambda problem=problem: problem.manifold.embed(problem.start[:1]))
                pairs = len(problem.start)
                counters = [FlopCounter() for _ in range(pairs)]
                traces = [method.trace(problem.only(slice(p, p + 1)), budget, counters[p]) for p in range(pairs)]
                work = mean([counter.flops / point for counter in counters])
                ended = counts([status for trace in traces for status in trace.statuses])
                found.append(
                    {"problem": name, "method": method.name, "T": T, "work": work, "ended": ended, "message": ""}
                    | {"seconds": statistics.median(times) / pairs}
                )
        except Exception as error:
            message = explain(error)
            found.append({"problem": name, "method": method.name, "message": message})
        table = make_table(f"{name}, {method.name}", "T", "work, points a pair", "work / (T + 1)", "ms a pair", "ended")
        for row in (r for r in found if not r["message"]):
            cells = [f"{row['work']:.0f}", f"{row['work'] / (row['T'] + 1):.1f}", f"{1e3 * row['seconds']:.2f}"]
            table.add_row(str(row["T"]), *cells, row["ended"])
        if message:
            table.add_row("", "-", "-", "-", message)
        elif len(found) > 1:
            slopes = {key: _slope([r["T"] for r in found], [r[key] for r in found]) for key in ("work", "seconds")}
            table.add_row("slope", f"{slopes['work']:.2f}", "", f"{slopes['seconds']:.2f}")
            if method.name == DEFAULT:
                span = f"T = {found[0]['T']} ... {found[-1]['T']}"
                for key, slope in slopes.items():
                    what = f"{name}: slope of {'time' if key == 'seconds' else key} a pair against {span}"
                    headlines.append(Headline(what, f"{slope:.2f}"))
        console.print(table)
        rows += found
    return rows, headlines


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
