"""The training loop as Lightning runs it.

Three of Lightning's callbacks do something near. Ours stay, so that an interrupted training goes on exactly:

- `ModelCheckpoint` has no checkpoint until the first epoch ends. It writes into the system's folder of temporary files
  and moves the file from there, which is a copy where that is another disk. `KeepLast` begins at once, and writes
  beside, then renames.
- `EarlyStopping` looks after an epoch only, so that a run which has stopped would train one more when it is resumed. It
  also counts while beta grows, and the best weights would be a second file for pickle.
- `CSVLogger` deletes the table of the run that it goes on with.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import Tensor

from geodesic.files import write_bytes
from geodesic.models.training.batches import Batches, stream
from geodesic.models.training.interruption import Interruption
from geodesic.models.training.resume import LAST
from geodesic.models.training.task import Task
from geodesic.models.vae import ELBO

__all__ = ["KL", "METRICS", "KeepLast", "VAETraining", "table"]

METRICS = "metrics.csv"
KL = "kl.csv"


class VAETraining(lightning.LightningModule):
    """Adam on the negative ELBO, with KL warm-up, early stopping and a table of metrics.

    Args:
        task: What is trained, on what, how, and where its files go.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task, self.vae = task, task.vae
        self.interruption = Interruption()
        self.history: list[dict[str, int | float]] = []
        self.kl_history: list[list[float]] = []
        self.best: float | None = None
        self.best_epoch = -1
        self.best_weights: dict[str, Tensor] = {}
        self.waited = 0
        self._sums: dict[str, Tensor] = {}

    @property
    def epoch(self) -> int:
        """Number of the current epoch, from 0: Lightning's own lags behind in its last hook."""
        return len(self.history)

    @property
    def kl_weight(self) -> float:
        """Weight beta of the KL term in the current epoch."""
        warmup = self.task.plan.kl_warmup_epochs
        return self.task.plan.kl_weight * (min(1.0, self.epoch / warmup) if warmup else 1.0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.vae.parameters(), lr=self.task.plan.learning_rate)

    def configure_callbacks(self) -> list[Callback]:
        return [self.interruption]

    def train_dataloader(self) -> Batches:
        return self._batches(self.task.train, self.task.plan.batch_size, self.task.plan.seed)

    def val_dataloader(self) -> Batches:
        return self._batches(self.task.validation, max(1000, self.task.plan.batch_size), None)

    def _batches(self, values: Tensor, batch_size: int, seed: int | None) -> Batches:
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        return Batches(values, batch_size, seed, lambda: self.epoch, rank, ranks)

    def on_train_start(self) -> None:
        self._stop_if_waited_enough()

    def on_train_epoch_start(self) -> None:
        self._sums = {}
        self._generator = self._noise(self.epoch, 1)

    def on_validation_epoch_start(self) -> None:
        # The same noise at each epoch: less of the change from epoch to epoch is chance.
        self._validation_generator = self._noise(0, 2)

    def _noise(self, epoch: int, purpose: int) -> torch.Generator:
        generator = torch.Generator(self.device)
        return generator.manual_seed(stream(self.task.plan.seed, epoch, purpose, self.trainer.global_rank))

    def training_step(self, batch: Tensor) -> Tensor:
        terms = self.vae.elbo(batch, self.kl_weight, self._generator)
        self._add("train", terms)
        return -terms.value.mean()

    def validation_step(self, batch: Tensor) -> None:
        self._add("validation", self.vae.elbo(batch, generator=self._validation_generator))
        self._add_sums("validation_kl", self.vae.encode_distribution(batch).coordinate_kl().sum(0))

    def _add(self, part: str, terms: ELBO) -> None:
        with torch.no_grad():
            rows = terms.kl.new_tensor(float(len(terms.kl)))
            self._add_sums(part, torch.stack([terms.log_likelihood.sum(), terms.kl.sum(), rows]))

    def _add_sums(self, part: str, sums: Tensor) -> None:
        sums = sums.double()
        self._sums[part] = self._sums[part] + sums if part in self._sums else sums

    def _total(self, part: str) -> list[float]:
        """Sums over the batches of all ranks."""
        total: Any = self.trainer.strategy.reduce(self._sums[part], reduce_op="sum")
        numbers: list[float] = total.tolist()
        return numbers

    def on_train_epoch_end(self) -> None:
        epoch, beta = self.epoch, self.task.plan.kl_weight
        row: dict[str, int | float] = {"epoch": epoch, "kl_weight": self.kl_weight}
        for part in ("train", "validation"):
            log_likelihood, kl, rows = self._total(part)
            row[f"{part}_log_likelihood"] = log_likelihood / rows
            row[f"{part}_kl"] = kl / rows
            row[f"{part}_elbo"] = (log_likelihood - kl) / rows
        self.history.append(row)
        self.kl_history.append([kl / rows for kl in self._total("validation_kl")])  # the rows of validation
        for logger in self.loggers:
            logger.log_metrics({k: v for k, v in row.items() if k != "epoch"}, step=epoch)
        if self.trainer.is_global_zero:
            write_bytes(self.task.folder / METRICS, table(self.history))
            write_bytes(self.task.folder / KL, table([_named(epoch, kl) for epoch, kl in enumerate(self.kl_history)]))
            if self.task.on_epoch is not None:
                with self._undisturbed():
                    self.task.on_epoch(len(self.history), self.vae)
        # While beta grows, the objective is another one each epoch, and its best is not kept.
        if self.task.plan.patience is not None and epoch >= self.task.plan.kl_warmup_epochs:
            self._compare(epoch, row["validation_log_likelihood"] - beta * row["validation_kl"])
        if not self.vae.is_finite():
            self.trainer.should_stop = True  # no step leads back

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """For work on the VAE in evaluation mode that training must not feel."""
        cuda = [self.device] if self.device.type == "cuda" else []
        training = self.vae.training
        self.vae.eval()
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=cuda):
                yield
        finally:
            self.vae.train(training)

    def _compare(self, epoch: int, objective: float) -> None:
        if self.best is None or objective > self.best:
            self.best, self.best_epoch, self.waited = objective, epoch, 0
            self.best_weights = {name: weight.clone() for name, weight in self.vae.state_dict().items()}
        else:
            self.waited += 1
        self._stop_if_waited_enough()

    def _stop_if_waited_enough(self) -> None:
        if self.task.plan.patience is not None and self.waited >= self.task.plan.patience:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["geodesic"] = {
            "identity": self.task.identity,
            "history": self.history,
            "kl_history": self.kl_history,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "waited": self.waited,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = checkpoint["geodesic"]
        self.history, self.kl_history = list(kept["history"]), list(kept["kl_history"])
        self.best, self.best_epoch, self.waited = kept["best"], kept["best_epoch"], kept["waited"]
        self.best_weights = dict(kept["best_weights"])


class KeepLast(Checkpoint):
    """Write last.ckpt at the start and after each epoch, beside first and then renamed."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not trainer.current_epoch:
            self._save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._save(trainer, pl_module)

    def _save(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, VAETraining)
        # Lightning's own atomic save leaves its temporary file in a folder for all users.
        beside = pl_module.task.folder / f".{LAST}"
        trainer.save_checkpoint(beside)
        if trainer.is_global_zero:
            beside.replace(pl_module.task.folder / LAST)


def _named(epoch: int, kl: list[float]) -> dict[str, int | float]:
    return {"epoch": epoch, **{f"kl_{dimension}": value for dimension, value in enumerate(kl)}}


def table(rows: list[dict[str, int | float]]) -> bytes:
    """Rows of numbers as CSV, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
