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

__all__ = ["ACTIVATIONS", "MLP", "BoundedScale", "FixedScale", "LearnedScale", "MLPDecoder", "MLPEncoder"]

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
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            raise InputError(f"layer sizes: expected positive integers, got {sizes}")
        if activation not in ACTIVATIONS:
            raise InputError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        layers: list[nn.Module] = []
        for rows, columns in itertools.pairwise(sizes):
            layers += [nn.Linear(rows, columns), ACTIVATIONS[activation]()]
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
        if x.ndim < 1 or x.shape[1:] != self.event_shape:
            raise InputError(
                f"x: expected rows of shape {self.event_shape}, that is (N, "
                f"{', '.join(map(str, self.event_shape))}), got {tuple(x.shape)}"
            )
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
        if z.ndim != 2 or z.shape[1] != self.latent_size:
            raise InputError(f"z: expected latent points (N, {self.latent_size}), got {tuple(z.shape)}")
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
