"""Newton's method without Jacobians, for large latent spaces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.geometry.manifold import Manifold
from geodesic.registry import setting
from geodesic.solvers.krylov import krylov_step, seems_minimum
from geodesic.solvers.lbfgs import LBFGS
from geodesic.solvers.line_search import descend
from geodesic.solvers.preconditioner import Preconditioner, precondition, preconditioned_by
from geodesic.solvers.solver import SOLVERS, Certificate, Solver, require_solver
from geodesic.solvers.status import Status

__all__ = ["NewtonKrylov"]

_WARM_UP = LBFGS()
_LOOSEST = 0.03  # part of the decrement left by the least accurate step
_FINEST = 1e-3  # and by the most accurate one


class _State(NamedTuple):
    path: Float[Tensor, "P nodes d"]
    weights: Float[Tensor, "P T"]
    energy: Float[Tensor, " P"]
    excess: Float[Tensor, " P"]
    status: Int[Tensor, " P"]
    gradient: Float[Tensor, "P interior d"]  # of half the weighted squared chords
    direction: Float[Tensor, "P interior d"]
    minimum: Bool[Tensor, " P"]
    preconditioner: Preconditioner


@SOLVERS.register("newton_krylov")
@dataclass(frozen=True)
class NewtonKrylov(Solver[_State]):
    """Newton's method by conjugate gradients: products with the Hessian alone, no Jacobian is ever formed.

    A product differentiates the energy gradient once more along a direction: two decoder passes, whatever d is. The
    linear systems are solved the more exactly the nearer the answer is, and preconditioned as in `LBFGS`.

    Reference:
        R. S. Dembo, S. C. Eisenstat, T. Steihaug, Inexact Newton Methods, 1982.

    Args:
        warm_up: The solver that goes first, or None.
        metric_samples: Of the preconditioner, as in `LBFGS`.

    Example:
        >>> import torch, geodesic
        >>> a, b = torch.tensor([1.0, 0.0]), torch.tensor([-0.5, 1.0])
        >>> solution = geodesic.solve(geodesic.surfaces.Paraboloid(), a, b, solver=geodesic.NewtonKrylov())
        >>> print(f"{float(solution.length):.4f}", bool(solution.converged), bool(solution.minimum))
        2.0994 True True
    """

    warm_up: Solver[Any] | None = field(
        default=_WARM_UP, metadata=setting("whether L-BFGS goes first", words={True: _WARM_UP, False: None})
    )
    metric_samples: int = field(
        default=4, metadata=setting("points at which the preconditioner takes the metric", ge=0)
    )

    # Where latent coordinates are many, most of them hardly matter to the decoder, and systems are so badly
    # conditioned that a step of Newton's costs a hundred of the warm-up's.
    warm_up_share: ClassVar[float] = 0.9

    def __post_init__(self) -> None:
        require_solver("warm_up", self.warm_up)
        require_integer("metric_samples", self.metric_samples, least=0)

    def preconditioned_by(self, d: int, forms_metric: bool) -> str:
        return preconditioned_by(self.metric_samples, d, forms_metric)

    def begin(self, manifold: Manifold, path: Tensor, weights: Tensor) -> _State:
        with torch.no_grad():
            chords = weights * manifold.squared_chords(path)
        preconditioner = precondition(manifold, path, weights, chords, self.metric_samples)
        status = torch.zeros(len(path), dtype=torch.int64, device=path.device)
        loosest = torch.full_like(chords[:, 0], _LOOSEST)
        return _evaluated(manifold, path, weights, status, preconditioner, loosest)

    def step(self, manifold: Manifold, state: _State) -> _State:
        found = descend(manifold, state, with_gradient=False)
        status = torch.where(found.failed, Status.STALLED, state.status)
        share = state.excess.clamp_min(0).sqrt().clamp(_FINEST, _LOOSEST)
        return _evaluated(manifold, found.path, state.weights, status, state.preconditioner, share)

    def certify(self, manifold: Manifold, state: _State) -> Certificate:
        return state._replace(
            minimum=state.minimum & seems_minimum(manifold, state.path, state.weights, state.preconditioner)
        )


def _evaluated(
    manifold: Manifold,
    path: Tensor,
    weights: Tensor,
    status: Tensor,
    preconditioner: Preconditioner,
    share: Tensor,
) -> _State:
    step, energy, gradient = krylov_step(manifold, path, weights, preconditioner, share)
    lost = step.direction.isnan().flatten(1).any(1)
    status = torch.where(lost, Status.NOT_FINITE, status)
    return _State(path, weights, energy, step.excess, status, gradient, step.direction, step.minimum, preconditioner)
