"""How many nearest neighbors change when distances are geodesic ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodesic.arrays import with_arrays
from geodesic.distances.matrix import distance_matrix
from geodesic.distances.neighborhoods import decided_by_bounds, nearest_others
from geodesic.distances.neighbors import nearest
from geodesic.errors import GeodesicError
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.period import unwrapped

__all__ = ["Neighbors", "evenly", "latent_distances", "neighbors_by", "neighbors_in", "neighbors_or_why"]


@dataclass(frozen=True)
class Neighbors:
    """Nearest neighbors by geodesics beside those by latent coordinates.

    Attributes:
        points: How many points were looked at, each of which has its neighbor among the others.
        changed: Share of them whose nearest neighbor is another one than by latent coordinates.
        bent: Share of them whose nearest neighbor is another one than by lengths of straight lines in the geometry:
            what geodesics change, and the geometry alone does not.
        surely_bent: The same, counted only where bounds of distances leave no doubt of the nearest neighbor.
        open: Share of them whose nearest neighbor these bounds leave open: lengths found decided.
    """

    points: int
    changed: float
    bent: float
    surely_bent: float
    open: float

    @classmethod
    def of(cls, near: NDArray, latent: NDArray, straight: NDArray, decided: NDArray) -> Neighbors:
        """From the nearest neighbors by geodesics, latent coordinates and straight lines, and where they are sure."""
        bent = near != straight
        shares = (near != latent, bent, bent & decided, ~decided)
        changed, bent, surely, loose = (float(share.mean()) for share in shares)
        return cls(len(near), changed, bent, surely, loose)


def neighbors_in(arrays: Mapping[str, NDArray]) -> Neighbors:
    """Those of a matrix of distances: `length`, `lower`, `upper`, `straight_length`, `latent_distance`, (N, N)."""
    names = ("length", "latent_distance", "straight_length")
    near, latent, straight = (nearest_others(arrays[name], 1)[:, 0] for name in names)
    return Neighbors.of(near, latent, straight, decided_by_bounds(arrays["lower"], arrays["upper"], near))


def neighbors_by(manifold: Manifold, points: Tensor) -> Neighbors:
    """Those of latent points, (N, d): geodesics are solved for where bounds do not decide.

    Raises:
        InputError: The manifold has no lengths.
        DecoderError: As from `solve`.
    """
    N, latent_shape = len(points), getattr(manifold, "latent_shape", None)
    given = points if latent_shape is None else points.reshape(-1, *latent_shape)
    found = nearest(manifold, given, None, 2)
    indices, loose = with_arrays(found.indices), with_arrays(found.open | found.unordered).any(1)
    near = np.where(indices[:, 0] == np.arange(N), indices[:, 1], indices[:, 0])
    straight = with_arrays(distance_matrix(manifold, given, method="straight").straight_length)
    others = [nearest_others(D, 1)[:, 0] for D in (latent_distances(manifold, points), straight)]
    return Neighbors.of(near, others[0], others[1], ~loose)


def neighbors_or_why(manifold: Manifold, points: Tensor) -> tuple[Neighbors | None, dict[str, str]]:
    """How many nearest neighbors change among latent points; or why that is not known, as what a page is missing."""
    if len(points) < 3:
        return None, {"neighbors": f"neighbors change among three points or more, got {len(points)}."}
    try:
        return neighbors_by(manifold, points), {}
    except GeodesicError as error:
        return None, {"neighbors": f"nearest neighbors cannot be found: {error}."}


def evenly(points: NDArray, count: int) -> NDArray:
    """Some of the points, (N, d), evenly chosen."""
    return points[np.linspace(0, len(points) - 1, min(count, len(points))).round().astype(int)]


def latent_distances(manifold: Manifold | None, points: Tensor, rows: slice = slice(None)) -> NDArray:
    """Straight distances from some of N latent points to all, (n, N): to the nearest copies of periodic ones."""
    period = None if manifold is None else manifold.period
    distances = [(unwrapped(period, points, row) - row).norm(dim=-1) for row in points[rows]]
    return np.asarray(with_arrays(torch.stack(distances)))
