"""Encoders and decoders: from rows to a latent Gaussian, and from latent points to parameters.

A Gaussian's parameters are means and log scales, (N, 2, *event). What a network has too few of, or too freely,
comes from a last layer: `FixedScale`, `LearnedScale` or `BoundedScale`.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from geodesic.errors import InputError
from geodesic.experiment.settings import GaussianSettings, VAESettings

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "BoundedScale",
    "ConvDecoder",
    "ConvEncoder",
    "FixedScale",
    "LearnedScale",
    "MLPDecoder",
    "MLPEncoder",
    "ResidualBlock",
    "make_decoder",
    "make_encoder",
]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


class MLP(nn.Sequential):
    """Affine layers with an activation between them.

        f(x) = W_L a(... a(W_1 x + b_1) ...) + b_L

    Args:
        in_size: Length of an input row.
        hidden_sizes: Lengths of the hidden layers, first to last; none makes f affine.
        out_size: Length of an output row.
        activation: A key of `ACTIVATIONS`. Geodesics need two derivatives: "relu" has only one almost
            everywhere, the others are smooth or nearly so.

    Raises:
        InputError: A size is not a positive integer, or the activation is unknown.

    Example:
        >>> import torch
        >>> from geodesic.models.networks import MLP
        >>> MLP(2, (16,), 5, "elu")(torch.zeros(3, 2)).shape
        torch.Size([3, 5])
    """

    def __init__(self, in_size: int, hidden_sizes: Sequence[int], out_size: int, activation: str = "elu") -> None:
        sizes = (in_size, *hidden_sizes, out_size)
        _require_sizes("layer sizes", sizes)
        layers: list[nn.Module] = []
        for rows, columns in itertools.pairwise(sizes):
            layers += [nn.Linear(rows, columns), _activation(activation)]
        super().__init__(*layers[:-1])


class MLPEncoder(nn.Module):
    """From rows to the mean and log scale of a Gaussian over latent points.

        q(z | x) = N(z; m(x), diag(exp(2 s(x))))

    Args:
        event_shape: Shape of one row.
        latent_size: Number of latent coordinates, d.
        hidden_sizes: Lengths of the hidden layers, from the row to the latent point.
        activation: A key of `ACTIVATIONS`.

    Raises:
        InputError: A size or the activation is refused; when called, rows have another shape.

    Example:
        >>> import torch
        >>> from geodesic.models.networks import MLPEncoder
        >>> mean, log_scale = MLPEncoder((1, 8, 8), 2, (16,))(torch.zeros(3, 1, 8, 8))
        >>> mean.shape, log_scale.shape
        (torch.Size([3, 2]), torch.Size([3, 2]))
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_size: int,
        hidden_sizes: Sequence[int] = (256, 256),
        activation: str = "elu",
    ) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.latent_size = latent_size
        self.mlp = MLP(math.prod(self.event_shape), hidden_sizes, 2 * latent_size, activation)

    def forward(self, x: Tensor) -> tuple[Float[Tensor, "N d"], Float[Tensor, "N d"]]:
        """Mean and log scale, each (N, d), of rows x, (N, *event)."""
        _require_rows(x, self.event_shape)
        mean, log_scale = self.mlp(x.flatten(1)).chunk(2, dim=1)
        return mean, log_scale


class MLPDecoder(nn.Module):
    """From latent points to the parameters of the likelihood.

    Args:
        latent_size: Number of latent coordinates, d.
        event_shape: Shape of what one latent point becomes: of a row, or of a row's parameters.
        hidden_sizes: Lengths of the hidden layers, from the latent point to the row.
        activation: A key of `ACTIVATIONS`.

    Raises:
        InputError: A size or the activation is refused; when called, latent points have another size.

    Example:
        >>> import torch
        >>> from geodesic.models.networks import MLPDecoder
        >>> MLPDecoder(2, (1, 8, 8), (16,))(torch.zeros(3, 2)).shape
        torch.Size([3, 1, 8, 8])
    """

    def __init__(
        self,
        latent_size: int,
        event_shape: Sequence[int],
        hidden_sizes: Sequence[int] = (256, 256),
        activation: str = "elu",
    ) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.latent_size = latent_size
        self.mlp = MLP(latent_size, hidden_sizes, math.prod(self.event_shape), activation)

    def forward(self, z: Tensor) -> Float[Tensor, "N *event"]:
        """Parameters, (N, *event), at latent points z, (N, d)."""
        _require_latent_points(z, self.latent_size)
        parameters: Tensor = self.mlp(z).unflatten(1, self.event_shape)
        return parameters


