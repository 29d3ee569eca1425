"""How many pairs fit into the memory that may be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import bytes_a_row, rows_within
from geodesic.solvers.solver import Solver

__all__ = ["Room", "pairs_at_once"]


@dataclass(frozen=True)
class Room:
    """How many paths of a number of segments fit into memory: under the warm-up, and under the solver."""

    warm_up: int
    solver: int
    segments: int

    @classmethod
    def of(cls, manifold: Manifold, solver: Solver[Any], path: Float[Tensor, "1 nodes d"], memory: float) -> Room:
        """The room for paths like this one, in so many bytes."""
        size = pairs_at_once(manifold, solver, path, memory)
        warm_up = size if solver.warm_up is None else pairs_at_once(manifold, solver.warm_up, path, memory)
        return cls(warm_up, size, path.shape[1] - 1)

    def at(self, segments: int) -> Room:
        """The same memory, with another number of segments."""
        warm_up, solver = (max(1, n * self.segments // segments) for n in (self.warm_up, self.solver))
        return Room(warm_up, solver, segments)


def pairs_at_once(manifold: Manifold, solver: Solver[Any], path: Float[Tensor, "1 nodes d"], memory: float) -> int:
    """How many pairs may be worked on together.

    The solver's beginning on paths of two segments is watched, and scaled up.

    Args:
        manifold: Where to measure.
        solver: The solver, without its warm-up.
        path: A path of the size that all have.
        memory: Bytes to stay within.

    Raises:
        InputError: Not even one pair fits.
    """
    nodes = path.shape[1]
    ends = path[:, [0, nodes // 2, -1]]
    key = (solver, path.shape[-1], path.dtype, path.device)
    a_pair = bytes_a_row(manifold, key, lambda pairs: solver.begin(manifold, ends.repeat(pairs, 1, 1)))
    needed = a_pair / 3 * nodes
    pairs = rows_within(needed, memory)
    if not pairs:
        raise InputError(
            f"memory: one pair of {nodes - 1} segments takes about {needed / 1e6:.3g} MB, got "
            f"{memory / 1e6:.3g} MB; raise memory or use fewer segments"
        )
    return pairs
