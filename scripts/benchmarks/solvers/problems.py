"""The decoders, and the pairs between which paths are sought."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

import geodesic
from geodesic.experiment.run import open_run
from scripts.benchmarks.vaes import CONFIG, trained

ACTIVATIONS = ("elu", "relu", "softplus")
_CONV_EPOCHS = 8  # of a convolutional VAE, minutes on one core
STRETCHES = (1.0, 3.0)  # of the first weights of the second work


@dataclass(frozen=True)
class Problem:
    """A decoder with pairs of latent points.

    Args:
        name: In tables and files.
        manifold: Where we solve.
        network: The same as one module, z to x(z), (N, d) to (N, D): all that a peer needs.
        start: First endpoints, (P, d).
        end: Last endpoints, (P, d).
        encodings: Latent points where the data are, (N, d).
        segments: T.
    """

    name: str
    manifold: geodesic.PullbackManifold
    network: nn.Module
    start: Tensor
    end: Tensor
    encodings: Tensor
    segments: int

    def only(self, pairs: slice) -> Problem:
        """The same decoder with some of the pairs."""
        return replace(self, start=self.start[pairs], end=self.end[pairs])

    def straight(self) -> Tensor:
        """Straight lines between the pairs, (P, T + 1, d)."""
        return geodesic.straight_path(self.start, self.end, self.segments)


class Means(nn.Module):
    """A decoder of logits followed by the sigmoid: what `Euclidean(mean=torch.sigmoid)` makes of it, as a module."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder(z)).flatten(1)


def decoder_problem(name: str, runs: Path, pairs: int, segments: int, seed: int = 0) -> Problem:
    """Random pairs of encodings on the decoder of that name: ACTIVATION-D of MNIST, or tiny-D with random weights.

    Args:
        name: Such as `elu-2`.
        runs: Parent of the run folders; a VAE that is not there is trained into `runs/bench-NAME`.
        pairs: How many.
        segments: T.
        seed: Of the choice of pairs.

    Returns:
        The problem, in float64.
    """
    kind, _, size = name.partition("-")
    decoder, encodings = tiny(int(size)) if kind == "tiny" else mnist_vae(kind, int(size), runs)
    manifold = geodesic.PullbackManifold(decoder, geodesic.outputs.Euclidean(mean=torch.sigmoid))
    # One permutation after the other, so that any number of pairs can be had and no point meets itself.
    generator = torch.Generator().manual_seed(seed)
    count = len(encodings) // 2
    rounds = [torch.randperm(len(encodings), generator=generator) for _ in range(-(-pairs // count))]
    first = torch.cat([rows[:count] for rows in rounds])[:pairs]
    last = torch.cat([rows[count : 2 * count] for rows in rounds])[:pairs]
    return Problem(name, manifold, Means(decoder), encodings[first], encodings[last], encodings, segments)


def mnist_vae(name: str, latent_size: int, runs: Path, config: Path = CONFIG) -> tuple[nn.Module, Tensor]:
    """The decoder of a trained VAE of MNIST, and the means of its encoder at the held-out images, in float64.

    Args:
        name: Of its run, `bench-NAME-D`; the activation, where its network is an MLP.
        latent_size: d.
        runs: Parent of the run folders; a VAE that is not there is trained.
        config: Its settings but for these.
    """
    overrides = [f"name=bench-{name}-{latent_size}", f"model.latent_size={latent_size}", "device=cpu"]
    if name == "conv":
        overrides.append(f"training.epochs={_CONV_EPOCHS}")
    if name in ACTIVATIONS:
        overrides.append(f"model.network.activation={name}")
    settings, folder = trained(config, overrides, runs)
    vae = geodesic.VAE.load(folder).double().eval().requires_grad_(False)
    with open_run(settings, folder) as run:
        return vae.decoder, run.test_encodings


def tiny(latent_size: int) -> tuple[nn.Module, Tensor]:
    """A decoder with random weights, d-16-12, curved enough to have work to do: what the tests use."""
    generator = torch.Generator().manual_seed(0)
    decoder = nn.Sequential(nn.Linear(latent_size, 16), nn.Tanh(), nn.Linear(16, 12)).double()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    encodings = torch.randn(64, latent_size, generator=generator, dtype=torch.float64)
    return decoder.requires_grad_(False), encodings


def second_problem(stretch: float, pairs: int) -> Problem:
    """The second work, whose figures at other programs are known: an untrained decoder 8-64-784, T = 20.

    Args:
        stretch: Factor of the first weights.
        pairs: How many of its 64 pairs.

    Returns:
        The problem, in float64.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        options = {"dtype": torch.float32}
        network = nn.Sequential(nn.Linear(8, 64, **options), nn.Tanh(), nn.Linear(64, 784, **options))
        torch.manual_seed(1)
        a, b = torch.randn(2, 64, 8, dtype=torch.float64)
    with torch.no_grad():
        network[0].weight *= stretch
    network = network.double().eval().requires_grad_(False)
    manifold, points = geodesic.PullbackManifold(network), torch.cat([a, b])
    return Problem(f"second x {stretch:g}", manifold, network, a[:pairs], b[:pairs], points, 20)
