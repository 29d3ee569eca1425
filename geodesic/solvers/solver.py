"""What a solver is: a frozen record of settings that says how to improve a batch of paths."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold
from geodesic.registry import Registry

__all__ = ["SOLVERS", "Certificate", "Solver", "SolverState"]


@runtime_checkable
class SolverState(Protocol):
    """What a solver carries from step to step: a named tuple of things whose first axis counts pairs.

    The driver drops finished pairs by indexing each of them with a boolean mask, so a pair's next step may depend on
    its own rows only.
    """

    @property
    def path(self) -> Float[Tensor, "P nodes d"]:
        """Nodes, (P, T + 1, d)."""

    @property
    def weights(self) -> Float[Tensor, "P T"]:
        """Of their segments, (P, T): 1 / (T h) for a segment that takes a time h. They stay."""

    @property
    def energy(self) -> Float[Tensor, " P"]:
        """Energies of the paths, (P,)."""

    @property
    def gradient(self) -> Float[Tensor, "P interior d"]:
        """E's gradient over T, (P, T - 1, d): that of half the weighted squared chords."""

    @property
    def excess(self) -> Float[Tensor, " P"]:
        """The solver's own estimate of the relative excess energy, (P,); zero where it has none."""

    @property
    def status(self) -> Int[Tensor, " P"]:
        """`Status` of each pair, (P,), integer; `Status.RUNNING` until the solver itself ends a pair."""


@runtime_checkable
class Certificate(Protocol):
    """What is certain about a path: anything with these two, such as a `NewtonStep`."""

    @property
    def excess(self) -> Float[Tensor, " P"]:
        """The relative excess energy, from the Newton decrement, (P,)."""

    @property
    def minimum(self) -> Bool[Tensor, " P"]:
        """Whether the Hessian of the energy is positive definite, (P,)."""


State = TypeVar("State", bound=SolverState)
Record = TypeVar("Record")


class Solver(ABC, Generic[State]):
    """A method that improves paths. `geodesic.solve` runs it and alone decides what has converged."""

    #: The driver asks for certificates after so many steps.
    check_every: ClassVar[int] = 1

    #: A pair that was refused a certificate is asked again where its own estimate has fallen to this part of what it
    #: was, or by as much as the certificate was above `tol`.
    asks_again: ClassVar[float] = 1.0

    #: It is also asked after so many steps, whatever its own estimate, and whenever twice as many have been taken.
    asks_latest: ClassVar[int] = 2**31

    #: The solver that goes first and brings paths near enough for this one, where it has one.
    warm_up: Solver[Any] | None = None

    #: Part of the steps that the warm-up may take.
    warm_up_share: ClassVar[float] = 0.0

    #: A path that leaps over what its start crosses does not begin again with more segments where it took more steps
    #: than this, twice, to the same energy, or five times as many in all.
    patience: ClassVar[float] = math.inf

    def lighter(self) -> Solver[Any] | None:
        """What solves the same problem and forms no Jacobians, for want of memory; None where this one forms none."""
        return None

    def uses_hessian(self, d: int) -> bool:
        """Whether Jacobians at all nodes are formed for d latent coordinates, by steps or by certificates."""
        return False

    def preconditioned_by(self, d: int, forms_metric: bool) -> str:
        """What tames badly conditioned energies of d latent coordinates, in words.

        Args:
            d: Latent coordinates.
            forms_metric: Whether memory suffices for the metric tensor of a point.
        """
        return "nothing"

    @abstractmethod
    def begin(self, manifold: Manifold, path: Tensor, weights: Tensor) -> State:
        """The state before the first step, at initial paths, (P, T + 1, d), with the weights of segments, (P, T)."""

    @abstractmethod
    def step(self, manifold: Manifold, state: State) -> State:
        """The state after one more step."""

    @abstractmethod
    def certify(self, manifold: Manifold, state: State, tol: Float[Tensor, " P"]) -> Certificate:
        """How far the paths of a state are from stationary points, and whether those are minima.

        Of an excess above `tol`, (P,), it is enough to know that; whether such a path is a minimum need not be known.
        Where `tol` is 0 the excess itself is wanted.
        """

    def informed(self, state: State, rows: Int[Tensor, " n"], certificate: Certificate) -> State:
        """The state, when some of its pairs, by their indices, have a certificate which may tell where to go."""
        return state


#: Solvers by the kind that names them in settings: `newton`, `newton_krylov`, `lbfgs`, `gradient_descent`.
SOLVERS: Registry[Solver[Any]] = Registry("solver")


def select(record: Record, rows: Tensor) -> Record:
    """Some pairs of a named tuple with a row for each, such as a state: by a boolean mask, or by indices."""
    parts = (select(part, rows) if isinstance(part, tuple) else part[rows] for part in record)  # type: ignore[attr-defined]
    return type(record)(*parts)


def moved(path: Float[Tensor, "P nodes d"], step: Float[Tensor, "P interior d"]) -> Float[Tensor, "P nodes d"]:
    """The paths with a step subtracted from their interior nodes; the ends stay bit for bit."""
    return torch.cat([path[:, :1], path[:, 1:-1] - step, path[:, -1:]], dim=1)


def inner(a: Float[Tensor, "P n d"], b: Float[Tensor, "P n d"]) -> Float[Tensor, " P"]:
    """Inner products of directions, for each pair."""
    return (a * b).sum((-2, -1))


def require_solver(name: str, value: object) -> None:
    """Refuse a setting that is neither a solver nor None."""
    if value is not None and not isinstance(value, Solver):
        raise InputError(f"{name}: expected a solver such as LBFGS() or None, got {value!r}")
