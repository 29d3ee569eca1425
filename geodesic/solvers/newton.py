"""Newton's method on the path energy, exact and block tridiagonal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.excess import newton_step
from geodesic.geometry.manifold import Manifold
from geodesic.registry import setting
from geodesic.solvers.lbfgs import LBFGS
from geodesic.solvers.line_search import descend
from geodesic.solvers.newton_krylov import NewtonKrylov
from geodesic.solvers.solver import SOLVERS, Certificate, Solver, require_solver
from geodesic.solvers.status import Status

__all__ = ["Newton"]


_WARM_UP = LBFGS()


class _State(NamedTuple):
    path: Float[Tensor, "P nodes d"]
    weights: Float[Tensor, "P T"]
    energy: Float[Tensor, " P"]
    excess: Float[Tensor, " P"]
    status: Int[Tensor, " P"]
    gradient: Float[Tensor, "P interior d"]  # of half the weighted squared chords
    direction: Float[Tensor, "P interior d"]
    minimum: Bool[Tensor, " P"]


@SOLVERS.register("newton")
@dataclass(frozen=True)
class Newton(Solver[_State]):
    """Exact Newton with a block tridiagonal Hessian: the default where Jacobians are affordable.

    z <- z - alpha H^{-1} g
    H_ii = 2 T J_i^T J_i + T Hess <2 x_i - x_{i-1} - x_{i+1}, x(z_i)>,   H_{i,i+1} = -T J_i^T J_{i+1}

    Both terms of H_ii are of order 1/T, so leaving out the second, as Gauss and Newton do, gives away quadratic
    convergence. A step costs 3 + 2 d decoder passes, one more for each refused trial, and a solve linear in T.
    Where H is not positive definite its sources of negative curvature are halved, then left out (`newton_step`).

    Far from the answer the quadratic model is not worth its price: `warm_up` goes the first part of the way.

    Args:
        warm_up: The solver that goes first, or None.

    Example:
        >>> import torch, geodesic
        >>> a, b = torch.tensor([1.0, 0.0]), torch.tensor([-0.5, 1.0])
        >>> solution = geodesic.solve(geodesic.surfaces.Paraboloid(), a, b, solver=geodesic.Newton())
        >>> print(f"{float(solution.length):.4f}", bool(solution.converged), bool(solution.minimum))
        2.0994 True True
    """

    warm_up: Solver[Any] | None = field(
        default=_WARM_UP, metadata=setting("whether L-BFGS goes first", words={True: _WARM_UP, False: None})
    )

    warm_up_share: ClassVar[float] = 0.1

    def __post_init__(self) -> None:
        require_solver("warm_up", self.warm_up)

    def uses_hessian(self, d: int) -> bool:
        return True

    def lighter(self) -> NewtonKrylov:
        return NewtonKrylov(warm_up=self.warm_up)

    def begin(self, manifold: Manifold, path: Tensor, weights: Tensor) -> _State:
        status = torch.zeros(len(path), dtype=torch.int64, device=path.device)
        return _evaluated(manifold, path, weights, status)

    def step(self, manifold: Manifold, state: _State) -> _State:
        found = descend(manifold, state, with_gradient=False)
        status = torch.where(found.failed, Status.STALLED, state.status)
        return _evaluated(manifold, found.path, state.weights, status)

    def certify(self, manifold: Manifold, state: _State) -> Certificate:
        return state


def _evaluated(manifold: Manifold, path: Tensor, weights: Tensor, status: Tensor) -> _State:
    expansion = manifold.expansion(path, weights)
    step = newton_step(expansion)
    lost = step.direction.isnan().flatten(1).any(1)
    return _State(
        path,
        weights,
        (path.shape[1] - 1) / 2 * expansion.squared_chords.sum(-1),
        step.excess,
        torch.where(lost, Status.NOT_FINITE, status),
        expansion.gradient,
        step.direction,
        step.minimum,
    )
