"""Distances between many points of MNIST VAEs: what matrices and neighbors cost, and how good the cheap ones are.

Points are encodings of held-out images. Passes are decoder passes over a path of 33 nodes, a pair; *warm* is the work
of pairs that begin near a neighbor's geodesic over that of the same pairs from straight lines.

Sections: `exact` (cold and warm), `cheap` (graph, landmarks and straight lines against exact), `graph` (over --many
points, in processor seconds, beside geodesics of --sample random pairs), `nearest`, `peers` (stochman and
geomstats on the first pairs: how many of their curves are longer than the straight line, and of their sums of chords
below our lengths); and, where they are asked for, `error` (lengths of `exact` beside those to a `length_rtol` of 1e-5
in double precision) and `all` (all pairs of --all points, in one call). Nothing else should be running.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

import geodesic
from geodesic.distances import DistanceMatrix, Exact, Graph, Landmarks, Straight
from geodesic.distances.order import stages
from scripts.benchmarks.counting import FlopCounter, Recorder, flops_of
from scripts.benchmarks.options import make_parser, positive
from scripts.benchmarks.records import plain, versions, versions_line, write_json
from scripts.benchmarks.solvers.catalog import all_methods
from scripts.benchmarks.solvers.methods import Budget
from scripts.benchmarks.solvers.problems import Means, Problem, mnist_vae, tiny
from scripts.benchmarks.tables import rows_table

SECTIONS = ("exact", "cheap", "graph", "nearest", "peers", "error", "all")
USUAL = 5  # of these, the first ones
METHODS = {"cold": Exact(warm=False, mend=False), "warm": Exact(mend=False), "whole": Exact()}
NODES = 33
PEERS = ("stochman", "geomstats-shooting", "geomstats-straightening")
Row = dict[str, Any]


class Case:
    """A decoder with points, in the dtype that is measured.

    Args:
        name: ACTIVATION-D of an MNIST VAE, or tiny-D with random weights.
        options: Of the command line.
    """

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        kind, _, size = name.partition("-")
        decoder, encodings = tiny(int(size)) if kind == "tiny" else mnist_vae(kind, int(size), options.runs)
        dtype = getattr(torch, options.dtype)
        self.name, self.decoder = name, decoder.to(dtype)
        order = torch.randperm(len(encodings), generator=torch.Generator().manual_seed(0))
        self.points = encodings[order].to(dtype)
        self.manifold = geodesic.PullbackManifold(self.decoder, geodesic.outputs.Euclidean(mean=torch.sigmoid))
        self.pass_flops = flops_of(lambda: self.decoder(self.points[:1])) * NODES

    def matrix(self, points: Tensor, method: object) -> tuple[DistanceMatrix, float, float]:
        """The matrix, seconds and passes, in one run each."""
        with FlopCounter() as counter:
            geodesic.distance_matrix(self.manifold, points, method=method)
        begin = time.perf_counter()
        matrix = geodesic.distance_matrix(self.manifold, points, method=method)
        return matrix, time.perf_counter() - begin, counter.flops / self.pass_flops


def exact(case: Case, options: argparse.Namespace) -> Row:
    """Pairs a second, from straight lines and from neighbors."""
    points = case.points[: options.points]
    pairs = len(points) * (len(points) - 1) // 2
    row: Row = {"points": len(points), "pairs": pairs}
    begun = sum(int((stage.near_first >= 0).sum()) for stage in stages(points))
    for name, method in METHODS.items():
        matrix, seconds, passes = case.matrix(points, method)
        i, j = matrix.pairs
        row |= {
            f"{name}: pairs/s": pairs / seconds,
            f"{name}: passes": passes / pairs,
            f"{name}: resolved": f"{int(matrix.resolved[i, j].sum())}",
        }
    width = (matrix.upper / matrix.length)[i, j] - 1
    return row | {"began warm": begun / pairs, "upper - length, %": 100 * float(width.median())}


def error(case: Case, options: argparse.Namespace) -> list[Row]:
    """Lengths beside more exact ones, and how many are off by more than they say."""
    points = case.points[: options.points]
    manifold = geodesic.PullbackManifold(case.decoder.double(), case.manifold.outputs)
    exactly = geodesic.distance_matrix(manifold, points.double(), search=geodesic.Search(length_rtol=1e-5))
    case.decoder.to(getattr(torch, options.dtype))
    rows = []
    for name, method in METHODS.items():
        matrix = geodesic.distance_matrix(case.manifold, points, method=method)
        i, j = matrix.pairs
        off, said = (matrix.length[i, j].double() / exactly.length[i, j] - 1), matrix.error[i, j]
        row: Row = {"method": name, "off, median %": 100 * float(off.abs().median())}
        row |= {"99 %": 100 * float(off.abs().quantile(0.99)), "most %": 100 * float(off.abs().max())}
        row |= {f"above {n} stated": int((off.abs() > n * said).sum()) for n in (1, 3)}
        rows.append(row | {"longer by 0.1 %": int((off > 1e-3).sum()), "pairs": len(i)})
    return rows


def whole(case: Case, options: argparse.Namespace) -> Row:
    """All pairs of many points, in one call."""
    begin = time.perf_counter()
    matrix = geodesic.distance_matrix(case.manifold, case.points[: options.all])
    seconds = time.perf_counter() - begin
    i, j = matrix.pairs
    row: Row = {"points": options.all, "pairs": len(i), "resolved": f"{int(matrix.resolved[i, j].sum())}"}
    return row | {"minutes": seconds / 60, "pairs/s": len(i) / seconds}


def cheap(case: Case, options: argparse.Namespace) -> list[Row]:
    """What graph, landmarks and straight lines say, beside all geodesics."""
    points = case.points[: options.points]
    truth, seconds, _ = case.matrix(points, Exact())
    i, j = truth.pairs
    rows = []
    for name, method in (
        ("straight, T = 32", Straight()),
        ("straight, T = 8", Straight(segments=8)),
        ("graph, 5 neighbors", Graph(sample=0)),
        ("graph, 10 neighbors", Graph(neighbors=10, sample=0)),
        ("graph, 10, no lines", Graph(neighbors=10, straight=0, sample=0)),
        ("landmarks, 20", Landmarks(min(20, len(points)))),
    ):
        matrix, taken, _ = case.matrix(points, method)
        off = ((matrix.length / truth.length)[i, j] - 1).double()
        # "exact" finds local minima, and another way may lead to a better one.
        shorter = float(((matrix.upper / truth.length)[i, j] < 1 - truth.length_rtol).double().mean())
        middle, most = (float(off.quantile(q)) for q in (0.5, 0.95))
        row = {"method": name, "longer by, median %": 100 * middle, "95 %": 100 * most}
        rows.append(row | {"times as fast": seconds / taken, "shorter than exact, %": 100 * shorter})
    return rows


def graph(case: Case, options: argparse.Namespace) -> Row:
    """The graph over many points, beside the geodesics of some pairs."""
    points = case.points[: options.many]
    geodesic.distance_matrix(case.manifold, points[:3], method=Graph(1, sample=0))  # what is done once
    begin = time.process_time()
    matrix = geodesic.distance_matrix(case.manifold, points, method=Graph(sample=0))
    seconds = time.process_time() - begin
    i, j = matrix.pairs
    drawn = torch.randperm(len(i), generator=torch.Generator().manual_seed(1))[: options.sample]
    i, j = i[drawn], j[drawn]
    begin = time.process_time()
    length = geodesic.solve(case.manifold, points[i], points[j], tol=1e-3).length
    each = (time.process_time() - begin) / len(i)
    off = (matrix.length[i, j] / length).double() - 1
    pairs = len(points) * (len(points) - 1) // 2
    row: Row = {"points": len(points), "seconds": seconds, "of exact": each * pairs}
    row |= {f"longer by, {name} %": 100 * float(off.quantile(q)) for name, q in (("median", 0.5), ("95", 0.95))}
    return row | {"times as fast": each * pairs / seconds}


def near(case: Case, options: argparse.Namespace) -> Row:
    """The nearest neighbors of some of many points."""
    points = case.points[: options.many]
    queries = points[: options.queries]
    begin = time.perf_counter()
    found = geodesic.nearest(case.manifold, points, queries, options.k)
    seconds = time.perf_counter() - begin
    return {
        "points": len(points),
        "queries": len(queries),
        "k": options.k,
        "solved, % of pairs": 100 * found.share_solved,
        "open, %": 100 * float(found.open.float().mean()),
        "unordered, %": 100 * float(found.unordered.float().mean()),
        "seconds a query": seconds / len(queries),
    }


def peers(case: Case, options: argparse.Namespace) -> list[Row]:
    """What others call the distance of pairs, beside the straight line and the chord."""
    start, end = case.points[: options.pairs].double(), case.points[options.pairs : 2 * options.pairs].double()
    network = Means(case.decoder.double())
    manifold = geodesic.PullbackManifold(network)
    problem = Problem(case.name, manifold, network, start, end, case.points.double(), 32)
    ours = geodesic.solve(manifold, start, end)
    rows = []
    for name in PEERS:
        method = next(one for one in all_methods() if one.name == name)
        begin = time.perf_counter()
        try:
            answer = method.run(problem, Recorder(manifold), Budget(peer_seconds=options.seconds))
        except ImportError as error:
            rows.append({"method": name, "remark": f"not installed ({error.name})"})
            continue
        taken = time.perf_counter() - begin
        with torch.no_grad():
            x = manifold.embed(answer.path)
            distance = (x[:, 1:] - x[:, :-1]).flatten(2).norm(dim=-1).sum(1)  # as these programs measure
            length = geodesic.path_length(manifold, answer.path)
        rows.append(
            {
                "method": name,
                "pairs": options.pairs,
                "seconds a pair": taken / options.pairs,
                "longer than straight": int((length > (1 + 1e-3) * ours.straight_length).sum()),
                "its number below ours": int((distance < (1 - 1e-3) * ours.length).sum()),
                "longer than ours by, median %": 100 * float((length / ours.length - 1).median()),
                "remark": answer.remark,
            }
        )
    case.decoder.to(getattr(torch, options.dtype))
    return rows


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print the tables and return their rows."""
    parser = make_parser("distances", __doc__)
    parser.add_argument("--decoders", nargs="+", default=["elu-2", "relu-2", "elu-16", "relu-16"])
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS[:USUAL]))
    parser.add_argument("--points", type=positive, default=100, help="of the matrices")
    parser.add_argument("--all", type=positive, default=500, help="points of the section of that name")
    parser.add_argument("--many", type=positive, default=2000, help="points of the graph, or to choose neighbors from")
    parser.add_argument("--sample", type=positive, default=200, help="pairs beside which the graph is looked at")
    parser.add_argument("--queries", type=positive, default=100, help="whose neighbors are looked for")
    parser.add_argument("--k", type=positive, default=10)
    parser.add_argument("--pairs", type=positive, default=16, help="that other programs solve")
    parser.add_argument("--seconds", type=float, default=120.0, help="after which another program is stopped")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the trained VAEs are")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/distances.json"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    console = Console()
    console.print(versions_line(options.threads, "stochman", "geomstats"), highlight=False)
    found: dict[str, Any] = {name: {} for name in options.sections}
    for decoder in options.decoders:
        case = Case(decoder, options)
        for name, measure in (("exact", exact), ("graph", graph), ("nearest", near), ("all", whole)):
            if name in options.sections:
                found[name][decoder] = row = measure(case, options)
                console.print(rows_table(f"{decoder}: {name}, {options.dtype}", "what", _turned(row)))
        for name, several in (("cheap", cheap), ("peers", peers), ("error", error)):
            if name in options.sections:
                rows = several(case, options)
                found[name][decoder] = [dict(row) for row in rows]
                console.print(rows_table(f"{decoder}: {name}", "method", {row.pop("method"): row for row in rows}))
    write_json(options.out, plain({"versions": versions("stochman", "geomstats"), "settings": vars(options), **found}))
    return found


def _turned(row: Row) -> dict[str, dict[str, object]]:
    """A wide row as a column."""
    return {name: {"measured": value} for name, value in row.items()}


if __name__ == "__main__":
    main()
