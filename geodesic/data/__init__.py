"""Data sets by kind. A new kind is one file here, with one registered class."""

from geodesic.contents import contents
from geodesic.data import array, csv_file, digits, h5ad, idx, image_folder, mnist, parquet  # each registers its kinds

__getattr__, __dir__, _names = contents(
    "geodesic.data",
    {
        "geodesic.data.dataset": (
            "Dataset",
            "Split",
        ),
    },
)
__all__ = [*_names, "array", "csv_file", "digits", "h5ad", "idx", "image_folder", "mnist", "parquet"]
