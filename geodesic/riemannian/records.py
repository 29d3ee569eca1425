"""Frozen records of tensors with one entry a row."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from torch import Tensor

__all__ = ["Record"]

R = TypeVar("R", bound="Record")


@dataclass(frozen=True)
class Record:
    """Tensors whose first axis counts rows. Fields that are neither tensors nor records belong to all rows."""

    def of(self: R, rows: Tensor) -> R:
        """Some of the rows, by their numbers."""
        parts = {name: x[rows] if isinstance(x, Tensor) else x.of(rows) for name, x in self._by_row()}
        return replace(self, **parts)

    def replaced(self: R, rows: Tensor, other: R) -> R:
        """With rows, by their numbers, taken from another record that has only these."""
        parts: dict[str, Any] = {}
        for name, x in self._by_row():
            new = getattr(other, name)
            parts[name] = x.index_put((rows,), new) if isinstance(x, Tensor) else x.replaced(rows, new)
        return replace(self, **parts)

    def _by_row(self) -> list[tuple[str, Any]]:
        values = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [(name, x) for name, x in values if isinstance(x, Tensor | Record)]
