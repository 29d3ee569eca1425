"""Annotations of settings that hold objects of the library: of one class, or of one of several kinds."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from geodesic.errors import InputError
from geodesic.experiment.settings.derived import DerivedSection, default_of, fields_of, said_for, section_of
from geodesic.experiment.settings.section import Section
from geodesic.registry import Registry

__all__ = ["Kinds", "Record"]


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
    return all(field in fields_of(cls) or default_of(field) is not ... for field in dataclasses.fields(cls))


def _fields(value: Any) -> dict[str, Any]:
    """Fields of an object under the names and in the words of YAML."""
    return {
        field.metadata.get("alias", field.name): said_for(field, getattr(value, field.name))
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
            raise _refusal((keys[name],), rest, getattr(section, name)) from None
        raise _refusal((), str(error), None) from None


def _no_kind(kind: Any, kinds: list[str]) -> ValidationError:
    expected = "expected one of " + ", ".join(map(repr, kinds))
    if kind is None:
        return _refusal(("kind",), f"this key is required and was not given; {expected}", kind)
    close = difflib.get_close_matches(str(kind), kinds, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return _refusal(("kind",), f"got {kind!r}; {expected}{hint}", kind)


def _refusal(location: tuple[str, ...], message: str, value: Any) -> ValidationError:
    reason = PydanticCustomError("refused", "{message}", {"message": message})
    return ValidationError.from_exception_data("settings", [InitErrorDetails(type=reason, loc=location, input=value)])
