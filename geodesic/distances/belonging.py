"""Whether a matrix of distances is one between some points."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.distances.record import DistanceMatrix
from geodesic.distances.straight import straight_found
from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold

__all__ = ["require_between"]

_PAIRS = 64  # that are looked at
_SEGMENTS = 8  # of their straight lines
_OFF = 0.1  # by which a length so measured may differ, relatively, where the lower bounds say nothing
_ROUNDINGS = 1000  # of a matrix in single precision, in a lower bound


@torch.no_grad()
def require_between(manifold: Manifold, distances: DistanceMatrix, points: Float[Tensor, "N d"]) -> None:
    """Refuse a matrix of distances between other points, or on another manifold.

    Some pairs are looked at: their lower bounds, and straight lines where nothing bounds distances from below.

    Args:
        manifold: Where the points are.
        distances: Symmetric, (N, N).
        points: (N, d).

    Raises:
        InputError: They do not belong together.
    """
    N = len(points)
    i = torch.arange(min(N, _PAIRS), device=points.device)
    j = (i + 1) % N
    here = straight_found(manifold, points[i], points[j], _SEGMENTS)
    there = {name: getattr(distances, name).to(points)[i, j] for name in ("lower", "upper", "straight_length")}
    coarse = max(torch.finfo(x.dtype).eps for x in (distances.lower, points))
    room = _ROUNDINGS * coarse * float(there["upper"].nan_to_num(posinf=0.0).max())
    apart = (here.lower - there["lower"]).abs() > room + 1e-3 * here.lower
    if not bool(here.lower.any()):
        straight = there["straight_length"]
        apart |= straight.isfinite() & ((here.length - straight).abs() > room + _OFF * straight)
    if bool(apart.any()):
        k = int(apart.nonzero()[0])
        raise InputError(
            f"distances: they are of other points or another manifold: points {int(i[k])} and {int(j[k])} are at least "
            f"{float(here.lower[k]):.4g} apart, along a straight line {float(here.length[k]):.4g}, and the matrix says "
            f"{float(there['lower'][k]):.4g} and {float(there['straight_length'][k]):.4g}; give the points that it was "
            "made from, in the same order"
        )
