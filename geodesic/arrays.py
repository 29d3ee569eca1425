"""NumPy arrays where tensors are expected: turned into tensors by the function that is called, and its answer back."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from geodesic.errors import InputError

__all__ = ["TensorRecord", "as_tensor", "takes_arrays", "with_arrays"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class TensorRecord:
    """A frozen record of tensors. Where a tool was called with arrays, its answer has arrays in their places.

    Methods that use the tensors are decorated with `takes_arrays`: to them such a record is an argument with arrays.
    """


def takes_arrays(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a public function, or a method of a `TensorRecord`, that takes tensors, so that it takes arrays too.

    NumPy arrays among the arguments become tensors on the CPU, of the same dtype: copies, so that nothing is written to
    an array of the caller's. Where no argument is a tensor, the tensors of the answer become arrays, those of records
    too, and nothing is kept for gradients, which arrays have not. One tensor suffices for an answer in tensors.
    Functions among the arguments are always called with tensors. Scalars of NumPy become numbers of Python.

    Raises:
        InputError: From the function: an array has entries that torch has no dtype for, or that are masked.

    Example:
        >>> import numpy as np, torch
        >>> from geodesic.arrays import takes_arrays
        >>> @takes_arrays
        ... def middle(a, b):
        ...     return torch.lerp(a, b, 0.5)
        >>> middle(np.zeros(2), np.ones(2))
        array([0.5, 0.5])
        >>> middle(np.zeros(2), torch.ones(2, dtype=torch.float64))
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given: tuple[Any, ...] = (*args, *kwargs.values())
        arrays = any(_holds(np.ndarray, x) for x in given)
        if not arrays and not any(isinstance(x, np.generic) for x in given):
            return function(*args, **kwargs)
        named = zip_longest(names[: len(args)], args, fillvalue="argument")
        converted: Any = [_converted(name, x) for name, x in named]
        keywords: Any = {name: _converted(name, x) for name, x in kwargs.items()}
        if not arrays or any(_holds(Tensor, x) for x in given):
            return function(*converted, **keywords)
        with torch.no_grad():
            answer: R = with_arrays(function(*converted, **keywords))
        return answer

    return call


def as_tensor(name: str, value: Any) -> Any:
    """An array as a tensor on the CPU, of the same dtype and with memory of its own; anything else as it is.

    Args:
        name: The user's argument.
        value: What was given for it.

    Raises:
        InputError: The array has entries that torch has no dtype for, or that are masked.

    Example:
        >>> import numpy as np
        >>> from geodesic.arrays import as_tensor
        >>> as_tensor("start", np.ones(2, dtype=np.float32))
        tensor([1., 1.])
    """
    if not isinstance(value, np.ndarray):
        return value
    if np.ma.is_masked(value):
        raise InputError(f"{name}: expected an array without masked entries; leave out the rows that have some")
    try:
        # A copy in the machine's byte order: torch knows no other, and no negative strides.
        return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))
    except TypeError:
        raise InputError(
            f"{name}: expected an array of float32 or float64, got {value.dtype}; use {name}.astype(float)"
        ) from None


def with_arrays(answer: Any) -> Any:
    """An answer with NumPy arrays in place of its tensors: of a tensor, a tuple, or a record, and those within it.

    Example:
        >>> import torch
        >>> from geodesic.arrays import with_arrays
        >>> with_arrays((torch.ones(2, dtype=torch.float64), "two"))
        (array([1., 1.]), 'two')
    """
    if isinstance(answer, Tensor):
        return answer.detach().cpu().numpy()
    if isinstance(answer, TensorRecord):
        return _mapped(answer, lambda name, x: with_arrays(x))
    return tuple(map(with_arrays, answer)) if isinstance(answer, tuple) else answer


def _holds(kind: type, value: Any) -> bool:
    """Whether a value is of a kind, or a record with a field that is."""
    if isinstance(value, TensorRecord):
        return any(_holds(kind, x) for x in vars(value).values())
    return isinstance(value, kind)


def _converted(name: str, value: Any) -> Any:
    """An argument with tensors and plain numbers in place of what NumPy has."""
    if isinstance(value, np.generic):
        return value.item()
    return _mapped(value, _converted) if isinstance(value, TensorRecord) else as_tensor(name, value)


def _mapped(record: TensorRecord, change: Callable[[str, Any], Any]) -> Any:
    """A record of the same class with every field changed, whatever its `__init__` would ask for."""
    other = object.__new__(type(record))
    for field in fields(record):
        object.__setattr__(other, field.name, change(field.name, getattr(record, field.name)))
    return other
