"""Models of the user's as functions: on a copy, frozen, in evaluation mode, and in the dtype of what they are given."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable
from types import MethodType
from typing import Any, final

import torch
from torch import Tensor, nn

from geodesic.door.watch import modules_in
from geodesic.errors import DecoderError

__all__ = ["Frozen"]

Function = Callable[..., Any]

_MOST_SIZES = 32  # latent sizes that are tried


@final
class Frozen:
    """A model on a copy of its weights, which need no gradients, in evaluation mode.

    Methods of a module and partial functions stay what they are, on copies. What a function closes over cannot be
    copied: it is used as it is.

    Args:
        model: A module, a method of one, a partial function of these, or any function.

    Raises:
        DecoderError: The module cannot be copied.

    Example:
        >>> import torch
        >>> from geodesic.adapters.frozen import Frozen
        >>> Frozen(torch.nn.Linear(2, 3))(torch.zeros(1, 2, dtype=torch.float64)).dtype
        torch.float64
    """

    def __init__(self, model: Function) -> None:
        self.__wrapped__ = _with_modules(model, _frozen)  # what is looked at for changes: not the copies below
        self.type = _type_of(self.__wrapped__)
        self._copies: dict[tuple[torch.dtype, torch.device], Function] = {self.type: self.__wrapped__}

    def __call__(self, z: Tensor, *more: Any, **named: Any) -> Any:
        """What the model returns, with its weights in the dtype and on the device of the points."""
        kind = (z.dtype, z.device)
        if kind not in self._copies:
            self._copies[kind] = _with_modules(self.__wrapped__, functools.partial(_converted, kind))
        return self._copies[kind](z, *more, **named)

    def latent_sizes(self) -> list[int]:
        """Sizes of the rows that linear layers of the model take, in their order: its latent size is one, as a rule."""
        sizes: dict[int, None] = {}
        for owner in modules_in(self.__wrapped__):
            for node in owner.graph.nodes if isinstance(owner, torch.fx.GraphModule) else ():  # an exported program
                value = node.meta.get("val") if node.op == "placeholder" else None
                if isinstance(value, Tensor) and value.dim() == 2:
                    sizes[int(value.shape[1])] = None
            for module in owner.modules():
                weight = getattr(module, "weight", None)
                if isinstance(weight, Tensor) and weight.dim() == 2:
                    sizes[weight.shape[1]] = None
        return list(sizes)[:_MOST_SIZES]


def _with_modules(function: Function, change: Callable[[nn.Module], nn.Module]) -> Function:
    """A module, a method of one, or a partial function of these, with another module in its place."""
    if isinstance(function, nn.Module):
        return change(function)
    if isinstance(function, functools.partial):
        return functools.partial(_with_modules(function.func, change), *function.args, **function.keywords)
    if isinstance(function, MethodType) and isinstance(function.__self__, nn.Module):
        return MethodType(function.__func__, change(function.__self__))
    return function


def _frozen(module: nn.Module) -> nn.Module:
    module = getattr(module, "_orig_mod", module)  # of a compiled module: tools run it eagerly
    try:
        with torch.no_grad():  # or weights of a script would have a history
            made = copy.deepcopy(module)
    except Exception as error:  # whatever a user's module holds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DecoderError(
            f"model: a {type(module).__name__} that cannot be copied ({reason}); call .eval() and "
            ".requires_grad_(False) on it yourself, and give a function, lambda z: model(z)"
        ) from None
    with contextlib.suppress(NotImplementedError):  # exported programs have no modes
        made.eval()
    for weight in made.parameters():  # one by one: a script has no `requires_grad_`
        weight.requires_grad_(False)
    return made


def _converted(kind: tuple[torch.dtype, torch.device], module: nn.Module) -> nn.Module:
    dtype, device = kind
    tensors = [*module.parameters(), *module.buffers()]
    if all(x.device == device and (x.dtype == dtype or not x.is_floating_point()) for x in tensors):
        return module
    return copy.deepcopy(module).to(device=device, dtype=dtype)


def _type_of(function: Function) -> tuple[torch.dtype, torch.device]:
    """The dtype and device of a model's weights; torch's defaults where it has none."""
    weights = (x for module in modules_in(function) for x in module.parameters() if x.is_floating_point())
    first = next(weights, torch.empty(0))
    return first.dtype, first.device
