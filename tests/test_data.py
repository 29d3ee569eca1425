"""Data sets: what is read is what was written, and whatever cannot be used is named."""

import dataclasses
import gc
import gzip
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from geodesic import load_data
from geodesic.data import Dataset, Split
from geodesic.data.source import DATA_SETS
from geodesic.errors import DataError, InputError


def as_set(rows: torch.Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in rows}


@pytest.mark.parametrize("kind", DATA_SETS)
def test_load_data_says_what_every_kind_takes(kind: str) -> None:
    assert load_data.__doc__
    assert f'"{kind}"' in load_data.__doc__
    assert all(f"`{field.name}`" in load_data.__doc__ for field in dataclasses.fields(DATA_SETS[kind]))


@pytest.mark.parametrize(
    ("kind", "arguments", "match"),
    [
        ("digits", {"limit": 0}, "limit: expected an integer of at least 1, got 0"),
        ("digits", {"seed": -1}, "seed: expected an integer of at least 0, got -1"),
        ("digits", {"test_fraction": 1.0}, "test_fraction: expected a number between 0 and 1, got 1.0"),
        ("idx", {"path": ".", "train": 0}, "train: expected an integer of at least 1, got 0"),
        ("image_folder", {"path": ".", "size": 0}, r"size: expected the side of a square .*, got 0"),
        ("image_folder", {"path": ".", "size": (3, 0)}, r"size: expected .* \(height, width\), got \(3, 0\)"),
        ("image_folder", {"path": ".", "workers": -1}, "workers: expected an integer of at least 0, got -1"),
        ("cifar", {}, "data set: expected one of .*'digits'.*, got 'cifar'"),
        ("digits", {"path": "."}, "data set 'digits': .*its arguments: limit, seed, test_fraction"),
    ],
)
def test_arguments_that_no_data_set_takes_are_refused_by_name(kind: str, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        load_data(kind, **arguments)


# --- splits -------------------------------------------------------------------------------------


def test_digits_are_sixteenths_in_the_unit_interval() -> None:
    data = load_data("digits")
    values = torch.cat([data.train.values, data.test.values])
    assert data.event_shape == (1, 8, 8)
    assert values.dtype == torch.float32
    assert (values.min().item(), values.max().item()) == (0, 1)
    assert torch.equal(values * 16, (values * 16).round())


def test_splits_together_hold_every_row_once() -> None:
    from sklearn.datasets import load_digits

    data = load_data("digits", test_fraction=0.3)
    assert len(data.test) == round(0.3 * 1797)
    train, test = as_set(data.train.values), as_set(data.test.values)
    assert not train & test
    everything = torch.from_numpy(load_digits().images / 16).float().unsqueeze(1)
    assert train | test == as_set(everything)


def test_labels_stay_with_their_rows() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    label_of = dict(zip((i.astype(np.float32).tobytes() for i in bunch.images), bunch.target, strict=True))
    data = load_data("digits", seed=3)
    assert data.test.labels is not None
    for row, label in zip(data.test.values, data.test.labels, strict=True):
        assert label_of[(row[0] * 16).numpy().tobytes()] == label


def test_the_split_depends_on_the_seed_alone() -> None:
    one, same, other = (load_data("digits", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.test.values, same.test.values)
    assert not torch.equal(one.test.values, other.test.values)


def test_limit_keeps_the_first_training_rows() -> None:
    whole, limited = load_data("digits"), load_data("digits", limit=7)
    assert torch.equal(limited.train.values, whole.train.values[:7])
    assert torch.equal(limited.test.values, whole.test.values)


@pytest.mark.parametrize(
    ("values", "labels", "match"),
    [
        (torch.zeros(3, 2, dtype=torch.float64), None, "float32"),
        (torch.zeros(3, dtype=torch.float32), None, "shape \\(3,\\)"),
        (torch.zeros(3, 2, dtype=torch.float32), torch.zeros(2, dtype=torch.int64), "3 integers"),
        (torch.zeros(3, 2, dtype=torch.float32), torch.zeros(3), "3 integers"),
    ],
)
def test_a_split_refuses_what_is_not_rows_with_labels(
    values: torch.Tensor, labels: torch.Tensor | None, match: str
) -> None:
    with pytest.raises(DataError, match=match):
        Split(values, labels)


def test_a_dataset_refuses_splits_of_different_rows() -> None:
    with pytest.raises(DataError, match=r"\(2,\).*\(3,\)"):
        Dataset(Split(torch.zeros(4, 2).float()), Split(torch.zeros(4, 3).float()))


# --- arrays -------------------------------------------------------------------------------------


def load_array(file: Path) -> Dataset:
    return load_data("array", path=str(file), test_fraction=0.5)


@pytest.mark.parametrize(("shape", "event"), [((6, 4), (4,)), ((6, 3, 5), (1, 3, 5)), ((6, 2, 3, 5), (2, 3, 5))])
def test_arrays_come_back_as_rows(tmp_path: Path, shape: tuple[int, ...], event: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.save(tmp_path / "a.npy", values)
    data = load_array(tmp_path / "a.npy")
    assert data.event_shape == event
    assert data.train.labels is None
    assert as_set(torch.cat([data.train.values, data.test.values])) == as_set(torch.from_numpy(values))


def test_bytes_are_divided_by_255_and_labels_are_read(tmp_path: Path) -> None:
    values = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4) * 10
    np.savez(tmp_path / "a.npz", values=values, labels=np.arange(6, dtype=np.uint8))
    data = load_array(tmp_path / "a.npz")
    for split in (data.train, data.test):
        assert split.labels is not None
        torch.testing.assert_close(split.values, torch.from_numpy(values).float()[split.labels] / 255)


VALUES = np.zeros((4, 3))
BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "wrong ndim": ({"values": np.zeros((4, 1, 2, 2, 2))}, "shape"),
    "no axis": ({"values": np.zeros(4)}, "shape"),
    "no rows": ({"values": np.zeros((0, 3))}, "shape"),
    "one row": ({"values": np.zeros((1, 3))}, "at least 2"),
    "objects": ({"values": np.array([[1, "a"], [None, 2]], dtype=object)}, "without objects"),
    "complex": ({"values": VALUES + 1j}, "complex128"),
    "text": ({"values": np.array([["a"], ["b"]])}, "dtype"),
    "nan": ({"values": np.where(np.arange(12).reshape(4, 3) == 7, np.nan, 0)}, r"\(2, 1\)"),
    "inf": ({"values": VALUES + np.inf}, "12 values"),
    "too large": ({"values": VALUES + 1e300}, "float32"),
    "other name": ({"images": VALUES}, "images"),
    "few labels": ({"values": VALUES, "labels": np.zeros(3, int)}, "4 integers"),
    "float labels": ({"values": VALUES, "labels": np.zeros(4)}, "float64"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_an_array_that_cannot_be_used_is_refused_by_name(tmp_path: Path, name: str) -> None:
    arrays, match = BAD_ARRAYS[name]
    file = tmp_path / "bad.npz"
    np.savez(file, **arrays, allow_pickle=True)
    with pytest.raises(DataError, match=match) as caught:
        load_array(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_truncated_foreign_and_missing_arrays_are_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    with pytest.raises(DataError, match="no such file"):
        load_array(file)
    if suffix == "npy":
        np.save(file, VALUES)
    else:
        np.savez(file, values=VALUES)
    content = file.read_bytes()
    for length in (0, 3, 20, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(DataError, match=rf"a\.{suffix}: not a readable array"):
            load_array(file)
    file.write_text("values,labels\n1,2\n")
    with pytest.raises(DataError, match="not a readable array"):
        load_array(file)


def test_a_damaged_member_of_an_npz_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez_compressed(file, values=np.random.default_rng(0).normal(size=(50, 3)))
    content = bytearray(file.read_bytes())
    content[300:340] = bytes(40)
    file.write_bytes(content)
    with pytest.raises(DataError, match="not a readable array"):
        load_array(file)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_file_damaged_anywhere_is_refused_by_name_and_closed(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(file, VALUES)
    else:
        np.savez(file, values=VALUES)
    content = file.read_bytes()
    # The header of the .npy, the directory of the .npz: there each byte counts.
    places = range(128) if suffix == "npy" else range(content.index(b"PK\x01\x02"), len(content))
    refusals: list[str] = []
    for i in places:
        file.write_bytes(content[:i] + bytes([content[i] ^ 0x0A]) + content[i + 1 :])
        try:
            load_array(file)
        except DataError as error:
            refusals.append(str(error))
    assert len(refusals) > len(places) / 3
    assert all(message.startswith(f"{file}: ") for message in refusals)
    gc.collect()  # what is still open would warn now, and warnings are errors


def test_an_unset_variable_in_a_path_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SOME_DATA", raising=False)
    for path in ("$SOME_DATA/a.npy", "${SOME_DATA}/a.npy"):
        with pytest.raises(DataError, match="variable SOME_DATA is not set"):
            load_data("array", path=path)
    np.save(tmp_path / "a.npy", VALUES)
    monkeypatch.setenv("SOME_DATA", str(tmp_path))
    assert len(load_data("array", path="$SOME_DATA/a.npy").test) == 1


# --- IDX ----------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, prefix: str, count: int, first: int = 0, zipped: bool = False) -> np.ndarray:
    images = (np.arange(count)[:, None, None] + first + np.zeros((1, 2, 3))).astype(np.uint8)
    for name, array in (
        (f"{prefix}-images-idx3-ubyte", images),
        (f"{prefix}-labels-idx1-ubyte", images[:, 0, 0]),
    ):
        content = idx(array)
        (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
    return images


def load_idx(folder: Path, **settings: int) -> Dataset:
    return load_data("idx", path=str(folder), **settings)


def test_handwritten_idx_bytes_are_read(tmp_path: Path) -> None:
    images = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 51, 102, 255])
    (tmp_path / "train-images-idx3-ubyte").write_bytes(images)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 9]))
    data = load_idx(tmp_path)
    torch.testing.assert_close(data.train.values, torch.tensor([[[[0.0, 0.2]]]]).float())
    torch.testing.assert_close(data.test.values, torch.tensor([[[[0.4, 1.0]]]]).float())
    assert data.train.labels is not None
    assert data.test.labels is not None
    assert (data.train.labels.item(), data.test.labels.item()) == (5, 9)


@pytest.mark.parametrize("zipped", [False, True])
def test_one_pair_is_cut_at_both_ends(tmp_path: Path, zipped: bool) -> None:
    write_idx(tmp_path, "t10k", 10, zipped=zipped)

    def labels(**settings: int) -> tuple[list[int], list[int]]:
        data = load_idx(tmp_path, **settings)
        assert data.train.labels is not None
        assert data.test.labels is not None
        return data.train.labels.tolist(), data.test.labels.tolist()

    assert labels() == (list(range(8)), [8, 9])
    assert labels(train=3, test=2) == ([0, 1, 2], [8, 9])
    assert labels(train=7) == (list(range(7)), [7, 8, 9])
    assert labels(test=4) == (list(range(6)), [6, 7, 8, 9])
    assert labels(train=3, test=2, limit=1) == ([0], [8, 9])
    for settings in ({"train": 6, "test": 5}, {"train": 10}, {"test": 10}):
        with pytest.raises(DataError, match="overlap"):
            load_idx(tmp_path, **settings)


def test_two_pairs_are_train_and_test(tmp_path: Path) -> None:
    train, test = write_idx(tmp_path, "train", 6), write_idx(tmp_path, "t10k", 4, first=100, zipped=True)
    data = load_idx(tmp_path)
    assert torch.equal((data.train.values * 255).round().byte()[:, 0], torch.from_numpy(train))
    assert torch.equal((data.test.values * 255).round().byte()[:, 0], torch.from_numpy(test))
    with pytest.raises(DataError, match="train=7"):
        load_idx(tmp_path, train=7)


def test_images_without_labels_are_read(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", 5)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    assert load_idx(tmp_path).train.labels is None


@pytest.mark.parametrize("zipped", [False, True])
def test_bad_idx_files_are_refused_by_name(tmp_path: Path, zipped: bool) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load_idx(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no IDX images"):
        load_idx(tmp_path)
    write_idx(tmp_path, "train", 5, zipped=zipped)
    file = tmp_path / ("train-images-idx3-ubyte" + ".gz" * zipped)
    good = file.read_bytes()

    def put(content: bytes) -> None:
        file.write_bytes(gzip.compress(content) if zipped else content)

    plain = gzip.decompress(good) if zipped else good
    bad = [
        (b"", "starts with nothing"),
        (plain[:10], "within its header"),
        (plain[:-1], "truncated or damaged"),
        (plain + b"0", "truncated or damaged"),
        (idx(np.zeros((5, 2), np.uint8)), "another kind of file"),
        (b"\x89PNG" + bytes(30), "another kind of file"),
    ]
    for content, match in bad:
        put(content)
        with pytest.raises(DataError, match=match) as caught:
            load_idx(tmp_path)
        assert str(file) in str(caught.value)
    put(idx(np.zeros((4, 2, 3), np.uint8)))
    with pytest.raises(DataError, match="5 labels for 4 images"):
        load_idx(tmp_path)
    file.write_bytes(good[:-6])
    with pytest.raises(DataError, match="truncated"):
        load_idx(tmp_path)


def test_mnist_is_read_from_its_own_files(mnist_folder: Path) -> None:
    data = load_idx(mnist_folder, train=8000, test=2000)
    assert data.event_shape == (1, 28, 28)
    assert (len(data.train), len(data.test)) == (8000, 2000)
    if not list(mnist_folder.glob("train-images*")):
        assert data.train.labels is not None
        assert data.train.labels[:5].tolist() == [7, 2, 1, 0, 4]


@pytest.mark.parametrize("kind", ["mnist", "fashion_mnist"])
def test_absent_torchvision_data_name_the_remedy(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match="set download=true") as caught:
        load_data(kind, path=str(tmp_path), download=False)
    assert str(tmp_path) in str(caught.value)


def test_torchvision_data_keep_their_own_split(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    train, test = write_idx(raw, "train", 6), write_idx(raw, "t10k", 4)
    data = load_data("mnist", path=str(tmp_path), download=False)
    assert torch.equal((data.train.values * 255).round().byte()[:, 0], torch.from_numpy(train))
    assert torch.equal((data.test.values * 255).round().byte()[:, 0], torch.from_numpy(test))
    assert data.test.labels is not None
    assert data.test.labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("kind", "arguments"), [("mnist", {}), ("image_folder", {"path": "."})])
def test_a_torchvision_that_cannot_be_imported_is_named(
    kind: str, arguments: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(DataError, match="install torch and torchvision together"):
        load_data(kind, **arguments)


# --- folders of images --------------------------------------------------------------------------


def load_folder(folder: Path, **settings: Any) -> Dataset:
    return load_data("image_folder", path=str(folder), **settings)


def write_images(folder: Path, count: int, side: tuple[int, int] = (4, 5), first: int = 0) -> torch.Tensor:
    """Images of distinct colors, (count, 3, height, width), as numbers from 0 to 1."""
    folder.mkdir(exist_ok=True)
    pixels = np.random.default_rng(first).integers(0, 256, (count, *side, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{first + i:03}.png")
    return torch.from_numpy(pixels).movedim(-1, 1).float() / 255


def only_pixels(folder: Path, image: Image.Image, mode: str = "rgb") -> torch.Tensor:
    """The rows of a folder that holds one image twice."""
    for name in ("a.tif", "b.tif"):
        image.save(folder / name)
    return load_folder(folder, mode=mode).train.values[0]


def test_subfolders_are_classes(tmp_path: Path) -> None:
    one, two = write_images(tmp_path / "cat", 5), write_images(tmp_path / "dog", 4, first=50)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    data = load_folder(tmp_path, test_fraction=0.3)
    assert data.event_shape == (3, 4, 5)
    assert (len(data.train), len(data.test)) == (6, 3)
    assert not as_set(data.train.values) & as_set(data.test.values)
    for split in (data.train, data.test):
        assert split.labels is not None
        for row, label in zip(split.values, split.labels, strict=True):
            assert as_set(row[None]) <= as_set((one, two)[int(label)])


def test_a_folder_without_subfolders_has_no_labels(tmp_path: Path) -> None:
    images = write_images(tmp_path, 6)
    (tmp_path / "empty").mkdir()
    data = load_folder(tmp_path)
    assert data.train.labels is None
    assert as_set(torch.cat([data.train.values, data.test.values])) == as_set(images)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # where there is one core
@pytest.mark.parametrize("workers", [1, 2])
def test_rows_and_their_order_do_not_depend_on_the_workers(tmp_path: Path, workers: int) -> None:
    write_images(tmp_path / "a", 70)
    write_images(tmp_path / "b", 5, first=100)
    state = torch.get_rng_state()
    one, other = load_folder(tmp_path), load_folder(tmp_path, workers=workers)
    assert torch.equal(torch.get_rng_state(), state)
    for split, same in ((one.train, other.train), (one.test, other.test)):
        assert split.labels is not None
        assert same.labels is not None
        assert torch.equal(split.values, same.values)
        assert torch.equal(split.labels, same.labels)
    assert not torch.equal(one.test.values, load_folder(tmp_path, seed=1).test.values)


def test_limit_decodes_the_first_training_images_alone(tmp_path: Path) -> None:
    write_images(tmp_path, 10)
    whole = load_folder(tmp_path)
    for file in tmp_path.iterdir():
        pixels = torch.from_numpy(np.array(Image.open(file))).movedim(-1, 0).float() / 255
        if as_set(pixels[None]) <= as_set(whole.train.values[3:]):
            file.write_bytes(b"damaged")
    limited = load_folder(tmp_path, limit=3)
    assert torch.equal(limited.train.values, whole.train.values[:3])
    assert torch.equal(limited.test.values, whole.test.values)


def test_one_size_is_that_of_the_middle_square(tmp_path: Path) -> None:
    pixels = np.zeros((4, 8), np.uint8)
    pixels[:, 2:6] = 255
    assert (only_pixels(tmp_path, Image.fromarray(pixels)) * 255).unique().tolist() == [0, 255]
    assert load_folder(tmp_path).event_shape == (3, 4, 8)
    assert torch.equal(load_folder(tmp_path, size=4, mode="gray").train.values, torch.ones(1, 1, 4, 4).float())
    assert load_folder(tmp_path, size=2).event_shape == (3, 2, 2)
    stretched = load_folder(tmp_path, size=(6, 3)).train.values
    assert stretched.shape == (1, 3, 6, 3)
    assert stretched[..., 0].max() < stretched[..., 1].min()


def test_images_of_several_sizes_need_one_that_is_asked_for(tmp_path: Path) -> None:
    write_images(tmp_path, 3, (4, 5))
    write_images(tmp_path, 3, (6, 4), first=10)
    with pytest.raises(DataError, match=r"differ in size.*(4 x 5|6 x 4).*set size"):
        load_folder(tmp_path)
    assert load_folder(tmp_path, size=3).event_shape == (3, 3, 3)


def test_transparent_pixels_are_white(tmp_path: Path) -> None:
    black = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    black.putpixel((1, 0), (9, 9, 9, 0))
    expected = torch.tensor([[[0.0, 1.0]]]).float()
    assert torch.equal(only_pixels(tmp_path, black, "gray"), expected)
    assert torch.equal(only_pixels(tmp_path, black.convert("LA")), expected.expand(3, 1, 2))
    for file in tmp_path.iterdir():
        file.unlink()
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.putpixel((1, 0), 1)
    for name in ("a.png", "b.png"):
        palette.save(tmp_path / name, transparency=1)
    assert torch.equal(load_folder(tmp_path, mode="gray").train.values[0], expected)


def test_palettes_and_two_colors_become_their_colors(tmp_path: Path) -> None:
    palette = Image.new("P", (1, 1))
    palette.putpalette([255, 0, 51])
    assert torch.equal(only_pixels(tmp_path, palette)[:, 0, 0], torch.tensor([1.0, 0.0, 0.2]).float())
    assert only_pixels(tmp_path, Image.new("1", (1, 1), 1)).tolist() == [[[1]], [[1]], [[1]]]


def test_sixteen_bits_keep_their_range(tmp_path: Path) -> None:
    deep = Image.fromarray(np.array([[0, 257 * 51, 65535]], np.uint16))
    expected = torch.tensor([[[0.0, 0.2, 1.0]]]).float()
    assert torch.equal(only_pixels(tmp_path, deep, "gray"), expected)
    assert torch.equal(only_pixels(tmp_path, deep), expected.expand(3, 1, 3))
    for pixels, match in ((np.full((1, 2), 70000, np.int32), "16 bits"), (np.ones((1, 2), np.float32), "floating")):
        with pytest.raises(DataError, match=match):
            only_pixels(tmp_path, Image.fromarray(pixels))


def test_photographs_stand_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (8, 4)).save(tmp_path / name, exif=exif)
    assert load_folder(tmp_path).event_shape == (3, 8, 4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # where there is one core
@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_cannot_be_read_are_named_or_left_out(tmp_path: Path, workers: int) -> None:
    write_images(tmp_path, 20, (30, 30))
    whole = load_folder(tmp_path, test_fraction=0.5)
    file = tmp_path / "004.png"
    good = file.read_bytes()
    for content in (good[: len(good) // 2], good[:20], b"no image", b""):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"with corrupt=skip") as caught:
            load_folder(tmp_path, workers=workers)
        assert str(caught.value).startswith(f"{file} (")
        assert str(caught.value).count(str(file)) == 1
    (tmp_path / "007.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="and so are 1 more"):
        load_folder(tmp_path, workers=workers)
    with pytest.warns(UserWarning, match=r"left out 2 of 20 images.*00[47]\.png"):
        left = load_folder(tmp_path, test_fraction=0.5, corrupt="skip", workers=workers)
    assert len(left.train) + len(left.test) == 18
    # All others stay where they were, in the order in which they were.
    for before, after in ((whole.train, left.train), (whole.test, left.test)):
        kept = as_set(after.values)
        still = [row for row in before.values if row.numpy().tobytes() in kept]
        assert torch.equal(torch.stack(still), after.values)


def test_a_folder_without_images_that_can_be_used_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    with pytest.raises(DataError, match="no such folder"):
        load_folder(folder)
    folder.mkdir()
    (folder / "empty").mkdir()
    (folder / "a.txt").write_text("no image")
    with pytest.raises(DataError, match=r"holds no images; expected files that end in \.jpg"):
        load_folder(folder)
    write_images(folder, 1)
    with pytest.raises(DataError, match="1 rows cannot be split"):
        load_folder(folder)
    write_images(folder / "class", 2)
    with pytest.raises(DataError, match="1 images beside subfolders with 2") as caught:
        load_folder(folder)
    assert str(folder) in str(caught.value)
    for file in folder.rglob("*.png"):
        file.write_bytes(b"damaged")
    (folder / "000.png").unlink()
    with pytest.warns(UserWarning, match="left out 2 of 2"), pytest.raises(DataError, match="none of the 1 train"):
        load_folder(folder, corrupt="skip")
