"""Decoders that take only some batch sizes: one point at a time, at most 16, or exactly 4."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, final

import torch
from torch import Tensor

from geodesic.errors import GeodesicError

__all__ = ["AnyBatch"]


@final
class AnyBatch:
    """A decoder that takes any number of rows, made from one that may not.

    Where the decoder fails on a batch, a size that it takes is found by trying, on rows of a constant; batches are cut
    into groups of it, and a group that is too small is filled up with copies of its first row. A decoder that
    fails for another reason fails as before.

    Args:
        decoder: Row-wise function, (N, ...) to (N, ...).
    """

    def __init__(self, decoder: Callable[[Tensor], Any]) -> None:
        self.decoder = self.__wrapped__ = decoder  # the latter for `inspect`
        self._size: int | None = None  # of the groups; None as long as the decoder has taken all
        self._refused: set[int] = set()  # smaller ones, which are filled up

    def __call__(self, rows: Tensor) -> Any:
        while True:
            try:
                return self._in_groups(rows)
            except (GeodesicError, torch.OutOfMemoryError, NotImplementedError):
                raise  # what is said; what asks for fewer rows; what asks for another way to differentiate
            except Exception:
                if not self._learns(rows):
                    raise

    def _in_groups(self, rows: Tensor) -> Any:
        if self._size is None:
            return self.decoder(rows)
        parts = [self._group(some, self._size) for some in rows.split(self._size)]
        return torch.cat(parts) if all(isinstance(part, Tensor) for part in parts) else parts[0]

    def _group(self, rows: Tensor, size: int) -> Any:
        n = len(rows)
        if n not in self._refused:
            return self.decoder(rows)
        filled = self.decoder(torch.cat([rows, rows[:1].expand(size - n, *rows.shape[1:])]))
        return filled[:n] if isinstance(filled, Tensor) else filled

    def _learns(self, rows: Tensor) -> bool:
        """Whether a number of rows is what the decoder did not take, and there is one that it does."""
        n = len(rows)
        if self._size is not None:
            left = n % self._size
            if left == 0 or left in self._refused or _takes(self.decoder, rows, left):
                return False
            self._refused.add(left)
            return True
        if n == 0 or _takes(self.decoder, rows, n):
            return False
        self._size = next((size for size in _sizes(n) if _takes(self.decoder, rows, size)), None)
        if self._size is not None and self._size > n:
            self._refused.add(n)
        return self._size is not None


def _sizes(n: int) -> Iterator[int]:
    """Numbers of rows to try where n are refused: large ones first, by halves; then what a fixed size may be."""
    smaller = {2**k for k in range((n - 1).bit_length())}
    yield from sorted(smaller, reverse=True)
    yield from (size for size in (*range(1, 65), 100, 128, 256, 512, 1024) if size != n and size not in smaller)


def _takes(decoder: Callable[[Tensor], Any], like: Tensor, n: int) -> bool:
    """Whether the decoder takes n rows: of a constant, which no transform of torch.func follows."""
    try:
        with torch.no_grad():
            x = decoder(torch.full((n, *like.shape[1:]), 0.1, dtype=like.dtype, device=like.device))
    except Exception:
        return False
    return not isinstance(x, Tensor) or x.shape[:1] == (n,)
