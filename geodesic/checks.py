"""What arguments are refused for, said once: integers, ranges, tensors that do not go together."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

from geodesic.errors import InputError

__all__ = [
    "is_integer",
    "is_number",
    "require_choice",
    "require_fraction",
    "require_integer",
    "require_nonnegative",
    "require_positive",
]


def require_integer(name: str, value: object, least: int | None = None, most: int | None = None) -> None:
    """Refuse what is no integer, or lies outside a range; True and False are no integers.

    Raises:
        InputError: With the argument's name, what was expected and what was received.

    Example:
        >>> from geodesic.checks import require_integer
        >>> require_integer("segments", 32, least=2)
    """
    whole = is_integer(value)
    if whole and (least is None or value >= least) and (most is None or value <= most):  # type: ignore[operator]
        return
    if least is not None and most is not None:
        expected = f"an integer from {least} to {most}"
    elif least is not None:
        expected = f"an integer of at least {least}"
    elif most is not None:
        expected = f"an integer of at most {most}"
    else:
        expected = "an integer"
    raise InputError(f"{name}: expected {expected}, got {value!r}")


def is_integer(value: object) -> TypeGuard[int]:
    """Whether it is an integer; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is an integer or a float, not a boolean and not NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def require_positive(name: str, value: Any) -> None:
    """Refuse what is no finite number above 0.

    Raises:
        InputError: With the argument's name, what was expected and what was received.
    """
    if not (is_number(value) and 0 < value < math.inf):
        raise InputError(f"{name}: expected a positive number, got {value!r}")


def require_nonnegative(name: str, value: Any) -> None:
    """Refuse what is no finite number of at least 0.

    Raises:
        InputError: With the argument's name, what was expected and what was received.
    """
    if not (is_number(value) and 0 <= value < math.inf):
        raise InputError(f"{name}: expected a finite number of at least 0, got {value!r}")


def require_fraction(name: str, value: Any) -> None:
    """Refuse what is no number between 0 and 1, both excluded.

    Raises:
        InputError: With the argument's name, what was expected and what was received.
    """
    if not (is_number(value) and 0 < value < 1):
        raise InputError(f"{name}: expected a number between 0 and 1, got {value!r}")


def require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse what is not one of a few words.

    Raises:
        InputError: With the argument's name, the words and what was received.
    """
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")
