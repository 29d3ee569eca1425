"""GEORCE, the method that ours are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.solvers.krylov import certify
from geodesic.solvers.solver import Certificate, Solver, inner
from geodesic.solvers.status import Status

_SUFFICIENT_DECREASE = 1e-4
_SMALLEST = 1e-5


class _State(NamedTuple):
    path: Tensor
    weights: Tensor  # all 1: it knows equal times only
    energy: Tensor
    excess: Tensor
    status: Tensor
    alpha: Tensor  # (P,), the first step to try
    G: Tensor  # (P, T, d, d), at the midpoints
    w: Tensor  # (P, T, d), gradients of u^T G(m) u in the midpoint m

    @property
    def gradient(self) -> Tensor:
        """That of half the squared chords in the interior nodes, (P, T - 1, d)."""
        Gu = (self.G @ self.path.diff(dim=1)[..., None])[..., 0]
        return Gu[:, :-1] - Gu[:, 1:] + (self.w[:, :-1] + self.w[:, 1:]) / 4


@dataclass(frozen=True)
class Georce(Solver[_State]):
    """GEORCE, for a batch, by the midpoint rule: geodesics as a problem of optimal control.

    u_t = z_{t+1} - z_t are the controls, G_t the metric at the midpoint m_t of segment t and w_t the gradient of
    u_t^T G(m_t) u_t in m_t. With G and w frozen, the best controls that lead from z_0 to z_T are

    v_t = (w_{t-1} + w_t) / 2,   s_t = v_t + ... + v_{T-1},   s_T = 0
    (sum_t G_t^{-1}) mu = -2 (z_T - z_0) - sum_t G_t^{-1} s_{t+1}
    u_t* = -G_t^{-1} (mu + s_{t+1}) / 2

    and the new controls are (1 - alpha) u + alpha u*, by a line search. One evaluation of G and one backward pass a
    step, one more evaluation for each refused trial, and one d x d system.

    Eliminating mu gives 2 G_{t-1} u*_{t-1} - 2 G_t u*_t + v_t = 0, that is z* = z - S^{-1} g with g the gradient of
    half the squared chords and S the stiffness matrix of the current path: Newton's method without the derivatives
    of G in the Hessian. It converges linearly wherever there is curvature.

    Reference:
        F. M. Rygaard, S. Hauberg, GEORCE: A Fast New Control Algorithm for Computing Geodesics, 2025.

    Args:
        adaptive: Step by the parabola through two energies and a slope, where a step was refused and for the first
            trial of the next step, which may be longer than 1. Otherwise begin at 1 and halve, as published.
    """

    adaptive: bool = True

    check_every: ClassVar[int] = 5  # as for L-BFGS, whose steps cost the same

    def begin(self, manifold: Manifold, path: Tensor, weights: Tensor) -> _State:
        energy, G, pull = _metric(manifold, path)
        status = torch.zeros(len(path), dtype=torch.int64, device=path.device)
        return _State(
            path, weights, energy, torch.full_like(energy, torch.inf), status, torch.ones_like(energy), G, pull()
        )

    def step(self, manifold: Manifold, state: _State) -> _State:
        T = state.path.shape[1] - 1
        move = _optimal(state) - state.path
        slope = T * inner(state.gradient, -move[:, 1:-1])
        new = state._replace(
            path=state.path.clone(),
            energy=state.energy.clone(),
            status=torch.where(state.status == Status.RUNNING, Status.STALLED, state.status),
            alpha=torch.ones_like(state.alpha),
            G=state.G.clone(),
            w=state.w.clone(),
            excess=slope / (2 * state.energy),
        )
        alpha = state.alpha.clone()
        noise = 8 * torch.finfo(slope.dtype).eps * state.energy
        (rows,) = (slope > 0).nonzero(as_tuple=True)
        while len(rows):
            a = alpha[rows]
            trial = torch.cat(
                [
                    state.path[rows, :1],
                    state.path[rows, 1:-1] + a[:, None, None] * move[rows, 1:-1],
                    state.path[rows, -1:],
                ],
                dim=1,
            )
            value, G, pull = _metric(manifold, trial)
            change = value - state.energy[rows]
            good = change <= -_SUFFICIENT_DECREASE * a * slope[rows] + noise[rows]
            best = a**2 * slope[rows] / (2 * (change + a * slope[rows]))  # minimum of the parabola
            if bool(good.any()):
                taken = rows[good]
                new.path[taken], new.energy[taken], new.status[taken] = trial[good], value[good], state.status[taken]
                new.G[taken], new.w[taken] = G[good], pull()[good]
                if self.adaptive:
                    # Where the decrease is rounding, the parabola is too.
                    known = good & best.isfinite() & (best > 0) & (-change > 1e3 * noise[rows])
                    new.alpha[rows[known]] = best[known].clamp(0.5, 2.0)
            if self.adaptive:
                shorter = torch.minimum(torch.maximum(torch.where(best.isfinite(), best, a / 2), a / 10), a / 2)
            else:
                shorter = a / 2
            alpha[rows] = shorter
            rows = rows[~good & (shorter >= _SMALLEST)]
        return new

    def certify(self, manifold: Manifold, state: _State, tol: Tensor) -> Certificate:
        return certify(manifold, state.path, state.weights, tol)


def _metric(manifold: Manifold, path: Tensor) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
    """Energies, the metric at the midpoints, and a function that returns w by one backward pass."""
    u = path.diff(dim=1)
    with torch.enable_grad():
        middle = ((path[:, 1:] + path[:, :-1]) / 2).requires_grad_()
        G = manifold.metric_tensor(middle)
        chords = (u * (G @ u[..., None])[..., 0]).sum(-1)
    energy = u.shape[1] / 2 * chords.detach().sum(-1)

    def pull() -> Tensor:
        if not chords.requires_grad:
            return torch.zeros_like(middle)
        return torch.autograd.grad(chords.sum(), middle)[0]

    return energy, G.detach(), pull


def _optimal(state: _State) -> Tensor:
    """The paths of the optimal controls u*, (P, T + 1, d)."""
    path, w = state.path, state.w
    v = (w[:, :-1] + w[:, 1:]) / 2
    s = torch.nn.functional.pad(v.flip(1).cumsum(1).flip(1), (0, 0, 0, 1))  # s_1 ... s_T
    inverse = torch.linalg.inv_ex(state.G)[0]
    Gs = (inverse @ s[..., None])[..., 0]
    right = 2 * (path[:, -1] - path[:, 0]) + Gs.sum(1)
    mu = torch.linalg.solve_ex(inverse.sum(1), -right)[0]
    u = -(Gs + (inverse @ mu[:, None, :, None])[..., 0]) / 2
    return torch.cat([path[:, :1], path[:, :1] + u.cumsum(1)], dim=1)
