"""VAEs of MNIST under every geometry. Those that are not in the folder of runs are trained first.

Set GEODESIC_DATA to the folder that holds mnist/.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import geodesic
from geodesic.experiment.folders import run_folder
from geodesic.experiment.run import open_run
from geodesic.experiment.settings.load import load_settings
from geodesic.experiment.settings.whole import Settings
from geodesic.experiment.train import train

CONFIG = Path(__file__).parents[2] / "configs" / "mnist.yaml"


@dataclass(frozen=True)
class Case:
    """A model and a geometry on it.

    Args:
        name: In tables.
        model: Name of the run, without its latent size.
        training: Overrides of the settings that change the training.
        search: Overrides of the settings that do not.
    """

    name: str
    model: str
    training: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


SOLVER = "geodesic.solvers=[{name: auto, kind: auto}]"
GAUSSIAN = ("model.likelihood={kind: gaussian, scale: learned}", "model.inputs=none")
CASES = (
    Case("euclidean", "plain"),
    Case("fisher_rao", "plain", search=("geodesic.geometry=fisher_rao",)),
    Case("local_variance", "plain", search=("geodesic.geometry=local_variance",)),
    Case("density", "plain", search=("geodesic.geometry=density",)),
    Case("blend, euclidean", "blend", ("model.uncertainty=blend",)),
    Case("blend, fisher_rao", "blend", ("model.uncertainty=blend",), ("geodesic.geometry=fisher_rao",)),
    Case("gaussian, euclidean", "gaussian", GAUSSIAN),
    Case("rbf, expected", "rbf", (*GAUSSIAN, "model.uncertainty=rbf"), ("geodesic.geometry=expected",)),
    Case("rbf, fisher_rao", "rbf", (*GAUSSIAN, "model.uncertainty=rbf"), ("geodesic.geometry=fisher_rao",)),
    Case("ensemble, same", "ensemble", ("model.decoders=4",)),
    Case("ensemble, independent", "ensemble", ("model.decoders=4",), ("geodesic.members=independent",)),
)


@dataclass(frozen=True)
class Problem:
    """A manifold with the encodings of held-out and of training images, and the labels of the former."""

    manifold: geodesic.Manifold
    test: Tensor
    train: Tensor
    labels: Tensor


def trained(config: Path, overrides: Sequence[str], runs: Path) -> tuple[Settings, Path]:
    """The settings and the folder of a run; what is not there is trained."""
    settings = load_settings(config, overrides)
    folder = run_folder(settings, runs)
    if not folder.exists():
        train(settings, runs, progress=False)
    return settings, folder


def problem_of(case: Case, latent_size: int, options: argparse.Namespace) -> Problem:
    """The geometry of a case; its model is trained if it is not there."""
    name = f"geometry-{case.model}-{latent_size}"
    overrides = [f"name={name}", f"model.latent_size={latent_size}", "device=cpu", SOLVER, *case.training, *case.search]
    settings, folder = trained(options.config, overrides, options.runs)
    with open_run(settings, folder) as run:
        return Problem(run.manifold, run.test_encodings, run.train_encodings, torch.as_tensor(run.labels))


def random_pairs(count: int, points: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Ends drawn without repetition, half of the points for each."""
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
    half = len(points) // 2
    return points[order[:half]][:count], points[order[half:]][:count]
