"""What a solver is: a frozen record of settings that says how to improve a batch of paths."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from geodesic.geometry.manifold import Manifold

__all__ = ["Solver", "SolverState"]


@runtime_checkable
class SolverState(Protocol):
    """What a solver carries from step to step: a named tuple of tensors whose first axis counts pairs.

    The driver drops finished pairs by indexing every tensor, so a pair's next step may depend on its own
    rows only.
    """

    @property
    def path(self) -> Float[Tensor, "P T+1 d"]:
        """Nodes, (P, T + 1, d)."""

    @property
    def energy(self) -> Float[Tensor, " P"]:
        """Energies of the paths, (P,)."""

    @property
    def status(self) -> Int[Tensor, " P"]:
        """`Status` of each pair, (P,), integer; `Status.RUNNING` until the solver itself ends a pair."""


State = TypeVar("State", bound=SolverState)


class Solver(ABC, Generic[State]):
    """A method that improves paths. `geodesic.solve` runs it and alone decides what has converged."""

    #: The driver tests for convergence after so many steps.
    check_every: ClassVar[int] = 1

    @abstractmethod
    def begin(self, manifold: Manifold, path: Tensor) -> State:
        """The state before the first step, at initial paths, (P, T + 1, d)."""

    @abstractmethod
    def step(self, manifold: Manifold, state: State) -> State:
        """The state after one more step."""
