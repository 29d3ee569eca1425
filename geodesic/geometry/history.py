"""Gradients of what is measured on a path: refused where reverse mode would leave a part of the decoder out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geodesic.door.derivatives import Derivatives
from geodesic.errors import DecoderError
from geodesic.geometry.manifold import Manifold

__all__ = ["no_gradient", "with_right_history"]


def no_gradient(way: Derivatives, *, twice: bool) -> str:
    """Why autograd gives no right gradient of what is made from these derivatives; "" where it does.

    Args:
        way: How derivatives are taken.
        twice: Whether the gradient needs second derivatives.
    """
    if not way.reverse:
        return (
            "a part of it is hidden from reverse mode, as under torch.no_grad, and the gradient would leave it out; "
            "take that part out of torch.no_grad"
        )
    if twice and not way.curvature:
        return (
            "one of its operators can be differentiated once only, and the gradient of a length needs second "
            "derivatives"
        )
    return ""


def with_right_history(manifold: Manifold, path: Tensor, size: Tensor, tool: str, *, twice: bool) -> Tensor:
    """What was measured on paths, with its history if that is right.

    Where it is not, the number stands, and who asks for the gradient of a parameter meets the refusal.

    Args:
        manifold: Where it was measured.
        path: Nodes, (*batch, T + 1, d).
        size: The measured numbers, (*batch,).
        tool: What the user called.
        twice: Whether the gradient needs second derivatives.

    Raises:
        DecoderError: The path asks for a gradient that cannot be given.
    """
    if not torch.is_grad_enabled() or not path.numel():
        return size
    reason = no_gradient(manifold.way(path), twice=twice)
    if not reason:
        return size
    said = f"decoder: {reason}; call {tool} under torch.no_grad() where the number alone is wanted"
    if path.requires_grad:
        raise DecoderError(said)
    anchor = size if size.requires_grad else manifold.squared_chords(path[..., :2, :])
    if not anchor.requires_grad:
        return size
    refused: Tensor = _Refused.apply(size, anchor, said)
    return refused


class _Refused(torch.autograd.Function):
    """A number whose gradient is an error."""

    @staticmethod
    def forward(ctx: Any, size: Tensor, _: Tensor, said: str) -> Tensor:
        ctx.said = said
        return size.detach().clone()

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise DecoderError(ctx.said)
