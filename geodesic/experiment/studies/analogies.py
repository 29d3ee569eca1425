"""Analogies between encodings: what was done to a, carried along to c, and done there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from geodesic.checks import warn
from geodesic.data.dataset import Split
from geodesic.errors import SettingsError
from geodesic.experiment.pairs import rows_of
from geodesic.experiment.run import to_numpy
from geodesic.experiment.settings.studies import AnalogySettings
from geodesic.experiment.settings.whole import Settings
from geodesic.experiment.studies.study import Findings, Study, open_study
from geodesic.geometry.path import path_length, straight_path
from geodesic.pictures.outputs import plot_outputs, plot_strip
from geodesic.pictures.statistics import plot_analogy
from geodesic.riemannian.maps.follow import Follow
from geodesic.riemannian.transport.analogy import Analogy, analogy
from geodesic.solvers.status import Status

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["choose_triples", "transport_analogies"]

_FRAMES = 11  # of a strip


def transport_analogies(
    settings: Settings, runs: str | Path = "runs", *, name: str = "transport", overwrite: bool = False
) -> Findings:
    """Answer analogies a : b :: c : ? between encoded test rows by parallel transport, and by c + b - a.

    Args:
        settings: The experiment; its `analogy` says which, and how.
        runs: Parent of all run folders.
        name: Of the results.
        overwrite: Replace them.

    Returns:
        The arrays of the file, see docs/run-folder.md, and the pictures.

    Raises:
        SettingsError: There are no data, no encoder, no lengths of curves, or no such rows.
        RunFolderError: As from `open_study`.
        InputError: The geometry has not what the way of transport needs.
        SingularMetricError: The metric is singular on the way.
    """
    with open_study(settings, runs, name, overwrite, "parallel transport") as study:
        arrays = _answers(study)
        return study.write(arrays, _pictures(study, arrays))


def _answers(study: Study) -> dict[str, NDArray]:
    chosen, z = study.settings.analogy, study.encodings
    rows = choose_triples(chosen, study.test)
    a, b, c = z[torch.as_tensor(rows.T, device=z.device)]
    # Without tol, which is meant for energies: velocities are as exact as its root, and `analogy` knows what they need.
    search = replace(study.search(chosen.segments), tol=None)
    follow = Follow(method=chosen.method)
    answer = analogy(study.manifold, a, b, c, follow=follow, transport=chosen.transport, search=search)
    _say_what_is_wrong(answer)
    linear = c + b - a
    straight = straight_path(c, linear, answer.path.shape[1] - 1)
    rest = straight_path(answer.point, linear, answer.path.shape[1] - 1)
    with torch.no_grad():
        lengths = [path_length(study.manifold, path) for path in (answer.along.path, answer.path, straight, rest)]
    found = {"a": a, "b": b, "c": c, "linear": linear, "encodings": z}
    found |= {"along": answer.along.path, "across": answer.across.path}
    found |= dict(zip(("length", "path_length", "linear_length", "apart"), lengths, strict=True))
    arrays = {"rows": rows} | answer.arrays() | {key: to_numpy(values) for key, values in found.items()}
    if study.labels is not None:
        arrays["labels"] = study.labels
    return arrays


def choose_triples(analogy: AnalogySettings, test: Split) -> NDArray:
    """Rows a, b, c of the test set for analogies a : b :: c : ?, (A, 3); the three of one analogy differ.

    Raises:
        SettingsError: A row or a label does not exist, or of a label there are too few rows.
    """
    if analogy.triples is not None:
        for i, row in enumerate(analogy.triples):
            if max(row) >= len(test):
                raise SettingsError(f"analogy.triples.{i}: got {list(row)}; the test set has rows 0 to {len(test) - 1}")
        return np.array(analogy.triples)
    generator = np.random.default_rng(analogy.seed)
    labels = {"from": analogy.from_, "to": analogy.to, "target": analogy.target}
    every = np.arange(len(test))
    choices = [every if label is None else rows_of(test, f"analogy.{key}", label) for key, label in labels.items()]
    return np.array([_one_of_each(choices, generator) for _ in range(analogy.count)])


def _one_of_each(choices: list[NDArray], generator: np.random.Generator) -> list[int]:
    chosen: list[int] = []
    for rows in choices:
        left = np.setdiff1d(rows, chosen)
        if not len(left):
            raise SettingsError("analogy: too few test rows for three that differ; choose other labels, or more data")
        chosen.append(int(generator.choice(left)))
    return chosen


def _say_what_is_wrong(answer: Analogy) -> None:
    """Of analogies whose geodesics were found: the others `analogy` has warned of."""
    lost = ~answer.converged & answer.along.converged & answer.across.converged
    if not lost.any():
        return
    carried = int((answer.transport_status[lost] != Status.CONVERGED).sum())
    remedy = "; for a decoder with ReLU before a sigmoid set analogy.transport=projection" if carried else ""
    warn(
        f"transport: {int(lost.sum())} of {len(lost)} analogies have not converged, {carried} of them on "
        f"the way from a to c, and their answers are inexact: raise analogy.segments{remedy}"
    )


def _pictures(study: Study, arrays: dict[str, NDArray]) -> dict[str, Figure]:
    def outputs(*keys: str) -> list[NDArray]:
        return [study.run.decode(arrays[key]) for key in keys]

    rows = list(zip(*outputs("a", "b", "c", "point", "linear"), strict=True))
    names = [" : ".join(map(str, triple)) for triple in arrays["rows"].tolist()]
    if study.labels is not None:
        names = [
            f"{name}\n({', '.join(map(str, study.labels[r]))})" for name, r in zip(names, arrays["rows"], strict=True)
        ]
    names = [name if done else f"{name}\nnot converged" for name, done in zip(names, arrays["converged"], strict=True)]
    figures = {"answers": plot_outputs(rows, names, ["a", "b", "c", "parallel\ntransport", "linear\nc + b - a"])}
    times = np.linspace(0, 1, arrays["path"].shape[1])
    frames = np.linspace(0, len(times) - 1, min(_FRAMES, len(times))).round().astype(int)
    c, linear = (torch.as_tensor(arrays[key]) for key in ("c", "linear"))
    line = straight_path(c, linear, len(times) - 1).numpy()
    strips = [study.run.decode(path[:, frames]) for path in (line, arrays["path"])]
    measured = [arrays[key] for key in ("linear_length", "path_length", "converged")]
    for k in range(len(rows)):
        figures[f"strip_{k:03d}"] = plot_strip(*(x[k : k + 1] for x in (*strips, *measured)))
        if study.latent_size == 2:
            figures[f"latent_{k:03d}"] = plot_analogy(arrays, k)
    return figures
