"""Lengths between the same rows under one model of many, in a store beside it."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from geodesic.data.dataset import Dataset
from geodesic.distances.store.fill import fill
from geodesic.distances.store.folder import Folder
from geodesic.distances.store.manifest import versions
from geodesic.distances.store.pairs_job import GeodesicsJob, PairsJob
from geodesic.distances.store.settings import Store
from geodesic.distances.told import DistanceProgress
from geodesic.experiment.folders import run_folder
from geodesic.experiment.run import open_run, to_numpy
from geodesic.experiment.settings.whole import Settings
from geodesic.experiment.studies.spline_adam import AdamJob
from geodesic.geometry.checks import guarded
from geodesic.geometry.manifold import Manifold
from geodesic.models.checkpoint import WEIGHTS
from geodesic.solvers.doubts import warn_of_doubts

__all__ = ["ModelLengths", "lengths_of"]

Told = Callable[[DistanceProgress], None] | None


@dataclass(frozen=True)
class ModelLengths:
    """Distances of P pairs.

    Args:
        euclidean: In latent coordinates, (P,).
        geodesic: Lengths of geodesics, (P,); not a number where one did not converge.
        adam: Lengths of splines after each number of steps, (P, S).
    """

    euclidean: NDArray
    geodesic: NDArray
    adam: NDArray


def lengths_of(
    settings: Settings, runs: Path, dataset: Dataset, rows: NDArray, store: Store, callback: Told
) -> ModelLengths:
    """The lengths under a trained model, of which those are found that its stores lack.

    Args:
        settings: Of the model.
        runs: Where its folder is.
        dataset: Its data.
        rows: Test rows of the pairs, (P, 2).
        store: Who computes, and how many pairs at a time.
        callback: Called after each chunk of pairs.
    """
    folder = run_folder(settings, runs)
    with open_run(settings, folder, dataset) as run:
        assert run.test_encodings is not None
        start, end = run.test_encodings[torch.as_tensor(rows.T, device=run.device)]
        search = replace(run.search, solver=next(iter(run.solvers.values())))
        geodesics = GeodesicsJob(run.manifold, start, end, search, store.tile)
        exact = _filled(run.manifold, geodesics, replace(store, path=folder / _name(settings, folder, rows)), callback)
        steps = settings.cov.adam_steps
        adam = np.zeros((len(rows), 0))
        if steps:
            job = AdamJob(run.manifold, start, end, search, store.tile, steps)
            there = replace(store, path=folder / f"adam-{_name(settings, folder, rows, *steps)}")
            adam = _filled(run.manifold, job, there, callback).array("length")[:]
    effect = "their lengths are left out, or inexact"
    doubts = torch.as_tensor(exact.array("status")[:]).long()
    warn_of_doubts(f"cov: {settings.name}", doubts, effect, refined=run.search.refines)
    return ModelLengths(to_numpy((end - start).norm(dim=-1)), exact.array("length")[:], adam)


@guarded
def _filled(manifold: Manifold, job: PairsJob, store: Store, callback: Told) -> Folder:
    return Folder(fill(replace(job, manifold=manifold), store, callback))


def _name(settings: Settings, folder: Path, rows: NDArray, *more: int) -> str:
    """Of a store, by what its lengths are measured with: the weights too, which a resumed training changes."""
    weights = zlib.crc32((folder / WEIGHTS).read_bytes())
    search = settings.geodesic.model_dump_json()
    key = json.dumps([search, settings.dtype, weights, rows.tolist(), settings.cov.tile, versions(), more])
    return f"lengths-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
