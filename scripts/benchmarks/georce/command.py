"""GEORCE against the solvers of this library, on manifolds that are given by a metric tensor alone.

    GEORCE        `georce.method.Georce`, with a line search for every pair
    GEORCE, 1/2   the same with the published line search: from a full step on, by halves
    Newton        geodesic.Newton(), which is what `solve` chooses here
    L-BFGS        geodesic.LBFGS()
    L-BFGS, G(z)  geodesic.LBFGS(metric_samples=T): preconditioned by the metric of every segment

All begin at the straight line at constant speed. Excess energies are measured from the minimum that the path itself was
led to, so each method has its own basin. Work is counted in rows of the metric, a backward pass like a forward one and
an expansion as the 2 + 4 d passes that it takes, and in operations. Times are medians; the methods take turns, so that
noise hits all alike.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.table import Table

from scripts.benchmarks.georce.measure import GEORCE, LEVELS, METHODS, NEWTON, SHARE, TOLERANCES, Row, measure
from scripts.benchmarks.georce.metrics import problems
from scripts.benchmarks.options import make_parser, positive, segment_count
from scripts.benchmarks.records import versions_line
from scripts.benchmarks.tables import make_table

MARGIN = 0.9  # a ratio above it is a tie


def table(rows: Sequence[Row], pairs: int) -> Table:
    """The rows as a table, a section for each problem and T."""
    headings = [
        "metric",
        "T",
        "method",
        *(f"conv. {tol:.0e}" for tol in TOLERANCES),
        "steps",
        *(f"rows to {level:.0e}" for level in LEVELS),
        "rows, all",
        "ops, all",
        *(f"ms to {level:.0e}" for level in LEVELS),
        *(f"ms, tol {tol:.0e}" for tol in TOLERANCES),
        "length",
        "shortest",
    ]
    shown = make_table(f"{pairs} pairs, float64", *headings)
    for row in rows:
        first = row.method == METHODS[0]
        shown.add_row(
            row.problem if first else "",
            str(row.segments) if first else "",
            row.method,
            *(str(n) for n in row.converged),
            f"{row.steps:.0f}",
            *(f"{r:.0f}" for r in (*row.rows[: len(LEVELS)], row.rows[-1])),
            f"{row.operations:.0f}",
            *(f"{ms:.0f}" for ms in row.milliseconds),
            f"{row.length:.5f}",
            str(row.shortest),
            end_section=row.method == METHODS[-1],
        )
    return shown


def verdict(rows: Sequence[Row]) -> list[str]:
    """Where GEORCE needs less than Newton, and than the best of this library, to each level and in all."""
    cases: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        cases.setdefault((row.problem, row.segments), {})[row.method] = row
    columns = [f"to {level:.0e}" for level in LEVELS] + [f"of a solve at tol {tol:.0e}" for tol in TOLERANCES]
    lines = []
    for rival, rivals in (("Newton", (NEWTON,)), ("the best of ours", METHODS[2:])):
        for i, column in enumerate(columns):
            for what in ("rows", "milliseconds"):
                ratios = {}
                for case, by_method in cases.items():
                    if i >= len(LEVELS):  # who gave up early was not fast
                        most = max(row.converged[i - len(LEVELS)] for row in by_method.values())
                        by_method = {k: row for k, row in by_method.items() if row.converged[i - len(LEVELS)] == most}
                    theirs = getattr(by_method[GEORCE], what)[i] if GEORCE in by_method else math.inf
                    ours = min((getattr(by_method[k], what)[i] for k in rivals if k in by_method), default=math.inf)
                    ratios[case] = 1.0 if theirs == ours == math.inf else theirs / ours
                less = [f"{name}, T = {T} ({ratios[name, T]:.2f})" for name, T in ratios if ratios[name, T] < MARGIN]
                lines.append(
                    f"{what} {column}, GEORCE over {rival}: median {statistics.median(ratios.values()):.2f}, below "
                    f"{MARGIN} in {len(less)} of {len(ratios)}" + (": " + "; ".join(less) if less else "")
                )
    return lines


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("georce", __doc__)
    parser.add_argument("--segments", type=segment_count, nargs="+", default=[32, 128], metavar="T")
    parser.add_argument("--pairs", type=positive, default=32)
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--problems", nargs="+", metavar="NAME", help="those whose names begin so; all by default")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Measure, print the table and the verdict, and return the rows."""
    options = parse(arguments)
    torch.set_num_threads(1)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        chosen = [
            problem
            for problem in problems(options.pairs, options.seed)
            if not options.problems or problem.name.startswith(tuple(options.problems))
        ]
        rows = [row for problem in chosen for T in options.segments for row in measure(problem, T, options.repeats)]
    finally:
        torch.set_default_dtype(before)
    console = Console(width=260)
    console.print(versions_line(torch.get_num_threads()), highlight=False)
    console.print(table(rows, options.pairs))
    console.print(
        "rows: of the metric, forwards or backwards, a pair and segment; ops: all operations in evaluations of the "
        f"metric, a pair and segment; to a level: until {SHARE:.0%} of the pairs are within it of their own minimum; "
        "shortest: pairs within 1e-4 of the shortest length of all methods"
    )
    for line in verdict(rows):
        console.print(line, highlight=False)
    return rows
