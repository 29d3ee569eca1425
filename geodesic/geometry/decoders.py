"""What a manifold asks of a decoder, and how it calls one: row by row, without a word about geometry."""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from geodesic.errors import DecoderError, GeodesicError, InputError
from geodesic.geometry.batches import AnyBatch
from geodesic.geometry.outputs import DistanceGeometry, OutputGeometry
from geodesic.geometry.parameters import last_operation
from geodesic.geometry.refusals import failure, fitting_shape, on_points, refuse_output

__all__ = [
    "Decoder",
    "checked_shape",
    "decoded",
    "embedded",
    "examine",
    "name_of",
    "require_decoder",
    "require_evaluation_mode",
    "require_expected",
    "require_precision",
]

Decoder = Callable[[Tensor], Tensor]


def require_decoder(decoder: object, argument: str = "decoder") -> None:
    """Refuse what is no function, or is a module in training mode with layers that behave differently there."""
    if callable(getattr(decoder, "decode", None)) and callable(getattr(decoder, "encode", None)):
        raise DecoderError(
            f"{argument}: got a whole {type(decoder).__name__}, with an encoder; give its decode alone, "
            f"PullbackManifold({argument}.decode)"
        )
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
            raise _in_training(argument, module, name)


def _in_training(argument: str, module: nn.Module, name: str = "") -> DecoderError:
    kind = type(module).__name__
    whose = f"{argument}.eval()" if name else f".eval() on the module that {argument} calls"
    return DecoderError(
        f"{argument}: its layer {name or kind!r} ({kind}) is in training mode, where the rows of a batch are coupled "
        f"or random; call {whose} first"
    )


@contextmanager
def _refusing_training_mode(argument: str) -> Iterator[None]:
    """Within it, a layer in training mode is refused when it is called, wherever a function keeps it.

    Raises:
        DecoderError: With the kind of the layer.
    """
    here = threading.get_ident()  # elsewhere something may be trained

    def look(module: nn.Module, _: Any) -> None:
        if module.training and isinstance(module, _UNLIKE_IN_TRAINING) and threading.get_ident() == here:
            raise _in_training(argument, module)

    hook = nn.modules.module.register_module_forward_pre_hook(look)
    try:
        with warnings.catch_warnings():  # a compiled module says that hooks see it twice
            warnings.filterwarnings("ignore", message=".*global hooks on modules")
            yield
    finally:
        hook.remove()


def decoded(decoder: Decoder, z: Tensor, latent_shape: tuple[int, ...] | None, argument: str = "decoder") -> Tensor:
    """The decoder's output, (N, ...), for rows z, (N, d)."""

    def call(z: Tensor) -> Any:
        rows = z.clone()  # a decoder may begin with an operation in place
        return decoder(rows if latent_shape is None else rows.reshape(-1, *latent_shape))

    try:
        parameters = call(z)
    except (GeodesicError, torch.OutOfMemoryError):
        raise  # where memory runs out, those who group rows ask for fewer
    except Exception as error:  # whatever the user's function raises
        said = failure(argument, inspect.unwrap(decoder), call, z, error)
        if said is None:
            raise
        raise said from error
    refuse_output(argument, parameters, len(z))
    values: Tensor = parameters
    return values


def embedded(decoder: Decoder, outputs: OutputGeometry, z: Tensor, latent_shape: tuple[int, ...] | None) -> Tensor:
    """phi(g(z)), (*batch, ...), with at least one axis after those of the points z, (*batch, d)."""
    rows = z.reshape(-1, z.shape[-1])
    x = outputs.embed(decoded(decoder, rows, latent_shape))
    if x.shape[:1] != rows.shape[:1]:
        raise DecoderError(
            f"outputs: {outputs} gave the shape {tuple(x.shape)} for {len(rows)} outputs; it must keep the rows apart"
        )
    return x.reshape(*z.shape[:-1], *(x.shape[1:] or (1,)))


