"""From the settings of a data set to its rows: bundled digits, MNIST, arrays and IDX files."""

import gzip
import math
import os
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.config import ArrayData, DataSettings, DigitsData, IdxData, TorchvisionData
from geodesic.errors import DataError

__all__ = ["Dataset", "Split", "load_data"]


@dataclass(frozen=True)
class Split:
    """Rows of a data set, with their labels if there are any.

    Args:
        values: The rows, (N, *event), float32; images are (N, channels, height, width).
        labels: One integer a row, (N,), or None.

    Raises:
        DataError: `values` are not float32 rows, or `labels` are not one integer a row.

    Example:
        >>> import torch, geodesic
        >>> len(geodesic.Split(torch.zeros(3, 1, 8, 8), labels=None))
        3
    """

    values: Float[Tensor, "N *event"]
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.values, Tensor) or self.values.dtype != torch.float32 or self.values.ndim < 2:
            raise DataError(f"values: expected a float32 tensor (N, *event), got {_describe(self.values)}")
        if self.labels is None:
            return
        integral = isinstance(self.labels, Tensor) and self.labels.dtype in _LABEL_TYPES
        if not integral or self.labels.shape != self.values.shape[:1]:
            raise DataError(
                f"labels: expected {len(self.values)} integers, one for each row of values, "
                f"got {_describe(self.labels)}"
            )

    def __len__(self) -> int:
        return len(self.values)


