"""Geodesics of decoders with kinks, beside smooth ones and beside exact shortest paths.

Sections:

    mnist   64 pairs of held-out images on VAEs of MNIST, ReLU beside ELU: certificates, cost, and whether `init="best"`
            comes within 0.1 % of the best length known
    peers   the same pairs by stochman and by torch's L-BFGS
    random  networks of ReLUs with large random weights, beside the same with smooth activations
    oracle  small networks of ReLUs with affine pieces, beside the taut string of the strip of pieces that each answer
            crosses, and beside the shortest path of all

Errors are stated by what models promise. What they are worth is seen where the same steps lead answers on to a
hundredth of the excess energy, or less: of the first --again pairs, so many are off by more than stated.

Lengths that are compared are those of the curves themselves, by fine chords, whatever their answers state. Seconds are
of the processor, one thread. `peers` needs `pip install '.[bench]'`. The best lengths known are kept from run to run in
known.json of the folder --out, where each section has a file too; set GEODESIC_DATA to the folder that holds mnist/.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from scripts.benchmarks.kinks import mnist, oracle, random
from scripts.benchmarks.options import make_parser, positive
from scripts.benchmarks.records import plain, versions, versions_line, write_json
from scripts.benchmarks.tables import rows_table, shown

Row = dict[str, Any]
SECTIONS: dict[str, Callable[[argparse.Namespace], Iterator[tuple[str, Row]]]] = {
    "mnist": mnist.ours,
    "peers": mnist.peers,
    "random": random.rows,
    "oracle": oracle.rows,
}


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, Row]]:
    """Measure, print the tables and return their rows."""
    parser = make_parser("kinks", __doc__)
    parser.add_argument("--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--decoders", nargs="+", default=["elu-2", "relu-2", "elu-16", "relu-16"], help="of mnist")
    parser.add_argument("--pairs", type=positive, default=64, help="of each decoder")
    parser.add_argument("--starts", nargs="*", choices=list(mnist.STARTS), default=list(mnist.STARTS), help="of mnist")
    parser.add_argument("--grid", type=int, default=0, help="nodes along each axis of a grid for the best lengths")
    parser.add_argument("--networks", nargs="+", choices=list(random.NETWORKS), default=list(random.NETWORKS))
    parser.add_argument("--random-pairs", type=positive, default=64, help="of random")
    parser.add_argument(
        "--again", type=positive, default=16, help="pairs that are led on, to see what errors are worth"
    )
    parser.add_argument("--small", type=positive, default=200, help="networks of oracle, a pair each")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the trained VAEs are")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/kinks"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    console = Console(width=None if Console().is_terminal else 150)
    console.print(versions_line(1, "stochman"), highlight=False)
    found: dict[str, dict[str, Row]] = {}
    for name in options.sections:
        found[name] = rows = {}
        for of, row in SECTIONS[name](options):
            rows[of] = row
            console.print(f"{name}: {of}: " + ", ".join(f"{key} {shown(value)}" for key, value in row.items()))
        console.print(rows_table(name, "of", rows))
        content = {"versions": versions("stochman"), "settings": vars(options), "rows": rows}
        write_json(options.out / f"{name}.json", plain(content))
    return found
