"""Objects of the user's own, by name, and what their files hold."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geodesic.adapters.weights import is_program, load_weights
from geodesic.checks import nearest
from geodesic.errors import CheckpointError, SettingsError

__all__ = ["PROGRAM", "import_network", "import_object", "load_program", "with_weights"]

PROGRAM = ".pt2"
"""Ending of the files of programs of torch.export."""


def import_object(key: str, target: str, arguments: Mapping[str, Any] | None = None) -> Any:
    """Call `package.module:function`, or make an object of a class.

    Args:
        key: The setting that this comes from, for messages.
        target: `package.module:name`. Modules in the current folder are found too.
        arguments: Of the call, by name.

    Raises:
        SettingsError: The module or the name cannot be found, or the call fails.

    Example:
        >>> from geodesic.adapters.imported import import_object
        >>> import_object("model.import", "torch.nn:Linear", {"in_features": 2, "out_features": 3})
        Linear(in_features=2, out_features=3, bias=True)
    """
    module_name, _, name = target.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever stands in the user's module
        file = module_name.endswith(".py")
        remedy = (
            f"a module has no .py at its end: {module_name[:-3].replace('/', '.')}:{name}"
            if file
            else "check the name, and that it is installed or lies in the current folder"
        )
        raise SettingsError(
            f"{key}: {module_name!r} of {target!r} could not be imported ({type(error).__name__}: {error}); {remedy}"
        ) from error
    if not hasattr(module, name):
        hint = nearest(name, dir(module)) or "check the name"
        raise SettingsError(f"{key}: {target!r}: the module has no {name!r}; {hint}")
    try:
        return getattr(module, name)(**arguments or {})
    except Exception as error:  # whatever the user's function does
        given = ", ".join(arguments or ()) or "without arguments"
        raise SettingsError(
            f"{key}: {target!r} could not be called ({given}): {type(error).__name__}: {error}; what it takes goes to "
            "`arguments`"
        ) from error


def with_weights(key: str, made: Any, file: str, prefix: str | None = None) -> Any:
    """An imported module, filled by `geodesic.load_weights`.

    Args:
        key: The setting that the module comes from, for messages.
        made: The module.
        file: The file, which may use environment variables.
        prefix: As in `load_weights`.

    Raises:
        SettingsError: It is no module.
        CheckpointError: As from `load_weights`.
    """
    if not isinstance(made, nn.Module):
        raise SettingsError(f"{key}: weights need a torch.nn.Module, got {type(made).__name__}; leave weights out")
    return load_weights(made, os.path.expandvars(file), prefix)


def load_program(file: str) -> nn.Module:
    """A program that `torch.export.save` wrote, a `.pt2` file, which needs no class.

    Args:
        file: The file, which may use environment variables.

    Raises:
        CheckpointError: The file is missing or damaged, or no such program.
    """
    path = Path(os.path.expandvars(file))
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; check the path")
    damaged = f"{path}: truncated, or no program of torch.export; save it again, torch.export.save(program, path)"
    if not is_program(path):
        raise CheckpointError(damaged)
    try:
        return torch.export.load(path).module()
    except Exception as error:  # a foreign or damaged file can make torch fail in any way
        raise CheckpointError(damaged) from error


def import_network(
    key: str, target: str, weights: str | None, device: torch.device, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """Call `package.module:function` and make the network that it returns ready to use.

    Args:
        key: The setting that this comes from, for messages.
        target: `package.module:function`; the function takes no arguments and returns a callable.
        weights: A file with the state of the module returned, see `geodesic.load_weights`.
        device: Where a module goes.
        dtype: What a module's weights become.

    Returns:
        The callable; a module in evaluation mode.

    Raises:
        SettingsError: The function cannot be imported or called, or returns something else.
        CheckpointError: The weights are missing, damaged or made for another module.

    Example:
        >>> import torch
        >>> from geodesic.adapters.imported import import_network
        >>> import_network("model.encoder", "torch.nn:Identity", None, torch.device("cpu"), torch.float64)
        Identity()
    """
    made = import_object(key, target)
    if not callable(made):
        raise SettingsError(f"{key}: {target!r} returned {type(made).__name__}; expected a callable")
    if weights is not None:
        made = with_weights(key, made, weights)
    return made.to(device=device, dtype=dtype).eval() if isinstance(made, nn.Module) else made
