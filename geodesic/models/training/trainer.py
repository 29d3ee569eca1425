"""Lightning's trainer, made quiet, and its answer to interruptions."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import lightning.pytorch as lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger

from geodesic.errors import InputError, TrainingInterrupted
from geodesic.models.training.hardware import Hardware
from geodesic.models.training.module import KeepLast, VAETraining
from geodesic.models.training.plan import Training
from geodesic.models.training.processes import LOGGERS, Processes

__all__ = ["fit", "make_trainer", "quiet"]


def make_trainer(training: Training, hardware: Hardware, folder: Path, progress: bool) -> lightning.Trainer:
    """Lightning's trainer.

    Args:
        training: How long and how to train.
        hardware: Where.
        folder: Where the checkpoint and tensorboard/ go.
        progress: Show a progress bar.

    Raises:
        InputError: Lightning refuses the hardware or the precision.
    """
    accelerator, devices = hardware.accelerator, hardware.devices
    several = hardware.processes > 1 and accelerator in ("cpu", "cuda", "gpu")
    callbacks: list[Callback] = [KeepLast()]
    if progress:
        callbacks.append(RichProgressBar(refresh_rate=10))
    try:
        return lightning.Trainer(
            accelerator=accelerator,
            devices=devices,
            strategy=Processes() if several else "auto",
            precision=training.precision,
            max_epochs=training.epochs,
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
            f"training: accelerator {training.accelerator!r}, devices {training.devices!r} and precision "
            f"{training.precision!r} are refused by Lightning ({error}); change them"
        ) from None


def fit(trainer: lightning.Trainer, module: VAETraining, checkpoint: Path | None) -> None:
    """Train, from a checkpoint if there is one, and leave the process's answers to signals as they were.

    Raises:
        TrainingInterrupted: Ctrl-C, or SIGTERM.
    """
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    processes = trainer.strategy if isinstance(trainer.strategy, Processes) else None
    port = os.environ.get("MASTER_PORT")
    if main and processes is not None:
        # Lightning's own answer to SIGTERM is at work in the processes that train, not in this one.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as listening:
            if main and processes is None:  # several processes train, and this one only waits for them
                listening.enter_context(module.interruption.listening())
            trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
        if module.interruption.asked:  # after the last batch
            raise _interrupted(trainer)
    except (KeyboardInterrupt, SystemExit):
        # Lightning answers Ctrl-C with SystemExit, and ignores further ones from then on.
        if not trainer.interrupted:
            raise
        raise _interrupted(trainer) from None
    finally:
        if processes is not None:
            processes.end()
            if port is None:
                os.environ.pop("MASTER_PORT", None)
        if main:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _interrupted(trainer: lightning.Trainer) -> TrainingInterrupted:
    checkpoint = Path(trainer.default_root_dir) / "last.ckpt"
    return TrainingInterrupted(f"training interrupted; go on from {checkpoint} with --resume (resume=True)")


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning without its advice; it speaks through loggers and warnings of its own."""
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
