"""What every study of a latent space begins and ends with: a model with its encodings, and files in the run folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import NDArray
from torch import Tensor

from geodesic.data.dataset import Split
from geodesic.errors import RunFolderError, SettingsError
from geodesic.experiment.folders import write_results
from geodesic.experiment.run import Run, open_results
from geodesic.experiment.settings.whole import Settings
from geodesic.geometry.manifold import Manifold
from geodesic.pictures.canvas import save_figures
from geodesic.solvers.search import Search

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Findings", "Study", "figures_of", "open_pictured", "open_study"]


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
    """A run whose test rows are encoded and whose geometry has lengths of curves.

    Args:
        run: The opened run.
        file: Where results go.
        test: The test rows.
        encodings: Their latent points, (N, d).
    """

    run: Run
    file: Path
    test: Split
    encodings: Tensor

    @property
    def settings(self) -> Settings:
        """The experiment."""
        return self.run.settings

    @property
    def manifold(self) -> Manifold:
        """The geometry of the settings."""
        return self.run.manifold

    @property
    def latent_size(self) -> int:
        """D."""
        return self.run.latent_size

    @property
    def labels(self) -> NDArray | None:
        """Labels of the test rows, (N,), if there are any."""
        return self.run.labels

    def search(self, segments: int) -> Search:
        """How the settings look for geodesics, but for the number of segments, which stays."""
        return replace(self.run.search, segments=segments, length_rtol=None)

    def write(self, arrays: dict[str, NDArray], figures: Mapping[str, Figure]) -> Findings:
        """Results, the settings that made them, and pictures, into the run folder."""
        write_results(self.file, arrays, self.settings)
        return Findings(arrays, self.file, save_figures(figures_of(self.file), figures))


@contextlib.contextmanager
def open_study(settings: Settings, runs: str | Path, name: str, overwrite: bool, purpose: str) -> Iterator[Study]:
    """Open a run for a study, after a look at whether its results may be written.

    Args:
        settings: The experiment.
        runs: Parent of all run folders.
        name: Name of the results.
        overwrite: Replace results that are there.
        purpose: What is asked of the geometry, for messages.

    Raises:
        RunFolderError: As from `open_results`; or there are pictures of that name.
        InputError: `name` is no name for a file.
        SettingsError: There are no data, no encoder, or no lengths of curves.
    """
    with open_pictured(settings, runs, name, overwrite, purpose) as (run, file):
        if run.test is None or run.test_encodings is None:
            missing = "data: none are given" if run.test is None else "model.encoder: none is given"
            raise SettingsError(f"{missing}; {purpose} is looked at where test rows are encoded, so it needs both")
        yield Study(run, file, run.test, run.test_encodings)


@contextlib.contextmanager
def open_pictured(
    settings: Settings, runs: str | Path, name: str, overwrite: bool, purpose: str
) -> Iterator[tuple[Run, Path]]:
    """Open a run to add results with pictures to it, where its geometry has lengths: the run, and the file.

    Args:
        settings: The experiment.
        runs: Parent of all run folders.
        name: Name of the results.
        overwrite: Replace results that are there.
        purpose: What is asked of the geometry, for messages.

    Raises:
        RunFolderError: As from `open_results`; or there are pictures of that name.
        InputError: `name` is no name for a file.
        SettingsError: There are no lengths of curves.
    """
    with open_results(settings, runs, name, overwrite) as (run, file):
        pictures = figures_of(file)
        if pictures.exists() and not overwrite:
            raise RunFolderError(f"{pictures} exists already; choose another --name, or replace it with --overwrite")
        if settings.geodesic.members == "independent":
            raise SettingsError(
                "geodesic.members: got 'independent'; members drawn anew at every point leave curves no length, so "
                f"there is no {purpose}; use geodesic.members=same"
            )
        yield run, file


def figures_of(file: Path) -> Path:
    """The folder of the pictures of results."""
    return file.parent / "figures" / file.name.removesuffix(".npz")
