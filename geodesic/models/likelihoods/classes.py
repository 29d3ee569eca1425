"""One of K classes, or of L gray levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.geometry.outputs import FisherRaoCategorical
from geodesic.models.likelihoods.likelihood import LIKELIHOODS, Likelihood, matched, require_second_axis
from geodesic.models.likelihoods.refusals import check_unit_interval, check_whole_numbers
from geodesic.registry import setting

__all__ = ["Categorical", "Discretized"]


@LIKELIHOODS.register("categorical")
@final
@dataclass(frozen=True)
class Categorical(Likelihood):
    """Classes 0, ..., K - 1 with probabilities softmax(l), for logits l, (N, K, *event).

        log p(x | l) = sum over entries of l_x - log sum over k of exp(l_k)

    Rows hold the numbers of the classes, as floats.

    Args:
        classes: K, at least 2.

    Raises:
        InputError: `classes` is not such an integer.

    Example:
        >>> import torch
        >>> from geodesic.likelihoods import Categorical
        >>> Categorical(4).log_prob(torch.zeros(1, 4, 1), torch.tensor([[3.0]])).exp()
        tensor([0.2500])
    """

    classes: int = field(metadata=setting("how many there are", ge=2))

    def __post_init__(self) -> None:
        require_integer("classes", self.classes, least=2)

    def parameter_shape(self, event_shape: Sequence[int]) -> tuple[int, ...]:
        """K logits for each entry."""
        return (self.classes, *event_shape)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        """Log-likelihood log p(x | l), (N,), in nats."""
        log_probabilities = matched(self, parameters, x).log_softmax(dim=1)
        return log_probabilities.gather(1, x.long().unsqueeze(1)).flatten(1).sum(1)

    def mean(self, parameters: Tensor) -> Float[Tensor, "N *event"]:
        """Sum over k of k softmax(l)_k: of use where the classes are in order."""
        require_second_axis(parameters, self.classes, "logits")
        classes = torch.arange(self.classes, dtype=parameters.dtype, device=parameters.device)
        return torch.einsum("nk...,k->n...", parameters.softmax(dim=1), classes)

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "N *event"]:
        """Rows of classes, as floats."""
        require_second_axis(parameters, self.classes, "logits")
        last = parameters.softmax(dim=1).movedim(1, -1)
        drawn = torch.multinomial(last.reshape(-1, self.classes), 1, generator=generator)
        return drawn.reshape(last.shape[:-1]).to(parameters.dtype)

    def check(self, values: Tensor) -> None:
        """Raise `DataError` unless all values are classes."""
        accepted = f"the whole numbers 0 to {self.classes - 1}"
        remedy = "number the classes from 0, or set classes to how many there are"
        check_whole_numbers(values, "categorical", accepted, remedy, highest=self.classes - 1)

    def uninformative(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """Logits of 0: all classes are equally likely."""
        self.check(values)
        return values.new_zeros(1, *self.parameter_shape(values.shape[1:]))

    def constant(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """The logarithm of how often each class was seen in each entry."""
        classes = torch.arange(self.classes, device=values.device)
        # One class after the other: all at once would take K times the memory of the rows.
        seen = torch.stack([(values == k).sum(0) for k in classes]).to(values) + 0.5
        return seen.log().unsqueeze(0)

    def fisher_rao(self) -> FisherRaoCategorical:
        """The sphere of 2 sqrt p, from logits."""
        return FisherRaoCategorical()


@LIKELIHOODS.register("discretized")
@final
@dataclass(frozen=True)
class Discretized(Likelihood):
    """Gray levels x = k / (L - 1), k = 0, ..., L - 1, each with a probability of its own: logits (N, L, *event).

        log p(x | l) = sum over pixels of l_k - log sum over j of exp(l_j)

    Values in between are rounded to the nearest level. A network has L outputs for each pixel: with 256 levels
    and large images it is large itself. As a log-probability of gray levels its ELBO is negative, and compares
    with that of a density of gray values only after log(L - 1) has been added for each pixel.

    Args:
        levels: L, at least 2.

    Raises:
        InputError: `levels` is not such an integer.

    Example:
        >>> import torch
        >>> from geodesic.likelihoods import Discretized
        >>> Discretized(levels=3).mean(torch.tensor([[[0.0], [0.0], [1.0e4]]]))
        tensor([[1.]])
    """

    levels: int = field(default=256, metadata=setting("how many gray levels there are", ge=2))

    def __post_init__(self) -> None:
        require_integer("levels", self.levels, least=2)

    def parameter_shape(self, event_shape: Sequence[int]) -> tuple[int, ...]:
        """L logits for each pixel."""
        return (self.levels, *event_shape)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        """Log-likelihood log p(x | l), (N,), in nats."""
        return Categorical(self.levels).log_prob(parameters, (x * (self.levels - 1)).round())

    def mean(self, parameters: Tensor) -> Float[Tensor, "N *event"]:
        """Expected gray, in [0, 1]."""
        return Categorical(self.levels).mean(parameters) / (self.levels - 1)

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "N *event"]:
        """Rows of gray levels in [0, 1]."""
        return Categorical(self.levels).sample(parameters, generator) / (self.levels - 1)

    def check(self, values: Tensor) -> None:
        """Raise `DataError` unless all values lie in [0, 1]."""
        check_unit_interval(values, "discretized")

    def uninformative(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """Logits of 0: all levels are equally likely."""
        self.check(values)
        return values.new_zeros(1, *self.parameter_shape(values.shape[1:]))

    def constant(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """The logarithm of how often each level was seen in each pixel."""
        return Categorical(self.levels).constant((values * (self.levels - 1)).round())

    def fisher_rao(self) -> FisherRaoCategorical:
        """The sphere of 2 sqrt p, from logits."""
        return FisherRaoCategorical()
