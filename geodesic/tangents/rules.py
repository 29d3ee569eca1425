"""The operators of torch that are affine in one argument."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import batch_norm, linear

from geodesic.tangents.levels import Affine, carried

__all__ = [
    "ADDED_PRODUCT",
    "BATCH_NORM",
    "CONVOLUTION",
    "DIFFERENCE",
    "LAYER",
    "LEFT_PRODUCT",
    "MULTIPLE",
    "QUOTIENT",
    "REST",
    "RIGHT_PRODUCT",
    "SUM",
    "Window",
]

Sizes = tuple[int, ...]
Take = Callable[..., Tensor]


class Window(NamedTuple):
    """How a convolution moves over its input, in torch's order."""

    stride: Sizes
    padding: Sizes
    dilation: Sizes
    transposed: bool
    output_padding: Sizes
    groups: int


def _widened(take: Take, t: Tensor, c: Any, x_size: Sizes, y_size: Sizes) -> Tensor:
    return t.expand(y_size).clone()  # y and x must not share a tangent: an operation in place on one would change both


def _multiplied_back(r: Tensor, c: Any, x_size: Sizes) -> Tensor:
    return carried(MULTIPLE, r, c, r.shape).sum_to_size(x_size)


def _divided_back(r: Tensor, c: Any, x_size: Sizes) -> Tensor:
    return carried(QUOTIENT, r, c, r.shape).sum_to_size(x_size)


# Each with its constants: a number or a tensor c, the sizes of x and, where it is asked for, of y.
SUM: Affine = Affine(
    value=lambda x, c, x_size, y_size: x + c,
    along=_widened,
    back=lambda r, c, x_size, y_size: r.sum_to_size(x_size),
)
DIFFERENCE: Affine = Affine(
    value=lambda x, c, x_size, y_size: x - c,
    along=_widened,
    back=lambda r, c, x_size, y_size: r.sum_to_size(x_size),
)
REST: Affine = Affine(
    value=lambda x, c, x_size, y_size: c - x,
    along=lambda take, t, c, x_size, y_size: -_widened(take, t, c, x_size, y_size),
    back=lambda r, c, x_size, y_size: -r.sum_to_size(x_size),
)
MULTIPLE: Affine = Affine(
    value=lambda x, c, x_size: x * c,
    along=lambda take, t, c, x_size: take(MULTIPLE, t, c, x_size),
    back=_multiplied_back,
)
QUOTIENT: Affine = Affine(
    value=lambda x, c, x_size: x / c,
    along=lambda take, t, c, x_size: take(QUOTIENT, t, c, x_size),
    back=_divided_back,
)

# A matrix, or as many as x has.
RIGHT_PRODUCT: Affine = Affine(
    value=lambda x, A: x @ A,
    along=lambda take, t, A: take(RIGHT_PRODUCT, t, A),
    back=lambda r, A: carried(RIGHT_PRODUCT, r, A.mT),
)
LEFT_PRODUCT: Affine = Affine(
    value=lambda x, A: A @ x,
    along=lambda take, t, A: take(LEFT_PRODUCT, t, A),
    back=lambda r, A: carried(LEFT_PRODUCT, r, A.mT),
)
ADDED_PRODUCT: Affine = Affine(
    value=lambda x, A, b: torch.addmm(b, x, A),
    along=lambda take, t, A, b: take(RIGHT_PRODUCT, t, A),
    back=lambda r, A, b: carried(RIGHT_PRODUCT, r, A.mT),
)
LAYER: Affine = Affine(
    value=linear,
    along=lambda take, t, W, b: take(LAYER, t, W, None),
    back=lambda r, W, b: carried(RIGHT_PRODUCT, r, W),
)


def _convolved_back(r: Tensor, W: Tensor, b: Tensor | None, window: Window, x_size: Sizes) -> Tensor:
    missing = [0 for _ in x_size]  # rows that no step of the window reaches
    if not window.transposed:
        moves = zip(x_size, r.shape[2:], W.shape[2:], window.stride, window.padding, window.dilation, strict=True)
        missing = [n - ((m - 1) * step - 2 * pad + gap * (k - 1) + 1) for n, m, k, step, pad, gap in moves]
    back = window._replace(transposed=not window.transposed, output_padding=tuple(missing))
    return carried(CONVOLUTION, r, W, None, back, r.shape[2:])


CONVOLUTION: Affine = Affine(
    value=lambda x, W, b, window, x_size: torch.convolution(x, W, b, *window),
    along=lambda take, t, W, b, window, x_size: take(CONVOLUTION, t, W, None, window, x_size),
    back=_convolved_back,
)


def _scaled(
    take: Take, x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Any, eps: float
) -> Tensor:
    """What batch normalization in evaluation mode does to a tangent, and to a cotangent."""
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    return take(MULTIPLE, x, scale.reshape(-1, *[1] * (x.dim() - 2)), x.shape)


BATCH_NORM: Affine = Affine(
    value=lambda x, mean, variance, weight, bias, eps: batch_norm(x, mean, variance, weight, bias, eps=eps),
    along=_scaled,
    back=partial(_scaled, carried),
)
