"""Distances through the surrounding space, which no curve on the manifold is shorter than."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.distances.rounding import OF_OUTPUTS, places_of, surely_below
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import grouped, rows_at_once
from geodesic.geometry.period import on_circles

__all__ = ["Surroundings"]

_AT_ONCE = 2**24  # numbers of a block of distances


class Surroundings:
    """Where points lie in the surrounding space: of an embedded geometry, evaluated once.

    Args:
        manifold: Its embedding, if it has one, is the space; else points lie where their latent numbers say, on circles
            where these are periodic, and only the manifold itself knows lower bounds, or none.
        points: (N, d).
    """

    def __init__(self, manifold: Manifold, points: Float[Tensor, "N d"]) -> None:
        self.manifold, self.points = manifold, points
        embedded = manifold.has_embedding
        self.places = places_of(manifold, points) if embedded else on_circles(manifold.period, points)

    def distances(self, rows: Int[Tensor, " n"], columns: Int[Tensor, " m"]) -> Float[Tensor, "n m"]:
        """Straight distances between some points and others, (n, m), by differences: none is lost to rounding."""
        places = self.places[columns]
        exact = "donot_use_mm_for_euclid_dist"
        parts = [
            torch.cdist(self.places[some], places, compute_mode=exact)
            for some in rows.split(max(1, _AT_ONCE // max(len(columns), 1)))
        ]
        return torch.cat(parts)

    def lower_bounds(self, rows: Int[Tensor, " n"], columns: Int[Tensor, " m"]) -> Float[Tensor, "n m"]:
        """What the distances between some points and others are never below, (n, m)."""
        if self.manifold.has_embedding:
            size = self.places.norm(dim=1)
            off = OF_OUTPUTS * torch.finfo(size.dtype).eps * (size[rows, None] + size[columns])
            return (self.distances(rows, columns) - off).clamp_min(0)
        i, j = rows.repeat_interleave(len(columns)), columns.repeat(len(rows))
        with torch.no_grad():
            size = rows_at_once(self.manifold, self.points, order=1)
            lower = grouped(self.manifold.lower_bound, size, self.points[i], self.points[j])
        lower = surely_below(self.manifold, lower, self.points[i], self.points[j])
        return lower.reshape(len(rows), len(columns))

    def nearest(self, rows: Int[Tensor, " n"], columns: Int[Tensor, " m"], k: int) -> Int[Tensor, "n k"]:
        """The k nearest of others to some points by these distances, a point itself excepted, (n, k)."""
        found = []
        for some in rows.split(max(1, _AT_ONCE // max(len(columns), 1))):
            D = self.distances(some, columns)
            D[some[:, None] == columns] = torch.inf
            found.append(columns[D.topk(k, largest=False).indices])
        return torch.cat(found)
