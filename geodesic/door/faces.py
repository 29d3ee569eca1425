"""The faces of a function: where units of its layers change sign, which is where its derivatives jump."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["Faces", "faces_of", "seamless"]

P = ParamSpec("P")
R = TypeVar("R")
Heights = Callable[..., Iterable[Tensor] | None]

_FEW = 8  # numbers, of which the largest is seen to change


def _plain(x: Tensor, *others: Any, **named: Any) -> Iterable[Tensor]:
    return [x]


def _between(x: Tensor, other: Any, **named: Any) -> Iterable[Tensor]:
    return [x - other]


def _beyond(*bounds: float) -> Heights:
    return lambda x, *others, **named: [x - bound for bound in bounds]


def _clamped(x: Tensor, min: Any = None, max: Any = None) -> Iterable[Tensor]:
    return [x - bound for bound in (min, max) if bound is not None]


def _hardtanh(x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Iterable[Tensor]:
    return [x - min_val, x - max_val]


def _softshrink(x: Tensor, lambd: float = 0.5) -> Iterable[Tensor]:
    return [x - lambd, x + lambd]


def _threshold(x: Tensor, threshold: float, *others: Any, **named: Any) -> Iterable[Tensor]:
    return [x - threshold]


def _pooled(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Iterable[Tensor]:
    """Differences of all numbers that one maximum is taken of: what fills up the border is none of them."""
    axes = x.dim() - 2
    k, s, q = (_pair(axes, v, 1) for v in (kernel_size, stride or kernel_size, dilation))
    p, more = _pair(axes, padding, 0), [size if ceil_mode else 0 for size in k]
    x = x if axes == 2 else x[:, :, None]
    border = (p[1], p[1] + more[1], p[0], p[0] + more[0])
    windows, inside = (
        torch.nn.functional.unfold(torch.nn.functional.pad(y, border), k, q, 0, s).unflatten(1, (y.shape[1], -1))
        for y in (x, torch.ones_like(x[:1, :1]))
    )
    one, other = torch.triu_indices(windows.shape[2], windows.shape[2], 1, device=x.device)
    both = (inside[0, 0, one] * inside[0, 0, other]) > 0
    return [(windows[:, :, one] - windows[:, :, other])[:, :, both]]


def _largest(x: Tensor, dim: Any = None, *others: Any, **named: Any) -> Iterable[Tensor] | None:
    """Differences of all numbers of which one is picked along an axis; of two tensors their own."""
    if isinstance(dim, Tensor):
        return [x - dim]
    return _apart(x, named.get("axis", dim))


def _kth(x: Tensor, k: int, dim: int = -1, *others: Any, **named: Any) -> Iterable[Tensor] | None:
    return _apart(x, dim)


def _sorted(x: Tensor, dim: int = -1, *others: Any, **named: Any) -> Iterable[Tensor] | None:
    return _apart(x, dim)


def _apart(x: Tensor, dim: Any) -> Iterable[Tensor] | None:
    """Differences of all pairs of numbers along an axis, other than that of the rows; None if they are many."""
    if not isinstance(dim, int) or dim % x.dim() == 0 or x.shape[dim] > _FEW:
        return None
    one, other = torch.triu_indices(x.shape[dim], x.shape[dim], 1, device=x.device)
    return [x.index_select(dim, one) - x.index_select(dim, other)]


def _pair(axes: int, value: Any, idle: int) -> tuple[int, int]:
    """A setting of a pooling along two axes, of which the first is idle where there is only one."""
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    return (values[0], values[1]) if axes == 2 else (idle, values[0])


_HEIGHTS: dict[str, Heights] = {
    **dict.fromkeys(("relu", "leaky_relu", "prelu", "rrelu", "abs"), _plain),
    **dict.fromkeys(("gt", "ge", "lt", "le", "greater", "less", "maximum", "minimum"), _between),
    **dict.fromkeys(("clamp", "clip", "clamp_min"), _clamped),
    **dict.fromkeys(("threshold", "_threshold"), _threshold),
    **dict.fromkeys(("hardswish", "hardsigmoid"), _beyond(-3.0, 3.0)),
    "clamp_max": lambda x, max: [x - max],
    "hardtanh": _hardtanh,
    "relu6": _beyond(0.0, 6.0),
    "softshrink": _softshrink,
    **dict.fromkeys(("amax", "amin", "max", "min", "median", "cummax", "cummin"), _largest),
    **dict.fromkeys(("topk", "kthvalue"), _kth),
    "sort": _sorted,
}
"""What changes sign where an operator bends, by the operator's name without the underscore of its in-place form."""

_POOLINGS: dict[Any, Heights] = {torch.nn.functional.max_pool1d: _pooled, torch.nn.functional.max_pool2d: _pooled}

_HIDDEN = (
    *("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    *(
        "fn",
        "hardshrink",
        "round",
        "floor",
        "ceil",
        "sign",
        "sgn",
        "heaviside",
        "argmax",
        "argmin",
        "remainder",
        "fmod",
    ),
)
"""Operators that bend or jump where no single number changes sign."""


_ROWS, _NUMBERS = 1024, 2**24  # points at once, at most, and heights of all of them
_UNITS = 2**15  # with more of them pieces are finer than any path


_SEAMLESS: ContextVar[bool] = ContextVar("seamless", default=False)


