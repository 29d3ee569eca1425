"""Forward mode, in one thread at a time, and without products that are zero."""

from geodesic.tangents.one_at_a_time import forward, prepare_forward_mode
from geodesic.tangents.operators import without_zeros

__all__ = ["forward", "prepare_forward_mode", "without_zeros"]
