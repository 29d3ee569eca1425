"""The report of a run, from its folder: a page that says whether geodesics matter, and what it could not find."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geodesic.errors import GeodesicError, RunFolderError, SettingsError
from geodesic.experiment.figures import results_in, solutions_in
from geodesic.experiment.folders import require_within, trained_with
from geodesic.experiment.pairs import names_of
from geodesic.experiment.run import Run, open_run
from geodesic.experiment.settings.load import load_settings, settings_to_yaml
from geodesic.experiment.settings.model import VAESettings
from geodesic.experiment.settings.whole import Settings
from geodesic.files import read_npz
from geodesic.models.training.train import COLLAPSED_KL
from geodesic.reporting.material import Material
from geodesic.reporting.neighbors import evenly, neighbors_or_why
from geodesic.reporting.report import report_on, versions
from geodesic.reporting.verdict import Verdict

__all__ = ["RunReport", "report_run"]


@dataclass(frozen=True)
class RunReport:
    """The page of a run.

    Args:
        file: Where it is.
        verdict: Whether geodesics matter, with the figures.
        missing: What could not be had, and why, by part.
        text: The first lines of the page.
    """

    file: Path
    verdict: Verdict
    missing: Mapping[str, str]
    text: str


def report_run(
    folder: str | Path, *, name: str = "geodesics", overwrite: bool = False, neighbors: int = 50
) -> RunReport:
    """Write the report of a run as `NAME.html` into its folder: one file that needs nothing else.

    Where weights, data or an encoder are missing, the page says so in the place of what needs them.

    Args:
        folder: The run folder.
        name: Which results, as given to `solve_pairs`.
        overwrite: Replace a report that exists.
        neighbors: Of how many encodings, or ends of the pairs where there are none, nearest neighbors are looked for,
            where `geodesic distances` has left no matrix.

    Returns:
        The file, and what it says.

    Raises:
        InputError: `name` is no name of results.
        RunFolderError: The folder has no results of that name, or has their report already.
        DataError: The results cannot be read.
        SettingsError: Their settings cannot be read.
    """
    folder = Path(folder)
    results = results_in(folder, name, "report on")
    target = results.with_suffix(".html")
    require_within(folder, target)
    if target.exists() and not overwrite:
        raise RunFolderError(f"{target} exists already; replace it with --overwrite")
    settings = load_settings(results.with_suffix(".yaml"))
    material = _Parts(folder, name, settings, read_npz(results)).material(neighbors)
    report = report_on(material)
    report.save(target)
    return RunReport(target, report.verdict, material.missing, repr(report))


class _Parts:
    """What a run folder has for a report, part by part; what one cannot have is written down."""

    def __init__(self, folder: Path, name: str, settings: Settings, arrays: Mapping[str, NDArray]) -> None:
        self.folder, self.name, self.settings, self.arrays = folder, name, settings, arrays
        self.missing: dict[str, str] = {}
        self.record = _record(folder)

    def material(self, neighbors: int) -> Material:
        methods = [entry.name for entry in self.settings.geodesic.solvers]
        solutions = solutions_in(self.arrays, methods, self.folder / f"{self.name}.npz")
        labels = self.arrays.get("labels")
        if "encodings" not in self.arrays:
            self.missing["encodings"] = "the run has no data, or no encoder."
        P = len(self.arrays["start"])
        rows = self.arrays.get("rows")
        distances, known = self._distances(), {}
        try:
            with open_run(self.settings, self.folder) as run:
                known = self._of_model(run, 0 if distances is not None else neighbors)
        except GeodesicError as error:
            self.missing |= dict.fromkeys(("manifold", "images"), f"the model cannot be had: {error}.")
        return Material(
            title=self.settings.name,
            solutions=solutions,
            names=[f"pair {k}" for k in range(P)] if rows is None else names_of(rows, _plain(labels)),
            points=self.arrays.get("encodings"),
            labels=labels,
            distances=distances,
            nearest=self.settings.distances.nearest,
            facts=self._facts(),
            divergences=self._divergences(),
            collapsed=COLLAPSED_KL,
            settings=settings_to_yaml(self.settings),
            versions=self._versions(),
            commands=self._commands(),
            missing=self.missing,
            **known,
        )

    def _of_model(self, run: Run, neighbors: int) -> dict[str, Any]:
        """The geometry, and what draws along the paths: as far as weights and data are there."""
        known: dict[str, Any] = {}
        try:
            known["manifold"] = run.manifold
            if neighbors:
                ends = np.unique(np.concatenate([self.arrays["start"], self.arrays["end"]]), axis=0)
                z = torch.as_tensor(evenly(self.arrays.get("encodings", ends), neighbors)).to(run.device, run.dtype)
                known["neighbors"], why = neighbors_or_why(run.manifold, z)
                self.missing |= why
        except GeodesicError as error:
            self.missing["manifold"] = f"the geometry cannot be made: {error}."
        try:
            run.decode(self.arrays["start"][:1])
            known["pictured"] = lambda z, pairs: run.decode(z)
        except GeodesicError as error:
            self.missing["images"] = f"the decoder cannot be used: {error}."
        return known

    def _distances(self) -> dict[str, NDArray] | None:
        """The matrix that `geodesic distances` left, where it is of this model and geometry."""
        file = self.folder / "distances.npz"
        points = [] if "encodings" in self.arrays else ["distances.points={kind: prior, count: 50}"]
        where = shlex.join(["geodesic", "distances", *self._settings_as_arguments(), *points])
        if not file.is_file():
            self.missing["distances"] = (
                f"There is no matrix of distances. Run `{where}`, then this report again, and it is shown here."
            )
            return None
        try:
            made = load_settings(file.with_suffix(".yaml"))
            arrays = read_npz(file)
            same = made.geodesic.geometry == self.settings.geodesic.geometry and made.model == self.settings.model
            if not same:
                raise SettingsError("it is of another model or geometry than the geodesics")
            if absent := {"length", "lower", "upper", "straight_length", "latent_distance", "status"} - set(arrays):
                raise RunFolderError(f"it lacks {', '.join(sorted(absent))}")
        except GeodesicError as error:
            self.missing["distances"] = f"{file.name} is left out: {error}. `{where} --overwrite` makes it anew."
            return None
        return arrays

    def _facts(self) -> dict[str, str]:
        said = self.settings.model_dump(mode="json", by_alias=True)
        facts = {"model": _described(said["model"]), "data": "none"}
        if said["data"] is not None:
            facts["data"] = _described(said["data"])
        if "encodings" in self.arrays:
            facts["test rows encoded"] = f"{len(self.arrays['encodings']):,}"
        facts["latent coordinates"] = f"{self.arrays['start'].shape[-1]:,}"
        facts["geometry"] = _described(said["geodesic"]["geometry"])
        facts["pairs"] = _described(said["pairs"])
        for key, text in (("test_elbo", "held-out ELBO"), ("test_bound", "importance-weighted bound")):
            if isinstance(value := self.record.get(key), int | float):
                facts[text] = f"{value:.2f} nats per row"
        if "epochs" in self.record:
            facts["epochs"] = str(self.record["epochs"])
        return facts

    def _divergences(self) -> NDArray | None:
        """The KL of each latent dimension at the epoch whose weights were kept."""
        file = self.folder / "kl.csv"
        if not isinstance(self.settings.model, VAESettings):
            self.missing["divergences"] = "the model was not trained here."
            return None
        try:
            with file.open(newline="", encoding="utf-8") as stream:
                rows = list(csv.reader(stream))[1:]
            kept = int(self.record["kept_epochs"])
            return np.array(rows[kept - 1][1:], dtype=float)
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            self.missing["divergences"] = "kl.csv or record.json of the training cannot be read."
            return None

    def _versions(self) -> dict[str, str]:
        here = versions()
        trained = {key: self.record.get(key) for key in here}
        return {
            key: text if trained[key] in (None, text) else f"{text}; trained with {trained[key]}"
            for key, text in here.items()
        }

    def _settings_as_arguments(self) -> list[str]:
        """The settings of the results, and where their run is, as a command takes them."""
        named = [] if self.settings.name == self.folder.name else [f"name={self.folder.name}"]
        return [str(self.folder / f"{self.name}.yaml"), *named, "--runs", str(self.folder.parent)]

    def _commands(self) -> list[str]:
        again = ["--name", self.name, "--overwrite"]
        training = isinstance(self.settings.model, VAESettings) and trained_with(self.settings, self.folder)
        train = ["geodesic", "train", *self._settings_as_arguments(), "--overwrite"]
        return [
            *([shlex.join(train)] if training else []),
            shlex.join(["geodesic", "solve", *self._settings_as_arguments(), *again]),
            shlex.join(["geodesic", "report", str(self.folder), *again]),
        ]


def _record(folder: Path) -> dict[str, Any]:
    """What the training left; nothing where there was none, or where it cannot be read."""
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _described(value: Any) -> str:
    """A section of settings in a line: its kind first, without what is left out."""
    if not isinstance(value, dict):
        return str(value)
    kind = value.get("kind")
    rest = [f"{key} {_described(x)}" for key, x in value.items() if key != "kind" and x not in (None, {}, [], "")]
    return ", ".join(([str(kind)] if kind else []) + rest)


def _plain(labels: NDArray | None) -> list[Any] | None:
    return None if labels is None else labels.tolist()
