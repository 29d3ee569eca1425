"""From the settings of a data set to its rows: bundled digits, MNIST, arrays, IDX files and folders of images."""

import gzip
import math
import os
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader

from geodesic.errors import DataError
from geodesic.experiment.settings import ArrayData, DataSettings, DigitsData, IdxData, ImageFolderData, TorchvisionData

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
    arrays stay as they are. So are images of a folder, of which transparent pixels become white, 16 bits
    become 8, and photographs stand upright.

    Args:
        settings: The `data` section of the settings. Its `path` may use environment variables.

    Returns:
        Train and test rows, float32. The same settings give the same rows in the same order.

    Raises:
        DataError: The data are absent, truncated or of a kind that cannot be used. The message names the
            file, what was found and what to do.

    Warns:
        UserWarning: Images of a folder were left out, which was asked for by `corrupt: skip`.

    Example:
        >>> from geodesic import load_data
        >>> from geodesic.experiment.settings import DigitsData
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
        case ImageFolderData():
            data = _image_folder(settings)
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
    datasets = _import_torchvision(settings.kind).datasets
    kind = datasets.MNIST if settings.kind == "mnist" else datasets.FashionMNIST

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


def _image_folder(settings: ImageFolderData) -> Dataset:
    folder = _expand(settings.path)
    files, labels = _image_files(folder)
    # Files are split, not images: a file that cannot be read leaves all others where they are.
    train, test = _split_rows(len(files), settings.test_fraction, settings.seed, str(folder))
    train = train[: settings.limit]
    chosen = [*train.tolist(), *test.tolist()]
    images: dict[int, np.ndarray] = {}
    unreadable: list[str] = []
    for row, image in zip(chosen, _decode([files[row] for row in chosen], settings), strict=True):
        if isinstance(image, str):
            unreadable.append(f"{files[row]} ({image})")
        else:
            images[row] = image
    if unreadable and settings.corrupt == "refuse":
        others = f", and so are {len(unreadable) - 1} more" if len(unreadable) > 1 else ""
        raise DataError(
            f"{unreadable[0]}: not a readable image{others}; replace or remove what is damaged, or leave it out "
            "with data.corrupt=skip"
        )
    if unreadable:
        warnings.warn(
            f"{folder}: left out {len(unreadable)} of {len(chosen)} images that cannot be read, the first of them "
            f"{unreadable[0]}",
            stacklevel=3,
        )
    sizes = {image.shape[1:]: row for row, image in images.items()}  # and one image of each
    if len(sizes) > 1:
        (one, i), (other, j) = list(sizes.items())[:2]
        raise DataError(
            f"{folder}: images differ in size, height x width: {files[i].name} is {one[0]} x {one[1]}, "
            f"{files[j].name} is {other[0]} x {other[1]}; set data.size to bring all to one size"
        )

    def part(name: str, rows: Tensor) -> Split:
        kept = [row for row in rows.tolist() if row in images]
        if not kept:
            raise DataError(f"{folder}: none of the {len(rows)} {name} images can be read; replace them")
        values = torch.from_numpy(np.stack([images[row] for row in kept])).float().div_(255)
        return Split(values, None if labels is None else torch.tensor([labels[row] for row in kept]))

    return Dataset(part("train", train), part("test", test))


# --- image files ------------------------------------------------------------------------------


def _image_files(folder: Path) -> tuple[list[Path], list[int] | None]:
    """The images of a folder in an order that depends on their names alone, and the classes they are in."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check data.path")
    datasets = _import_torchvision("image_folder").datasets
    extensions = datasets.folder.IMG_EXTENSIONS
    loose = sorted(file for file in folder.iterdir() if file.is_file() and file.suffix.lower() in extensions)
    in_classes: list[tuple[str, int]] = []
    if any(entry.is_dir() for entry in folder.iterdir()):
        in_classes = datasets.ImageFolder(str(folder), allow_empty=True).samples
    if loose and in_classes:
        raise DataError(
            f"{folder}: holds {len(loose)} images beside subfolders with {len(in_classes)}; move them into subfolders, "
            "one for each class, or all images into one folder"
        )
    if not loose and not in_classes:
        raise DataError(f"{folder}: holds no images; expected files that end in {', '.join(extensions)}")
    if loose:
        return loose, None
    return [Path(file) for file, _ in in_classes], [label for _, label in in_classes]


def _decode(files: list[Path], settings: ImageFolderData) -> list[np.ndarray | str]:
    """Each image, (C, H, W) bytes, or the reason why there is none; in order, however many workers there are."""
    transforms = _import_torchvision("image_folder").transforms
    steps = [transforms.PILToTensor()]
    if isinstance(settings.size, int):
        steps = [transforms.Resize(settings.size), transforms.CenterCrop(settings.size), *steps]
    elif settings.size is not None:
        steps = [transforms.Resize(settings.size), *steps]
    loader: DataLoader[Any] = DataLoader(
        _Images(files, "RGB" if settings.mode == "rgb" else "L", transforms.Compose(steps)),
        batch_size=32,
        num_workers=settings.workers,
        collate_fn=list,
        generator=torch.Generator(),  # or the workers' seeds are drawn from the caller's random state
    )
    return [image for batch in loader for image in batch]


class _Images(torch.utils.data.Dataset[np.ndarray | str]):
    """What a worker does with one file."""

    def __init__(self, files: list[Path], mode: str, transform: Callable[[Image.Image], Tensor]) -> None:
        self.files = files
        self.mode = mode
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> UInt8[np.ndarray, "C H W"] | str:
        try:
            with Image.open(self.files[i]) as image:
                image.load()
                pixels = _eight_bits(image).convert(self.mode)
        except Exception as error:  # a foreign or damaged file can make Pillow fail in any way
            return (str(error) or type(error).__name__).replace(f" {str(self.files[i])!r}", "")
        # As an array, which is sent by value: each tensor that a worker sends keeps a file open.
        return self.transform(pixels).numpy()


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image upright and on white paper, in a mode that Pillow converts to RGB or grey as one would expect."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("its pixels are floating point, of no known range; save 8 or 16 bits")
    if image.mode.startswith("I"):  # Pillow would clip 16 bits at 255
        deep = np.asarray(image)
        if deep.min() < 0 or deep.max() > 65535:
            raise ValueError("its pixels have more than 16 bits; save 8 or 16 bits")
        return Image.fromarray((deep / 257).round().astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


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
    train, test = _split_rows(len(whole), test_fraction, seed, source)
    return Dataset(_rows(whole, train), _rows(whole, test))


def _split_rows(rows: int, test_fraction: float, seed: int, source: str) -> tuple[Tensor, Tensor]:
    """Indices of the rows to train on and of those held out, shuffled."""
    n_test = min(max(1, round(test_fraction * rows)), rows - 1)
    if n_test < 1:
        raise DataError(f"{source}: {rows} rows cannot be split; at least 2 are needed")
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed), device="cpu")
    return order[n_test:], order[:n_test]


def _import_torchvision(kind: str) -> Any:
    try:
        import torchvision
    except (ImportError, RuntimeError) as error:
        raise DataError(
            f"{kind}: torchvision cannot be imported ({error}); install torch and torchvision "
            "together, so that their releases match"
        ) from None
    return torchvision


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return type(value).__name__
