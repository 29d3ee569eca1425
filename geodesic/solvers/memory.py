"""How many pairs fit into the memory that may be used."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold
from geodesic.solvers.solver import Solver

__all__ = ["pairs_at_once"]

_SHARE = 2.0  # what a solver keeps and what the batch costs beside one step of one pair


class _Allocated(TorchDispatchMode):
    """Sums the bytes that operations allocate, as if nothing were freed."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view and func.__name__.split(".")[0][-1] != "_":
            outputs = result if isinstance(result, tuple | list) else (result,)
            self.bytes += sum(x.numel() * x.element_size() for x in outputs if isinstance(x, Tensor))
        return result


def pairs_at_once(manifold: Manifold, solver: Solver[Any], path: Float[Tensor, "1 nodes d"], memory: float) -> int:
    """How many pairs may be worked on together.

    One step of the solver on one pair is watched, on a path of two segments, and scaled up. That what it
    allocates is never freed is assumed, so the answer is on the safe side.

    Args:
        manifold: Where to measure.
        solver: The solver.
        path: A path of the size that all have.
        memory: Bytes to stay within.

    Raises:
        InputError: Not even one pair fits.
    """
    nodes = path.shape[1]
    ends = path[:, [0, nodes // 2, -1]]
    with _Allocated() as allocated:
        solver.begin(manifold, ends)
    needed = _SHARE * allocated.bytes * nodes / 3
    if needed > memory:
        raise InputError(
            f"memory: one pair of {nodes - 1} segments takes about {needed / 2**20:.0f} MiB, got "
            f"{memory / 2**20:.0f} MiB; raise memory or use fewer segments"
        )
    return int(memory / needed)
