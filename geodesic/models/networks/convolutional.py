"""Residual convolutional networks for images of any size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from geodesic.errors import InputError
from geodesic.models.networks.mlp import MLP
from geodesic.models.networks.network import (
    NETWORKS,
    Activation,
    Network,
    make_activation,
    require_latent_points,
    require_rows,
    require_sizes,
)
from geodesic.registry import setting

__all__ = ["ConvDecoder", "ConvEncoder", "ConvNetwork", "ResidualBlock"]


@NETWORKS.register("conv")
@dataclass(frozen=True)
class ConvNetwork(Network):
    """Residual convolutional networks, for images (C, H, W) of any size.

    Args:
        channels: Channels of the stages of the encoder, from the image to the latent point, each of which halves the
            image; those of the decoder are the same backwards.
        activation: Between the layers: "elu", "gelu", "relu", "silu", "softplus" or "tanh".

    Raises:
        InputError: There is no stage, a number is no positive integer, or there is no such activation.

    Example:
        >>> import torch, geodesic
        >>> geodesic.models.ConvNetwork(channels=(4,)).decoder(2, (1, 9, 8))(torch.zeros(5, 2)).shape
        torch.Size([5, 1, 9, 8])
    """

    channels: tuple[int, ...] = field(
        default=(32, 64), metadata=setting("channels of the stages, each of which halves the image", min_length=1)
    )
    activation: Activation = field(default="elu", metadata=setting("between the layers"))

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        _require_channels(self.channels)
        make_activation(self.activation)

    def encoder(self, event_shape: tuple[int, ...], latent_size: int) -> ConvEncoder:
        """Images, (N, C, H, W), to mean and log scale, (N, d) each."""
        if len(event_shape) != 3:
            raise InputError(
                f"network: 'conv' needs images, rows of shape (C, H, W), got rows of shape {tuple(event_shape)}; "
                "use the network mlp, or rows that are images"
            )
        return ConvEncoder(event_shape, latent_size, self.channels, self.activation)

    def decoder(self, latent_size: int, shape: tuple[int, ...]) -> ConvDecoder:
        """Latent points, (N, d), to numbers, (N, *shape)."""
        return ConvDecoder(latent_size, shape, self.channels[::-1], self.activation)


class ResidualBlock(nn.Module):
    """Two convolutions beside the identity; the size of the image and the number of channels stay.

        f(x) = x + W_2 a(W_1 a(x) + b_1) + b_2

    W_2 and b_2 start at zero, so that f starts as the identity, however many blocks follow each other. There
    is no normalization: over a batch it would make the rows of a decoder depend on each other, and over
    groups of channels its backward pass has no forward-mode rules.

    Args:
        channels: Number of channels.
        activation: A key of `ACTIVATIONS`.

    Example:
        >>> import torch
        >>> from geodesic.models.networks.convolutional import ResidualBlock
        >>> x = torch.rand(2, 4, 7, 7)
        >>> torch.equal(ResidualBlock(4)(x), x)
        True
    """

    def __init__(self, channels: int, activation: str = "elu") -> None:
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.branch = nn.Sequential(
            make_activation(activation), nn.Conv2d(channels, channels, 3, padding=1), make_activation(activation), last
        )

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """f(x) at images x."""
        y: Tensor = x + self.branch(x)
        return y


class ConvEncoder(nn.Module):
    """From images to the mean and log scale of a Gaussian over latent points.

        q(z | x) = N(z; m(x), diag(exp(2 s(x))))

    Each stage halves the sides of the image, rounded up, by a convolution and goes on with a `ResidualBlock`;
    a side of 1 or 2 stays. An MLP with one hidden layer ends the network.

    Args:
        event_shape: Shape of one image, (C, H, W), of any size.
        latent_size: Number of latent coordinates, d.
        channels: Number of channels of each stage, from the image to the latent point.
        activation: A key of `ACTIVATIONS`.
        hidden_size: Length of the hidden layer of the MLP.

    Raises:
        InputError: A size or the activation is refused; when called, rows have another shape.

    Example:
        >>> import torch
        >>> from geodesic.models.networks.convolutional import ConvEncoder
        >>> mean, log_scale = ConvEncoder((3, 9, 16), 2, (4, 8))(torch.zeros(5, 3, 9, 16))
        >>> mean.shape, log_scale.shape
        (torch.Size([5, 2]), torch.Size([5, 2]))
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_size: int,
        channels: Sequence[int] = (32, 64),
        activation: str = "elu",
        hidden_size: int = 256,
    ) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.latent_size = latent_size
        require_sizes("event_shape", self.event_shape)
        _require_channels(channels)
        if len(self.event_shape) != 3:
            raise InputError(
                f"event_shape: expected that of an image, (C, H, W), got {self.event_shape}; "
                "use MLPEncoder for other rows"
            )
        C, *side = self.event_shape
        sizes = _stage_sizes(side, len(channels))
        layers: list[nn.Module] = []
        for (before, after), (large, small) in zip(
            itertools.pairwise((C, *channels)), itertools.pairwise(sizes), strict=True
        ):
            layers += [
                nn.Conv2d(before, after, 3, stride=_strides(large, small), padding=1),
                ResidualBlock(after, activation),
                make_activation(activation),
            ]
        self.stages = nn.Sequential(*layers, nn.Flatten())
        self.mlp = MLP(channels[-1] * math.prod(sizes[-1]), (hidden_size,), 2 * latent_size, activation)

    def forward(self, x: Tensor) -> tuple[Float[Tensor, "N d"], Float[Tensor, "N d"]]:
        """Mean and log scale, each (N, d), of images x, (N, C, H, W)."""
        require_rows(x, self.event_shape)
        mean, log_scale = self.mlp(self.stages(x)).chunk(2, dim=1)
        return mean, log_scale


