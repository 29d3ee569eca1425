"""Distances of a run in a store: filled where something is missing, read in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from numpy.typing import NDArray

from geodesic.distances.matrix import distance_matrix
from geodesic.distances.methods import METHODS, Exact, Method, Straight
from geodesic.distances.store.settings import Store
from geodesic.distances.store.stored import StoredDistances, open_distances
from geodesic.distances.told import DistanceProgress
from geodesic.errors import DataError, SettingsError
from geodesic.experiment.points import Points
from geodesic.experiment.run import Run, to_numpy
from geodesic.reporting.neighbors import latent_distances
from geodesic.solvers.search import Search

__all__ = ["filled", "rows_of", "suits_store"]

_FIELDS = ("length", "lower", "upper", "straight_length", "status")


def suits_store(method: Method, report: Callable[[str], None] | None) -> Method:
    """The method of the settings, as a store has it.

    Raises:
        SettingsError: It looks at all points together.
    """
    if not isinstance(method, Exact | Straight):
        raise SettingsError(
            f"distances.method: got {METHODS.kind_of(method)!r}, which looks at all points together; --store takes "
            "'exact' and 'straight', which go tile by tile"
        )
    if isinstance(method, Exact) and method.mend:
        if report is not None:
            report("pairs are not mended by way of third points, which lie in other tiles (distances.method)")
        return replace(method, mend=False)
    return method


def filled(
    run: Run,
    points: Points,
    search: Search,
    store: Store,
    callback: Callable[[DistanceProgress], None] | None,
    report: Callable[[str], None] | None,
) -> StoredDistances:
    """The distances of a run, of which those are computed that the store lacks.

    Args:
        run: With the manifold, and a method that `suits_store`.
        points: Between which.
        search: How to look.
        store: Where, and who computes.
        callback: Called after each tile.
        report: Told how to go on, where it is interrupted.
    """
    wanted = run.settings.distances
    store = replace(store, tile=wanted.tile)
    try:
        return distance_matrix(
            run.manifold, points.points, method=wanted.method, search=search, callback=callback, store=store
        )
    except KeyboardInterrupt:
        if report is not None:
            report(_how_to_go_on(store))
        raise


def _how_to_go_on(store: Store) -> str:
    try:
        found = open_distances(store.path)
    except DataError:
        return f"nothing is in {store.path} yet; the same command begins"
    return f"{store.path} lacks {len(found.missing):,} tiles; the same command computes these alone"


def rows_of(run: Run, points: Points, stored: StoredDistances) -> Iterator[dict[str, NDArray]]:
    """Groups of rows of the matrices, with latent distances, one after the other."""
    for first in range(0, stored.shape[0], stored.tile):
        rows = slice(first, first + stored.tile)
        block = stored.load(rows)
        latent = latent_distances(run.manifold, points.points, rows)
        yield {name: to_numpy(getattr(block, name)) for name in _FIELDS} | {"latent_distance": latent}
