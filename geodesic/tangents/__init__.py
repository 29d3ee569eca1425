"""Forward mode without products that are zero."""

from geodesic.tangents.operators import without_zeros

__all__ = ["without_zeros"]
