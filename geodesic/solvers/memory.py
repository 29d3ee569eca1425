"""How many pairs fit into the memory that may be used."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold
from geodesic.solvers.solver import Solver

__all__ = ["pairs_at_once"]

_SHARE = 2.0  # what a solver keeps, and what an allocator wastes, beside one step of one pair


class _Peak(TorchDispatchMode):
    """Follows the bytes that operations hold at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, Tensor):
                self._follow(x.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return  # a view, or an operation in place

        def freed(_: object) -> None:
            del self._alive[key]
            self.now -= size

        self._alive[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)


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
    known = _known(manifold)
    key = (solver, path.shape[-1], path.dtype, path.device)
    if key not in known:
        known[key] = _bytes_a_node(manifold, solver, path[:, [0, nodes // 2, -1]])
    needed = _SHARE * known[key] * nodes
    if needed > memory:
        raise InputError(
            f"memory: one pair of {nodes - 1} segments takes about {needed / 1e6:.3g} MB, got "
            f"{memory / 1e6:.3g} MB; raise memory or use fewer segments"
        )
    return int(min(memory / needed, 2**31))


# Watching costs as much as a few steps, half of a small `solve`: once is enough for as long as a manifold lives. By
# identity, since a user's manifold may have no hash.
_NEEDED: dict[int, tuple[weakref.ref[Manifold], dict[Any, float]]] = {}


def _known(manifold: Manifold) -> dict[Any, float]:
    key = id(manifold)
    if key not in _NEEDED:
        _NEEDED[key] = (weakref.ref(manifold, lambda _: _NEEDED.pop(key, None)), {})
    return _NEEDED[key][1]


def _bytes_a_node(manifold: Manifold, solver: Solver[Any], ends: Float[Tensor, "1 3 d"]) -> float:
    peaks = []
    for pairs in (1, 2):  # their difference is what a pair takes: the decoder's weights are there in any case
        with _Peak() as watched:
            solver.begin(manifold, ends.repeat(pairs, 1, 1))
        peaks.append(watched.peak)
    return max(peaks[1] - peaks[0], 1) / 3
