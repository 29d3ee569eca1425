"""What a model returns, found out on a call with a few points: which part of it counts, and what that means."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.distributions import Distribution

from geodesic.adapters.meaning import PAIRS, SINGLE, Meaning, meaning_of_distribution, meaning_of_word, plain
from geodesic.checks import nearest
from geodesic.errors import DecoderError, InputError
from geodesic.geometry.refusals import Part, described, parts_of, refuse_output

__all__ = ["Output", "Reading", "reading_of"]

Output = str | int | Callable[[Any], Any] | None

_NAMES = ("logits", "sample", "recon_x", "reconstruction", "mean")  # of the parts that count, in other libraries


@dataclass(frozen=True)
class Reading:
    """How to read what a model returns.

    Attributes:
        take: The part of it that counts.
        meaning: What that is.
        where: Which part, for people: "['loc'] of a dict"; "" for the whole.
    """

    take: Callable[[Any], Any]
    meaning: Meaning
    where: str

    def __call__(self, value: Any) -> Tensor:
        return self.meaning.parameters(self.take(value))

    def __repr__(self) -> str:
        return f"{self.meaning.words}{f' from {self.where}' if self.where else ''}"


def reading_of(value: Any, output: Output, count: int) -> Reading:
    """The reading of what a model returned for so many points.

    Args:
        value: What it returned.
        output: What the user says: "logits", "probabilities", "mean", "mean_and_std" or "mean_and_log_variance"; the
            key, attribute or number of a part; or a function. None: to be found out.
        count: Of the points.

    Raises:
        DecoderError: Nothing in it is usable, or several parts are.
        InputError: There is no such part.
    """
    if isinstance(output, str | int | None):
        found = _chosen(value, output, count)
    else:
        found = _Found(output, output(value), "output=")
    meaning = _meaning(found)
    reading = Reading(found.take, meaning, found.where)
    refuse_output("model", reading(value), count)
    return reading


@dataclass(frozen=True)
class _Found:
    """The part that counts: how to take it, what it was, where it is, and the word that says what it means."""

    take: Callable[[Any], Any]
    part: Any
    where: str = ""
    word: str | None = None


def _meaning(found: _Found) -> Meaning:
    if found.word is not None:
        return meaning_of_word(found.word, found.part)
    if isinstance(found.part, Distribution):
        return meaning_of_distribution(found.part)
    if isinstance(found.part, Tensor):
        return plain()
    raise DecoderError(f"output: expected a tensor or a distribution, got {described(found.part)} from {found.where}")


def _chosen(value: Any, output: str | int | None, count: int) -> _Found:
    """The part that the user names, or that is known by its name or alone is usable."""
    if isinstance(value, Distribution):
        return _in_distribution(value, output)
    parts = [] if isinstance(value, Tensor) else parts_of(value)
    named = next((part for part in parts if part.name == output), None)
    if named is None and output not in (None, *SINGLE, *PAIRS):
        hint = nearest(str(output), (*SINGLE, *PAIRS, *(str(part.name) for part in parts)))
        raise InputError(
            f"output: the model returned no part {output!r}, but {described(value)}; {f'{hint} or ' if hint else ''}"
            f"{_choices(parts)}"
        )
    word = output if isinstance(output, str) and output in (*SINGLE, *PAIRS) else None
    if isinstance(value, Tensor) or word in PAIRS:
        return _Found(_whole, value, word=word)
    part = named or _known(value, parts, count)
    where = f"{part.access} of a {type(value).__name__}"
    if isinstance(part.value, Distribution):
        inner = _in_distribution(part.value, None if named else output)
        return _Found(_Then(part.get, inner.take), inner.part, where, inner.word)
    if word is None and part.name in SINGLE:
        word = str(part.name)  # other libraries mean the same by it
    return _Found(part.get, part.value, where, word)


def _in_distribution(value: Distribution, output: str | int | None) -> _Found:
    """The distribution as it is, or its mean."""
    if output is None:
        return _Found(_whole, value)
    if output != "mean":
        raise InputError(
            f"output: the model returned the distribution {type(value).__name__}, and got output={output!r}; leave it "
            'out for the geometry of the distribution, or give output="mean", or a function of the distribution'
        )
    try:
        return _Found(operator.attrgetter("mean"), value.mean, f".mean of a {type(value).__name__}", "mean")
    except NotImplementedError:
        raise InputError(
            f"output: the distribution {type(value).__name__} has no mean; give a function of it"
        ) from None


def _known(value: Any, parts: list[Part], count: int) -> Part:
    """The part that counts in what a model returned."""
    if not parts:
        refuse_output("model", value, count)
    usable = [part for part in parts if _is_usable(part.value, count)]
    if known := [part for name in _NAMES for part in usable if part.name == name]:
        return known[0]
    if usable and (len(usable) == 1 or isinstance(usable[0].name, int)):  # of a plain tuple the first
        return usable[0]
    raise DecoderError(
        f"output: the model returned {described(value)}, and {'several' if usable else 'none'} of it could be the "
        f"output; {_choices(usable)}"
    )


def _is_usable(part: Any, count: int) -> bool:
    """Whether it is a distribution, or a tensor of floating point numbers with one row a point."""
    if isinstance(part, Distribution):
        return True
    return isinstance(part, Tensor) and part.is_floating_point() and part.shape[:1] == (count,) and part.numel() > 0


def _choices(parts: list[Part]) -> str:
    """What to pass instead, in words."""
    names = [repr(part.name) for part in parts if isinstance(part.value, Tensor | Distribution)]
    named = f"output={' or output='.join(names[:6])}, or " if names else ""
    return f"give {named}output=lambda x: ... that returns a tensor (N, ...) or a distribution"


def _whole(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class _Then:
    """One function after another."""

    first: Callable[[Any], Any]
    second: Callable[[Any], Any]

    def __call__(self, value: Any) -> Any:
        return self.second(self.first(value))
