"""Newton's method without Jacobians, for large latent spaces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.geometry.excess import NewtonStep
from geodesic.geometry.manifold import Manifold
from geodesic.numerics.masks import divided
from geodesic.registry import setting
from geodesic.solvers.certificate import certified
from geodesic.solvers.krylov import Effort, krylov_step
from geodesic.solvers.lbfgs import LBFGS, better_conditioned, corrected_step
from geodesic.solvers.preconditioner import Preconditioner, preconditioned_by
from geodesic.solvers.quasi_newton import QuasiNewton, decrement
from geodesic.solvers.solver import SOLVERS, Certificate, Solver, select
from geodesic.solvers.status import Status

__all__ = ["NewtonKrylov"]


class _State(NamedTuple):
    """That of `LBFGS`, and whether the direction is that of a Newton system."""

    path: Float[Tensor, "P nodes d"]
    weights: Float[Tensor, "P T"]
    energy: Float[Tensor, " P"]
    excess: Float[Tensor, " P"]
    status: Int[Tensor, " P"]
    gradient: Float[Tensor, "P interior d"]
    direction: Float[Tensor, "P interior d"]
    preconditioner: Preconditioner
    steps: Float[Tensor, "P m interior d"]
    changes: Float[Tensor, "P m interior d"]
    scales: Float[Tensor, "P m"]
    since: Int[Tensor, " P"]
    solved: Bool[Tensor, " P"]


@SOLVERS.register("newton_krylov")
@dataclass(frozen=True)
class NewtonKrylov(Solver[_State]):
    """L-BFGS with Newton steps by conjugate gradients where they are worth it: no Jacobian is ever formed.

    A product with the Hessian differentiates the energy gradient once more along a direction: two decoder passes,
    whatever d is, as much as a step of `LBFGS`, which gains about as much on its way. So its steps are taken, until
    its own estimate of the excess is small enough. The Newton system that then certifies the path is solved with its
    matrix for a preconditioner; where it refuses, its solution is the next step. It also is where a step fails.

    Reference:
        R. S. Dembo, S. C. Eisenstat, T. Steihaug, Inexact Newton Methods, 1982.
        J. L. Morales, J. Nocedal, Automatic Preconditioning by Limited Memory Quasi-Newton Updating, 2000.

    Args:
        history: Corrections that are kept, as in `LBFGS`.
        metric_samples: Of the preconditioner, as in `LBFGS`.

    Example:
        >>> import torch, geodesic
        >>> a, b = torch.tensor([1.0, 0.0]), torch.tensor([-0.5, 1.0])
        >>> solution = geodesic.solve(geodesic.surfaces.Paraboloid(), a, b, solver=geodesic.NewtonKrylov())
        >>> print(f"{float(solution.length):.4f}", bool(solution.converged), bool(solution.minimum))
        2.0994 True True
    """

    history: int = field(default=20, metadata=setting("number of corrections that are kept", gt=0))
    metric_samples: int = field(
        default=4, metadata=setting("points at which the preconditioner takes the metric", ge=0)
    )

    asks_again: ClassVar[float] = 0.3  # a certificate costs as much as several steps
    asks_latest: ClassVar[int] = 40

    def __post_init__(self) -> None:
        require_integer("history", self.history, least=1)
        require_integer("metric_samples", self.metric_samples, least=0)

    def preconditioned_by(self, d: int, forms_metric: bool) -> str:
        return preconditioned_by(self.metric_samples, d, forms_metric)

    def begin(self, manifold: Manifold, path: Tensor, weights: Tensor) -> _State:
        begun = LBFGS(self.history, self.metric_samples).begin(manifold, path, weights)
        return _State(*begun, torch.zeros_like(begun.status, dtype=torch.bool))

    def step(self, manifold: Manifold, state: _State) -> _State:
        solved, running, before = state.solved, state.status, state.energy
        better = better_conditioned(manifold, state, self.metric_samples)
        direction = torch.where(solved[:, None, None], state.direction, better.direction)
        state = corrected_step(manifold, better._replace(direction=direction), self.history)
        # Between kinks no second derivative knows what the next ones hold: what a step has gained says more.
        gained = (before - state.energy) / state.energy
        excess = torch.maximum(decrement(state, state.direction), gained)
        state = state._replace(excess=excess, solved=torch.zeros_like(solved))
        # A step that failed by an approximate Hessian is no reason to give up.
        rows, _ = divided((state.status == Status.STALLED) & (running == Status.RUNNING) & ~solved)
        if not len(rows):
            return state
        some = select(state, rows)
        beyond = torch.full_like(some.energy, torch.finfo(some.energy.dtype).tiny)
        step = krylov_step(manifold, some.path, some.weights, QuasiNewton.of(some), beyond, Effort(leads=True))
        state = state._replace(status=state.status.index_put((rows,), running[rows]))
        return self.informed(state, rows, step)

    def certify(self, manifold: Manifold, state: _State, tol: Float[Tensor, " P"]) -> Certificate:
        return certified(manifold, state, tol, int(state.since.max()), self.metric_samples)

    def informed(self, state: _State, rows: Int[Tensor, " n"], certificate: Certificate) -> _State:
        step = cast(NewtonStep, certificate)
        known = step.direction.isfinite().flatten(1).all(1)
        direction = torch.where(known[:, None, None], step.direction, state.direction[rows])
        return state._replace(
            direction=state.direction.index_put((rows,), direction), solved=state.solved.index_put((rows,), known)
        )
