"""An opened run: settings, and what they name, each made when it is asked for first."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodesic.data.dataset import Dataset, Split
from geodesic.errors import DecoderError, InputError, RunFolderError
from geodesic.experiment.build import load_model, make_manifold, make_solver
from geodesic.experiment.folders import results_file, run_folder, trained_otherwise, trained_with
from geodesic.experiment.geometries import Context
from geodesic.experiment.model import Model
from geodesic.experiment.pairs import Encoded
from geodesic.experiment.settings.model import VAESettings
from geodesic.experiment.settings.whole import Settings
from geodesic.files import locked
from geodesic.geometry.manifold import Manifold
from geodesic.solvers.progress import Progress
from geodesic.solvers.search import Search
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.solve import find
from geodesic.solvers.solver import Solver

__all__ = ["Run", "open_results", "open_run", "resolve_device", "to_numpy"]


@dataclass(frozen=True)
class Run(Encoded):
    """A run as its settings describe it. Data, model, encodings and geometry are made at the first use.

    Args:
        settings: The experiment.
        folder: Where weights are and results go.
        device: Where everything is computed.
        loaded: The data, where they are at hand already.
    """

    settings: Settings
    folder: Path
    device: torch.device
    loaded: Dataset | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Precision of geodesics."""
        dtype: torch.dtype = getattr(torch, self.settings.dtype)
        return dtype

    @cached_property
    def dataset(self) -> Dataset | None:
        """The data, if the settings name any."""
        if self.loaded is not None or self.settings.data is None:
            return self.loaded
        return self.settings.data.load()

    @cached_property
    def model(self) -> Model:
        """Decoders, and an encoder if there is one."""
        return load_model(self.settings.model, self.folder, self.device, self.dtype)

    @cached_property
    def train_encodings(self) -> Tensor | None:
        """Latent points of the training rows, (N, d); None without data or without an encoder."""
        return None if self.dataset is None else self._encode(self.dataset.train)

    @cached_property
    def test_encodings(self) -> Tensor | None:
        """Latent points of the test rows, (N, d); None without data or without an encoder."""
        return None if self.test is None else self._encode(self.test)

    @property
    def test(self) -> Split | None:
        """The test rows, if there are data."""
        return None if self.dataset is None else self.dataset.test

    @property
    def labels(self) -> NDArray | None:
        """Labels of the test rows, (N,), if there are any."""
        return None if self.test is None or self.test.labels is None else to_numpy(self.test.labels)

    @property
    def latent_size(self) -> int:
        """Number of latent coordinates, d."""
        return self.model.latent_size

    @cached_property
    def manifold(self) -> Manifold:
        """The latent space with the geometry of the settings."""
        search = self.settings.geodesic
        independent = search.members == "independent"
        return make_manifold(
            search, Context(self.model, self.device, self.dtype, lambda: self.train_encodings, independent)
        )

    @property
    def graph(self) -> Tensor | None:
        """Latent points of the training rows, (N, d), where paths begin in a graph over them."""
        return None if self.settings.geodesic.init == "straight" else self.train_encodings

    @property
    def solvers(self) -> dict[str, Solver[Any] | str]:
        """The solvers of the settings by name, as `solve` takes them."""
        search = self.settings.geodesic
        return {entry.name: make_solver(entry, self.model, search) for entry in search.solvers}

    @property
    def search(self) -> Search:
        """How the settings of `geodesic` look for geodesics, without their solvers."""
        search = self.settings.geodesic
        names = ("init", "segments", "length_rtol", "tol", "max_steps", "memory")
        return Search(**{name: getattr(search, name) for name in names}, graph_points=self.graph)

    def solve(
        self,
        start: Tensor,
        end: Tensor,
        solver: Solver[Any] | str | None = None,
        callback: Callable[[Progress], None] | None = None,
    ) -> GeodesicSolution:
        """Geodesics between latent points, (P, d) each, as the settings say: by their first solver, or another."""
        if solver is None:
            solver = next(iter(self.solvers.values()))
        return find(self.manifold, start, end, replace(self.search, solver=solver), callback)

    def decode(self, z: Tensor | NDArray) -> NDArray:
        """Expected rows at latent points, (*batch, d) to (*batch, *event), in the shape in which they are drawn."""
        z = torch.as_tensor(z).to(self.device, self.dtype)
        with torch.no_grad():
            x = self.model.pictured(self.model.mean(z.reshape(-1, z.shape[-1])))
        return to_numpy(x.reshape(*z.shape[:-1], *x.shape[1:]))

    def _encode(self, split: Split) -> Tensor | None:
        if self.model.encoder is None:
            return None
        with torch.no_grad():
            rows = split.values.to(self.dtype).split(1000)
            encodings = torch.cat([self.model.encoder(part.to(self.device)) for part in rows])
        if encodings.shape != (len(split), self.model.latent_size):
            raise DecoderError(
                f"encoder: expected latent points of shape {(len(split), self.model.latent_size)}, got "
                f"{tuple(encodings.shape)}; check model.latent_size"
            )
        return encodings


@contextlib.contextmanager
def open_run(settings: Settings, folder: Path, loaded: Dataset | None = None) -> Iterator[Run]:
    """Open a run for reading, and keep it from being trained anew while the block runs.

    Args:
        settings: The experiment.
        folder: Its run folder.
        loaded: Its data, where they are at hand already.

    Raises:
        RunFolderError: The folder is missing, was trained with other settings, or is being trained.
        InputError: The device does not exist.
    """
    device = resolve_device(settings.device)
    with locked(folder, shared=True):
        if isinstance(settings.model, VAESettings):
            _require_trained(settings, folder)
        yield Run(settings, folder, device, loaded)


@contextlib.contextmanager
def open_results(settings: Settings, runs: str | Path, name: str, overwrite: bool) -> Iterator[tuple[Run, Path]]:
    """Open a run to add results to it: the run, and the file that they go to.

    Args:
        settings: The experiment.
        runs: Parent of all run folders.
        name: Name of the results.
        overwrite: Replace results that are there.

    Raises:
        RunFolderError: As from `open_run`; or there are results of that name, or another process is making them.
        InputError: `name` is no name for a file.
    """
    folder = run_folder(settings, runs)
    file = results_file(folder, name, overwrite)
    with open_run(settings, folder) as run, locked(file):
        results_file(folder, name, overwrite)  # again: another process may have made them in the meantime
        yield run, file


def _require_trained(settings: Settings, folder: Path) -> None:
    if not folder.is_dir():
        raise RunFolderError(f"{folder} does not exist; run `geodesic train` with this configuration first")
    if not trained_with(settings, folder):
        if changes := trained_otherwise(settings, folder):
            raise RunFolderError(
                f"{folder} was trained with other settings; solve with those, {' '.join(changes)}, or "
                "run `geodesic train` with these, with --overwrite or under another name"
            )
        raise RunFolderError(
            f"{folder} holds no weights yet; go on with `geodesic train` and --resume, or begin anew with --overwrite"
        )


def resolve_device(name: str) -> torch.device:
    """`auto` to CUDA where there is one, else the CPU; refuses CUDA where there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device: {name!r} was asked for and {torch.cuda.device_count()} CUDA devices were found; "
            "use device=cpu or device=auto"
        )
    return device


def to_numpy(x: Any) -> NDArray:
    """A tensor or a number as an array on the CPU."""
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
