"""A data set by its kind."""

from __future__ import annotations

from typing import Any

from geodesic.data.dataset import Dataset
from geodesic.data.source import DATA_SETS

__all__ = ["load_data"]


def load_data(kind: str, **arguments: Any) -> Dataset:
    """Load a data set: bundled digits, MNIST, an array, IDX files or a folder of images.

    Rows of bytes are divided by 255 and scikit-learn's digits by 16, so that pixels lie in [0, 1]; other
    arrays stay as they are. So are images of a folder, of which transparent pixels become white, 16 bits
    become 8, and photographs stand upright.

    Args:
        kind: "digits", "mnist", "fashion_mnist", "array", "idx" or "image_folder".
        arguments: The fields of that kind: `path` (may use environment variables), `limit` (keep only the first so
            many training rows), `test_fraction` and `seed` of the split, and so on. `geodesic.data` has a class for
            each kind that lists them.

    Returns:
        Train and test rows, float32. The same arguments give the same rows in the same order.

    Raises:
        InputError: There is no such kind, or it takes other arguments.
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
