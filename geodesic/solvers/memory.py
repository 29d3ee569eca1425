"""How many pairs fit into the memory that may be used."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import bytes_a_row, rows_within
from geodesic.solvers.solver import Solver

__all__ = ["pairs_at_once"]


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
