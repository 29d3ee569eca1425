"""What the page asks and what it is told: requests that are read once, and replies of numbers and arrays."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodesic.errors import InputError

__all__ = ["Asked", "Reply"]

_TYPES = {"float32": "<f4", "uint8": "|u1", "int32": "<i4"}


@dataclass(frozen=True)
class Asked:
    """A request: a mapping from JSON, whoever sent it.

    Args:
        fields: Of the request.
    """

    fields: Mapping[str, Any]

    def word(self, name: str, words: Sequence[str]) -> str:
        """One of some words.

        Raises:
            InputError: It is another, or there is none.
        """
        value = self.fields.get(name)
        if value not in words:
            raise InputError(f"{name}: expected one of {', '.join(map(repr, words))}, got {value!r}")
        return str(value)

    def text(self, name: str) -> str:
        """A short text.

        Raises:
            InputError: It is none.
        """
        value = self.fields.get(name)
        if not isinstance(value, str) or len(value) > 100:
            raise InputError(f"{name}: expected a short text, got {type(value).__name__}")
        return value

    def number(self, name: str, least: int, most: int) -> int:
        """An integer in a range.

        Raises:
            InputError: It is none.
        """
        value = self.fields.get(name)
        if type(value) is not int or not least <= value <= most:
            raise InputError(f"{name}: expected an integer from {least} to {most}, got {value!r}")
        return value

    def numbers(self, name: str, *shape: int) -> NDArray[np.float64]:
        """Finite numbers of a shape.

        Raises:
            InputError: They are not.
        """
        try:
            found = np.array(self.fields.get(name), dtype=float)
        except (TypeError, ValueError):
            found = np.array(math.nan)
        if found.shape != shape or not np.isfinite(found).all():
            raise InputError(f"{name}: expected finite numbers of shape {shape}, got {self.fields.get(name)!r}")
        return found

    def rows(self, name: str) -> list[int] | None:
        """Numbers of rows, or None.

        Raises:
            InputError: They are neither.
        """
        value = self.fields.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(type(row) is int for row in value):
            raise InputError(f"{name}: expected a list of integers or null, got {value!r}")
        return value


@dataclass(frozen=True)
class Reply:
    """What the page is told.

    Args:
        fields: For JSON; numbers that are not finite become null.
        arrays: Name to array of float32, int32 or bytes.
    """

    fields: Mapping[str, Any]
    arrays: Mapping[str, NDArray] = field(default_factory=dict)

    @property
    def header(self) -> dict[str, Any]:
        """The fields, and which arrays follow: names, types and shapes."""
        follow = [[name, x.dtype.name, list(x.shape)] for name, x in self.arrays.items()]
        return {**{name: _plain(value) for name, value in self.fields.items()}, "arrays": follow}

    @property
    def buffers(self) -> list[bytes]:
        """The arrays, little-endian."""
        return [np.ascontiguousarray(x, dtype=_TYPES[x.dtype.name]).tobytes() for x in self.arrays.values()]

    @property
    def body(self) -> bytes:
        r"""All in one: the length of the header, 4 bytes, little-endian; the header, JSON; the arrays.

        Example:
            >>> from geodesic.explorer.messages import Reply
            >>> Reply({"length": float("nan")}).body
            b'\x1c\x00\x00\x00{"length":null,"arrays":[]} '
        """
        text = json.dumps(self.header, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)  # arrays of floats begin at multiples of their size
        return len(text).to_bytes(4, "little") + text + b"".join(self.buffers)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return [_plain(x) for x in value]
    return {key: _plain(x) for key, x in value.items()} if isinstance(value, dict) else value
