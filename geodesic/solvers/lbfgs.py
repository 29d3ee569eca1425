"""Limited-memory BFGS on the path energy, preconditioned by the metric, with a history for every pair."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.geometry.manifold import Manifold
from geodesic.registry import setting
from geodesic.solvers.krylov import LARGEST_EXPLICIT, certify
from geodesic.solvers.line_search import descend
from geodesic.solvers.preconditioner import Preconditioner, precondition, preconditioned_by
from geodesic.solvers.solver import SOLVERS, Certificate, Solver, SolverState, inner
from geodesic.solvers.status import Status

__all__ = ["LBFGS", "corrected_step"]

_CURVED = 1e-10  # cosine between step and change of gradient below which a pair learns nothing from the step


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


@SOLVERS.register("lbfgs")
@dataclass(frozen=True)
class LBFGS(Solver[_State]):
    """Limited-memory BFGS with its own line search and history for every pair.

    z <- z - alpha H_k g,   H_k the inverse Hessian by m corrections of gamma_k S^{-1}

    S is the stiffness matrix of the initial path: block tridiagonal in time, with the metric tensor at a few samples
    along the path. It holds what makes the energy badly conditioned, the growth with T^2 and the scales of the
    latent coordinates; what is left to learn is the bending of the path. A step costs two decoder passes, and one
    more for each refused trial, whatever d is.

    Reference:
        J. Nocedal, Updating Quasi-Newton Matrices with Limited Storage, 1980.

    Args:
        history: m, the number of corrections that are kept.
        metric_samples: Points along the path at which S takes the metric tensor, d forward products each. With 0,
            and above 128 latent coordinates, S is a multiple of the 1-D Laplacian in time.

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

    check_every: ClassVar[int] = 5  # a certificate costs as much as several steps

    def __post_init__(self) -> None:
        require_integer("history", self.history, least=1)
        require_integer("metric_samples", self.metric_samples, least=0)

    def uses_hessian(self, d: int) -> bool:
        return d <= LARGEST_EXPLICIT

    def preconditioned_by(self, d: int, forms_metric: bool) -> str:
        return preconditioned_by(self.metric_samples, d, forms_metric)

    def begin(self, manifold: Manifold, path: Tensor, weights: Tensor) -> _State:
        T = path.shape[1] - 1
        chords, pull = manifold.chords_and_pullback(path, weights)
        gradient = pull()
        preconditioner = precondition(manifold, path, weights, chords, self.metric_samples)
        nothing = gradient.new_zeros(len(path), 0, *gradient.shape[1:])
        status = torch.zeros(len(path), dtype=torch.int64, device=path.device)
        energy = T / 2 * chords.sum(-1)
        direction = preconditioner.solve(gradient)
        state = _State(
            path,
            weights,
            energy,
            energy,
            torch.where(preconditioner.positive, status, Status.NOT_FINITE),
            gradient,
            direction,
            preconditioner,
            nothing,
            nothing,
            nothing[..., 0, 0],
        )
        return state._replace(excess=_excess(state))

    def step(self, manifold: Manifold, state: _State) -> _State:
        state = corrected_step(manifold, state, self.history)
        return state._replace(excess=_excess(state))

    def certify(self, manifold: Manifold, state: _State) -> Certificate:
        return certify(manifold, state.path, state.weights)


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
    return stepped._replace(direction=_direction(stepped, learned))


def _direction(state: Corrected, learned: Bool[Tensor, " P"]) -> Tensor:
    """H_k g by the two-loop recursion."""
    q, shares = state.gradient, []
    for k in range(state.steps.shape[1]):
        share = state.scales[:, k] * inner(state.steps[:, k], q)
        shares.append(share)
        q = q - share[:, None, None] * state.changes[:, k]
    p = state.preconditioner.solve(q)
    # gamma = <s, y> / <y, S^{-1} y> of the latest step: how much stiffer than S the energy was along it.
    y = state.changes[:, 0]
    gamma = 1 / (state.scales[:, 0] * inner(y, state.preconditioner.solve(y)))
    p = torch.where(learned, gamma, 1)[:, None, None] * p
    for k in reversed(range(state.steps.shape[1])):
        share = shares[k] - state.scales[:, k] * inner(state.changes[:, k], p)
        p = p + share[:, None, None] * state.steps[:, k]
    return p


def _excess(state: _State) -> Tensor:
    """<g, H_k g> / (2 E): the decrement by the quasi-Newton matrix."""
    T = state.path.shape[1] - 1
    return T * inner(state.gradient, state.direction) / (2 * state.energy)


def _pushed(history: Tensor, latest: Tensor, size: int) -> Tensor:
    return torch.cat([latest[:, None], history[:, : size - 1]], dim=1)
