"""How many rows are worked on at once: the one place where memory is judged.

What a row takes is watched once for each manifold and kind of work, on a row or two; what all of them may take is a
number of bytes: the user's, or a share of what is free. Work goes in groups of as many rows as fit, one at least.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, overload

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from geodesic.door.door import visit
from geodesic.errors import InputError
from geodesic.geometry.available import free_bytes
from geodesic.geometry.manifold import Manifold

__all__ = [
    "BUDGET",
    "bytes_a_row",
    "comfortable",
    "grouped",
    "halving",
    "most",
    "remembered",
    "rows_at_once",
    "rows_within",
]

BUDGET = 1e9
"""Bytes beyond which larger groups of rows are no faster on a CPU."""

SHARE = 0.5
"""Of the free bytes, what work may take where the user says nothing else."""

_WASTE = 2.0  # what is kept, and what an allocator wastes, beside the tensors of the work itself

# Watching costs as much as a few calls: once is enough for as long as a manifold lives. By identity, since a
# user's manifold may have no hash.
_FOUND: dict[int, tuple[weakref.ref[Manifold], dict[Hashable, float]]] = {}

Answer = TypeVar("Answer")


def most(device: torch.device, memory: float | None = None) -> float:
    """Bytes that work may hold at once: what the user says, or half of what is free."""
    return SHARE * free_bytes(device) if memory is None else memory


def comfortable(device: torch.device, memory: float | None = None) -> float:
    """Bytes that groups of rows may take together: as `most`, and on a CPU a gigabyte where the user says nothing."""
    allowed = most(device, memory)
    return allowed if memory is not None or device.type == "cuda" else min(allowed, BUDGET)


def rows_within(bytes_a_row: float, budget: float) -> int:
    """How many rows of so many bytes fit into the budget: none where a single one does not."""
    return int(min(budget / bytes_a_row, 2**31))


def rows_at_once(manifold: Manifold, z: Float[Tensor, "N d"], *, order: int = 2) -> int:
    """For how many rows like these derivatives of an order, 1 or 2, fit into memory: at least 1."""
    if len(z) <= 1:
        return 1
    first, d = z[:1].detach(), z.shape[-1]
    key = ("metric_tensor", d, z.dtype, z.device)
    with visit():
        manifold.way(first)  # which takes more than a row does
        needed = bytes_a_row(manifold, key, lambda rows: manifold.metric_tensor(first.repeat(rows, 1)))
    if order == 2:  # watched too, that would take seconds where a metric is itself made of derivatives
        needed *= 3 if manifold.has_embedding else 6 * d
    return max(1, rows_within(needed, comfortable(z.device)))


@overload
def grouped(compute: Callable[..., Tensor], size: int, *tensors: Tensor) -> Tensor: ...
@overload
def grouped(compute: Callable[..., tuple[Tensor, ...]], size: int, *tensors: Tensor) -> tuple[Tensor, ...]: ...
def grouped(compute: Callable[..., Any], size: int, *tensors: Tensor) -> Any:
    """`compute` of tensors in groups of so many rows, put together again: a tensor, or each of several.

    Where a GPU runs out of memory the groups are halved.
    """

    def in_groups(size: int) -> Any:
        parts = [compute(*rows) for rows in zip(*(x.split(size) for x in tensors), strict=True)]
        if isinstance(parts[0], Tensor):
            return torch.cat(parts)
        return tuple(torch.cat(answers) for answers in zip(*parts, strict=True))

    return halving(in_groups, max(1, min(size, len(tensors[0]))))


def halving(work: Callable[[int], Answer], size: int, least: int = 1) -> Answer:
    """The answer of work in groups of a size, or of half as many rows for as long as a GPU runs out of memory.

    Raises:
        InputError: Groups of the least size do not fit.
    """
    while True:
        try:
            return work(size)
        except torch.OutOfMemoryError as error:
            if size <= least:
                reason = str(error).splitlines()[0]
                raise InputError(
                    f"memory: groups of {least} points do not fit on the device ({reason}); use a larger one, or end "
                    "what else takes its memory"
                ) from error
        size = max(least, size // 2)


def bytes_a_row(manifold: Manifold, key: Hashable, work: Callable[[int], object]) -> float:
    """What a row of some work takes: by how much a second one raises the bytes that are held at once, and a share.

    The weights of a decoder are there in any case.

    Args:
        manifold: With which it is done.
        key: Of what is remembered: the same work takes the same memory.
        work: It, on one or two rows.

    Returns:
        The bytes; infinite where a GPU has no room for two rows.
    """

    def watched() -> float:
        peaks = []
        for rows in (1, 2):
            with _Peak() as mode:
                work(rows)
            peaks.append(mode.peak)
        return _WASTE * max(peaks[1] - peaks[0], 1)

    try:
        return remembered(manifold, key, watched)
    except torch.OutOfMemoryError:
        return math.inf


def remembered(manifold: Manifold, key: Hashable, found: Callable[[], float]) -> float:
    """What is found out about a manifold: once for as long as it lives.

    Args:
        manifold: The manifold.
        key: Of what is found.
        found: Finds it.
    """
    number = id(manifold)
    if number not in _FOUND:
        _FOUND[number] = (weakref.ref(manifold, lambda _: _FOUND.pop(number, None)), {})
    known = _FOUND[number][1]
    if key not in known:
        known[key] = found()
    return known[key]


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
