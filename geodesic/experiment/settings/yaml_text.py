"""YAML as settings use it: no key twice in a mapping."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["read_yaml"]


def read_yaml(text: str) -> Any:
    """What a YAML text says.

    Raises:
        yaml.YAMLError: It is no YAML, or a mapping has a key twice.
    """
    return yaml.load(text, _Loader)


class _Loader(yaml.SafeLoader):
    """YAML whose mappings have no key twice: of two values PyYAML drops the first without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Before merge keys (`<<`) are resolved: what they bring in may be overridden.
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise yaml.YAMLError(
                    f"the key {key.value!r} is given in line {lines[key.value]} and again in line {line}; remove one"
                )
            lines[key.value] = line
        return node
