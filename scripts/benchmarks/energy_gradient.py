"""How long one gradient of the path energy takes: a loop over points against the summed VJP.

Four methods, on an MLP decoder and encoder with random weights:

    naive loop         one forward pass of the path, then three backward calls for each interior point
    summed VJP         geodesic.energy_gradient: one backward call for all points of all paths
    encoder, 2 x VJP   geodesic.encoder_direction from reverse mode alone
    encoder, forward   geodesic.encoder_direction from forward mode

Times are medians over repeats after a warm-up; the methods take turns, so that noise hits all alike.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import geodesic
from scripts.benchmarks.options import make_parser, positive, segment_count
from scripts.benchmarks.records import versions_line
from scripts.benchmarks.tables import make_table

NAIVE, SUMMED, DOUBLE_VJP, FORWARD = METHODS = (
    "naive loop",
    "summed VJP",
    "encoder, 2 x VJP",
    "encoder, forward",
)
REFERENCE = {SUMMED: NAIVE, FORWARD: DOUBLE_VJP}  # what a method must agree with
PIXELS, HIDDEN = 784, 256


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        latent_size: d.
        segments: T.
        method: One of `METHODS`.
        milliseconds: Median time of one call for all pairs.
        speedup: Median time of the naive loop over that of this method.
        difference: Largest difference from the reference method in float64, over the largest entry; None
            for a method that is itself a reference.
    """

    latent_size: int
    segments: int
    method: str
    milliseconds: float
    speedup: float
    difference: float | None


def naive_loop(decoder: Callable[[Tensor], Tensor], paths: Tensor) -> Tensor:
    """Energy gradients, (P, T - 1, d), of paths, (P, T + 1, d), with three backward calls a point."""
    T = paths.shape[1] - 1
    gradient = torch.zeros_like(paths[:, 1:-1])
    for p, path in enumerate(paths):
        z = path.detach().requires_grad_()
        x = decoder(z)
        fixed = x.detach()
        for i in range(1, T):
            for cotangent in (2 * fixed[i], -fixed[i - 1], -fixed[i + 1]):
                (product,) = torch.autograd.grad(x[i], z, T * cotangent, retain_graph=True)
                gradient[p, i - 1] += product[i]
    return gradient


def networks(latent_size: int) -> tuple[nn.Module, nn.Module]:
    """Decoder d-256-256-784 and encoder 784-256-256-d in float64, with random weights."""

    def linear(inputs: int, outputs: int) -> nn.Linear:
        return nn.Linear(inputs, outputs, dtype=torch.float64)

    def mlp(inputs: int, outputs: int) -> list[nn.Module]:
        return [linear(inputs, HIDDEN), nn.ELU(), linear(HIDDEN, HIDDEN), nn.ELU(), linear(HIDDEN, outputs)]

    decoder = nn.Sequential(*mlp(latent_size, PIXELS), nn.Sigmoid())
    encoder = nn.Sequential(*mlp(PIXELS, latent_size))
    return decoder.eval().requires_grad_(False), encoder.eval().requires_grad_(False)


def calls(decoder: nn.Module, encoder: nn.Module, paths: Tensor) -> dict[str, Callable[[], Tensor]]:
    """The four methods, ready to be called on these paths."""
    manifold = geodesic.PullbackManifold(decoder)
    return {
        NAIVE: lambda: naive_loop(decoder, paths),
        SUMMED: lambda: geodesic.energy_gradient(manifold, paths),
        DOUBLE_VJP: lambda: geodesic.encoder_direction(manifold, paths, encoder, "double_vjp"),
        FORWARD: lambda: geodesic.encoder_direction(manifold, paths, encoder, "forward"),
    }


def milliseconds(call: Callable[[], Tensor], device: torch.device) -> float:
    """Time of one call; on a GPU until its work is done, by CUDA events."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize(device)
        return begin.elapsed_time(end)
    begin_time = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - begin_time)


def measure(options: argparse.Namespace, latent_size: int, segments: int) -> list[Row]:
    """Time the four methods in turns, and compare their results in float64."""
    torch.manual_seed(options.seed)
    device = torch.device(options.device)
    decoder, encoder = (network.to(device) for network in networks(latent_size))
    # Independent nodes: the time does not depend on them, and on a smooth path the second differences
    # would cancel most digits that the comparison is about.
    paths = torch.randn(options.pairs, segments + 1, latent_size, dtype=torch.float64).to(device)

    results = {name: call() for name, call in calls(decoder, encoder, paths).items()}
    dtype = getattr(torch, options.dtype)
    timed = calls(copy.deepcopy(decoder).to(dtype), copy.deepcopy(encoder).to(dtype), paths.to(dtype))
    times: dict[str, list[float]] = {name: [] for name in METHODS}
    for repeat in range(options.warmup + options.repeats):
        for name, call in timed.items():
            duration = milliseconds(call, device)
            if repeat >= options.warmup:
                times[name].append(duration)

    medians = {name: statistics.median(values) for name, values in times.items()}
    return [
        Row(
            latent_size,
            segments,
            name,
            medians[name],
            medians[NAIVE] / medians[name],
            relative_difference(results[name], results[REFERENCE[name]]) if name in REFERENCE else None,
        )
        for name in METHODS
    ]


def relative_difference(a: Tensor, b: Tensor) -> float:
    """The largest entry of |a - b| over that of |b|."""
    return float((a - b).abs().max() / b.abs().max())


def table(rows: Sequence[Row], title: str) -> Table:
    """The rows as a table, a section for each d and T."""
    shown = make_table(title, "d", "T", "method", "ms", "naive / this", "difference")
    for row in rows:
        difference = "" if row.difference is None else f"{row.difference:.1e}"
        first = row.method == METHODS[0]
        shown.add_row(
            str(row.latent_size) if first else "",
            str(row.segments) if first else "",
            row.method,
            f"{row.milliseconds:.2f}",
            f"{row.speedup:.1f}",
            difference,
            end_section=row.method == METHODS[-1],
        )
    return shown


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("energy-gradient", __doc__)
    parser.add_argument("--latent-size", type=positive, nargs="+", default=[2, 16], metavar="D")
    parser.add_argument("--segments", type=segment_count, nargs="+", default=[8, 32, 128], metavar="T")
    parser.add_argument("--pairs", type=positive, default=1, help="paths in one call")
    parser.add_argument("--repeats", type=positive, default=15, help="timed calls of each method")
    parser.add_argument("--warmup", type=int, default=3, help="calls before that, not timed")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="of the timed calls")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seed", type=int, default=0, help="of weights and paths")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no CUDA device here; use --device cpu")
    return options


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Measure, print the table and return its rows."""
    options = parse(arguments)
    torch.set_num_threads(1)
    console = Console()
    device = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    console.print(f"{versions_line(1)}, {device}", highlight=False)
    rows = [row for d in options.latent_size for T in options.segments for row in measure(options, d, T)]
    title = f"{options.dtype}, pairs: {options.pairs}, median of {options.repeats}"
    console.print(table(rows, title))
    console.print(
        "difference: in float64, relative to the largest entry; summed VJP from the naive loop, forward mode "
        "from 2 x VJP"
    )
    return rows
