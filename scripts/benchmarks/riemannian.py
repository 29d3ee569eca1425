"""What the Riemannian tools cost on MNIST VAEs, how curved these are, and how far the three transports agree.

Trains the VAEs that are not there yet: set GEODESIC_DATA to the folder that holds mnist/. Needs the extra `train`.

    python -m scripts.benchmarks riemannian --sections tools means curvature transport --latent-sizes 2 16
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import geodesic
from geodesic.geometry.points import inverse_at
from scripts.benchmarks.counting import flops_of
from scripts.benchmarks.figures import BLUE, GREEN, VERMILION, make_figure
from scripts.benchmarks.options import make_parser
from scripts.benchmarks.records import write_json
from scripts.benchmarks.tables import rows_table
from scripts.benchmarks.vaes import CASES, CONFIG, Case, Problem, problem_of, random_pairs

POINTS = 200  # at which curvatures are taken, and pairs of which lengths are compared
QUANTILES = (0.05, 0.5, 0.95)
TRANSPORTS = ("connection", "pole_ladder", "schild_ladder", "projection")


# --- tools ------------------------------------------------------------------------------------


def tools(options: argparse.Namespace) -> list[Table]:
    """Decoder passes and time of each tool, on the plain VAE with the Euclidean metric."""
    tables, found = [], {}
    for d in options.latent_sizes:
        problem = problem_of(_plain(options), d, options)
        calls = _calls(problem, options)
        one = problem.test[: options.rows]
        forward = flops_of(lambda problem=problem, one=one: problem.manifold.embed(one)) / len(one)
        rows = {}
        for name, (count, call) in calls.items():
            flops = flops_of(call)  # the first call also pays for imports
            seconds = []
            for _ in range(options.repeats):
                begin = time.perf_counter()
                note = call()
                seconds.append(time.perf_counter() - begin)
            middle = sorted(seconds)[len(seconds) // 2]
            rows[name] = {"rows": count, "passes a row": flops / forward / count, "ms a row": 1e3 * middle / count}
            rows[name]["converged"] = note
        found[str(d)] = rows
        tables.append(rows_table(f"tools, {options.activation}, latent size {d}", "tool", rows))
        write_json(options.out / "tools.json", found)
    return tables


def _plain(options: argparse.Namespace) -> Case:
    """The VAE of the first geometry, with an activation of choice: second derivatives of ELU jump."""
    if options.activation == "elu":
        return CASES[0]
    return Case("euclidean", options.activation, (f"model.network.activation={options.activation}",))


def _calls(problem: Problem, options: argparse.Namespace) -> dict[str, tuple[int, Callable[[], str]]]:
    """Each tool with the number of its rows; a call says how many of them converged."""
    M, N, T = problem.manifold, options.rows, options.tool_segments
    a, b = random_pairs(N, problem.test, options.seed)
    u, w = torch.randn(2, *a.shape, dtype=a.dtype, generator=torch.Generator().manual_seed(options.seed))
    solution = geodesic.solve(M, a, b, segments=T)
    discrete, finer = (geodesic.Follow(method="discrete", segments=n) for n in (T, 4 * T))
    v = geodesic.log_map(M, a, b, follow=discrete, solution=solution).vector

    def share(converged: Tensor) -> str:
        return f"{int(converged.sum())} of {converged.numel()}"

    def local(call: Callable[[], object]) -> Callable[[], str]:
        def quiet() -> str:
            call()
            return ""

        return quiet

    tools: dict[str, tuple[int, Callable[[], str]]] = {
        f"solve ({T} segments)": (N, lambda: share(geodesic.solve(M, a, b, segments=T).converged)),
        f"exp_map, discrete ({T} steps)": (
            N,
            lambda: share(geodesic.exp_map(M, a, v, follow=discrete).converged),
        ),
        f"exp_map, discrete ({4 * T} steps)": (
            N,
            lambda: share(geodesic.exp_map(M, a, v, follow=finer).converged),
        ),
        "exp_map, ode (rtol 1e-4, 0.1 of the way)": (
            N,
            lambda: share(geodesic.exp_map(M, a, v, t=0.1, follow=geodesic.Follow(rtol=1e-4)).converged),
        ),
        "log_map, discrete, from a solution": (
            N,
            lambda: share(geodesic.log_map(M, a, b, follow=discrete, solution=solution).converged),
        ),
        f"shoot ({T} steps)": (N, lambda: share(geodesic.shoot(M, a, v, segments=T).converged)),
        "christoffel_symbols": (N, local(lambda: geodesic.christoffel_symbols(M, a))),
        "sectional_curvature": (N, local(lambda: geodesic.sectional_curvature(M, a, u, w))),
        "ricci_tensor": (N, local(lambda: geodesic.riemannian.ricci_tensor(M, a))),
        "riemann_tensor": (N, local(lambda: geodesic.riemannian.riemann_tensor(M, a))),
        "magnification_factor": (N, local(lambda: geodesic.magnification_factor(M, a))),
        "is_minimizing (4 bent lines and the graph)": (
            N,
            lambda: share(geodesic.is_minimizing(M, solution).minimizing),
        ),
    }
    for method in options.transports:
        tools[f"parallel_transport, {method} ({T} segments)"] = (
            N,
            lambda method=method: share(geodesic.parallel_transport(M, solution, u, transport=method).converged),
        )
    return tools


# --- means ------------------------------------------------------------------------------------


def means(options: argparse.Namespace) -> list[Table]:
    """Decoder passes of the statistics of a few encodings, on the plain VAE with the Euclidean metric."""
    tables, found = [], {}
    for d in options.latent_sizes:
        problem = problem_of(_plain(options), d, options)
        M, x = problem.manifold, problem.test[: options.averaged]
        forward = flops_of(lambda M=M, x=x: M.embed(x)) / len(x)
        found[str(d)] = rows = {}
        for name, call in _statistics(M, x, options).items():
            answers: list[Any] = []
            flops = flops_of(lambda call=call, answers=answers: answers.append(call()))
            rows[name] = {
                "passes": flops / forward,
                "passes a point": flops / forward / len(x),
                "iterations": int(answers[0].iterations.max()),
                "error": float(answers[0].error.max()),
                "converged": f"{int(answers[0].converged.sum())} of {answers[0].converged.numel()}",
            }
        title = f"means of {len(x)} points, {options.mean_segments} segments, {options.activation}, latent size {d}"
        tables.append(rows_table(title, "statistic", rows))
        write_json(options.out / "means.json", found)
    return tables


def _statistics(M: geodesic.Manifold, x: Tensor, options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Each statistic of points that moves a point or a geodesic."""
    search = geodesic.Search(segments=options.mean_segments)
    times = torch.arange(len(x)).to(x)
    return {
        "frechet_mean": lambda: geodesic.frechet_mean(M, x, search=search),
        "frechet_median": lambda: geodesic.frechet_median(M, x, search=search),
        "k_means, 2 clusters": lambda: geodesic.k_means(M, x, 2, search=search),
        "principal_geodesic_analysis": lambda: geodesic.principal_geodesic_analysis(M, x, search=search),
        "geodesic_regression": lambda: geodesic.geodesic_regression(M, times, x, search=search),
    }


