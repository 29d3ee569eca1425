"""How exactly geodesics are looked for where only their lengths are asked for."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.solvers.kinks import kinks_of
from geodesic.solvers.search import Search

__all__ = ["eased", "has_kinks", "tolerance"]


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
