"""Whether numbers between points are distances: the same from both sides, and zero from a point to itself."""

from __future__ import annotations

import torch
from torch import Tensor

from geodesic.errors import InputError

__all__ = ["require_symmetric"]

_ALIKE = 1e-3  # how near both sides of a pair are, where each was measured by itself
_AT_ONCE = 2**24  # numbers that are compared together


def require_symmetric(name: str, D: Tensor) -> None:
    """Refuse distances that are not the same from both sides, or not zero from a point to itself.

    Both may be off by a thousandth, as those of geodesics there and back are. What is no number is none from both
    sides.

    Args:
        name: Of the argument.
        D: (N, N).

    Raises:
        InputError: With the first place where they are not.

    Example:
        >>> import torch
        >>> from geodesic.distances.symmetry import require_symmetric
        >>> require_symmetric("distances", torch.tensor([[0.0, 2.0], [2.0, 0.0]]))
    """
    room = _ALIKE * max(float(D.nan_to_num(nan=0.0, posinf=0.0).amax()), 0.0)
    own = D.diagonal()
    beyond = own.isfinite() & (own.abs() > room)  # of a store that is not full nothing is known there
    if bool(beyond.any()):
        i = int(beyond.nonzero()[0])
        raise InputError(f"{name}: expected zero from a point to itself, got {own[i].item():.6g} at {[i, i]}")
    for rows in torch.arange(len(D), device=D.device).split(max(1, _AT_ONCE // len(D))):
        apart = ~torch.isclose(D[rows], D.mT[rows], rtol=_ALIKE, atol=room, equal_nan=True)
        if bool(apart.any()):
            i, j = (apart.nonzero()[0] + torch.stack([rows[0], rows.new_zeros(())])).tolist()
            raise InputError(
                f"{name}: expected a symmetric matrix, got {D[i, j].item():.6g} at {[i, j]} and {D[j, i].item():.6g} "
                f"at {[j, i]}; give (D + D.T) / 2, if that is what is meant"
            )
