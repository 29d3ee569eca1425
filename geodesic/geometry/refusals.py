"""What is said of a decoder that cannot be called as one, or returns what is no tensor: always with the way out."""

from __future__ import annotations

import dataclasses
import inspect
import operator
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from geodesic.checks import brief
from geodesic.errors import DecoderError

__all__ = ["Part", "described", "failure", "fitting_shape", "on_points", "parts_of", "refuse_output"]

_NUMPY = "derivatives do not pass through NumPy; write it with functions of torch"
_LONGEST = 200  # characters of a message of somebody else
_MOST_TRIED = 256  # points that are tried one by one, to name one at which a decoder fails


def refuse_output(argument: str, value: Any, count: int) -> None:
    """Refuse what a decoder returned for so many points, unless it is a tensor that geometries can work with.

    Raises:
        DecoderError: With what it is, and the function to give instead.
    """
    if not isinstance(value, Tensor):
        raise DecoderError(
            f"{argument}: expected a tensor of shape (N, ...) from it, got {_instead(argument, value, count)}"
        )
    if value.shape[:1] != (count,):
        raise DecoderError(
            f"{argument}: {count} points gave an output of shape {tuple(value.shape)}; it must map (N, d) to "
            "(N, ...), one row for each"
        )
    if value.layout != torch.strided:
        raise DecoderError(
            f"{argument}: its output is {value.layout}, and geometries are of dense tensors; give lambda z: "
            f"{argument}(z).to_dense()"
        )
    if value.numel() == 0 and count:
        raise DecoderError(
            f"{argument}: its output is empty, of shape {tuple(value.shape)}; it must return at least one number a row"
        )
    if value.is_complex():
        raise DecoderError(
            f"{argument}: its output is complex ({value.dtype}), and geometries are of real numbers; give real and "
            f"imaginary parts, lambda z: torch.view_as_real({argument}(z))"
        )
    if not value.is_floating_point():
        raise DecoderError(
            f"{argument}: its output has {value.dtype}, and integers have no derivatives; give the numbers from before "
            "they are rounded, compared or turned into classes"
        )


def _instead(argument: str, value: Any, count: int) -> str:
    """What a value is, and the function that takes a tensor out of it."""
    if isinstance(value, torch.distributions.Distribution):
        field = "logits" if isinstance(getattr(value, "logits", None), Tensor) else "mean"
        return f"the distribution {type(value).__name__}; give lambda z: {argument}(z).{field}"
    if type(value).__module__ == "numpy":
        return f"a NumPy {type(value).__name__}; {_NUMPY}"
    parts = parts_of(value)
    if not parts:
        return f"{described(value)}; give a function that returns one"
    tensors = [part for part in parts if isinstance(part.value, Tensor) and part.value.shape[:1] == (count,)]
    access = (tensors or parts)[0].access
    return f"{described(value)}; give the part that is meant, lambda z: {argument}(z){access}"


class Part(NamedTuple):
    """A part of what a decoder returned.

    Attributes:
        name: Its key, attribute or number.
        access: What Python writes behind the whole: "['loc']".
        get: Takes it out of the whole.
        value: It.
    """

    name: str | int
    access: str
    get: Callable[[Any], Any]
    value: Any


def parts_of(value: Any) -> list[Part]:
    """The parts of an output class, a mapping, a tuple or another object; none of what has none.

    Example:
        >>> from geodesic.geometry.refusals import parts_of
        >>> [(part.access, part.value) for part in parts_of({"loc": 3})]
        [("['loc']", 3)]
    """
    # An output class of transformers is a mapping and a dataclass: its fields are what its users know.
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        names = list(value._fields)
    elif isinstance(value, Mapping):
        return [Part(key, f"[{key!r}]", operator.itemgetter(key), part) for key, part in value.items()]
    elif isinstance(value, tuple | list):
        return [Part(k, f"[{k}]", operator.itemgetter(k), part) for k, part in enumerate(value)]
    else:
        names = [name for name in getattr(value, "__dict__", ()) if not name.startswith("_")]
    return [Part(name, f".{name}", operator.attrgetter(name), getattr(value, name)) for name in names]


