"""Multilayer perceptrons: affine layers with an activation between them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

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

__all__ = ["MLP", "MLPDecoder", "MLPEncoder", "MLPNetwork"]


@NETWORKS.register("mlp")
@dataclass(frozen=True)
class MLPNetwork(Network):
    """Multilayer perceptrons, for rows of any shape.

    Args:
        hidden_sizes: Lengths of the hidden layers of the encoder, from the row to the latent point; those of the
            decoder are the same backwards.
        activation: Between the layers: "elu", "gelu", "relu", "silu", "softplus" or "tanh".

    Raises:
        InputError: A size is no positive integer, or there is no such activation.

    Example:
        >>> import geodesic
        >>> geodesic.models.MLPNetwork(hidden_sizes=(16,)).decoder(2, (1, 8, 8)).mlp[0]
        Linear(in_features=2, out_features=16, bias=True)
    """

    hidden_sizes: tuple[int, ...] = field(
        default=(256, 256), metadata=setting("lengths of the hidden layers, from the row to the latent point")
    )
    activation: Activation = field(default="elu", metadata=setting("between the layers"))

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        require_sizes("hidden_sizes", self.hidden_sizes)
        make_activation(self.activation)

    def encoder(self, event_shape: tuple[int, ...], latent_size: int) -> MLPEncoder:
        """Rows, (N, *event), to mean and log scale, (N, d) each."""
        return MLPEncoder(event_shape, latent_size, self.hidden_sizes, self.activation)

    def decoder(self, latent_size: int, shape: tuple[int, ...]) -> MLPDecoder:
        """Latent points, (N, d), to numbers, (N, *shape)."""
        return MLPDecoder(latent_size, shape, self.hidden_sizes[::-1], self.activation)


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
        >>> from geodesic.models.networks.mlp import MLP
        >>> MLP(2, (16,), 5, "elu")(torch.zeros(3, 2)).shape
        torch.Size([3, 5])
    """

    def __init__(self, in_size: int, hidden_sizes: Sequence[int], out_size: int, activation: str = "elu") -> None:
        sizes = (in_size, *hidden_sizes, out_size)
        require_sizes("layer sizes", sizes)
        layers: list[nn.Module] = []
        for rows, columns in itertools.pairwise(sizes):
            layers += [nn.Linear(rows, columns), make_activation(activation)]
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
        >>> from geodesic.models.networks.mlp import MLPEncoder
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
        require_rows(x, self.event_shape)
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
        >>> from geodesic.models.networks.mlp import MLPDecoder
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
        require_latent_points(z, self.latent_size)
        parameters: Tensor = self.mlp(z).unflatten(1, self.event_shape)
        return parameters
