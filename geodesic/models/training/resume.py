"""Going on with an interrupted training: what must agree, and what is refused."""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path
from typing import Any

import torch

from geodesic.data.dataset import Dataset
from geodesic.errors import CheckpointError, RunFolderError
from geodesic.models.checkpoint import WEIGHTS
from geodesic.models.training.plan import Training
from geodesic.models.vae import VAE

__all__ = ["LAST", "identity", "refuse_trained", "resumable"]

LAST = "last.ckpt"

# Lightning makes objects of these, whose class the checkpoint names. Ours has none.
_HYPERPARAMETERS = {"hyper_parameters", "datamodule_hyper_parameters"}


def identity(vae: VAE, training: Training, dataset: Dataset) -> dict[str, Any]:
    """What a run cannot change between its start and its resumption, in plain values."""
    changeable = {"epochs", "patience", "accelerator", "devices", "device", "importance_samples"}
    values = dataset.train.values
    return {
        "seed": training.seed,
        "train rows": len(values),
        "checksum of the train rows": zlib.crc32(values.contiguous().numpy().data),
        **{f"model.{k}": v for k, v in vae.describe().items()},
        **{f"training.{k}": v for k, v in dataclasses.asdict(training).items() if k not in {"seed", *changeable}},
    }


def resumable(folder: Path, expected: dict[str, Any], epochs: int) -> Path:
    """The checkpoint of a folder, if it belongs to this run.

    Args:
        folder: Holds last.ckpt.
        expected: The `identity` of the run that is to go on.
        epochs: How many it is to have in all.

    Raises:
        CheckpointError: The checkpoint is missing, truncated, foreign, or of a run with other settings or data.
    """
    file = folder / LAST
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file, so there is nothing to resume; train without --resume")
    try:
        # Data only: what pickle could be made to run is refused.
        found = torch.load(file, map_location="cpu", weights_only=True)
        kept = found["geodesic"]
        trained, before = len(kept["kl_history"]), dict(kept["identity"])
    except Exception as error:  # a foreign or truncated file can make an unpickler fail in any way
        raise CheckpointError(
            f"{file}: truncated, or not a checkpoint of this project ({type(error).__name__}); "
            "remove the folder and train again"
        ) from None
    foreign = sorted(_HYPERPARAMETERS & found.keys())
    if foreign:
        raise CheckpointError(
            f"{file}: holds {foreign[0]}, which no checkpoint of this project has; do not trust it: remove the folder "
            "and train again"
        )
    other = [f"{k} was {before.get(k)!r} and is {v!r}" for k, v in expected.items() if before.get(k) != v]
    if other:
        raise CheckpointError(
            f"{file}: belongs to a run with other settings or data ({'; '.join(other[:3])}); "
            "resume with those it was started with, or train into another folder"
        )
    if trained > epochs:
        raise CheckpointError(
            f"{file}: has {trained} epochs behind it and the settings ask for {epochs}; "
            f"set training.epochs to at least {trained}"
        )
    return file


def refuse_trained(folder: Path) -> None:
    """Raise `RunFolderError` if the folder holds weights or a checkpoint."""
    for name in (WEIGHTS, LAST):
        if (folder / name).exists():
            raise RunFolderError(
                f"{folder}: holds {name} of an earlier training; pass resume=True (--resume) to go on with "
                "it, or choose another folder"
            )
