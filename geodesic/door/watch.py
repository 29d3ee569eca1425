"""Whether a function is still the one that was looked at: its modules, their parameters, and what it closes over."""

from __future__ import annotations

import functools
import sys
from collections.abc import Hashable, Iterator
from dataclasses import fields, is_dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["fingerprint", "has_kinks", "is_compiled", "is_scripted", "modules_in"]

_DEEP = 6  # of functions in functions: what lies deeper is taken for unknown
_CALLED = ("__call__", "__getattr__")
_PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device, torch.Size)

_STABLE = {"geodesic", "torch", "torchvision", "numpy", "scipy", "einops", *sys.stdlib_module_names} - {"__main__"}
"""Packages whose functions and constants stay what they are."""

_OF_TORCH = frozenset(vars(nn.Module())) - {"training"}  # what a module keeps for torch: looked at by itself

_KINKED = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.Threshold),
    *(nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Hardshrink, nn.Softshrink),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)


class _Unknown(Exception):
    """Something that can change without a trace."""


def fingerprint(parts: tuple[object, ...]) -> Hashable | None:
    """What stays equal as long as the parts compute the same; None where nobody can tell.

    Modules change with their training flags, parameters, buffers, hooks and attributes; functions with what they close
    over and the globals that they name; classes and Python modules of the user's with what is named of them. An object
    of another kind can change without a trace.

    Example:
        >>> import torch
        >>> from geodesic.door.watch import fingerprint
        >>> layer = torch.nn.Linear(2, 2)
        >>> decoder = lambda z: layer(z).tanh()
        >>> before = fingerprint((decoder,))
        >>> fingerprint((decoder,)) == before
        True
        >>> _ = torch.nn.init.ones_(layer.weight)
        >>> fingerprint((decoder,)) == before
        False
    """
    try:
        return tuple(_mark(part, 0, set()) for part in parts)
    except _Unknown:
        return None


def modules_in(part: object) -> Iterator[nn.Module]:
    """The modules that a function consists of: itself, its owner, and those in its closure, partial or globals."""
    seen: set[int] = set()
    waiting: list[tuple[object, int]] = [(part, 0)]
    while waiting:
        x, depth = waiting.pop()
        if id(x) in seen or depth > _DEEP:
            continue
        seen.add(id(x))
        if isinstance(x, nn.Module):
            yield x
        elif isinstance(x, list | tuple):
            waiting += [(y, depth + 1) for y in x]
        elif isinstance(x, MethodType | FunctionType | functools.partial):
            waiting += [(y, depth + 1) for y in _inside(x)]
        elif type(x).__module__.startswith("geodesic."):
            waiting += [(y, depth + 1) for y in _attributes(x).values()]


def is_scripted(parts: tuple[object, ...]) -> bool:
    """Whether a part of it is compiled by `torch.jit`: forward mode gives zeros there, from some call on."""
    scripted = (torch.jit.ScriptModule, torch.jit.ScriptFunction)
    return any(isinstance(part, scripted) for part in parts) or any(
        isinstance(module, scripted) for part in parts for owner in modules_in(part) for module in owner.modules()
    )


def is_compiled(parts: tuple[object, ...]) -> bool:
    """Whether a part of it is compiled by `torch.compile`."""
    if "torch._dynamo" not in sys.modules:
        return False
    owners = [owner for part in parts for owner in modules_in(part)]
    return any(isinstance(module, torch._dynamo.OptimizedModule) for owner in owners for module in owner.modules())


def has_kinks(parts: tuple[object, ...]) -> bool:
    """Whether a layer of it is known to have kinks, or second derivatives that jump."""
    owners = [owner for part in parts for owner in modules_in(part)]
    return any(isinstance(module, _KINKED) for owner in owners for module in owner.modules())


def _inside(x: Any) -> list[object]:
    """What a function is made of besides its code."""
    if isinstance(x, MethodType):
        return [x.__self__, x.__func__]
    if isinstance(x, functools.partial):
        return [x.func, *x.args, *x.keywords.values()]
    named = _names(x.__code__)
    used = [x.__globals__[name] for name in sorted(named) if name in x.__globals__]
    for owner in [y for y in used if isinstance(y, ModuleType) and _package(y) not in _STABLE]:
        used += [vars(owner)[name] for name in sorted(named) if name in vars(owner)]
    closed = [cell.cell_contents for cell in x.__closure__ or () if _filled(cell)]
    return [*closed, *used, *(x.__defaults__ or ()), *(x.__kwdefaults__ or {}).values()]


