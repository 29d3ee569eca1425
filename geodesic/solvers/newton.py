"""Newton's method on the path energy, exact and block tridiagonal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.excess import newton_step
from geodesic.geometry.manifold import Manifold
from geodesic.numerics.block_tridiagonal import BlockCholesky
from geodesic.registry import setting
from geodesic.solvers.lbfgs import LBFGS, corrected_step
from geodesic.solvers.newton_krylov import NewtonKrylov
from geodesic.solvers.solver import SOLVERS, Certificate, Solver, inner, require_solver
from geodesic.solvers.status import Status

__all__ = ["Newton"]


_WARM_UP = LBFGS()
_RATE = 0.6  # by which the excess has to fall with each step under one Hessian; a new one costs 1 + d steps
_TRUST = 0.03  # part of the excess where a Hessian was formed, up to which it certifies other paths


class _State(NamedTuple):
    """That of `LBFGS`, with the factors of a Hessian for a preconditioner, and what is known where it was formed."""

    path: Float[Tensor, "P nodes d"]
    weights: Float[Tensor, "P T"]
    energy: Float[Tensor, " P"]
    excess: Float[Tensor, " P"]
    status: Int[Tensor, " P"]
    gradient: Float[Tensor, "P interior d"]
    direction: Float[Tensor, "P interior d"]
    preconditioner: BlockCholesky
    steps: Float[Tensor, "P m interior d"]
    changes: Float[Tensor, "P m interior d"]
    scales: Float[Tensor, "P m"]
    minimum: Bool[Tensor, " P"]
    formed: Float[Tensor, " P"]  # the excess where the Hessian was formed
    since: Int[Tensor, " P"]  # steps


@SOLVERS.register("newton")
@dataclass(frozen=True)
class Newton(Solver[_State]):
    """Exact Newton with a block tridiagonal Hessian: the default where Jacobians are affordable.

    z <- z - alpha B^{-1} g
    H_ii = 2 T J_i^T J_i + T Hess <2 x_i - x_{i-1} - x_{i+1}, x(z_i)>,   H_{i,i+1} = -T J_i^T J_{i+1}

    Both terms of H_ii are of order 1/T, so leaving out the second, as Gauss and Newton do, gives away quadratic
    convergence. A Hessian costs 2 + 2 d decoder passes, and a solve is linear in T. Where H is not positive definite
    its sources of negative curvature are halved, then left out (`newton_step`).

    A Hessian is kept for as long as it leads on: B is the one that was formed last, corrected by what was seen since,
    as in `LBFGS`, and such a step costs two passes. Once the excess energy falls too slowly a new one is formed.

    The certificate is the Newton decrement by the gradient of the path itself and the Hessian that was formed last, if
    since then the excess fell to a thirtieth; else by the path's own.

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
    patience: ClassVar[float] = 100

    def __post_init__(self) -> None:
        require_solver("warm_up", self.warm_up)

    def uses_hessian(self, d: int) -> bool:
        return True

    def preconditioned_by(self, d: int, forms_metric: bool) -> str:
        return "the factors of the latest Hessian"

    def lighter(self) -> NewtonKrylov:
        return NewtonKrylov()

    def begin(self, manifold: Manifold, path: Tensor, weights: Tensor) -> _State:
        status = torch.zeros(len(path), dtype=torch.int64, device=path.device)
        return _formed(manifold, path, weights, status)

    def step(self, manifold: Manifold, state: _State) -> _State:
        running, since = state.status, state.since + 1
        state = corrected_step(manifold, state)
        state = state._replace(excess=_decrement(state), since=since)
        # A step that failed under an old Hessian is no reason to give up.
        status = torch.where((state.status == Status.STALLED) & (since > 1), running, state.status)
        leads = state.minimum & (state.status == running) & (state.excess <= state.formed * _RATE**since)
        return _renewed(manifold, state._replace(status=status), ~leads)

    def certify(self, manifold: Manifold, state: _State, tol: Float[Tensor, " P"]) -> Certificate:
        return _renewed(manifold, state, (state.since > 0) & ~(state.excess <= _TRUST * state.formed))

    def informed(self, state: _State, rows: Int[Tensor, " n"], certificate: Certificate) -> _State:
        return _with_rows(state, rows, cast(_State, certificate))


def _decrement(state: _State) -> Float[Tensor, " P"]:
    """<g, H^{-1} g> / (2 E), with the Hessian that was formed last."""
    T = state.path.shape[1] - 1
    return T / 2 * inner(state.gradient, state.preconditioner.solve(state.gradient)) / state.energy


def _renewed(manifold: Manifold, state: _State, asked: Bool[Tensor, " P"]) -> _State:
    """The state with Hessians formed anew for some pairs."""
    (rows,) = asked.nonzero(as_tuple=True)
    if not len(rows):
        return state
    kept = state.steps.shape[1]
    new = _formed(manifold, state.path[rows], state.weights[rows], state.status[rows], kept)
    return _with_rows(state, rows, new)


def _with_rows(state: _State, rows: Int[Tensor, " n"], new: _State) -> _State:
    """The state with some rows replaced."""
    if len(rows) == len(state.status):
        return new
    factors = state.preconditioner.with_rows(rows, new.preconditioner)
    values = {name: x for name, x in new._asdict().items() if name != "preconditioner"}
    values = {name: getattr(state, name).index_put((rows,), x) for name, x in values.items()}
    return state._replace(**values, preconditioner=factors)


def _formed(manifold: Manifold, path: Tensor, weights: Tensor, status: Tensor, kept: int = 0) -> _State:
    """The state at paths with the Hessian there, and room for as many corrections."""
    expansion = manifold.expansion(path, weights)
    step, gradient = newton_step(expansion), expansion.gradient
    lost = step.direction.isnan().flatten(1).any(1)
    nothing = gradient.new_zeros(len(path), kept, *gradient.shape[1:])
    return _State(
        path=path,
        weights=weights,
        energy=(path.shape[1] - 1) / 2 * expansion.squared_chords.sum(-1),
        excess=step.excess,
        status=torch.where(lost, Status.NOT_FINITE, status),
        gradient=gradient,
        direction=step.direction,
        preconditioner=step.factors,
        steps=nothing,
        changes=nothing,
        scales=nothing[..., 0, 0],
        minimum=step.minimum,
        formed=step.excess,
        since=torch.zeros_like(status),
    )
