"""Every solver side by side, ours and other programs', on the same decoders and pairs.

Sections:

    mnist     energies along the run on VAEs of MNIST: work and time to a relative excess energy, and a diagram
    second    an untrained decoder whose figures at other programs are known: length over the straight line's
    global    how many pairs reach the best length known, from each kind of start
    memory    peak memory and pairs per second of one call with many pairs, in a process of its own
    segments  work and time against the number of segments

The excess of a path is its energy over that of the same path polished to convergence, minus 1: over the minimum in its
own basin. Which basin is the better one is what the section `global` asks. Work is counted in decoder forward passes
per path point, see comparison/work.py. Times come from runs in which nothing is counted, methods in turns, as
medians; a method that takes longer than --repeat-seconds runs once. What a method cannot do is in its row, in its own
words.

Writes a .json for each section, and work-precision.png, into the folder --out. VAEs that are not in --runs are trained
first; configs/mnist.yaml says where their data are.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from comparison import basins, memory, mnist, second, segments
from comparison.catalogue import all_methods
from comparison.methods import Budget
from comparison.problems import ACTIVATIONS, DECODERS
from comparison.tables import goals_table
from rich.console import Console

import geodesic

SECTIONS = {
    "mnist": mnist.section,
    "second": second.section,
    "global": basins.section,
    "memory": memory.section,
    "segments": segments.section,
}


def versions() -> dict[str, str]:
    """What the figures depend on."""
    found = {"python": platform.python_version(), "geodesic": geodesic.__version__}
    for name in ("torch", "numpy", "scipy", "stochman", "latent-geometry", "geomstats"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _plain(x: Any) -> Any:
    """For JSON, which has no infinities."""
    if isinstance(x, float):
        return x if math.isfinite(x) else None
    if isinstance(x, dict):
        return {str(key): _plain(value) for key, value in x.items()}
    return [_plain(value) for value in x] if isinstance(x, list | tuple) else x


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    names = [method.name for method in all_methods()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    parser.add_argument("--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--decoders", nargs="+", default=list(DECODERS), help="ACTIVATION-D of MNIST, or tiny-D")
    parser.add_argument("--methods", nargs="+", choices=names, default=names)
    parser.add_argument("--pairs", type=_positive, default=64, help="of mnist and second")
    parser.add_argument("--counted", type=_positive, help="count the work of so many pairs only")
    parser.add_argument("--global-pairs", type=_positive, default=256)
    parser.add_argument("--grid", type=_positive, default=200, help="nodes of the grid graph along each axis")
    parser.add_argument("--memory-pairs", type=_positive, default=4096)
    parser.add_argument("--segment-pairs", type=_positive, default=8)
    parser.add_argument("--segment-counts", type=_positive, nargs="+", default=[16, 32, 64, 128, 256, 512], metavar="T")
    parser.add_argument("--segments", type=_positive, default=32, help="T of mnist, global and memory")
    parser.add_argument("--tol", type=float, default=Budget.tol, help="of our solvers in mnist and global")
    parser.add_argument("--second-tol", type=float, nargs="+", default=[1e-3, 1e-4, 1e-6], help="of them in second")
    parser.add_argument("--max-steps", type=_positive, default=Budget.max_steps, help="of our solvers")
    parser.add_argument("--memory", type=float, default=Budget.memory, help="bytes that our solvers may take")
    parser.add_argument("--adam-steps", type=_positive, default=Budget.adam_steps)
    parser.add_argument("--lbfgs-iterations", type=_positive, default=Budget.lbfgs_iterations, help="of torch's")
    parser.add_argument("--plain-steps", type=_positive, default=Budget.plain_steps, help="of the naive loop")
    parser.add_argument(
        "--peer-seconds", type=float, default=Budget.peer_seconds, help="for all pairs of a peer that takes them singly"
    )
    parser.add_argument("--repeats", type=_positive, default=3, help="timed runs of each method")
    parser.add_argument("--repeat-seconds", type=float, default=60.0, help="a run longer than this is not repeated")
    parser.add_argument("--threads", type=_positive, default=1, help="of torch; memory always takes 2")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of pairs")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the trained VAEs are")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--memory-child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for name in options.decoders:
        kind, _, size = name.partition("-")
        if kind not in (*ACTIVATIONS, "tiny") or not size.isdigit() or int(size) < 1:
            parser.error(f"--decoders {name}: expected {', '.join(ACTIVATIONS)} or tiny, a hyphen and d, as in elu-2")
    if min(options.segments, *options.segment_counts) < 2:
        parser.error("--segments, --segment-counts: a path of 1 segment has no interior point; give at least 2")
    options.methods = [method for method in all_methods() if method.name in options.methods]
    options.budget = Budget(**{entry.name: getattr(options, entry.name) for entry in fields(Budget)})
    return options


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    pass


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


def main(arguments: Sequence[str] | None = None) -> dict[str, list[dict]]:
    """Run the sections, print their tables and return their rows."""
    options = parse(arguments)
    if options.memory_child is not None:
        memory.child(options.memory_child, options.segments)
        return {}
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    console = Console()
    shown = ", ".join(f"{name} {version}" for name, version in versions().items())
    console.print(f"{shown}; {options.threads} thread(s)", highlight=False)
    results, goals = {}, []
    for name in options.sections:
        results[name], found = SECTIONS[name](options, console)
        goals += found
        settings = {key: value for key, value in vars(options).items() if key not in ("methods", "budget")}
        record = {
            "versions": versions(),
            "settings": {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()},
            "goals": [asdict(goal) for goal in found],
            "rows": results[name],
        }
        (options.out / f"{name}.json").write_text(json.dumps(_plain(record), indent=1) + "\n", encoding="utf-8")
    console.print(goals_table(goals))
    return results


if __name__ == "__main__":
    main()
