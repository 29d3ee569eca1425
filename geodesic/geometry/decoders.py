"""What a manifold asks of a decoder, and how it calls one: row by row, without a word about geometry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from geodesic.errors import DecoderError, InputError
from geodesic.geometry.outputs import OutputGeometry

__all__ = [
    "Decoder",
    "checked_shape",
    "decoded",
    "embedded",
    "name_of",
    "require_decoder",
    "require_evaluation_mode",
]

Decoder = Callable[[Tensor], Tensor]


def require_decoder(decoder: object, argument: str = "decoder") -> None:
    """Refuse what is no function, or is a module in training mode with layers that behave differently there."""
    if not callable(decoder):
        raise DecoderError(f"{argument}: expected a function from (N, d) to (N, ...), got {type(decoder).__name__}")
    require_evaluation_mode(decoder, argument)


_UNLIKE_IN_TRAINING = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.dropout._DropoutNd,
    nn.modules.instancenorm._InstanceNorm,
)


def require_evaluation_mode(decoder: object, argument: str = "decoder") -> None:
    """Refuse a decoder with layers that behave differently in training."""
    # A bound method, such as `vae.decode`, is as much in training mode as the module that it belongs to.
    owner = decoder if isinstance(decoder, nn.Module) else getattr(decoder, "__self__", None)
    if not isinstance(owner, nn.Module):
        return
    for name, module in owner.named_modules():
        if module.training and isinstance(module, _UNLIKE_IN_TRAINING):
            kind = type(module).__name__
            raise DecoderError(
                f"{argument}: its layer {name or kind!r} ({kind}) is in training mode, where the rows of a batch "
                f"are coupled or random; call {argument}.eval() first"
            )


def decoded(decoder: Decoder, z: Tensor, latent_shape: tuple[int, ...] | None) -> Tensor:
    """The decoder's output, (N, ...), for rows z, (N, d)."""
    rows = z.clone()  # a decoder may begin with an operation in place
    parameters = decoder(rows if latent_shape is None else rows.reshape(-1, *latent_shape))
    if not isinstance(parameters, Tensor):
        raise DecoderError(f"decoder: expected a tensor of shape (N, ...), got {type(parameters).__name__}")
    if parameters.shape[:1] != z.shape[:1]:
        raise DecoderError(
            f"decoder: {len(z)} points gave an output of shape {tuple(parameters.shape)}; it must map (N, d) to "
            "(N, ...), one row for each"
        )
    return parameters


def embedded(decoder: Decoder, outputs: OutputGeometry, z: Tensor, latent_shape: tuple[int, ...] | None) -> Tensor:
    """phi(g(z)), (*batch, ...), with at least one axis after those of the points z, (*batch, d)."""
    rows = z.reshape(-1, z.shape[-1])
    x = outputs.embed(decoded(decoder, rows, latent_shape))
    if x.shape[:1] != rows.shape[:1]:
        raise DecoderError(
            f"outputs: {outputs} gave the shape {tuple(x.shape)} for {len(rows)} outputs; it must keep the rows apart"
        )
    return x.reshape(*z.shape[:-1], *(x.shape[1:] or (1,)))


def checked_shape(shape: Any) -> tuple[int, ...] | None:
    """A `latent_shape` as a tuple; what is no shape is refused."""
    shape = tuple(shape) if isinstance(shape, list | torch.Size) else shape
    if shape is None:
        return None
    if not isinstance(shape, tuple) or not (shape and all(type(n) is int and n > 0 for n in shape)):
        raise InputError(f"latent_shape: expected positive integers such as (4, 8, 8), got {shape!r}")
    return shape


def name_of(decoder: Decoder) -> str:
    """What a manifold calls its decoder when it is printed."""
    return getattr(decoder, "__name__", type(decoder).__name__)
