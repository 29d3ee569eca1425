"""Nearest neighbors by geodesic distance: decided by bounds as far as they go, solved for where they do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from geodesic.checks import require_alike, require_integer
from geodesic.distances.approximate import Approximate, approximate_candidates, candidates_of
from geodesic.distances.candidates import Queries
from geodesic.distances.matrix import require_suited
from geodesic.distances.nearest_points import NearestPoints
from geodesic.distances.solved import Solver
from geodesic.distances.store.fill import fill
from geodesic.distances.store.nearest_job import NearestJob
from geodesic.distances.store.settings import Store, store_of
from geodesic.distances.store.stored_neighbors import StoredNeighbors, open_neighbors
from geodesic.distances.told import DistanceProgress, Teller
from geodesic.distances.tolerance import eased
from geodesic.errors import InputError
from geodesic.geometry.checks import guarded
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import Rows
from geodesic.keywords import renamed
from geodesic.solvers.search import IN_SEARCH, Search

__all__ = ["nearest"]

_QUERIES = 256  # at once


@overload
def nearest(
    manifold: Manifold,
    points: Tensor,
    queries: Tensor | None,
    k: int,
    *,
    search: Search = ...,
    candidates: str | Approximate = ...,
    callback: Callable[[DistanceProgress], None] | None = ...,
    store: None = ...,
) -> NearestPoints: ...
@overload
def nearest(
    manifold: Manifold,
    points: Tensor,
    queries: Tensor | None,
    k: int,
    *,
    search: Search = ...,
    candidates: str | Approximate = ...,
    callback: Callable[[DistanceProgress], None] | None = ...,
    store: Path | str | Store,
) -> StoredNeighbors: ...
@guarded
@renamed(**IN_SEARCH)
def nearest(
    manifold: Manifold,
    points: Tensor,
    queries: Tensor | None,
    k: int,
    *,
    search: Search = Search(),
    candidates: str | Approximate = "exact",
    callback: Callable[[DistanceProgress], None] | None = None,
    store: Path | str | Store | None = None,
) -> NearestPoints | StoredNeighbors:
    """The k nearest points to each query by geodesic distance.

    chord <= d <= length of the straight line, and of every curve that is found

    Candidates come in the order of their distance through the surrounding space, which no geodesic is shorter than, so
    none is missed: once that exceeds the k-th least length, no other point can be among the nearest. Straight lines
    bound distances from above. A geodesic is solved for only where these bounds leave open whether a point is
    among the k nearest, or which place it has. What stays open then is decided by length, and said.

    Warning:
        Where nothing bounds distances from below (a metric given by itself, no embedding), points are left out by the
        lengths of straight lines alone, and everything is open. A jump of the decoder is seen where a geodesic is
        solved for; a straight line across one counts as a curve.

    Args:
        manifold: Where to measure.
        points: To choose from, (N, d), floating point; (N, *latent_shape) for a manifold with a `latent_shape`.
        queries: Points to find neighbors of, (Q, d); None for the points themselves, each of which is its own first
            neighbor.
        k: Neighbors, from 1 to N.
        search: How geodesics are looked for, see `distance_matrix`.
        candidates: "exact" compares each query with all points. "approximate", or an `Approximate` with settings, looks
            among few that an index finds near through the surrounding space, for millions of points: some may be
            missed, and the answer's `recall` says how many on random queries.
        callback: Called with a `DistanceProgress` after each group of pairs.
        store: A folder, or a `geodesic.distances.Store`: queries are answered chunk by chunk, see `distance_matrix`.

    Returns:
        The neighbors, with bounds. Without history. Of a store, a `StoredNeighbors`, which reads what is looked at.

    Raises:
        InputError: Shapes or settings cannot be used, `k` is above the number of points, there are no lengths, or no
            surrounding space for approximate candidates.
        MissingExtraError: pynndescent or Zarr is not installed.
        DecoderError: As from `solve`.
        DataError: The store is of other points, another decoder or other settings, or cannot be written.
        RunFolderError: Another process fills the store.

    Example:
        >>> import torch, geodesic
        >>> roll = geodesic.surfaces.SwissRoll()
        >>> points = torch.linspace(1, 12, 40)[:, None] * torch.tensor([1.0, 0.0])
        >>> geodesic.nearest(roll, points, points[:1], 3).indices
        tensor([[0, 1, 2]])
    """
    require_suited(manifold, search)
    (x,) = _rows(manifold, points=points)
    search = eased(manifold, search, x)
    itself = queries is None or queries is points
    z = x if queries is None else _rows(manifold, queries=queries)[0]
    require_alike(points=x[:1], queries=z[:1])
    require_integer("k", k, least=1, most=len(x), note="the number of points")
    how = candidates_of(candidates, manifold, k, len(x))
    if store is not None:
        kept = store_of(store)
        job = NearestJob(manifold, x, None if itself else z, k, search, kept.tile, how)
        return open_neighbors(fill(job, kept, callback))
    among, recall = (None, 1.0) if how is None else approximate_candidates(manifold, x, None if itself else z, how)
    work = Queries(Solver(manifold, search), x, z, k, itself, Teller(callback), among)
    parts = [work.of(rows) for rows in torch.arange(len(z), device=z.device).split(_QUERIES)]
    found: dict[str, Any] = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return NearestPoints(**found, share_solved=work.count / (len(x) * len(z)), recall=recall)


def _rows(manifold: Manifold, **points: Any) -> list[Tensor]:
    axes = 1 + len(manifold.latent_shape or (None,))
    for name, z in points.items():
        if isinstance(z, Tensor) and (z.dim() != axes or not len(z)):
            raise InputError(f"{name}: expected points, (N, d), at least one, got {tuple(z.shape)}")
    return Rows(manifold, **points).rows
