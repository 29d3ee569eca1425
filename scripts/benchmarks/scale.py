"""Distances in a store: what processes gain, what a store of many chunks costs to go on with, the driver's memory.

*Pairs a second* are those between the first tile and the last, without the start of the processes; *efficiency* is that
rate over that of one process of Dask, over the number of processes. Other programs on the machine lower it. *Driver* is
the largest memory of this process so far, torch included. The last table fills a store of small tiles with straight
lines on a sphere, and then calls again: *again* with nothing to do, *one* with one chunk missing.

*Neighbors*: a chunk of 64 queries among latent points drawn from the prior, in processor seconds and decoder passes of
a query, and what follows for all points as queries: chunks, hours of one processor, millions of decoder passes.
"""

from __future__ import annotations

import argparse
import math
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

import geodesic
from geodesic.distances import DistanceProgress, Store
from scripts.benchmarks.counting import FlopCounter, flops_of
from scripts.benchmarks.options import make_parser, positive
from scripts.benchmarks.records import versions_line
from scripts.benchmarks.solvers.problems import decoder_problem
from scripts.benchmarks.tables import rows_table

CHUNK = 64


def by_schedulers(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, object]]:
    """A matrix by each scheduler: its rate, the driver's memory, and whether the bits are those of the first."""
    problem = decoder_problem(options.decoder, options.runs, (options.points + 1) // 2, 32)
    points = torch.cat([problem.start, problem.end])[: options.points]
    rows: dict[str, dict[str, object]] = {}
    for scheduler in ("local", *(f"processes:{count}" for count in options.processes)):
        told: list[tuple[float, DistanceProgress]] = []
        store = Store(folder / scheduler.replace(":", "-"), tile=options.tile, scheduler=scheduler)
        stored = geodesic.distance_matrix(
            problem.manifold,
            points,
            store=store,
            callback=lambda progress, told=told: told.append((time.monotonic(), progress)),
        )
        (first, begun), (last, ended) = told[0], told[-1]
        rate = (ended.done - begun.done) / max(last - first, 1e-9)
        one = rows.get("processes:1", {}).get("pairs a second", rate)
        count = max(store.processes, 1)
        length = stored.load().length
        rows[scheduler] = {
            "tiles": len(told),
            "pairs a second": rate,
            "efficiency": rate / float(str(one)) / count if store.processes else None,
            "driver, MB": _peak(),
            "same bits": str(torch.equal(length, geodesic.open_distances(folder / "local").load().length)),
        }
    return rows


def of_many_chunks(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, object]]:
    """Seconds of a store with about so many chunks."""
    side = 2  # points of a tile
    points = 0.4 * torch.randn(round(side * (2 * options.chunks) ** 0.5), 2, generator=torch.Generator().manual_seed(0))
    path, sphere = folder / "many", geodesic.surfaces.StereographicSphere()
    row: dict[str, object] = {}
    for name in ("filled", "again", "one"):
        begun = time.monotonic()
        geodesic.distance_matrix(sphere, points, method="straight", store=Store(path, tile=side))
        row[f"{name}, s"] = time.monotonic() - begun
        if name == "again":
            (path / "done" / "0.1.json").unlink()
    return {f"{len(list((path / 'done').iterdir())):,} chunks": row | {"driver, MB": _peak()}}


def of_neighbors(options: argparse.Namespace) -> dict[str, dict[str, object]]:
    """A chunk of nearest neighbors among so many points, and all chunks by its cost."""
    problem = decoder_problem(options.decoder, options.runs, 1, 32)
    single = geodesic.PullbackManifold(problem.manifold.decoder.float(), problem.manifold.outputs)
    rows: dict[str, dict[str, object]] = {}
    d = problem.start.shape[1]
    for count in options.near:
        points = torch.randn(count, d, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
        one = flops_of(lambda points=points: single.embed(points[:1]))
        embedding = flops_of(lambda points=points: single.embed(points))
        with FlopCounter() as counter:
            begun = time.process_time()
            near = geodesic.nearest(single, points, points[:CHUNK], options.k)
            seconds = time.process_time() - begun
        chunks = math.ceil(count / CHUNK)
        # Every worker embeds the points once, not once a chunk.
        passes = (counter.flops - embedding) / one / CHUNK
        rows[f"{count:,} points"] = {
            "s a chunk": seconds,
            "passes a query": passes,
            "open, %": 100 * float(near.open.double().mean()),
            "chunks": f"{chunks:,}",
            "hours": chunks * seconds / 3600,
            "10^6 passes": passes * count / 1e6,
        }
    return rows


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, object]]:
    """Measure, print the tables and return their rows."""
    parser = make_parser("scale", __doc__)
    parser.add_argument("--decoder", default="elu-2", help="as in `solvers`")
    parser.add_argument("--points", type=positive, default=96)
    parser.add_argument("--tile", type=positive, default=16)
    parser.add_argument("--processes", type=positive, nargs="*", default=[1, 2])
    parser.add_argument("--chunks", type=positive, default=1000)
    parser.add_argument("--near", type=positive, nargs="*", default=[], help="points among which neighbors are found")
    parser.add_argument("--k", type=positive, default=10)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the trained VAEs are")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    console = Console()
    console.print(versions_line(1, "zarr", "dask"), highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        rows = by_schedulers(options, Path(folder))
        console.print(rows_table(f"{options.points} points, tiles of {options.tile}", "scheduler", rows))
        many = of_many_chunks(options, Path(folder))
        console.print(rows_table("a store of many chunks", "store", many))
    neighbors = of_neighbors(options)
    if neighbors:
        console.print(rows_table(f"{options.k} nearest neighbors", "of", neighbors))
    return rows | many | neighbors
