"""Backtracking along a direction of descent, for each pair by itself."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.geometry.energy import path_energy
from geodesic.geometry.manifold import Manifold
from geodesic.solvers.solver import moved

__all__ = ["LineSearch", "backtrack"]

_SUFFICIENT_DECREASE = 1e-4  # Armijo's constant; near 1 it would refuse every step
_SMALLEST = 1e-5  # part of a full step: where less is needed, the decoder has a kink and no step will do


class LineSearch(NamedTuple):
    """Where a line search ended: for pairs that failed, where it began."""

    path: Float[Tensor, "P nodes d"]
    energy: Float[Tensor, " P"]
    gradient: Float[Tensor, "P interior d"]  # of half the squared chords
    failed: Bool[Tensor, " P"]


def backtrack(
    manifold: Manifold,
    path: Float[Tensor, "P nodes d"],
    energy: Float[Tensor, " P"],
    gradient: Float[Tensor, "P interior d"],
    direction: Float[Tensor, "P interior d"],
    *,
    with_gradient: bool,
) -> LineSearch:
    """Shorten each pair's step until its energy falls enough (Armijo's rule).

    The step after a refused one minimises the parabola through what is known, within a tenth and a half of it.

    Args:
        manifold: Where to measure.
        path: Nodes, (P, T + 1, d).
        energy: Their energies E.
        gradient: E's gradient over T: that of half the squared chords.
        direction: What to subtract from the interior nodes at the full step.
        with_gradient: Whether to return the gradient at the new path, which costs one backward pass and no
            evaluation, or that at the old one.
    """
    T = path.shape[1] - 1
    slope = T * (gradient * direction).sum((-2, -1))
    alpha = torch.ones_like(energy)
    # Energies are rounded: a step that changes them by less cannot be judged by them.
    noise = 8 * torch.finfo(energy.dtype).eps * energy
    found = LineSearch(path.clone(), energy.clone(), gradient.clone(), torch.ones_like(energy, dtype=torch.bool))
    (rows,) = (slope > 0).nonzero(as_tuple=True)
    while len(rows):
        step = alpha[rows]
        trial = moved(path[rows], step[:, None, None] * direction[rows])
        if with_gradient:
            chords, pull = manifold.chords_and_pullback(trial)
            value = T / 2 * chords.sum(-1)
        else:
            with torch.no_grad():
                value = path_energy(manifold, trial)
        good = value <= energy[rows] - _SUFFICIENT_DECREASE * step * slope[rows] + noise[rows]
        if bool(good.any()):
            found.path[rows[good]], found.energy[rows[good]] = trial[good], value[good]
            found.failed[rows[good]] = False
            if with_gradient:
                found.gradient[rows[good]] = pull()[good]
        rows, step, value = rows[~good], step[~good], value[~good]
        parabola = step**2 * slope[rows] / (2 * (value - energy[rows] + step * slope[rows]))
        parabola = torch.where(parabola.isfinite(), parabola, step / 2)
        alpha[rows] = torch.minimum(torch.maximum(parabola, step / 10), step / 2)
        rows = rows[alpha[rows] >= _SMALLEST]
    return found
