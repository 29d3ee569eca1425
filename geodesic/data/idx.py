"""IDX files, as MNIST is distributed."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.data.dataset import Dataset, Split
from geodesic.data.source import DATA_SETS, DataSource, expand_path
from geodesic.errors import DataError
from geodesic.registry import setting

__all__ = ["IdxFolder"]


@DATA_SETS.register("idx")
@dataclass(frozen=True)
class IdxFolder(DataSource):
    """A folder of IDX files, plain or gzipped, as MNIST is distributed; bytes are divided by 255.

    Where it holds two pairs of images and labels, `train-...` and `t10k-...`, they are the training and the test rows.
    A single pair is cut at both ends: its first rows train, its last rows are held out.

    Args:
        path: The folder; may use environment variables.
        train: How many of the first rows train. None: all of `train-...`, or all of a single pair that are not held
            out.
        test: How many of the last rows are held out. None: all of `t10k-...`, or a fifth of a single pair.
        limit: Keep only the first so many training rows.
    """

    path: str = field(metadata=setting("the folder"))
    train: int | None = field(
        default=None,
        metadata=setting("first so many images train, where the folder has one pair of files only", gt=0),
    )
    test: int | None = field(default=None, metadata=setting("last so many images are held out", gt=0))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, count in (("train", self.train), ("test", self.test)):
            if count is not None:
                require_integer(name, count, least=1)

    def read(self) -> Dataset:
        """The rows of the files, in their order."""
        folder = expand_path(self.path)
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; check the path")
        pairs = [pair for pair in (_idx_pair(folder, prefix) for prefix in ("train", "t10k")) if pair is not None]
        if not pairs:
            raise DataError(
                f"{folder}: holds no IDX images; expected train-images-idx3-ubyte or t10k-images-idx3-ubyte, "
                "plain or .gz, and their labels"
            )
        first, last = pairs[0], pairs[-1]
        if len(pairs) == 2:
            n_train, n_test = self.train or len(first), self.test or len(last)
        else:
            n_train, n_test = self._cut(folder, len(first))
        for name, wanted, split in (("train", n_train, first), ("test", n_test, last)):
            if wanted > len(split):
                raise DataError(f"{folder}: {name}={wanted} asks for more than the {len(split)} images there")
        return Dataset(first.take(slice(n_train)), last.take(slice(len(last) - n_test, None)))

    def _cut(self, folder: Path, total: int) -> tuple[int, int]:
        """How many rows of a single pair train, and how many are held out."""
        if self.train is None:
            n_test = self.test or max(1, round(0.2 * total))
            n_train = total - n_test
        else:
            n_train, n_test = self.train, self.test or total - self.train
        if n_train < 1 or n_test < 1 or n_train + n_test > total:
            raise DataError(
                f"{folder}: train={self.train} and test={self.test} do not fit into {total} images "
                "without overlap and with at least one image each; ask for fewer"
            )
        return n_train, n_test


def _idx_pair(folder: Path, prefix: str) -> Split | None:
    images_file = _plain_or_gz(folder / f"{prefix}-images-idx3-ubyte")
    if images_file is None:
        return None
    images = _read_idx(images_file, axes=3)
    labels_file = _plain_or_gz(folder / f"{prefix}-labels-idx1-ubyte")
    labels = None
    if labels_file is not None:
        labels = _read_idx(labels_file, axes=1).long()
        if len(labels) != len(images):
            raise DataError(
                f"{labels_file}: holds {len(labels)} labels for {len(images)} images; "
                "fetch both files from the same source"
            )
    return Split(images.unsqueeze(1).float() / 255, labels)


def _plain_or_gz(file: Path) -> Path | None:
    return next((f for f in (file, file.with_name(file.name + ".gz")) if f.is_file()), None)


def _read_idx(file: Path, axes: int) -> Tensor:
    """Bytes of an IDX file: 0, 0, 8 (unsigned bytes), the number of axes; their sizes; then the data."""
    opener: Callable[..., Any] = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rb") as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: truncated or not readable ({error}); fetch it again") from None
    header = 4 + 4 * axes
    magic = content[:4]
    if magic != bytes((0, 0, 8, axes)):
        raise DataError(
            f"{file}: starts with {magic.hex() or 'nothing'} where an IDX file of bytes with {axes} axes has "
            f"{bytes((0, 0, 8, axes)).hex()}; this is another kind of file, or a damaged one: fetch it again"
        )
    if len(content) < header:
        raise DataError(f"{file}: truncated within its header, after {len(content)} bytes; fetch it again")
    shape = struct.unpack(f">{axes}I", content[4:header])
    size = math.prod(shape)
    if size == 0 or len(content) != header + size:
        raise DataError(
            f"{file}: {len(content) - header} bytes of data where its header says {size} for the shape "
            f"{shape}; the file is truncated or damaged: fetch it again"
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).reshape(shape)
