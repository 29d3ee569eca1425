"""Rows in batches, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Batches", "stream"]


def stream(*parts: int) -> int:
    """A seed from several numbers, such that neighboring numbers give unrelated random streams."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


class Batches:
    """Batches of a tensor in memory; each rank of a distributed run takes its share of every epoch.

    The order of an epoch depends on the seed and the number of the epoch only, which is what makes a
    resumed run equal to an uninterrupted one. A loader with workers would cost more than such small steps.

    Args:
        values: The rows, (N, *event).
        batch_size: Rows a batch; the last one may be smaller.
        seed: Seed of the order, for training; None keeps the rows in order, for evaluation.
        epoch: Gives the number of the current epoch, from 0.
        rank, ranks: Which share, of how many.
    """

    def __init__(
        self,
        values: Float[Tensor, "N *event"],
        batch_size: int,
        seed: int | None,
        epoch: Callable[[], int],
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.values, self.batch_size, self.seed, self.epoch = values, batch_size, seed, epoch
        self.rank, self.ranks = rank, ranks

    def __len__(self) -> int:
        return -(-len(self._share(torch.arange(len(self.values)))) // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.arange(len(self.values))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(stream(self.seed, self.epoch(), 0))
            order = torch.randperm(len(self.values), generator=generator)
        for rows in self._share(order).split(self.batch_size):
            yield self.values[rows]

    def _share(self, order: Tensor) -> Tensor:
        share = order[self.rank :: self.ranks]
        # Ranks that step a different number of times would wait for ever, and evaluation takes no steps.
        return share if self.seed is None else share[: len(order) // self.ranks]
