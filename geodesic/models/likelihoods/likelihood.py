"""What every likelihood has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geodesic.errors import InputError
from geodesic.geometry.outputs import DistanceGeometry, OutputGeometry
from geodesic.registry import Registry

__all__ = ["LIKELIHOODS", "InputKind", "Likelihood", "matched", "require_second_axis"]

InputKind = Literal["log1p", "standardize", "none"]
"""What an encoder is given: logarithms of counts, columns of mean 0 and scale 1, or the rows as they are."""


class Likelihood(ABC):
    """p(x | parameters), independent over the entries of a row.

    A new likelihood is one subclass: a frozen dataclass with what is abstract here, registered in `LIKELIHOODS`. Its
    fields are its settings.
    """

    @abstractmethod
    def parameter_shape(self, event_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the parameters of one row of shape `event_shape`."""

    @abstractmethod
    def log_prob(self, parameters: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        """Log-likelihood of each row of x, in nats, summed over its entries.

        Args:
            parameters: What the decoder returns, (N, *parameter_shape).
            x: Rows that `check` accepts, (N, *event).

        Raises:
            InputError: The shapes do not belong together.
        """

    @abstractmethod
    def mean(self, parameters: Tensor) -> Float[Tensor, "N *event"]:
        """Expected rows."""

    @abstractmethod
    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "N *event"]:
        """Random rows."""

    @abstractmethod
    def check(self, values: Tensor) -> None:
        """Raise `DataError` if rows hold values that this likelihood gives no density to."""

    @abstractmethod
    def uninformative(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """Parameters of one row, (1, *parameter_shape), that tell no entry from another.

        Args:
            values: The training rows, (N, *event).

        Raises:
            DataError: There is none: the values are refused by `check`, or do not vary.
        """

    @abstractmethod
    def constant(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """Parameters of one row, (1, *parameter_shape), that are the likeliest for all rows: those of a constant model.

        One distribution for each entry, the same for all rows: what a decoder can say that knows nothing of z.
        Frequencies of values are taken with half a row more of each outcome than was seen, so that nothing is
        impossible.

        Args:
            values: The training rows, (N, *event), which `check` accepts.
        """

    @abstractmethod
    def fisher_rao(self) -> OutputGeometry | DistanceGeometry:
        """The Fisher-Rao geometry of its distributions: how far apart two decoder outputs are as distributions.

        Raises:
            InputError: It has no closed form; the message says why.
        """

    def decoder(
        self,
        make_network: Callable[[tuple[int, ...]], nn.Module],
        event_shape: tuple[int, ...],
        *,
        standardized: bool = False,
    ) -> nn.Module:
        """A decoder that returns its parameters, (N, *parameter_shape), made of networks.

        Here it is one network for all parameters. A likelihood whose parameters do not all come from a network
        overrides it.

        Args:
            make_network: Makes a network from latent points to numbers of a given shape, (N, *shape).
            event_shape: Shape of one row.
            standardized: Whether the encoder is given standardized rows. Then a Gaussian's network works in the same
                units; what the decoder returns is in those of the data.
        """
        return make_network(self.parameter_shape(event_shape))

    @property
    def inputs(self) -> InputKind:
        """What the encoder is given, unless the user says otherwise: here the rows as they are."""
        return "none"

    @property
    def by_row(self) -> bool:
        """Whether rows differ in their total, which the latent point does not tell; here they do not."""
        return False

    def check_decoders(self, decoders: int) -> None:
        """Raise `InputError` if a VAE cannot have so many decoders of it; here any number will do."""
        return None

    def begin(self, decoder: nn.Module, values: Tensor) -> None:
        """Have a new decoder, made by `decoder`, start at the `constant` model of training rows.

        Here it starts where its network does.

        Args:
            decoder: Changed in place.
            values: The training rows, (N, *event), which `check` accepts.
        """
        return None

    def with_learned(self, decoder: nn.Module) -> Likelihood:
        """The likelihood with the numbers of its own that a decoder has learned: here there are none."""
        return self

    def constant_log_prob(self, decoder: nn.Module, values: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        """Log-likelihood of each row of x, (N,), in nats, under the `constant` model of training rows.

        Args:
            decoder: Made by `decoder`; it may bring numbers of the data that `begin` has found.
            values: The training rows, (M, *event).
            x: Rows that `check` accepts, (N, *event).
        """
        return self._under_constant(values, x)

    def _under_constant(self, values: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        constant = self.constant(values.double())
        return self.log_prob(constant.expand(len(x), *constant.shape[1:]), x.double())


LIKELIHOODS: Registry[Likelihood] = Registry("likelihood")
"""Likelihoods by name: what settings and saved models look up."""


def matched(likelihood: Likelihood, parameters: Tensor, x: Tensor) -> Tensor:
    """The parameters, in the wider type of the two: in mixed precision a network has fewer digits than the rows."""
    expected = (*x.shape[:1], *likelihood.parameter_shape(x.shape[1:]))
    if parameters.shape != expected:
        raise InputError(
            f"parameters: expected {expected} for rows x of shape {tuple(x.shape)}, got {tuple(parameters.shape)}"
        )
    return parameters.to(torch.promote_types(parameters.dtype, x.dtype))


def require_second_axis(parameters: Tensor, size: int, what: str) -> None:
    """Refuse parameters that are not (N, size, *event)."""
    if parameters.ndim < 2 or parameters.shape[1] != size:
        raise InputError(f"parameters: expected {what} (N, {size}, *event), got {tuple(parameters.shape)}")
