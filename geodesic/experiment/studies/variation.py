"""How reproducible distances are: their coefficient of variation over models trained from different seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from geodesic.distances.store.job import one_thread
from geodesic.distances.store.settings import Store
from geodesic.distances.store.workers import for_each, started
from geodesic.distances.told import DistanceProgress
from geodesic.errors import CheckpointError, DataError, RunFolderError, SettingsError
from geodesic.experiment.build import check_search
from geodesic.experiment.folders import run_folder, trained_with
from geodesic.experiment.pairs import PAIRS, RowPairs
from geodesic.experiment.settings.load import settings_to_yaml
from geodesic.experiment.settings.model import VAESettings
from geodesic.experiment.settings.whole import Settings
from geodesic.experiment.studies.seed_lengths import ModelLengths, lengths_of
from geodesic.experiment.studies.solver_share import coefficient_of_variation, solver_rows
from geodesic.experiment.train import train
from geodesic.files import replacing, write_npz
from geodesic.installation import require
from geodesic.pictures.canvas import save_figure
from geodesic.pictures.statistics import plot_variation

__all__ = ["Variation", "measure_variation"]

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Variation:
    """Distances between the same pairs under models that differ in their seed.

    Args:
        decoders: Numbers of decoders, (K,).
        euclidean: Latent distances, (K, seeds, P).
        geodesic: Lengths of geodesics, (K, seeds, P); not a number where a pair did not converge.
        adam: Lengths of splines after some steps of Adam, by their number, (K, seeds, P) each.
        file: Where they are.
        figure: Where the picture is.
    """

    decoders: tuple[int, ...]
    euclidean: NDArray
    geodesic: NDArray
    adam: dict[int, NDArray]
    file: Path
    figure: Path

    def coefficients(self) -> dict[str, NDArray]:
        """Coefficients of variation of each pair, (K, P), by kind of distance."""
        kinds = {"euclidean": self.euclidean, "geodesic": self.geodesic} | self._by_solver
        return {name: coefficient_of_variation(distances) for name, distances in kinds.items()}

    def solver_rows(self) -> list[dict[str, object]]:
        """How much of the variation is Adam's, see `solver_rows`."""
        return solver_rows(self.decoders, self.geodesic, self._by_solver)

    @property
    def _by_solver(self) -> dict[str, NDArray]:
        return {f"Adam, {steps} steps": lengths for steps, lengths in self.adam.items()}


def measure_variation(
    settings: Settings,
    runs: str | Path = "runs",
    *,
    overwrite: bool = False,
    progress: bool = True,
    report: Report | None = None,
    scheduler: str = "local",
    callback: Callable[[DistanceProgress], None] | None = None,
) -> Variation:
    """Train models that differ in their seed, measure the same pairs in each, and compare.

    Every number of decoders in `cov.decoders` is trained `cov.seeds` times, from the seeds `seed`, `seed + 1`, ...
    Writes `cov.npz`, `cov.yaml` and `cov.png` into RUNS/NAME-cov. Models and distances are kept there, so that an
    interrupted run goes on where it was: trained models are used again, begun ones are resumed, and of the pairs of a
    model those are measured that are missing, `cov.tile` at a time. Geodesics are those of the first of the solvers;
    one decoder has no members to choose from, whatever `geodesic.members` says. The same pairs are measured by
    `adam_lengths` after `cov.adam_steps` steps.

    Reference:
        S. Syrota, P. Moreno-Muñoz, S. Hauberg, Decoder ensembling for learned latent geometries, 2024.

    Args:
        settings: The experiment. Its pairs are rows of the test data.
        runs: Parent of all run folders.
        overwrite: Replace a table that is there.
        progress: Show the progress of training.
        report: Called before each model with its name, how many are done, and of how many; with workers, after it is
            trained.
        scheduler: Who trains and measures, as in `geodesic.distances.Store`: with workers, a model each is trained.
        callback: Called after each chunk of pairs of a model.

    Returns:
        The distances.

    Raises:
        SettingsError: The settings name no data, a decoder of the user's own, or latent points from a file.
        RunFolderError: `cov.npz` is there already.
        InputError: There is no such scheduler, or it has no workers.
        MissingExtraError: Zarr is not installed.
    """
    require("scale", "zarr")
    models = list(_models(settings))
    assert settings.data is not None
    folder = Path(runs) / f"{settings.name}-cov"  # beside the run of that name, which can be replaced on its own
    file, figure = folder / "cov.npz", folder / "cov.png"
    if file.exists() and not overwrite:
        raise RunFolderError(f"{file} exists already; replace it with --overwrite (trained models are used again)")
    dataset = settings.data.load()
    for model in models:
        assert isinstance(model.model, VAESettings)
        check_search(model.geodesic, model.model, dataset.event_shape)
    assert isinstance(settings.pairs, RowPairs)
    rows = settings.pairs.rows(dataset.test)
    with started(Store(folder, settings.cov.tile, scheduler)) as store:
        workers = store.scheduler != "local"
        if workers:
            _train_all(models, folder / "models", store, report)
        found: list[ModelLengths] = []
        for done, model in enumerate(models):
            if not workers:
                if report is not None:
                    report(model.name, done, len(models))
                _train(model, folder / "models", progress)
            found.append(lengths_of(model, folder / "models", dataset, rows, store, callback))
    if report is not None:
        report("", len(models), len(models))
    shape = (len(settings.cov.decoders), settings.cov.seeds, len(rows))
    euclidean, lengths = (np.stack([getattr(x, k) for x in found]).reshape(shape) for k in ("euclidean", "geodesic"))
    adam = {
        steps: np.stack([x.adam[:, k] for x in found]).reshape(shape) for k, steps in enumerate(settings.cov.adam_steps)
    }
    variation = Variation(settings.cov.decoders, euclidean, lengths, adam, file, figure)
    save_figure(plot_variation(variation.decoders, variation.coefficients()), figure)
    with replacing(folder / "cov.yaml") as settings_file:  # both or neither, as for `solve_pairs`
        settings_file.write_text(settings_to_yaml(settings), encoding="utf-8")
        arrays = {"decoders": np.array(variation.decoders), "rows": rows, "euclidean": euclidean, "geodesic": lengths}
        write_npz(file, arrays | {f"adam_{steps}": values for steps, values in adam.items()})
    return variation