# --- curvature --------------------------------------------------------------------------------


def curvature(options: argparse.Namespace) -> list[Table]:
    """Sectional curvature at data points and straight over geodesic length, under each geometry.

    Rows that an earlier run has written stay in the file, and in the picture.
    """
    file = options.out / "curvature.json"
    found: dict = json.loads(file.read_text()) if file.exists() else {}
    tables = []
    for d in options.latent_sizes:
        rows = {}
        for case in (case for case in CASES if case.name in options.geometries):
            problem = problem_of(case, d, options)
            if not problem.manifold.has_length:
                continue
            rows[case.name] = _how_curved(problem, options)
            found.setdefault(str(d), {}).update(rows)
            write_json(options.out / "curvature.json", found)
        tables.append(rows_table(f"curvature, latent size {d}", "geometry", rows))
    _draw(options, found)
    return tables


def _how_curved(problem: Problem, options: argparse.Namespace) -> dict:
    start, end = random_pairs(options.pairs, problem.test, options.seed)
    solution = geodesic.solve(problem.manifold, start, end, memory=options.memory)
    ratio = 1 / solution.length_ratio[solution.converged]
    scale = float(solution.length[solution.converged].median())
    points = problem.test[: options.points]
    u, w = torch.randn(2, *points.shape, dtype=points.dtype, generator=torch.Generator().manual_seed(options.seed))
    K = _section(problem.manifold, points, u, w)
    log_volume = geodesic.riemannian.log_volume(problem.manifold, points)
    finite = K[K.isfinite()]
    low, middle, high = (scale**2 * finite.quantile(torch.tensor(QUANTILES, dtype=K.dtype))).tolist()
    return {
        "points": len(finite),
        "K l^2: 5 %": low,
        "median": middle,
        "95 %": high,
        "negative": f"{100 * float((finite < 0).double().mean()):.0f} %",
        "pairs": len(ratio),
        "straight over geodesic: median": float(ratio.median()),
        "95 % ": float(ratio.quantile(0.95)),
        "most": float(ratio.max()),
        "log10 volume, s.d.": float(log_volume.std()) / math.log(10),
    }


def _section(manifold: geodesic.Manifold, z: Tensor, u: Tensor, w: Tensor) -> Tensor:
    """Curvature of planes that are random in an orthonormal frame: of no direction more than of another."""
    inverse = inverse_at(manifold, z)
    frame = torch.linalg.solve_triangular(inverse.factor.mT, torch.stack([u, w], dim=-1), upper=True)
    K = torch.full_like(z[:, 0], torch.nan)
    good = inverse.regular
    K[good] = geodesic.sectional_curvature(manifold, z[good], frame[good, :, 0], frame[good, :, 1])
    return K


