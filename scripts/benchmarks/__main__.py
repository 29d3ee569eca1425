"""The runner of all benchmarks."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple


class Benchmark(NamedTuple):
    """Where a benchmark lives and what it measures."""

    module: str
    about: str


BENCHMARKS = {
    "solvers": Benchmark("solvers.command", "every solver side by side, ours and other programs'"),
    "georce": Benchmark("georce.command", "GEORCE against our solvers where there is only a metric"),
    "energy-gradient": Benchmark("energy_gradient", "one gradient of the energy: a loop against the summed VJP"),
    "geometries": Benchmark("geometries", "what output geometries do to work, paths and nearest neighbors"),
    "distances": Benchmark("distances", "distances between many points: matrices, bounds, neighbors, other programs"),
    "scale": Benchmark("scale", "distances in a store: what processes gain, what many chunks cost"),
    "riemannian": Benchmark("riemannian", "what the Riemannian tools cost, curvature, how far transports agree"),
    "heavy": Benchmark("heavy.command", "dear decoders and many latent coordinates, beside torch's L-BFGS"),
    "plans": Benchmark("plans", "what plans choose among: the whole call by each solver, counted"),
    "own": Benchmark("own", "models of users: lines and seconds to the first certified solution"),
    "adapters": Benchmark("adapters", "models of other libraries: lines and seconds to certified geodesics"),
    "door": Benchmark("door", "what it costs to look at a decoder before it is used"),
    "decoders": Benchmark("decoders", "kinds of decoder times tools: what is right, what says no, what is refused"),
    "kinks": Benchmark("kinks.command", "decoders with kinks, beside smooth ones and exact shortest paths"),
    "report": Benchmark("report", "seconds and size of a report"),
    "counts": Benchmark("counts", "VAEs on counts of any mean and numbers of any scale, beside a constant model"),
    "explorer": Benchmark("explorer", "the explorer under a hand: updates a second, milliseconds to the certificate"),
    "structure": Benchmark("structure.command", "the house itself: sizes, import order, seconds of an import"),
}


def usage() -> str:
    """How to call the runner, and what there is."""
    width = max(map(len, BENCHMARKS))
    lines = [f"  {name:<{width}}  {benchmark.about}" for name, benchmark in BENCHMARKS.items()]
    return "\n".join(
        ["usage: python -m scripts.benchmarks NAME [options]", "", *lines, "", "NAME --help lists the options of one."]
    )


def main(arguments: Sequence[str]) -> int:
    """Run one benchmark; return the exit status."""
    name, *options = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name not in BENCHMARKS:
        print(f"there is no benchmark {name!r}\n{usage()}", file=sys.stderr)
        return 2
    importlib.import_module(f"scripts.benchmarks.{BENCHMARKS[name].module}").main(options)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
