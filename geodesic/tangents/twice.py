"""Convolutions whose gradients are differentiated once more, without products that nobody asks for.

torch's derivative of a convolution's gradient also forms that for the weights, which costs as much as the rest and is
thrown away: a product with a Hessian takes three passes where two will do. Here a convolution has its pullback for a
gradient, another convolution, which torch differentiates as any other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from geodesic.tangents.levels import Affine
from geodesic.tangents.operators import convolution_of

__all__ = ["with_fixed_weights"]


class with_fixed_weights(TorchFunctionMode):  # noqa: N801  # used as a function
    """Within it, convolutions have no gradients in their weights, and second derivatives at the price of first ones.

    Values and derivatives in what is convolved differ by rounding alone. Weights that follow from what requires
    gradients are left to torch, and so is what `torch.func` differentiates.

    Example:
        >>> import torch
        >>> from geodesic.tangents import with_fixed_weights
        >>> x = torch.ones(1, 1, 3, requires_grad=True)
        >>> with with_fixed_weights():
        ...     y = torch.nn.functional.conv1d(x, torch.full((1, 1, 2), 3.0))
        >>> torch.autograd.grad(y.square().sum(), x)[0].tolist()
        [[[36.0, 72.0, 36.0]]]
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:
            return func(*args, **kwargs)
        call = convolution_of(func, args, kwargs)
        if call is None or any(isinstance(c, Tensor) and c.grad_fn is not None for c in call[2:]):
            return func(*args, **kwargs)
        return _Convolved.apply(*call)


class _Convolved(torch.autograd.Function):
    """A convolution that is differentiated in what is convolved alone."""

    @staticmethod
    def forward(ctx: Any, affine: Affine, x: Tensor, *constants: Any) -> Tensor:
        ctx.affine, ctx.constants = affine, constants
        return affine.value(x, *constants)

    @staticmethod
    def backward(ctx: Any, r: Tensor) -> tuple[Tensor | None, ...]:
        return None, ctx.affine.back(r, *ctx.constants), *(None for _ in ctx.constants)
