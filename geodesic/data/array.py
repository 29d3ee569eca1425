"""Arrays in a .npy or .npz file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from geodesic.data.dataset import Dataset, Split
from geodesic.data.source import DATA_SETS, ShuffledSource, expand_path
from geodesic.errors import DataError
from geodesic.registry import setting

__all__ = ["ArrayFile"]


@DATA_SETS.register("array")
@dataclass(frozen=True)
class ArrayFile(ShuffledSource):
    """A .npy of images or vectors, or an .npz with `values` and, if there are any, `labels`.

    Bytes are divided by 255; other numbers stay as they are.

    Args:
        path: The file; may use environment variables.
        test_fraction: Part of the rows held out.
        limit: Keep only the first so many training rows.
        seed: Seed of the split.

    Example:
        >>> import numpy, pathlib, tempfile
        >>> from geodesic.data.array import ArrayFile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "rows.npy"
        >>> numpy.save(file, numpy.random.rand(10, 3))
        >>> ArrayFile(str(file)).load().event_shape
        (3,)
    """

    path: str = field(metadata=setting("a .npy, or an .npz with `values` and perhaps `labels`"))

    def read(self) -> Dataset:
        """All rows, shuffled, with their labels if there are any."""
        file = expand_path(self.path)
        return self.split(_checked(file, *_arrays(file)), str(file))


def _arrays(file: Path) -> tuple[np.ndarray, np.ndarray | None]:
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
        raise DataError(f"{file}: no such file; check the path") from None
    except DataError:
        raise
    except Exception as error:  # a foreign or damaged file can make numpy fail in any way
        raise DataError(
            f"{file}: not a readable array ({error}); save it again with numpy.save or numpy.savez, without objects"
        ) from None


def _checked(file: Path, values: np.ndarray, labels: np.ndarray | None) -> Split:
    """The arrays as rows: float32, with a channel axis for images, and integer labels."""
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
    rows = torch.from_numpy(np.ascontiguousarray(floats))
    if rows.ndim == 3:
        rows = rows.unsqueeze(1)
    if labels is None:
        return Split(rows)
    if labels.dtype.kind not in "iu" or labels.shape != (len(values),):
        raise DataError(
            f"{file}: labels of shape {labels.shape} and dtype {labels.dtype} cannot be used; "
            f"save {len(values)} integers, one for each row of values"
        )
    return Split(rows, torch.from_numpy(labels.astype(np.int64)))
