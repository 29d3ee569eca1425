"""Distances through the surrounding space, which no curve on the manifold is shorter than."""

from __future__ import annotations

from copy import copy

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.distances.rounding import OF_OUTPUTS, observed, places_of, surely_apart
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.period import on_circles

__all__ = ["Surroundings", "chords_below", "equal"]

_AT_ONCE = 2**24  # numbers of a block of distances


def equal(x: Float[Tensor, "N d"], y: Float[Tensor, "M d"]) -> Bool[Tensor, "N M"]:
    """Which points are one and the same as which others, (N, M), however many coordinates they have.

    Example:
        >>> import torch
        >>> from geodesic.distances.surroundings import equal
        >>> equal(torch.tensor([[0.0, 1.0], [2.0, 1.0]]), torch.tensor([[2.0, 1.0]])).tolist()
        [[False], [True]]
    """
    number = torch.cat([x, y]).unique(dim=0, return_inverse=True)[1]
    return number[: len(x), None] == number[len(x) :]


def chords_below(manifold: Manifold, z: Float[Tensor, "q d"], points: Float[Tensor, "q C d"]) -> Float[Tensor, "q C"]:
    """What the distances from points to some others each are never below, (q, C): of an embedded geometry.

    Args:
        manifold: With an embedding.
        z: From these.
        points: To these.
    """
    x, parts = places_of(manifold, z), []
    size = max(1, _AT_ONCE // (points.shape[1] * x.shape[1]))
    for from_, to in zip(x.split(size), points.split(size), strict=True):
        y = places_of(manifold, to.flatten(0, 1)).reshape(*to.shape[:2], -1)
        off = OF_OUTPUTS * torch.finfo(x.dtype).eps * (from_.norm(dim=1)[:, None] + y.norm(dim=2))
        parts.append(((y - from_[:, None]).norm(dim=2) - off).clamp_min(0))
    return torch.cat(parts).nan_to_num(nan=torch.inf, posinf=torch.inf)


class Surroundings:
    """Where points lie in the surrounding space, and what bounds their distances: outputs are evaluated once.

    Args:
        manifold: Its embedding, if it has one, is the space; else points lie where their latent numbers say, on circles
            where these are periodic, and lower bounds are how far apart outputs are, or zero.
        points: (N, d).
    """

    def __init__(self, manifold: Manifold, points: Float[Tensor, "N d"]) -> None:
        self.manifold, self.points = manifold, points
        self.outputs = observed(manifold, points) if manifold.has_chords else points[:, :0]
        self.places = self.outputs.flatten(1) if manifold.has_embedding else on_circles(manifold.period, points)

    def with_more(self, points: Float[Tensor, "n d"]) -> Surroundings:
        """These points with others behind them; these are not evaluated again."""
        more = Surroundings(self.manifold, points)
        both = copy(self)
        for name in ("points", "outputs", "places"):
            setattr(both, name, torch.cat([getattr(self, name), getattr(more, name)]))
        return both

    def distances(self, rows: Int[Tensor, " n"], columns: Int[Tensor, " m"]) -> Float[Tensor, "n m"]:
        """Straight distances between some points and others, (n, m), by differences: none is lost to rounding.

        Infinite where outputs are not finite.
        """
        places = self.places[columns]
        exact = "donot_use_mm_for_euclid_dist"
        parts = [
            torch.cdist(self.places[some], places, compute_mode=exact).nan_to_num(nan=torch.inf)
            for some in rows.split(max(1, _AT_ONCE // max(len(columns), 1)))
        ]
        return torch.cat(parts)

    def lower_bounds(self, rows: Int[Tensor, " n"], columns: Int[Tensor, " m"]) -> Float[Tensor, "n m"]:
        """What the distances between some points and others are never below, (n, m).

        Infinite where the outputs of one of them are not finite: no curve to it has a length.
        """
        if self.manifold.has_embedding:
            size = self.places.norm(dim=1)
            off = OF_OUTPUTS * torch.finfo(size.dtype).eps * (size[rows, None] + size[columns])
            lower = (self.distances(rows, columns) - off).clamp_min(0)
            return lower.nan_to_num(nan=torch.inf, posinf=torch.inf)
        if not self.manifold.has_chords:
            return self.points.new_zeros(len(rows), len(columns))
        pairs, parts = len(rows) * len(columns), []
        size = max(1, _AT_ONCE // self.outputs[0].numel())
        for first in range(0, pairs, size):
            pair = torch.arange(first, min(first + size, pairs), device=rows.device)
            i, j = rows[pair // len(columns)], columns[pair % len(columns)]
            with torch.no_grad():
                parts.append(surely_apart(self.manifold, self.outputs[i], self.outputs[j]))
        return torch.cat(parts).reshape(len(rows), -1).nan_to_num(nan=torch.inf, posinf=torch.inf)

    def nearest(self, rows: Int[Tensor, " n"], columns: Int[Tensor, " m"], k: int) -> Int[Tensor, "n k"]:
        """The k nearest of others to some points by these distances, a point itself excepted, (n, k)."""
        found = []
        for some in rows.split(max(1, _AT_ONCE // max(len(columns), 1))):
            D = self.distances(some, columns)
            D[some[:, None] == columns] = torch.inf
            found.append(columns[D.topk(k, largest=False).indices])
        return torch.cat(found)
