"""The operators of torch that are affine in one argument, and how a call of them is recognized."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from geodesic.tangents.levels import carried, forward_levels, varies
from geodesic.tangents.rules import (
    ADDED_PRODUCT,
    BATCH_NORM,
    CONVOLUTION,
    DIFFERENCE,
    LAYER,
    LEFT_PRODUCT,
    MULTIPLE,
    QUOTIENT,
    REST,
    RIGHT_PRODUCT,
    SUM,
    Window,
)

__all__ = ["convolution_of", "without_zeros"]

Call = tuple[Any, ...]  # an affine operator, what it is affine in, its constants

_ACTIVE = ContextVar("active", default=False)


@contextmanager
def without_zeros() -> Iterator[None]:
    """Within it, forward mode forms no products with the tangents of constants, which are zero.

    Values and derivatives differ by rounding alone. Operators that are not known here are taken as they are.

    Example:
        >>> import torch
        >>> from geodesic.tangents import without_zeros
        >>> W, z, u = torch.eye(2), torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])
        >>> with without_zeros():
        ...     torch.func.jvp(lambda z: torch.nn.functional.linear(z, W), (z,), (u,))
        (tensor([[1., 2.]]), tensor([[3., 4.]]))
    """
    if _ACTIVE.get():
        yield
        return
    token = _ACTIVE.set(True)
    try:
        with _WithoutZeros():
            yield
    finally:
        _ACTIVE.reset(token)


class _WithoutZeros(TorchFunctionMode):
    """Looks for an affine call in each call of torch, where something takes tangents."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.compiler.is_compiling():  # a compiler follows this too, and does not know levels
            return func(*args, **(kwargs or {}))
        recognize = _OPERATORS.get(func)
        if recognize is not None and forward_levels():
            call = recognize(*args, **(kwargs or {}))
            if call is not None and _is_plain(*call[1:]):
                return carried(*call)
        return func(*args, **(kwargs or {}))


def _is_plain(x: Any, *constants: Any) -> bool:
    """Whether x is a real tensor, and nothing but torch decides what is done with it."""
    tensors = [a for a in (x, *constants) if isinstance(a, Tensor)]
    return (
        isinstance(x, Tensor)
        and x.is_floating_point()
        and all(type(a) in _TENSORS for a in tensors)
        and not torch.is_autocast_enabled(x.device.type)
    )


_TENSORS = (Tensor, nn.Parameter)


def _pair(a: Any, b: Any) -> tuple[Any, Any, bool]:
    """Of two arguments the one that varies, the other one, and whether they have changed places."""
    return (b, a, True) if not isinstance(a, Tensor) or varies(b) else (a, b, False)


def _keeps_type(x: Any, c: Any) -> bool:
    """Whether an operator elementwise on x and c gives a tensor of the type of x."""
    if isinstance(c, int | float):
        return True
    return isinstance(c, Tensor) and torch.result_type(x, c) == x.dtype


def _sum(*pair: Any, **options: Any) -> Call | None:
    if len(pair) != 2 or options:  # as alpha and out
        return None
    x, c, _ = _pair(*pair)
    return (SUM, x, c, x.shape, _size(x, c)) if _keeps_type(x, c) else None


def _difference(*pair: Any, **options: Any) -> Call | None:
    if len(pair) != 2 or options:
        return None
    x, c, swapped = _pair(*pair)
    return (REST if swapped else DIFFERENCE, x, c, x.shape, _size(x, c)) if _keeps_type(x, c) else None


def _rest(*pair: Any, **options: Any) -> Call | None:
    return _difference(*reversed(pair), **options)


def _multiple(*pair: Any, **options: Any) -> Call | None:
    if len(pair) != 2 or options:
        return None
    x, c, _ = _pair(*pair)
    return (MULTIPLE, x, c, x.shape) if _keeps_type(x, c) else None


def _quotient(*pair: Any, **options: Any) -> Call | None:
    if len(pair) != 2 or options:  # as rounding_mode
        return None
    x, c, swapped = _pair(*pair)
    return (QUOTIENT, x, c, x.shape) if not swapped and _keeps_type(x, c) else None


