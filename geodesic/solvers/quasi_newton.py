"""Limited-memory BFGS matrices: an approximation of the Hessian, corrected by the latest steps of each pair."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.solvers.preconditioner import Preconditioner
from geodesic.solvers.solver import SolverState, inner

__all__ = ["Corrected", "QuasiNewton", "decrement"]


class Corrected(SolverState, Protocol):
    """A named tuple with an approximation of the Hessian that is corrected by the latest steps."""

    @property
    def direction(self) -> Float[Tensor, "P interior d"]:
        """What to subtract at the full step."""

    @property
    def preconditioner(self) -> Preconditioner:
        """The approximation before its corrections."""

    @property
    def steps(self) -> Float[Tensor, "P m interior d"]:
        """s_k, the latest first."""

    @property
    def changes(self) -> Float[Tensor, "P m interior d"]:
        """y_k, of the gradient."""

    @property
    def scales(self) -> Float[Tensor, "P m"]:
        """1 / <s_k, y_k>; zero where a pair learned nothing."""


class QuasiNewton:
    """H_k, the inverse Hessian by m corrections of gamma S^{-1}: a preconditioner, as S is.

    gamma = <s, y> / <y, S^{-1} y> of the latest step: how much stiffer than S the energy was along it.

    Reference:
        J. Nocedal, Updating Quasi-Newton Matrices with Limited Storage, 1980.

    Args:
        preconditioner: S.
        steps: s_k, (P, m, T - 1, d), the latest first.
        changes: y_k of the gradient, (P, m, T - 1, d).
        scales: 1 / <s_k, y_k>, (P, m), or zero for corrections that are left out.
        gamma: (P,); by default from the latest step, 1 where it is left out.
    """

    def __init__(
        self,
        preconditioner: Preconditioner,
        steps: Float[Tensor, "P m interior d"],
        changes: Float[Tensor, "P m interior d"],
        scales: Float[Tensor, "P m"],
        gamma: Float[Tensor, " P"] | None = None,
    ) -> None:
        self.preconditioner, self.positive = preconditioner, preconditioner.positive
        self.steps, self.changes, self.scales = steps, changes, scales
        self.gamma = torch.ones_like(self.positive, dtype=steps.dtype) if gamma is None else gamma
        if gamma is None and steps.shape[1]:
            y, scale = changes[:, 0], scales[:, 0]
            stiffer = 1 / (scale * inner(y, preconditioner.solve(y)))
            self.gamma = torch.where(scale > 0, stiffer, self.gamma)

    @classmethod
    def of(cls, state: Corrected) -> QuasiNewton:
        """That of a state."""
        return cls(state.preconditioner, state.steps, state.changes, state.scales)

    def __getitem__(self, rows: Tensor) -> QuasiNewton:
        corrections = (self.steps[rows], self.changes[rows], self.scales[rows])
        return QuasiNewton(self.preconditioner[rows], *corrections, self.gamma[rows])

    def solve(self, right: Float[Tensor, "P interior d"]) -> Float[Tensor, "P interior d"]:
        """H_k right, by the two-loop recursion."""
        q, shares = right, []
        for k in range(self.steps.shape[1]):
            share = self.scales[:, k] * inner(self.steps[:, k], q)
            shares.append(share)
            q = q - share[:, None, None] * self.changes[:, k]
        p = self.gamma[:, None, None] * self.preconditioner.solve(q)
        for k in reversed(range(self.steps.shape[1])):
            share = shares[k] - self.scales[:, k] * inner(self.changes[:, k], p)
            p = p + share[:, None, None] * self.steps[:, k]
        return p


def decrement(state: SolverState, direction: Float[Tensor, "P interior d"]) -> Float[Tensor, " P"]:
    """<g, p> / (2 E): by how much of its energy a path falls along p in the quadratic model that p minimizes."""
    T = state.path.shape[1] - 1
    return T * inner(state.gradient, direction) / (2 * state.energy)
