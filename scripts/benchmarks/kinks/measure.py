"""What is measured on answers: lengths of the curves themselves, why pairs ended, seconds."""

from __future__ import annotations

import time
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import geodesic
from scripts.benchmarks.solvers.methods import statuses
from scripts.benchmarks.tables import counts

__all__ = ["curve_length", "outcome", "polygon_length", "solved"]

CHORDS = 8192  # of each curve
LONGER = 1e-6  # relative: what chords may lose


def solved(manifold: geodesic.Manifold, start: Tensor, end: Tensor, **search: Any) -> tuple[Any, float]:
    """The answer, and seconds of the processor."""
    begun = time.process_time()
    solution = geodesic.solve(manifold, start, end, **search)
    return solution, time.process_time() - begun


def polygon_length(manifold: geodesic.Manifold, path: Float[Tensor, "P nodes d"]) -> Float[Tensor, " P"]:
    """Lengths of polygons in latent space, by fine chords."""
    t = torch.linspace(0, path.shape[1] - 1, CHORDS + 1, dtype=path.dtype)
    before = t.long().clamp(max=path.shape[1] - 2)
    part = (t - before)[:, None]
    return chord_length(manifold, path[:, before] * (1 - part) + path[:, before + 1] * part)


def curve_length(manifold: geodesic.Manifold, solution: geodesic.GeodesicSolution) -> Float[Tensor, " P"]:
    """Lengths of the curves that answers are, by fine chords."""
    t = torch.linspace(0, 1, CHORDS + 1, dtype=solution.path.dtype)
    return torch.cat([chord_length(manifold, solution[k : k + 8](t)) for k in range(0, len(solution.length), 8)])


def chord_length(manifold: geodesic.Manifold, path: Float[Tensor, "P nodes d"]) -> Float[Tensor, " P"]:
    """Sums of chords between neighboring points."""
    with torch.no_grad():
        return torch.cat([manifold.squared_chords(some).sqrt().sum(1) for some in path.split(1)])


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