class FixedScale(nn.Module):
    """Means, (N, *event), with a given scale beside them: parameters of a Gaussian, (N, 2, *event).

    Args:
        scale: Standard deviation of every entry, positive.

    Raises:
        InputError: The scale is not positive and finite.

    Example:
        >>> import torch
        >>> from geodesic.models.networks import FixedScale
        >>> FixedScale(0.1)(torch.zeros(3, 1, 8, 8))[:, 1].exp().unique()
        tensor([0.1000])
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.log_scale = _log_of_scale("scale", scale)

    def forward(self, mean: Tensor) -> Float[Tensor, "N 2 *event"]:
        """Means and log scales."""
        return torch.stack([mean, torch.full_like(mean, self.log_scale)], dim=1)


class LearnedScale(nn.Module):
    """Means, (N, *event), with one scale beside them that is learned: parameters of a Gaussian, (N, 2, *event).

        sigma = min_scale + exp(u)

    u is a weight that begins at 0.

    Reference:
        O. Rybkin, K. Daniilidis, S. Levine, Simple and Effective VAE Training with Calibrated Decoders, 2021.

    Args:
        min_scale: Lower bound of the scale, positive.

    Raises:
        InputError: The bound is not positive and finite.

    Example:
        >>> import torch
        >>> from geodesic.models.networks import LearnedScale
        >>> LearnedScale(min_scale=0.5)(torch.zeros(3, 1, 8, 8))[:, 1].exp().unique()
        tensor([1.5000], grad_fn=<Unique2Backward0>)
    """

    def __init__(self, min_scale: float) -> None:
        super().__init__()
        self.log_min_scale = _log_of_scale("min_scale", min_scale)
        self.free_log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, mean: Tensor) -> Float[Tensor, "N 2 *event"]:
        """Means and log scales."""
        log_scale = _bounded(self.free_log_scale, self.log_min_scale)
        return torch.stack([mean, log_scale.expand_as(mean)], dim=1)


class BoundedScale(nn.Module):
    """Means m and free numbers u, (N, 2, *event), to means and log scales that are bounded from below.

        sigma = min_scale + exp(u)

    Without a bound the likelihood has none: where a pixel never varies, as at the border of MNIST, its scale
    would go to 0 and its density to infinity.

    Args:
        min_scale: Lower bound of the scales, positive.

    Raises:
        InputError: The bound is not positive and finite; when called, there are not two numbers for each entry.

    Example:
        >>> import torch
        >>> from geodesic.models.networks import BoundedScale
        >>> BoundedScale(min_scale=0.01)(torch.full((1, 2, 1), -1.0e4)).exp()
        tensor([[[0.0000],
                 [0.0100]]])
    """

    def __init__(self, min_scale: float) -> None:
        super().__init__()
        self.log_min_scale = _log_of_scale("min_scale", min_scale)

    def forward(self, parameters: Tensor) -> Float[Tensor, "N 2 *event"]:
        """Means and log scales."""
        if parameters.ndim < 2 or parameters.shape[1] != 2:
            raise InputError(f"parameters: expected (N, 2, *event), got {tuple(parameters.shape)}")
        mean, free = parameters.unbind(1)
        return torch.stack([mean, _bounded(free, self.log_min_scale)], dim=1)


def _log_of_scale(name: str, scale: float) -> float:
    if not 0 < scale < math.inf:
        raise InputError(f"{name}: expected a positive number, got {scale!r}")
    return math.log(scale)


def _bounded(free: Tensor, log_min_scale: float) -> Tensor:
    """log(min_scale + exp(u)), which is smooth; torch's softplus is linear from its threshold on."""
    return log_min_scale + softplus(free - log_min_scale, threshold=40)


