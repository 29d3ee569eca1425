"""Models of the user's as decoders: what they return, found out; weights frozen on a copy; the geometry that suits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from geodesic.adapters.condition import Condition
from geodesic.adapters.frozen import Frozen
from geodesic.adapters.imported import PROGRAM
from geodesic.adapters.returned import Output, Reading, reading_of
from geodesic.checks import nearest
from geodesic.door.operators import unvalidated
from geodesic.errors import DecoderError, GeodesicError, InputError
from geodesic.geometry.by_row import ManifoldByRow
from geodesic.geometry.decoders import checked_shape
from geodesic.geometry.outputs import DistanceGeometry, OutputGeometry
from geodesic.geometry.pullback import PullbackManifold
from geodesic.geometry.refusals import described

__all__ = ["Said", "WrappedDecoder", "wrap", "wrapped"]

_LONGEST = 200  # characters of a message of somebody else
_LARGEST = 1024  # size of a point that is looked for
_COUNTS = (2, 1, 3, 4, 8, 16, 32, 64)  # of points to call a model with: some take only so many


@dataclass(frozen=True)
class Said:
    """What an adapter of a library knows of a model, and its numbers do not tell.

    Attributes:
        note: What is left out of the model, or taken for granted, for people.
        names: Of the entries of an output, in their order: the genes; empty where they have none.
    """

    note: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Call:
    """A frozen model with what goes around its call: all of the user's that a decoder is made of.

    Attributes:
        model: The model.
        condition: What it takes beside the points.
        latent_shape: Of a point.
        output: What the user says of what it returns.
        said: What an adapter knows of the model.
    """

    model: Frozen
    condition: Condition
    latent_shape: tuple[int, ...]
    output: Output
    said: Said

    def __call__(self, z: Tensor) -> Any:
        """What the model returns for points, (N, d) or (N, *latent_shape).

        Raises:
            DecoderError: The points have another size.
        """
        if z.shape[1:].numel() != math.prod(self.latent_shape):
            raise DecoderError(
                f"decoder: it takes points of shape {self.latent_shape}, got {tuple(z.shape[1:])}; give such points, "
                "or wrap the model again with another latent_shape"
            )
        rows = z.reshape(-1, *self.latent_shape)
        positional, named = self.condition.rows(rows)
        with unvalidated():
            return self.model(rows, *positional, **named)


@final
class WrappedDecoder:
    """A model as a decoder: what `wrap` returns. Call it with points, (N, d) or (N, *latent_shape).

    Attributes:
        latent_shape: Of a latent point.
        outputs: The geometry that suits what the model returns.
        mean_of: From what it returns, (N, ...), to means of the outputs, (N, *event).
        note: What is left out of the model, or taken for granted; "" where nothing is.
        names: Of the entries of an output, such as genes; empty where they have none.
    """

    def __init__(self, call: _Call, reading: Reading, name: str) -> None:
        self.__wrapped__, self._reading, self.__name__ = call, reading, name
        self.latent_shape = call.latent_shape
        self.outputs, self.mean_of = reading.meaning.outputs, reading.meaning.mean
        self.note, self.names = call.said.note, call.said.names

    def __call__(self, z: Tensor) -> Tensor:
        """Parameters of the outputs, (N, ...), as `outputs` takes them."""
        return self._reading(self.__wrapped__(z))

    def mean(self, z: Tensor) -> Tensor:
        """Means of the outputs, (N, *event), for pictures."""
        return self.mean_of(self(z))

    @property
    def pairs(self) -> int | None:
        """For how many pairs there is a condition each; None where there is one for all, or none."""
        return self.__wrapped__.condition.pairs

    def of_pair(self, k: int) -> WrappedDecoder:
        """The decoder under the condition of one pair."""
        call = self.__wrapped__
        if call.condition.pairs is None:
            return self
        single = replace(call, condition=call.condition.of_pair(k))
        return WrappedDecoder(*_called(single, [call.latent_shape], self.__name__), self.__name__)

    def manifold(
        self, outputs: OutputGeometry | DistanceGeometry | None = None, **options: Any
    ) -> PullbackManifold | ManifoldByRow:
        """The latent space with the geometry that suits what the model returns, or with another one.

        Args:
            outputs: Another geometry of the outputs.
            options: Further arguments of `PullbackManifold`.

        Returns:
            The manifold; with a condition for each pair a `ManifoldByRow`, which all functions take that work pair by
            pair.
        """
        call = self.__wrapped__
        if call.condition.pairs is not None:
            first, which = call.condition.distinct()
            return ManifoldByRow([self.of_pair(k)._pulled_back(outputs, options) for k in first], which)
        return self._pulled_back(outputs, options)

    def _pulled_back(
        self, outputs: OutputGeometry | DistanceGeometry | None, options: dict[str, Any]
    ) -> PullbackManifold:
        shape = self.latent_shape if len(self.latent_shape) > 1 else None
        return PullbackManifold(self, self.outputs if outputs is None else outputs, shape, **options)

    def __repr__(self) -> str:
        pairs, found = self.__wrapped__.condition.pairs, f"{self._reading!r}; {_name(self.outputs)}"
        under = "" if pairs is None else f", a condition for each of {pairs} pairs"
        note = f"; {self.note}" if self.note else ""
        return f"WrappedDecoder({self.__name__}, latent_shape={self.latent_shape}{under}: {found}{note})"


def wrap(
    model: Any,
    *,
    latent_shape: int | tuple[int, ...] | None = None,
    output: Output = None,
    method: str | None = None,
    condition: Any = None,
) -> WrappedDecoder:
    """Make a decoder of any module, method or function, with the geometry that suits what it returns.

    The model is called once, with two points. Its weights are frozen on a copy in evaluation mode, which takes on the
    dtype and the device of the points; what a plain function closes over is used as it is.

    | the model returns | geometry |
    |---|---|
    | a tensor | Euclidean |
    | `Bernoulli`, `Categorical`, `Poisson`, `NegativeBinomial`, or `Independent` of one | its Fisher-Rao geometry |
    | `Normal` with a scale that is fixed | Euclidean, of means over the scale |
    | `Normal` with a scale that varies | `ExpectedGaussian` |
    | a mapping, tuple or output class | that of the part that counts |

    Warning:
        Numbers alone do not say what they mean: of logits in a plain tensor the distance is Euclidean unless
        `output="logits"` says what they are.

    Args:
        model: A module, a method of one, or a function; of what has a method `decode` that is taken. An
            `ExportedProgram` of torch.
        latent_shape: The shape of a latent point, or its size. By default the size is found, from the linear layers of
            the model.
        output: What of the returned value counts, and what it means: "logits" or "probabilities" (of Bernoulli
            distributions), "mean", "mean_and_std" or "mean_and_log_variance" (of a model that returns two tensors);
            the key, attribute or number of a part; or a function that returns a tensor or a distribution. By
            default it is found: in an output class or mapping `logits`, `sample`, `recon_x`, `reconstruction` or
            `mean`; of a tuple the first floating point tensor with one row a point.
        method: Name of the method of the model to call.
        condition: What else the model takes: a tensor, array or number; several in a tuple, which follow the points, or
            in a mapping by name. A value with one row is shared by all points; with P rows there is one for each
            of P pairs.

    Returns:
        The decoder; its `repr` says what was found, and `decoder.manifold()` is the latent space.

    Raises:
        DecoderError: The model fails, or returns nothing that could be its output; with what to pass.
        InputError: An argument cannot be used.

    Example:
        >>> import torch, geodesic
        >>> class Decoder(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(2, 5)
        ...
        ...     def forward(self, z):
        ...         return torch.distributions.Bernoulli(logits=self.layer(z))
        >>> decoder = geodesic.wrap(Decoder())
        >>> decoder
        WrappedDecoder(Decoder, latent_shape=(2,): Bernoulli distributions, by logits; FisherRaoBernoulli('logits'))
        >>> bool(geodesic.solve(decoder.manifold(), torch.zeros(2), torch.ones(2)).converged)
        True
    """
    if not (output is None or isinstance(output, str) or type(output) is int or callable(output)):
        raise InputError(f"output: expected a word, a key, a number or a function, got {described(output)}")
    function, name = _callable(model, method)
    return wrapped(function, name, latent_shape=latent_shape, output=output, condition=condition)


def wrapped(
    function: Callable[..., Any],
    name: str,
    *,
    latent_shape: int | tuple[int, ...] | None,
    output: Output = None,
    condition: Any = None,
    said: Said = Said(),
) -> WrappedDecoder:
    """A decoder of what is called with points: what `wrap` and the adapters of libraries end in.

    Args:
        function: A module, a method of one, or a function.
        name: What the decoder is called in messages.
        latent_shape: As in `wrap`.
        output: As in `wrap`.
        condition: As in `wrap`.
        said: What an adapter knows of the model.

    Raises:
        DecoderError: As from `wrap`.
        InputError: As from `wrap`.

    Example:
        >>> import torch
        >>> from geodesic.adapters.wrap import Said, wrapped
        >>> wrapped(torch.nn.Linear(2, 3), "Sheet", latent_shape=2, said=Said("without its frame"))
        WrappedDecoder(Sheet, latent_shape=(2,): means; Euclidean; without its frame)
    """
    model, under = Frozen(function), Condition.of(condition)
    shapes: list[tuple[int, ...]] = [(n,) for n in model.latent_sizes()]
    if latent_shape is not None:
        shapes = [_shape(latent_shape)]
    if not shapes:
        raise InputError(
            f"latent_shape: {name} has no linear layer that tells the size of a latent point; give it, "
            "latent_shape=2, say, or the shape, (C, H, W)"
        )
    # Under one condition, so that the number of points is free.
    call = _Call(model, under.of_pair(0), shapes[0], output, said)
    if latent_shape is None and (size := _only_size(call, shapes)) is not None:
        shapes = [(size,)]
    call, reading = _called(call, shapes, name, found=latent_shape is None)
    return WrappedDecoder(replace(call, condition=under), reading, name)


def _callable(model: Any, method: str | None) -> tuple[Callable[..., Any], str]:
    """What to call, and its name."""
    if isinstance(model, torch.export.ExportedProgram):
        return model.module(), "ExportedProgram"
    if isinstance(model, type):
        raise InputError(f"model: expected a module, got the class {model.__name__} itself; make one first")
    if isinstance(model, str | Path) and str(model).endswith(PROGRAM):
        raise InputError(f'model: {model} is a file; give the program in it, torch.export.load("{model}")')
    if isinstance(model, str | Path | Mapping):
        raise InputError(
            f"model: expected a module, a method or a function, got {type(model).__name__}; weights alone are no "
            'model: give geodesic.load_weights(Model(), "model.pt"), with its class'
        )
    kind = type(model).__name__ if isinstance(model, nn.Module) else getattr(model, "__name__", type(model).__name__)
    if method is None and callable(getattr(model, "decode", None)):
        method = "decode"  # of a whole autoencoder
    if method is None and all(callable(getattr(model, part, None)) for part in ("encoder", "decoder")):
        raise DecoderError(f"model: got a whole {kind}, with an encoder; give its decoder alone, model.decoder")
    if method is None:
        if not callable(model):
            raise InputError(f"model: expected a module, a method or a function, got {described(model)}")
        owner = getattr(model, "__self__", None)
        return model, kind if owner is None or isinstance(model, nn.Module) else f"{type(owner).__name__}.{kind}"
    found = getattr(model, method, None) if isinstance(method, str) else None
    if not callable(found):
        hint = nearest(str(method), dir(model)) or "check its name"
        raise InputError(f"method: {kind} has no method {method!r}; {hint}")
    return found, f"{kind}.{method}"


def _shape(given: Any) -> tuple[int, ...]:
    return checked_shape((given,) if type(given) is int else given) or ()


def _points(model: Frozen, count: int, size: int) -> Tensor:
    """Points to call a model with, (count, size)."""
    dtype, device = model.type
    dtype = dtype if dtype in (torch.float32, torch.float64) else torch.float32
    generator = torch.Generator("cpu").manual_seed(0)
    return torch.randn(count, size, generator=generator, dtype=dtype, device="cpu").to(device)


def _only_size(call: _Call, shapes: list[tuple[int, ...]]) -> int | None:
    """The one size of points that a model takes where no linear layer of it takes points alone; None if there is none.

    A label that is joined to the points makes them smaller than what the first layer takes.
    """

    def takes(size: int) -> bool:
        try:
            with torch.no_grad():
                replace(call, latent_shape=(size,))(_points(call.model, 2, size))
        except Exception:  # whatever a user's model raises
            return False
        return True

    if not call.condition.values or any(takes(shape[0]) for shape in shapes):
        return None
    largest = min(max(shape[0] for shape in shapes), _LARGEST)
    sizes = list(itertools.islice((n for n in range(1, largest) if takes(n)), 2))
    return sizes[0] if len(sizes) == 1 else None


def _called(call: _Call, shapes: list[tuple[int, ...]], name: str, found: bool = False) -> tuple[_Call, Reading]:
    """The call with points of the first shape that the model takes, and how to read what it returns for them.

    Args:
        call: The call.
        shapes: Those to try.
        name: Of the model.
        found: Whether they were found in it, and not given.
    """
    errors: list[Exception] = []
    for count in _COUNTS:
        for shape in shapes:
            call = replace(call, latent_shape=shape)
            z = _points(call.model, count, math.prod(shape))
            try:
                with torch.no_grad():
                    return call, reading_of(call(z), call.output, count)
            except Exception as error:  # whatever a user's model raises
                errors.append(error)
        for known in errors:
            if isinstance(known, GeodesicError):  # the model took the points
                raise known
    reason = (str(errors[0]).strip() or type(errors[0]).__name__).splitlines()[0][:_LONGEST]
    tried = " or ".join(map(str, shapes[:6]))
    raise DecoderError(
        f"model: {name} was called with 2 points of shape {tried} and failed ({reason}); "
        f"{_remedy(errors[0], call.condition, found)}"
    )


def _remedy(error: Exception, condition: Condition, found: bool) -> str:
    if condition.values:
        size = "give latent_shape=, the size of a point, which its layers do not tell" if found else "latent_shape="
        return f"check condition=, its dtype, values and shape as the model takes them, and {size}"
    if isinstance(error, TypeError) and "argument" in str(error):
        return "what else it takes goes to condition=, in a tuple behind the points or in a mapping by name"
    return "give latent_shape=, the shape of one latent point, and condition= if it takes more than points"


def _name(outputs: OutputGeometry | DistanceGeometry) -> str:
    text = repr(outputs)
    return type(outputs).__name__ if "<function" in text or "object at" in text or "(mean=" in text else text
