"""Ordinary differential equations, many at once, each with its own adaptive steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.integrate import DOP853
from torch import Tensor

__all__ = ["Trajectory", "integrate"]

_FIRST_STEP = 1 / 16
_PATIENCE, _LEAST_GAIN = 25, 1e-4  # attempts in which a row has to advance by as much, or is stuck
_SAFETY, _LEAST, _MOST = 0.9, 0.2, 5.0  # of the next step's length


@dataclass(frozen=True)
class Trajectory:
    """Solutions of y' = f(y) over [0, 1].

    Attributes:
        states: y at equal times, (N, M + 1, k). After the time at which a row had to stop, its last state.
        time: Up to where each row was followed, (N,); 1 where it is complete.
        stuck: Rows that no longer advance: ahead of them the field is not finite, or too wild, (N,), boolean.
        steps: Attempted by each row, (N,).
    """

    states: Float[Tensor, "N nodes k"]
    time: Float[Tensor, " N"]
    stuck: Bool[Tensor, " N"]
    steps: Int[Tensor, " N"]


def integrate(
    field: Callable[[Tensor], Tensor],
    start: Float[Tensor, "N k"],
    *,
    nodes: int,
    rtol: float,
    measure: Callable[[Tensor], Callable[[Tensor], Tensor]],
    max_iterations: int,
) -> Trajectory:
    """Follow y' = f(y) from t = 0 to 1, for all rows at once, by Dormand and Prince's method of order 8.

    The estimated error of every step is kept below `rtol`. Per step, not per unit of time: where the field jumps, as
    the second derivatives of ELU do, a step short enough still passes. Values between the steps come from the
    method's own interpolant, of order 7. A row needs 12 evaluations a step, and 3 more for each step that has nodes
    inside.

    Reference:
        E. Hairer, S. P. Nørsett, G. Wanner, Solving Ordinary Differential Equations I, 1993: DOP853. The
        coefficients are SciPy's.

    Args:
        field: f, row-wise: (N, k) to (N, k).
        start: y(0), (N, k).
        nodes: Number M of equal intervals whose ends are returned.
        rtol: Largest error of a step, as measured.
        measure: From states, (N, k), to the function that gives errors there, (N, k), their sizes, (N,).
        max_iterations: Most steps that any row may attempt.
    """
    table = _coefficients()
    N = len(start)
    times = torch.linspace(0, 1, nodes + 1, dtype=start.dtype, device=start.device)
    states = start[:, None].expand(-1, nodes + 1, -1).clone()
    time, length = start.new_zeros(N), start.new_full((N,), _FIRST_STEP)
    steps = torch.zeros(N, dtype=torch.long, device=start.device)
    stuck = torch.zeros(N, dtype=torch.bool, device=start.device)
    y, slope = start.clone(), field(start)
    active = torch.arange(N, device=start.device)
    before, attempt = torch.full_like(time, -1), 0
    while len(active):
        step = _attempted(table, field, y[active], slope[active], time[active], length[active])
        h, y_1, now = step.h[:, 0], step.y_1, step.now
        error = h * _error(table, step.stages, measure(step.y_0)) / rtol
        error = torch.where(y_1.isfinite().all(-1) & step.stages[-1].isfinite().all(-1), error, torch.inf)
        error = error.nan_to_num(nan=torch.inf)
        accepted = error <= 1
        _fill(states, times, table, field, step, active, accepted)
        rows = active[accepted]
        y[rows], slope[rows], time[rows] = y_1[accepted], step.stages[-1][accepted], now[accepted]
        steps[active] += 1
        attempt += 1
        factor = (_SAFETY * error.clamp_min(1e-10) ** (-1 / 8)).clamp(_LEAST, _MOST)
        # After a step that failed because a stage left the finite numbers, nothing is known of the error.
        length[active] = h * torch.where(accepted, factor, factor.clamp(max=_SAFETY))
        if attempt % _PATIENCE == 0:
            stuck[active] = (time[active] < 1) & (time[active] - before[active] < _LEAST_GAIN)
            before = time.clone()
        keep = (time[active] < 1) & ~stuck[active] & (steps[active] < max_iterations)
        active = active[keep]
    return Trajectory(states, time, stuck, steps)


@dataclass(frozen=True)
class _Step:
    """A step of some rows, (n, ...), whether it will be accepted or not.

    Attributes:
        t: Where it begins, (n,).
        now: Where it ends, (n,).
        h: Its length, (n, 1).
        y_0: The states at its beginning, (n, k).
        y_1: The states at its end, (n, k).
        stages: The field at the stages of the method, the first at the beginning and the last at the end.
    """

    t: Tensor
    now: Tensor
    h: Tensor
    y_0: Tensor
    y_1: Tensor
    stages: list[Tensor]


def _attempted(
    table: _Table, field: Callable[[Tensor], Tensor], y_0: Tensor, slope: Tensor, t: Tensor, length: Tensor
) -> _Step:
    """A step of so much from y_0 at t, or up to 1, where that is nearer."""
    h = torch.minimum(length, 1 - t)[:, None]
    stages = [slope]
    for row in table.stages:
        stages.append(field(y_0 + h * _combined(row, stages)))
    y_1 = y_0 + h * _combined(table.weights, stages)
    stages.append(field(y_1))
    last = t + h[:, 0] >= 1 - 1e-12
    return _Step(t, torch.where(last, 1, t + h[:, 0]), h, y_0, y_1, stages)


def _fill(
    states: Tensor,
    times: Tensor,
    table: _Table,
    field: Callable[[Tensor], Tensor],
    step: _Step,
    active: Tensor,
    accepted: Tensor,
) -> None:
    """Write the states at the nodes that accepted steps have passed, and their ends to all nodes behind them."""
    t, now = step.t, step.now
    inside = accepted[:, None] & (times > t[:, None]) & (times < now[:, None])
    behind = accepted[:, None] & (times >= now[:, None])
    (dense,) = inside.any(1).nonzero(as_tuple=True)
    rows, node = behind.nonzero(as_tuple=True)
    states[active[rows], node] = step.y_1[rows]
    if not len(dense):
        return
    stages = [k[dense] for k in step.stages]
    y_0, y_1, h = step.y_0[dense], step.y_1[dense], step.h[dense]
    for row in table.extra:
        stages.append(field(y_0 + h * _combined(row, stages)))
    change, first, last = y_1 - y_0, stages[0], stages[12]
    powers = [change, h * first - change, 2 * change - h * (last + first)]
    powers += [h * _combined(row, stages) for row in table.dense]
    rows, node = inside[dense].nonzero(as_tuple=True)
    u = ((times[node] - t[dense][rows]) / h[rows, 0])[:, None]
    value = torch.zeros_like(y_0[rows])
    for i, power in enumerate(reversed(powers)):
        value = (value + power[rows]) * (u if i % 2 == 0 else 1 - u)
    states[active[dense][rows], node] = y_0[rows] + value


def _error(table: _Table, stages: list[Tensor], size: Callable[[Tensor], Tensor]) -> Float[Tensor, " N"]:
    """The estimate of DOP853, from two embedded methods, over the length of the step."""
    fifth, third = (size(_combined(weights, stages)) for weights in (table.error_5, table.error_3))
    both = (fifth.square() + 0.01 * third.square()).sqrt()
    return torch.where(both > 0, fifth.square() / both, fifth)


def _combined(coefficients: list[float], stages: list[Tensor]) -> Tensor:
    total = torch.zeros_like(stages[0])
    for c, k in zip(coefficients, stages, strict=False):
        if c:
            total = total + c * k
    return total


@dataclass(frozen=True)
class _Table:
    """Coefficients as Python numbers: zeros are skipped, and every dtype is served."""

    stages: list[list[float]]
    weights: list[float]
    error_5: list[float]
    error_3: list[float]
    extra: list[list[float]]
    dense: list[list[float]]


@lru_cache(maxsize=1)
def _coefficients() -> _Table:
    def numbers(a: Any) -> list[Any]:
        return np.asarray(a).tolist()

    return _Table(
        stages=[row[: i + 1] for i, row in enumerate(numbers(DOP853.A)[1:])],
        weights=numbers(DOP853.B),
        error_5=numbers(DOP853.E5),
        error_3=numbers(DOP853.E3),
        extra=numbers(DOP853.A_EXTRA),
        dense=numbers(DOP853.D),
    )
