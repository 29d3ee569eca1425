"""Backtracking along a direction of descent, for each pair by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.numerics.line_search import SUFFICIENT_DECREASE, Trial, backtrack, least_of_parabola
from geodesic.solvers.solver import SolverState, moved

__all__ = ["LineSearch", "descend"]

_SMALLEST = 1e-5  # part of a full step: where less is needed, the decoder has a kink and no step will do


class LineSearch(NamedTuple):
    """Where a line search ended: for pairs that failed, where it began."""

    path: Float[Tensor, "P nodes d"]
    energy: Float[Tensor, " P"]
    gradient: Float[Tensor, "P interior d"]  # of half the weighted squared chords
    failed: Bool[Tensor, " P"]


class Directed(SolverState, Protocol):
    """A state that knows where to go."""

    @property
    def direction(self) -> Float[Tensor, "P interior d"]:
        """What to subtract from the interior nodes at the full step, (P, T - 1, d)."""


def descend(manifold: Manifold, state: Directed, *, with_gradient: bool) -> LineSearch:
    """Shorten each pair's step until its energy falls enough (Armijo's rule).

    The step after a refused one minimizes the parabola through what is known, within a tenth and a half of it.

    Args:
        manifold: Where to measure.
        state: The paths, and where to go from them.
        with_gradient: Whether to return the gradient at the new path, which costs one backward pass and no
            evaluation, or that at the old one.
    """
    path, energy, gradient, direction = state.path, state.energy, state.gradient, state.direction
    T = path.shape[1] - 1
    slope = T * (gradient * direction).sum((-2, -1))
    # Energies are rounded: a step that changes them by less cannot be judged by them.
    noise = 8 * torch.finfo(energy.dtype).eps * energy

    def trial(rows: Tensor, step: Tensor) -> Trial:
        there = moved(path[rows], step[:, None, None] * direction[rows])
        chords, pull = _chords(manifold, there, state.weights[rows], with_gradient)
        value = T / 2 * chords.sum(-1)
        down = slope[rows] > 0
        good = down & (value <= energy[rows] - SUFFICIENT_DECREASE * step * slope[rows] + noise[rows])
        shorter = torch.where(down, least_of_parabola(step, slope[rows], value - energy[rows]), 0)
        return Trial(good, lambda: (there, value, *pull()), shorter)

    start = (path, energy, gradient) if with_gradient else (path, energy)
    found = backtrack(trial, start, torch.ones_like(energy), smallest=_SMALLEST)
    path, energy, gradient = (*found.reached, gradient)[:3]
    return LineSearch(path, energy, gradient, found.failed)


def _chords(
    manifold: Manifold, path: Tensor, weights: Tensor, with_gradient: bool
) -> tuple[Tensor, Callable[[], tuple[Tensor, ...]]]:
    """Weighted squared chords, and what gives the gradient of half their sum, if it is asked for."""
    if with_gradient:
        chords, pull = manifold.chords_and_pullback(path, weights)
        return chords, lambda: (pull(),)
    with torch.no_grad():
        return weights * manifold.squared_chords(path), lambda: ()
