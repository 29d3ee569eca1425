"""Shooting at a point: velocities improved until their geodesics arrive."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import norms_at
from geodesic.numerics.line_search import Trial, backtrack
from geodesic.riemannian.endings import after_integration, at_constant_speed
from geodesic.riemannian.maps.flow import follow, follow_with_neighbors
from geodesic.riemannian.maps.neighbors import ends_by_beginnings
from geodesic.riemannian.maps.stride import Stride
from geodesic.riemannian.records import Record
from geodesic.solvers.status import Status

__all__ = ["Aimed", "Target", "aimed"]

_MISS = 10  # times rtol: how near a shot must come, relative to the length
_STRIDE = 0.3  # most that a step may change the velocity by, relative to it: or another geodesic would be found
_TRIES = 6  # of the first step with a derivative, each half as long
_DERIVATIVE_RTOL = 1e-6  # no smaller: Newton's method needs no exact derivative


@dataclass(frozen=True)
class Shots(Record):
    """Velocities, what is left from where they lead to the points aimed at, and its size over the length.

    `status` is that of the integration, whose miss is infinite where it did not come to its end; `derivatives` counts
    those of exp_a that were taken so far.
    """

    velocity: Float[Tensor, "N d"]
    left: Float[Tensor, "N d"]
    miss: Float[Tensor, " N"]
    status: Int[Tensor, " N"]
    derivatives: Int[Tensor, " N"]


class Aimed(NamedTuple):
    """Velocities that arrive, or those that were given; by how much they miss; paths, a `Status` and derivatives."""

    velocity: Float[Tensor, "N d"]
    miss: Float[Tensor, " N"]
    path: Float[Tensor, "N nodes d"]
    status: Int[Tensor, " N"]
    derivatives: Int[Tensor, " N"]


class Budget:
    """How many steps of integrations N rows may still attempt, over all shots and derivatives together.

    Args:
        rows: Number of rows.
        steps: For each of them.
        device: Of the numbers.
    """

    def __init__(self, rows: int, steps: int, device: torch.device) -> None:
        self.left: Int[Tensor, " N"] = torch.full((rows,), steps, device=device)

    def pay(self, rows: Int[Tensor, " n"], steps: Int[Tensor, " n"]) -> None:
        """Take off what rows, by their numbers, have attempted."""
        self.left[rows] -= steps

    def spent(self, rows: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Which of the rows may not go on."""
        return self.left[rows] <= 0


@dataclass(frozen=True)
class Target(Record):
    """Points b to reach from points a after unit time.

    Args:
        manifold: Where.
        a: Points, (N, d).
        b: Points, (N, d).
        factor: L with L L^T = G(b), (N, d, d).
        row: Numbers of the rows in the budget, (N,).
        budget: Of steps of integrations.
        stride: How geodesics are followed.
        max_iterations: Most derivatives of exp_a for each pair.
    """

    manifold: Manifold
    a: Float[Tensor, "N d"]
    b: Float[Tensor, "N d"]
    factor: Float[Tensor, "N d d"]
    row: Int[Tensor, " N"]
    budget: Budget
    stride: Stride
    max_iterations: int

    @property
    def near(self) -> float:
        """The largest miss of a shot that has arrived."""
        return _MISS * self.stride.rtol

    def shoot(self, v: Float[Tensor, "N d"]) -> Shots:
        """Follow the geodesics from a with these velocities; those with a budget."""
        none = torch.zeros_like(self.row)
        shots = Shots(v, self.b - self.a, torch.full_like(v[:, 0], torch.inf), none + Status.MAX_ITERATIONS, none)
        (rows,) = (~self.budget.spent(self.row)).nonzero(as_tuple=True)
        return shots.replaced(rows, self.of(rows)._shot(v[rows])) if len(rows) else shots

    def _shot(self, v: Float[Tensor, "N d"]) -> Shots:
        run = follow(self.manifold, self.a, v, self._affordable(self.stride))
        self.budget.pay(self.row, run.steps)
        left = self.b - run.states[:, -1, : v.shape[-1]]
        miss = (self.factor.mT @ left[..., None])[..., 0].norm(dim=-1) / norms_at(self.manifold, self.a, v)
        status = after_integration(run.time, run.stuck)
        return Shots(v, left, torch.where(run.time < 1, torch.inf, miss), status, torch.zeros_like(status))

    def derivative(self, v: Float[Tensor, "N d"]) -> Float[Tensor, "N d d"]:
        """Of exp_a in v, by Jacobi fields."""
        N, d = v.shape
        units = torch.eye(d, dtype=v.dtype, device=v.device).expand(N, d, d)
        stride = replace(self._affordable(self.stride), rtol=max(self.stride.rtol, _DERIVATIVE_RTOL))
        there = follow_with_neighbors(self.manifold, self.a, v, torch.zeros_like(units), units, stride)
        self.budget.pay(self.row, there.run.steps)
        return torch.where((there.run.time < 1)[:, None, None], torch.nan, there.Y[:, -1])

    def _affordable(self, stride: Stride) -> Stride:
        """To the end at once, in as many steps as the richest row has left."""
        most = max(1, int(self.budget.left[self.row].amax()))
        return replace(stride, segments=1, max_iterations=min(stride.max_iterations, most))

    def derivative_of_steps(self, path: Float[Tensor, "N nodes d"]) -> Float[Tensor, "N d d"]:
        """The same from the solver's paths: near enough for most, and without an integration."""
        return ends_by_beginnings(self.manifold, path)[1]