def _size(x: Tensor, c: Any) -> tuple[int, ...]:
    """The size of what an operator elementwise on x and c gives."""
    ends = zip(reversed(c.shape), reversed(x.shape), strict=False) if isinstance(c, Tensor) else ()
    if isinstance(c, Tensor) and (c.dim() > x.dim() or any(m not in (1, n) for m, n in ends)):
        return tuple(torch.broadcast_shapes(x.shape, c.shape))  # which is slow, and seldom needed
    return tuple(x.shape)


def _product(*pair: Any, **options: Any) -> Call | None:
    if len(pair) != 2 or options or not all(isinstance(a, Tensor) for a in pair):
        return None
    x, A, swapped = _pair(*pair)
    if min(x.dim(), A.dim()) < 2 or (A.dim() > 2 and A.shape[:-2] != x.shape[:-2]):
        return None
    return (LEFT_PRODUCT if swapped else RIGHT_PRODUCT), x, A


def _product_of(dim: int) -> Callable[..., Call | None]:
    """The same for an operator that takes tensors with so many axes and no others."""
    return lambda *pair, **options: _product(*pair, **options) if all(a.dim() == dim for a in pair) else None


def _added_product(*arguments: Any, **options: Any) -> Call | None:
    if len(arguments) != 3 or options or not all(isinstance(a, Tensor) for a in arguments):
        return None
    b, x, A = arguments
    return ADDED_PRODUCT, x, A, b


def _layer(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Call | None:
    return (LAYER, input, weight, bias) if weight.dim() == 2 else None


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Call | None:
    n = weight.dim() - 2
    if input.dim() != n + 2 or isinstance(padding, str):
        return None
    window = Window(_sizes(stride, n), _sizes(padding, n), _sizes(dilation, n), False, _sizes(0, n), groups)
    return CONVOLUTION, input, weight, bias, window, tuple(input.shape[2:])


def _transposed_convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Call | None:
    n = weight.dim() - 2
    if input.dim() != n + 2:
        return None
    step, more = _sizes(stride, n), _sizes(output_padding, n)
    if any(rows >= moved for rows, moved in zip(more, step, strict=True)):  # its transpose would give more than x has
        return None
    window = Window(step, _sizes(padding, n), _sizes(dilation, n), True, more, groups)
    return CONVOLUTION, input, weight, bias, window, tuple(input.shape[2:])


def _sizes(size: Any, n: int) -> tuple[int, ...]:
    size = (size,) if isinstance(size, int) else tuple(size)
    return size * n if len(size) == 1 else size


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Call | None:
    if training or running_mean is None or running_var is None:
        return None
    return BATCH_NORM, input, running_mean, running_var, weight, bias, eps


_CONVOLUTIONS: dict[Any, Callable[..., Call | None]] = {
    **dict.fromkeys((nn.functional.conv1d, nn.functional.conv2d, nn.functional.conv3d), _convolution),
    **dict.fromkeys(
        (nn.functional.conv_transpose1d, nn.functional.conv_transpose2d, nn.functional.conv_transpose3d),
        _transposed_convolution,
    ),
}

_OPERATORS: dict[Any, Callable[..., Call | None]] = {
    **dict.fromkeys((torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__), _sum),
    **dict.fromkeys((torch.sub, torch.subtract, Tensor.sub, Tensor.subtract, Tensor.__sub__), _difference),
    **dict.fromkeys((torch.rsub, Tensor.__rsub__), _rest),
    **dict.fromkeys(
        (torch.mul, torch.multiply, Tensor.mul, Tensor.multiply, Tensor.__mul__, Tensor.__rmul__), _multiple
    ),
    **dict.fromkeys(
        (torch.div, torch.divide, torch.true_divide, Tensor.div, Tensor.divide, Tensor.__truediv__), _quotient
    ),
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__), _product),
    **dict.fromkeys((torch.mm, Tensor.mm), _product_of(2)),
    **dict.fromkeys((torch.bmm, Tensor.bmm), _product_of(3)),
    torch.addmm: _added_product,
    nn.functional.linear: _layer,
    **_CONVOLUTIONS,
    nn.functional.batch_norm: _batch_norm,
}


def convolution_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """A call of torch as a convolution of a plain tensor; None for other calls."""
    recognize = _CONVOLUTIONS.get(func)
    call = None if recognize is None else recognize(*args, **kwargs)
    return call if call is not None and _is_plain(*call[1:]) else None
