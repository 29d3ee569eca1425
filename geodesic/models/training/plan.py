"""How long and how a VAE is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from geodesic.checks import (
    require_choice,
    require_fraction,
    require_integer,
    require_nonnegative,
    require_positive,
)
from geodesic.errors import InputError
from geodesic.registry import setting

__all__ = ["Training"]

_PRECISIONS = ("32-true", "64-true", "16-mixed", "bf16-mixed")


@dataclass(frozen=True)
class Training:
    """How long and how a VAE is trained. The loss is -E log p(x | z) + beta KL, in nats per row.

    Args:
        epochs: Passes over the training rows.
        batch_size: Rows a step, in each process.
        learning_rate: Adam's step size.
        kl_weight: beta, the weight of the KL term.
        kl_warmup_epochs: beta grows linearly from 0 over so many epochs.
        patience: Stop after so many epochs without a better validation ELBO, and keep the best weights; None: never.
        validation_fraction: Part of the training rows held back, to see when the model stops improving.
        accelerator: Lightning's name of the hardware; "auto" leaves the choice to `device`.
        devices: How many, each with a process and batches of its own; "auto": one.
        precision: "32-true", "64-true", "16-mixed" or "bf16-mixed".
        importance_samples: Latent points a row of the importance-weighted bound of the test rows; 0: none.
        seed: Seed of the validation rows, of the order of rows and of the noise.
        device: "auto", "cpu", "cuda" or "cuda:1"; counts where `accelerator` is "auto".

    Raises:
        InputError: A value is out of range.

    Example:
        >>> import geodesic
        >>> geodesic.models.Training(epochs=5).batch_size
        128
    """

    epochs: int = field(default=50, metadata=setting("passes over the training rows", gt=0))
    batch_size: int = field(default=128, metadata=setting("rows a step, in each process", gt=0))
    learning_rate: float = field(default=1e-3, metadata=setting("Adam's step size", gt=0))
    kl_weight: float = field(default=1.0, metadata=setting("beta, the weight of the KL term", ge=0))
    kl_warmup_epochs: int = field(default=0, metadata=setting("beta grows linearly from 0 over so many epochs", ge=0))
    patience: int | None = field(
        default=None, metadata=setting("stop after so many epochs without a better validation ELBO", gt=0)
    )
    validation_fraction: float = field(default=0.1, metadata=setting("part of the training rows held back", gt=0, lt=1))
    accelerator: str = field(default="auto", metadata=setting("Lightning's name of the hardware"))
    devices: int | Literal["auto"] = field(
        default="auto", metadata=setting("a process for each, with batches of its own; auto: one")
    )
    precision: Literal["32-true", "64-true", "16-mixed", "bf16-mixed"] = field(
        default="32-true", metadata=setting("of weights and arithmetic")
    )
    importance_samples: int = field(
        default=64,
        metadata=setting("latent points a row of the importance-weighted bound of the test rows; 0: none", ge=0),
    )
    # Not settings of this section: an experiment has one seed and one device, for all that it does.
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            require_integer(name, getattr(self, name), least=1)
        for name in ("kl_warmup_epochs", "importance_samples", "seed"):
            require_integer(name, getattr(self, name), least=0)
        if self.patience is not None:
            require_integer("patience", self.patience, least=1)
        if self.devices != "auto":
            require_integer("devices", self.devices, least=1)
        require_positive("learning_rate", self.learning_rate)
        require_nonnegative("kl_weight", self.kl_weight)
        require_fraction("validation_fraction", self.validation_fraction)
        require_choice("precision", self.precision, _PRECISIONS)
        for name in ("accelerator", "device"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{name}: expected a name such as 'cpu', got {getattr(self, name)!r}")
