"""Folders of image files."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader

from geodesic.checks import is_integer, require_choice, require_integer
from geodesic.data.dataset import Dataset, Split
from geodesic.data.source import DATA_SETS, ShuffledSource, expand_path, import_torchvision
from geodesic.errors import DataError, InputError
from geodesic.registry import setting

__all__ = ["ImageFolder"]


@DATA_SETS.register("image_folder")
@dataclass(frozen=True)
class ImageFolder(ShuffledSource):
    """A folder of image files; subfolders, if there are any, are classes, numbered in the order of their names.

    Transparent pixels become white, 16 bits become 8, and photographs stand upright. Bytes are divided by 255.

    Args:
        path: The folder; may use environment variables.
        size: A number: the shorter side is resized to it and the middle square kept. (height, width): images are
            stretched to it. None: as they are, all of one size.
        mode: "rgb" or "gray".
        test_fraction: Part of the files held out.
        workers: Processes that decode images; 0: this process does.
        corrupt: What to do with an image that cannot be read: "refuse" it, or "skip" it with a warning.
        limit: Keep only the first so many training rows.
        seed: Seed of the split.
    """

    path: str = field(metadata=setting("the folder"))
    size: int | tuple[int, int] | None = field(
        default=None,
        metadata=setting(
            "a number: the shorter side is resized to it and the middle square kept; [height, width]: stretched to "
            "it; null: as they are, all of one size"
        ),
    )
    mode: Literal["rgb", "gray"] = field(default="rgb", metadata=setting("colors or gray values"))
    workers: int = field(default=0, metadata=setting("processes that decode images; 0: this process does", ge=0))
    corrupt: Literal["refuse", "skip"] = field(
        default="refuse",
        metadata=setting("what to do with an image that cannot be read: stop, or leave it out with a warning"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_size(self.size)
        require_choice("mode", self.mode, ("rgb", "gray"))
        require_integer("workers", self.workers, least=0)
        require_choice("corrupt", self.corrupt, ("refuse", "skip"))

    def read(self) -> Dataset:
        """The images, shuffled, with the numbers of their classes; training images beyond `limit` are not decoded."""
        folder = expand_path(self.path)
        files, labels = _image_files(folder)
        # Files are split, not images: a file that cannot be read leaves all others where they are.
        train, test = self.split_rows(len(files), str(folder))
        train = train[: self.limit]
        images = self._images(folder, files, [*train.tolist(), *test.tolist()])
        _require_one_size(folder, files, images)

        def part(name: str, rows: Tensor) -> Split:
            kept = [row for row in rows.tolist() if row in images]
            if not kept:
                raise DataError(f"{folder}: none of the {len(rows)} {name} images can be read; replace them")
            values = torch.from_numpy(np.stack([images[row] for row in kept])).float().div_(255)
            return Split(values, None if labels is None else torch.tensor([labels[row] for row in kept]))

        return Dataset(part("train", train), part("test", test))

    def _images(self, folder: Path, files: list[Path], rows: list[int]) -> dict[int, np.ndarray]:
        """The images of these rows, (C, H, W) bytes, without those that cannot be read and may be left out."""
        images: dict[int, np.ndarray] = {}
        unreadable: list[str] = []
        for row, image in zip(rows, self._decode([files[row] for row in rows]), strict=True):
            if isinstance(image, str):
                unreadable.append(f"{files[row]} ({image})")
            else:
                images[row] = image
        if unreadable and self.corrupt == "refuse":
            others = f", and so are {len(unreadable) - 1} more" if len(unreadable) > 1 else ""
            raise DataError(
                f"{unreadable[0]}: not a readable image{others}; replace or remove what is damaged, or leave it out "
                "with corrupt=skip"
            )
        if unreadable:
            warnings.warn(
                f"{folder}: left out {len(unreadable)} of {len(rows)} images that cannot be read, the first of them "
                f"{unreadable[0]}",
                stacklevel=5,  # the caller of `load_data`
            )
        return images

    def _decode(self, files: list[Path]) -> list[np.ndarray | str]:
        """Each image, (C, H, W) bytes, or the reason why there is none; in order, however many workers there are."""
        transforms = import_torchvision("image_folder").transforms
        steps = [transforms.PILToTensor()]
        if isinstance(self.size, int):
            steps = [transforms.Resize(self.size), transforms.CenterCrop(self.size), *steps]
        elif self.size is not None:
            steps = [transforms.Resize(self.size), *steps]
        loader: DataLoader[Any] = DataLoader(
            _Images(files, "RGB" if self.mode == "rgb" else "L", transforms.Compose(steps)),
            batch_size=32,
            num_workers=self.workers,
            collate_fn=list,
            generator=torch.Generator(),  # or the workers' seeds are drawn from the caller's random state
        )
        return [image for batch in loader for image in batch]


def _require_size(size: Any) -> None:
    sides = size if isinstance(size, list | tuple) and len(size) == 2 else (size,)
    if size is not None and not all(is_integer(side) and side > 0 for side in sides):
        raise InputError(f"size: expected the side of a square in pixels, or (height, width), got {size!r}")


def _require_one_size(folder: Path, files: list[Path], images: dict[int, np.ndarray]) -> None:
    sizes = {image.shape[1:]: row for row, image in images.items()}  # and one image of each
    if len(sizes) > 1:
        (one, i), (other, j) = list(sizes.items())[:2]
        raise DataError(
            f"{folder}: images differ in size, height x width: {files[i].name} is {one[0]} x {one[1]}, "
            f"{files[j].name} is {other[0]} x {other[1]}; set size to bring all to one size"
        )


def _image_files(folder: Path) -> tuple[list[Path], list[int] | None]:
    """The images of a folder in an order that depends on their names alone, and the classes they are in."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check the path")
    datasets = import_torchvision("image_folder").datasets
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
    """The image upright and on white paper, in a mode that Pillow converts to RGB or gray as one would expect."""
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