def examine(
    decoder: Decoder,
    outputs: OutputGeometry | DistanceGeometry,
    z: Tensor,
    latent_shape: tuple[int, ...] | None,
    argument: str = "decoder",
    given: Tensor | None = None,
) -> None:
    """Refuse a decoder that does not suit points z, (N, d), or returns other parameters than the geometry takes.

    Args:
        decoder: The decoder.
        outputs: The geometry of its outputs.
        z: Points that it should take.
        latent_shape: The shape in which it wants each.
        argument: The user's name for it.
        given: Some of the points in the shape in which the user gave them.

    Raises:
        DecoderError: With what was found, and the word that settles it.
    """
    require_precision(decoder, z, argument)
    any_batch = AnyBatch(decoder)
    with _refusing_training_mode(argument), torch.inference_mode(False), torch.enable_grad():
        try:
            values = decoded(any_batch, z.detach().clone().requires_grad_(), latent_shape, argument)
        except DecoderError:
            shape = fitting_shape(decoder, given) if latent_shape is None and given is not None else None
            if shape is None:
                raise
            raise DecoderError(
                f"{argument}: it takes points of shape {shape}, and the manifold has no latent_shape; give it "
                f"latent_shape={shape}"
            ) from None
        except Exception:  # it has no derivatives, or takes few rows only: for those to say who need more
            with torch.no_grad():
                values = torch.cat([decoded(any_batch, row, latent_shape, argument) for row in z.detach().split(1)])
    require_expected(outputs, values, decoder, argument)


def require_expected(
    outputs: OutputGeometry | DistanceGeometry, values: Tensor, decoder: object, argument: str = "decoder"
) -> None:
    """Refuse outputs that are not the parameters that a geometry takes: probabilities for logits, say.

    Args:
        outputs: The geometry.
        values: What the decoder returned at some points, (N, ...), best with its history, which tells how it was made.
        decoder: The decoder.
        argument: The user's name for it.

    Raises:
        DecoderError: With what speaks for it, and the word that settles it.
    """
    said = getattr(decoder, "outputs", None)  # by a decoder of `geodesic.wrap`, which knows what it returns
    if not bool(values.isfinite().all()) or (type(said) is type(outputs) and said == outputs):
        return
    doubt = outputs.doubt(values.detach(), last_operation(values, decoder))
    if doubt is not None:
        raise DecoderError(f"{argument}: {doubt}")


def require_precision(decoder: object, z: Tensor, argument: str = "decoder") -> None:
    """Refuse a module whose weights have another floating point dtype than the points.

    A method of one may use some of the weights only: whether it takes the points shows when it is called.

    Raises:
        DecoderError: With the word that makes them agree.
    """
    if not isinstance(decoder, nn.Module):
        return
    words = {torch.float32: "float", torch.float64: "double"}
    for weights in decoder.parameters():
        if weights.is_floating_point() and weights.dtype != z.dtype:
            other = f", or {on_points(words[weights.dtype])}" if weights.dtype in words else ""
            raise DecoderError(
                f"{argument}: its weights have dtype {weights.dtype}, and the points {z.dtype}; call "
                f".{words[z.dtype]}() on the module{other}"
            )


def checked_shape(shape: Any, argument: str = "latent_shape") -> tuple[int, ...] | None:
    """A shape as a tuple, or None; what is no shape is refused by the user's name for it."""
    shape = tuple(shape) if isinstance(shape, list | torch.Size) else shape
    if shape is None:
        return None
    if not isinstance(shape, tuple) or not (shape and all(type(n) is int and n > 0 for n in shape)):
        raise InputError(f"{argument}: expected positive integers such as (4, 8, 8), got {shape!r}")
    return shape


def name_of(decoder: Decoder) -> str:
    """What a manifold calls its decoder when it is printed."""
    return getattr(decoder, "__name__", type(decoder).__name__)
