"""Counts 0, 1, 2, ..."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from geodesic.checks import require_positive
from geodesic.errors import DataError
from geodesic.geometry.outputs import FisherRaoNegativeBinomial, FisherRaoPoisson
from geodesic.models.likelihoods.likelihood import LIKELIHOODS, Likelihood, matched
from geodesic.models.likelihoods.refusals import check_counts
from geodesic.registry import setting

__all__ = ["NegativeBinomial", "Poisson"]


@LIKELIHOODS.register("poisson")
@final
@dataclass(frozen=True)
class Poisson(Likelihood):
    """Counts 0, 1, 2, ... with rates exp(l), for log rates l, (N, *event).

        log p(x | l) = sum over entries of x l - exp(l) - log x!

    In float32 rates overflow from log rates of 88.7 on.

    Example:
        >>> import torch
        >>> from geodesic.likelihoods import Poisson
        >>> Poisson().log_prob(torch.zeros(1, 1), torch.tensor([[0.0]])).exp()
        tensor([0.3679])
    """

    def parameter_shape(self, event_shape: Sequence[int]) -> tuple[int, ...]:
        """One log rate for each entry."""
        return tuple(event_shape)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        """Log-likelihood log p(x | l), (N,), in nats."""
        log_rate = matched(self, parameters, x)
        return (x * log_rate - log_rate.exp() - torch.lgamma(x + 1)).flatten(1).sum(1)

    def mean(self, parameters: Tensor) -> Float[Tensor, "N *event"]:
        """exp(l), in the shape of the log rates l."""
        return parameters.exp()

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "N *event"]:
        """Rows of counts, in the shape of the log rates."""
        return torch.poisson(parameters.exp(), generator=generator)

    def check(self, values: Tensor) -> None:
        """Raise `DataError` unless all values are counts."""
        check_counts(values, "Poisson")

    def uninformative(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """The log of the mean of all values, the same for all entries."""
        self.check(values)
        return log_mean(values).expand(1, *self.parameter_shape(values.shape[1:]))

    def fisher_rao(self) -> FisherRaoPoisson:
        """The geometry of 2 sqrt(rate), from log rates."""
        return FisherRaoPoisson()


@LIKELIHOODS.register("negative_binomial")
@final
@dataclass(frozen=True)
class NegativeBinomial(Likelihood):
    """Counts 0, 1, 2, ... with mean r exp(l) and variance mean + mean^2 / r, for l = log(mean / r), (N, *event).

        log p(x | l) = sum over entries of log(Gamma(x + r) / (x! Gamma(r))) + x log p + r log(1 - p),   p = sigmoid(l)

    As r grows it becomes the Poisson distribution.

    Args:
        total_count: r > 0, the same for all entries.

    Raises:
        InputError: `total_count` is not a positive number.

    Example:
        >>> import torch
        >>> from geodesic.likelihoods import NegativeBinomial
        >>> NegativeBinomial(total_count=2.0).log_prob(torch.zeros(1, 1), torch.tensor([[0.0]])).exp()
        tensor([0.2500])
    """

    total_count: float = field(metadata=setting("r; the variance is mean + mean^2 / r", gt=0))

    def __post_init__(self) -> None:
        require_positive("total_count", self.total_count)

    def parameter_shape(self, event_shape: Sequence[int]) -> tuple[int, ...]:
        """One logit for each entry."""
        return tuple(event_shape)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        """Log-likelihood log p(x | l), (N,), in nats."""
        logits, r = matched(self, parameters, x), self.total_count
        log_binomial = torch.lgamma(x + r) - torch.lgamma(x + 1) - math.lgamma(r)
        return (log_binomial + x * logsigmoid(logits) + r * logsigmoid(-logits)).flatten(1).sum(1)

    def mean(self, parameters: Tensor) -> Float[Tensor, "N *event"]:
        """Expected counts r exp(l), in the shape of l."""
        return self.total_count * parameters.exp()

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "N *event"]:
        """Rows of counts, in the shape of l: Poisson's, with rates from a gamma distribution."""
        # What torch.distributions.Gamma draws from; that takes no generator.
        gamma = torch._standard_gamma(torch.full_like(parameters, self.total_count), generator=generator)
        return torch.poisson(gamma * parameters.exp(), generator=generator)

    def check(self, values: Tensor) -> None:
        """Raise `DataError` unless all values are counts."""
        check_counts(values, "negative binomial")

    def uninformative(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """The log of the mean of all values over r, the same for all entries."""
        self.check(values)
        row = log_mean(values) - math.log(self.total_count)
        return row.expand(1, *self.parameter_shape(values.shape[1:]))

    def fisher_rao(self) -> FisherRaoNegativeBinomial:
        """The geometry of 2 sqrt(r) arcsinh sqrt(mean / r), from logits."""
        return FisherRaoNegativeBinomial(self.total_count)


def log_mean(values: Tensor) -> Tensor:
    mean = values.double().mean()
    if not mean > 0:
        raise DataError("values: all counts are 0, so their mean has no logarithm; check the data")
    return mean.log().to(values)
