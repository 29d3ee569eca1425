"""Data sets by kind. A new kind is one file here, with one registered class."""

from geodesic.data import array, digits, idx, image_folder, mnist  # each registers its kinds

__all__ = ["array", "digits", "idx", "image_folder", "mnist"]
