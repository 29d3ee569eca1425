"""Run folders: where they are, what they were trained with, and how they are written and replaced."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from numpy.typing import NDArray

from geodesic.errors import InputError, RunFolderError
from geodesic.experiment.settings.load import load_settings, settings_to_yaml
from geodesic.experiment.settings.whole import Settings
from geodesic.files import replacing, write_npz
from geodesic.solvers.status import with_names

__all__ = [
    "new_folder",
    "require_name",
    "require_replaceable",
    "require_resumable",
    "require_within",
    "results_file",
    "run_folder",
    "set_aside",
    "trained_otherwise",
    "trained_with",
    "write_results",
]

_TRAINED = ("seed", "data", "model", "training")  # sections that weights depend on
_BESIDE_WEIGHTS = ("picture_every", "importance_samples")  # neither pictures nor measures change the weights
_BESIDE = ("geodesic", "cov", "curvature", "mean", "analogy", "distances")  # sections that training does not look at


def run_folder(settings: Settings, runs: str | Path = "runs") -> Path:
    """The folder of a run: `runs/NAME`."""
    return Path(runs) / settings.name


# --- what a folder was trained with -----------------------------------------------------------


def trained_with(settings: Settings, folder: Path) -> bool:
    """Whether the folder holds weights trained with the same seed, data, model and training settings."""
    if not (folder / "model.safetensors").is_file() or not (folder / "config.yaml").is_file():
        return False
    return _same_training(settings, _settings_of_training(folder))


def trained_otherwise(settings: Settings, folder: Path) -> list[str]:
    """What a command would have to be given so that its settings are those of the weights: `training.epochs=3`."""
    if not (folder / "model.safetensors").is_file() or not (folder / "config.yaml").is_file():
        return []
    before, now = (_flat(_trained(s)) for s in (_settings_of_training(folder), settings))
    changed = {key: before.get(key) for key in before | now if before.get(key) != now.get(key)}
    return [f"{key}={_as_override(value)}" for key, value in changed.items()]


def _trained(settings: Settings) -> dict[str, Any]:
    """The sections that weights depend on, but for what changes no weights."""
    said = settings.model_dump(mode="json", by_alias=True, include=set(_TRAINED))
    training = {key: value for key, value in said["training"].items() if key not in _BESIDE_WEIGHTS}
    return said | {"training": training}


def _flat(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """The leaves of nested mappings by their key paths."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _flat(value, f"{before}{key}.") if isinstance(value, dict) and value else {f"{before}{key}": value}
    return leaves


def _as_override(value: Any) -> str:
    text = "null" if value is None else yaml.safe_dump(value, default_flow_style=True, width=10_000)
    text = text.removesuffix("...\n").strip()
    return f"'{text}'" if set(text) & set(" {}[]*") else text


def _settings_of_training(folder: Path) -> Settings:
    # How it was trained, and no more: what another version wrote for other commands spoils no weights.
    return load_settings(folder / "config.yaml", [f"{key}={{}}" for key in _BESIDE] + ["pairs={kind: random}"])


def _same_training(a: Settings, b: Settings) -> bool:
    return _trained(a) == _trained(b)


def require_replaceable(folder: Path, overwrite: bool) -> None:
    """Refuse to replace a folder unless one was told to, and it is a run.

    Raises:
        RunFolderError: With the reason.
    """
    if not overwrite:
        raise RunFolderError(f"{folder} exists already; go on with --resume, or replace it with --overwrite")
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / "config.yaml").is_file()):
        raise RunFolderError(
            f"{folder} has no config.yaml, so it may be something else than a run; remove it yourself, or "
            "choose another name"
        )
    if folder.is_symlink():
        raise RunFolderError(f"{folder} is a link, which --overwrite does not follow; remove it yourself")


def require_resumable(settings: Settings, folder: Path) -> None:
    """Refuse to go on with a training that has no checkpoint, or other settings.

    Raises:
        RunFolderError: With the reason.
    """
    if not (folder / "config.yaml").is_file() or not (folder / "last.ckpt").is_file():
        raise RunFolderError(f"{folder}: nothing to resume; train without --resume")
    before = _settings_of_training(folder)
    for key in ("seed", "data", "model"):
        if getattr(settings, key) != getattr(before, key):
            raise RunFolderError(
                f"{folder} was begun with other settings of `{key}`; resume with {folder / 'config.yaml'}, "
                "or start anew with --overwrite"
            )


# --- writing ----------------------------------------------------------------------------------


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Leave nothing behind where the work failed before there was a checkpoint to go on from."""
    existed = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if not existed and not _holds_training(folder):
            shutil.rmtree(folder)
        raise


@contextlib.contextmanager
def set_aside(folder: Path) -> Iterator[None]:
    """Keep what the folder held until the block ends, and bring it back if there is no checkpoint by then."""
    aside = folder.with_name(f".{folder.name}.replaced")
    if aside.exists() and not _holds_training(folder):
        # The process was killed in here before it had a checkpoint: the run aside is still the last good one.
        _remove(folder)
    elif folder.exists():
        _remove(aside)
        folder.rename(aside)
    try:
        yield
    except BaseException:
        if _holds_training(folder):
            _remove(aside)
        elif aside.exists():
            aside.rename(folder)
        raise
    _remove(aside)


def _holds_training(folder: Path) -> bool:
    return (folder / "last.ckpt").exists() or (folder / "model.safetensors").exists()


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def results_file(folder: Path, name: str, overwrite: bool) -> Path:
    """Where results of that name go, `NAME.npz` in the run folder, if they may.

    Raises:
        InputError: `name` is no name for a file, or that of a file which `train` writes.
        RunFolderError: The file is there, and is not to be replaced.
    """
    require_name(name)
    file = folder / f"{name}.npz"
    if file.exists() and not overwrite:
        raise RunFolderError(f"{file} exists already; choose another --name, or replace it with --overwrite")
    return file


def require_name(name: str) -> None:
    """Refuse what is no name of results: that of a file within the run folder, which `train` does not write.

    Raises:
        InputError: With what a name is.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or name == "config":
        raise InputError(
            f"--name: got {name!r}; expected letters, digits, '.', '_' and '-', starting with a letter or "
            "digit, and another name than 'config', whose file holds the settings of the training"
        )


def require_within(folder: Path, target: Path) -> None:
    """Refuse to write what a link leads out of a run folder.

    Raises:
        RunFolderError: With where it leads.
    """
    place = target.resolve()
    if not place.is_relative_to(folder.resolve()):
        raise RunFolderError(f"{target}: leads out of the run folder, to {place}; remove the link")


def write_results(file: Path, arrays: Mapping[str, NDArray], settings: Settings) -> None:
    """Write results and, beside them, the settings that made them into a run folder."""
    # Both or neither: results with the settings of other results would mislead.
    with new_folder(file.parent), replacing(file.with_name(f"{file.stem}.yaml")) as settings_file:
        settings_file.write_text(settings_to_yaml(settings), encoding="utf-8")
        write_npz(file, with_names(arrays))
