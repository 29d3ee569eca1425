"""What every kind of data set has in common: how it is named, limited and split."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from geodesic.checks import require_fraction, require_integer
from geodesic.data.dataset import Dataset, Split
from geodesic.errors import DataError
from geodesic.registry import Registry, setting

__all__ = ["DATA_SETS", "DataSource", "ShuffledSource", "expand_path", "import_torchvision"]


@dataclass(frozen=True, kw_only=True)
class DataSource(ABC):
    """Where a data set comes from, and how it is cut into training and test rows.

    A new kind is one subclass: a frozen dataclass with `read`, registered in `DATA_SETS`.

    Args:
        limit: Keep only the first so many training rows; None keeps all.
        seed: Seed of the split, for data that come without one.

    Raises:
        InputError: A number is out of range.
    """

    limit: int | None = field(default=None, metadata=setting("keep only the first so many training rows", gt=0))
    seed: int = field(default=0, metadata=setting("seed of the split, for data without one of its own", ge=0))

    def __post_init__(self) -> None:
        if self.limit is not None:
            require_integer("limit", self.limit, least=1)
        require_integer("seed", self.seed, least=0)

    @abstractmethod
    def read(self) -> Dataset:
        """All rows, cut into training and test rows; `load` applies the limit."""

    @final
    def load(self) -> Dataset:
        """The training rows, the first `limit` of them, and the test rows.

        Raises:
            DataError: The data are absent, truncated or of a kind that cannot be used. The message names the file,
                what was found and what to do.
        """
        data = self.read()
        return Dataset(data.train.take(slice(self.limit)), data.test)


@dataclass(frozen=True, kw_only=True)
class ShuffledSource(DataSource):
    """A data set without a split of its own: a part of its rows is held out at random.

    Args:
        test_fraction: Part of the rows held out.
        limit: Keep only the first so many training rows; None keeps all.
        seed: Seed of the split.

    Raises:
        InputError: A number is out of range.
    """

    test_fraction: float = field(default=0.2, metadata=setting("part of the rows held out", gt=0, lt=1))

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction("test_fraction", self.test_fraction)

    @final
    def split_rows(self, rows: int, source: str) -> tuple[Tensor, Tensor]:
        """Indices of the rows to train on and of those held out, shuffled.

        Args:
            rows: How many there are.
            source: Where they come from, for the message.

        Raises:
            DataError: There are fewer than two rows.
        """
        n_test = min(max(1, round(self.test_fraction * rows)), rows - 1)
        if n_test < 1:
            raise DataError(f"{source}: {rows} rows cannot be split; at least 2 are needed")
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(self.seed), device="cpu")
        return order[n_test:], order[:n_test]

    @final
    def split(self, whole: Split, source: str) -> Dataset:
        """The rows in random order, a part of them held out; `source` says where they come from, for messages."""
        train, test = self.split_rows(len(whole), source)
        return Dataset(whole.take(train), whole.take(test))


DATA_SETS: Registry[DataSource] = Registry("data set")
"""Kinds of data sets by name: what `load_data` and the settings look up."""


def expand_path(path: str) -> Path:
    """The path with environment variables and `~` filled in.

    Raises:
        DataError: An environment variable is not set.
    """
    expanded = os.path.expandvars(path)
    unset = re.search(r"\$(\w+|\{[^}]*\})", expanded)
    if unset:
        name = unset.group(1).strip("{}")
        raise DataError(f"path {path!r}: the environment variable {name} is not set; set it, or write the path out")
    return Path(expanded).expanduser()


def import_torchvision(kind: str) -> Any:
    """The package torchvision, which fails to import beside a torch of another release.

    Raises:
        DataError: It cannot be imported.
    """
    try:
        import torchvision
    except (ImportError, RuntimeError) as error:
        raise DataError(
            f"{kind}: torchvision cannot be imported ({error}); install torch and torchvision "
            "together, so that their releases match"
        ) from None
    return torchvision
