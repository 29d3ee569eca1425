"""What a model takes beside latent points: a batch, a label, a library size; one for all rows, or one for each pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from geodesic.checks import brief
from geodesic.errors import InputError

__all__ = ["Condition"]


@dataclass(frozen=True)
class Condition:
    """Values that are handed to a model with the rows of latent points.

    Attributes:
        values: Tensors of one row, which is that of all points, or of as many rows as there are pairs; what is no
            number is handed over as it is.
        names: Of the model's argument that each goes to; None: it follows the points, by position.
    """

    values: tuple[Any, ...] = ()
    names: tuple[str | None, ...] = ()

    @classmethod
    def of(cls, given: Any) -> Condition:
        """What a user gives: a tensor, an array, a list or a number; a tuple of these, or a mapping by name.

        Raises:
            InputError: It is none of these, or tensors have different numbers of rows.

        Example:
            >>> import torch
            >>> from geodesic.adapters.condition import Condition
            >>> Condition.of({"y": 3}).rows(torch.zeros(2, 5))
            ((), {'y': tensor([3, 3])})
        """
        if given is None:
            return cls()
        if isinstance(given, Mapping):
            names: tuple[str | None, ...] = tuple(given)
            values = tuple(_as_rows(f"condition[{name!r}]", value) for name, value in given.items())
        else:
            many = given if isinstance(given, tuple) else (given,)
            names, values = (None,) * len(many), tuple(_as_rows("condition", value) for value in many)
        counts = {len(value) for value in values if isinstance(value, Tensor)} - {1}
        if len(counts) > 1:
            raise InputError(
                f"condition: expected one row for all pairs, or one for each, got {' and '.join(map(str, counts))} "
                "rows in its parts; a shared value has one row"
            )
        return cls(values, names)

    @property
    def pairs(self) -> int | None:
        """For how many pairs there is one each; None where there is one for all."""
        return next((len(value) for value in self.values if isinstance(value, Tensor) and len(value) != 1), None)

    def of_pair(self, k: int) -> Condition:
        """That of a single pair."""
        each = (x[k : k + 1] if isinstance(x, Tensor) and len(x) != 1 else x for x in self.values)
        return replace(self, values=tuple(each))

    def distinct(self) -> tuple[list[int], list[int]]:
        """The first pair of each different condition, and for every pair which of these it has."""
        numbers: dict[tuple[bytes, ...], int] = {}
        first: list[int] = []
        which: list[int] = []
        each = [x.cpu() for x in self.values if isinstance(x, Tensor) and len(x) != 1]
        arrays = [(x.double() if x.is_floating_point() else x).contiguous().numpy() for x in each]
        for k in range(self.pairs or 0):
            key = tuple(x[k].tobytes() for x in arrays)
            if key not in numbers:
                numbers[key] = len(first)
                first.append(k)
            which.append(numbers[key])
        return first, which

    def rows(self, z: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments for rows z, (N, ...), on their device and, for floating point, in their dtype.

        Raises:
            InputError: There is one for each of another number of pairs.
        """
        if self.pairs not in (None, len(z)):
            raise InputError(
                f"condition: there is one for each of {self.pairs} pairs, and the decoder was called with {len(z)} "
                "points; give one for all, with one row, or take decoder.manifold(), which knows the pairs"
            )
        values = [_for(x, z) if isinstance(x, Tensor) else x for x in self.values]
        positional = tuple(x for x, name in zip(values, self.names, strict=True) if name is None)
        return positional, {name: x for x, name in zip(values, self.names, strict=True) if name is not None}


def _for(value: Tensor, z: Tensor) -> Tensor:
    value = value.to(device=z.device, dtype=z.dtype if value.is_floating_point() else value.dtype)
    return value.expand(len(z), *value.shape[1:])


def _as_rows(name: str, value: Any) -> Any:
    """A tensor with a row for all points or for each pair; what is no number as it is."""
    if value is None or isinstance(value, bool | str):
        return value
    if not isinstance(value, Tensor):
        try:
            value = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            raise InputError(
                f"{name}: expected a tensor with one row for all pairs or one for each, a number, or a tuple or "
                f"mapping of these, got {brief(value)}"
            ) from None
    value = value.detach().reshape(1) if value.dim() == 0 else value.detach().clone()
    if len(value) == 0:
        raise InputError(f"{name}: expected at least one row, got shape {tuple(value.shape)}")
    return value
