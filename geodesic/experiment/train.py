"""Training a VAE into a run folder."""

from __future__ import annotations

import contextlib
import json
import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import geodesic
from geodesic.data.dataset import Dataset
from geodesic.errors import SettingsError
from geodesic.experiment.build import check_search, new_vae
from geodesic.experiment.folders import new_folder, require_replaceable, require_resumable, run_folder, set_aside
from geodesic.experiment.run import resolve_device, to_numpy
from geodesic.experiment.settings.load import settings_to_yaml
from geodesic.experiment.settings.model import VAESettings
from geodesic.experiment.settings.whole import Settings
from geodesic.files import locked, write_text
from geodesic.models.training.train import TrainingResult, train_vae
from geodesic.models.vae import VAE
from geodesic.pictures.canvas import save_figure
from geodesic.pictures.outputs import plot_reconstructions, plot_samples

__all__ = ["train"]


def train(
    settings: Settings,
    runs: str | Path = "runs",
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> TrainingResult:
    """Train the VAE that the settings describe into its run folder.

    Args:
        settings: The experiment.
        runs: Parent of all run folders.
        resume: Go on from the folder's last checkpoint.
        overwrite: Replace the folder. What it held comes back if training fails before its first checkpoint.
        progress: Show a progress bar.

    Returns:
        The trained VAE with its held-out ELBO.

    Raises:
        RunFolderError: The folder exists and neither `resume` nor `overwrite` was asked for, or there is
            nothing to resume; or another process is using it.
        SettingsError: The settings name no data, or a model of the user's own, which is not trained; or `solve` would
            refuse their geometry or solvers.
    """
    if not isinstance(settings.model, VAESettings):
        raise SettingsError("model.import: a model of your own is not trained here; use `geodesic solve`")
    if settings.data is None:
        raise SettingsError("data: training needs data; add, for example, data: {kind: digits}")
    if resume and overwrite:
        raise SettingsError("--resume and --overwrite exclude each other; choose one")
    device = resolve_device(settings.device)
    folder = run_folder(settings, runs)
    with locked(folder):
        if resume:
            require_resumable(settings, folder)
        elif folder.exists():
            require_replaceable(folder, overwrite)
        dataset = settings.data.load()
        check_search(settings.geodesic, settings.model, dataset.event_shape)
        with set_aside(folder) if overwrite else contextlib.nullcontext(), new_folder(folder):
            return _fill(folder, settings, dataset, device, resume, progress)


def _fill(
    folder: Path, settings: Settings, dataset: Dataset, device: torch.device, resume: bool, progress: bool
) -> TrainingResult:
    started = time.monotonic()
    if not resume:
        write_text(folder / "config.yaml", settings_to_yaml(settings))
    pictures = _pictures(settings, dataset, folder)
    assert isinstance(settings.model, VAESettings)  # others are not trained
    result = train_vae(
        new_vae(settings.model, dataset.event_shape, settings.seed),
        dataset,
        replace(settings.training.plan, seed=settings.seed, device=str(device)),
        folder=folder,
        resume=resume,
        progress=progress,
        on_epoch=pictures,
    )
    if pictures is not None:
        pictures.draw(result.kept_epochs, result.vae)
    if resume:
        # Not before: weights that are there while training goes on are those of the settings before.
        write_text(folder / "config.yaml", settings_to_yaml(settings))
    record = _record(settings, result) | {"seconds": round(time.monotonic() - started, 1)}
    write_text(folder / "record.json", json.dumps(record, indent=2) + "\n")
    return result


def _record(settings: Settings, result: TrainingResult) -> dict[str, Any]:
    return {
        "geodesic": geodesic.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "seed": settings.seed,
        "epochs": result.epochs,
        "kept_epochs": result.kept_epochs,
        "test_elbo": result.test_elbo,
        "constant_elbo": result.constant_elbo,
        "test_bound": result.test_bound,
        "importance_samples": settings.training.importance_samples,
        "collapsed_dimensions": result.collapsed_dimensions,
    }


@dataclass(frozen=True)
class _Pictures:
    """Draws what a VAE makes of the same rows and the same noise, every so many epochs, into pictures/."""

    folder: Path
    every: int
    rows: Tensor
    noise: Tensor

    def __call__(self, epochs: int, vae: VAE) -> None:
        if epochs % self.every == 0:
            self.draw(epochs, vae)

    def draw(self, epochs: int, vae: VAE) -> None:
        weight = next(vae.parameters())
        with torch.no_grad():
            encodings = vae.encode(self.rows.to(weight))
            decoded, samples = vae.mean(encodings), vae.mean(self.noise.to(weight))
        self.folder.mkdir(exist_ok=True)
        reconstructions = plot_reconstructions(to_numpy(self.rows), to_numpy(decoded))
        save_figure(reconstructions, self.folder / f"reconstructions_{epochs:04d}.png")
        save_figure(plot_samples(to_numpy(samples)), self.folder / f"samples_{epochs:04d}.png")


def _pictures(settings: Settings, dataset: Dataset, folder: Path) -> _Pictures | None:
    """None where no pictures are asked for, and for rows that are no images."""
    every, shape = settings.training.picture_every, dataset.event_shape
    assert isinstance(settings.model, VAESettings)
    if every is None or len(shape) != 3 or shape[0] not in (1, 3):
        return None
    generator = torch.Generator().manual_seed(settings.seed)
    noise = torch.randn(64, settings.model.latent_size, generator=generator, dtype=torch.float32, device="cpu")
    return _Pictures(folder / "pictures", every, dataset.test.values[:16], noise)
