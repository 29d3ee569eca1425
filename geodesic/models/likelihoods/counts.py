"""Counts 0, 1, 2, ..."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from geodesic.checks import require_positive
from geodesic.errors import DataError, InputError
from geodesic.geometry.outputs import FisherRaoNegativeBinomial, FisherRaoPoisson
from geodesic.models.likelihoods.likelihood import LIKELIHOODS, InputKind, Likelihood, matched
from geodesic.models.likelihoods.refusals import check_counts
from geodesic.models.networks.rates import LogRates, OverCounts
from geodesic.models.networks.units import shared_scale
from geodesic.registry import setting

__all__ = ["Counts", "NegativeBinomial", "Poisson"]

_LIBRARY = "whether rows differ in their total count, which z does not tell; or the total count that rates belong to"


@dataclass(frozen=True, kw_only=True)
class Counts(Likelihood):
    """What likelihoods of counts share: log rates that begin at the data, and rows of different total counts.

    Args:
        library: False: the latent point alone says how many counts a row has. True: a row of total count t has t / t_0
            times the rates of its latent point, where t_0 is the mean total count of the training rows: what the
            depth of sequencing does to the counts of a cell. A number: this t_0.
    """

    library: bool | float | Tensor = field(default=False, metadata=setting(_LIBRARY, hint=bool | float))

    def __post_init__(self) -> None:
        if not isinstance(self.library, bool | Tensor):
            require_positive("library", self.library)

    @property
    @abstractmethod
    def name(self) -> str:
        """In messages."""

    def parameter_shape(self, event_shape: Sequence[int]) -> tuple[int, ...]:
        """One number for each entry."""
        return tuple(event_shape)

    def check(self, values: Tensor) -> None:
        """Raise `DataError` unless all values are counts, and no row without any if rows differ in their total."""
        check_counts(values, self.name)
        if self.by_row:
            empty = (values.flatten(1).sum(1) == 0).nonzero().flatten()
            if len(empty):
                raise DataError(
                    f"values: {len(empty)} rows have no counts at all, the first is row {int(empty[0])}, and library "
                    "takes their total; remove these rows, or set library to false"
                )

    @property
    def inputs(self) -> InputKind:
        """Logarithms of counts."""
        return "log1p"

    @property
    def by_row(self) -> bool:
        """Whether rows differ in their total count."""
        return self.library is not False

    def decoder(
        self,
        make_network: Callable[[tuple[int, ...]], nn.Module],
        event_shape: tuple[int, ...],
        *,
        standardized: bool = False,
    ) -> nn.Module:
        """A network for what is added to the log rates of the data."""
        return nn.Sequential(make_network(event_shape), LogRates(event_shape, self.by_row))

    def with_learned(self, decoder: nn.Module) -> Counts:
        """With the total count that rates belong to, where it comes from the data."""
        if self.library is not True:
            return self
        known: Counts = self._with(library=_layer(decoder, LogRates).total)
        return known

    def constant_log_prob(self, decoder: nn.Module, values: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        """Log-likelihood of each row of x, (N,), under the best rate of each entry, in proportion to its total."""
        return self.with_learned(decoder)._under_constant(values, x)

    def offsets(self, x: Tensor) -> Tensor | float:
        """What log rates of rows gain by their total count, log(t / t_0), (N, 1, ...).

        Raises:
            InputError: t_0 is to come from training rows, and there were none.
        """
        if self.library is False:
            return 0.0
        if self.library is True:
            raise InputError(
                "library: true has its total count from training rows; take the likelihood of a trained VAE, "
                "vae.likelihood, or give the total count that rates belong to"
            )
        total = x.flatten(1).sum(1)
        return (total / self.library).log().reshape(-1, *[1] * (x.dim() - 1))

    def log_mean(self, values: Tensor) -> Float[Tensor, "1 *event"]:
        """The log of the mean of each entry, with half a count more than was seen, in a row of total count t_0."""
        weights = torch.as_tensor(self.offsets(values)).exp()
        rows = weights.sum() if weights.dim() else len(values)
        return ((values.sum(0, keepdim=True) + 0.5) / rows).log()

    def spread(self, values: Tensor) -> Float[Tensor, ""]:
        """The scale of the logarithms of counts, log(1 + x), in rows of total count t_0: one for all entries."""
        return shared_scale((values * (-torch.as_tensor(self.offsets(values))).exp()).log1p())

    def _with(self, **fields: Any) -> Any:
        """The same with other fields, which are not looked at: they may have a history, or be on the device "meta"."""
        made = object.__new__(type(self))
        for name, value in (vars(self) | fields).items():
            object.__setattr__(made, name, value)
        return made

    def _begin_at(self, decoder: nn.Module, values: Tensor) -> Any:
        """Give the decoder the total count that rates belong to; returns the likelihood with it."""
        if self.by_row:
            given = self.library if self.library is not True else values.double().flatten(1).sum(1).mean()
            _layer(decoder, LogRates).total.copy_(torch.as_tensor(given))
        return self._with(library=_layer(decoder, LogRates).total.double()) if self.by_row else self


@LIKELIHOODS.register("poisson")
@final
@dataclass(frozen=True)
class Poisson(Counts):
    """Counts 0, 1, 2, ... with rates exp(l), for log rates l, (N, *event).

        log p(x | l) = sum over entries of x l - exp(l) - log x!

    In float32 rates overflow from log rates of 88.7 on.

    Args:
        library: Whether rows differ in their total count, which z does not tell: True, or the total count that rates
            belong to. See `Counts`.

    Raises:
        InputError: `library` is neither a boolean nor a positive number.

    Example:
        >>> import torch
        >>> from geodesic.likelihoods import Poisson
        >>> Poisson().log_prob(torch.zeros(1, 1), torch.tensor([[0.0]])).exp()
        tensor([0.3679])
    """

    @property
    def name(self) -> str:
        return "Poisson"

    def log_prob(self, parameters: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        """Log-likelihood log p(x | l), (N,), in nats."""
        log_rate, dtype = matched(self, parameters, x).double(), torch.promote_types(parameters.dtype, x.dtype)
        # In double precision: for large counts the terms are large, and their sum is small.
        x = x.double()
        log_rate = log_rate + self.offsets(x)
        return (x * log_rate - log_rate.exp() - torch.lgamma(x + 1)).flatten(1).sum(1).to(dtype)

    def mean(self, parameters: Tensor) -> Float[Tensor, "N *event"]:
        """exp(l), in the shape of the log rates l."""
        return parameters.exp()

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "N *event"]:
        """Rows of counts, in the shape of the log rates."""
        return torch.poisson(parameters.exp(), generator=generator)

    def uninformative(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """The log of the mean of all values, the same for all entries."""
        self.check(values)
        return _log_mean_of_all(values).expand(1, *self.parameter_shape(values.shape[1:]))

    def constant(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """The log of the mean of each entry."""
        return self.log_mean(values)

    def begin(self, decoder: nn.Module, values: Tensor) -> None:
        """Have log rates start at those of the constant model."""
        known, values = self._begin_at(decoder, values), values.double()
        _layer(decoder, LogRates).fit(known.log_mean(values)[0], known.spread(values), (values.max() + 1).log())

    def fisher_rao(self) -> FisherRaoPoisson:
        """The geometry of 2 sqrt(rate), from log rates."""
        return FisherRaoPoisson()


@LIKELIHOODS.register("negative_binomial")
@final
@dataclass(frozen=True)
class NegativeBinomial(Counts):
    """Counts 0, 1, 2, ... with mean r exp(l) and variance mean + mean^2 / r, for l = log(mean / r), (N, *event).

        log p(x | l) = sum over entries of log(Gamma(x + r) / (x! Gamma(r))) + x log p + r log(1 - p),   p = sigmoid(l)

    As r grows it becomes the Poisson distribution. An r that is learned is the same for all rows, one for each entry,
    and a VAE of one decoder alone has it: in training it begins where it suits the constant model. The likelihood of
    a trained VAE, `vae.likelihood`, has the numbers.

    Args:
        total_count: r > 0: "learned"; one number for all entries; or one for each, in the shape of a row.
        library: Whether rows differ in their total count, which z does not tell: True, or the total count that rates
            belong to. See `Counts`.

    Raises:
        InputError: `total_count` is none of these, or `library` is neither a boolean nor a positive number.

    Example:
        >>> import torch
        >>> from geodesic.likelihoods import NegativeBinomial
        >>> NegativeBinomial(total_count=2.0).log_prob(torch.zeros(1, 1), torch.tensor([[0.0]])).exp()
        tensor([0.2500])
    """

    total_count: float | Sequence[Any] | Tensor | Literal["learned"] = field(
        default="learned",
        metadata=setting(
            "r, the variance is mean + mean^2 / r: learned, one for each entry; a number; or a list of one for each",
            hint=float | tuple[float, ...] | Literal["learned"],
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.total_count, str):
            if self.total_count != "learned":
                raise InputError(
                    "total_count: expected 'learned', a positive number, or one for each entry, got "
                    f"{self.total_count!r}"
                )
            return
        FisherRaoNegativeBinomial(self.total_count)  # refuses what is no such number
        if not isinstance(self.total_count, int | float):
            numbers = torch.as_tensor(self.total_count, device="cpu").detach().double().tolist()
            object.__setattr__(self, "total_count", _tuples(numbers))

    @property
    def name(self) -> str:
        return "negative binomial"

    def counts(self, parameters: Tensor) -> Tensor:
        """The r of each entry, or of all, in the dtype and on the device of parameters, (N, *event).

        Raises:
            InputError: It is to be learned; or there is one for each entry, and rows have other entries.
        """
        if isinstance(self.total_count, str):
            raise InputError(
                "total_count: it is learned by a VAE; take the likelihood of a trained one, vae.likelihood, or give a "
                "number"
            )
        r = torch.as_tensor(self.total_count, dtype=parameters.dtype, device=parameters.device)
        if r.dim() and r.shape != parameters.shape[1:]:
            raise InputError(
                f"total_count: expected one number, or one for each entry of a row, {tuple(parameters.shape[1:])}, got "
                f"the shape {tuple(r.shape)}"
            )
        return r

    def log_prob(self, parameters: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        """Log-likelihood log p(x | l), (N,), in nats."""
        logits, dtype = matched(self, parameters, x).double(), torch.promote_types(parameters.dtype, x.dtype)
        # In double precision: of large counts, or a large r, only the difference of logarithms counts.
        x, r = x.double(), self.counts(logits)
        logits = logits + self.offsets(x)
        log_binomial = torch.lgamma(x + r) - torch.lgamma(x + 1) - torch.lgamma(r)
        return (log_binomial + x * logsigmoid(logits) + r * logsigmoid(-logits)).flatten(1).sum(1).to(dtype)

    def mean(self, parameters: Tensor) -> Float[Tensor, "N *event"]:
        """Expected counts r exp(l), in the shape of l."""
        return self.counts(parameters) * parameters.exp()

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "N *event"]:
        """Rows of counts, in the shape of l: Poisson's, with rates from a gamma distribution."""
        # What torch.distributions.Gamma draws from; that takes no generator.
        gamma = torch._standard_gamma(self.counts(parameters).expand_as(parameters), generator=generator)
        return torch.poisson(gamma * parameters.exp(), generator=generator)

    def uninformative(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """The log of the mean of all values over r: the same mean for all entries."""
        self.check(values)
        log_mean = _log_mean_of_all(values).expand(1, *self.parameter_shape(values.shape[1:]))
        return log_mean - self.counts(log_mean).log()

    def constant(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """The log of the mean of each entry over r."""
        log_mean = self.log_mean(values)
        return log_mean - self.counts(log_mean).log()

    def constant_log_prob(self, decoder: nn.Module, values: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        """Log-likelihood of each row of x, (N,), under the best negative binomial of each entry, each with its r."""
        known: NegativeBinomial = super().with_learned(decoder)._with()
        if self.total_count == "learned":
            known = known._with(total_count=known._likeliest(values.double()))
        return known._under_constant(values, x)

    def decoder(
        self,
        make_network: Callable[[tuple[int, ...]], nn.Module],
        event_shape: tuple[int, ...],
        *,
        standardized: bool = False,
    ) -> nn.Module:
        """A network for what is added to the log rates of the data, with the layer of an r that is learned."""
        network = super().decoder(make_network, event_shape)
        if self.total_count == "learned":
            return nn.Sequential(network, OverCounts(event_shape))
        return network

    def check_decoders(self, decoders: int) -> None:
        """Refuse an r that is learned by several decoders: they would be members of different geometries."""
        if decoders > 1 and self.total_count == "learned":
            raise InputError(
                "decoders: the members of an ensemble have one r, and total_count is learned; give a number, or those "
                "that a VAE of one decoder has learned, vae.likelihood.total_count"
            )

    def begin(self, decoder: nn.Module, values: Tensor) -> None:
        """Have log rates, and an r that is learned, start at those of the constant model."""
        known, values = self._begin_at(decoder, values), values.double()
        offset, highest = known.log_mean(values)[0], (values.max() + 1).log()
        if self.total_count == "learned":
            _layer(decoder, OverCounts).fit(known._likeliest(values))
        else:
            log_r = self.counts(offset[None]).log()
            offset, highest = offset - log_r, highest - log_r.min()
        _layer(decoder, LogRates).fit(offset, known.spread(values), highest)

    def with_learned(self, decoder: nn.Module) -> NegativeBinomial:
        """With the r of each entry that the decoder has learned, and the total count that rates belong to."""
        learned = {"total_count": _layer(decoder, OverCounts).total_count()} if self.total_count == "learned" else {}
        known: NegativeBinomial = super().with_learned(decoder)._with(**learned)
        return known

    def fisher_rao(self) -> FisherRaoNegativeBinomial:
        """The geometry of 2 sqrt(r) arcsinh sqrt(mean / r), from logits.

        Raises:
            InputError: r is to be learned.
        """
        if isinstance(self.total_count, str):
            raise InputError(
                "fisher_rao: total_count is learned by a VAE; take the likelihood of a trained one, vae.likelihood"
            )
        r = self.total_count
        if isinstance(r, Tensor) and r.is_meta:  # of a model without weights, which is asked for its parts alone
            r = torch.ones(r.shape, device="cpu")
        return FisherRaoNegativeBinomial(r)

    def _likeliest(self, values: Tensor) -> Float[Tensor, "*event"]:
        """The r of each entry under which counts with its mean are the likeliest, within bounds.

        The slope of the log-likelihood in r falls through zero there: the interval for log r is halved.
        """
        mean = (self.log_mean(values) + self.offsets(values)).exp().expand(values.shape)
        low = torch.full(values.shape[1:], math.log(1e-3), dtype=values.dtype, device=values.device)
        high = torch.full_like(low, math.log(1e4))
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            r = middle.exp()
            slope = torch.digamma(values + r) - torch.digamma(r) - torch.log1p(mean / r) + (mean - values) / (r + mean)
            rising = slope.mean(0) > 0
            low, high = torch.where(rising, middle, low), torch.where(rising, high, middle)
        return ((low + high) / 2).exp()


_HALVINGS = 30  # of an interval for log r


_M = TypeVar("_M", bound=nn.Module)


def _layer(decoder: nn.Module, sort: type[_M]) -> _M:
    """The layer of a sort that a decoder of counts has."""
    return next(layer for layer in decoder.modules() if isinstance(layer, sort))


def _tuples(numbers: Any) -> Any:
    """Lists in lists as tuples in tuples, which have a hash."""
    return tuple(map(_tuples, numbers)) if isinstance(numbers, list) else numbers


def _log_mean_of_all(values: Tensor) -> Tensor:
    mean = values.double().mean()
    if not mean > 0:
        raise DataError("values: all counts are 0, so their mean has no logarithm; check the data")
    return mean.log().to(values)
