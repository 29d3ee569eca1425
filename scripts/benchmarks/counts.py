"""Whether VAEs train on data as they come: counts of any mean, numbers of any scale, at the default settings.

Rows are made: 400 of 50 columns, whose log rates (or means) depend on two hidden numbers. Each seed makes other rows
and another VAE. A seed has trained if its held-out ELBO is finite and not below that of the constant model.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from rich.console import Console
from torch import Tensor

import geodesic
from geodesic.data import Dataset, Split
from geodesic.likelihoods import Gaussian, Likelihood, NegativeBinomial, Poisson
from geodesic.models import Training
from scripts.benchmarks.options import make_parser, positive
from scripts.benchmarks.records import versions_line
from scripts.benchmarks.tables import rows_table

ROWS, COLUMNS, HIDDEN = 400, 50, 2
EFFECT = 0.3  # of a hidden number on a log rate, or of the scale on a mean


class Case(NamedTuple):
    """Rows of one sort, and the likelihood that they are trained with."""

    likelihood: Likelihood
    rows: Callable[[Tensor], Tensor]


def poisson(mean: float, noise: float = 0.0) -> Callable[[Tensor], Tensor]:
    """Counts of Poisson or, with noise 1 / r, negative binomial distributions about so many."""

    def rows(effects: Tensor) -> Tensor:
        gamma = torch.ones_like(effects)
        if noise:
            gamma = torch._standard_gamma(torch.full_like(effects, 1 / noise)) * noise
        return torch.poisson(mean * effects.exp() * gamma)

    return rows


def gaussian(scale: float | Tensor) -> Callable[[Tensor], Tensor]:
    """Numbers of a scale about ten times as large a mean, half of it noise."""
    return lambda effects: scale * (10 + effects / EFFECT + torch.randn_like(effects) / 2)


CASES = {
    **{f"Poisson, mean {mean:,}": Case(Poisson(), poisson(mean)) for mean in (1, 30, 100, 5000)},
    **{
        f"negative binomial, mean {mean:,}, r = 5": Case(NegativeBinomial(), poisson(mean, 0.2))
        for mean in (1, 30, 100, 5000)
    },
    **{f"Gaussian, sd {scale:g}": Case(Gaussian(), gaussian(scale)) for scale in (0.01, 1, 100)},
    "Gaussian, columns of sd 0.01 to 100": Case(Gaussian(), gaussian(torch.logspace(-2, 2, COLUMNS))),
}


def dataset(case: Case, seed: int) -> Dataset:
    """Rows of a case: four in five to train on."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        effects = EFFECT * torch.randn(ROWS, HIDDEN) @ torch.randn(HIDDEN, COLUMNS)
        rows = case.rows(effects)
    held_out = ROWS // 5
    return Dataset(Split(rows[held_out:].float()), Split(rows[:held_out].float()))


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, object]]:
    """Train, print the table and return its rows."""
    parser = make_parser("counts", __doc__)
    parser.add_argument("--seeds", type=positive, default=20, help="of each case")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="which of them")
    parser.add_argument("--epochs", type=positive, default=Training().epochs, help="of each training")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    console = Console()
    console.print(versions_line(1), highlight=False)
    table = {}
    for name in options.cases:
        found = [train(CASES[name], seed, options.epochs) for seed in range(options.seeds)]
        elbo, constant = (torch.tensor(column, dtype=torch.float64) for column in zip(*found, strict=True))
        trained = elbo.isfinite() & (elbo >= constant)
        table[name] = {
            "trained": f"{int(trained.sum())} of {options.seeds}",
            "ELBO, median": elbo.median().item(),
            "lowest": elbo.min().item(),
            "constant model, median": constant.median().item(),
            "smallest gain": (elbo - constant).min().item(),
        }
    console.print(rows_table("counts: nats a row, held out", "data", table))
    return table


def train(case: Case, seed: int, epochs: int) -> tuple[float, float]:
    """The held-out ELBO and that of the constant model, in nats a row; -inf where training broke off."""
    data = dataset(case, seed)
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        vae = geodesic.VAE(data.event_shape, likelihood=case.likelihood)
        plan = Training(epochs=epochs, seed=seed, device="cpu", importance_samples=0)
        try:
            result = geodesic.train_vae(vae, data, plan, folder=folder, progress=False)
        except geodesic.errors.TrainingDiverged:
            return -math.inf, vae.constant_elbo(data.train.values, data.test.values).mean().item()
    return result.test_elbo, result.constant_elbo
