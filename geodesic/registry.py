"""Classes by the word that names them in settings, in saved models and in tests.

A class registers itself under its word; whoever has to choose by that word, or to try all, looks it up here:

    LIKELIHOODS = Registry("likelihood")

    @LIKELIHOODS.register("poisson")
    @dataclass(frozen=True)
    class Poisson(Likelihood): ...

What is registered is a frozen dataclass. Its fields are its settings: their types, their defaults, and in the metadata
of a field (`setting`) what a reader of settings is told about it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from geodesic.errors import InputError

__all__ = ["Registry", "setting"]

T = TypeVar("T")
C = TypeVar("C", bound=type[Any])


class Registry(Generic[T], Mapping[str, type[T]]):
    """The classes of one sort, by kind.

    Args:
        what: The sort, in messages: "likelihood".

    Example:
        >>> from geodesic.registry import Registry
        >>> import dataclasses
        >>> SHAPES = Registry("shape")
        >>> @SHAPES.register("disc")
        ... @dataclasses.dataclass(frozen=True)
        ... class Disc:
        ...     radius: float = 1.0
        >>> SHAPES.describe(SHAPES.make("disc", radius=2.0))
        {'kind': 'disc', 'radius': 2.0}
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._classes: dict[str, type[Any]] = {}

    def register(self, kind: str) -> Callable[[C], C]:
        """A decorator that adds a frozen dataclass under a word."""

        def add(cls: C) -> C:
            if kind in self._classes:
                raise InputError(f"{self.what}: the kind {kind!r} is taken by {self._classes[kind].__name__}")
            if not dataclasses.is_dataclass(cls):
                raise InputError(f"{self.what}: expected a dataclass for the kind {kind!r}, got {cls.__name__}")
            self._classes[kind] = cls
            return cls

        return add

    def make(self, kind: str, **arguments: Any) -> T:
        """The object of a kind with these arguments.

        Raises:
            InputError: There is no such kind, or it takes other arguments.
        """
        cls = self[kind]
        try:
            return cls(**arguments)
        except TypeError as error:
            allowed = ", ".join(field.name for field in dataclasses.fields(cls)) or "none"  # type: ignore[arg-type]
            raise InputError(f"{self.what} {kind!r}: {error}; its arguments: {allowed}") from None

    def kind_of(self, value: object) -> str:
        """The word for the class of an object.

        Raises:
            InputError: Its class is not registered.
        """
        for kind, cls in self._classes.items():
            if type(value) is cls:
                return kind
        raise InputError(
            f"{self.what}: {type(value).__name__} has no kind; register the class under a word, so that it can be "
            "saved and loaded"
        )

    def describe(self, value: Any) -> dict[str, Any]:
        """The kind of an object and its fields: what `make` makes an equal one of."""
        kind = self.kind_of(value)
        return {"kind": kind} | {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}

    def restore(self, record: Mapping[str, Any]) -> T:
        """The object that `describe` described, also after a journey through JSON, where tuples become lists.

        Raises:
            InputError: There is no such kind, or it takes other arguments.
        """
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
        }
        return self.make(**fields)

    def __getitem__(self, kind: str) -> type[T]:
        if kind not in self._classes:
            raise InputError(f"{self.what}: expected one of {', '.join(map(repr, self._classes))}, got {kind!r}")
        return self._classes[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def __contains__(self, kind: object) -> bool:
        return kind in self._classes

    def __repr__(self) -> str:
        return f"Registry({self.what!r})"


def setting(
    description: str, *, words: Mapping[Any, Any] | None = None, hint: Any = None, **constraints: Any
) -> dict[str, Any]:
    """The metadata of a field that can be set in YAML: what it is, and bounds such as `gt=0` or `min_length=1`.

    Bounds are for messages about settings files; the class refuses wrong values itself, whoever gives them.

    Args:
        description: What the field is, in a few words.
        words: What YAML says, and the value that it stands for: for fields that hold an object. `{True: LBFGS(),
            False: None}`, say.
        hint: The type of what YAML says, where the field holds more than that: tensors, say.
        constraints: Bounds, by pydantic's names.
    """
    more = {"words": words, "hint": hint}
    return {"description": description, **constraints} | {name: x for name, x in more.items() if x is not None}