_LABEL_TYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@dataclass(frozen=True)
class Dataset:
    """Rows to train on and rows held out.

    Args:
        train: Rows that the model sees.
        test: Rows of the same shape that it never sees.

    Raises:
        DataError: The rows of the two splits differ in shape.

    Example:
        >>> import torch, geodesic
        >>> split = geodesic.Split(torch.zeros(3, 1, 8, 8))
        >>> geodesic.Dataset(train=split, test=split).event_shape
        (1, 8, 8)
    """

    train: Split
    test: Split

    def __post_init__(self) -> None:
        train, test = self.train.values.shape[1:], self.test.values.shape[1:]
        if train != test:
            raise DataError(f"test: expected rows of shape {tuple(train)} as in train, got {tuple(test)}")

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one row, without the batch axis."""
        return tuple(self.train.values.shape[1:])


def load_data(settings: DataSettings) -> Dataset:
    """Load the data set that the settings describe.

    Rows of bytes are divided by 255 and scikit-learn's digits by 16, so that pixels lie in [0, 1]; other
    arrays stay as they are.

    Args:
        settings: The `data` section of the settings. Its `path` may use environment variables.

    Returns:
        Train and test rows, float32. The same settings give the same rows in the same order.

    Raises:
        DataError: The data are absent, truncated or of a kind that cannot be used. The message names the
            file, what was found and what to do.

    Example:
        >>> from geodesic import load_data
        >>> from geodesic.config import DigitsData
        >>> data = load_data(DigitsData(kind="digits"))
        >>> len(data.train), len(data.test), data.event_shape
        (1438, 359, (1, 8, 8))
    """
    match settings:
        case DigitsData():
            data = _digits(settings)
        case TorchvisionData():
            data = _torchvision(settings)
        case ArrayData():
            data = _array(settings)
        case IdxData():
            data = _idx(settings)
        case _:
            raise DataError(f"settings: expected the data section of settings, got {_describe(settings)}")
    return Dataset(_rows(data.train, slice(settings.limit)), data.test)


# --- kinds ------------------------------------------------------------------------------------


def _digits(settings: DigitsData) -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    values = torch.from_numpy(bunch.images / 16).float().unsqueeze(1)
    whole = Split(values, torch.from_numpy(bunch.target).long())
    return _shuffled(whole, settings.test_fraction, settings.seed, "the bundled digits")


def _torchvision(settings: TorchvisionData) -> Dataset:
    folder = _expand(settings.path)
    try:
        from torchvision.datasets import MNIST, FashionMNIST
    except (ImportError, RuntimeError) as error:
        raise DataError(
            f"{settings.kind}: torchvision cannot be imported ({error}); install torch and torchvision "
            "together, so that their releases match"
        ) from None
    kind = MNIST if settings.kind == "mnist" else FashionMNIST

    def part(train: bool) -> Split:
        try:
            found = kind(str(folder), train=train, download=settings.download)
        except (RuntimeError, OSError, EOFError, zlib.error, ValueError) as error:
            remedy = (
                "check the connection, or copy the files there and set data.download=false"
                if settings.download
                else f"set data.download=true, or copy the files to {folder / kind.__name__ / 'raw'}"
            )
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"{folder}: cannot get {settings.kind} there ({reason}); {remedy}") from None
        return Split(found.data.unsqueeze(1).float() / 255, found.targets.long())

    return Dataset(part(train=True), part(train=False))


def _array(settings: ArrayData) -> Dataset:
    file = _expand(settings.path)
    values, labels = _read_array(file)
    if values.dtype.kind not in "fiub":
        raise DataError(
            f"{file}: values of dtype {values.dtype} cannot be used; save numbers: bytes from 0 to 255, or floats"
        )
    if values.ndim not in (2, 3, 4) or values.size == 0:
        raise DataError(
            f"{file}: values of shape {values.shape} cannot be used; "
            "save vectors (N, D) or images (N, H, W) or (N, C, H, W)"
        )
    if len(values) < 2:
        raise DataError(f"{file}: 1 row cannot be split; save at least 2, one to train and one to hold out")
    # Writing past float32's range gives infinities, which the next check reports.
    with np.errstate(over="ignore"):
        floats: np.ndarray = values.astype(np.float32)
    bad = ~np.isfinite(floats)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"{file}: {int(bad.sum())} values are NaN or infinite in float32, the first at {first}; "
            "remove or replace them"
        )
    if values.dtype == np.uint8:
        floats = floats / 255
    tensor = torch.from_numpy(np.ascontiguousarray(floats))
    if tensor.ndim == 3:
        tensor = tensor.unsqueeze(1)
    if labels is not None:
        if labels.dtype.kind not in "iu" or labels.shape != (len(values),):
            raise DataError(
                f"{file}: labels of shape {labels.shape} and dtype {labels.dtype} cannot be used; "
                f"save {len(values)} integers, one for each row of values"
            )
        labels = labels.astype(np.int64)
    whole = Split(tensor, None if labels is None else torch.from_numpy(labels))
    return _shuffled(whole, settings.test_fraction, settings.seed, str(file))


def _read_array(file: Path) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        # numpy leaves a file open that it finds truncated, unless it was opened here.
        with file.open("rb") as stream:
            found = np.load(stream, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found, None
            with found:
                if "values" not in found.files:
                    raise DataError(
                        f"{file}: holds the arrays {', '.join(found.files) or 'none'}; "
                        "save the rows under the name `values` (and labels, if any, under `labels`)"
                    )
                return found["values"], found["labels"] if "labels" in found.files else None
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; check data.path") from None
    except DataError:
        raise
    except Exception as error:  # a foreign or damaged file can make numpy fail in any way
        raise DataError(
            f"{file}: not a readable array ({error}); save it again with numpy.save or numpy.savez, without objects"
        ) from None


def _idx(settings: IdxData) -> Dataset:
    folder = _expand(settings.path)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check data.path")
    pairs = [pair for pair in (_idx_pair(folder, prefix) for prefix in ("train", "t10k")) if pair is not None]
    if not pairs:
        raise DataError(
            f"{folder}: holds no IDX images; expected train-images-idx3-ubyte or t10k-images-idx3-ubyte, "
            "plain or .gz, and their labels"
        )
    first, last = pairs[0], pairs[-1]
    n_test = settings.test
    if len(pairs) == 2:
        n_train = settings.train or len(first)
        n_test = n_test or len(last)
    else:
        total = len(first)
        if settings.train is None:
            n_test = n_test or max(1, round(0.2 * total))
            n_train = total - n_test
        else:
            n_train = settings.train
            n_test = n_test or total - n_train
        if n_train < 1 or n_test < 1 or n_train + n_test > total:
            raise DataError(
                f"{folder}: train={settings.train} and test={settings.test} do not fit into {total} images "
                "without overlap and with at least one image each; ask for fewer"
            )
    for name, wanted, split in (("train", n_train, first), ("test", n_test, last)):
        if wanted > len(split):
            raise DataError(f"{folder}: {name}={wanted} asks for more than the {len(split)} images there")
    return Dataset(_rows(first, slice(n_train)), _rows(last, slice(len(last) - n_test, None)))


# --- IDX files --------------------------------------------------------------------------------


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


# --- shared -----------------------------------------------------------------------------------


def _expand(path: str) -> Path:
    expanded = os.path.expandvars(path)
    unset = re.search(r"\$(\w+|\{[^}]*\})", expanded)
    if unset:
        name = unset.group(1).strip("{}")
        raise DataError(f"path {path!r}: the environment variable {name} is not set; set it, or write the path out")
    return Path(expanded).expanduser()


def _rows(split: Split, rows: slice | Tensor) -> Split:
    return Split(split.values[rows], None if split.labels is None else split.labels[rows])


def _shuffled(whole: Split, test_fraction: float, seed: int, source: str) -> Dataset:
    n_test = min(max(1, round(test_fraction * len(whole))), len(whole) - 1)
    if n_test < 1:
        raise DataError(f"{source}: {len(whole)} rows cannot be split; at least 2 are needed")
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))
    return Dataset(_rows(whole, order[n_test:]), _rows(whole, order[:n_test]))


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return type(value).__name__
