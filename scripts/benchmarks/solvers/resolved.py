"""What an answer costs: with as many segments as each pair needs, and with a fixed number of them."""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console

import geodesic
from scripts.benchmarks.counting import flops_of
from scripts.benchmarks.solvers.headlines import Headline
from scripts.benchmarks.solvers.methods import explain
from scripts.benchmarks.solvers.problems import Problem, decoder_problem
from scripts.benchmarks.tables import make_table

SEED = 5  # of the order in which held-out points are paired
SEGMENTS = 32  # of the forward pass that is the unit: 33 points a pair
SEARCHES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "segments=32, tol=1e-3": {"segments": 32, "tol": 1e-3},
    "segments=32, tol=1e-6": {"segments": 32, "tol": 1e-6},
    "segments=128": {"segments": 128},
}
_HEADINGS = ("search", "converged", "resolved", "segments: pairs", "ms a pair", "pass-times", "passes a pair")


def section(options: argparse.Namespace, console: Console) -> tuple[list[dict], list[Headline]]:
    """Pairs resolved, and the cost in milliseconds, in times of a forward pass, and in counted passes."""
    rows, headlines = [], []
    for name in options.resolved_decoders:
        problem = neighbors(decoder_problem(name, options.runs, 1, SEGMENTS), options.pairs)
        found = _measure(problem, options)
        rows += found
        table = make_table(f"{name}, {len(problem.start)} pairs, float64", *_HEADINGS, words=("search",))
        for row in found:
            if row["message"]:
                table.add_row(row["search"], *("-" for _ in range(5)), row["message"])
                continue
            segments = ", ".join(f"{T}: {count}" for T, count in row["segments"].items())
            costs = [f"{row[key]:.1f}" for key in ("milliseconds", "pass_times", "passes")]
            table.add_row(row["search"], str(row["converged"]), str(row["resolved"]), segments, *costs)
        console.print(table)
        headlines += [_headline(name, row) for row in found if not row["message"]]
    return rows, headlines


def neighbors(problem: Problem, pairs: int) -> Problem:
    """The same decoder with other pairs: of the encodings in a random order, the first to the next ones."""
    order = torch.randperm(len(problem.encodings), generator=torch.Generator().manual_seed(SEED))
    a, b = problem.encodings[order][: 2 * pairs].chunk(2)
    return replace(problem, start=a, end=b)


def _measure(problem: Problem, options: argparse.Namespace) -> list[dict]:
    """A row for each search. The searches and a forward pass take turns; work is counted in a run of its own."""
    path, pairs = problem.straight(), len(problem.start)
    rows: dict[str, dict] = {}
    times: dict[str, list[float]] = {name: [] for name in SEARCHES}

    def embed() -> None:
        with torch.no_grad():
            problem.manifold.embed(path)

    geodesic.solve(problem.manifold, problem.start[:1], problem.end[:1])  # also pays for looking at the decoder
    one_pass = flops_of(embed)
    for name in SEARCHES:
        rows[name] = {"problem": problem.name, "search": name, "pairs": pairs, "message": ""}
        try:
            rows[name] |= {"passes": flops_of(lambda name=name: _solved(problem, name)) / one_pass}
        except Exception as error:  # its message is the row
            rows[name]["message"] = explain(error)
    forward = [_seconds(embed) for _ in range(4)][1:]
    for _ in range(options.repeats):
        for name in (name for name in SEARCHES if not rows[name]["message"]):
            if times[name] and times[name][0] > options.repeat_seconds:
                continue
            times[name].append(_seconds(lambda name=name: rows[name].update(_outcome(_solved(problem, name)))))
            forward += [_seconds(embed) for _ in range(3)]
    for name, seconds in times.items():
        if seconds:
            median = statistics.median(seconds)
            rows[name] |= {"milliseconds": 1e3 * median / pairs, "pass_times": median / statistics.median(forward)}
    return list(rows.values())


def _solved(problem: Problem, name: str) -> geodesic.GeodesicSolution:
    return geodesic.solve(problem.manifold, problem.start, problem.end, **SEARCHES[name])


def _outcome(solution: geodesic.GeodesicSolution) -> dict[str, Any]:
    return {
        "converged": int(solution.converged.sum()),
        "resolved": int(solution.resolved.sum()),
        "segments": dict(sorted(Counter(solution.segments.tolist()).items())),
    }


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _headline(name: str, row: dict) -> Headline:
    shown = (
        f"{row['resolved']} of {row['pairs']} resolved, {row['milliseconds']:.1f} ms a pair, "
        f"{row['pass_times']:.0f} pass-times, {row['passes']:.0f} passes"
    )
    return Headline(f"{name}: {row['search']}", shown)
