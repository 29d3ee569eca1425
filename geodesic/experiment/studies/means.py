"""Fréchet means of encodings, beside the means of their latent coordinates."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from geodesic.errors import GeodesicWarning, SettingsError
from geodesic.experiment.pairs import drawn_rows, rows_of
from geodesic.experiment.run import to_numpy
from geodesic.experiment.settings.whole import Settings
from geodesic.experiment.studies.study import Findings, Study, open_study
from geodesic.pictures.outputs import plot_outputs
from geodesic.pictures.statistics import plot_means
from geodesic.riemannian.maps.follow import Follow
from geodesic.riemannian.statistics.centers import FrechetMean
from geodesic.riemannian.statistics.mean import frechet_mean
from geodesic.solvers.solve import find

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["find_means"]

_BEHIND = 20  # rows behind a mean, where nobody says how many
_SHOWN = 6  # members beside their means


def find_means(
    settings: Settings,
    runs: str | Path = "runs",
    *,
    name: str = "mean",
    overwrite: bool = False,
    report: Callable[[str, int, int], None] | None = None,
) -> Findings:
    """Find the Fréchet mean of encoded test rows of each label, and how far the mean of their coordinates is from it.

    Args:
        settings: The experiment; its `mean` says of what.
        runs: Parent of all run folders.
        name: Of the results.
        overwrite: Replace them.
        report: Called before each mean with its name, how many are done, and of how many.

    Returns:
        The arrays of the file, see docs/run-folder.md, and the pictures.

    Raises:
        SettingsError: There are no data, no encoder, no lengths of curves, or no rows of a label.
        RunFolderError: As from `open_study`.
    """
    with open_study(settings, runs, name, overwrite, "Fréchet mean") as study:
        groups = _groups(study)
        found = []
        for done, (group, rows) in enumerate(groups.items()):
            if report is not None:
                report(group, done, len(groups))
            found.append(_mean(study, group, rows))
        arrays = _arrays(study, groups, found)
        return study.write(arrays, _pictures(study, list(groups), arrays))


def _groups(study: Study) -> dict[str, NDArray]:
    """Test rows behind each mean, by its name."""
    chosen, labels = study.settings.mean, study.labels
    generator = np.random.default_rng(chosen.seed)
    if chosen.labels is not None:
        groups = {str(label): rows_of(study.test, "mean.labels", label) for label in chosen.labels}
    elif labels is not None:
        groups = {str(label): np.flatnonzero(labels == label) for label in np.unique(labels)}
    else:
        groups = {}
    if not (chosen.per_label and groups):
        groups = {"all": np.concatenate(list(groups.values())) if groups else np.arange(len(study.encodings))}
    for group, rows in groups.items():
        if len(rows) < 2:
            raise SettingsError(
                f"mean.labels: the test set has only 1 row of label {group}, and a mean needs 2; choose others"
            )
    drawn = {}
    for group, rows in groups.items():
        of = "" if group == "all" else f" (label {group})"
        drawn[group] = drawn_rows(rows, chosen.count, _BEHIND, generator, f"mean.count{of}")
    return drawn


def _mean(study: Study, group: str, rows: NDArray) -> FrechetMean:
    chosen = study.settings.mean
    # Without tol, which is meant for energies: gradients are as exact as its root, and the mean knows what it needs.
    search = replace(study.search(chosen.segments), tol=None)
    points = study.encodings[torch.as_tensor(rows, device=study.encodings.device)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GeodesicWarning)
        found = frechet_mean(study.manifold, points, follow=Follow(method=chosen.method), search=search)
    for warning in caught:  # again, with the label
        if issubclass(warning.category, GeodesicWarning):
            warnings.warn(f"label {group}: {warning.message}", GeodesicWarning, stacklevel=3)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return found


def _arrays(study: Study, groups: dict[str, NDArray], found: list[FrechetMean]) -> dict[str, NDArray]:
    z = study.encodings
    frechet = torch.stack([mean.point for mean in found])
    euclidean = torch.stack([z[torch.as_tensor(rows, device=z.device)].mean(0) for rows in groups.values()])
    between = find(study.manifold, frechet, euclidean, study.search(study.settings.mean.segments))
    answers = [mean.arrays() for mean in found]
    sizes = [len(rows) for rows in groups.values()]
    arrays = {
        "rows": np.concatenate(list(groups.values())),
        "group": np.repeat(np.arange(len(sizes)), sizes),
        "point": to_numpy(frechet),
        "euclidean": to_numpy(euclidean),
        "distances": np.concatenate([answer["distances"] for answer in answers]),
        "paths": np.concatenate([answer["paths"] for answer in answers]),
        "apart": to_numpy(torch.where(between.converged, between.length, torch.nan)),
        "encodings": to_numpy(z),
    }
    for field in ("variance", "error", "converged", "status", "iterations", "unique"):
        arrays[field] = np.stack([answer[field] for answer in answers])
    if study.labels is not None:
        arrays["labels"] = study.labels
    arrays["names"] = np.array(list(groups))
    return arrays


def _pictures(study: Study, groups: list[str], arrays: dict[str, NDArray]) -> dict[str, Figure]:
    decoded = [study.run.decode(arrays[key]) for key in ("euclidean", "point")]
    chosen = [arrays["rows"][arrays["group"] == k][:_SHOWN] for k in range(len(groups))]
    members = [study.run.model.pictured(study.test.values[rows]).numpy() for rows in chosen]
    shown = [[decoded[0][k], decoded[1][k], *members[k]] for k in range(len(groups))]
    headings = ["Euclidean\nmean", "Fréchet\nmean", "test rows"]
    names = [f"label {group}" if group != "all" else "all rows" for group in groups]
    figures = {"means": plot_outputs(shown, names, headings)}
    if study.latent_size == 2:
        figures["latent"] = plot_means(arrays)
    return figures
