"""Sections of settings made from classes of the library: their fields say what YAML may set.

A class that registers itself needs no line here. Which fields can be set, between which bounds, is in the metadata of
the fields (`geodesic.registry.setting`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import Field, Strict, ValidationError, WrapValidator, create_model

from geodesic.experiment.settings.section import Section

__all__ = ["DerivedSection", "default_of", "fields_of", "said_for", "section_of"]


class DerivedSection(Section):
    """The settings of a class, by the names of its fields."""

    makes: ClassVar[type[Any]]

    def build(self, **more: Any) -> Any:
        """The object with these settings.

        Args:
            more: Fields that cannot be set in YAML.

        Raises:
            InputError: The class refuses a value.
        """
        values = {field.name: getattr(self, field.name) for field in fields_of(self.makes)}
        words = {field.name: field.metadata["words"] for field in fields_of(self.makes) if "words" in field.metadata}
        return self.makes(**values | {name: meant[values[name]] for name, meant in words.items()}, **more)


def fields_of(cls: type[Any]) -> list[dataclasses.Field[Any]]:
    """The fields of a dataclass that can be set in YAML: those that describe themselves."""
    return [field for field in dataclasses.fields(cls) if "description" in field.metadata]


_made: dict[tuple[type[Any], str | None, type[DerivedSection]], type[DerivedSection]] = {}


def section_of(
    cls: type[Any], kind: str | None = None, base: type[DerivedSection] = DerivedSection
) -> type[DerivedSection]:
    """The section of settings of a frozen dataclass.

    Args:
        cls: The class.
        kind: The word for it, if it is one of several.
        base: Keys that the section has besides.
    """
    if (cls, kind, base) in _made:
        return _made[cls, kind, base]
    hints = get_type_hints(cls, include_extras=True)
    keys: dict[str, Any] = {} if kind is None else {"kind": (_word(kind), ...)}
    for field in fields_of(cls):
        limits = {name: limit for name, limit in field.metadata.items() if name not in ("words", "hint")}
        words, written = field.metadata.get("words"), field.metadata.get("hint", hints[field.name])
        if words is None:
            hint = _from_lists(written)
            if _takes_lists_too(written):
                hint = _annotated(hint, WrapValidator(_complain_once(field.metadata["description"])))
            keys[field.name] = (hint, Field(default_of(field), **limits))
        else:
            said = bool if set(words) == {True, False} else _word(*words)
            keys[field.name] = (said, Field(said_for(field, default_of(field)), **limits))
    section: type[DerivedSection] = create_model(cls.__name__, __base__=base, __doc__=cls.__doc__, **keys)
    section.makes = cls
    _made[cls, kind, base] = section
    return section


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default of a field; `...` where there is none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return ... if field.default is dataclasses.MISSING else field.default


def said_for(field: dataclasses.Field[Any], value: Any) -> Any:
    """What YAML says for the value of a field."""
    words = field.metadata.get("words")
    if words is None or value is ...:
        return value.tolist() if "hint" in field.metadata and hasattr(value, "tolist") else value
    return next(word for word, meant in words.items() if meant == value)


def _from_lists(hint: Any) -> Any:
    """The type with tuples that may be given as lists: YAML has no tuples."""
    forms = get_args(hint)
    if get_origin(hint) is Annotated:
        return _annotated(_from_lists(forms[0]), *forms[1:])
    if get_origin(hint) is tuple:
        return _annotated(tuple.__class_getitem__(tuple(map(_from_lists, forms))), Strict(False))
    if _takes_lists_too(hint):
        union: Any = Union
        return union[tuple(map(_from_lists, forms))]
    return hint


def _takes_lists_too(hint: Any) -> bool:
    """Whether it is a union with tuples among others."""
    return get_origin(hint) in (Union, UnionType) and any(get_origin(form) is tuple for form in get_args(hint))


def _complain_once(description: str) -> Callable[[Any, Callable[[Any], Any]], Any]:
    """One complaint about a key that takes a list or something else; Pydantic has one for each."""

    def read(value: Any, read_as_one: Callable[[Any], Any]) -> Any:
        try:
            return read_as_one(value)
        except ValidationError:
            raise ValueError(f"expected {description}") from None

    return read


def _annotated(hint: Any, *notes: Any) -> Any:
    annotated: Any = Annotated
    return annotated[(hint, *notes)]


def _word(*words: Any) -> Any:
    literal: Any = Literal
    return literal[words]
