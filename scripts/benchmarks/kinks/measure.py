"""What is measured on answers: lengths of the curves themselves, why pairs ended, seconds."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import geodesic
from geodesic.solvers.kinks import kinks_of
from geodesic.solvers.search import Search
from scripts.benchmarks.solvers.methods import statuses
from scripts.benchmarks.tables import counts

__all__ = ["chord_length", "curve", "curve_length", "led_on", "outcome", "polygon_length", "solved"]

PARTS = 1024  # of each curve, at least
EXACT = 1e-11  # of the length, that halves of a chord may be longer
ROUNDS = 40  # of halving
LONGER = 1e-6  # relative: what counts as longer
EXACTLY = 1e-5  # relative excess energy, to which steps lead on from answers


def solved(manifold: geodesic.Manifold, start: Tensor, end: Tensor, **search: Any) -> tuple[Any, float]:
    """The answer, and seconds of the processor."""
    begun = time.process_time()
    solution = geodesic.solve(manifold, start, end, **search)
    return solution, time.process_time() - begun


def polygon_length(manifold: geodesic.Manifold, path: Float[Tensor, "P nodes d"]) -> Float[Tensor, " P"]:
    """Lengths of polygons in latent space, by chords that are halved wherever halves are longer: across kinks too."""
    t = torch.linspace(0, path.shape[1] - 1, max(PARTS, path.shape[1] - 1) + 1, dtype=path.dtype)
    t = torch.cat([t, torch.arange(path.shape[1], dtype=path.dtype)]).unique()
    before = t.long().clamp(max=path.shape[1] - 2)
    part = (t - before)[:, None]
    fine = path[:, before] * (1 - part) + path[:, before + 1] * part
    return torch.stack([chord_length(manifold, nodes) for nodes in fine])


def curve_length(manifold: geodesic.Manifold, solution: geodesic.GeodesicSolution) -> Float[Tensor, " P"]:
    """Lengths of the curves that answers are, in the same way."""
    return torch.stack([chord_length(manifold, curve(solution, k)) for k in range(len(solution.length))])


def curve(solution: geodesic.GeodesicSolution, row: int) -> Float[Tensor, "nodes d"]:
    """Points of one answer's curve: at equal times, and its nodes, where it may have corners."""
    even = torch.linspace(0, 1, PARTS + 1, dtype=solution.path.dtype)
    nodes = solution.arc[row, : int(solution.segments[row]) + 1]
    return solution[row](torch.cat([even, nodes]).unique())


@torch.no_grad()
def chord_length(manifold: geodesic.Manifold, nodes: Float[Tensor, "nodes d"]) -> Tensor:
    """The length of one polygon."""
    a, b = nodes[:-1], nodes[1:]
    x = manifold.observe(nodes).flatten(1)
    xa, xb = x[:-1], x[1:]
    total, enough = x.new_zeros(()), EXACT * (xb - xa).norm(dim=1).sum()
    for last in [False] * ROUNDS + [True]:
        m = (a + b) / 2
        xm = manifold.observe(m).flatten(1)
        halves = (xm - xa).norm(dim=1) + (xb - xm).norm(dim=1)
        bent = halves - (xb - xa).norm(dim=1) > enough
        total += halves[~bent].sum() + (halves[bent].sum() if last else 0)
        a, b = torch.cat([a[bent], m[bent]]), torch.cat([m[bent], b[bent]])
        xa, xb = torch.cat([xa[bent], xm[bent]]), torch.cat([xm[bent], xb[bent]])
        if not len(a):
            break
    return total


def led_on(manifold: geodesic.Manifold, solution: geodesic.GeodesicSolution, pairs: int) -> dict[str, Any]:
    """Of how many resolved answers the same steps lead from there to ones that are shorter by more than stated.

    Args:
        manifold: With kinks; of a smooth one nothing is said.
        solution: The answers.
        pairs: The first of them.
    """
    some = replace(solution[:pairs], path=solution.mesh[:pairs])
    kinks = kinks_of(manifold, some.mesh[:, 0], some.mesh[:, -1], Search(tol=EXACTLY))
    if kinks is None:
        return {}
    off = some.length / kinks.tightened(some).length - 1
    resolved = some.converged & some.resolved
    worst = float(off[resolved].max()) if bool(resolved.any()) else 0.0
    said = f"{int((resolved & (off > some.error)).sum())} of {int(resolved.sum())}"
    return {"off by more than stated": said, "most off, %": 100 * worst}


def outcome(solution: geodesic.GeodesicSolution, seconds: float) -> dict[str, Any]:
    """How many pairs have their certificates, and why the others ended."""
    certified = solution.converged & solution.resolved
    names = statuses(solution)
    others = [
        name if name != "converged" else "not resolved"
        for name, good in zip(names, certified.tolist(), strict=True)
        if not good
    ]
    return {
        "pairs": len(names),
        "converged": int(solution.converged.sum()),
        "and resolved": int(certified.sum()),
        "others": counts(others) or "-",
        "s": seconds,
    }
