"""Forward mode, in one thread at a time, and derivatives without products that are zero or that nobody asks for."""

from geodesic.tangents.one_at_a_time import forward, prepare_forward_mode
from geodesic.tangents.operators import without_zeros
from geodesic.tangents.twice import with_fixed_weights

__all__ = ["forward", "prepare_forward_mode", "with_fixed_weights", "without_zeros"]
