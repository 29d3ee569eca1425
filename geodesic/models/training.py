"""Training a VAE, with checkpoints to resume from, and the measure of how good it is."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geodesic.data import Dataset
from geodesic.errors import (
    CheckpointError,
    DataError,
    InputError,
    RunFolderError,
    TrainingDiverged,
    TrainingInterrupted,
)
from geodesic.experiment.settings import TrainingSettings, VAESettings
from geodesic.models.checkpoint import WEIGHTS
from geodesic.models.vae import VAE, DiagonalGaussian

if TYPE_CHECKING:
    import lightning.pytorch as lightning

    from geodesic.models._lightning import VAETraining

__all__ = ["COLLAPSED_KL", "TrainingResult", "evaluate_elbo", "importance_weighted_bound", "train_vae"]

COLLAPSED_KL = 0.01
"""A latent dimension whose mean KL on the validation rows is below this, in nats, carries nothing of the data."""

EpochCallback = Callable[[int, VAE], None]


@dataclass(frozen=True)
class TrainingResult:
    """A trained VAE and how its training went.

    Attributes:
        vae: On the CPU, in evaluation mode.
        epochs: Epochs trained, over all resumptions.
        kept_epochs: Epochs behind the weights that are kept; fewer than `epochs` only with `patience`.
        stopped_early: Whether `patience` ended the training before `epochs` of the settings.
        validation_elbo: ELBO of the validation rows under the weights that are kept, nats per row.
        validation_kl: KL of each latent dimension there, mean over the validation rows, nats.
        test_elbo: ELBO of the test rows, which training never saw, nats per row.
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
    test_bound: float | None

    @property
    def collapsed_dimensions(self) -> tuple[int, ...]:
        """Latent dimensions whose KL on the validation rows is below `COLLAPSED_KL`, from 0."""
        return tuple(dimension for dimension, kl in enumerate(self.validation_kl) if kl < COLLAPSED_KL)


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
        dataset: Its train rows are trained and validated on, its test rows are held out.
        model_settings: The VAE.
        training_settings: How long and how. `devices: auto` takes one device.
        folder: Made if it does not exist.
        seed: Seed of the first weights, of the validation rows, of the order of rows and of the noise.
        device: "auto", "cpu", "cuda" or "cuda:1"; counts where `accelerator` is "auto".
        resume: Go on from the folder's last.ckpt. On the CPU the weights are then the same as without
            the interruption. More epochs, or another patience, may be asked for than before.
        progress: Show a progress bar.
        on_epoch: Called after each epoch, in the first process only, with the number of epochs trained and
            the VAE in evaluation mode, without gradients. It must not change the VAE; random numbers that it
            draws do not change the training. With several devices pickle must be able to copy it.

    Returns:
        The VAE and its bounds on the test rows.

    Raises:
        InputError: The device does not exist or has no such precision, or the seed is negative.
        DataError: Values leave the range of the likelihood, or there are too few rows. Nothing is written.
        TrainingDiverged: The weights have left the range of their type.
        RunFolderError: The folder holds a trained model already, and `resume` is False.
        CheckpointError: The checkpoint is missing, truncated, or of a run with other settings or data.
        TrainingInterrupted: Ctrl-C, or SIGTERM; the folder's last.ckpt can be resumed from.

    Example:
        >>> import tempfile, geodesic
        >>> from geodesic.experiment.settings import DigitsData, TrainingSettings, VAESettings
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
    processes = 1 if isinstance(devices, list) else devices
    train_rows, validation_rows = _split_rows(dataset, training_settings.validation_fraction, seed, processes)

    with torch.random.fork_rng(devices=[]):
        # Of the CPU's random state only: torch.manual_seed would reseed the GPUs, which are not forked.
        torch.default_generator.manual_seed(seed)
        # Whatever the caller's default type is. Lightning would make a model double too, but only after
        # it has restored a checkpoint, whose digits would be lost.
        dtype = torch.float64 if training_settings.precision == "64-true" else torch.float32
        vae = VAE(dataset.event_shape, model_settings).to(dtype)
        for split in (dataset.train, dataset.test):
            vae.likelihood.check(split.values)
        vae.check_uncertainty(dataset.train.values)
        identity = _identity(model_settings, training_settings, dataset, seed)
        checkpoint = _resumable(folder, identity, training_settings.epochs) if resume else None
        if not resume:
            _refuse_trained(folder)
        with _quiet():
            from geodesic.models._lightning import VAETraining, finite

            values = dataset.train.values
            module = VAETraining(
                vae, training_settings, values[train_rows], values[validation_rows], seed, folder, identity, on_epoch
            )
            trainer = _trainer(training_settings, accelerator, devices, folder, progress)
            folder.mkdir(parents=True, exist_ok=True)
            _fit(trainer, module, checkpoint)
            if processes > 1:
                # The weights come back from the processes, the rest of what training knows does not.
                module.on_load_checkpoint(torch.load(folder / "last.ckpt", map_location="cpu", weights_only=True))

    vae.cpu().eval()
    kept = len(module.history) - 1
    if training_settings.patience is not None and module.best is not None:
        vae.load_state_dict(module.best_weights)
        kept = module.best_epoch
    if not finite(vae):
        raise TrainingDiverged(
            f"training: the weights are not finite after epoch {len(module.history)}, and stay so; train anew with a "
            "lower training.learning_rate or another seed, or rescale the data"
        )
    vae.fit_uncertainty(dataset.train.values, seed)
    vae.save(folder)
    samples, test_bound = training_settings.importance_samples, None
    if samples:
        # Where it was trained: of all that follows, this alone is much work.
        vae.to(trainer.strategy.root_device)
        test_bound = importance_weighted_bound(vae, dataset.test.values, samples=samples, seed=seed)
        vae.cpu()
    return TrainingResult(
        vae=vae,
        epochs=len(module.history),
        kept_epochs=kept + 1,
        stopped_early=len(module.history) < training_settings.epochs,
        validation_elbo=module.history[kept]["validation_elbo"],
        validation_kl=tuple(module.kl_history[kept]),
        test_elbo=evaluate_elbo(vae, dataset.test.values, seed=seed),
        test_bound=test_bound,
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
        >>> import torch, geodesic
        >>> from geodesic.experiment.settings import VAESettings
        >>> vae = geodesic.VAE((6,), VAESettings(hidden_sizes=(16,)))
        >>> geodesic.evaluate_elbo(vae, torch.rand(5, 6)) < 0
        True
    """
    total = 0.0
    with _evaluation(vae, values, samples, seed, batch_size) as (batches, generator):
        for x in batches:
            for _ in range(samples):
                total += vae.elbo(x, generator=generator).value.sum(dtype=torch.float64).item()
    return total / (samples * len(values))


def importance_weighted_bound(
    vae: VAE, values: Tensor, *, samples: int = 64, seed: int = 0, batch_size: int = 1000
) -> float:
    """Mean importance-weighted bound of rows, in nats per row: the ELBO for one sample, log p(x) for very many.

        L_K = mean over rows of E log (1 / K) sum over k of p(x | z_k) p(z_k) / q(z_k | x),   z_k ~ q(z | x)

    It grows with K on average and never beyond log p(x). How far it is from there depends on q: with a poor one
    even many samples leave a gap. For an ensemble p(x | z) is the geometric mean of its members, as in the ELBO.

    Reference: Burda, Grosse, Salakhutdinov, *Importance Weighted Autoencoders*, 2016.

    Args:
        vae: Left in the mode, training or evaluation, that it is in.
        values: Rows, (N, *event), in the range of the likelihood; moved to the device of the model.
        samples: Latent points drawn for each row, K.
        seed: Seed of the noise.
        batch_size: Latent points decoded at a time, which bounds the memory whatever K is.

    Raises:
        InputError: A count is below 1, or rows have another shape than the model's.
        DataError: Values leave the range of the likelihood.

    Example:
        >>> import torch, geodesic
        >>> from geodesic.experiment.settings import VAESettings
        >>> vae, x = geodesic.VAE((6,), VAESettings(hidden_sizes=(16,))), torch.rand(50, 6)
        >>> geodesic.importance_weighted_bound(vae, x) > geodesic.evaluate_elbo(vae, x, samples=64)
        True
    """
    total = 0.0
    with _evaluation(vae, values, samples, seed, batch_size) as (batches, generator):
        for x in batches:
            q = vae.encode_distribution(x)
            log_sum = x.new_full((len(x),), -math.inf, dtype=torch.float64)
            chunk = max(1, batch_size // len(x))
            for done in range(0, samples, chunk):
                log_weights = _log_weights(vae, x, q, min(chunk, samples - done), generator)
                log_sum = torch.logaddexp(log_sum, log_weights.double().logsumexp(0))
            total += log_sum.sum().item()
    return total / len(values) - math.log(samples)


def _log_weights(vae: VAE, x: Tensor, q: DiagonalGaussian, samples: int, generator: torch.Generator) -> Tensor:
    """The logarithm of p(x | z) p(z) / q(z | x) at so many z ~ q(z | x) for each row, (samples, N)."""

    def repeated(rows: Tensor) -> Tensor:
        return rows.expand(samples, *rows.shape).flatten(0, 1)

    q = DiagonalGaussian(repeated(q.mean), repeated(q.log_scale))
    prior = DiagonalGaussian(torch.zeros_like(q.mean), torch.zeros_like(q.mean))
    z = q.sample(generator)
    return (vae.log_likelihood(z, repeated(x)) + prior.log_prob(z) - q.log_prob(z)).unflatten(0, (samples, len(x)))


@contextmanager
def _evaluation(
    vae: VAE, values: Tensor, samples: int, seed: int, batch_size: int
) -> Iterator[tuple[Iterator[Tensor], torch.Generator]]:
    """Batches on the device of the model and a source of noise there, for a VAE in evaluation mode."""
    for name, count in (("samples", samples), ("batch_size", batch_size)):
        if count < 1:
            raise InputError(f"{name}: expected an integer of at least 1, got {count}")
    vae.likelihood.check(values)
    weight = next(vae.parameters())
    training = vae.training
    vae.eval()
    try:
        with torch.no_grad():
            batches = (batch.to(weight) for batch in values.split(batch_size))
            yield batches, torch.Generator(weight.device).manual_seed(seed)
    finally:
        vae.train(training)


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
    if accelerator == "cpu" and settings.precision == "16-mixed":
        raise InputError(
            "training.precision: got '16-mixed' on the CPU, which has no such arithmetic; use bf16-mixed or 32-true"
        )
    return accelerator, devices


def _split_rows(dataset: Dataset, fraction: float, seed: int, processes: int) -> tuple[Tensor, Tensor]:
    rows = len(dataset.train)
    if rows < 2 * processes or len(dataset.test) < 1:
        raise DataError(
            f"dataset: {rows} train and {len(dataset.test)} test rows are too few; training on {processes} "
            f"device(s) needs at least {2 * processes}, one for each of them for validation, and 1 to hold out"
        )
    held_back = min(max(processes, round(fraction * rows)), rows - processes)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed), device="cpu")
    return order[held_back:], order[:held_back]


def _identity(model: VAESettings, training: TrainingSettings, dataset: Dataset, seed: int) -> dict[str, Any]:
    """What a run cannot change between its start and its resumption."""
    changeable = {"epochs", "patience", "accelerator", "devices", "importance_samples", "picture_every"}
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
        trained, before = len(kept["kl_history"]), dict(kept["identity"])
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

    from geodesic.models._lightning import KeepLast, Processes

    several = isinstance(devices, int) and devices > 1 and accelerator in ("cpu", "cuda", "gpu")
    callbacks: list[Callback] = [KeepLast()]
    if progress:
        callbacks.append(RichProgressBar(refresh_rate=10))
    try:
        return lightning.Trainer(
            accelerator=accelerator,
            devices=devices,
            strategy=Processes() if several else "auto",
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


def _fit(trainer: lightning.Trainer, module: VAETraining, checkpoint: Path | None) -> None:
    from geodesic.models._lightning import Processes

    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    processes = trainer.strategy if isinstance(trainer.strategy, Processes) else None
    port = os.environ.get("MASTER_PORT")
    if main and processes is not None:
        # Lightning's own answer to SIGTERM is at work in the processes that train, not in this one.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
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
        if processes is not None:
            processes.end()
            if port is None:
                os.environ.pop("MASTER_PORT", None)
        if main:
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning without its advice; it speaks through loggers and warnings of its own."""
    from geodesic.models._lightning import LOGGERS  # first, since the import of Lightning sets the levels

    loggers = [logging.getLogger(name) for name in LOGGERS]
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
