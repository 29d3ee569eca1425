"""Settings of the training of a VAE."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from geodesic.checks import require_integer
from geodesic.models.training.plan import Training
from geodesic.registry import setting

__all__ = ["TrainingSettings"]


@dataclass(frozen=True)
class TrainingSettings(Training):
    """How a VAE is trained, and how often pictures of it are drawn: see `geodesic.models.Training`.

    Args:
        picture_every: Draw reconstructions and samples every so many epochs and at the end; None: never.
    """

    picture_every: int | None = field(
        default=10,
        metadata=setting("draw reconstructions and samples every so many epochs and at the end; null: never", gt=0),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.picture_every is not None:
            require_integer("picture_every", self.picture_every, least=1)

    @property
    def plan(self) -> Training:
        """What `train_vae` takes."""
        return Training(**{field.name: getattr(self, field.name) for field in fields(Training)})
