"""Training a VAE, with checkpoints to resume from, and the measure of how good it is."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geodesic.config import TrainingSettings, VAESettings
from geodesic.data import Dataset
from geodesic.errors import CheckpointError, DataError, InputError, RunFolderError, TrainingInterrupted
from geodesic.models.checkpoint import WEIGHTS
from geodesic.models.vae import VAE

if TYPE_CHECKING:
    import lightning.pytorch as lightning

__all__ = ["TrainingResult", "evaluate_elbo", "train_vae"]


@dataclass(frozen=True)
class TrainingResult:
    """A trained VAE and how its training went.

    Args:
        vae: On the CPU, in evaluation mode.
        epochs: Epochs trained, over all resumptions.
        stopped_early: Whether `patience` ended the training before `epochs` of the settings.
        validation_elbo: ELBO of the validation rows at the epoch whose weights are kept, nats per row.
        test_elbo: ELBO of the test rows, which training never saw, nats per row.
    """

    vae: VAE
    epochs: int
    stopped_early: bool
    validation_elbo: float
    test_elbo: float


def train_vae(
    dataset: Dataset,
    model_settings: VAESettings,
    training_settings: TrainingSettings,
    *,
    folder: str | Path,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    progress: bool = True,
) -> TrainingResult:
    """Train a VAE on the train rows and write it into a folder.

        loss = mean over rows of -E log p(x | z) + beta KL(q(z | x) || p(z)),   z ~ q(z | x)

    With `patience`, the weights of the epoch that did best on the validation rows, past the warm-up of
    beta, are kept; otherwise those of the last epoch. The folder receives metrics.csv (a row for each
    epoch), model.safetensors and model.json (`VAE.load`), last.ckpt (to resume from) and tensorboard/.
    The random state of the caller is left alone.

    Args:
        dataset: Its train rows are trained and validated on, its test rows are held out.
        model_settings: The VAE.
        training_settings: How long and how. `devices: auto` takes one device.
        folder: Made if it does not exist.
        seed: Seed of the first weights, of the validation rows, of the order of rows and of the noise.
        device: "auto", "cpu", "cuda" or "cuda:1"; counts where `accelerator` is "auto".
        resume: Go on from the folder's last.ckpt. On the CPU the weights are then the same as without
            the interruption. More epochs, or another patience, may be asked for than before.
        progress: Show a progress bar.

    Returns:
        The VAE and its ELBO on the test rows.

    Raises:
        InputError: The device does not exist, or the seed is negative.
        DataError: Values leave the range of the likelihood, or there are too few rows. Nothing is written.
        RunFolderError: The folder holds a trained model already, and `resume` is False.
        CheckpointError: The checkpoint is missing, truncated, or of a run with other settings or data.
        TrainingInterrupted: Ctrl-C, or SIGTERM; the folder's last.ckpt can be resumed from.

    Example:
        >>> import tempfile, geodesic
        >>> from geodesic.config import DigitsData, TrainingSettings, VAESettings
        >>> data = geodesic.load_data(DigitsData(kind="digits", limit=200))
        >>> result = geodesic.train_vae(
        ...     data, VAESettings(hidden_sizes=(16,)), TrainingSettings(epochs=2),
        ...     folder=tempfile.mkdtemp(), progress=False,
        ... )
        >>> result.epochs, result.vae.latent_size
        (2, 2)
    """
    folder = Path(folder)
    if seed < 0:
        raise InputError(f"seed: expected an integer of at least 0, got {seed}")
    accelerator, devices = _hardware(device, training_settings)
    train_rows, validation_rows = _split_rows(dataset, training_settings.validation_fraction, seed)

    with torch.random.fork_rng(devices=[]):
        # Of the CPU's random state only: torch.manual_seed would reseed the GPUs, which are not forked.
        torch.default_generator.manual_seed(seed)
        # Whatever the caller's default type is. Lightning would make a model double too, but only after
        # it has restored a checkpoint, whose digits would be lost.
        dtype = torch.float64 if training_settings.precision == "64-true" else torch.float32
        vae = VAE(dataset.event_shape, model_settings).to(dtype)
        for split in (dataset.train, dataset.test):
            vae.likelihood.check(split.values)
        identity = _identity(model_settings, training_settings, dataset, seed)
        checkpoint = _resumable(folder, identity, training_settings.epochs) if resume else None
        if not resume:
            _refuse_trained(folder)
        with _quiet():
            from geodesic.models._lightning import VAETraining

            values = dataset.train.values
            module = VAETraining(
                vae, training_settings, values[train_rows], values[validation_rows], seed, folder, identity
            )
            trainer = _trainer(training_settings, accelerator, devices, folder, progress)
            folder.mkdir(parents=True, exist_ok=True)
            _fit(trainer, module, checkpoint)

    vae.cpu().eval()
    kept = module.history[-1]
    if training_settings.patience is not None and module.best is not None:
        vae.load_state_dict(module.best_weights)
        kept = module.history[module.best_epoch]
    vae.fit_uncertainty(dataset.train.values, seed)
    vae.save(folder)
    return TrainingResult(
        vae=vae,
        epochs=len(module.history),
        stopped_early=len(module.history) < training_settings.epochs,
        validation_elbo=kept["validation_elbo"],
        test_elbo=evaluate_elbo(vae, dataset.test.values, seed=seed),
    )


def evaluate_elbo(vae: VAE, values: Tensor, *, samples: int = 1, seed: int = 0, batch_size: int = 1000) -> float:
    """Mean ELBO of rows, in nats per row.

        mean over rows of E log p(x | z) - KL(q(z | x) || p(z)),   z ~ q(z | x)

    Args:
        vae: Left in the mode, training or evaluation, that it is in.
        values: Rows, (N, *event), in the range of the likelihood; moved to the device of the model.
        samples: Latent points drawn for each row; the KL term is exact.
        seed: Seed of the noise.
        batch_size: Rows at a time.

    Raises:
        InputError: A count is below 1, or rows have another shape than the model's.
        DataError: Values leave the range of the likelihood.

    Example:
        >>> import math, torch, geodesic
        >>> from geodesic.config import VAESettings
        >>> from geodesic.models.training import evaluate_elbo
        >>> vae = geodesic.VAE((6,), VAESettings(hidden_sizes=(16,)))
        >>> evaluate_elbo(vae, torch.rand(5, 6)) < 0
        True
    """
    for name, count in (("samples", samples), ("batch_size", batch_size)):
        if count < 1:
            raise InputError(f"{name}: expected an integer of at least 1, got {count}")
    vae.likelihood.check(values)
    weight = next(vae.parameters())
    generator = torch.Generator(weight.device).manual_seed(seed)
    total = 0.0
    training = vae.training
    vae.eval()
    try:
        with torch.no_grad():
            for batch in values.split(batch_size):
                x = batch.to(weight)
                for _ in range(samples):
                    total += vae.elbo(x, generator=generator).value.sum(dtype=torch.float64).item()
    finally:
        vae.train(training)
    return total / (samples * len(values))


# --- before ------------------------------------------------------------------------------------


def _hardware(device: str, settings: TrainingSettings) -> tuple[str, int | list[int]]:
    """Lightning's accelerator and devices."""
    accelerator = settings.accelerator
    devices: int | list[int] = 1 if settings.devices == "auto" else settings.devices
    if accelerator == "auto":
        name, _, index = device.partition(":")
        if name not in ("auto", "cpu", "cuda") or (index and not (name == "cuda" and index.isdigit())):
            raise InputError(f"device: expected auto, cpu, cuda or cuda:N, got {device!r}")
        cuda = name == "cuda" or (name == "auto" and torch.cuda.is_available())
        accelerator = "cuda" if cuda else "cpu"
        if index:
            devices = [int(index)]
    if accelerator in ("cuda", "gpu"):
        asked = max(devices) + 1 if isinstance(devices, list) else devices
        available = torch.cuda.device_count() if torch.cuda.is_available() else 0
        # On a machine with Apple's GPU, "gpu" is that one.
        apple = accelerator == "gpu" and torch.backends.mps.is_available()
        if asked > available and not apple:
            raise InputError(
                f"device: {device!r} with accelerator {settings.accelerator!r} asks for {asked} CUDA "
                f"device(s), and PyTorch finds {available} here; "
                "use device=cpu, or a build of PyTorch with CUDA"
            )
    return accelerator, devices


