"""What Pydantic refuses, said to the reader of a settings file: the key's path, the value, what is allowed."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import ValidationError

from geodesic.experiment.settings.section import DEVICE, FUNCTION, LABEL, NAME, Section, reads_as_number
from geodesic.experiment.settings.whole import Settings

__all__ = ["explain"]

_PATTERNS = {
    NAME: "letters, digits, '.', '_' and '-', starting with a letter or digit",
    LABEL: "letters, digits, '_' and '-'",
    DEVICE: "auto, cpu, cuda or cuda:N",
    FUNCTION: "package.module:function",
}
_TYPES = {
    "int_type": "an integer",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a mapping of settings",
    "model_attributes_type": "a mapping of settings",
    "dict_type": "a mapping of settings",
}
_COUNTS = {"too_short": "at least {min_length}", "too_long": "at most {max_length}"}


def explain(error: ValidationError, tree: dict[str, Any]) -> list[str]:
    """One line for each refused key.

    Args:
        error: Of the validation of `Settings`.
        tree: What was validated.
    """
    items = error.errors()
    refused = [item["loc"] for item in items]
    lines: dict[str, list[str]] = {}
    for item in items:
        loc = item["loc"]
        if item["type"] == "too_short" and any(other[: len(loc)] == loc != other for other in refused):
            continue  # Pydantic counts only the entries that passed; the others have a line of their own.
        location, section = _place(loc, tree)
        key = ".".join(map(str, location))
        lines.setdefault(key, []).append(f"{key}: {_complaint(item, key, section)}")
    return [_merged(group) for group in lines.values()]


def _complaint(item: Any, key: str, section: type[Section] | None) -> str:
    kind, value = item["type"], item["input"]
    if kind == "refused":
        return str(item["ctx"]["message"])
    if kind == "missing":
        return "this key is required and was not given"
    if kind == "extra_forbidden" and section is not None:
        allowed = sorted(_keys(section))
        close = difflib.get_close_matches(str(item["loc"][-1]), allowed, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"unknown key (value {value!r}); {hint}allowed: {', '.join(allowed)}"
    return f"got {value!r}; {_expected(kind, item['msg'], item.get('ctx', {}))}{_hint(kind, key, value)}"


def _expected(kind: str, message: str, context: dict[str, Any]) -> str:
    if kind in _TYPES:
        return f"expected {_TYPES[kind]}"
    if kind in _COUNTS:
        return "expected a list of " + _COUNTS[kind].format(**context)
    if kind == "string_pattern_mismatch":
        return f"expected {_PATTERNS[context['pattern']]}"
    if kind == "value_error":
        return str(context["error"])
    return message.replace("Input should be ", "expected " + ("a number " if "than" in kind else ""))


def _merged(lines: list[str]) -> str:
    """Lines about one key, as one: `key: got value; expected this, or that`."""
    first, *others = lines
    return ", or ".join([first, *(other.rpartition("; expected ")[2] for other in others)])


def _hint(kind: str, key: str, value: Any) -> str:
    if kind == "string_type" and isinstance(value, bool | int | float):
        read = "true or false" if isinstance(value, bool) else "a number"
        return f" (without quotes YAML reads this as {read}: quote it, on the command line as '{key}=\"...\"')"
    if not isinstance(value, str) or not reads_as_number(value):
        return ""
    if kind == "float_type" and "e" in value.lower():
        return " (YAML reads 1e-3 as a string: write 1.0e-3)"
    return " (without quotes)" if kind in ("int_type", "float_type") else ""


# --- where a key stands -----------------------------------------------------------------------


def _place(location: tuple[int | str, ...], tree: Any) -> tuple[list[int | str], type[Section] | None]:
    """The keys of a location as the file has them, and the section that holds the last of them.

    Pydantic adds the name of the tried type where a key takes several.
    """
    section: type[Section] | None = Settings
    keys: list[int | str] = []
    notes: tuple[Any, ...] = ()
    holder, hint, node = section, Any, tree
    for part in location:
        if isinstance(part, str) and section is None and not any(hasattr(note, "section") for note in notes):
            break  # the name of a type
        holder = section
        if isinstance(part, int):
            hint, notes = _of_entries(hint)
        elif section is not None:
            hint, notes = _keys(section).get(part, (Any, ()))
        keys.append(part)
        node = _below(node, part)
        section = _section(hint, notes, node)
    return keys, holder


def _keys(section: type[Section]) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Keys of a section, each with its type and what annotates it."""
    return {
        field.alias or name: (field.annotation, tuple(field.metadata)) for name, field in section.model_fields.items()
    }


def _of_entries(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Type and annotations of the entries of a list."""
    entry = next(iter(get_args(hint)), Any)
    return (get_args(entry)[0], entry.__metadata__) if hasattr(entry, "__metadata__") else (entry, ())


def _below(node: Any, part: int | str) -> Any:
    try:
        return node[part]
    except (KeyError, IndexError, TypeError):
        return None


def _section(hint: Any, notes: tuple[Any, ...], value: Any) -> type[Section] | None:
    """The section that a value is read as, where it is read as one."""
    for note in notes:
        if hasattr(note, "section"):
            found: type[Section] | None = note.section(value)
            return found
    return hint if isinstance(hint, type) and issubclass(hint, Section) else None
