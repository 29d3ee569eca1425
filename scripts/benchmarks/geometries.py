"""What geometries do: solver work, whether paths keep to the data, and whether nearest neighbors get better.

Trains the VAEs that are not there yet on MNIST: set GEODESIC_DATA to the folder that holds mnist/. Needs the extra
`train`.

    python -m scripts.benchmarks geometries --sections work data neighbors --latent-sizes 2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

import geodesic
from scripts.benchmarks.figures import VERMILION, make_figure
from scripts.benchmarks.options import make_parser
from scripts.benchmarks.records import write_json
from scripts.benchmarks.tables import rows_table
from scripts.benchmarks.vaes import CASES, CONFIG, Case, problem_of, random_pairs

BOOTSTRAP = 2000


# --- work -------------------------------------------------------------------------------------


def work(case: Case, latent_size: int, options: argparse.Namespace) -> dict:
    """Steps and time of the default solver."""
    problem = problem_of(case, latent_size, options)
    start, end = random_pairs(options.pairs, problem.test, options.seed)
    geodesic.solve(problem.manifold, start[:1], end[:1], max_steps=2)  # the first call pays for imports
    begin = time.perf_counter()
    solution = geodesic.solve(problem.manifold, start, end, segments=options.segments)
    seconds = time.perf_counter() - begin
    return {
        "pairs": len(start),
        "converged": int(solution.converged.sum()),
        "resolved": int(solution.resolved.sum()),
        "steps": float(solution.iterations.double().median()),
        "ms a pair": 1e3 * seconds / len(start),
        "length over straight": float((solution.length / solution.straight_length).median()),
    }


# --- data -------------------------------------------------------------------------------------


def log_density(z: Tensor, points: Tensor) -> Tensor:
    """Gaussian kernel density estimate by Scott's rule, (*batch,), of points (N, d)."""
    N, d = points.shape
    h = float(points.var(0).mean().sqrt()) * N ** (-1 / (d + 4))
    rows = [(-torch.cdist(z_, points).square() / (2 * h**2)).logsumexp(1) for z_ in z.reshape(-1, d).split(2000)]
    return torch.cat(rows).reshape(z.shape[:-1]) - np.log(N) - d / 2 * np.log(2 * np.pi * h**2)


