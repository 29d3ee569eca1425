"""What a plan chooses among: the whole call by each solver, counted on decoders of several kinds.

Work is counted in decoder forward passes per path point, a pair, as everywhere. An exact Hessian's is that of
forming it on a path, a product's that of one product with the Hessian, its gradient known; both in the same unit.
*Timed* is the ratio of the two by the clock, which the plan goes by, or - where the latent size alone decides.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import geodesic
from geodesic.geometry.costs import Meter
from geodesic.solvers.solver import Solver
from scripts.benchmarks.counting import FlopCounter, flops_of
from scripts.benchmarks.heavy.works import WORKS, work_problem
from scripts.benchmarks.options import make_parser, positive, segment_count
from scripts.benchmarks.records import versions_line
from scripts.benchmarks.solvers.problems import Problem, decoder_problem
from scripts.benchmarks.tables import rows_table

SOLVERS: dict[str, Solver[Any] | str] = {
    "auto": "auto",
    "Newton": geodesic.Newton(),
    "NewtonKrylov": geodesic.NewtonKrylov(),
}


def problem_of(name: str, options: argparse.Namespace) -> Problem:
    """A work of `heavy`, or a decoder of `solvers`, by its name."""
    if name in WORKS:
        return work_problem(name, options.runs, options.pairs, options.segments, torch.float64)
    return decoder_problem(name, options.runs, options.pairs, options.segments or 32)


def measure(problem: Problem, options: argparse.Namespace) -> dict[str, str]:
    """One line of the table."""
    manifold, path = problem.manifold, problem.straight()
    d = path.shape[-1]
    unit = flops_of(lambda: manifold.observe(path))
    _, gradient, product = manifold.gradient_and_product(path)
    row = {"d": str(d), "product": f"{flops_of(lambda: product(gradient)) / unit:.1f}"}
    few = d <= options.most
    row["exact Hessian"] = f"{flops_of(lambda: manifold.expansion(path[:1])) / unit * len(path):.1f}" if few else "-"
    meter = Meter(manifold, problem.start[:1])
    row["timed"] = f"{meter.seconds_a_node('expansion') / meter.seconds_a_node('product'):.1f}" if few else "-"
    for name in options.solvers:
        if name == "Newton" and not few:
            row[name] = "-"
            continue
        with FlopCounter() as counter:
            solution = geodesic.solve(
                manifold,
                problem.start,
                problem.end,
                segments=problem.segments,
                tol=options.tol,
                solver=SOLVERS[name],
            )
        passes = counter.flops / unit
        row[name] = f"{passes:.0f} ({int(solution.converged.sum())} of {len(path)})"
        if name == "auto":
            row["chosen"] = type(solution.plan.solver).__name__
    return row


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, str]]:
    """Measure, print the table and return its rows."""
    parser = make_parser("plans", __doc__)
    works = ["elu-2", "elu-16", "mnist-conv-2", "mnist-conv-16", "conv-bn-32", "dcgan-100", "transformer-128"]
    parser.add_argument("--works", nargs="+", default=works, help=f"of {', '.join(WORKS)}, or as in `solvers`")
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS, default=list(SOLVERS))
    parser.add_argument("--most", type=positive, default=32, help="latent coordinates up to which Hessians are formed")
    parser.add_argument("--pairs", type=positive, default=4)
    parser.add_argument("--segments", type=segment_count, help="T of all works; by default each has its own")
    parser.add_argument("--tol", type=float, default=1e-4)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the trained VAEs are")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    console = Console()
    console.print(versions_line(1), highlight=False)
    rows = {}
    for name in options.works:
        rows[name] = measure(problem_of(name, options), options)
        console.print(
            rows_table(f"passes a pair at tol {options.tol:g}, and pairs converged", "work", {name: rows[name]})
        )
    return rows
