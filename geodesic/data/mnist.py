"""MNIST and Fashion-MNIST through torchvision."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

from geodesic.data.dataset import Dataset, Split
from geodesic.data.source import DATA_SETS, DataSource, expand_path, import_torchvision
from geodesic.errors import DataError
from geodesic.registry import setting

__all__ = ["MNIST", "FashionMNIST"]


@dataclass(frozen=True)
class _Torchvision(DataSource):
    """A data set of torchvision that comes with its own split; bytes are divided by 255."""

    path: str = field(default="data", metadata=setting("folder for the downloaded files"))
    download: bool = field(default=True, metadata=setting("whether absent files are downloaded"))

    @abstractmethod
    def _dataset(self, datasets: Any) -> Any:
        """The class among torchvision's data sets."""

    def read(self) -> Dataset:
        folder, kind = expand_path(self.path), DATA_SETS.kind_of(self)
        dataset = self._dataset(import_torchvision(kind).datasets)

        def part(train: bool) -> Split:
            try:
                found = dataset(str(folder), train=train, download=self.download)
            except (RuntimeError, OSError, EOFError, zlib.error, ValueError) as error:
                remedy = (
                    "check the connection, or copy the files there and set download=false"
                    if self.download
                    else f"set download=true, or copy the files to {folder / dataset.__name__ / 'raw'}"
                )
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise DataError(f"{folder}: cannot get {kind} there ({reason}); {remedy}") from None
            return Split(found.data.unsqueeze(1).float() / 255, found.targets.long())

        return Dataset(part(train=True), part(train=False))


@DATA_SETS.register("mnist")
@dataclass(frozen=True)
class MNIST(_Torchvision):
    """MNIST through torchvision: 60,000 and 10,000 handwritten digits, 28 x 28, downloaded at first use.

    Args:
        path: Folder for the downloaded files; may use environment variables.
        download: Whether absent files are downloaded.
        limit: Keep only the first so many training rows.
    """

    def _dataset(self, datasets: Any) -> Any:
        return datasets.MNIST


@DATA_SETS.register("fashion_mnist")
@dataclass(frozen=True)
class FashionMNIST(_Torchvision):
    """Fashion-MNIST through torchvision: 60,000 and 10,000 pictures of clothes, 28 x 28, downloaded at first use.

    Args:
        path: Folder for the downloaded files; may use environment variables.
        download: Whether absent files are downloaded.
        limit: Keep only the first so many training rows.
    """

    def _dataset(self, datasets: Any) -> Any:
        return datasets.FashionMNIST
