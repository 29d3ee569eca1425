"""A plugin of Dask that gives every worker its job, once; imported where Dask is used."""

from __future__ import annotations

from typing import Any

from distributed import WorkerPlugin

from geodesic.distances.store.job import Chunk
from geodesic.distances.store.work import Parcel

__all__ = ["Delivery", "delivered"]

_PARCELS: dict[str, Parcel] = {}
"""Of this worker, by their names."""


class Delivery(WorkerPlugin):
    """Gives a parcel to every worker, those too that come later, or again.

    Args:
        name: Of the parcel.
        parcel: With the job.
    """

    def __init__(self, name: str, parcel: Parcel) -> None:
        self.name, self.parcel = name, parcel

    def setup(self, worker: Any) -> None:
        _PARCELS[self.name] = self.parcel

    def teardown(self, worker: Any) -> None:
        _PARCELS.pop(self.name, None)


def delivered(name: str, chunk: Chunk) -> Chunk:
    """On a worker: do a chunk of the job that it was given."""
    return _PARCELS[name].done(chunk)
