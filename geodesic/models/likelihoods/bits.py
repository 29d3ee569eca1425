"""Pixels in [0, 1]: black and white, or gray."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from geodesic.errors import InputError
from geodesic.geometry.outputs import FisherRaoBernoulli, OutputGeometry
from geodesic.models.likelihoods.likelihood import LIKELIHOODS, Likelihood, matched
from geodesic.models.likelihoods.refusals import check_unit_interval

__all__ = ["Bernoulli", "ContinuousBernoulli"]


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
        logits = matched(self, parameters, x)
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
        check_unit_interval(values, "Bernoulli")

    def uninformative(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """Logits of 0: on and off are equally likely."""
        self.check(values)
        return values.new_zeros(1, *self.parameter_shape(values.shape[1:]))

    def constant(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """The logit of each pixel's mean."""
        return torch.logit(_inner_mean(values))

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
        logits = matched(self, parameters, x)
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
        check_unit_interval(values, "continuous Bernoulli")

    def uninformative(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """Logits of 0: the uniform density."""
        self.check(values)
        return values.new_zeros(1, *self.parameter_shape(values.shape[1:]))

    def constant(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """The logit whose mean is that of each pixel."""
        wanted = _inner_mean(values)
        low, high = torch.full_like(wanted, -1 / wanted.min().item()), 1 / (1 - wanted)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            below = self.mean(middle) < wanted
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    def fisher_rao(self) -> OutputGeometry:
        """Refused: the embedding is an integral without a closed form."""
        raise InputError(
            "fisher_rao: the embedding of the continuous Bernoulli is an integral without a closed form; use the "
            "geometry euclidean, or the likelihood bernoulli"
        )


_HALVINGS = 60  # of an interval for the logit: to rounding


def _inner_mean(values: Tensor) -> Tensor:
    """The mean of each entry, (1, *event), with half a row more at 0 and at 1 each: within (0, 1)."""
    return (values.sum(0, keepdim=True) + 0.5) / (len(values) + 1)


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
