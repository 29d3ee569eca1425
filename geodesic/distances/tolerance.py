"""How exactly geodesics are looked for where only their lengths are asked for, and in which precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.solvers.kinks import kinks_of
from geodesic.solvers.search import Search

__all__ = ["eased", "has_kinks", "precision", "tolerance"]

_SINGLE = 1e-4  # the least length_rtol for which single precision is enough


def eased(manifold: Manifold, search: Search, z: Float[Tensor, "N d"]) -> Search:
    """The search with `tol` no smaller than lengths need, where none was given: half of the excess energy is their own.

    Beside kinks a search without `tol` does so by itself, and leads to less than it asks for where that is cheap.

    Args:
        manifold: Where to measure.
        search: How to look.
        z: Points, between which.
    """
    given = search.tol is not None or (search.refines and has_kinks(manifold, z))
    return search if given else replace(search, tol=search.rtol)


def tolerance(manifold: Manifold, search: Search, z: Float[Tensor, "N d"]) -> float:
    """Largest relative excess energy of a geodesic between points that counts as converged."""
    kinks = kinks_of(manifold, z[:1], z[-1:], search) if search.refines else None
    return search.exactness(z.dtype) if kinks is None else kinks.tol


def has_kinks(manifold: Manifold, z: Float[Tensor, "N d"]) -> bool:
    """Whether the decoder shows kinks at points, across which curves are made taut."""
    return kinks_of(manifold, z[:1], z[-1:], Search()) is not None


def precision(manifold: Manifold, search: Search, z: Float[Tensor, "N d"]) -> tuple[Literal["float32", "float64"], str]:
    """The least precision in which lengths are as exact as they are asked for, "float32" or "float64"; and why.

    Across kinks some steps in single precision stall.

    Args:
        manifold: Where to measure, in either precision.
        search: How to look.
        z: Points, between which.

    Example:
        >>> import torch, geodesic
        >>> from geodesic.distances.tolerance import precision
        >>> precision(geodesic.surfaces.Sphere(), geodesic.Search(), torch.rand(3, 2) + 1)
        ('float32', 'which is enough for a length_rtol of 0.001')
    """
    if search.rtol < _SINGLE:
        return "float64", f"which a length_rtol of {search.rtol:g} needs"
    if has_kinks(manifold, z):
        return "float64", "since the decoder has kinks"
    return "float32", f"which is enough for a length_rtol of {search.rtol:g}"