def aimed(target: Target, guess: Float[Tensor, "N d"], path: Float[Tensor, "N nodes d"], usable: Tensor) -> Aimed:
    """Improve velocities until their geodesics arrive.

    Args:
        target: From where, and whereto.
        guess: Velocities to begin with, (N, d).
        path: Nodes of paths that belong to them, (N, T + 1, d).
        usable: Whether a path is one, (N,), boolean.
    """
    still = (guess == 0).all(-1)
    v, miss = guess, torch.where(still, 0, torch.full_like(guess[:, 0], torch.inf))
    (rows,) = (~still & usable & guess.isfinite().all(-1)).nonzero(as_tuple=True)
    status = torch.where(still, Status.CONVERGED, Status.NO_NEARER)
    derivatives = torch.zeros_like(status)
    if len(rows):
        shots = _improved(target.of(rows), guess[rows], path[rows])
        v, miss = v.index_put((rows,), shots.velocity), miss.index_put((rows,), shots.miss)
        status, derivatives = status.index_put((rows,), shots.status), derivatives.index_put((rows,), shots.derivatives)
    (hit,) = ((status == Status.CONVERGED) & ~still).nonzero(as_tuple=True)
    if len(hit):
        flown, outcome = _flown(target.of(hit), v[hit], path[hit])
        path, status = path.index_put((hit,), flown), status.index_put((hit,), outcome)
    return Aimed(torch.where((status == Status.CONVERGED)[:, None], v, guess), miss, path, status, derivatives)


def _improved(target: Target, guess: Float[Tensor, "N d"], path: Float[Tensor, "N nodes d"]) -> Shots:
    """V <- v + Y^{-1} (b - exp_a(v)), with Y the derivative of exp_a: new ones as long as they are of use.

    No shot begins after the budget of a row is spent, which is reported as `Status.MAX_ITERATIONS`. The status is that
    of the shots as such, or of an integration that kept the first of them from its end.
    """
    shots = target.shoot(guess)
    going = shots.miss.isfinite() & (shots.miss > target.near) & ~target.budget.spent(target.row)
    (rows,) = going.nonzero(as_tuple=True)
    for attempt in range(target.max_iterations):
        if not len(rows):
            break
        some, now = target.of(rows), shots.of(rows)
        Y = some.derivative(now.velocity) if attempt else some.derivative_of_steps(path[rows])
        then, useful = _by_one_derivative(some, now, Y)
        shots = shots.replaced(rows, replace(then, derivatives=now.derivatives + 1))
        rows = rows[(useful | (attempt == 0)) & (then.miss > target.near) & ~some.budget.spent(some.row)]
    ended = torch.where(shots.miss <= target.near, Status.CONVERGED, Status.NO_NEARER)
    ended = ended.index_fill(0, rows, Status.MAX_ITERATIONS)
    ended = torch.where(target.budget.spent(target.row) & (shots.miss > target.near), Status.MAX_ITERATIONS, ended)
    return replace(shots, status=torch.where(shots.miss.isinf(), shots.status, ended))


def _by_one_derivative(target: Target, shots: Shots, Y: Float[Tensor, "N d d"]) -> tuple[Shots, Bool[Tensor, " N"]]:
    """Steps with the same derivative, as long as each brings the end nearer by a third; and whether the first did."""
    progress = torch.ones_like(shots.miss, dtype=torch.bool)
    useful, tries = progress, _TRIES
    while bool((wanting := progress & (shots.miss > target.near)).any()):
        (rows,) = wanting.nonzero(as_tuple=True)
        now = shots.of(rows)
        step = torch.linalg.solve_ex(Y[rows], now.left).result
        then, gained = _stepped(target.of(rows), now, step, tries)
        shots = shots.replaced(rows, then)
        progress = torch.zeros_like(progress).index_put((rows,), gained)
        if tries == _TRIES:
            useful, tries = progress, 1
    return shots, useful


def _stepped(target: Target, shots: Shots, step: Float[Tensor, "N d"], tries: int) -> tuple[Shots, Bool[Tensor, " N"]]:
    """Take steps, halved until they bring the end nearer; which of them brought it nearer by a third at once."""
    share = (_STRIDE / (step.norm(dim=-1) / shots.velocity.norm(dim=-1))).clamp(max=1)
    (usable,) = step.isfinite().all(-1).nonzero(as_tuple=True)

    def trial(rows: Tensor, part: Tensor) -> Trial:
        then = target.of(rows).shoot(shots.velocity[rows] + part[:, None] * step[rows])
        return Trial(
            then.miss < shots.miss[rows],
            lambda: (then.velocity, then.left, then.miss, then.status, then.derivatives),
            part / 2,
        )

    found = backtrack(
        trial,
        (shots.velocity, shots.left, shots.miss, shots.status, shots.derivatives),
        share,
        usable,
        max_trials=tries,
    )
    then = Shots(*found.reached)
    fast = (then.miss < shots.miss / 1.5) | (found.step < 1)
    return then, ~found.failed & fast


def _flown(
    target: Target, v: Float[Tensor, "N d"], path: Float[Tensor, "N nodes d"]
) -> tuple[Float[Tensor, "N nodes d"], Int[Tensor, " N"]]:
    """Nodes of geodesics that arrive, with the given ends; the old ones where the speed is not constant.

    Where second derivatives see nothing (ReLU), the straight line arrives, and is no geodesic.
    """
    stride = replace(target.stride, segments=path.shape[1] - 1)
    nodes, velocity = follow(target.manifold, target.a, v, stride).states.split(v.shape[-1], dim=-1)
    moving = torch.ones_like(v[:, 0], dtype=torch.bool)
    status = torch.full_like(moving, Status.CONVERGED, dtype=torch.long)
    _, status = at_constant_speed(norms_at(target.manifold, nodes, velocity), moving, status, stride.speed_rtol)
    nodes = torch.cat([path[:, :1], nodes[:, 1:-1], path[:, -1:]], dim=1)
    return torch.where((status == Status.CONVERGED)[:, None, None], nodes, path), status
