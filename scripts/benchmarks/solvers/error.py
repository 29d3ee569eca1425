"""Whether `resolved` can be relied on: the errors of lengths that answers state, against their true errors."""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import geodesic
from scripts.benchmarks.solvers.headlines import Headline
from scripts.benchmarks.tables import make_table

ACTIVATIONS = {"elu": nn.ELU, "tanh": nn.Tanh, "softplus": nn.Softplus, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}
GAINS = {"elu": 3.0, "tanh": 3.0, "softplus": 8.0, "relu": 2.0, "leaky_relu": 2.0}  # of weights: where geodesics bend
SIZES = (2, 8)
ALLOWED = 3.0  # times the stated error
RTOL = 1e-3  # the `length_rtol` of the default search
MORE = 4  # times as many segments does the reference begin with
CHORDS = 4096  # at least, of the curves that are measured
WORST = 10  # answers that are listed
_HEADINGS = (
    "decoder",
    "pairs",
    "resolved",
    "segments: pairs",
    f"up to {ALLOWED:g}",
    "within",
    "polished",
    "median",
    "worst",
)


class Errors(NamedTuple):
    """Stated and true errors of the resolved ones of some pairs.

    Attributes:
        solution: The answers, resolved ones only.
        rows: Which of the pairs these are, (R,).
        own: Length of each answer's own curve by fine chords, (R,).
        polished: That of the same curve after its energy was minimized with more segments, (R,).
        polished_converged: How many of the polished ones have converged.
    """

    solution: geodesic.GeodesicSolution
    rows: Tensor
    own: Float[Tensor, " R"]
    polished: Float[Tensor, " R"]
    polished_converged: int

    @property
    def true(self) -> Float[Tensor, " R"]:
        """Relative difference of the stated length from the least that is known near it, (R,)."""
        return (self.solution.length / self.own.minimum(self.polished) - 1).abs()

    @property
    def ratio(self) -> Float[Tensor, " R"]:
        """True over stated error, (R,)."""
        return self.true / self.solution.error


def section(options: argparse.Namespace, console: Console) -> tuple[list[dict], list[Headline]]:
    """The share of resolved answers whose true error is at most three times the stated one."""
    cases = [(activation, d) for activation in ACTIVATIONS for d in SIZES]
    rows: list[dict] = []
    title = f"errors of resolved lengths, default search, {options.error_pairs} pairs: true over stated"
    table = make_table(title, *_HEADINGS, words=("decoder", "segments: pairs"))
    for i, (activation, d) in enumerate(cases):
        pairs = len(range(i, options.error_pairs, len(cases)))
        if not pairs:
            continue
        manifold = geodesic.PullbackManifold(network(activation, d))
        solution = geodesic.solve(manifold, *ends(d, pairs))
        row = {"decoder": f"{activation}-{d}", "pairs": pairs} | _row(solution, errors(manifold, solution))
        rows.append(row)
        segments = ", ".join(f"{T}: {count}" for T, count in row["segments"].items())
        numbers = [str(row[key]) for key in ("honest", "within", "polished")]
        ratios = [f"{row['median']:.2f}", f"{max((a['ratio'] for a in row['worst']), default=math.nan):.2f}"]
        table.add_row(row["decoder"], str(pairs), str(row["resolved"]), segments, *numbers, *ratios)
    console.print(table, _worst_table(rows))
    honest, resolved = (sum(row[key] for row in rows) for key in ("honest", "resolved"))
    share = f"{honest} of {resolved}" + (f", {100 * honest / resolved:.1f} %" if resolved else "")
    within = sum(row["within"] for row in rows)
    return rows, [
        Headline(f"true error of a resolved length at most {ALLOWED:g} times the stated one", share),
        Headline(f"at most the {RTOL:g} that was asked for", f"{within} of {resolved}"),
    ]


