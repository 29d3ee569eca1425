"""Decoders and encoders of the user's own, by name."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from geodesic.errors import SettingsError
from geodesic.models.checkpoint import load_weights

__all__ = ["import_network"]


def import_network(
    key: str, target: str, weights: str | None, device: torch.device, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """Call `package.module:function` and make what it returns ready to use.

    Args:
        key: The setting that this comes from, for messages.
        target: `package.module:function`; the function takes no arguments and returns a callable. Modules in
            the current folder are found too.
        weights: A safetensors file with the state of the module returned; may use environment variables.
        device: Where a module goes.
        dtype: What a module's weights become.

    Returns:
        The callable; a module in evaluation mode.

    Raises:
        SettingsError: The function cannot be imported or called, or returns something else.
        CheckpointError: The weights are missing, truncated or made for another module.

    Example:
        >>> import torch
        >>> from geodesic.adapters.imported import import_network
        >>> import_network("model.import", "torch.nn:Identity", None, torch.device("cpu"), torch.float64)
        Identity()
    """
    module_name, _, function_name = target.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does
    try:
        made = getattr(importlib.import_module(module_name), function_name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise SettingsError(
            f"{key}: {target!r} could not be imported and called without arguments ({error})"
        ) from error
    if not callable(made):
        raise SettingsError(f"{key}: {target!r} returned {type(made).__name__}; expected a callable")
    if not isinstance(made, nn.Module):
        if weights is not None:
            raise SettingsError(f"{key}: weights need a torch.nn.Module, got {type(made).__name__}")
        return made
    if weights is not None:
        load_weights(made, Path(os.path.expandvars(weights)))
    return made.to(device=device, dtype=dtype).eval()
