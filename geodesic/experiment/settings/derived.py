"""Sections of settings made from classes of the library: their fields say what YAML may set.

A class that registers itself needs no line here. Which fields can be set, between which bounds, is in the metadata of
the fields (`geodesic.registry.setting`).
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import Field, GetCoreSchemaHandler, Strict, ValidationError, WrapValidator, create_model
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from geodesic.errors import InputError
from geodesic.experiment.settings.section import Section
from geodesic.registry import Registry

__all__ = ["DerivedSection", "Kinds", "Record", "fields_of", "section_of"]


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
        limits = {name: limit for name, limit in field.metadata.items() if name != "words"}
        words = field.metadata.get("words")
        if words is None:
            hint = _from_lists(hints[field.name])
            if _takes_lists_too(hints[field.name]):
                hint = _annotated(hint, WrapValidator(_complain_once(field.metadata["description"])))
            keys[field.name] = (hint, Field(_default(field), **limits))
        else:
            said = bool if set(words) == {True, False} else _word(*words)
            keys[field.name] = (said, Field(_said(field, _default(field)), **limits))
    section: type[DerivedSection] = create_model(cls.__name__, __base__=base, __doc__=cls.__doc__, **keys)
    section.makes = cls
    _made[cls, kind, base] = section
    return section


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return ... if field.default is dataclasses.MISSING else field.default


def _said(field: dataclasses.Field[Any], value: Any) -> Any:
    """What YAML says for the value of a field."""
    words = field.metadata.get("words")
    return value if words is None or value is ... else next(word for word, meant in words.items() if meant == value)


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


# --- objects in settings ----------------------------------------------------------------------


class Record:
    """Annotates a key of settings whose value is an object of one class, given as a mapping of its fields.

    Args:
        cls: A frozen dataclass.
    """

    def __init__(self, cls: type[Any]) -> None:
        self.cls = cls

    def section(self, value: Any) -> type[Section] | None:
        """The section that a value is read as; None where it is read as none."""
        return section_of(self.cls)

    def holds(self, value: Any) -> bool:
        """Whether a value is what a mapping would be read as."""
        return type(value) is self.cls

    def read(self, value: Any) -> Any:
        """The object that a value of a settings file stands for.

        Raises:
            ValidationError: Fields are refused, by their types or by the class.
        """
        return _build(section_of(self.cls).model_validate(value))

    def write(self, value: Any) -> Any:
        """What a settings file says for an object."""
        return _fields(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any) -> Any:
            return value if self.holds(value) else self.read(value)

        written = core_schema.plain_serializer_function_ser_schema(self.write)
        return core_schema.no_info_plain_validator_function(read, serialization=written)


class Kinds:
    """Annotates a key of settings whose value is of one of several kinds, given as a word or a mapping.

    Kinds are looked up when a file is read: a class that is registered later is one of them.

    Args:
        registries: Where the classes are registered; of two that share a word the first counts.
        default: The kind of a mapping that names none.
        optional: Whether there may be nothing.
        base: Keys that a section has besides those of its class. Then the value is the section, and its `build` makes
            the object: there is something in it that only the model knows.
        more: Sections without a class of their own, by kind.
    """

    def __init__(
        self,
        *registries: Registry[Any],
        default: str | None = None,
        optional: bool = False,
        base: type[DerivedSection] | None = None,
        more: Mapping[str, type[Section]] | None = None,
    ) -> None:
        self.registries, self.default, self.optional = registries, default, optional
        self.base, self.more = base, more or {}

    def kinds(self) -> list[str]:
        """All words, in order."""
        words = {*self.more, *(kind for registry in self.registries for kind in registry)}
        return sorted(kind for kind in words if kind in self.more or _can_be_made(self._class(kind)))

    def section(self, value: Any) -> type[Section] | None:
        """The section that a value is read as; None where it is read as none."""
        kind = value.get("kind", self.default) if isinstance(value, dict) else value
        if not isinstance(kind, str) or kind not in self.kinds():
            return None
        return self.more.get(kind) or section_of(self._class(kind), kind, self.base or DerivedSection)

    def holds(self, value: Any) -> bool:
        """Whether a value is what a mapping would be read as."""
        if value is None:
            return self.optional
        if self.base is not None:
            return isinstance(value, Section)
        return any(type(value) is cls for registry in self.registries for cls in registry.values())

    def read(self, value: Any) -> Any:
        """The object, or the section, that a value of a settings file stands for.

        Raises:
            ValidationError: There is no such kind, or its fields are refused, by their types or by the class.
        """
        if isinstance(value, str) and self.base is None:
            value = {"kind": value}
        if not isinstance(value, dict):
            word = "a kind in one word, or " if self.base is None else ""
            raise ValueError(f"expected {word}a mapping of settings with `kind` among them")
        kind = value.get("kind", self.default)
        section = self.section(value)
        if section is None:
            raise _no_kind(kind, self.kinds())
        read = section.model_validate(value | {"kind": kind})
        if not isinstance(read, DerivedSection) or kind in self.more:
            return read
        if self.base is None:
            return _build(read)
        if len(fields_of(read.makes)) == len(dataclasses.fields(read.makes)):
            _build(read)  # refused now rather than when it is needed
        return read

    def write(self, value: Any) -> Any:
        """What a settings file says for it: the kind alone, if there is no more to say."""
        if value is None:
            return None
        if isinstance(value, Section):
            return value.model_dump(mode="json", by_alias=True)
        kind = next(kind for registry in self.registries for kind, cls in registry.items() if type(value) is cls)
        fields = _fields(value)
        return {"kind": kind} | fields if fields else kind

    def _class(self, kind: str) -> type[Any]:
        return next(registry[kind] for registry in self.registries if kind in registry)

    __get_pydantic_core_schema__ = Record.__get_pydantic_core_schema__


def _can_be_made(cls: type[Any]) -> bool:
    """Whether YAML can give all that a class asks for."""
    return all(field in fields_of(cls) or _default(field) is not ... for field in dataclasses.fields(cls))


def _fields(value: Any) -> dict[str, Any]:
    """Fields of an object under the names and in the words of YAML."""
    return {
        field.metadata.get("alias", field.name): _said(field, getattr(value, field.name))
        for field in fields_of(type(value))
    }


def _build(section: DerivedSection) -> Any:
    try:
        return section.build()
    except InputError as error:
        # "epochs: expected ..., got ..." belongs to the key `epochs`.
        name, _, rest = str(error).partition(": ")
        keys = {field.name: field.metadata.get("alias", field.name) for field in fields_of(section.makes)}
        if name in keys:
            raise _refusal("refused", (keys[name],), rest, getattr(section, name)) from None
        raise _refusal("refused", (), str(error), None) from None


def _no_kind(kind: Any, kinds: list[str]) -> ValidationError:
    expected = "expected one of " + ", ".join(map(repr, kinds))
    if kind is None:
        return _refusal("refused", ("kind",), f"this key is required and was not given; {expected}", kind)
    close = difflib.get_close_matches(str(kind), kinds, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return _refusal("refused", ("kind",), f"got {kind!r}; {expected}{hint}", kind)


def _refusal(sort: str, location: tuple[str, ...], message: str, value: Any) -> ValidationError:
    reason = PydanticCustomError("refused", "{message}", {"message": message})
    return ValidationError.from_exception_data(sort, [InitErrorDetails(type=reason, loc=location, input=value)])
