"""`train_vae`: from a new VAE and a data set to a folder with trained weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geodesic.data.dataset import Dataset
from geodesic.errors import DataError, InputError, TrainingDiverged
from geodesic.files import locked
from geodesic.installation import require
from geodesic.keywords import renamed
from geodesic.models.evaluation import evaluate_elbo, importance_weighted_bound
from geodesic.models.training.hardware import choose_hardware
from geodesic.models.training.plan import Training
from geodesic.models.training.resume import LAST, identity, refuse_trained, resumable
from geodesic.models.training.task import EpochCallback, Task
from geodesic.models.vae import VAE

_REMEDY = "lower training.learning_rate or another seed, or rescale the data"

if TYPE_CHECKING:
    from geodesic.models.training.module import VAETraining

__all__ = ["COLLAPSED_KL", "TrainingResult", "split_rows", "train_vae"]

COLLAPSED_KL = 0.01
"""A latent dimension whose mean KL on the validation rows is below this, in nats, carries nothing of the data."""


@dataclass(frozen=True)
class TrainingResult:
    """A trained VAE and how its training went.

    Attributes:
        vae: On the CPU, in evaluation mode.
        epochs: Epochs trained, over all resumptions.
        kept_epochs: Epochs behind the weights that are kept; fewer than `epochs` only with `patience`.
        stopped_early: Whether `patience` ended the training before the epochs that were asked for.
        validation_elbo: ELBO of the validation rows under the weights that are kept, nats per row.
        validation_kl: KL of each latent dimension there, mean over the validation rows, nats.
        test_elbo: ELBO of the test rows, which training never saw, nats per row.
        constant_elbo: ELBO of the test rows, nats per row, under the constant model: the best distribution of each
            entry that is the same for all rows, fitted to the training rows, with KL 0.
        test_bound: Importance-weighted bound of the test rows, nats per row; None where
            `importance_samples` is 0.
    """

    vae: VAE
    epochs: int
    kept_epochs: int
    stopped_early: bool
    validation_elbo: float
    validation_kl: tuple[float, ...]
    test_elbo: float
    constant_elbo: float
    test_bound: float | None

    @property
    def collapsed_dimensions(self) -> tuple[int, ...]:
        """Latent dimensions whose KL on the validation rows is below `COLLAPSED_KL`, from 0."""
        return tuple(dimension for dimension, kl in enumerate(self.validation_kl) if kl < COLLAPSED_KL)

    @property
    def failure(self) -> str | None:
        """Why the VAE is of no use, and what to change; None where it has learned something.

        Its held-out ELBO is below that of the constant model, which needs no latent point.
        """
        if self.test_elbo >= self.constant_elbo:
            return None
        return (
            f"training: the held-out ELBO, {self.test_elbo:.6g} nats per row, is below that of a constant model, "
            f"{self.constant_elbo:.6g}, which has one distribution for each entry and no latent point; raise "
            "training.epochs, lower training.learning_rate or training.kl_weight, or look whether model.likelihood "
            "suits the data"
        )


@renamed(seed="training=Training(seed=...)", device="training=Training(device=...)")
def train_vae(
    vae: VAE,
    dataset: Dataset,
    training: Training = Training(),
    *,
    folder: str | Path,
    resume: bool = False,
    progress: bool = True,
    on_epoch: EpochCallback | None = None,
) -> TrainingResult:
    """Train a VAE on the train rows and write it into a folder.

        loss = mean over rows of -E log p(x | z) + beta KL(q(z | x) || p(z)),   z ~ q(z | x)

    With `patience`, the weights of the epoch that did best on the validation rows, past the warm-up of
    beta, are kept; otherwise those of the last epoch. The folder receives metrics.csv and kl.csv (a row for
    each epoch), model.safetensors and model.json (`VAE.load`), last.ckpt (to resume from) and tensorboard/.
    The random state of the caller is left alone.

    Several devices get a process each and a share of the rows; a step takes `batch_size` rows in each process.
    A script that asks for them must do so below `if __name__ == "__main__":`.

    Args:
        vae: Trained in place, from the weights that it has: call `torch.manual_seed` before making it to get the same
            first weights again. Its weights take on the `precision` of the training, and end on the CPU.
        dataset: Its train rows are trained and validated on, its test rows are held out.
        training: How long and how, with which seed and on which device.
        folder: Made if it does not exist.
        resume: Go on from the folder's last.ckpt, whose weights replace those of `vae`. On the CPU they are then the
            same as without the interruption. More epochs, or another patience, may be asked for than before.
        progress: Show a progress bar.
        on_epoch: Called after each epoch, in the first process only, with the number of epochs trained and
            the VAE in evaluation mode, without gradients. It must not change the VAE; random numbers that it
            draws do not change the training. With several devices pickle must be able to copy it.

    Returns:
        The VAE and its bounds on the test rows.

    Raises:
        MissingExtraError: Lightning is not installed; the text has the line that installs it.
        InputError: The device does not exist or has no such precision, or the VAE is made for other rows, or trained to
            the end already.
        DataError: Values leave the range of the likelihood, or there are too few rows. Nothing is written.
        TrainingDiverged: The weights have left the range of their type, or the held-out ELBO is not finite.
        RunFolderError: The folder holds a trained model already, and `resume` is False; or another process trains into
            it.
        CheckpointError: The checkpoint is missing, truncated, or of a run with other settings or data.
        TrainingInterrupted: Ctrl-C, or SIGTERM; the folder's last.ckpt can be resumed from.

    Example:
        >>> import tempfile, geodesic
        >>> data = geodesic.load_data("digits", limit=200)
        >>> vae = geodesic.VAE(data.event_shape, latent_size=2)
        >>> result = geodesic.train_vae(
        ...     vae, data, geodesic.models.Training(epochs=2), folder=tempfile.mkdtemp(), progress=False
        ... )
        >>> result.epochs, result.vae is vae
        (2, True)
    """
    require("train", "lightning", "tensorboard")
    folder = Path(folder)
    hardware = choose_hardware(training)
    rows = split_rows(dataset, training.validation_fraction, training.seed, hardware.processes)
    _check(vae, dataset)
    wanted = identity(vae, training, dataset)

    from geodesic.models.training.module import VAETraining
    from geodesic.models.training.trainer import fit, make_trainer, quiet

    with locked(folder / LAST), torch.random.fork_rng(devices=[]), quiet():
        checkpoint = resumable(folder, wanted, training.epochs) if resume else None
        if not resume:
            refuse_trained(folder)
        # Of the CPU's random state only: torch.manual_seed would reseed the GPUs, which are not forked.
        torch.default_generator.manual_seed(training.seed)
        trainer = make_trainer(training, hardware, folder, progress)
        # Lightning would make a model double too, but only after it has restored a checkpoint, whose digits would be
        # lost.
        vae.to(device="cpu", dtype=torch.float64 if training.precision == "64-true" else torch.float32).train()
        train, validation = (dataset.train.values[part] for part in rows)
        if checkpoint is None:
            vae.begin(dataset.train.values)
        module = VAETraining(Task(vae, training, train, validation, folder, wanted, on_epoch))
        fit(trainer, module, checkpoint)
        if hardware.processes > 1:
            # The weights come back from the processes, the rest of what training knows does not.
            module.on_load_checkpoint(torch.load(folder / LAST, map_location="cpu", weights_only=True))
        return _finished(module, dataset, trainer.strategy.root_device)


def split_rows(dataset: Dataset, fraction: float, seed: int, processes: int) -> tuple[Tensor, Tensor]:
    """Indices of the train rows to train on and of those held back for validation, in random order.

    Raises:
        DataError: There are too few rows.
    """
    rows = len(dataset.train)
    if rows < 2 * processes or len(dataset.test) < 1:
        raise DataError(
            f"dataset: {rows} train and {len(dataset.test)} test rows are too few; training on {processes} "
            f"device(s) needs at least {2 * processes}, one for each of them for validation, and 1 to hold out"
        )
    held_back = min(max(processes, round(fraction * rows)), rows - processes)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed), device="cpu")
    return order[held_back:], order[:held_back]


def _check(vae: VAE, dataset: Dataset) -> None:
    """Refuse rows that the VAE cannot be trained on, before anything is written."""
    if dataset.event_shape != vae.event_shape:
        raise InputError(
            f"dataset: its rows have the shape {dataset.event_shape}, and the VAE is made for rows of shape "
            f"{vae.event_shape}; make it with VAE(dataset.event_shape, ...)"
        )
    for split in (dataset.train, dataset.test):
        vae.check(split.values)
    vae.check_uncertainty(dataset.train.values)


def _finished(module: VAETraining, dataset: Dataset, device: torch.device) -> TrainingResult:
    """The VAE with the weights that are kept, on disk too, and its bounds; `device` is where it was trained."""
    vae, plan, seed = module.vae, module.task.plan, module.task.plan.seed
    vae.cpu().eval()
    kept = len(module.history) - 1
    if plan.patience is not None and module.best is not None:
        vae.load_state_dict(module.best_weights)
        kept = module.best_epoch
    if not vae.is_finite():
        raise TrainingDiverged(
            f"training: the weights are not finite after epoch {len(module.history)}, and stay so; train anew with a "
            f"{_REMEDY}"
        )
    vae.fit_uncertainty(dataset.train.values, seed)
    values = dataset.test.values
    test_elbo = evaluate_elbo(vae, values, seed=seed)
    if not math.isfinite(test_elbo):
        raise TrainingDiverged(
            f"training: the held-out ELBO is {test_elbo} after epoch {len(module.history)}; train anew with a {_REMEDY}"
        )
    vae.save(module.task.folder)
    samples, test_bound = plan.importance_samples, None
    if samples:
        # Where it was trained: of all that follows, this alone is much work.
        vae.to(device)
        test_bound = importance_weighted_bound(vae, values, samples=samples, seed=seed)
        vae.cpu()
    return TrainingResult(
        vae=vae,
        epochs=len(module.history),
        kept_epochs=kept + 1,
        stopped_early=len(module.history) < plan.epochs,
        validation_elbo=module.history[kept]["validation_elbo"],
        validation_kl=tuple(module.kl_history[kept]),
        test_elbo=evaluate_elbo(vae, values, seed=seed),
        constant_elbo=vae.constant_elbo(dataset.train.values, values).mean().item(),
        test_bound=test_bound,
    )
