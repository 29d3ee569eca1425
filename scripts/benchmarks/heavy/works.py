"""The works: decoders with pairs of latent points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import geodesic
from scripts.benchmarks.heavy.networks import TokenDecoder, dcgan, latent_images
from scripts.benchmarks.heavy.shapes import trained_on_shapes
from scripts.benchmarks.solvers.problems import Means, Problem, mnist_vae
from scripts.benchmarks.vaes import CONFIG, random_pairs

POINTS = 512  # latent points of untrained decoders
SEED = 0  # of pairs


@dataclass(frozen=True)
class Work:
    """A decoder of means, and where pairs come from.

    Args:
        make: Takes the folder of runs, and returns the decoder, (N, d) to (N, ...), and latent points, (N, d).
        segments: T.
    """

    make: Callable[[Path], tuple[nn.Module, Tensor]]
    segments: int


def _mnist(name: str, latent_size: int) -> Callable[[Path], tuple[nn.Module, Tensor]]:
    config = CONFIG.with_name("mnist-conv.yaml") if name == "conv" else CONFIG

    def made(runs: Path) -> tuple[nn.Module, Tensor]:
        decoder, encodings = mnist_vae(name, latent_size, runs, config)
        return Means(decoder), encodings

    return made


def _untrained(make: Callable[[], nn.Module], latent_size: int) -> Callable[[Path], tuple[nn.Module, Tensor]]:
    def made(_: Path) -> tuple[nn.Module, Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            return make(), torch.randn(POINTS, latent_size)

    return made


WORKS = {
    "mnist-conv-2": Work(_mnist("conv", 2), 32),
    "mnist-conv-16": Work(_mnist("conv", 16), 32),
    "conv-bn-32": Work(trained_on_shapes, 16),
    "dcgan-100": Work(_untrained(dcgan, 100), 16),
    "transformer-128": Work(_untrained(TokenDecoder, 128), 32),
    "mlp-64": Work(_mnist("elu", 64), 32),
    "mlp-256": Work(_mnist("elu", 256), 32),
    "latent-1024": Work(_untrained(latent_images, 1024), 16),
    "tiny-40": Work(_untrained(lambda: nn.Sequential(nn.Linear(40, 48), nn.Tanh(), nn.Linear(48, 64)), 40), 8),
}
"""All works by name; the last is small enough for tests, and no part of the default."""


def work_problem(name: str, runs: Path, pairs: int, segments: int | None, dtype: torch.dtype) -> Problem:
    """A work with its first pairs, and with its own number of segments or another."""
    work = WORKS[name]
    network, points = work.make(runs)
    start, end = random_pairs(pairs, points.to(dtype), SEED)
    return problem_of(name, network.to(dtype).eval().requires_grad_(False), (start, end), segments or work.segments)


def problem_of(name: str, network: nn.Module, ends: tuple[Tensor, Tensor], segments: int) -> Problem:
    """A decoder of means with pairs: Euclidean distances of what it returns."""
    return Problem(name, geodesic.PullbackManifold(network), network, *ends, torch.cat(ends), segments)
