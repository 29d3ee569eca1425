"""Weights as users have them: files of several formats into a module of theirs."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from geodesic.errors import CheckpointError, InputError
from geodesic.models.checkpoint import listed, misfits, precision_of, read_safetensors

__all__ = ["is_program", "load_weights"]

M = TypeVar("M", bound=nn.Module)

_NESTED = ("state_dict", "model_state_dict", "model")  # where training scripts and Lightning put the weights
_ALONE = "where it was made, save the weights alone, torch.save(model.state_dict(), path), and load these"
_MOST = 5  # keys that a message names


def load_weights(module: M, path: str | Path, prefix: str | None = None) -> M:
    """Fill a module with the weights of a file, in place, and return it. No code of the file is run.

    The file is a safetensors file, or one of `torch.save` (`.pt`, `.pth`, `.ckpt`): a `state_dict`, alone or under
    "state_dict", "model_state_dict" or "model", as in checkpoints of Lightning. Every weight of the module must be
    there, in its shape, and nothing else beside it.

    Args:
        module: Any module. It keeps its floating point type, or takes on that of the file if this has more digits; it
            changes only if all fits.
        path: The file.
        prefix: What the names of the module's weights begin with in the file, such as "decoder.": others are left out.
            By default it is found, where the weights of one part of the file alone fit. "" is none.

    Returns:
        The module.

    Raises:
        CheckpointError: The file is missing or damaged, holds pickled objects or a program, or its weights do not fit;
            names that do not fit are listed.
        InputError: `module` is none, or `path` no path.

    Example:
        >>> import pathlib, tempfile, torch, geodesic
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "vae.pt"
        >>> vae = torch.nn.ModuleDict({"encoder": torch.nn.Linear(3, 2), "decoder": torch.nn.Linear(2, 3)})
        >>> torch.save({"epoch": 5, "state_dict": vae.state_dict()}, file)
        >>> decoder = geodesic.load_weights(torch.nn.Linear(2, 3), file)
        >>> torch.equal(decoder.weight, vae["decoder"].weight)
        True
    """
    if not isinstance(module, nn.Module):
        got = f"the class {module.__name__} itself" if isinstance(module, type) else type(module).__name__
        raise InputError(f"module: expected a torch.nn.Module, got {got}; make one first")
    if not isinstance(path, str | Path):
        raise InputError(f"path: expected a file, got {type(path).__name__}; a state_dict fits module.load_state_dict")
    file = Path(path)
    own = module.state_dict()
    found = _part(own, _weights_in(file), prefix, file)
    if wrong := misfits(own, found):
        raise CheckpointError(
            f"{file}: made for another model ({listed(wrong, _MOST)}); build {type(module).__name__} as it was when "
            "these were saved"
        )
    mine, theirs = precision_of(own), precision_of(found)
    if mine is not None and theirs is not None and torch.promote_types(mine, theirs) != mine:
        module.to(torch.promote_types(mine, theirs))
    module.load_state_dict(found)
    return module


# --- which of the weights ---------------------------------------------------------------------


def _part(own: Mapping[str, Tensor], found: dict[str, Tensor], prefix: str | None, file: Path) -> dict[str, Tensor]:
    """The weights that are meant for a module whose own are these, by its names."""
    if prefix is None:
        return _fitting(own, found, file)
    start = f"{prefix.rstrip('.')}." if prefix else ""
    part = _under(start, found)
    if not part:
        starts = dict.fromkeys(f"{name.split('.')[0]}." for name in found if "." in name)
        raise CheckpointError(
            f"prefix: no weight of {file} begins with {start!r}; its names begin with "
            f"{', '.join(map(repr, list(starts)[:_MOST])) or 'none: leave prefix out'}"
        )
    return part


def _fitting(own: Mapping[str, Tensor], found: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """All weights, or those of the one part of them that fits."""
    if not own or not misfits(own, found):
        return found
    first = f".{next(iter(own))}"
    starts = [name.removesuffix(first) + "." for name in found if name.endswith(first)]
    parts = {start: part for start in starts if not misfits(own, part := _under(start, found))}
    if len(parts) > 1:
        raise CheckpointError(
            f"prefix: several parts of {file} fit: {', '.join(map(repr, list(parts)[:_MOST]))}; say which, "
            f"prefix={next(iter(parts))!r}"
        )
    return next(iter(parts.values()), found)


def _under(start: str, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(start): x for name, x in found.items() if name.startswith(start)}


# --- what is in the file ----------------------------------------------------------------------


def _weights_in(file: Path) -> dict[str, Tensor]:
    """Tensors by name, whatever the format."""
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file; check the path")
    with file.open("rb") as stream:
        head = stream.read(9)
    if file.suffix == ".safetensors" or head[8:] == b"{":  # behind the length of its header
        return read_safetensors(file)
    loaded = _unpickled(file)
    parts = [loaded.get(name) for name in _NESTED] if isinstance(loaded, Mapping) else []
    for part in (*parts, loaded):
        if isinstance(part, Mapping) and any(isinstance(x, Tensor) for x in part.values()):
            return {str(name): x for name, x in part.items() if isinstance(x, Tensor)}
    held = f"entries {', '.join(map(repr, loaded))}" if isinstance(loaded, Mapping) else type(loaded).__name__
    raise CheckpointError(f"{file}: expected a state_dict, got {held}; {_ALONE}")


def _unpickled(file: Path) -> Any:
    """What `torch.save` wrote, if it is plain data."""
    _refuse_programs(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None and not zipfile.is_zipfile(file):
            raise CheckpointError(f"{file}: truncated, or no file of torch.save; copy it again") from None
        what = "" if named is None else f" ({named[1]})"
        raise CheckpointError(
            f"{file}: it holds pickled objects{what}, which can run code when they are read; {_ALONE}"
        ) from None
    except Exception as error:  # a foreign or damaged file can make torch fail in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise CheckpointError(f"{file}: truncated, or no file of torch.save ({reason}); copy it again") from None


def _refuse_programs(file: Path) -> None:
    """Programs have weights too, but they are models by themselves."""
    if is_program(file):
        load = f'torch.export.load("{file}")'
    elif "constants.pkl" in _names_in(file):
        load = f'torch.jit.load("{file}")'
    else:
        return
    raise CheckpointError(f"{file}: it is a program with its weights; give geodesic.wrap({load})")


def is_program(file: Path) -> bool:
    """Whether a file is what `torch.export.save` writes, as far as its list of contents tells."""
    return "archive_format" in _names_in(file)


def _names_in(file: Path) -> set[str]:
    """Names of the contents of a zip file below its folder; none for other files."""
    if not zipfile.is_zipfile(file):
        return set()
    with zipfile.ZipFile(file) as archive:
        return {name.partition("/")[2] for name in archive.namelist()}
