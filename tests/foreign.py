"""Models as other people have them: small ones with the signatures of well-known libraries."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Independent, NegativeBinomial, Normal, Poisson

__all__ = [
    "AutoencoderKL",
    "Conditional",
    "Convolutional",
    "ExampleVAE",
    "ModelOutput",
    "Pythae",
    "Transformer",
    "distribution_valued",
    "exported",
    "net",
    "seeded",
]


def seeded(make: Any, *arguments: Any) -> Any:
    """The same weights at each call, in float32, as models come."""
    with torch.random.fork_rng([]):
        torch.manual_seed(5)
        made = make(*arguments)
        return made.float() if isinstance(made, nn.Module) else made


def net(d: int = 2, outputs: int = 12) -> nn.Module:
    return nn.Sequential(nn.Linear(d, 8), nn.Tanh(), nn.Linear(8, outputs))


class ExampleVAE(nn.Module):
    """As the VAE of PyTorch's own examples, smaller and with a smooth activation."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(12, 8), nn.Linear(8, 2), nn.Linear(8, 2)
        self.fc3, self.fc4 = nn.Linear(2, 8), nn.Linear(8, 12)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.fc4(torch.tanh(self.fc3(z))))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encode(x)
        return self.decode(mean), mean, log_variance


class ModelOutput(OrderedDict):
    """As pythae's."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class Pythae(nn.Module):
    """A VAE of pythae: an encoder and a decoder that return a `ModelOutput`."""

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = net()

        def forward(self, z: Tensor, output_layer_levels: Any = None) -> ModelOutput:
            return ModelOutput(reconstruction=self.layers(z).sigmoid().reshape(-1, 1, 3, 4), depth=3)

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = net(12, 2), Pythae.Decoder()

    def forward(self, inputs: Any, **options: Any) -> ModelOutput:
        return self.decoder(self.encoder(inputs["data"]))


@dataclass
class DecoderOutput:
    """As that of diffusers."""

    sample: Tensor


class AutoencoderKL(nn.Module):
    """As that of diffusers: latent images to images."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = (
            nn.Conv2d(3, 2, 2, 2),
            nn.Sequential(nn.Conv2d(2, 4, 1), nn.SiLU(), nn.ConvTranspose2d(4, 3, 2, 2)),
        )

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def decode(self, z: Tensor, return_dict: bool = True) -> Any:
        sample = self.decoder(z)
        return DecoderOutput(sample) if return_dict else (sample,)


class Conditional(nn.Module):
    """A conditional VAE: labels, and a library size, beside the latent points."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = net(2 + 3)

    def decode(self, z: Tensor, y: Tensor, size: Tensor | None = None) -> Tensor:
        x = self.layers(torch.cat([z, nn.functional.one_hot(y, 3).to(z)], dim=1))
        return x if size is None else x * size[:, None]


class Convolutional(nn.Module):
    """Vectors to images by transposed convolutions, with batch normalization that has seen data."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 16)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.ConvTranspose2d(4, 1, 2, 2)
        self(torch.randn(64, 2))

    def forward(self, z: Tensor) -> Tensor:
        return self.last(self.norm(self.first(z).reshape(-1, 4, 2, 2)).sigmoid())


class Transformer(nn.Module):
    """Vectors as tokens, and an output class with the logits of six classes at each of four places."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Linear(2, 16)
        self.mix = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, activation="gelu", batch_first=True)
        self.head = nn.Linear(4, 6)

    def forward(self, z: Tensor) -> Categorical:
        return Categorical(logits=self.head(self.mix(self.tokens(z).reshape(-1, 4, 4))))


class Distributional(nn.Module):
    """A decoder that returns a distribution."""

    def __init__(self, family: str) -> None:
        super().__init__()
        self.family, self.layers, self.log_scale = family, net(), nn.Parameter(torch.linspace(-1, 1, 12))

    def forward(self, z: Tensor) -> Any:
        x = self.layers(z)
        if self.family == "Bernoulli":
            return Independent(Bernoulli(logits=x.reshape(-1, 3, 4)), 2)
        if self.family == "Bernoulli by probabilities":
            return Bernoulli(x.sigmoid())
        if self.family == "Categorical":
            return Independent(Categorical(logits=x.reshape(-1, 4, 3)), 1)
        if self.family == "Poisson":
            return Poisson(x.exp())
        if self.family == "NegativeBinomial":
            return NegativeBinomial(2.5, logits=x)
        if self.family == "Normal":
            return Normal(x, self.log_scale.exp())
        return Independent(Normal(x[:, :6], nn.functional.softplus(x[:, 6:])), 1)  # with a scale that varies


def distribution_valued(family: str) -> nn.Module:
    return seeded(Distributional, family)


def exported(rows: int | None = None) -> torch.export.ExportedProgram:
    """A program of torch, for any number of rows or for a fixed one."""
    points = torch.zeros(rows or 3, 2, dtype=torch.float32)
    shapes = ({0: torch.export.Dim("batch", min=1, max=100_000)},) if rows is None else None
    return torch.export.export(seeded(net).eval(), (points,), dynamic_shapes=shapes)
