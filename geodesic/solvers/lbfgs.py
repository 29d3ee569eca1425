"""Limited-memory BFGS on the path energy, preconditioned by the metric, with a history for every pair."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.geometry.excess import newton_step
from geodesic.geometry.manifold import Manifold
from geodesic.registry import setting
from geodesic.solvers.certificate import certified
from geodesic.solvers.krylov import LARGEST_EXPLICIT
from geodesic.solvers.line_search import descend
from geodesic.solvers.preconditioner import Preconditioner, precondition, preconditioned_by, reconsidered
from geodesic.solvers.quasi_newton import Corrected, QuasiNewton, decrement
from geodesic.solvers.solver import SOLVERS, Certificate, Solver, inner
from geodesic.solvers.status import Status

__all__ = ["LBFGS", "better_conditioned", "corrected_step"]

_CURVED = 1e-10  # cosine between step and change of gradient below which a pair learns nothing from the step


S = TypeVar("S", bound=Corrected)


class _State(NamedTuple):
    path: Float[Tensor, "P nodes d"]
    weights: Float[Tensor, "P T"]
    energy: Float[Tensor, " P"]
    excess: Float[Tensor, " P"]
    status: Int[Tensor, " P"]
    gradient: Float[Tensor, "P interior d"]  # of half the weighted squared chords
    direction: Float[Tensor, "P interior d"]
    preconditioner: Preconditioner
    steps: Float[Tensor, "P m interior d"]
    changes: Float[Tensor, "P m interior d"]
    scales: Float[Tensor, "P m"]
    since: Int[Tensor, " P"]  # steps


@SOLVERS.register("lbfgs")
@dataclass(frozen=True)
class LBFGS(Solver[_State]):
    """Limited-memory BFGS with its own line search and history for every pair.

    z <- z - alpha H_k g,   H_k the inverse Hessian by m corrections of gamma_k S^{-1}

    S is the stiffness matrix of the initial path: block tridiagonal in time, with the metric tensor at a few samples
    along the path. It holds what makes the energy badly conditioned, the growth with T^2 and the scales of the
    latent coordinates; what is left to learn is the bending of the path. Above 16 latent coordinates S is a multiple
    of the 1-D Laplacian in time, which will do for decoders that stretch all directions about alike, until as many
    steps have been taken as the metric costs; see `reconsidered`. A step costs two decoder passes, and one more for
    each refused trial, whatever d is.

    Reference:
        J. Nocedal, Updating Quasi-Newton Matrices with Limited Storage, 1980.

    Args:
        history: m, the number of corrections that are kept.
        metric_samples: Points along the path at which S takes the metric tensor, d forward products each; twice as many
            above 16 latent coordinates, two at most above 64. With 0, and above 512 coordinates, S stays a multiple of
            the Laplacian.

    Raises:
        InputError: A setting is out of range.

    Example:
        >>> import torch, geodesic
        >>> a, b = torch.tensor([1.0, 0.0]), torch.tensor([-0.5, 1.0])
        >>> solution = geodesic.solve(geodesic.surfaces.Paraboloid(), a, b, solver=geodesic.LBFGS())
        >>> print(f"{float(solution.length):.4f}", bool(solution.converged))
        2.0994 True
    """

    history: int = field(default=20, metadata=setting("number of corrections that are kept", gt=0))
    metric_samples: int = field(
        default=4, metadata=setting("points at which the preconditioner takes the metric", ge=0)
    )

    asks_again: ClassVar[float] = 0.3  # a certificate costs as much as several steps

    def __post_init__(self) -> None:
        require_integer("history", self.history, least=1)
        require_integer("metric_samples", self.metric_samples, least=0)

    def uses_hessian(self, d: int) -> bool:
        return d <= LARGEST_EXPLICIT

    def preconditioned_by(self, d: int, forms_metric: bool) -> str:
        return preconditioned_by(self.metric_samples, d, forms_metric)

    def begin(self, manifold: Manifold, path: Tensor, weights: Tensor) -> _State:
        chords, pull = manifold.chords_and_pullback(path, weights)
        gradient = pull()
        preconditioner = precondition(manifold, path, weights, chords, self.metric_samples)
        nothing = gradient.new_zeros(len(path), 0, *gradient.shape[1:])
        status = torch.zeros(len(path), dtype=torch.int64, device=path.device)
        energy = (path.shape[1] - 1) / 2 * chords.sum(-1)
        state = _State(
            path,
            weights,
            energy,
            energy,
            torch.where(preconditioner.positive, status, Status.NOT_FINITE),
            gradient,
            preconditioner.solve(gradient),
            preconditioner,
            nothing,
            nothing,
            nothing[..., 0, 0],
            torch.zeros_like(status),
        )
        return state._replace(excess=decrement(state, state.direction))

    def step(self, manifold: Manifold, state: _State) -> _State:
        state = corrected_step(manifold, better_conditioned(manifold, state, self.metric_samples), self.history)
        return state._replace(excess=decrement(state, state.direction))

    def certify(self, manifold: Manifold, state: _State, tol: Float[Tensor, " P"]) -> Certificate:
        if state.path.shape[-1] <= LARGEST_EXPLICIT and manifold.forms_hessian:
            return newton_step(manifold.expansion(state.path, state.weights))
        return certified(manifold, state, tol, int(state.since.max()), self.metric_samples)


def better_conditioned(manifold: Manifold, state: S, samples: int) -> S:
    """The state a step older, and with another preconditioner where it is time for one."""
    now: Any = state
    better = reconsidered(manifold, state.path, state.weights, samples, now.since)
    now = now._replace(since=now.since + 1)
    if better is None:
        return cast(S, now)
    now = now._replace(preconditioner=better)
    return cast(S, now._replace(direction=QuasiNewton.of(now).solve(now.gradient)))


def corrected_step(manifold: Manifold, state: S, history: int = 20) -> S:
    """The state one step on, with the step and the change of the gradient among its corrections; `excess` stays."""
    found = descend(manifold, state, with_gradient=True)
    s = (found.path - state.path)[:, 1:-1]
    y = found.gradient - state.gradient
    curvature = inner(s, y)
    learned = curvature > _CURVED * (inner(s, s) * inner(y, y)).sqrt()
    stepped: Any = state
    stepped = stepped._replace(
        path=found.path,
        energy=found.energy,
        gradient=found.gradient,
        status=torch.where(found.failed, Status.STALLED, state.status),
        steps=_pushed(state.steps, s, history),
        changes=_pushed(state.changes, y, history),
        scales=_pushed(state.scales, torch.where(learned, 1 / curvature, 0), history),
    )
    return stepped._replace(direction=QuasiNewton.of(stepped).solve(stepped.gradient))


def _pushed(history: Tensor, latest: Tensor, size: int) -> Tensor:
    return torch.cat([latest[:, None], history[:, : size - 1]], dim=1)
