"""Networks by kind. A new kind is one file here, with one registered class."""

from geodesic.models.networks import convolutional, mlp  # each registers its kind

__all__ = ["convolutional", "mlp"]
