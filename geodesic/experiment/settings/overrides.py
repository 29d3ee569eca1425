"""Overrides on the command line, such as `training.epochs=5`, applied to a tree of settings."""

from __future__ import annotations

from typing import Any

import yaml

from geodesic.errors import SettingsError
from geodesic.experiment.settings.section import reads_as_number
from geodesic.experiment.settings.yaml_text import read_yaml

__all__ = ["apply_override"]


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Change a tree of settings in place.

    Args:
        tree: Nested mappings and lists, as read from YAML.
        override: `key.path=value`. The value is read as YAML; a number in the path is an index of a list.

    Raises:
        SettingsError: It is no override, the value is no YAML, or the path leads through a value.
    """
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise SettingsError(f"override {override!r}: expected key.path=value, such as training.epochs=5")
    node: Any = tree
    for position, key in enumerate(keys[:-1]):
        node = _section(node, _index(node, key, keys[:position], override))
        if not isinstance(node, dict | list):
            raise SettingsError(f"override {override!r}: {'.'.join(keys[: position + 1])} is a value, not a section")
    node[_index(node, keys[-1], keys[:-1], override)] = _value(text, override)


def _index(node: Any, key: str, above: list[str], override: str) -> Any:
    if not isinstance(node, list):
        return key
    if not key.isdigit() or int(key) >= len(node):
        raise SettingsError(
            f"override {override!r}: {'.'.join(above)} is a list of {len(node)}; expected an index below that, got "
            f"{key!r}"
        )
    return int(key)


def _section(node: Any, index: Any) -> Any:
    """What stands there, made a section: a word is the kind of one, and what is not given is empty."""
    if isinstance(node, dict) and not isinstance(node.get(index), dict | list):
        node[index] = {"kind": node[index]} if isinstance(node.get(index), str) else {}
    return node[index]


def _value(text: str, override: str) -> Any:
    try:
        value = read_yaml(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"override {override!r}: the value is not valid YAML: {error}") from None
    if isinstance(value, str) and reads_as_number(text):
        return float(value)  # YAML 1.1 reads 1e-3 as a string; in quotes it is meant to be one
    return value