def _split_rows(dataset: Dataset, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    rows = len(dataset.train)
    if rows < 2 or len(dataset.test) < 1:
        raise DataError(
            f"dataset: {rows} train and {len(dataset.test)} test rows are too few; training needs at least "
            "2, one of them for validation, and 1 to hold out"
        )
    held_back = min(max(1, round(fraction * rows)), rows - 1)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    return order[held_back:], order[:held_back]


def _identity(model: VAESettings, training: TrainingSettings, dataset: Dataset, seed: int) -> dict[str, Any]:
    """What a run cannot change between its start and its resumption."""
    changeable = {"epochs", "patience", "accelerator", "devices"}
    values = dataset.train.values
    return {
        "seed": seed,
        "train rows": len(values),
        "event_shape": list(dataset.event_shape),
        "checksum of the train rows": zlib.crc32(values.contiguous().numpy().data),
        **{f"model.{k}": v for k, v in model.model_dump(mode="json").items()},
        **{f"training.{k}": v for k, v in training.model_dump(mode="json", exclude=changeable).items()},
    }


def _resumable(folder: Path, identity: dict[str, Any], epochs: int) -> Path:
    file = folder / "last.ckpt"
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file, so there is nothing to resume; train without --resume")
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
        kept = found["geodesic"]
        trained, before = len(kept["history"]), dict(kept["identity"])
    except Exception as error:  # a foreign or truncated file can make an unpickler fail in any way
        raise CheckpointError(
            f"{file}: truncated, or not a checkpoint of this project ({type(error).__name__}); "
            "remove the folder and train again"
        ) from None
    other = [f"{k} was {before.get(k)!r} and is {v!r}" for k, v in identity.items() if before.get(k) != v]
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


def _refuse_trained(folder: Path) -> None:
    for name in (WEIGHTS, "last.ckpt"):
        if (folder / name).exists():
            raise RunFolderError(
                f"{folder}: holds {name} of an earlier training; pass resume=True (--resume) to go on with "
                "it, or choose another folder"
            )


# --- Lightning -----------------------------------------------------------------------------------


def _trainer(
    settings: TrainingSettings, accelerator: str, devices: int | list[int], folder: Path, progress: bool
) -> lightning.Trainer:
    import lightning.pytorch as lightning
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.callbacks import Callback, RichProgressBar
    from lightning.pytorch.loggers import TensorBoardLogger

    from geodesic.models._lightning import KeepLast

    callbacks: list[Callback] = [KeepLast()]
    if progress:
        callbacks.append(RichProgressBar(refresh_rate=10))
    try:
        return lightning.Trainer(
            accelerator=accelerator,
            devices=devices,
            precision=settings.precision,
            max_epochs=settings.epochs,
            callbacks=callbacks,
            logger=TensorBoardLogger(folder, name="tensorboard", version=""),
            default_root_dir=folder,
            enable_progress_bar=progress,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
    except (MisconfigurationException, ValueError) as error:
        raise InputError(
            f"training: accelerator {settings.accelerator!r}, devices {settings.devices!r} and precision "
            f"{settings.precision!r} are refused by Lightning ({error}); change them"
        ) from None


def _fit(trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: Path | None) -> None:
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    except (KeyboardInterrupt, SystemExit):
        # Lightning answers Ctrl-C with SystemExit, and ignores further ones from then on.
        if not trainer.interrupted:
            raise
        folder = trainer.default_root_dir
        raise TrainingInterrupted(
            f"training interrupted; go on from {Path(folder) / 'last.ckpt'} with --resume (resume=True)"
        ) from None
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning without its advice; it speaks through loggers and warnings of its own."""
    import lightning.pytorch  # noqa: F401  # first, since its import sets the levels

    names = ["lightning.pytorch", "lightning.fabric"]
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
