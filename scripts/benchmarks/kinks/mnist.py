"""Pairs of held-out images on VAEs of MNIST: ReLU beside ELU, ours beside other programs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch import Tensor

import geodesic
from scripts.benchmarks.counting import Recorder
from scripts.benchmarks.kinks.measure import LONGER, curve_length, led_on, outcome, polygon_length, solved
from scripts.benchmarks.records import write_json
from scripts.benchmarks.solvers.catalog import all_methods
from scripts.benchmarks.solvers.grid import grid_paths
from scripts.benchmarks.solvers.methods import Budget, explain
from scripts.benchmarks.solvers.problems import Problem, decoder_problem
from scripts.benchmarks.solvers.resolved import neighbors

__all__ = ["STARTS", "ours", "peers"]

STARTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "best": {"init": "best"},
    "graph, finely": {"init": "graph", "length_rtol": 1e-4},
}
PEERS = ("stochman", "torch-lbfgs")
WITHIN = 1e-3  # of the best length known
FINE = 2048  # segments of a spline before it is measured
SEGMENTS = 32  # of other programs, and of paths in the grid before they are solved
Row = dict[str, Any]


class Best:
    """The least lengths known of pairs, (P,), kept in a file for the next run."""

    def __init__(self, problem: Problem, options: argparse.Namespace) -> None:
        self.file: Path = options.out / "known.json"
        self.key = f"{problem.name}, {options.pairs} pairs"
        self.straight = polygon_length(problem.manifold, torch.stack([problem.start, problem.end], 1))
        kept = self._kept().get(self.key)
        self.length = self.straight if kept is None else self.straight.minimum(torch.tensor(kept).to(self.straight))

    def _kept(self) -> dict[str, list[float]]:
        return json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else {}

    def add(self, length: Tensor) -> None:
        """Another curve is known for each pair."""
        self.length = self.length.minimum(length.nan_to_num(torch.inf))
        write_json(self.file, self._kept() | {self.key: self.length.tolist()})

    def compared(self, length: Tensor) -> Row:
        """How lengths stand beside the best ones and the straight lines'."""
        ratio = length / self.length
        return {
            "within 0.1 %": int((ratio <= 1 + WITHIN).sum()),
            "worst, %": 100 * float(ratio.max() - 1),
            "longer than straight": int((length > self.straight * (1 + LONGER)).sum()),
        }


def _problem(name: str, options: argparse.Namespace) -> Problem:
    return neighbors(decoder_problem(name, options.runs, 1, SEGMENTS), options.pairs)


def ours(options: argparse.Namespace) -> Iterator[tuple[str, Row]]:
    """A row for each decoder and start. Lengths are compared after all of them are known."""
    rows: dict[str, Row] = {}
    for decoder in options.decoders:
        problem = _problem(decoder, options)
        best, lengths = Best(problem, options), {}
        solved(problem.manifold, problem.start[:1], problem.end[:1])  # pays for looking at the decoder
        for name in options.starts:
            points = problem.encodings if "init" in STARTS[name] else None
            found = solved(problem.manifold, problem.start, problem.end, graph_points=points, **STARTS[name])
            rows[f"{decoder}, {name}"] = outcome(*found)
            if name == "defaults":
                rows[f"{decoder}, {name}"] |= led_on(problem.manifold, found[0], options.again)
            lengths[name] = curve_length(problem.manifold, found[0])
            best.add(lengths[name])
        if options.grid and problem.start.shape[1] == 2:
            _from_the_grid(problem, best, options.grid)
        for start, length in lengths.items():
            name = f"{decoder}, {start}"
            row, smooth = rows[name], rows.get(name.replace("relu", "elu"), {})
            times = row["s"] / smooth["s"] if smooth and decoder.startswith("relu") else "-"
            yield name, row | best.compared(length) | {"times ELU": times}


def _from_the_grid(problem: Problem, best: Best, size: int) -> None:
    """Paths of a grid over the plane, as they are before and after they are solved from."""
    fine = replace(problem, segments=512)
    paths, _ = grid_paths(fine, size)
    best.add(polygon_length(problem.manifold, paths))
    solution, _ = solved(problem.manifold, problem.start, problem.end, init=paths[:, ::16], length_rtol=1e-4)
    best.add(curve_length(problem.manifold, solution))


def peers(options: argparse.Namespace) -> Iterator[tuple[str, Row]]:
    """A row for each decoder and program."""
    for decoder in options.decoders:
        problem = _problem(decoder, options)
        best, rows, lengths = Best(problem, options), {}, {}
        for method in (method for method in all_methods() if method.name in PEERS):
            name = f"{decoder}, {method.name}"
            try:
                recorder = Recorder(problem.manifold, clock=process_time)
                answer = method.run(problem, recorder, Budget())
            except Exception as error:  # its message is the row
                yield name, {"remark": explain(error)}
                continue
            rows[name] = {"pairs": len(problem.start), "s": recorder.seconds(), "remark": answer.remark}
            lengths[name] = _read_best(problem, answer.path)
            best.add(lengths[name])
        for name, length in lengths.items():
            yield name, rows[name] | best.compared(length)


def _read_best(problem: Problem, path: Tensor) -> Tensor:
    """Lengths of curves of which nodes alone are known: of the polygons or of the splines, whichever are shorter."""
    fine = torch.cat([geodesic.refine_path(some, FINE) for some in path.split(8)])
    return polygon_length(problem.manifold, path).minimum(polygon_length(problem.manifold, fine))
