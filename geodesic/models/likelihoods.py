"""What a decoder's output means: the distribution of a row given its parameters."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from geodesic.checks import is_number, require_integer, require_positive
from geodesic.errors import DataError, InputError
from geodesic.geometry.outputs import (
    DistanceGeometry,
    FisherRaoBernoulli,
    FisherRaoCategorical,
    FisherRaoGaussian,
    FisherRaoNegativeBinomial,
    FisherRaoPoisson,
    OutputGeometry,
)
from geodesic.models.networks.scales import BoundedScale, FixedScale, LearnedScale
from geodesic.registry import Registry, setting

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "Discretized",
    "Gaussian",
    "Likelihood",
    "NegativeBinomial",
    "Poisson",
]


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
    def fisher_rao(self) -> OutputGeometry | DistanceGeometry:
        """The Fisher-Rao geometry of its distributions: how far apart two decoder outputs are as distributions.

        Raises:
            InputError: It has no closed form; the message says why.
        """

    def decoder(self, make_network: Callable[[tuple[int, ...]], nn.Module], event_shape: tuple[int, ...]) -> nn.Module:
        """A decoder that returns its parameters, (N, *parameter_shape), made of networks.

        Here it is one network for all parameters. A likelihood whose parameters do not all come from a network
        overrides it.

        Args:
            make_network: Makes a network from latent points to numbers of a given shape, (N, *shape).
            event_shape: Shape of one row.
        """
        return make_network(self.parameter_shape(event_shape))


LIKELIHOODS: Registry[Likelihood] = Registry("likelihood")
"""Likelihoods by name: what settings and saved models look up."""


@LIKELIHOODS.register("bernoulli")
@final
@dataclass(frozen=True)
class Bernoulli(Likelihood):
    """Pixels that are on with probability sigmoid(l), for logits l, (N, *event).

        log p(x | l) = sum over pixels of x l - log(1 + exp(l))

    Gray values in between are taken as probabilities of being on, as is usual for MNIST. It then is the
    expected log-likelihood of a random black-and-white image, not a normalized density of gray ones: its
    ELBO does not compare with those of `ContinuousBernoulli`, `Gaussian` or `Discretized`.

    Example:
        >>> import torch
        >>> from geodesic.likelihoods import Bernoulli
        >>> logits = torch.tensor([[0.0, 1.0e4]])
        >>> Bernoulli().log_prob(logits, torch.tensor([[1.0, 1.0]])).exp()
        tensor([0.5000])
    """

    def parameter_shape(self, event_shape: Sequence[int]) -> tuple[int, ...]:
        """One logit for each entry."""
        return tuple(event_shape)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        """Log-likelihood log p(x | l), (N,), in nats."""
        logits = _matched(self, parameters, x)
        # In logits: sigmoid first would give log(0) from logits of about 17 in float32.
        return -binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)

    def mean(self, parameters: Tensor) -> Float[Tensor, "N *event"]:
        """sigmoid(l), in the shape of the logits l."""
        return torch.sigmoid(parameters)

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "N *event"]:
        """Rows of zeros and ones, in the shape of the logits."""
        return torch.bernoulli(torch.sigmoid(parameters), generator=generator)

    def check(self, values: Tensor) -> None:
        """Raise `DataError` unless all values lie in [0, 1]."""
        _check_unit_interval(values, "Bernoulli")

    def uninformative(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """Logits of 0: on and off are equally likely."""
        self.check(values)
        return values.new_zeros(1, *self.parameter_shape(values.shape[1:]))

    def fisher_rao(self) -> FisherRaoBernoulli:
        """The geometry of 2 arcsin sqrt p, from logits."""
        return FisherRaoBernoulli()


@LIKELIHOODS.register("continuous_bernoulli")
@final
@dataclass(frozen=True)
class ContinuousBernoulli(Likelihood):
    """Gray pixels in [0, 1] whose log density is linear, with slope l, for logits l, (N, *event).

        log p(x | l) = sum over pixels of x l - A(l),   A(l) = log((exp(l) - 1) / l)

    It is the Bernoulli's expression, normalized. Being a density of gray values, its ELBO may be positive,
    and does not compare with the Bernoulli's, which is a mean log-probability of black-and-white images.
    The mean is A'(l), not sigmoid(l). Where a pixel is always 0 or always 1, l has no best value: the density
    goes on growing, as log |l|.

    Reference:
        G. Loaiza-Ganem, J. P. Cunningham, The continuous Bernoulli: fixing a pervasive error in variational
        autoencoders, 2019.

    Example:
        >>> import torch
        >>> from geodesic.likelihoods import ContinuousBernoulli
        >>> ContinuousBernoulli().mean(torch.tensor([[-1.0e4, 0.0, 10.0]]))
        tensor([[1.0000e-04, 5.0000e-01, 9.0005e-01]])
    """

    def parameter_shape(self, event_shape: Sequence[int]) -> tuple[int, ...]:
        """One logit for each entry."""
        return tuple(event_shape)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        """Log density log p(x | l), (N,), in nats."""
        logits = _matched(self, parameters, x)
        inside, near, far = _near_and_far(logits)
        q = near.square()
        small = (x - 0.5) * near - q * _polynomial(_SERIES, q)
        # |l| is multiplied by the distance from the peak: x l and A(l), both large, would lose digits to each other.
        from_peak = torch.where(logits < 0, x, 1 - x)
        large = far.log() - (-torch.expm1(-far)).log() - far * from_peak
        return torch.where(inside, small, large).flatten(1).sum(1)

    def mean(self, parameters: Tensor) -> Float[Tensor, "N *event"]:
        """A'(l) = 1 / (1 - exp(-l)) - 1 / l, in the shape of the logits l."""
        inside, near, far = _near_and_far(parameters)
        derivative = [2 * k * coefficient for k, coefficient in enumerate(_SERIES, start=1)]
        small = 0.5 + near * _polynomial(derivative, near.square())
        # That of -|l|, which is small: the difference of two numbers near 1 would have lost its digits.
        low = 1 / far + (-far).exp() / torch.expm1(-far)
        return torch.where(inside, small, torch.where(parameters < 0, low, 1 - low))

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "N *event"]:
        """Gray rows in [0, 1], in the shape of the logits: where a uniform number meets the distribution function."""
        u = torch.rand(parameters.shape, generator=generator, dtype=parameters.dtype, device=parameters.device)
        slope = parameters.abs().clamp(min=torch.finfo(parameters.dtype).tiny)
        # Of the falling density exp(-|l| x), which overflows nowhere; the rising one is its mirror image. Rounding
        # alone could lead out of [0, 1].
        falling = (-torch.log1p(u * torch.expm1(-slope)) / slope).clamp(max=1)
        return torch.where(parameters < 0, falling, 1 - falling)

    def check(self, values: Tensor) -> None:
        """Raise `DataError` unless all values lie in [0, 1]."""
        _check_unit_interval(values, "continuous Bernoulli")

    def uninformative(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """Logits of 0: the uniform density."""
        self.check(values)
        return values.new_zeros(1, *self.parameter_shape(values.shape[1:]))

    def fisher_rao(self) -> OutputGeometry:
        """Refused: the embedding is an integral without a closed form."""
        raise InputError(
            "fisher_rao: the embedding of the continuous Bernoulli is an integral without a closed form; use the "
            "geometry euclidean, or the likelihood bernoulli"
        )


@LIKELIHOODS.register("gaussian")
@final
@dataclass(frozen=True)
class Gaussian(Likelihood):
    """Numbers around a mean m with a scale exp(s), parameters (N, 2, *event) with m first and s second.

        log p(x | m, s) = sum over entries of -((x - m) exp(-s))^2 / 2 - s - log(2 pi) / 2

    Args:
        scale: Where a decoder of `decoder` takes exp(s) from, in the units of the data. A number: it is the same for
            all entries and fixed. "learned": one for all entries, learned. "per_pixel": one for each entry and latent
            point, from the network.
        min_scale: Lower bound of scales that are learned or fitted.

    Raises:
        InputError: A scale is not positive, or no such word.

    Example:
        >>> import torch
        >>> from geodesic.likelihoods import Gaussian
        >>> parameters = torch.tensor([[[3.0], [0.0]]])
        >>> Gaussian().log_prob(parameters, torch.tensor([[3.0]]))
        tensor([-0.9189])
    """

    scale: float | Literal["learned", "per_pixel"] = field(
        default="learned",
        metadata=setting("a number; one that is learned; or one for each entry, from the decoder"),
    )
    min_scale: float = field(default=0.01, metadata=setting("lower bound of scales that are learned or fitted", gt=0))

    def __post_init__(self) -> None:
        if self.scale not in ("learned", "per_pixel") and not (is_number(self.scale) and 0 < self.scale < math.inf):
            raise InputError(f"scale: expected a positive number, 'learned' or 'per_pixel', got {self.scale!r}")
        require_positive("min_scale", self.min_scale)

    def parameter_shape(self, event_shape: Sequence[int]) -> tuple[int, ...]:
        """A mean and a log scale for each entry."""
        return (2, *event_shape)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        """Log density log p(x | m, s), (N,), in nats."""
        m, s = _matched(self, parameters, x).unbind(1)
        entries = -((x - m) * (-s).exp()).square() / 2 - s - math.log(2 * math.pi) / 2
        return entries.flatten(1).sum(1)

    def mean(self, parameters: Tensor) -> Float[Tensor, "N *event"]:
        """The means m."""
        _require_second_axis(parameters, 2, "means and log scales")
        return parameters[:, 0]

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "N *event"]:
        """Draw m + exp(s) * noise."""
        _require_second_axis(parameters, 2, "means and log scales")
        m, s = parameters.unbind(1)
        return m + s.exp() * torch.randn(m.shape, generator=generator, dtype=m.dtype, device=m.device)

    def check(self, values: Tensor) -> None:
        """Raise `DataError` unless all values are finite."""
        _require_some(values)
        _refuse(values, ~values.isfinite(), "Gaussian", "finite values", "remove or replace it")

    def uninformative(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """The mean of all values and the log of their standard deviation, the same for all entries."""
        self.check(values)
        scale = values.double().std(correction=0)
        if not scale > 0:
            raise DataError(
                f"values: all are {values.flatten()[0].item():.6g}, so they have no scale to take the logarithm of; "
                "check the data"
            )
        row = torch.stack([values.double().mean(), scale.log()]).to(values)
        shape = self.parameter_shape(values.shape[1:])
        return row.reshape(2, *(1 for _ in shape[1:])).expand(1, *shape)

    def fisher_rao(self) -> FisherRaoGaussian:
        """Hyperbolic planes of means and scales, one for each entry."""
        return FisherRaoGaussian()

    def decoder(self, make_network: Callable[[tuple[int, ...]], nn.Module], event_shape: tuple[int, ...]) -> nn.Module:
        """A network for the means, and for the log scales where they are asked for, with the layer of its scale."""
        if self.scale == "per_pixel":
            return nn.Sequential(make_network(self.parameter_shape(event_shape)), BoundedScale(self.min_scale))
        if self.scale == "learned":
            return nn.Sequential(make_network(event_shape), LearnedScale(self.min_scale))
        return nn.Sequential(make_network(event_shape), FixedScale(self.scale))


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
        log_probabilities = _matched(self, parameters, x).log_softmax(dim=1)
        return log_probabilities.gather(1, x.long().unsqueeze(1)).flatten(1).sum(1)

    def mean(self, parameters: Tensor) -> Float[Tensor, "N *event"]:
        """Sum over k of k softmax(l)_k: of use where the classes are in order."""
        _require_second_axis(parameters, self.classes, "logits")
        classes = torch.arange(self.classes, dtype=parameters.dtype, device=parameters.device)
        return torch.einsum("nk...,k->n...", parameters.softmax(dim=1), classes)

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "N *event"]:
        """Rows of classes, as floats."""
        _require_second_axis(parameters, self.classes, "logits")
        last = parameters.softmax(dim=1).movedim(1, -1)
        drawn = torch.multinomial(last.reshape(-1, self.classes), 1, generator=generator)
        return drawn.reshape(last.shape[:-1]).to(parameters.dtype)

    def check(self, values: Tensor) -> None:
        """Raise `DataError` unless all values are classes."""
        accepted = f"the whole numbers 0 to {self.classes - 1}"
        remedy = "number the classes from 0, or set classes to how many there are"
        _check_whole_numbers(values, "categorical", accepted, remedy, highest=self.classes - 1)

    def uninformative(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """Logits of 0: all classes are equally likely."""
        self.check(values)
        return values.new_zeros(1, *self.parameter_shape(values.shape[1:]))

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
        _check_unit_interval(values, "discretized")

    def uninformative(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """Logits of 0: all levels are equally likely."""
        self.check(values)
        return values.new_zeros(1, *self.parameter_shape(values.shape[1:]))

    def fisher_rao(self) -> FisherRaoCategorical:
        """The sphere of 2 sqrt p, from logits."""
        return FisherRaoCategorical()


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
        log_rate = _matched(self, parameters, x)
        return (x * log_rate - log_rate.exp() - torch.lgamma(x + 1)).flatten(1).sum(1)

    def mean(self, parameters: Tensor) -> Float[Tensor, "N *event"]:
        """exp(l), in the shape of the log rates l."""
        return parameters.exp()

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "N *event"]:
        """Rows of counts, in the shape of the log rates."""
        return torch.poisson(parameters.exp(), generator=generator)

    def check(self, values: Tensor) -> None:
        """Raise `DataError` unless all values are counts."""
        _check_counts(values, "Poisson")

    def uninformative(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """The log of the mean of all values, the same for all entries."""
        self.check(values)
        return _log_mean(values).expand(1, *self.parameter_shape(values.shape[1:]))

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
        logits, r = _matched(self, parameters, x), self.total_count
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
        _check_counts(values, "negative binomial")

    def uninformative(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """The log of the mean of all values over r, the same for all entries."""
        self.check(values)
        row = _log_mean(values) - math.log(self.total_count)
        return row.expand(1, *self.parameter_shape(values.shape[1:]))

    def fisher_rao(self) -> FisherRaoNegativeBinomial:
        """The geometry of 2 sqrt(r) arcsinh sqrt(mean / r), from logits."""
        return FisherRaoNegativeBinomial(self.total_count)


# --- the continuous Bernoulli near l = 0 -----------------------------------------------------------

# A(l) - l / 2 = log(sinh(l / 2) / (l / 2)) = sum over k of B_2k l^2k / (2k (2k)!), with the Bernoulli numbers B_2k.
# Closed forms lose the digits of derivatives there. What is left out is below 1e-18 up to |l| = 1/2.
_NEAR = 0.5
_NUMBERS = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)
_SERIES = [number / (2 * k * math.factorial(2 * k)) for k, number in enumerate(_NUMBERS, start=1)]


def _near_and_far(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the series is to be used; l there, for the series; |l| elsewhere, for the closed form.

    Where one is not used it gets a harmless number, so that its derivatives are finite.
    """
    inside = logits.abs() < _NEAR
    return inside, torch.where(inside, logits, 0.0), torch.where(inside, _NEAR, logits.abs())


def _polynomial(coefficients: Sequence[float], q: Tensor) -> Tensor:
    """c_0 + c_1 q + c_2 q^2 + ..."""
    value = torch.zeros_like(q)
    for coefficient in reversed(coefficients):
        value = value * q + coefficient
    return value


# --- what is refused -------------------------------------------------------------------------------


def _matched(likelihood: Likelihood, parameters: Tensor, x: Tensor) -> Tensor:
    """The parameters, in the wider type of the two: in mixed precision a network has fewer digits than the rows."""
    expected = (*x.shape[:1], *likelihood.parameter_shape(x.shape[1:]))
    if parameters.shape != expected:
        raise InputError(
            f"parameters: expected {expected} for rows x of shape {tuple(x.shape)}, got {tuple(parameters.shape)}"
        )
    return parameters.to(torch.promote_types(parameters.dtype, x.dtype))


def _require_second_axis(parameters: Tensor, size: int, what: str) -> None:
    if parameters.ndim < 2 or parameters.shape[1] != size:
        raise InputError(f"parameters: expected {what} (N, {size}, *event), got {tuple(parameters.shape)}")


def _require_some(values: Tensor) -> None:
    if values.numel() == 0:
        raise DataError("values: expected at least one row, got none")


def _check_unit_interval(values: Tensor, likelihood: str) -> None:
    _require_some(values)
    low, high = values.min().item(), values.max().item()
    if not (low >= 0 and high <= 1):  # written so that NaN is refused as well
        raise DataError(
            f"values: the {likelihood} likelihood takes values in [0, 1], "
            f"got values from {low:.6g} to {high:.6g}; "
            "rescale the data, for images by dividing by their largest possible value"
        )


def _check_counts(values: Tensor, likelihood: str) -> None:
    remedy = (
        "round the values, multiply gray values in [0, 1] by their number of levels first, or choose a likelihood "
        "of such values: gaussian, or in [0, 1] continuous_bernoulli"
    )
    _check_whole_numbers(values, likelihood, "the counts 0, 1, 2, ...", remedy, highest=math.inf)


def _check_whole_numbers(values: Tensor, likelihood: str, accepted: str, remedy: str, highest: int | float) -> None:
    _require_some(values)
    whole = values.isfinite() & (values == values.floor())
    _refuse(values, ~(whole & (values >= 0) & (values <= highest)), likelihood, accepted, remedy)


def _refuse(values: Tensor, bad: Tensor, likelihood: str, accepted: str, remedy: str) -> None:
    """Raise `DataError` with the first bad value, if there is one."""
    if not bad.any():
        return
    index = tuple(bad.nonzero()[0].tolist())
    raise DataError(
        f"values: the {likelihood} likelihood takes {accepted}, got {values[index].item():.6g} at {index}, the first "
        f"of {int(bad.sum())} such values; {remedy}"
    )


def _log_mean(values: Tensor) -> Tensor:
    mean = values.double().mean()
    if not mean > 0:
        raise DataError("values: all counts are 0, so their mean has no logarithm; check the data")
    return mean.log().to(values)
