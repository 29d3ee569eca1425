"""Pictures of colored shapes, and the VAE that is trained on them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

import geodesic
from geodesic.files import replacing
from scripts.benchmarks.heavy.networks import SIDE, BatchNormConv
from scripts.benchmarks.solvers.problems import Means

TRAIN, TEST = 2000, 500  # pictures
LATENT_SIZE = 32
EPOCHS, BATCH, RATE = 15, 50, 2e-3
_SOFT = 0.03  # width of an edge, in halves of a picture


def draw(count: int, seed: int) -> Tensor:
    """Discs, squares and diamonds of any color, size and place, before a ground of any color: (count, 3, 64, 64)."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator, dtype=torch.float32)

    axis = torch.linspace(-1, 1, SIDE, dtype=torch.float32)
    center, size = uniform(-0.5, 0.5, 2), uniform(0.2, 0.4)
    x, y = axis - center[:, :1], axis - center[:, 1:]
    x, y = x[:, None, :].expand(-1, SIDE, -1), y[:, :, None].expand(-1, -1, SIDE)
    kinds = torch.stack([x.hypot(y), x.abs().maximum(y.abs()), x.abs() + y.abs()])
    distance = kinds[torch.randint(3, (count,), generator=generator), torch.arange(count)]
    inside = torch.sigmoid((size[:, None, None] - distance) / _SOFT)[:, None]
    ground, color = uniform(0, 0.5, 3, 1, 1), uniform(0.3, 1, 3, 1, 1)
    return ground + inside * (color - ground)


def trained_on_shapes(runs: Path) -> tuple[nn.Module, Tensor]:
    """The decoder of means of the trained VAE, and the encodings of pictures that it has not seen, (500, 32).

    Trained for some minutes where its file is not in the folder of runs.
    """
    pictures, file = draw(TRAIN + TEST, seed=0), runs / f"bench-conv-bn-{LATENT_SIZE}" / "vae.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = geodesic.VAE((3, SIDE, SIDE), LATENT_SIZE, network=BatchNormConv()).float()
        if file.exists():
            vae.load_state_dict(torch.load(file, weights_only=True))
        else:
            _train(vae, pictures[:TRAIN])
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as temporary:
                torch.save(vae.state_dict(), temporary)
    vae.eval()
    with torch.no_grad():
        encodings = torch.cat([vae.encode(rows) for rows in pictures[TRAIN:].split(BATCH)])
    return Means(vae.decoder), encodings


def _train(vae: geodesic.VAE, pictures: Tensor) -> None:
    optimizer = torch.optim.Adam(vae.parameters(), lr=RATE)
    vae.train()
    for _ in range(EPOCHS):
        for rows in pictures[torch.randperm(len(pictures))].split(BATCH):
            optimizer.zero_grad()
            (-vae.elbo(rows).value.mean()).backward()
            optimizer.step()
