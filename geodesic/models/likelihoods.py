"""What a decoder's output means: the distribution of a row given its parameters."""

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from geodesic.errors import DataError, InputError

__all__ = ["LIKELIHOODS", "Bernoulli", "Likelihood"]


class Likelihood(ABC):
    """p(x | parameters), independent over the entries of a row."""

    @abstractmethod
    def log_prob(self, parameters: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        """Log-likelihood of each row of x, in nats, summed over its entries."""

    @abstractmethod
    def mean(self, parameters: Tensor) -> Float[Tensor, "N *event"]:
        """Expected rows."""

    @abstractmethod
    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "N *event"]:
        """Random rows."""

    @abstractmethod
    def check(self, values: Tensor) -> None:
        """Raise `DataError` if rows hold values that this likelihood gives no density to."""


@final
class Bernoulli(Likelihood):
    """Pixels that are on with probability sigmoid(l), for logits l.

        log p(x | l) = sum over pixels of x l - log(1 + exp(l))

    Grey values in between are taken as probabilities of being on, as is usual for MNIST. It then is the
    expected log-likelihood of a random black-and-white image, not a normalised density of grey ones.

    Example:
        >>> import torch
        >>> from geodesic import Bernoulli
        >>> logits = torch.tensor([[0.0, 1.0e4]])
        >>> Bernoulli().log_prob(logits, torch.tensor([[1.0, 1.0]])).exp()
        tensor([0.5000])
    """

    def log_prob(self, parameters: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        """Log-likelihood log p(x | l), (N,), in nats.

        Args:
            parameters: Logits, (N, *event).
            x: Rows in [0, 1], (N, *event).

        Raises:
            InputError: The two differ in shape.
        """
        if parameters.shape != x.shape:
            raise InputError(
                f"x: expected the shape of the parameters, {tuple(parameters.shape)}, got {tuple(x.shape)}"
            )
        # In logits: sigmoid first would give log(0) from logits of about 17 in float32.
        return -binary_cross_entropy_with_logits(parameters, x, reduction="none").flatten(1).sum(1)

    def mean(self, parameters: Tensor) -> Float[Tensor, "N *event"]:
        """sigmoid(l), in the shape of the logits l."""
        return torch.sigmoid(parameters)

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "N *event"]:
        """Rows of zeros and ones, in the shape of the logits."""
        return torch.bernoulli(torch.sigmoid(parameters), generator=generator)

    def check(self, values: Tensor) -> None:
        """Raise `DataError` unless all values lie in [0, 1]."""
        if values.numel() == 0:
            raise DataError("values: expected at least one row, got none")
        low, high = values.min().item(), values.max().item()
        if not (low >= 0 and high <= 1):  # written so that NaN is refused as well
            raise DataError(
                "values: the Bernoulli likelihood takes values in [0, 1], "
                f"got values from {low:.6g} to {high:.6g}; "
                "rescale the data, for images by dividing by their largest possible value"
            )


LIKELIHOODS: dict[str, type[Likelihood]] = {"bernoulli": Bernoulli}
