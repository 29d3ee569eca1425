"""Rows to train on and rows held out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.errors import DataError

__all__ = ["Dataset", "Split"]


@dataclass(frozen=True)
class Split:
    """Rows of a data set, with their labels if there are any.

    Args:
        values: The rows, (N, *event), float32; images are (N, channels, height, width).
        labels: One integer a row, (N,), or None.

    Raises:
        DataError: `values` are not float32 rows, or `labels` are not one integer a row.

    Example:
        >>> import torch, geodesic
        >>> len(geodesic.data.Split(torch.zeros(3, 1, 8, 8), labels=None))
        3
    """

    values: Float[Tensor, "N *event"]
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.values, Tensor) or self.values.dtype != torch.float32 or self.values.ndim < 2:
            raise DataError(f"values: expected a float32 tensor (N, *event), got {_describe(self.values)}")
        if self.labels is None:
            return
        integral = isinstance(self.labels, Tensor) and self.labels.dtype in _LABEL_TYPES
        if not integral or self.labels.shape != self.values.shape[:1]:
            raise DataError(
                f"labels: expected {len(self.values)} integers, one for each row of values, "
                f"got {_describe(self.labels)}"
            )

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: slice | Tensor) -> Split:
        """Some of the rows, with their labels."""
        return Split(self.values[rows], None if self.labels is None else self.labels[rows])


_LABEL_TYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@dataclass(frozen=True)
class Dataset:
    """Rows to train on and rows held out.

    Args:
        train: Rows that the model sees.
        test: Rows of the same shape that it never sees.

    Raises:
        DataError: The rows of the two splits differ in shape.

    Example:
        >>> import torch, geodesic
        >>> split = geodesic.data.Split(torch.zeros(3, 1, 8, 8))
        >>> geodesic.data.Dataset(train=split, test=split).event_shape
        (1, 8, 8)
    """

    train: Split
    test: Split

    def __post_init__(self) -> None:
        train, test = self.train.values.shape[1:], self.test.values.shape[1:]
        if train != test:
            raise DataError(f"test: expected rows of shape {tuple(train)} as in train, got {tuple(test)}")

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one row, without the batch axis."""
        return tuple(self.train.values.shape[1:])


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return type(value).__name__
