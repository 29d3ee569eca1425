"""How much memory work with a manifold takes: it is watched once, on a row or two."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from geodesic.geometry.manifold import Manifold

__all__ = ["bytes_a_row"]

# Watching costs as much as a few calls: once is enough for as long as a manifold lives. By identity, since a
# user's manifold may have no hash.
_NEEDED: dict[int, tuple[weakref.ref[Manifold], dict[Hashable, float]]] = {}


def bytes_a_row(manifold: Manifold, key: Hashable, work: Callable[[int], object]) -> float:
    """By how much a second row raises the bytes that work holds at once: the decoder's weights are there in any case.

    Args:
        manifold: With which it is done.
        key: Of what is remembered: the same work takes the same memory.
        work: It, on one or two rows.
    """
    known = _known(manifold)
    if key not in known:
        peaks = []
        for rows in (1, 2):
            with _Peak() as watched:
                work(rows)
            peaks.append(watched.peak)
        known[key] = float(max(peaks[1] - peaks[0], 1))
    return known[key]


def _known(manifold: Manifold) -> dict[Hashable, float]:
    key = id(manifold)
    if key not in _NEEDED:
        _NEEDED[key] = (weakref.ref(manifold, lambda _: _NEEDED.pop(key, None)), {})
    return _NEEDED[key][1]


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
