"""A run as the explorer shows it: its data, its pairs, and the geometries that its model can have."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geodesic.errors import GeodesicError, RunFolderError
from geodesic.experiment.build import make_manifold, make_solver
from geodesic.experiment.geometries import GEOMETRIES, Context, Geometry
from geodesic.experiment.run import Run, open_run, to_numpy
from geodesic.experiment.settings.geodesics import GeodesicSettings
from geodesic.experiment.settings.load import load_settings
from geodesic.explorer.scene import Scene
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.outputs import OUTPUT_GEOMETRIES
from geodesic.solvers.search import Search
from geodesic.solvers.solver import SOLVERS, Solver

__all__ = ["scene_of_run"]

_DRAWN = 1000  # points from the prior, where there are no encodings


def scene_of_run(folder: str | Path, *, name: str = "geodesics", overrides: tuple[str, ...] = ()) -> Scene:
    """What the explorer shows of a run. Everything is read here: the run may be trained anew while it is explored.

    Args:
        folder: The run folder.
        name: The results whose settings count, pairs among them, as given to `solve_pairs`; where there are none,
            those of the training.
        overrides: Settings to change, such as `geodesic.geometry=fisher_rao`.

    Raises:
        RunFolderError: The folder is no run, or is being trained.
        SettingsError: Its settings cannot be read, or an override is refused.
        CheckpointError: Its weights cannot be read.
        DecoderError: The decoder cannot be used.
    """
    folder = Path(folder)
    files = [folder / f"{name}.yaml", folder / "config.yaml"]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise RunFolderError(
            f"{folder}: there is neither {files[0].name} nor config.yaml in it, so it is no run; `geodesic runs` lists "
            "those that there are"
        )
    with open_run(load_settings(file, overrides), folder) as run:
        return _scene(run)


def _scene(run: Run) -> Scene:
    run.manifold.require_usable()
    encodings, pairs = run.test_encodings, None
    points = _from_prior(run) if encodings is None else encodings
    with contextlib.suppress(GeodesicError):  # rows are asked for that this run has not: there are no pairs to show
        pairs = run.settings.pairs.choose(run)
    rows: Callable[[int], Any] | None = None
    if encodings is not None and (test := run.test) is not None:

        def rows(row: int) -> Any:
            return to_numpy(run.model.pictured(test.values[row : row + 1]))[0]

    return Scene(
        title=run.settings.name,
        points=points,
        geometries=_geometries(run),
        labels=None if encodings is None else run.labels,
        decode=run.decode,
        rows=rows,
        solvers=_solvers(run),
        pairs=None if pairs is None else (pairs.start, pairs.end, pairs.names),
        graph_points=run.train_encodings,
        search=_search(run),
    )


def _from_prior(run: Run) -> Tensor:
    generator = torch.Generator().manual_seed(run.settings.seed)
    z = torch.randn(_DRAWN, run.latent_size, generator=generator, dtype=run.dtype)
    return z.to(run.device)


def _geometries(run: Run) -> dict[str, Callable[[], Manifold]]:
    """The geometry of the settings first, then the others of this model that need no settings of their own."""
    first = run.settings.geodesic.geometry
    name = next(
        kind for registry in (GEOMETRIES, OUTPUT_GEOMETRIES) for kind in registry if registry[kind] is type(first)
    )
    found = {name: run.manifold}
    for kind in GEOMETRIES:
        if kind not in found:
            with contextlib.suppress(GeodesicError):  # the model does not have what it needs
                found[kind] = _manifold(run, GEOMETRIES.make(kind))
    return {kind: functools.partial(_same, manifold) for kind, manifold in found.items()}


def _same(manifold: Manifold) -> Manifold:
    return manifold


def _manifold(run: Run, geometry: Geometry) -> Manifold:
    search: GeodesicSettings = run.settings.geodesic.model_copy(update={"geometry": geometry})
    independent = search.members == "independent"
    return make_manifold(search, Context(run.model, run.device, run.dtype, lambda: run.train_encodings, independent))


def _solvers(run: Run) -> dict[str, Solver[Any] | str]:
    """The solvers of the settings, and those that need none; not those by the encoder, which are for one geometry."""
    search = run.settings.geodesic
    found = {
        entry.name: make_solver(entry, run.model, search)
        for entry in search.solvers
        if getattr(entry, "direction", None) != "encoder"
    }
    return {"auto": "auto"} | found | {kind: SOLVERS.make(kind) for kind in SOLVERS if kind not in found}


def _search(run: Run) -> Search:
    return replace(run.search, init="straight", graph_points=None)
