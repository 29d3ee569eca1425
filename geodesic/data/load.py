"""A data set by its kind."""

from __future__ import annotations

from typing import Any

from geodesic.data.dataset import Dataset
from geodesic.data.source import DATA_SETS

__all__ = ["load_data"]


def load_data(kind: str, **arguments: Any) -> Dataset:
    """Load a data set: bundled digits, MNIST, an array, a table, cells, IDX files or a folder of images.

    Rows of bytes are divided by 255 and scikit-learn's digits by 16, so that pixels lie in [0, 1]; other
    arrays stay as they are. So are images of a folder, of which transparent pixels become white, 16 bits
    become 8, and photographs stand upright.

    Args:
        kind: Which, see below.
        arguments: What that kind takes. All take `limit` (keep only the first so many training rows) and `seed` (of
            the split, for data without one of their own). A `path` may use environment variables.

            - "digits": scikit-learn's handwritten digits. `test_fraction`, the part of the rows held out.
            - "mnist", "fashion_mnist": `path`, the folder for the files; `download`, whether absent ones are fetched.
            - "array": `path` of a .npy, or of an .npz with `values` and perhaps `labels`; `test_fraction`.
            - "csv": `path` of a table whose first line names the columns; `delimiter` between them; `labels`, the name
              of the column with the labels; `ignore`, names of columns that are left out; `test_fraction`.
            - "parquet": `path`, `labels`, `ignore` and `test_fraction`, likewise. Needs the extra parquet.
            - "h5ad": `path` of cells as AnnData saves them; `layer` with the counts, None for X; `labels`, the name of
              a column of obs; `test_fraction`. Needs the extra scvi.
            - "idx": `path` of a folder of IDX files; `train` and `test`, how many of the first and last rows.
            - "image_folder": `path` of a folder of images, whose subfolders are classes; `size`, the side of a square,
              (height, width), or None; `mode`, "rgb" or "gray"; `test_fraction`; `workers`, processes that decode;
              `corrupt`, whether to "refuse" or "skip" what cannot be read.

    Returns:
        Train and test rows, float32. The same arguments give the same rows in the same order.

    Raises:
        InputError: There is no such kind, or it takes other arguments.
        MissingExtraError: A package that reads the file is not installed; the text has the line that installs it.
        DataError: The data are absent, truncated or of a kind that cannot be used. The message names the
            file, what was found and what to do.

    Warns:
        UserWarning: Images of a folder were left out, which was asked for by `corrupt="skip"`.

    Example:
        >>> import geodesic
        >>> data = geodesic.load_data("digits", limit=200)
        >>> len(data.train), len(data.test), data.event_shape
        (200, 359, (1, 8, 8))
    """
    return DATA_SETS.make(kind, **arguments).load()
