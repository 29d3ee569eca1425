"""Names of arguments that nothing takes: what to write instead, said by the function that was called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from geodesic.checks import brief
from geodesic.errors import InputError

__all__ = ["by_name", "mistaken", "renamed"]

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")


def renamed(**old: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that it refuses old names of its arguments, and says what they are now.

    Args:
        old: By each old name, what to write now, see `mistaken`.
    """
    return mistaken(**{name: f"it is `{new}` now" for name, new in old.items()})


def mistaken(**hints: str | Callable[[Any], str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that it refuses arguments that it never takes, and says of each what to write.

    Args:
        hints: By each name, what to do, or a function that says so of the value. A name that the function takes is
            left alone.

    Example:
        >>> from geodesic.keywords import mistaken
        >>> @mistaken(start="a mean begins at `initial_point`")
        ... def mean(points, *, initial_point=None): ...
        >>> mean([1.0], start=0.5)
        Traceback (most recent call last):
            ...
        geodesic.errors.InputError: start: unknown argument; a mean begins at `initial_point`
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        refused = hints.keys() - inspect.signature(function).parameters.keys()

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name in refused:
                    hint = hints[name]
                    said = hint if isinstance(hint, str) else hint(kwargs[name])
                    raise InputError(f"{name}: unknown argument; {said}")
            return function(*args, **kwargs)

        return call

    return decorate


def by_name(example: str, **hints: str) -> Callable[[type[C]], type[C]]:
    """Decorate a record of settings so that it refuses settings without names, and those of other records.

    Args:
        example: How to write it.
        hints: See `mistaken`.
    """

    def decorate(record: type[C]) -> type[C]:
        fill: Any = mistaken(**hints)(record.__init__)

        @functools.wraps(fill)
        def init(self: C, *args: Any, **settings: Any) -> None:
            if args:
                raise InputError(f"{record.__name__}: settings have names, as in {example}, got {brief(args[0])}")
            fill(self, **settings)

        record.__init__ = init  # type: ignore[method-assign,assignment]
        return record

    return decorate
