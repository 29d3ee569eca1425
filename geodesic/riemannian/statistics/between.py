"""Distances between the points of a tool: found here, or known already, and from there where to begin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.distances.belonging import require_between
from geodesic.distances.matrix import distance_matrix
from geodesic.distances.record import DistanceMatrix, all_pairs
from geodesic.distances.symmetry import require_symmetric
from geodesic.distances.tolerance import has_kinks
from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import Rows
from geodesic.solvers.doubts import of_all, warn_of_doubts
from geodesic.solvers.search import Search
from geodesic.solvers.status import Status

__all__ = ["Between", "found_between", "known_between", "medoid"]


@dataclass(frozen=True)
class Between:
    """Distances between all points, how the geodesics behind them ended, and their largest error."""

    matrix: Float[Tensor, "N N"]
    status: Int[Tensor, ""]
    error: Float[Tensor, ""]


def found_between(manifold: Manifold, points: Tensor, search: Search) -> Between:
    """Distances between all points, (N, d), from one geodesic for each pair."""
    if len(points) < 2:
        nothing = points.flatten(1).new_zeros(1, 1)
        return Between(nothing, torch.full_like(nothing[0, 0], Status.CONVERGED, dtype=torch.long), nothing[0, 0])
    # To the tolerance of `solve`, not to that of a matrix of lengths: which exchange is best is a matter of little.
    # Across kinks `solve` goes no further than lengths need, which a `tol` would undo.
    kinks = search.refines and has_kinks(manifold, points.flatten(1))
    exactly = search if kinks else replace(search, tol=search.exactness(points.dtype))
    found = distance_matrix(manifold, points, search=exactly)
    i, j = all_pairs(found.length, symmetric=True)
    warn_of_doubts("k-medoids", found.status[i, j], "their lengths are too large, or inexact", refined=search.refines)
    return _of(found)


def _of(found: DistanceMatrix) -> Between:
    i, j = all_pairs(found.length, symmetric=True)
    status = found.status[i, j]
    # A pair without a path is farther apart than all others, and still has a sum.
    D = found.length.nan_to_num(nan=torch.finfo(found.length.dtype).max ** 0.5)
    return Between(D, of_all(status[status != Status.NOT_SOUGHT]), found.error.amax())


def known_between(manifold: Manifold, distances: Any, given: Rows, sets: Float[Tensor, "B N d"]) -> list[Between]:
    """The distances that a user gave, for each set of points.

    Args:
        manifold: Where the points are.
        distances: A tensor, (*batch, N, N), or for one set a `DistanceMatrix`.
        given: The points as given, (*batch, N, *event).
        sets: The points.

    Raises:
        InputError: They are none, of another shape, not symmetric, or between other points.
    """
    N = given.batch[-1]
    if isinstance(distances, DistanceMatrix):
        if len(given.batch) > 1 or not distances.symmetric or distances.length.shape != (N, N):
            kind = "" if distances.symmetric else ", from points to others"
            raise InputError(
                f"distances: expected those between all points of one set, {(N, N)}, got "
                f"{tuple(distances.length.shape)}{kind}, for points of shape {(*given.batch, *given.event)}"
            )
        require_between(manifold, distances, sets[0])
        found = _of(distances)
        return [Between(found.matrix.to(sets), found.status.to(sets.device), found.error.to(sets))]
    sure = torch.full((), Status.CONVERGED, dtype=torch.long, device=sets.device)
    return [Between(D, sure, sets.new_zeros(())) for D in _matrices(distances, given.batch, sets)]


def medoid(D: Float[Tensor, "N N"], weights: Float[Tensor, " N"], power: int) -> Int[Tensor, ""]:
    """The point from which the weighted sum of a power of the distances is least, among those that have a weight."""
    sums = (D.double() ** power @ weights.double()).nan_to_num(nan=torch.inf)
    return torch.where(weights > 0, sums, torch.inf).argmin()


def _matrices(distances: Any, batch: torch.Size, sets: Float[Tensor, "B N d"]) -> Float[Tensor, "B N N"]:
    N = batch[-1]
    if not isinstance(distances, Tensor) or distances.shape != (*batch, N):
        got = tuple(distances.shape) if isinstance(distances, Tensor) else type(distances).__name__
        raise InputError(f"distances: expected a tensor of shape {(*batch, N)}, one row for each point, got {got}")
    D = distances.detach().to(sets).reshape(-1, N, N).clone()
    if not bool((D.isfinite() & (D >= 0)).all()):
        where = (~(D.isfinite() & (D >= 0))).nonzero()[0].tolist()
        raise InputError(
            f"distances: expected finite numbers, none below zero, got {D[tuple(where)].item()} at {where}"
        )
    for matrix in D:
        require_symmetric("distances", matrix)
    return D
