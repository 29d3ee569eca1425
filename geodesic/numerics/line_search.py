"""Backtracking: a step for each row, shortened until it does what it should."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.numerics.masks import divided

__all__ = ["SUFFICIENT_DECREASE", "Backtracked", "Trial", "backtrack", "least_of_parabola"]

SUFFICIENT_DECREASE = 1e-4
"""Armijo's constant: the part of the fall that the slope promises, which a step has to give. Near 1 it refuses all."""


class Trial(NamedTuple):
    """What came of a step of some rows.

    Attributes:
        good: Whether to take it, (n,), boolean.
        reached: Makes what is kept of it, tensors (n, ...); called only where a row takes its step.
        shorter: The step to try next where it is refused, (n,).
    """

    good: Bool[Tensor, " n"]
    reached: Callable[[], tuple[Tensor, ...]]
    shorter: Float[Tensor, " n"]


class Backtracked(NamedTuple):
    """Where backtracking ended.

    Attributes:
        reached: What the steps that were taken led to, tensors (R, ...); for rows that failed, where they began.
        step: The step taken, or the next one that a row would have tried, (R,).
        failed: Which rows took no step, (R,), boolean.
    """

    reached: tuple[Tensor, ...]
    step: Float[Tensor, " R"]
    failed: Bool[Tensor, " R"]


def backtrack(
    trial: Callable[[Int[Tensor, " n"], Float[Tensor, " n"]], Trial],
    start: tuple[Tensor, ...],
    step: Float[Tensor, " R"],
    rows: Int[Tensor, " n"] | None = None,
    *,
    smallest: float = 0.0,
    max_trials: int = 40,
) -> Backtracked:
    """Try a step of each row; rows that refuse theirs try a shorter one, until all have moved or have failed.

    Args:
        trial: Tries steps, (n,), of some rows, by their indices, (n,).
        start: What each row has where it begins, tensors (R, ...), in the order of `Trial.reached`.
        step: The first steps, (R,).
        rows: Rows that move at all, by their indices; all by default. The others fail.
        smallest: Step below which a row fails.
        max_trials: Trials after which a row fails.

    Returns:
        What was reached, the steps, and which rows failed.

    Example:
        >>> import torch
        >>> from geodesic.numerics.line_search import Trial, backtrack
        >>> x = torch.tensor([1.0, 3.0])
        >>> def trial(rows, step):  # down the slope of x^2, 10 times too far
        ...     y = x[rows] - step * 20 * x[rows]
        ...     return Trial(y.square() < x[rows].square(), lambda: (y,), step / 2)
        >>> backtrack(trial, (x,), torch.ones(2)).reached
        (tensor([-0.2500, -0.7500]),)
    """
    kept, step = tuple(x.clone() for x in start), step.clone()
    failed = torch.ones_like(step, dtype=torch.bool)
    rows = torch.arange(len(step), device=step.device) if rows is None else rows
    for _ in range(max_trials):
        if not len(rows):
            break
        good, reached, shorter = trial(rows, step[rows])
        taken, refused = divided(good)
        if len(taken):
            for old, new in zip(kept, reached(), strict=True):
                old[rows[taken]] = new[taken]
            failed[rows[taken]] = False
        if not len(refused):
            break
        rows = rows[refused]
        step[rows] = shorter[refused]
        rows = rows[divided(step[rows] >= smallest)[0]]
    return Backtracked(kept, step, failed)


def least_of_parabola(
    step: Float[Tensor, " n"], slope: Float[Tensor, " n"], rise: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """The step with the least value on the parabola through what is known, within a tenth and a half of the last one.

    Args:
        step: The step that was tried, (n,).
        slope: How fast the value falls at its start, (n,).
        rise: The value there minus that at the start, (n,).
    """
    parabola = step**2 * slope / (2 * (rise + step * slope))
    parabola = torch.where(parabola.isfinite(), parabola, step / 2)
    return torch.minimum(torch.maximum(parabola, step / 10), step / 2)