def _draw(options: argparse.Namespace, found: dict[str, dict[str, dict]]) -> None:
    """A dot at the median and a line from 5 to 95 %, or from 1 to the largest ratio, thick to 95 %."""
    sizes = sorted(found, key=int)
    names = [case.name for case in CASES if any(case.name in found[d] for d in sizes)]
    figure = make_figure(10, 1.2 + 0.42 * len(names))
    left, right = figure.subplots(1, 2, sharey=True)
    for k, (d, color) in enumerate(zip(sizes, (BLUE, VERMILION, GREEN), strict=False)):
        y = [names.index(name) + 0.3 * (k - (len(sizes) - 1) / 2) for name in found[d]]
        rows = list(found[d].values())
        left.hlines(y, [row["K l^2: 5 %"] for row in rows], [row["95 %"] for row in rows], color=color, lw=2)
        left.plot([row["median"] for row in rows], y, "o", color=color, ms=5)
        right.hlines(y, 1, [row["most"] for row in rows], color=color, lw=0.8)
        right.hlines(y, 1, [row["95 % "] for row in rows], color=color, lw=2.5)
        medians = [row["straight over geodesic: median"] for row in rows]
        right.plot(medians, y, "o", color=color, ms=5, label=f"d = {d}")
    left.axvline(0, color="black", lw=0.6)
    left.set_xscale("symlog", linthresh=1)
    left.set_xlabel("sectional curvature times squared median geodesic length")
    right.set_xscale("log")
    right.set_xticks(ticks := [1, 1.1, 1.2, 1.5, 2, 3], [f"{x:g}" for x in ticks])
    right.minorticks_off()
    right.set_xlabel("straight over geodesic length")
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    right.legend(frameon=False, loc="lower right")
    file = options.out / "curvature.png"
    figure.savefig(file)
    print(f"wrote {file}")


# --- transport --------------------------------------------------------------------------------


def transport(options: argparse.Namespace) -> list[Table]:
    """Differences of the transports to the connection's with the most steps, along the same geodesics."""
    tables, found = [], {}
    for d in options.latent_sizes:
        problem = problem_of(_plain(options), d, options)
        M = problem.manifold
        a, b = random_pairs(options.rows, problem.test, options.seed)
        finest = 2 * max(options.segments)
        solution = geodesic.solve(M, a, b, segments=finest, tol=1e-8)
        a, b, path = (x[solution.converged] for x in (a, b, solution.path))
        u = torch.randn(a.shape, dtype=a.dtype, generator=torch.Generator().manual_seed(options.seed))
        reference = geodesic.parallel_transport(M, path, u).vector
        with torch.no_grad():
            norm = M.squared_norm(b, reference).sqrt()
        rows: dict[str, dict] = {}
        for T in options.segments:
            nodes = path[:, :: finest // T]
            rows[str(T)] = {}
            for method in options.transports:
                there = geodesic.parallel_transport(M, nodes, u, transport=method)
                with torch.no_grad():
                    error = M.squared_norm(b, there.vector - reference).sqrt() / norm
                rows[str(T)][method] = float(error.nanmedian())
                rows[str(T)][f"{method}: converged"] = int(there.converged.sum())
            found[str(d)] = rows
            write_json(options.out / "transport.json", found)
        title = f"transport, {options.activation}, latent size {d}, {len(a)} geodesics: median difference"
        tables.append(rows_table(title, "segments", rows))
    return tables


# --- the command ------------------------------------------------------------------------------

SECTIONS = {"tools": tools, "means": means, "curvature": curvature, "transport": transport}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("riemannian", __doc__)
    parser.add_argument("--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--geometries", nargs="+", choices=[c.name for c in CASES], default=[c.name for c in CASES])
    parser.add_argument("--latent-sizes", nargs="+", type=int, default=[2, 16])
    parser.add_argument("--activation", default="elu", help="of the VAE of tools and transport")
    parser.add_argument("--rows", type=int, default=16, help="of tools and transport")
    parser.add_argument("--tool-segments", type=int, default=32, help="of tools")
    parser.add_argument("--averaged", type=int, default=10, help="points of means")
    parser.add_argument("--mean-segments", type=int, default=16, help="of means")
    parser.add_argument("--points", type=int, default=POINTS, help="at which curvatures are taken")
    parser.add_argument("--pairs", type=int, default=POINTS, help="whose lengths are compared")
    parser.add_argument("--segments", nargs="+", type=int, default=[8, 16, 32, 64, 128], help="of transport")
    parser.add_argument(
        "--transports", nargs="+", choices=TRANSPORTS, default=list(TRANSPORTS), help="of tools and transport"
    )
    parser.add_argument("--memory", type=float, default=4e9, help="bytes for each solve of curvature")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("runs/riemannian"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sections and print their tables."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    console = Console(width=140)
    for section in options.sections:
        for table in SECTIONS[section](options):
            console.print(table)
