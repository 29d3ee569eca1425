"""What a report takes: seconds of the processor and size, for few and many pairs, with and without neighbors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

import geodesic
from scripts.benchmarks.options import make_parser, positive
from scripts.benchmarks.records import versions_line
from scripts.benchmarks.solvers.problems import decoder_problem
from scripts.benchmarks.tables import rows_table


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, object]]:
    """Measure, print the table and return its rows."""
    parser = make_parser("report", __doc__)
    parser.add_argument("--decoder", default="elu-2", help="as in `solvers`")
    parser.add_argument("--pairs", type=positive, nargs="+", default=[8, 1000])
    parser.add_argument("--neighbors", type=int, nargs="+", default=[0, 50])
    parser.add_argument("--segments", type=positive, default=32)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the trained VAEs are")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    console = Console()
    console.print(versions_line(1), highlight=False)
    rows: dict[str, dict[str, object]] = {}
    for pairs in options.pairs:
        problem = decoder_problem(options.decoder, options.runs, pairs, options.segments)
        begun = time.process_time()
        solution = geodesic.solve(problem.manifold, problem.start, problem.end, segments=options.segments)
        solving = time.process_time() - begun
        for neighbors in options.neighbors:
            begun = time.process_time()
            page = geodesic.report(
                solution,
                manifold=problem.manifold,
                decoder=problem.manifold.decoder,
                points=problem.encodings,
                neighbors=neighbors,
            )
            rows[f"{pairs:,} pairs, {neighbors} neighbors"] = {
                "MB": len(page.html.encode()) / 1e6,
                "s": time.process_time() - begun,
                "s to solve": solving,
            }
    console.print(rows_table(f"report, {options.decoder}", "of", rows))
    return rows
