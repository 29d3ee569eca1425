"""How reproducible distances are: their coefficient of variation over models trained from different seeds."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from geodesic.data.dataset import Dataset
from geodesic.errors import CheckpointError, DataError, RunFolderError, SettingsError
from geodesic.experiment.build import check_search
from geodesic.experiment.folders import run_folder, trained_with
from geodesic.experiment.pairs import PAIRS, RowPairs
from geodesic.experiment.run import open_run, to_numpy
from geodesic.experiment.settings.load import settings_to_yaml
from geodesic.experiment.settings.model import VAESettings
from geodesic.experiment.settings.whole import Settings
from geodesic.experiment.train import train
from geodesic.files import read_npz, replacing, write_npz
from geodesic.models.checkpoint import WEIGHTS
from geodesic.pictures.canvas import save_figure
from geodesic.pictures.statistics import plot_variation
from geodesic.solvers.doubts import doubts_of, warn_of_doubts

__all__ = ["Variation", "coefficient_of_variation", "measure_variation"]

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Variation:
    """Distances between the same pairs under models that differ in their seed.

    Args:
        decoders: Numbers of decoders, (K,).
        euclidean: Latent distances, (K, seeds, P).
        geodesic: Lengths of geodesics, (K, seeds, P); not a number where a pair did not converge.
        file: Where they are.
        figure: Where the picture is.
    """

    decoders: tuple[int, ...]
    euclidean: NDArray
    geodesic: NDArray
    file: Path
    figure: Path

    def coefficients(self) -> dict[str, NDArray]:
        """Coefficients of variation of each pair, (K, P), by kind of distance."""
        return {name: coefficient_of_variation(getattr(self, name)) for name in ("euclidean", "geodesic")}


def coefficient_of_variation(distances: NDArray) -> NDArray:
    """Standard deviation over mean, along the axis before the last; not a number where less than two are known.

    Args:
        distances: (..., seeds, P); values that are not a number are left out.

    Returns:
        (..., P), without unit, with the unbiased variance.

    Example:
        >>> import numpy as np
        >>> from geodesic.experiment.studies.variation import coefficient_of_variation
        >>> coefficient_of_variation(np.array([[1.0, 5.0], [3.0, 5.0]])).round(3)
        array([0.707, 0.   ])
    """
    known = ~np.isnan(distances)
    count = known.sum(-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, distances, 0).sum(-2) / count
        squares = np.where(known, (distances - mean[..., None, :]) ** 2, 0).sum(-2)
        return np.where(count > 1, np.sqrt(squares / (count - 1)) / mean, np.nan)


def measure_variation(
    settings: Settings,
    runs: str | Path = "runs",
    *,
    overwrite: bool = False,
    progress: bool = True,
    report: Report | None = None,
) -> Variation:
    """Train models that differ in their seed, measure the same pairs in each, and compare.

    Every number of decoders in `cov.decoders` is trained `cov.seeds` times, from the seeds `seed`, `seed + 1`, ...
    Writes `cov.npz`, `cov.yaml` and `cov.png` into RUNS/NAME-cov. Models and distances are kept there, so that an
    interrupted run goes on where it was: trained models are used again, begun ones are resumed. Geodesics are those of
    the first of the solvers; one decoder has no members to choose from, whatever `geodesic.members` says.

    Reference:
        S. Syrota, P. Moreno-Muñoz, S. Hauberg, Decoder ensembling for learned latent geometries, 2024.

    Args:
        settings: The experiment. Its pairs are rows of the test data.
        runs: Parent of all run folders.
        overwrite: Replace a table that is there.
        progress: Show the progress of training.
        report: Called before each model with its name, how many are done, and of how many.

    Returns:
        The distances.

    Raises:
        SettingsError: The settings name no data, a decoder of the user's own, or latent points from a file.
        RunFolderError: `cov.npz` is there already.
    """
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
    found = []
    for done, model in enumerate(models):
        if report is not None:
            report(model.name, done, len(models))
        _train(model, folder / "models", progress)
        found.append(_distances(model, folder / "models", dataset, rows))
    if report is not None:
        report("", len(models), len(models))
    shape = (len(settings.cov.decoders), settings.cov.seeds, len(rows))
    euclidean, lengths = (np.stack([pair[k] for pair in found]).reshape(shape) for k in (0, 1))
    variation = Variation(settings.cov.decoders, euclidean, lengths, file, figure)
    save_figure(plot_variation(variation.decoders, variation.coefficients()), figure)
    with replacing(folder / "cov.yaml") as settings_file:  # both or neither, as for `solve_pairs`
        settings_file.write_text(settings_to_yaml(settings), encoding="utf-8")
        arrays = {"decoders": np.array(variation.decoders), "rows": rows, "euclidean": euclidean, "geodesic": lengths}
        write_npz(file, arrays)
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


def _distances(settings: Settings, runs: Path, dataset: Dataset, rows: NDArray) -> tuple[NDArray, NDArray]:
    """Latent distances and lengths of geodesics between the rows of pairs, (P,) each, kept beside the model."""
    folder = run_folder(settings, runs)
    # What they were measured with: the weights too, which a resumed training changes.
    weights = zlib.crc32((folder / WEIGHTS).read_bytes())
    key = np.array(f"{settings.geodesic.model_dump_json()} {settings.dtype} {weights:08x}")
    file = folder / "distances.npz"
    if file.is_file():
        try:
            kept = read_npz(file)
            if np.array_equal(kept["rows"], rows) and kept["settings"] == key:
                return kept["euclidean"], kept["geodesic"]
        except (DataError, KeyError):
            pass  # measured again below
    with open_run(settings, folder, dataset) as run:
        assert run.test_encodings is not None
        start, end = run.test_encodings[torch.as_tensor(rows.T, device=run.device)]
        solution = run.solve(start, end)
        refined = run.search.refines
    effect = "their lengths are left out, or inexact"
    warn_of_doubts(f"cov: {settings.name}", doubts_of(solution), effect, refined=refined)
    lengths = torch.where(solution.converged, solution.length, torch.nan)
    arrays = {"euclidean": to_numpy((end - start).norm(dim=-1)), "geodesic": to_numpy(lengths)}
    write_npz(file, arrays | {"rows": rows, "settings": key})
    return arrays["euclidean"], arrays["geodesic"]
