"""Numbers that a decoder returns: probabilities or logits, rates or their logarithms, and how to tell."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import field
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor, nn

from geodesic.checks import brief, is_number, require_choice, require_positive
from geodesic.door.faces import seamless
from geodesic.errors import DecoderError, InputError
from geodesic.registry import setting

__all__ = [
    "Counts",
    "TwoWords",
    "arcsine",
    "arcsinh_of_exponential",
    "last_operation",
    "look_like_classes",
    "look_like_probabilities",
    "look_like_rates",
    "mean_and_scale",
    "one_of",
    "root",
    "sigmoid_twice",
    "squared_arcsinh_of_root",
]

_MANY = 16  # so many outputs within [0, 1] at all points are no logits
_SOURCES = {"Softplus": "a softplus", "Exp": "an exponential", "Relu": "a ReLU", "ReLU": "a ReLU", "Pow": "a power"}
_SOURCES |= {"Softmax": "a softmax", "Sigmoid": "a sigmoid", "Abs": "an absolute value", "Sqrt": "a root"}
# What a decoder does at last to the numbers that it made, without making others of them.
_SHIFTING = ("Clamp", "ClampMin", "ClampMax", "Hardtanh", "Add", "Sub", "Rsub", "Mul", "Div", "Minimum", "Maximum")
_SHAPING = ("View", "Reshape", "Squeeze", "Unsqueeze", "Clone", "Permute", "Transpose", "Alias", "Slice")


@seamless
def root(x: Tensor) -> Tensor:
    """Sqrt x for x >= 0, whose first two derivatives are finite everywhere: zero at 0, where the root has none.

    A probability of 0 comes from a saturated decoder, whose own derivative vanishes: so does that of the root of it.
    """
    # Below this the second derivative, x^(-3/2) / 4, would overflow; roots of such numbers are zero to rounding.
    lost = x <= torch.finfo(x.dtype).tiny ** 0.6
    return torch.where(lost, 0, torch.where(lost, 1, x).sqrt())


@seamless
def arcsine(p: Tensor) -> Tensor:
    """2 arcsin sqrt p for p in [0, 1], with finite derivatives at both ends, as `root`."""
    high = p > 0.5
    angle = 2 * torch.asin(root(torch.where(high, 1 - p, p)))
    return torch.where(high, math.pi - angle, angle)


# arcsinh^2(sqrt q) = 1/2 sum over k of (-1)^(k + 1) (4 q)^k / (k^2 binomial(2 k, k)): smooth at 0, as the root is not.
_NEAR = 0.02
_SERIES = [0.5 * (-1) ** (k + 1) * 4**k / (k**2 * math.comb(2 * k, k)) for k in range(1, 10)]


@seamless
def squared_arcsinh_of_root(q: Tensor) -> Tensor:
    """arcsinh^2(sqrt q) for q >= 0, differentiable twice."""
    small = q < _NEAR
    near, far = torch.where(small, q, 0), torch.where(small, 1, q)
    series = torch.zeros_like(near)
    for coefficient in reversed(_SERIES):
        series = (series + coefficient) * near
    return torch.where(small, series, torch.asinh(far.sqrt()).square())


@seamless
def arcsinh_of_exponential(x: Tensor) -> Tensor:
    """Arcsinh exp x, which is about exp x far below 0 and x + log 2 far above, with finite derivatives."""
    # Either form where it neither overflows nor cancels; the other is taken at 0, where its derivatives are finite.
    low = x < 0
    small = torch.asinh(torch.where(low, x, 0).exp())
    high = torch.where(low, 0, x)
    return torch.where(low, small, high + torch.log1p((1 + (-2 * high).exp()).sqrt()))


def mean_and_scale(parameters: Tensor, geometry: str) -> tuple[Tensor, Tensor]:
    """Means and scales, or log scales, of Gaussian parameters (N, 2, *event)."""
    if parameters.dim() < 3 or parameters.shape[1] != 2:
        raise DecoderError(
            f"{geometry}: expected (N, 2, *event), means and log scales, from the decoder, got "
            f"{tuple(parameters.shape)}; this geometry needs a Gaussian likelihood with a scale"
        )
    return parameters[:, 0], parameters[:, 1]


def look_like_probabilities(values: Tensor, last: str) -> str | None:
    """Why outputs, (N, ...), look like probabilities, in words; None where they do not.

    Args:
        values: Outputs at some points.
        last: The operation that made them, see `last_operation`.
    """
    # Zeros everywhere are logits of a decoder that knows nothing there.
    if not (bool(((values >= 0) & (values <= 1)).all()) and bool((values > 0).any())):
        return None
    if last in ("Sigmoid", "Softmax"):
        return f"they come from a {last.lower()}"
    if values[0].numel() >= _MANY:
        return f"all {values[0].numel()} lie in [0, 1] at {len(values)} points"
    return None


def look_like_classes(values: Tensor, last: str) -> str | None:
    """Why outputs, (N, K, ...), look like probabilities of K classes, in words; None where they do not."""
    if not bool((values >= 0).all()):
        return None
    if last == "Softmax":
        return "they come from a softmax"
    if last == "Sigmoid" and bool((values <= 1).all()):
        return "they come from a sigmoid, and make one probability each, as for FisherRaoBernoulli"
    if bool(((values.sum(1) - 1).abs() <= 1e4 * torch.finfo(values.dtype).eps).all()):
        return f"all are at least 0 and sum to 1 over {values.shape[1]} classes"
    return None


def look_like_rates(values: Tensor, last: str) -> str | None:
    """Why outputs, (N, ...), look like rates of counts, or scales, in words; None where they do not."""
    # Zeros everywhere are logarithms of ones, of a decoder that knows nothing there.
    if not (bool((values >= 0).all()) and bool((values > 0).any())):
        return None
    if last in _SOURCES:
        return f"they come from {_SOURCES[last]}"
    if values[0].numel() >= _MANY:
        return f"all {values[0].numel()} are at least 0 at {len(values)} points"
    return None


def sigmoid_twice(mean: Callable[[Tensor], Tensor], values: Tensor, last: str) -> str | None:
    """The doubt about a mean that takes a sigmoid of outputs that look as if they came from one."""
    why = look_like_probabilities(values, last)
    if why is None or not torch.equal(mean(values), values.sigmoid()):
        return None
    return (
        f"its outputs look like probabilities ({why}), and mean= takes their sigmoid once more; leave mean= out (in "
        "settings, model.output and model.likelihood)"
    )


def last_operation(values: Tensor, decoder: object) -> str:
    """The operation that made a decoder's outputs, such as "Sigmoid": from their history, or from the module's layers.

    What only reshapes, clamps, shifts or scales them is passed over; of several tensors side by side it is that of the
    last, scales beside means.

    Args:
        values: Outputs, with their history if they have one.
        decoder: What made them.

    Example:
        >>> import torch
        >>> from geodesic.geometry.parameters import last_operation
        >>> last_operation(torch.zeros(2, 3, requires_grad=True).sigmoid().flatten(), None)
        'Sigmoid'
    """
    node = values.grad_fn
    while node is not None:
        name = node.name().partition("Backward")[0]
        before = [parent for parent, _ in node.next_functions if parent is not None]
        if name in ("Stack", "Cat"):
            node = before[-1] if before else None
        elif name.endswith(_SHAPING) or (name in _SHIFTING and len(before) == 1) or name in ("Mul", "Div"):
            node = before[0] if before else None
        else:
            return name
    owner = decoder if isinstance(decoder, nn.Module) else getattr(decoder, "__self__", None)
    if not isinstance(owner, nn.Module):
        return ""
    leaves = [module for module in owner.modules() if not any(module.children())]
    names = [type(leaf).__name__ for leaf in leaves if not isinstance(leaf, nn.Flatten | nn.Unflatten | nn.Identity)]
    return names[-1] if names else ""


# --- the user's word for them --------------------------------------------------------------------


def one_of(default: str, other: str) -> Any:
    """The field of a geometry that says what a decoder returns; None: the default, if nothing speaks against it."""
    said = f"what the decoder returns, {default} or {other}; null: {default}, refused where they look like {other}"
    return field(default=None, metadata=setting(said))


class TwoWords:
    """What output geometries share whose field `parameters` is made by `one_of`: None, or one of two words."""

    parameters: Any

    def __post_init__(self) -> None:
        if self.parameters is not None:
            require_choice("parameters", self.parameters, self.words())

    def __repr__(self) -> str:
        said = "" if self.parameters is None else repr(self.parameters)
        return f"{type(self).__name__}({said})"

    @classmethod
    def words(cls) -> tuple[str, str]:
        """What is taken by default, and the other."""
        literal, _ = get_args(get_type_hints(cls)["parameters"])
        default, other = get_args(literal)
        return default, other

    def questioned_scales(self, parameters: Tensor, last: str) -> str | None:
        """The same of the scales of Gaussian parameters, (N, 2, *event)."""
        scale = mean_and_scale(parameters, type(self).__name__)[1]
        return self.questioned(scale, look_like_rates(scale, last), bool((scale > 0).all()), "positive scales")

    def questioned(self, values: Tensor, looks: str | None, fits: bool, wanted: str) -> str | None:
        """Why a decoder's outputs are not what the geometry takes, and the word that settles it; None if they may be.

        Args:
            values: The outputs.
            looks: Why they look like the other word's, if they do.
            fits: Whether they can be the other word's.
            wanted: What those are.
        """
        name, (default, other) = type(self).__name__, self.words()
        if self.parameters is None and looks is not None:
            return (
                f"its outputs look like {other} ({looks}), and {name}() takes {default}; say "
                f'{name}(parameters="{other}"), or parameters="{default}" if that is what they are'
            )
        if self.parameters == other and not fits:
            return (
                f'{name}(parameters="{other}") takes {wanted}, and its outputs go from {float(values.min()):.3g} to '
                f'{float(values.max()):.3g}; say parameters="{default}" if that is what they are'
            )
        return None


# --- one number for all entries, or one for each ---------------------------------------------------


class Counts:
    """What output geometries share whose field `total_count` is a positive number, or one for each entry of a row."""

    total_count: Any
    _r: float | Tensor

    def __post_init__(self) -> None:
        several = isinstance(self.total_count, list | tuple) or hasattr(self.total_count, "__array__")
        if is_number(self.total_count) or not several:
            require_positive("total_count", self.total_count)
            r: float | Tensor = float(self.total_count)
        else:
            r = _positive_numbers("total_count", self.total_count)
        object.__setattr__(self, "_r", r)

    def root_of_counts(self, parameters: Tensor) -> float | Tensor:
        """Sqrt r, in the dtype and on the device of parameters, (N, *event).

        Raises:
            DecoderError: There is one r for each entry, and rows have other entries.
        """
        r, event = self._r, parameters.shape[1:]
        if isinstance(r, float):
            return math.sqrt(r)
        if r.dim() and r.shape != event:
            raise DecoderError(
                f"total_count: expected one number, or one for each output of the decoder, {tuple(event)}, got the "
                f"shape {tuple(r.shape)}; give one for each gene or pixel, in the order of the outputs"
            )
        return r.to(dtype=parameters.dtype, device=parameters.device).sqrt()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((type(self), self._key()))

    def __repr__(self) -> str:
        r = self._r
        return f"{type(self).__name__}(total_count={r if isinstance(r, float) else brief(r)})"

    def _key(self) -> tuple[Any, ...]:
        r = torch.as_tensor(self._r, device="cpu").detach().double()
        return tuple(r.shape), tuple(r.flatten().tolist())


def _positive_numbers(name: str, value: Any) -> Tensor:
    """A tensor of positive numbers, on the CPU where a list was given; anything else is refused."""
    try:
        numbers = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):  # words, rows of different lengths
        raise InputError(
            f"{name}: expected a positive number, or a list of one for each entry, got {value!r}"
        ) from None
    if numbers.dtype == torch.bool or numbers.is_complex():
        raise InputError(f"{name}: expected positive numbers, got {numbers.dtype}; use {name}.double()")
    wrong = ~(numbers.isfinite() & (numbers > 0))
    if not numbers.numel() or bool(wrong.any()):
        where = wrong.nonzero()[0].tolist() if numbers.numel() else []
        got = f"{numbers[tuple(where)].item():g} at {where}" if numbers.numel() else "none"
        raise InputError(f"{name}: expected positive, finite numbers, got {got}; counts are r, not its logarithm")
    return numbers