def seamless(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a smooth function whose comparisons choose between formulas of equal value: they are no faces.

    Example:
        >>> import torch
        >>> from geodesic.door.faces import faces_of, seamless
        >>> @seamless
        ... def softplus(x):
        ...     return torch.where(x > 0, x + (-x).exp().log1p(), x.exp().log1p())
        >>> faces_of(softplus, torch.zeros(1, 2)) is None
        True
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        token = _SEAMLESS.set(True)
        try:
            return function(*args, **kwargs)
        finally:
            _SEAMLESS.reset(token)

    return call


class _Enough(BaseException):  # no `Exception`: nobody who mends a decoder is to take it for a failure
    """All heights are known: what the function does with them is not wanted."""


class _Watch(TorchFunctionMode):
    """Keeps what the operators that bend are given.

    Args:
        enough: So many of them are all.
    """

    def __init__(self, enough: float = math.inf) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.hidden, self._enough = False, enough

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _SEAMLESS.get():
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        name = name if name in _HEIGHTS else name.rstrip("_")
        heights = _POOLINGS.get(func) or _HEIGHTS.get(name)
        if heights is not None and args and isinstance(args[0], Tensor) and args[0].is_floating_point():
            # Before the operator: it may write to what it is given.
            given = heights(*args, **kwargs)
            self.hidden |= given is None
            self.seen += [x.clone() for x in given or ()]
            if len(self.seen) >= self._enough:
                raise _Enough
        elif name in _HIDDEN:
            self.hidden = True
        return func(*args, **kwargs)


class Faces:
    """The units of a function whose signs tell its pieces apart.

    The height of a unit is the number that it is given, less the threshold of its activation: its face is where the
    height is zero, and between faces the function has as many derivatives as its other parts.

    Args:
        function: Row-wise, (N, d) to (N, ...), of operators that are called from Python.
    """

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        self._function = function
        self._sizes: list[int] = []  # of what the operators are given in their order, for each row; 0 for constants

    @torch.no_grad()
    def heights(self, z: Float[Tensor, "N d"]) -> Float[Tensor, "N K"]:
        """Of all units at points."""
        return torch.cat([self._heights(some) for some in z.split(self._at_once)])

    def normals(self, z: Float[Tensor, "N d"], units: Int[Tensor, " N"]) -> Float[Tensor, "N d"]:
        """The gradient of the height of one unit at each point."""
        groups = zip(z.split(self._at_once), units.split(self._at_once), strict=True)
        return torch.cat([self._normals(*some) for some in groups])

    @property
    def _at_once(self) -> int:
        return max(1, min(_ROWS, _NUMBERS // max(1, sum(self._sizes))))

    def _normals(self, z: Float[Tensor, "N d"], units: Int[Tensor, " N"]) -> Float[Tensor, "N d"]:
        with torch.inference_mode(False), torch.enable_grad():
            nodes = z.detach().clone().requires_grad_()
            chosen = self._heights(nodes).gather(1, units[:, None])
            (gradient,) = torch.autograd.grad(chosen.sum(), nodes)
        return gradient

    def _heights(self, z: Float[Tensor, "N d"]) -> Float[Tensor, "N K"]:
        with suppress(_Enough), _Watch(len(self._sizes)) as watch:
            self._function(z)
        given = zip(watch.seen, self._sizes, strict=True)
        return torch.cat([x.reshape(len(z), size) for x, size in given if size], dim=1)

    def shown(self, z: Float[Tensor, "N d"]) -> bool:
        """Whether there are faces, all of them are seen, and they have normals.

        An operator that takes the largest of many numbers has faces that are not; compiled code shows none; and of a
        decoder that is called more than once for many rows it is not known which numbers belong to which row.
        """
        one, two = self._sizes_of(z[:1]), self._sizes_of(z[:1].expand(2, -1))
        if not one or not two or len(one) != len(two):
            return False
        self._sizes = [b - a for a, b in zip(one, two, strict=True)]  # what stays as it is belongs to no row
        if not any(self._sizes) or sum(self._sizes) > _UNITS:
            return False
        rows = self._at_once
        expected = [rows * size or constant for size, constant in zip(self._sizes, one, strict=True)]
        if self._sizes_of(z[:1].expand(rows, -1)) != expected:
            return False
        try:
            self.normals(z[:1], torch.zeros(1, dtype=torch.long, device=z.device))
        except RuntimeError:  # whatever autograd lacks
            return False
        return True

    @torch.no_grad()
    def _sizes_of(self, z: Float[Tensor, "N d"]) -> list[int] | None:
        """How many numbers the operators that bend are given, one after the other; None where one hides its faces."""
        with _Watch() as watch:
            self._function(z.contiguous())
        return None if watch.hidden else [x.numel() for x in watch.seen]


def faces_of(function: Callable[[Tensor], Any], points: Float[Tensor, "N d"]) -> Faces | None:
    """The faces of a function, where it shows them at points.

    Example:
        >>> import torch
        >>> from geodesic.door.faces import faces_of
        >>> faces = faces_of(lambda z: torch.cat([z, (z[:, :1] - 1).relu()], dim=1), torch.zeros(1, 2))
        >>> faces.heights(torch.tensor([[3.0, 0.0], [0.5, 0.0]]))
        tensor([[ 2.0000],
                [-0.5000]])
        >>> faces_of(torch.tanh, torch.zeros(1, 2)) is None
        True
    """
    faces = Faces(function)
    return faces if len(points) and faces.shown(points) else None
