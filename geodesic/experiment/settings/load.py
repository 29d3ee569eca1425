"""From a YAML file to settings, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from geodesic.errors import SettingsError
from geodesic.experiment.settings.explain import explain
from geodesic.experiment.settings.overrides import apply_override
from geodesic.experiment.settings.whole import Settings
from geodesic.experiment.settings.yaml_text import read_yaml

__all__ = ["load_settings", "settings_from_text", "settings_to_yaml"]


def load_settings(path: str | Path, overrides: Sequence[str] = ()) -> Settings:
    r"""Read settings from a YAML file, then apply overrides such as `training.epochs=5`.

    Args:
        path: The YAML file.
        overrides: `key.path=value` strings; the value is read as YAML, so `null`, lists and numbers work.

    Returns:
        Frozen settings.

    Raises:
        SettingsError: The file is missing or is no YAML mapping, or a key or value is refused. The message
            names the key's path, the value and what was allowed.

    Example:
        >>> import pathlib, tempfile
        >>> from geodesic import load_settings
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "first.yaml"
        >>> _ = file.write_text("name: first\ndata: {kind: digits}\n")
        >>> load_settings(file, ["training.epochs=5"]).training.epochs
        5
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such settings file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot read the settings file ({error}); check the path") from None
    return settings_from_text(text, path, overrides)


def settings_from_text(text: str, path: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """As `load_settings`, from the text of a file.

    Args:
        text: YAML.
        path: The file that it comes from, or is meant for: messages name it.
        overrides: As in `load_settings`.

    Raises:
        SettingsError: As from `load_settings`.
    """
    try:
        tree = read_yaml(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: this is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise SettingsError(f"{path}: expected a YAML mapping of settings, got {type(tree).__name__}")
    for override in overrides:
        apply_override(tree, override)
    try:
        # JSON is where strict types still let a list become a tuple.
        return Settings.model_validate_json(json.dumps(tree, default=str))
    except ValidationError as error:
        lines = explain(error, tree)
        raise SettingsError(f"{path}: {lines[0]}" if len(lines) == 1 else "\n  ".join([f"{path}:", *lines])) from None
    except (TypeError, ValueError, RecursionError):
        # A key that is a list, or an alias that holds itself: YAML has them, settings do not.
        raise SettingsError(f"{path}: expected nested mappings with plain keys, and no anchor inside itself") from None


def settings_to_yaml(settings: Settings) -> str:
    """The settings as YAML that `load_settings` reads back to the same settings."""
    return yaml.safe_dump(settings.model_dump(mode="json", by_alias=True), sort_keys=False)
