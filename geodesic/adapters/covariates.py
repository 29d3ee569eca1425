"""Covariates of cells by the names under which a model of scvi-tools knows them, as numbers that its decoder takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geodesic.checks import brief, nearest
from geodesic.errors import InputError

__all__ = ["Column", "Registered"]

_MOST_SHOWN = 8


@dataclass(frozen=True)
class Column:
    """A column of the cells' table.

    Attributes:
        name: Of the column.
        levels: The categories that the model knows, in its order; None for a column of numbers.
    """

    name: str
    levels: tuple[Any, ...] | None = None

    def read(self, argument: str, given: Any) -> Tensor:
        """Numbers of categories, or numbers as they are, of one value for all pairs or of one for each, (1,) or (P,).

        Args:
            argument: The user's argument, for messages.
            given: A value, or a list or array of P.

        Raises:
            InputError: A category is unknown, or a number is none.

        Example:
            >>> from geodesic.adapters.covariates import Column
            >>> Column("donor", ("anna", "ben")).read("batch", ["ben", "anna"])
            tensor([1, 0])
        """
        values = [given] if isinstance(given, str) else np.asarray(given, dtype=object).ravel().tolist()
        if not values:
            raise InputError(f"{argument}: expected one value, or one for each pair, got an empty list")
        if self.levels is not None:
            return torch.tensor([self._number(argument, value) for value in values])
        return torch.tensor([self._measured(argument, value) for value in values])

    def _measured(self, argument: str, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{argument}: {self.name!r} is a column of numbers, expected finite ones, got {value!r}")
        return number

    def _number(self, argument: str, value: Any) -> int:
        levels = self.levels or ()
        for number, level in enumerate(levels):
            if level == value or str(level) == str(value):
                return number
        hint = nearest(str(value), map(str, levels)) or f"give one of {self.shown()}"
        raise InputError(f"{argument}: the model knows no {value!r} in its column {self.name!r}; {hint}")

    def shown(self) -> str:
        """The first of its categories, for people."""
        levels = self.levels or ()
        shown = ", ".join(repr(str(level)) for level in levels[:_MOST_SHOWN])
        return shown + (f" and {len(levels) - _MOST_SHOWN} more" if len(levels) > _MOST_SHOWN else "")


@dataclass(frozen=True)
class Registered:
    """What a model of scvi-tools has written down of the cells that it was trained with: its registry.

    Attributes:
        genes: Their names, in the order of the outputs.
        batch: The column of batches.
        labels: The column of labels, which the decoder takes only where the dispersion depends on them.
        categories: Further columns of categories.
        numbers: Further columns of numbers.
    """

    genes: tuple[str, ...]
    batch: Column
    labels: Column
    categories: tuple[Column, ...]
    numbers: tuple[Column, ...]

    @classmethod
    def of(cls, registry: Mapping[str, Any]) -> Registered:
        """From `model.registry`.

        Example:
            >>> from geodesic.adapters.covariates import Registered
            >>> batches = {"state_registry": {"categorical_mapping": ["a", "b"], "original_key": "donor"}}
            >>> fields = {"X": {"state_registry": {"column_names": ["CD4", "CD8"]}}, "batch": batches}
            >>> Registered.of({"field_registries": fields}).batch
            Column(name='donor', levels=('a', 'b'))
        """
        fields = {key: field["state_registry"] for key, field in registry["field_registries"].items()}
        joint, numbers = fields.get("extra_categorical_covs", {}), fields.get("extra_continuous_covs", {})
        mappings = joint.get("mappings", {})
        return cls(
            tuple(map(str, fields["X"]["column_names"])),
            _categorical(fields.get("batch", {}), "batch"),
            _categorical(fields.get("labels", {}), "labels"),
            tuple(Column(str(key), tuple(mappings[key])) for key in joint.get("field_keys", ())),
            tuple(Column(str(key)) for key in numbers.get("columns", ())),
        )

    def batch_numbers(self, given: Any) -> Tensor:
        """The numbers of batches by their names, (1,) or (P,).

        Raises:
            InputError: There are several batches and none is given, or one is unknown.
        """
        if given is not None:
            return self.batch.read("batch", given)
        levels = self.batch.levels or ()
        if len(levels) > 1:
            raise InputError(
                f"batch: the model knows {len(levels)} batches ({self.batch.shown()}) and none was given; give one, "
                f"batch={str(levels[0])!r}, or a list of one for each pair"
            )
        return torch.zeros(1, dtype=torch.int64)

    def others(self, given: Any, with_labels: bool) -> dict[str, Tensor]:
        """The values of all other columns that the decoder takes, by their names, each (1,) or (P,).

        Args:
            given: By the user, by the names of columns.
            with_labels: Whether it takes the labels.

        Raises:
            InputError: A column is missing or unknown, or a value of one.
        """
        given = {} if given is None else given
        if not isinstance(given, Mapping):
            raise InputError(f"covariates: expected a mapping from names of columns to values, got {brief(given)}")
        labels = (self.labels,) if with_labels else ()
        columns = {column.name: column for column in (*self.categories, *self.numbers, *labels)}
        if unknown := [name for name in given if name not in columns]:
            known = f"it takes {', '.join(map(repr, columns))}" if columns else "leave covariates out"
            hint = nearest(str(unknown[0]), columns) or known
            raise InputError(f"covariates: the decoder of this model takes no {unknown[0]!r}; {hint}")
        if missing := [column for name, column in columns.items() if name not in given]:
            value = "0.0" if missing[0].levels is None else repr(str(missing[0].levels[0]))
            raise InputError(
                f"covariates: the decoder takes {missing[0].name!r} too, and it was not given; give "
                f"covariates={{{missing[0].name!r}: {value}, ...}}, or a list of one for each pair"
            )
        return {name: column.read(f"covariates[{name!r}]", given[name]) for name, column in columns.items()}


def _categorical(field: Mapping[str, Any], name: str) -> Column:
    levels = tuple(field.get("categorical_mapping", (0,)))
    return Column(str(field.get("original_key", name)), levels)
