"""How many pairs reach the best length known, from each kind of start."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from rich.console import Console
from torch import Tensor

import geodesic
from scripts.benchmarks.solvers.grid import grid_paths
from scripts.benchmarks.solvers.headlines import DEFAULT, Headline
from scripts.benchmarks.solvers.methods import Method, between, explain
from scripts.benchmarks.solvers.problems import Problem, decoder_problem
from scripts.benchmarks.tables import make_table

WITHIN = 1.005  # of the best length known
FINE = 512  # segments at which lengths are measured
BENDS = (-0.5, -0.25, 0.25, 0.5)  # of straight lines, in parts of their length
LENGTH_RTOL = 1e-3  # of one row of ours and of the arcs and the grid: where 32 segments are too few, no start helps
GRID = "grid, as it is"
REFINED = f"best, length_rtol={LENGTH_RTOL:g}"


def section(options: argparse.Namespace, console: Console) -> tuple[list[dict], list[Headline]]:
    """Share of the pairs that end within 0.5 % of the best length known, on the decoders of a plane."""
    rows, headlines = [], []
    for name in [name for name in options.decoders if name.endswith("-2")]:
        problem = decoder_problem(name, options.runs, options.global_pairs, options.segments, options.seed)
        starts = _starts(problem, options)
        lengths, messages, seconds = {}, {}, {}
        for start, call in starts.items():
            begin = time.perf_counter()
            try:
                lengths[start] = call().detach().nan_to_num(torch.inf)
            except Exception as error:  # its message is the row
                messages[start] = explain(error)
            seconds[start] = time.perf_counter() - begin
        best, pairs = torch.stack(list(lengths.values())).amin(0), len(problem.start)
        title = f"{name}, {pairs} pairs: length over the best known"
        table = make_table(title, "start", "within 0.5 %", "worst", "ms a pair", "ended")
        for start in starts:
            row = {"problem": name, "start": start, "pairs": pairs, "message": messages.get(start, "")}
            if start in lengths:
                ratio = lengths[start] / best
                row |= {"within": int((ratio <= WITHIN).sum()), "ratios": ratio.tolist(), "seconds": seconds[start]}
                shown = "" if start == GRID else f"{1e3 * seconds[start] / pairs:.1f}"
                table.add_row(start, f"{100 * row['within'] / pairs:.1f} %", f"{ratio.max():.4f}", shown)
            else:
                table.add_row(start, "-", "-", "-", messages[start])
            rows.append(row)
            if start in ("best", REFINED):
                share = f"{row['within']} of {pairs}" if "within" in row else row["message"]
                what = f'{name}: within 0.5 % of the best length, init="best"' + start.removeprefix("best")
                headlines.append(Headline(what, share))
        console.print(table)
    return rows, headlines


def _starts(problem: Problem, options: argparse.Namespace) -> dict[str, Callable[[], Tensor]]:
    """Name of a start to what finds the lengths from there."""

    def default(init: str | Tensor, length_rtol: float | None = None) -> Callable[[], Tensor]:
        return lambda: _lengths(problem, options, init, length_rtol)

    def straight(method: Method) -> Callable[[], Tensor]:
        return lambda: _fine_length(problem.manifold, method.trace(problem, options.budget).path)

    paths, grid_lengths = grid_paths(problem, options.grid)
    others = [method for method in options.methods if method.ours and method.name != DEFAULT]
    return (
        {init: default(init) for init in ("straight", "graph", "best")}
        | {REFINED: default("best", LENGTH_RTOL)}
        | {f"arc {bend:+g}": default(_arc(problem, bend), LENGTH_RTOL) for bend in BENDS}
        | {GRID: lambda: grid_lengths, "grid, polished": default(paths, LENGTH_RTOL)}
        | {f"{method.name}, straight": straight(method) for method in others}
    )


def _lengths(
    problem: Problem, options: argparse.Namespace, init: str | Tensor, length_rtol: float | None = None
) -> Tensor:
    """Lengths of what the default solver makes of a start, measured finely: of a path that T does not resolve, the
    quadrature of its own segments can be wrong by a per cent.
    """
    path = geodesic.solve(
        problem.manifold,
        problem.start,
        problem.end,
        init=init,
        graph_points=None if isinstance(init, Tensor) else problem.encodings,
        segments=problem.segments,
        length_rtol=length_rtol,
        tol=options.tol,
    ).path
    return _fine_length(problem.manifold, path)


def _fine_length(manifold: geodesic.Manifold, path: Tensor) -> Tensor:
    fine = max(FINE, path.shape[1] - 1)
    return torch.cat([geodesic.path_length(manifold, geodesic.refine_path(rows, fine)) for rows in path.split(8)])


def _arc(problem: Problem, bend: float) -> Tensor:
    """The straight lines, d = 2, bent to one side by a part of their length."""
    line = problem.straight()
    across = (problem.end - problem.start).flip(-1) * torch.tensor([-1.0, 1.0], dtype=line.dtype)
    t = torch.linspace(0, 1, problem.segments + 1, dtype=line.dtype)[:, None]
    return between(problem, line + bend * (torch.pi * t).sin() * across[:, None])
