"""Decoders that are dear, or have many latent coordinates: our whole call beside torch's L-BFGS.

torch's L-BFGS works on the interior nodes of all pairs at once (strong Wolfe, history 20, no tolerances). The unit of
work is a VJP-equivalent, all floating-point operations that torch's flop registry knows over those of one forward and
backward pass of the energy of a pair's path: every evaluation of L-BFGS is one. Costs are those a pair, to the call's
or the evaluation's end, until the mean excess energy of the pairs is at most a level. Seconds are those of the
processor, and include the counting.

The excess of a path is its energy over that of the minimum in its own basin, minus 1. Minima are paths of ours (tol
1e-6) and of L-BFGS, polished to 1e-9; where no certified one lies below a path, the lowest energy that any run knows
takes its place, and the remark says for how many pairs.

Every run is made in a process of its own, whose memory is measured beside that of one backward pass of all paths.

Writes NAME.json for each work into the folder --out. VAEs that are not in --runs are trained first.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from scripts.benchmarks.heavy.apart import run_apart
from scripts.benchmarks.heavy.references import lowest_energies, minima
from scripts.benchmarks.heavy.rows import row_of, stages_text, summary_table, work_table
from scripts.benchmarks.heavy.runs import Outcome, Spec, run, vjp_flops, warm_up
from scripts.benchmarks.heavy.works import WORKS, work_problem
from scripts.benchmarks.options import make_parser, positive, segment_count
from scripts.benchmarks.records import plain, versions, versions_line, write_json
from scripts.benchmarks.solvers.problems import Problem

LBFGS, CLAIMING = "torch-lbfgs", 1e-6  # the method that ours stands beside; the `tol` whose claims are looked at


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("heavy", __doc__)
    names = list(WORKS)
    parser.add_argument("--works", nargs="+", choices=names, default=names[:-1], help=f"of {', '.join(names)}")
    parser.add_argument("--pairs", type=positive, nargs="+", default=[1, 16], help="the first pairs of a work")
    parser.add_argument("--segments", type=segment_count, help="T of all works; by default each has its own")
    parser.add_argument("--tol", type=float, nargs="+", default=[1e-4, CLAIMING], help="of ours")
    parser.add_argument("--iterations", type=positive, default=500, help="most of torch's L-BFGS")
    parser.add_argument("--seconds", type=float, default=600.0, help="after which a run is stopped")
    parser.add_argument("--polish-seconds", type=float, default=600.0, help="after which polishing a path is stopped")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument(
        "--here", action="store_true", help="make all runs in this process, which does not measure their memory"
    )
    parser.add_argument("--threads", type=positive, default=1, help="of torch")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the trained VAEs are")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/heavy"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Measure the works one after the other, print their tables and return their rows."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    console = Console()
    console.print(versions_line(options.threads), highlight=False)
    if options.here:
        warm_up()
    results = {}
    for name in options.works:
        problem = work_problem(name, options.runs, max(options.pairs), options.segments, getattr(torch, options.dtype))
        rows, backward = measure(problem, options, console)
        title = f"{name}: d = {problem.start.shape[1]}, T = {problem.segments}, {options.dtype}; costs a pair"
        console.print(work_table(title, rows, backward))
        for row in (row for row in rows if row["stages_vjps"]):
            console.print(stages_text(row), highlight=False)
        record = {"versions": versions(), "settings": vars(options), "backward_bytes": backward, "rows": rows}
        write_json(options.out / f"{name}.json", plain(record))
        results[name] = rows
    console.print(summary_table(results))
    return results


def measure(
    problem: Problem, options: argparse.Namespace, console: Console
) -> tuple[list[dict[str, Any]], dict[int, int]]:
    """The rows of all runs on one work, and number of pairs to the memory of one backward pass."""
    limits = {"seconds": options.seconds, "iterations": options.iterations}
    specs = [Spec("ours", tol, **limits) for tol in options.tol] + [Spec(LBFGS, **limits)]

    def made(pairs: int, spec: Spec) -> Outcome:
        outcome = (run if options.here else run_apart)(problem.only(slice(pairs)), spec)
        seconds = outcome.trace.total_seconds
        console.print(f"{problem.name}, {pairs} pairs, {spec.name}: {seconds:.1f} s", outcome.message, highlight=False)
        return outcome

    counts = sorted(set(options.pairs))
    backward = {} if options.here else {pairs: made(pairs, Spec("backward")).peak_bytes or 0 for pairs in counts}
    runs = [(spec, made(pairs, spec)) for pairs in counts for spec in specs]
    # The most exact of ours and L-BFGS, with all pairs: others end in the same basins, or in better ones.
    polished = [
        made(counts[-1], Spec("polish", seconds=options.polish_seconds, init=outcome.trace.path))
        for spec, outcome in runs[-len(specs) :]
        if spec in (specs[-1], min(specs[:-1], key=lambda spec: spec.tol)) and bool(outcome.trace.path.isfinite().all())
    ]
    certified = minima(polished, counts[-1])
    known = lowest_energies([*(outcome for _, outcome in runs), *polished], counts[-1])
    unit = vjp_flops(problem)
    rows = [row_of(spec, outcome, unit, certified, known) for spec, outcome in runs]
    return rows, backward