def network(activation: str, d: int) -> nn.Module:
    """A decoder d-32-32-20 with random weights, curved enough that 32 segments often are not enough; in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        act, options = ACTIVATIONS[activation], {"dtype": torch.float64}
        sizes = (nn.Linear(d, 32, **options), nn.Linear(32, 32, **options), nn.Linear(32, 20, **options))
    decoder = nn.Sequential(sizes[0], act(), sizes[1], act(), sizes[2])
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(GAINS[activation])
    return decoder.requires_grad_(False)


def ends(d: int, pairs: int) -> tuple[Float[Tensor, "P d"], Float[Tensor, "P d"]]:
    """Random endpoints, twice as far apart as those of a standard normal distribution."""
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(pairs, 2, d, generator=generator, dtype=torch.float64).unbind(1)
    return 2 * a, 2 * b


def errors(manifold: geodesic.Manifold, solution: geodesic.GeodesicSolution) -> Errors:
    """What resolved answers state, and what is true.

    The reference begins on the answer itself, with four times as many segments at equal times, and ends at the minimum
    of their energy. Lengths are those of its curve and of the answer's by fine chords: sums of distances of outputs,
    without derivatives, and without the quadrature that the stated length comes from. The shorter of the two counts.
    """
    (rows,) = solution.resolved.nonzero(as_tuple=True)
    solution = solution[rows]
    own, polished, converged = torch.empty_like(solution.length), torch.empty_like(solution.length), 0
    for T in solution.segments.unique().tolist():
        (same,) = (solution.segments == T).nonzero(as_tuple=True)
        some = solution[same]
        finer = _polished(manifold, some, MORE * T)
        nodes = some.mesh[:, : T + 1]
        spline, polygon = fine_length(manifold, nodes), polygon_length(manifold, nodes)
        own[same] = torch.where(some.polygon, polygon, spline)
        polished[same] = fine_length(manifold, finer.mesh)
        converged += int(finer.converged.sum())
    return Errors(solution, rows, own, polished, converged)


def _polished(
    manifold: geodesic.Manifold, solution: geodesic.GeodesicSolution, segments: int
) -> geodesic.GeodesicSolution:
    """The geodesics near the answers, with so many segments at equal times."""
    start, end = solution.path[:, 0], solution.path[:, -1]
    init = solution(torch.linspace(0, 1, segments + 1, dtype=start.dtype))
    init = torch.cat([start[:, None], init[:, 1:-1], end[:, None]], dim=1)
    # On kinks no gradient vanishes, and Newton's method takes many steps to see that.
    return geodesic.solve(manifold, start, end, init=init, tol=1e-10, solver=geodesic.LBFGS(), max_steps=300)


def fine_length(manifold: geodesic.Manifold, path: Float[Tensor, "P nodes d"]) -> Float[Tensor, " P"]:
    """Lengths of the splines through the nodes, from two sums of chords: the error of order 1/N^2 is taken out."""
    T = path.shape[1] - 1
    parts = max(1, CHORDS // T)
    lengths = []
    for some in path.split(8):
        with torch.no_grad():
            coarse, fine = (
                manifold.squared_chords(geodesic.refine_path(some, n * T)).sqrt().sum(1) for n in (parts, 2 * parts)
            )
        lengths.append((4 * fine - coarse) / 3)
    return torch.cat(lengths)


def polygon_length(manifold: geodesic.Manifold, path: Float[Tensor, "P nodes d"]) -> Float[Tensor, " P"]:
    """Lengths of the polygons through the nodes, by many chords of each segment."""
    parts = max(1, CHORDS // (path.shape[1] - 1))
    share = torch.arange(parts, dtype=path.dtype, device=path.device)[:, None] / parts
    fine = path[:, :-1, None] + share * path.diff(dim=1)[:, :, None]
    fine = torch.cat([fine.flatten(1, 2), path[:, -1:]], dim=1)
    with torch.no_grad():
        return torch.cat([manifold.squared_chords(some).sqrt().sum(1) for some in fine.split(8)])


def _row(solution: geodesic.GeodesicSolution, found: Errors) -> dict:
    ratio = found.ratio
    order = ratio.argsort(descending=True).tolist()
    segments = Counter(sorted(solution.segments.tolist()))
    return {
        "resolved": len(ratio),
        "segments": dict(segments),
        "within": int((found.true <= RTOL).sum()),
        "honest": int((ratio <= ALLOWED).sum()),
        "polished": found.polished_converged,
        "median": float(ratio.nanmedian()),
        "worst": [_answer(found, k) for k in order[:WORST]],
    }


def _answer(found: Errors, k: int) -> dict:
    """One answer, to list."""
    sizes = {"length": found.solution.length, "own": found.own, "polished": found.polished}
    sizes |= {"stated": found.solution.error, "true": found.true, "ratio": found.ratio}
    row = {name: float(size[k]) for name, size in sizes.items()}
    return {"pair": int(found.rows[k]), "segments": int(found.solution.segments[k])} | row


def _worst_table(rows: Sequence[dict]) -> Table:
    """The answers of all decoders whose true errors are largest, in stated ones."""
    columns = ("pair", "segments", "length", "own", "polished", "stated", "true", "ratio")
    table = make_table("the worst", "decoder", *columns, words=("decoder",))
    worst = [(row["decoder"], answer) for row in rows for answer in row["worst"]]
    for decoder, answer in sorted(worst, key=lambda entry: -entry[1]["ratio"])[:WORST]:
        lengths = [f"{answer[key]:.6f}" for key in ("length", "own", "polished")]
        sizes = [f"{answer['stated']:.1e}", f"{answer['true']:.1e}", f"{answer['ratio']:.2f}"]
        table.add_row(decoder, str(answer["pair"]), str(answer["segments"]), *lengths, *sizes)
    return table