def crossing_pairs(count: int, points: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Of 60 times as many random pairs those whose straight lines dip deepest below the density at their ends."""
    first, last = torch.randint(len(points), (2, 60 * count), generator=torch.Generator().manual_seed(seed))
    start, end = points[first], points[last]
    along = torch.cat([log_density(geodesic.straight_path(a, b, 50), points) for a, b in _chunks(start, end)])
    dip = torch.minimum(along[:, 0], along[:, -1]) - along.amin(1)
    deepest = dip.argsort(descending=True)[:count]
    return start[deepest], end[deepest]


def _chunks(*tensors: Tensor, size: int = 200) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(x.split(size) for x in tensors), strict=True)


def _mean_along(path: Tensor, points: Tensor) -> Tensor:
    """Mean log-density along paths, (P,), by latent arc length: wherever time is spent, it counts once."""
    value, step = log_density(path, points), path.diff(dim=1).norm(dim=-1)
    return ((value[:, 1:] + value[:, :-1]) / 2 * step).sum(1) / step.sum(1)


def data(case: Case, latent_size: int, options: argparse.Namespace) -> dict:
    """Mean log-density of the held-out encodings along paths: geodesic against straight."""
    problem = problem_of(case, latent_size, options)
    row: dict = {}
    for kind, pairs in (("random", random_pairs), ("crossing", crossing_pairs)):
        start, end = pairs(options.pairs, problem.test, options.seed)
        solution = geodesic.solve(
            problem.manifold, start, end, init="best", graph_points=problem.train, segments=options.segments
        )
        curve = solution(torch.linspace(0, 1, 201, dtype=start.dtype))
        line = geodesic.straight_path(start, end, 200)
        along, across = (_mean_along(path, problem.test) for path in (curve, line))
        gain = along - across
        row |= {
            f"{kind}: straight": float(across.mean()),
            "geodesic" if kind == "random" else "geodesic ": float(along.mean()),
            "gain" if kind == "random" else "gain ": float(gain.mean()),
            "s.e." if kind == "random" else "s.e. ": float(gain.std() / len(gain) ** 0.5),
            "converged" if kind == "random" else "converged ": f"{int(solution.converged.sum())} of {len(start)}",
        }
    options.curves[case.name, latent_size] = (problem, curve, line)
    return row


def draw(options: argparse.Namespace, latent_size: int) -> Path | None:
    """Crossing pairs of the `data` section among the held-out encodings, a panel for each geometry."""
    found = {name: value for (name, d), value in options.curves.items() if d == latent_size == 2}
    if not found:
        return None
    columns = 4
    rows = -(-len(found) // columns)
    figure = make_figure(3.1 * columns, 3.2 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (name, (problem, curve, line)) in zip(axes, found.items(), strict=False):
        ax.scatter(*problem.test.T, s=2, color="#9ab", linewidths=0)
        for i in range(min(10, len(curve))):
            ax.plot(*line[i].T, color=VERMILION, lw=0.8, ls=(0, (3, 1.5)))
            ax.plot(*curve[i].T, color="black", lw=1.1)
        ax.set_title(name, fontsize=10)
        ax.set_aspect("equal", adjustable="datalim")
        ax.tick_params(labelsize=7)
    for ax in axes[len(found) :]:
        ax.set_visible(False)
    file = options.out / "keeps-to-the-data.png"
    figure.savefig(file)
    return file


# --- neighbors -------------------------------------------------------------------------------


def neighbors(case: Case, latent_size: int, options: argparse.Namespace) -> dict:
    """1-nearest-neighbor label accuracy of held-out queries among held-out references."""
    problem = problem_of(case, latent_size, options)
    labels = problem.labels
    queries, references = problem.test[: options.queries], problem.test[options.queries :]
    truth, known = labels[: options.queries], labels[options.queries :]
    candidates = torch.cdist(queries, references).topk(options.candidates, largest=False).indices  # nearest first
    nearest, solved = _nearest(problem.manifold, queries, references, candidates, options.query_segments)
    hits = {"euclidean": known[candidates[:, 0]] == truth, "geodesic": known[nearest] == truth}
    draws = np.random.default_rng(options.seed).integers(len(truth), size=(BOOTSTRAP, len(truth)))
    row: dict = {"pairs solved": solved}
    for name, hit in hits.items():
        share = hit.double().numpy()
        row[f"{name} accuracy"] = float(share.mean())
        row[f"{name} interval"] = _interval(share[draws])
    gain = (hits["geodesic"].double() - hits["euclidean"].double()).numpy()
    return row | {"gain": float(gain.mean()), "gain interval": _interval(gain[draws])}


def _interval(draws: np.ndarray) -> list[float]:
    """What 95 % of the bootstrap means lie in."""
    low, high = np.quantile(draws.mean(1), [0.025, 0.975])
    return [float(low), float(high)]


def _nearest(
    manifold: geodesic.Manifold, queries: Tensor, references: Tensor, candidates: Tensor, segments: int
) -> tuple[Tensor, int]:
    """Index of the reference of least geodesic distance among each query's candidates, and how many pairs were solved.

    Exact: candidates whose lower bound lies above some other's straight length cannot win, and are not solved.
    """
    Q, C = candidates.shape
    a, b = queries[:, None].expand(-1, C, -1), references[candidates]
    with torch.no_grad():
        lower = torch.cat([manifold.lower_bound(x, y) for x, y in zip(a.split(20), b.split(20), strict=True)])
        lines = (geodesic.straight_path(x, y, segments) for x, y in zip(a.split(20), b.split(20), strict=True))
        upper = torch.cat([geodesic.path_length(manifold, line) for line in lines])
    possible = lower <= upper.amin(1, keepdim=True)
    distance = torch.full((Q, C), torch.inf, dtype=a.dtype)
    solution = geodesic.solve(manifold, a[possible], b[possible], segments=segments, tol=1e-3)
    # A path that has not converged is still a path: its length bounds the distance from above.
    distance[possible] = solution.length.nan_to_num(torch.inf)
    return candidates.gather(1, distance.argmin(1, keepdim=True))[:, 0], int(possible.sum())


# --- the command ------------------------------------------------------------------------------

SECTIONS = {"work": work, "data": data, "neighbors": neighbors}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("geometries", __doc__)
    parser.add_argument("--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--geometries", nargs="+", choices=[c.name for c in CASES], default=[c.name for c in CASES])
    parser.add_argument("--latent-sizes", nargs="+", type=int, default=[2, 16])
    parser.add_argument("--pairs", type=int, default=64, help="of work and data")
    parser.add_argument("--segments", type=int, default=32, help="T of work and data")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--query-segments", type=int, default=8, help="T of neighbors, whose pairs are close")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("runs/geometries"))
    options = parser.parse_args(arguments)
    options.curves = {}
    return options


def main(arguments: Sequence[str] | None = None) -> dict:
    """Run the sections, print their tables and return their rows."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    console = Console(width=140)
    results: dict = {}
    for section in options.sections:
        for d in options.latent_sizes:
            rows = {}
            for case in (case for case in CASES if case.name in options.geometries):
                rows[case.name] = SECTIONS[section](case, d, options)
                results.setdefault(section, {})[str(d)] = rows
                write_json(options.out / f"{section}.json", results[section])
            console.print(rows_table(f"{section}, latent size {d}", "geometry", rows))
            if section == "data" and (file := draw(options, d)) is not None:
                console.print(f"wrote {file}", highlight=False)
    return results
