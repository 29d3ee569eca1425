"""What every study of a latent space begins and ends with: a model with its encodings, and files in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from geodesic.data import Dataset, Split, load_data
from geodesic.errors import RunFolderError, SettingsError
from geodesic.experiment.build import Model, make_manifold
from geodesic.experiment.run import encode, resolve_device, results_file, to_numpy, trained_model, write_results
from geodesic.experiment.settings import DensitySettings, LocalVarianceSettings, Settings
from geodesic.geometry.manifold import Manifold
from geodesic.pictures.canvas import save_figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Findings", "Study", "open_study"]


@dataclass(frozen=True)
class Findings:
    """What a study found and where it is.

    Args:
        arrays: As in the file, see docs/run-folder.md.
        file: The .npz.
        pictures: The pictures.
    """

    arrays: dict[str, NDArray]
    file: Path
    pictures: list[Path]


@dataclass(frozen=True)
class Study:
    """A model with its geometry and the encodings of the test rows.

    Args:
        settings: The experiment.
        file: Where results go.
        model: The decoders and the encoder.
        manifold: The geometry of the settings.
        dataset: The data.
        encodings: Latent points of the test rows, (N, d).
        graph: Latent points of the training rows, where paths begin in a graph over them, else None.
    """

    settings: Settings
    file: Path
    model: Model
    manifold: Manifold
    dataset: Dataset
    encodings: Tensor
    graph: Tensor | None

    @property
    def test(self) -> Split:
        """The test rows."""
        return self.dataset.test

    @property
    def labels(self) -> NDArray | None:
        """Labels of the test rows, (N,), if there are any."""
        return None if self.test.labels is None else to_numpy(self.test.labels)

    def search(self, segments: int) -> dict[str, Any]:
        """Keywords of `solve`, with the settings of `geodesic` but for the number of segments."""
        search = self.settings.geodesic
        keywords = {"init": search.init, "tol": search.tol, "max_steps": search.max_steps, "memory": search.memory}
        return keywords | {"points": self.graph, "segments": segments}

    def write(self, arrays: dict[str, NDArray], figures: Mapping[str, Figure]) -> Findings:
        """Results, the settings that made them, and pictures, into the run folder."""
        write_results(self.file, arrays, self.settings)
        return Findings(arrays, self.file, save_figures(_figures(self.file), figures))


def open_study(settings: Settings, runs: str | Path, name: str, overwrite: bool, purpose: str) -> Study:
    """Load what a study needs, after a look at whether its results may be written.

    Args:
        settings: The experiment.
        runs: Parent of all run folders.
        name: Name of the results.
        overwrite: Replace results that are there.
        purpose: What is asked of the geometry, for messages.

    Raises:
        RunFolderError: The run folder is missing, was trained with other settings, or has results of that name.
        InputError: `name` is no name for a file.
        SettingsError: There are no data, no encoder, or no lengths of curves.
    """
    file = results_file(settings, runs, name, overwrite)
    if _figures(file).exists() and not overwrite:
        raise RunFolderError(f"{_figures(file)} exists already; choose another --name, or replace it with --overwrite")
    if settings.geodesic.members == "independent":
        raise SettingsError(
            "geodesic.members: got 'independent'; members drawn anew at every point leave curves no length, so there "
            f"is no {purpose}; use geodesic.members=same"
        )
    device, dtype = resolve_device(settings.device), getattr(torch, settings.dtype)
    model = trained_model(settings, file.parent, device, dtype)
    if settings.data is None or model.encoder is None:
        missing = "data: none are given" if settings.data is None else "model.encoder: none is given"
        raise SettingsError(f"{missing}; {purpose} is looked at where test rows are encoded, so it needs both")
    dataset = load_data(settings.data)
    search, train = settings.geodesic, None
    if search.init != "straight" or isinstance(search.geometry, LocalVarianceSettings | DensitySettings):
        train = encode(model, dataset.train, device, dtype)
    return Study(
        settings,
        file,
        model,
        make_manifold(search, model, device, dtype, train),
        dataset,
        encode(model, dataset.test, device, dtype),
        train if search.init != "straight" else None,
    )


def _figures(file: Path) -> Path:
    return file.parent / "figures" / file.name.removesuffix(".npz")
