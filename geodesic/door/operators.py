"""Operators whose derivatives torch lacks, or takes wrongly, written out with operators that have them.

`torch.nn.functional.layer_norm` and `instance_norm` have a wrong second derivative in forward mode over forward mode
(they take mean and deviation for constants), `cdist` and `glu` have none, attention on a CPU neither forward mode nor
a second reverse pass but in its mathematical form. Values differ by rounding alone.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

__all__ = ["KERNELS", "as_they_are", "eagerly", "in_double", "plain_kernels", "unvalidated", "written_out"]


def eagerly() -> Any:
    """Without `torch.compile`, which compiles anew for each way to differentiate and takes seconds for it."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled
        return nullcontext()
    return _EAGER()


def as_they_are() -> Any:
    """Operators as torch has them."""
    return nullcontext()


@contextmanager
def written_out() -> Iterator[None]:
    """Operators written out, attention in its mathematical form.

    Example:
        >>> import torch
        >>> from geodesic.door.operators import written_out
        >>> with written_out():
        ...     print(torch.nn.functional.layer_norm(torch.tensor([[1.0, 3.0]]), (2,)))
        tensor([[-1.0000,  1.0000]])
    """
    with _MATH(), _WrittenOut():
        yield


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Operators written out, without the kernels of oneDNN and cuDNN: their recurrent layers lack derivatives."""
    with _PLAIN(), written_out():
        yield


def unvalidated() -> Any:
    """Without a look at the parameters of torch's distributions, which refuses a batch for one row that is NaN."""
    return _UNVALIDATED()


def in_double(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function in double precision, whatever it is made of: its single precision constants and weights are widened.

    Weights are widened once; nothing of the function is written to. What it writes to tensors in single precision is
    lost, so compare its values with those of the function.

    Args:
        function: Of tensors, written with operators of torch.

    Example:
        >>> import torch
        >>> from geodesic.door.operators import in_double
        >>> in_double(torch.nn.Linear(2, 3).float())(torch.zeros(1, 2, dtype=torch.float64)).dtype
        torch.float64
    """
    widened = _InDouble()

    @functools.wraps(function)
    def call(z: Tensor) -> Tensor:
        with widened:
            return function(z)

    return call


class _Shared:
    """Settings that all threads share: entered by the first that wants them, and left by the last.

    Args:
        setting: Makes the context in which they hold.
    """

    def __init__(self, setting: Callable[[], Any]) -> None:
        self._setting, self._lock, self._users = setting, threading.Lock(), 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                self._held = self._setting()
                self._held.__enter__()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._held.__exit__(None, None, None)


@contextmanager
def _without_onednn_and_cudnn() -> Iterator[None]:
    before = torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled
    try:  # not by their `flags`, which warn of precisions that nobody has set
        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # torch's stubs miss the setter
        torch.backends.cudnn.enabled = False
        yield
    finally:
        torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled = before


@contextmanager
def _without_validation() -> Iterator[None]:
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


_EAGER = _Shared(lambda: torch.compiler.set_stance("force_eager"))
_PLAIN = _Shared(_without_onednn_and_cudnn)
_MATH = _Shared(lambda: sdpa_kernel(SDPBackend.MATH))
_UNVALIDATED = _Shared(_without_validation)

KERNELS: dict[str, Callable[[], Any]] = {
    "as they are": as_they_are,
    "written out": written_out,
    "without oneDNN and cuDNN": plain_kernels,
}
"""What operators are taken, by what is printed of it, in the order in which they are tried."""


class _WrittenOut(TorchFunctionMode):
    """Calls our own form of an operator where there is one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _OWN.get(func, func)(*args, **(kwargs or {}))


class _InDouble(TorchFunctionMode):
    """Calls operators with tensors in double precision in place of those in single precision."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, tuple[nn.Parameter, Tensor]] = {}  # kept alive, or another could take its number

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map_only(Tensor, self._widened, (args, kwargs or {}))
        return func(*args, **kwargs)

    def _widened(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return x
        if not isinstance(x, nn.Parameter):
            return x.double()
        if id(x) not in self._known:
            self._known[id(x)] = x, x.detach().double()
        return self._known[id(x)][1]


def _standardized(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    centered = x - x.mean(axes, keepdim=True)
    return centered * (centered.square().mean(axes, keepdim=True) + eps).rsqrt()


def _layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    y = _standardized(input, tuple(range(-len(normalized_shape), 0)), eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _instance_norm(input: Tensor, **options: Any) -> Tensor:  # torch passes the rest by name
    if not options.get("use_input_stats", True):
        names = ("running_mean", "running_var", "weight", "bias", "momentum", "eps")
        return nn.functional.batch_norm(input, **{name: options[name] for name in names})
    y = _standardized(input, tuple(range(2, input.dim())), options.get("eps", 1e-5))
    channels = (-1, *[1] * (input.dim() - 2))
    weight, bias = options.get("weight"), options.get("bias")
    y = y if weight is None else y * weight.reshape(channels)
    return y if bias is None else y + bias.reshape(channels)


def _glu(input: Tensor, dim: int = -1) -> Tensor:
    value, gate = input.chunk(2, dim)
    return value * gate.sigmoid()


def _cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = "") -> Tensor:
    return torch.linalg.vector_norm(x1[..., :, None, :] - x2[..., None, :, :], p, dim=-1)


_OWN: dict[Any, Callable[..., Tensor]] = {
    nn.functional.layer_norm: _layer_norm,
    nn.functional.instance_norm: _instance_norm,
    nn.functional.glu: _glu,
    torch.cdist: _cdist,
}
