"""One training, told to the loop in one record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from geodesic.models.training.plan import Training
from geodesic.models.vae import VAE

__all__ = ["EpochCallback", "Task"]

EpochCallback = Callable[[int, VAE], None]


@dataclass(frozen=True, eq=False)
class Task:
    """What is trained, on what, how, and where its files go.

    Args:
        vae: Trained in place.
        plan: How long and how.
        train: Rows to train on, (N, *event).
        validation: Rows held back, (M, *event).
        folder: Where metrics.csv, kl.csv and last.ckpt go.
        identity: What must agree for a run to be resumed; kept in the checkpoint.
        on_epoch: Called after each epoch with the number of epochs trained and the VAE.
    """

    vae: VAE
    plan: Training
    train: Float[Tensor, "N *event"]
    validation: Float[Tensor, "M *event"]
    folder: Path
    identity: dict[str, Any]
    on_epoch: EpochCallback | None = None
