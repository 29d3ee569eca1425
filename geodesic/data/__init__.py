"""Data sets by kind. A new kind is one file here, with one registered class."""

from geodesic.contents import contents
from geodesic.data import array, digits, idx, image_folder, mnist  # each registers its kinds

__getattr__, __dir__, _names = contents(
    "geodesic.data",
    {
        "geodesic.data.dataset": (
            "Dataset",
            "Split",
        ),
    },
)
__all__ = [*_names, "array", "digits", "idx", "image_folder", "mnist"]