def described(value: Any) -> str:
    """What a value is, with some of its parts: "a dict (loc: a tensor (2, 3) of torch.float32)"."""
    if isinstance(value, Tensor):
        return brief(value)
    held = ", ".join(f"{part.name}: {brief(part.value)}" for part in parts_of(value)[:6])
    return f"a {type(value).__name__} ({held})" if held else type(value).__name__


def failure(
    argument: str, decoder: Callable[[Tensor], Any], call: Callable[[Tensor], Any], z: Tensor, error: Exception
) -> DecoderError | None:
    """What to say of a decoder that failed on rows; None if it fails only with derivatives, or only on many rows.

    Args:
        argument: The user's name for it.
        decoder: The decoder.
        call: Calls it on rows.
        z: The rows, (N, d).
        error: What it raised.
    """
    plain = z.detach()
    if "numpy()" in str(error):
        return DecoderError(f"{argument}: {_NUMPY}")
    if _works(call, plain):
        return None
    tried = [*plain[:_MOST_TRIED].split(1), torch.zeros_like(plain[:1])]  # it may work at the origin, if nowhere else
    failed = [row for row in tried if not _works(call, row)]
    if not failed or failed[0] is tried[-1]:
        return None
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:_LONGEST]
    if len(failed) < len(tried):
        return DecoderError(
            f"{argument}: it failed at {brief(failed[0][0])} ({reason}), and not at other points; it must work "
            "everywhere between and around the endpoints"
        )
    count = "a point" if len(plain) == 1 else f"{len(plain)} points"
    what = f"{argument}: it failed on {count} of size {z.shape[-1]}, {z.dtype} on {z.device} ({reason})"
    return DecoderError(f"{what}; {_remedy(argument, decoder, plain, error)}")


def _works(call: Callable[[Tensor], Any], z: Tensor) -> bool:
    try:
        with torch.no_grad():
            call(z)
    except Exception:  # whatever a user's function raises
        return False
    return True


def _remedy(argument: str, decoder: Any, z: Tensor, error: Exception) -> str:
    if isinstance(error, TypeError) and not _takes_one(decoder):
        return f"it takes other arguments than points alone: give lambda z: {argument}(z, ...) with all that it needs"
    said = str(error).lower()
    frames = traceback.extract_tb(error.__traceback__)
    if "numpy" in said or (frames and "numpy" in (frames[-1].line or "")):
        return _NUMPY
    if "dtype" in said or "scalar type" in said or "input type" in said:
        words = ("double", "float") if z.dtype == torch.float64 else ("float", "double")
        agree = f"its weights and the points must have one dtype: call .{words[0]}() on its modules, or "
        return agree + on_points(words[1])
    if "device" in said:
        return f"it and the points must be on one device: {argument}.to(start) moves it"
    if "input of size" in said or "not enough values to unpack" in said:
        return (
            "it wants points of a shape of their own: give the manifold latent_shape=(C, H, W), the shape of one point"
        )
    return (
        f"check that it maps (N, d) to (N, ...), that its latent size is {z.shape[-1]}, and that its dtype and device "
        f"are those of the endpoints ({argument}.to(start))"
    )


def on_points(word: str) -> str:
    """What converts points, where "float" or "double" would convert a tensor: users of arrays have neither."""
    dtype = "float32" if word == "float" else "float64"
    return f".{word}() on the points, .astype('{dtype}') where they are arrays"


def _takes_one(decoder: Any) -> bool:
    """Whether a function can be called with one argument, as far as its signature tells."""
    try:
        inspect.signature(decoder.forward if isinstance(decoder, nn.Module) else decoder).bind(None)
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True


def fitting_shape(decoder: Callable[[Tensor], Any], given: Tensor) -> tuple[int, ...] | None:
    """The `latent_shape` with which a decoder takes points of the shape given, (*batch, C, H, W), say; None if none.

    Example:
        >>> import torch
        >>> from geodesic.geometry.refusals import fitting_shape
        >>> fitting_shape(torch.nn.Conv2d(4, 3, 1), torch.zeros(5, 4, 8, 8))
        (4, 8, 8)
    """
    for axes in range(2, given.dim() + 1):
        shape = tuple(given.shape[-axes:])
        if _works(lambda z: refuse_output("decoder", decoder(z), 1), given.detach().reshape(-1, *shape)[:1]):
            return shape
    return None