def _names(code: CodeType) -> set[str]:
    """Globals and attributes named in code and in the functions that it defines."""
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*(_names(c) for c in inner))


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _mark(x: object, depth: int, seen: set[int]) -> Hashable:
    if depth > _DEEP:
        raise _Unknown
    if isinstance(x, _PLAIN):
        return x
    if id(x) in seen:
        return id(x)
    if isinstance(x, nn.Module):
        return _of_module(x, depth, seen)
    if isinstance(x, Tensor):
        return _of_tensor(x)
    if isinstance(x, ModuleType | BuiltinFunctionType) or (isinstance(x, type) and _package(x) in _STABLE):
        return id(x)
    if isinstance(x, FunctionType) and _package(x) in _STABLE and "<" not in x.__qualname__:
        return id(x)
    seen.add(id(x))
    if isinstance(x, tuple | frozenset):
        return tuple(_mark(y, depth + 1, seen) for y in x)
    if isinstance(x, type):
        return _of_class(x, depth, seen)
    if isinstance(x, staticmethod | classmethod):
        return _mark(x.__func__, depth, seen)
    if isinstance(x, property):
        return tuple(_mark(y, depth + 1, seen) for y in (x.fget, x.fset, x.fdel))
    if isinstance(x, MethodType | FunctionType | functools.partial):
        return (id(getattr(x, "__func__", x)), *(_mark(y, depth + 1, seen) for y in _inside(x)))
    if is_dataclass(x) and not isinstance(x, type) and x.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return (type(x), *(_mark(getattr(x, field.name), depth + 1, seen) for field in fields(x)))
    package = _package(type(x))
    if package == "geodesic":  # ours keep what they are made of in their attributes
        return (type(x), *((name, _mark(y, depth + 1, seen)) for name, y in sorted(_attributes(x).items())))
    if package in ("torch", "builtins") and callable(x):
        return id(x)
    raise _Unknown


def _package(x: Any) -> str:
    return str(x.__name__ if isinstance(x, ModuleType) else getattr(x, "__module__", "")).partition(".")[0]


def _attributes(x: object) -> dict[str, object]:
    if hasattr(x, "__wrapped__"):
        return {"__wrapped__": x.__wrapped__}  # what it keeps beside is of its own making
    slots = [name for kind in type(x).__mro__ for name in getattr(kind, "__slots__", ())]
    return {**getattr(x, "__dict__", {}), **{name: getattr(x, name) for name in slots if hasattr(x, name)}}


def _of_module(module: nn.Module, depth: int, seen: set[int]) -> Hashable:
    seen.add(id(module))
    parts = list(module.modules())
    modes = tuple((id(m), m.training) for m in parts)
    tensors = tuple(_of_tensor(x) for x in (*module.parameters(), *module.buffers()))
    hooks = tuple(
        _mark(hook, depth + 1, seen)
        for m in parts
        for name, kept in vars(m).items()
        if name.endswith("_hooks") and isinstance(kept, dict)
        for hook in kept.values()
    )
    own = tuple(
        (name, _of_attribute(x, _package(type(m)) == "torch", depth, seen))
        for m in parts
        for name, x in vars(m).items()
        if name not in _OF_TORCH
    )
    kinds = tuple(_of_class(kind, depth, seen) for kind in {type(m): None for m in parts})
    return (modes, tensors, hooks, own, kinds)


def _of_attribute(x: object, of_torch: bool, depth: int, seen: set[int]) -> Hashable:
    """Of a plain attribute of a module: lists and dictionaries by what they hold, the rest as everywhere."""
    if isinstance(x, list | tuple):
        return tuple(_of_attribute(y, of_torch, depth + 1, seen) for y in x)
    if isinstance(x, dict):
        return tuple((key, _of_attribute(y, of_torch, depth + 1, seen)) for key, y in x.items())
    functions = FunctionType | MethodType | functools.partial
    if of_torch and not isinstance(x, _PLAIN) and (not isinstance(x, functions) or _package(x) == "torch"):
        return id(x)  # torch keeps there what is its own
    return _mark(x, depth + 1, seen)


def _of_class(kind: type, depth: int, seen: set[int]) -> Hashable:
    """A class, with the functions and attributes that it and its bases of the user's define."""
    seen.add(id(kind))
    own = [base for base in kind.__mro__ if _package(base) not in _STABLE]
    named = [
        (name, x) for base in own for name, x in vars(base).items() if name in _CALLED or not name.startswith("__")
    ]
    return (id(kind), tuple((name, _mark(x, depth + 1, seen)) for name, x in named))


def _of_tensor(x: Tensor) -> Hashable:
    version = None if x.is_inference() else x._version
    return (id(x), x.data_ptr() if x.device.type != "meta" else 0, version, x.dtype)