class ResidualBlock(nn.Module):
    """Two convolutions beside the identity; the size of the image and the number of channels stay.

        f(x) = x + W_2 a(W_1 a(x) + b_1) + b_2

    W_2 and b_2 start at zero, so that f starts as the identity, however many blocks follow each other. There
    is no normalisation: over a batch it would make the rows of a decoder depend on each other, and over
    groups of channels its backward pass has no forward-mode rules.

    Args:
        channels: Number of channels.
        activation: A key of `ACTIVATIONS`.

    Example:
        >>> import torch
        >>> from geodesic.models.networks import ResidualBlock
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
            _activation(activation), nn.Conv2d(channels, channels, 3, padding=1), _activation(activation), last
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
        >>> from geodesic.models.networks import ConvEncoder
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
        _require_sizes("event_shape", self.event_shape)
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
                _activation(activation),
            ]
        self.stages = nn.Sequential(*layers, nn.Flatten())
        self.mlp = MLP(channels[-1] * math.prod(sizes[-1]), (hidden_size,), 2 * latent_size, activation)

    def forward(self, x: Tensor) -> tuple[Float[Tensor, "N d"], Float[Tensor, "N d"]]:
        """Mean and log scale, each (N, d), of images x, (N, C, H, W)."""
        _require_rows(x, self.event_shape)
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
        >>> from geodesic.models.networks import ConvDecoder
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
        _require_sizes("output_shape", self.output_shape)
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
                _activation(activation),
                _Enlarge(before, after, small, large),
            ]
        self.stages = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Float[Tensor, "N *output"]:
        """Parameters, (N, *output_shape), at latent points z, (N, d)."""
        _require_latent_points(z, self.latent_size)
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


def make_encoder(settings: VAESettings, event_shape: Sequence[int]) -> nn.Module:
    """The encoder that the settings describe.

    Args:
        settings: The network with its sizes, the activation and the latent size.
        event_shape: Shape of one row.

    Raises:
        InputError: A convolutional network was asked for, and rows are not images.

    Example:
        >>> from geodesic.experiment.settings import VAESettings
        >>> from geodesic.models.networks import make_encoder
        >>> type(make_encoder(VAESettings(network="conv", channels=(4,)), (1, 8, 8))).__name__
        'ConvEncoder'
    """
    if settings.network == "mlp":
        return MLPEncoder(event_shape, settings.latent_size, settings.sizes, settings.activation)
    if len(event_shape) != 3:
        raise InputError(
            f"network: 'conv' needs images, rows of shape (C, H, W), got rows of shape {tuple(event_shape)}; "
            "use network: mlp, or rows that are images"
        )
    return ConvEncoder(event_shape, settings.latent_size, settings.sizes, settings.activation)


def make_decoder(settings: VAESettings, event_shape: tuple[int, ...], parameter_shape: tuple[int, ...]) -> nn.Module:
    """The decoder that the settings describe, up to all parameters of the likelihood; it mirrors the encoder.

    Args:
        settings: The network with its sizes, the activation, the latent size and the likelihood.
        event_shape: Shape of one row.
        parameter_shape: Shape of the parameters of the likelihood for one row.

    Example:
        >>> from geodesic.experiment.settings import VAESettings
        >>> from geodesic.models.networks import make_decoder
        >>> type(make_decoder(VAESettings(), (1, 8, 8), (1, 8, 8))).__name__
        'MLPDecoder'
    """

    def network(shape: tuple[int, ...]) -> nn.Module:
        kind = MLPDecoder if settings.network == "mlp" else ConvDecoder
        return kind(settings.latent_size, shape, settings.sizes[::-1], settings.activation)

    likelihood = settings.likelihood
    if not isinstance(likelihood, GaussianSettings):
        return network(parameter_shape)
    match likelihood.scale:
        case "per_pixel":
            return nn.Sequential(network(parameter_shape), BoundedScale(likelihood.min_scale))
        case "learned":
            return nn.Sequential(network(event_shape), LearnedScale(likelihood.min_scale))
        case scale:
            return nn.Sequential(network(event_shape), FixedScale(scale))


# --- sizes of images --------------------------------------------------------------------------


def _stage_sizes(size: Sequence[int], stages: int) -> list[tuple[int, ...]]:
    """Sizes of the image before the first stage and after each: halves, rounded up, down to 2."""
    sizes = [tuple(size)]
    for _ in range(stages):
        sizes.append(tuple(math.ceil(n / 2) if n > 2 else n for n in sizes[-1]))
    return sizes


def _strides(large: Sequence[int], small: Sequence[int]) -> tuple[int, int]:
    height, width = (1 if n == m else 2 for n, m in zip(large, small, strict=True))
    return height, width


# --- what is refused --------------------------------------------------------------------------


def _activation(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise InputError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]()


def _require_sizes(name: str, sizes: Sequence[int]) -> None:
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise InputError(f"{name}: expected positive integers, got {tuple(sizes)}")


def _require_channels(channels: Sequence[int]) -> None:
    _require_sizes("channels", channels)
    if not channels:
        raise InputError("channels: expected a number of channels for at least one stage, got none")


def _require_rows(x: Tensor, event_shape: tuple[int, ...]) -> None:
    if x.ndim < 1 or x.shape[1:] != event_shape:
        raise InputError(
            f"x: expected rows of shape {event_shape}, that is (N, "
            f"{', '.join(map(str, event_shape))}), got {tuple(x.shape)}"
        )


def _require_latent_points(z: Tensor, latent_size: int) -> None:
    if z.ndim != 2 or z.shape[1] != latent_size:
        raise InputError(f"z: expected latent points (N, {latent_size}), got {tuple(z.shape)}")
