"""Every solver side by side, ours and other programs', on the same decoders and pairs.

Sections:

    resolved  what an answer costs with as many segments as its length needs, and with a fixed number of them
    error     whether the errors that resolved answers state hold, on decoders with random weights
    mnist     energies along the run on VAEs of MNIST: work and time to a relative excess energy, and a diagram
    second    an untrained decoder whose figures at other programs are known: length over the straight line's, and our
              whole call beside the time that torch's L-BFGS takes to an excess of 1e-3
    global    how many pairs reach the best length known, from each kind of start
    memory    peak memory and pairs per second of one call with many pairs, in a process of its own
    segments  work and time against the number of segments

The excess of a path is its energy over that of the same path polished to convergence, minus 1: over the minimum in its
own basin. Which basin is the better one is what the section `global` asks. Work is counted in decoder forward passes
per path point, see counting.py. Times come from runs in which nothing is counted, methods in turns, as
medians; a method that takes longer than --repeat-seconds runs once. What a method cannot do is in its row, in its own
words.

Writes a .json for each section, and work-precision.png, into the folder --out. VAEs that are not in --runs are trained
first; configs/mnist.yaml says where their data are.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import torch
from rich.console import Console

from scripts.benchmarks.options import make_parser, positive, segment_count
from scripts.benchmarks.records import plain, versions, versions_line, write_json
from scripts.benchmarks.solvers import basins, error, memory, mnist, resolved, second, segments
from scripts.benchmarks.solvers.catalog import all_methods
from scripts.benchmarks.solvers.headlines import headlines_table
from scripts.benchmarks.solvers.methods import Budget
from scripts.benchmarks.solvers.problems import ACTIVATIONS

DECODERS, METHODS = ("elu-2", "elu-16"), ("auto", "LBFGS", "stochman", "torch-lbfgs")
RESOLVED = ("elu-2", "relu-2", "elu-16", "relu-16")
PEERS = ("stochman", "latent-geometry", "geomstats")
SECTIONS = {
    "resolved": resolved.section,
    "error": error.section,
    "mnist": mnist.section,
    "second": second.section,
    "global": basins.section,
    "memory": memory.section,
    "segments": segments.section,
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    names = [method.name for method in all_methods()]
    parser = make_parser("solvers", __doc__)
    parser.add_argument("--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--decoders", nargs="+", default=list(DECODERS), help="ACTIVATION-D of MNIST, or tiny-D")
    parser.add_argument("--resolved-decoders", nargs="+", default=list(RESOLVED), help="the same, of resolved")
    parser.add_argument("--methods", nargs="+", choices=names, default=list(METHODS), help=f"of {', '.join(names)}")
    parser.add_argument("--pairs", type=positive, default=64, help="of resolved, mnist and second")
    parser.add_argument("--error-pairs", type=positive, default=1000, help="of all decoders of error together")
    parser.add_argument("--counted", type=positive, help="count the work of so many pairs only")
    parser.add_argument("--global-pairs", type=positive, default=64)
    parser.add_argument("--grid", type=positive, default=200, help="nodes of the grid graph along each axis")
    parser.add_argument("--memory-pairs", type=positive, default=4096)
    parser.add_argument("--segment-pairs", type=positive, default=8)
    parser.add_argument(
        "--segment-counts", type=segment_count, nargs="+", default=[16, 32, 64, 128, 256, 512], metavar="T"
    )
    parser.add_argument("--segments", type=segment_count, default=32, help="T of mnist, global and memory")
    parser.add_argument("--tol", type=float, default=Budget.tol, help="of our solvers in mnist and global")
    parser.add_argument("--second-tol", type=float, nargs="+", default=[1e-3, 1e-4, 1e-6], help="of them in second")
    parser.add_argument("--max-steps", type=positive, default=Budget.max_steps, help="of our solvers")
    parser.add_argument("--memory", type=float, default=Budget.memory, help="bytes that our solvers may take")
    parser.add_argument("--adam-steps", type=positive, default=Budget.adam_steps)
    parser.add_argument("--lbfgs-iterations", type=positive, default=Budget.lbfgs_iterations, help="of torch's")
    parser.add_argument("--plain-steps", type=positive, default=Budget.plain_steps, help="of the naive loop")
    parser.add_argument(
        "--peer-seconds", type=float, default=Budget.peer_seconds, help="for all pairs of a peer that takes them singly"
    )
    parser.add_argument("--repeats", type=positive, default=3, help="timed runs of each method")
    parser.add_argument("--repeat-seconds", type=float, default=15.0, help="a run longer than this is not repeated")
    parser.add_argument("--threads", type=positive, default=1, help="of torch; memory always takes 2")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of pairs")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the trained VAEs are")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    options = parser.parse_args(arguments)
    for name in (*options.decoders, *options.resolved_decoders):
        kind, _, size = name.partition("-")
        if kind not in (*ACTIVATIONS, "tiny") or not size.isdigit() or int(size) < 1:
            parser.error(f"--decoders {name}: expected {', '.join(ACTIVATIONS)} or tiny, a hyphen and d, as in elu-2")
    options.methods = [method for method in all_methods() if method.name in options.methods]
    options.budget = Budget(**{entry.name: getattr(options, entry.name) for entry in fields(Budget)})
    return options


def main(arguments: Sequence[str] | None = None) -> dict[str, list[dict]]:
    """Run the sections, print their tables and return their rows."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    console = Console()
    console.print(versions_line(options.threads, *PEERS), highlight=False)
    results, headlines = {}, []
    for name in options.sections:
        results[name], found = SECTIONS[name](options, console)
        headlines += found
        settings = {key: value for key, value in vars(options).items() if key not in ("methods", "budget")}
        record = {
            "versions": versions(*PEERS),
            "settings": settings,
            "headlines": [asdict(headline) for headline in found],
            "rows": results[name],
        }
        write_json(options.out / f"{name}.json", plain(record))
    console.print(headlines_table(headlines))
    return results
