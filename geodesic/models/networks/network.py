"""What every kind of network has in common: an encoder and a decoder that mirrors it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from geodesic.checks import is_integer
from geodesic.errors import InputError
from geodesic.models.networks.exponentials import ELU, Softplus
from geodesic.registry import Registry

__all__ = [
    "ACTIVATIONS",
    "NETWORKS",
    "Activation",
    "Network",
    "make_activation",
    "require_latent_points",
    "require_rows",
    "require_sizes",
]

Activation = Literal["elu", "gelu", "relu", "silu", "softplus", "tanh"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": ELU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "softplus": Softplus,
    "tanh": nn.Tanh,
}
"""Activations by name. Geodesics need two derivatives: "relu" has only one almost everywhere, the others are smooth or
nearly so."""


class Network(ABC):
    """How encoders and decoders are built.

    A new kind is one subclass: a frozen dataclass with these two methods, registered in `NETWORKS`.
    """

    @abstractmethod
    def encoder(self, event_shape: tuple[int, ...], latent_size: int) -> nn.Module:
        """A module from rows, (N, *event), to the mean and the log scale of a Gaussian, (N, d) each.

        Args:
            event_shape: Shape of one row.
            latent_size: Number of latent coordinates, d.

        Raises:
            InputError: The network does not take rows of this shape.
        """

    @abstractmethod
    def decoder(self, latent_size: int, shape: tuple[int, ...]) -> nn.Module:
        """A module from latent points, (N, d), to numbers, (N, *shape).

        Args:
            latent_size: Number of latent coordinates, d.
            shape: Shape of what one latent point becomes: (*event), or (K, *event) for K parameters an entry.
        """


NETWORKS: Registry[Network] = Registry("network")
"""Kinds of networks by name: what settings and saved models look up."""


def make_activation(name: str) -> nn.Module:
    """The activation of that name.

    Raises:
        InputError: There is none.
    """
    if name not in ACTIVATIONS:
        raise InputError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]()


def require_sizes(name: str, sizes: Sequence[int]) -> None:
    """Refuse sizes that are no positive integers."""
    if not all(is_integer(size) and size > 0 for size in sizes):
        raise InputError(f"{name}: expected positive integers, got {tuple(sizes)}")


def require_rows(x: Tensor, event_shape: tuple[int, ...]) -> None:
    """Refuse what is not (N, *event)."""
    if x.ndim < 1 or x.shape[1:] != event_shape:
        raise InputError(
            f"x: expected rows of shape {event_shape}, that is (N, "
            f"{', '.join(map(str, event_shape))}), got {tuple(x.shape)}"
        )


def require_latent_points(z: Tensor, latent_size: int) -> None:
    """Refuse what is not (N, d)."""
    if z.ndim != 2 or z.shape[1] != latent_size:
        raise InputError(f"z: expected latent points (N, {latent_size}), got {tuple(z.shape)}")
