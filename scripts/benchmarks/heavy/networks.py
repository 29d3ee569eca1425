"""Decoders of the kinds that people hold: convolutions, attention, latent images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geodesic.models.networks.network import Network

SIDE = 64  # of the pictures
NOISE = 256  # points of the one pass from which batch normalization takes its statistics


@dataclass(frozen=True)
class BatchNormConv(Network):
    """Convolutions that halve the picture, batch normalization, LeakyReLU; the decoder is the mirror image.

    Args:
        channels: Of the stages of the encoder, from the picture to the latent point.
    """

    channels: tuple[int, ...] = (16, 32, 64, 128)

    def encoder(self, event_shape: tuple[int, ...], latent_size: int) -> nn.Module:
        """Pictures, (N, C, H, W) with sides that can be halved in every stage, to mean and log scale, (N, d) each."""
        return _Encoder(event_shape, latent_size, self.channels)

    def decoder(self, latent_size: int, shape: tuple[int, ...]) -> nn.Module:
        """Latent points, (N, d), to logits, (N, C, H, W)."""
        channels = self.channels[::-1]
        side = shape[-1] // 2 ** len(channels)
        layers: list[nn.Module] = [
            nn.Linear(latent_size, channels[0] * side * side),
            nn.Unflatten(1, (channels[0], side, side)),
        ]
        for before, after in itertools.pairwise(channels):
            layers += [_Doubled(before, after), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers, _Doubled(channels[-1], shape[0]))


class _Encoder(nn.Module):
    def __init__(self, event_shape: tuple[int, ...], latent_size: int, channels: Sequence[int]) -> None:
        super().__init__()
        side, layers = event_shape[-1] // 2 ** len(channels), []
        for before, after in itertools.pairwise((event_shape[0], *channels)):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * side * side, 2 * latent_size))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = self.layers(x).chunk(2, dim=1)
        return mean, log_scale


class _Doubled(nn.ConvTranspose2d):
    """A transposed convolution that doubles the sides."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 4, 2, 1)


def dcgan(latent_size: int = 100, width: int = 16) -> nn.Module:
    """The generator of DCGAN, untrained: (N, d) to pictures, (N, 3, 64, 64), batch normalization and ReLU.

    Reference:
        A. Radford, L. Metz, S. Chintala, Unsupervised Representation Learning with Deep Convolutional Generative
        Adversarial Networks, 2016. Its first weights; a quarter of its usual channels.

    Args:
        latent_size: d.
        width: Channels of the last hidden layer.
    """
    channels = [8 * width, 4 * width, 2 * width, width]
    layers: list[nn.Module] = [nn.Unflatten(1, (latent_size, 1, 1)), nn.ConvTranspose2d(latent_size, channels[0], 4)]
    for before, after in itertools.pairwise(channels):
        layers += [nn.BatchNorm2d(before), nn.ReLU(), _Doubled(before, after)]
    generator = nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU(), _Doubled(width, 3), nn.Tanh())
    with torch.no_grad():
        for layer in generator:
            if isinstance(layer, nn.ConvTranspose2d):
                layer.weight.normal_(0.0, 0.02)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.weight.normal_(1.0, 0.02)
    take_statistics(generator, torch.randn(NOISE, latent_size))
    return generator


def take_statistics(network: nn.Module, points: Tensor) -> None:
    """Let batch normalization take its statistics from one pass over these points, and leave evaluation mode on."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # the mean over passes, of which there is one
    with torch.no_grad():
        network.train()(points)
    network.eval()


class TokenDecoder(nn.Module):
    """A transformer with random weights: latent points of 8 tokens of 16 numbers to 8 patches of 96 values.

    Attention is written out: what torch fuses on a CPU is no operation that counters know.

    Args:
        tokens: How many.
        size: Numbers of a token.
        width: Of the hidden layers.
        blocks: Attention and two affine layers, each.
        patch: Values of a patch.
    """

    def __init__(self, tokens: int = 8, size: int = 16, width: int = 64, blocks: int = 2, patch: int = 96) -> None:
        super().__init__()
        self.shape = (tokens, size)
        self.first, self.place = nn.Linear(size, width), nn.Parameter(torch.randn(tokens, width) / 2)
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(blocks)))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, patch))

    def forward(self, z: Tensor) -> Tensor:
        """Patches, (N, tokens, patch), at latent points z, (N, tokens * size)."""
        x: Tensor = self.last(self.blocks(self.first(z.unflatten(1, self.shape)) + self.place))
        return x


class _Block(nn.Module):
    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.attended, self.mixed = nn.LayerNorm(width), nn.Linear(width, width)
        self.inner = nn.Linear(width, 3 * width)
        self.affine = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = self.inner(self.attended(x)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        share = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        x = x + self.mixed((share @ v).transpose(1, 2).flatten(2))
        y: Tensor = x + self.affine(x)
        return y


def latent_images(channels: int = 4, side: int = 16, width: int = 8) -> nn.Module:
    """A residual generator with random weights: (N, channels * side * side) to pictures, (N, 3, 4 * side, 4 * side).

    Group normalization and SiLU, as in the decoders of latent diffusion models.
    """
    layers: list[nn.Module] = [nn.Unflatten(1, (channels, side, side)), nn.Conv2d(channels, width, 3, padding=1)]
    for _ in range(2):
        layers += [_Residual(width), nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1)]
    layers += [nn.GroupNorm(4, width), nn.SiLU(), nn.Conv2d(width, 3, 3, padding=1), nn.Sigmoid()]
    return nn.Sequential(*layers)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        halves = ((nn.GroupNorm(4, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)) for _ in range(2))
        self.branch = nn.Sequential(*itertools.chain(*halves))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.branch(x)
        return y