class ConvDecoder(nn.Module):
    """From latent points to the parameters of the likelihood, one or several for each pixel.

    The mirror image of `ConvEncoder`: an MLP with one hidden layer, then for each stage a `ResidualBlock` and
    a transposed convolution to the size that the encoder had there. Its kernels, 4 wide at a stride of 2,
    reach every inner pixel equally often, so that no checkerboard shows.

    Args:
        latent_size: Number of latent coordinates, d.
        output_shape: Shape of the parameters of one image: (C, H, W), or (K, C, H, W) for K parameters a value.
        channels: Number of channels of each stage, from the latent point to the image: the encoder's backwards.
        activation: A key of `ACTIVATIONS`.
        hidden_size: Length of the hidden layer of the MLP.

    Raises:
        InputError: A size or the activation is refused; when called, latent points have another size.

    Example:
        >>> import torch
        >>> from geodesic.models.networks.convolutional import ConvDecoder
        >>> ConvDecoder(2, (2, 3, 9, 16), (8, 4))(torch.zeros(5, 2)).shape
        torch.Size([5, 2, 3, 9, 16])
    """

    def __init__(
        self,
        latent_size: int,
        output_shape: Sequence[int],
        channels: Sequence[int] = (64, 32),
        activation: str = "elu",
        hidden_size: int = 256,
    ) -> None:
        super().__init__()
        self.output_shape = tuple(output_shape)
        self.latent_size = latent_size
        require_sizes("output_shape", self.output_shape)
        _require_channels(channels)
        if len(self.output_shape) < 3:
            raise InputError(
                "output_shape: expected that of an image, (C, H, W), or of K parameters a value, (K, C, H, W), "
                f"got {self.output_shape}; use MLPDecoder for other rows"
            )
        *leading, height, width = self.output_shape
        sizes = _stage_sizes((height, width), len(channels))[::-1]
        self.mlp = MLP(latent_size, (hidden_size,), channels[0] * math.prod(sizes[0]), activation)
        layers: list[nn.Module] = [nn.Unflatten(1, (channels[0], *sizes[0]))]
        for (before, after), (small, large) in zip(
            itertools.pairwise((*channels, math.prod(leading))), itertools.pairwise(sizes), strict=True
        ):
            layers += [
                ResidualBlock(before, activation),
                make_activation(activation),
                _Enlarge(before, after, small, large),
            ]
        self.stages = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Float[Tensor, "N *output"]:
        """Parameters, (N, *output_shape), at latent points z, (N, d)."""
        require_latent_points(z, self.latent_size)
        parameters: Tensor = self.stages(self.mlp(z)).unflatten(1, self.output_shape[:-2])
        return parameters


class _Enlarge(nn.Module):
    """A transposed convolution from images of one size to images of another, at most twice as large."""

    def __init__(self, before: int, after: int, small: Sequence[int], large: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(large)
        strides = _strides(large, small)
        height, width = (2 + stride for stride in strides)
        self.convolution = nn.ConvTranspose2d(before, after, (height, width), stride=strides, padding=1)

    def forward(self, x: Float[Tensor, "N C h w"]) -> Float[Tensor, "N K H W"]:
        height, width = self.size
        y: Tensor = self.convolution(x)
        return y[..., :height, :width]  # one row or column too many where the size is odd


def _stage_sizes(size: Sequence[int], stages: int) -> list[tuple[int, ...]]:
    """Sizes of the image before the first stage and after each: halves, rounded up, down to 2."""
    sizes = [tuple(size)]
    for _ in range(stages):
        sizes.append(tuple(math.ceil(n / 2) if n > 2 else n for n in sizes[-1]))
    return sizes


def _strides(large: Sequence[int], small: Sequence[int]) -> tuple[int, int]:
    height, width = (1 if n == m else 2 for n, m in zip(large, small, strict=True))
    return height, width


def _require_channels(channels: Sequence[int]) -> None:
    require_sizes("channels", channels)
    if not channels:
        raise InputError("channels: expected a number of channels for at least one stage, got none")
