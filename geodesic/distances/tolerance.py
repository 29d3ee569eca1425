"""How exactly geodesics are looked for where only their lengths are asked for."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.solvers.kinks import Kinks, kinks_of
from geodesic.solvers.search import Search

__all__ = ["eased", "tolerance"]


def eased(manifold: Manifold, search: Search, z: Float[Tensor, "N d"]) -> Search:
    """The search with `tol` no smaller than lengths need, where none was given: half of the excess energy is their own.

    Beside kinks a search without `tol` does so by itself, and leads to less than it asks for where that is cheap.

    Args:
        manifold: Where to measure.
        search: How to look.
        z: Points, between which.
    """
    given = search.tol is not None or _kinks(manifold, search, z) is not None
    return search if given else replace(search, tol=search.rtol)


def tolerance(manifold: Manifold, search: Search, z: Float[Tensor, "N d"]) -> float:
    """Largest relative excess energy of a geodesic between points that counts as converged."""
    kinks = _kinks(manifold, search, z)
    return search.exactness(z.dtype) if kinks is None else kinks.tol


def _kinks(manifold: Manifold, search: Search, z: Float[Tensor, "N d"]) -> Kinks | None:
    return kinks_of(manifold, z[:1], z[-1:], search) if search.refines else None
