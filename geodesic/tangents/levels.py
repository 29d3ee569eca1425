"""Affine operators through the levels of `torch.func`, without products that are zero.

torch forms the tangent of an operator from the tangents of all of its arguments. Where one of them has none, as the
weights of a layer, torch takes a tensor of zeros for it and multiplies by that: the tangent of W x + b costs W t and
0 x. Here an operator that is affine in one argument is taken down by hand, one level after the other: its tangent is
W t, its pullback W^T r, and nothing is formed for W. What is differentiated below all levels, as the gradients of
parameters, torch does as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch
from torch._functorch.autograd_function import enable_single_level_autograd_function
from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter
from torch.autograd.forward_ad import _set_fwd_grad_enabled, make_dual, unpack_dual
from torch.autograd.function import _SingleLevelFunction

__all__ = ["Affine", "at_once", "carried", "forward_levels", "varies"]

_FORWARD, _REVERSE = _functorch.TransformType.Jvp, _functorch.TransformType.Grad


@dataclass(frozen=True, eq=False)
class Affine:
    """y = A x + b, where A and b follow from constants: tensors, numbers, sizes.

    Attributes:
        value: From x and the constants to y, by operators of torch.
        along: From a tangent t and the constants to A t. Its first argument is how it takes operators: `carried`, or
            `at_once` where nothing differentiates t.
        back: From a cotangent r and the constants to A^T r.
    """

    value: Callable[..., Tensor]
    along: Callable[..., Tensor]
    back: Callable[..., Tensor]


def carried(affine: Affine, x: Tensor, *constants: Any) -> Tensor:
    """A x + b, with its tangent or its history on every level that differentiates x.

    A level that differentiates one of the constants too takes torch's own way, and so does all below it.

    Args:
        affine: The operator.
        x: What it is affine in.
        constants: What A and b follow from.
    """
    forward, innermost = forward_levels(), _functorch.peek_interpreter_stack()
    if not forward or innermost.key() not in (_FORWARD, _REVERSE) or any(varies(c) for c in constants):
        return affine.value(x, *constants)
    if innermost.key() == _REVERSE:
        if not (varies(x) and torch.is_grad_enabled()):
            return _below(partial(carried, affine), x, *constants)
        with enable_single_level_autograd_function():
            return _History.apply(affine, x, *constants)  # type: ignore[attr-defined]  # missing in torch's stubs
    primal, tangent = unpack_dual(x)
    if forward == 1:  # no tangents below, and none of t itself: the level need not be left
        y = affine.value(primal, *constants)
        return y if tangent is None else make_dual(y, affine.along(at_once, tangent, *constants))
    y = _below(partial(carried, affine), primal, *constants)
    return y if tangent is None else make_dual(y, _below(partial(affine.along, carried), tangent, *constants))


def at_once(affine: Affine, x: Tensor, *constants: Any) -> Tensor:
    """A x + b, as torch takes it."""
    return affine.value(x, *constants)


def forward_levels() -> int:
    """How many levels of forward mode surround the caller."""
    return [level.key() for level in _functorch.get_interpreter_stack() or ()].count(_FORWARD)


def varies(x: Any) -> bool:
    """Whether the innermost level differentiates x."""
    if not isinstance(x, Tensor) or not _functorch.is_functorch_wrapped_tensor(x):
        return False
    innermost = _functorch.peek_interpreter_stack()
    if innermost.key() == _FORWARD:
        return unpack_dual(x).tangent is not None
    return innermost.key() == _REVERSE and x.requires_grad and _functorch.maybe_get_level(x) == innermost.level()


class _History(_SingleLevelFunction):
    """An affine operator in the history of the innermost level, which is one of reverse mode."""

    @staticmethod
    def forward(ctx: Any, affine: Affine, x: Tensor, *constants: Any) -> Tensor:
        level = retrieve_current_functorch_interpreter().level()
        ctx.affine, ctx.constants = affine, _unwrapped(constants, level)
        with torch.enable_grad(), _set_fwd_grad_enabled(True):  # torch turns them off for all levels
            return _below(partial(carried, affine), x, *constants)

    @staticmethod
    def backward(ctx: Any, r: Tensor) -> tuple[Tensor | None, ...]:
        return None, ctx.affine.back(r, *ctx.constants), *(None for _ in ctx.constants)


def _below(compute: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """What is computed from the arguments without the innermost level, which does not differentiate them."""
    innermost = retrieve_current_functorch_interpreter()
    inner = _unwrapped(arguments, innermost.level())
    with innermost.lower():
        y = compute(*inner)
    return _functorch._wrap_for_grad(y, innermost.level())


def _unwrapped(arguments: tuple[Any, ...], level: int) -> list[Any]:
    return [_functorch._unwrap_for_grad(a, level) if isinstance(a, Tensor) else a for a in arguments]
