"""Weights on disk as safetensors, beside a JSON record of the model they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geodesic.errors import CheckpointError
from geodesic.files import write_bytes

__all__ = [
    "RECORD",
    "WEIGHTS",
    "listed",
    "misfits",
    "precision_of",
    "read_record",
    "read_safetensors",
    "restore",
    "save_model",
]

WEIGHTS = "model.safetensors"
RECORD = "model.json"


def save_model(module: nn.Module, folder: str | Path, record: Mapping[str, Any]) -> None:
    """Write `model.safetensors` and `model.json`, each whole or not at all.

    Args:
        module: Its parameters and persistent buffers are saved.
        folder: Made if it does not exist.
        record: What is needed to build the module again; plain JSON values.

    Example:
        >>> import tempfile, torch
        >>> from geodesic.models.checkpoint import read_record, save_model
        >>> folder = tempfile.mkdtemp()
        >>> save_model(torch.nn.Linear(2, 3), folder, {"in": 2, "out": 3})
        >>> read_record(folder)
        {'in': 2, 'out': 3}
    """
    from safetensors.torch import save

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    write_bytes(folder / RECORD, json.dumps(dict(record), indent=2).encode() + b"\n")
    write_bytes(folder / WEIGHTS, save(tensors))


def read_record(folder: str | Path) -> dict[str, Any]:
    """The record that `save_model` wrote into the folder.

    Raises:
        CheckpointError: `model.json` is missing or is not a JSON mapping.
    """
    file = Path(folder) / RECORD
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file}: no such file; train a model into this folder first") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: not readable as JSON ({error}); train the model again") from None
    if not isinstance(record, dict):
        raise CheckpointError(f"{file}: expected a JSON mapping, got {type(record).__name__}; train again")
    return record


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name.

    Raises:
        CheckpointError: The file is missing or truncated, or is none of that format.

    Example:
        >>> import pathlib, tempfile, torch
        >>> from geodesic.models.checkpoint import read_safetensors, save_model
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> save_model(torch.nn.Linear(2, 3), folder, {})
        >>> list(read_safetensors(folder / "model.safetensors"))
        ['bias', 'weight']
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        raise CheckpointError(f"{file}: no such file; train a model into this folder, or check the path")
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{file}: truncated, or not a safetensors file ({error}); copy it again, or train again"
        ) from None


def misfits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """What keeps tensors from filling a module: names that are missing or unknown, shapes that differ, each in words.

    Args:
        expected: The module's own, its `state_dict()`.
        found: The tensors.
    """
    wrong = [f"{name} is missing" for name in expected if name not in found]
    wrong += [f"{name} is unknown" for name in found if name not in expected]
    wrong += [
        f"{name} is {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    return wrong


def listed(wrong: Sequence[str], most: int = 3) -> str:
    """Some of what `misfits` found, for a message."""
    return "; ".join(wrong[:most]) + (f" and {len(wrong) - most} more" if len(wrong) > most else "")


def precision_of(tensors: Mapping[str, Tensor]) -> torch.dtype | None:
    """The dtype of the first of them that has floating point numbers; None where none has."""
    return next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), None)


def restore(module: nn.Module, file: str | Path) -> None:
    """Copy the weights that `save_model` wrote into a module, which takes on their floating point type.

    Args:
        module: Must have the same names and shapes as the file.
        file: The safetensors file.

    Raises:
        CheckpointError: The file is missing, truncated or made for another module.

    Example:
        >>> import tempfile, torch
        >>> from geodesic.models.checkpoint import restore, save_model
        >>> folder, one, other = tempfile.mkdtemp(), torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
        >>> save_model(one, folder, {})
        >>> restore(other, folder + "/model.safetensors")
        >>> torch.equal(one.weight, other.weight)
        True
    """
    file = Path(file)
    found = read_safetensors(file)
    wrong = misfits(module.state_dict(), found)
    if wrong:
        raise CheckpointError(
            f"{file}: made for another model ({listed(wrong)}); use the settings that it was trained with"
        )
    module.to(precision_of(found))
    module.load_state_dict(found)