def _models(settings: Settings) -> Iterator[Settings]:
    """The settings of each model to train, in order of `cov.decoders` and seeds."""
    if settings.data is None or not isinstance(settings.model, VAESettings):
        raise SettingsError("cov: trains models from several seeds, so it needs data and a VAE, not model.import")
    if not isinstance(settings.pairs, RowPairs):
        raise SettingsError(
            f"pairs.kind: {PAIRS.kind_of(settings.pairs)!r} gives latent points, which mean something else in each "
            "model; choose rows of the test data: random, index or label"
        )
    for K in settings.cov.decoders:
        model = settings.model.model_copy(update={"decoders": K})
        try:
            VAESettings.model_validate(dict(model))  # a copy is not validated
        except ValidationError as error:
            raise SettingsError(f"cov.decoders: got {K}; {error.errors()[0]['msg']}") from None
        for seed in range(settings.seed, settings.seed + settings.cov.seeds):
            # One decoder has no members to choose from.
            search = settings.geodesic.model_copy(update={} if K > 1 else {"members": "same"})
            changed = {"name": f"decoders-{K}-seed-{seed}", "seed": seed, "model": model, "geodesic": search}
            yield settings.model_copy(update=changed)


def _train(settings: Settings, runs: Path, progress: bool) -> None:
    folder = run_folder(settings, runs)
    if trained_with(settings, folder):
        return
    begun = (folder / "last.ckpt").is_file()
    try:
        train(settings, runs, resume=begun, overwrite=folder.exists() and not begun, progress=progress)
    except (RunFolderError, CheckpointError) as error:
        raise type(error)(f"{error}; or remove {runs} to train all of its models anew") from None


def _train_all(models: list[Settings], runs: Path, store: Store, report: Report | None) -> None:
    """Train the models by workers, one a worker."""
    there = (runs.absolute(), torch.get_default_dtype())
    tasks: dict[str, tuple[Any, ...]] = {model.name: (_train_there, model, *there) for model in models}
    for done, name in enumerate(for_each(tasks, store)):
        if report is not None:
            report(name, done, len(models))


def _train_there(settings: Settings, runs: Path, dtype: torch.dtype) -> str:
    """On a worker: train a model, if it is not trained, from the weights that the driver would begin with."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with one_thread():
            _train(settings, runs, progress=False)
    except OSError as error:
        raise DataError(
            f"{runs}: a worker cannot write there ({error}); choose a folder that all machines see"
        ) from None
    finally:
        torch.set_default_dtype(before)
    return settings.name
