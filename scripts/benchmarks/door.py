"""What it costs to look at a decoder before it is used, against a solve with it.

A module is looked at once, and again when it changes; a function that can change without a trace is looked at in every
call. Both are compared with a solve of pairs at the defaults. Rows are those that the decoder was called with.

Times are medians over repeats on fresh manifolds, in turns.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from torch import Tensor, nn

import geodesic
from geodesic.door.door import visit
from scripts.benchmarks.options import make_parser, positive
from scripts.benchmarks.records import versions_line
from scripts.benchmarks.tables import make_table

HIDDEN, PIXELS = 256, 784
ACTIVATIONS = {"elu": nn.ELU, "relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        decoder: Its activation, and its latent size.
        first: Milliseconds of the first look at a decoder.
        again: Milliseconds of asking whether it has changed.
        solve: Milliseconds of a solve, the first look included.
        looked_at: Rows that the decoder was called with to look at it.
        solved: Rows that it was called with in the solve, the first look included.
    """

    decoder: str
    first: float
    again: float
    solve: float
    looked_at: int
    solved: int


def decoder_of(activation: str, latent_size: int) -> nn.Module:
    """A decoder d-256-256-784 with random weights, in float64."""
    layer = ACTIVATIONS[activation]
    sizes = (latent_size, HIDDEN, HIDDEN, PIXELS)
    layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), layer())][:-1]
    return nn.Sequential(*layers, nn.Sigmoid()).double().eval().requires_grad_(False)


def milliseconds(call: Callable[[], object]) -> float:
    """Of one call."""
    begin = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - begin)


def rows_of(decoder: nn.Module, call: Callable[[], object]) -> int:
    """How many rows the decoder is called with."""
    seen: list[int] = []
    handle = decoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    call()
    handle.remove()
    return sum(seen)


def measure(options: argparse.Namespace, activation: str, latent_size: int) -> Row:
    """The door of one decoder, and a solve."""
    torch.manual_seed(options.seed)
    decoder = decoder_of(activation, latent_size)
    start, end = torch.randn(2, options.pairs, latent_size, dtype=torch.float64)

    def look(manifold: geodesic.PullbackManifold, points: Tensor = start) -> None:
        with visit():
            manifold.way(points)

    times: list[tuple[float, ...]] = []
    for _ in range(1 + options.repeats):  # the first one warms torch up
        manifold, fresh = (geodesic.PullbackManifold(decoder) for _ in range(2))
        looks = [milliseconds(functools.partial(look, manifold)) for _ in range(2)]
        times.append((*looks, milliseconds(functools.partial(geodesic.solve, fresh, start, end))))
    first, again, solve = (statistics.median(column) for column in zip(*times[1:], strict=True))
    looked_at = rows_of(decoder, lambda: look(geodesic.PullbackManifold(decoder)))
    solved = rows_of(decoder, lambda: geodesic.solve(geodesic.PullbackManifold(decoder), start, end))
    return Row(f"{activation}, d = {latent_size}", first, again, solve, looked_at, solved)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Measure, print the table and return its rows."""
    parser = make_parser("door", __doc__)
    parser.add_argument("--activation", choices=ACTIVATIONS, nargs="+", default=["elu", "relu"])
    parser.add_argument("--latent-size", type=positive, nargs="+", default=[2], metavar="D")
    parser.add_argument("--pairs", type=positive, default=64)
    parser.add_argument("--repeats", type=positive, default=5, help="timed repeats")
    parser.add_argument("--seed", type=int, default=0, help="of weights and points")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = [measure(options, activation, d) for activation in options.activation for d in options.latent_size]
    shown = make_table(
        f"the door, and a solve of {options.pairs} pairs; median of {options.repeats}",
        "decoder",
        "first look, ms",
        "again, ms",
        "solve, ms",
        "first look / solve",
        "rows looked at",
        "rows of the solve",
    )
    for row in rows:
        share = f"{row.first / row.solve:.1%}"
        shown.add_row(
            row.decoder,
            f"{row.first:.0f}",
            f"{row.again:.2f}",
            f"{row.solve:.0f}",
            share,
            f"{row.looked_at:,}",
            f"{row.solved:,}",
        )
    console = Console()
    console.print(f"{versions_line(1)}, CPU", highlight=False)
    console.print(shown)
    return rows
