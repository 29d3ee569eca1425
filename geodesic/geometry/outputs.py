"""Output geometries: how far apart two decoder outputs are."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.errors import DecoderError
from geodesic.geometry.parameters import (
    Counts,
    TwoWords,
    arcsine,
    arcsinh_of_exponential,
    look_like_classes,
    look_like_probabilities,
    look_like_rates,
    mean_and_scale,
    one_of,
    root,
    sigmoid_twice,
    squared_arcsinh_of_root,
)
from geodesic.registry import Registry, setting

__all__ = [
    "OUTPUT_GEOMETRIES",
    "DistanceGeometry",
    "Euclidean",
    "ExpectedGaussian",
    "Features",
    "FisherRaoBernoulli",
    "FisherRaoCategorical",
    "FisherRaoGaussian",
    "FisherRaoNegativeBinomial",
    "FisherRaoPoisson",
    "OutputGeometry",
]


class OutputGeometry(ABC):
    """A map phi from decoder outputs into Euclidean space, whose distances it lends to them.

    A new geometry is one subclass with `embed`; everything downstream works with x = phi(g(z)) alone.
    """

    @abstractmethod
    def embed(self, parameters: Tensor) -> Tensor:
        """phi, row by row.

        Args:
            parameters: What the decoder returns, (N, ...).

        Returns:
            Points of Euclidean space, (N, ...), of any event shape.
        """

    def doubt(self, values: Tensor, last: str) -> str | None:
        """Why the parameters of a decoder are not those that this geometry takes, and what to do; None if they may be.

        Args:
            values: What the decoder returns at some points, (N, ...).
            last: The operation that made them: "Sigmoid", say; "" where it is not known.
        """
        return None


class DistanceGeometry(ABC):
    """A geometry of decoder outputs that has no embedding at hand, but a distance in closed form."""

    @abstractmethod
    def in_orthonormal_frame(self, parameters: Tensor, tangent: Tensor) -> Tensor:
        """Coordinates of tangent vectors in a frame that is orthonormal at the parameters, both (N, ...)."""

    @abstractmethod
    def squared_distance(self, a: Tensor, b: Tensor) -> Float[Tensor, " N"]:
        """Squared distances between parameters, both (N, ...), differentiable twice, where they are equal too."""

    def doubt(self, values: Tensor, last: str) -> str | None:
        """As that of `OutputGeometry`."""
        return None


#: Output geometries by the kind that names them in settings.
OUTPUT_GEOMETRIES: Registry[OutputGeometry | DistanceGeometry] = Registry("output geometry")


def _identity(parameters: Tensor) -> Tensor:
    return parameters


@OUTPUT_GEOMETRIES.register("euclidean")
@dataclass(frozen=True)
class Euclidean(OutputGeometry):
    """Straight-line distance between means: phi(parameters) = mean(parameters).

    Reference:
        H. Shao, A. Kumar, P. T. Fletcher, The Riemannian Geometry of Deep Generative Models, 2017.

    Args:
        mean: How the decoder's output becomes a mean, row by row: `torch.sigmoid` for Bernoulli logits; by
            default the output is the mean.

    Example:
        >>> import torch, geodesic
        >>> geodesic.outputs.Euclidean(mean=torch.sigmoid).embed(torch.zeros(1, 2))
        tensor([[0.5000, 0.5000]])
    """

    mean: Callable[[Tensor], Tensor] = _identity

    def embed(self, parameters: Tensor) -> Tensor:
        return self.mean(parameters)

    def doubt(self, values: Tensor, last: str) -> str | None:
        return sigmoid_twice(self.mean, values, last)


@OUTPUT_GEOMETRIES.register("expected")
@dataclass(frozen=True, repr=False)
class ExpectedGaussian(TwoWords, OutputGeometry):
    """The expected metric of a random output mu + sigma epsilon: phi = (mu, sigma).

    E[J_x^T J_x] = J_mu^T J_mu + J_sigma^T J_sigma,   x(z) = mu(z) + sigma(z) epsilon,   epsilon ~ N(0, 1)

    Where sigma grows away from the data, paths through there are long.

    Reference:
        G. Arvanitidis, L. K. Hansen, S. Hauberg, Latent Space Oddity: on the Curvature of Deep Generative Models, 2018.

    Args:
        parameters: What the decoder returns beside the means: "log_scales", the default, or "scales".

    Raises:
        DecoderError: When called: the parameters are not (N, 2, *event), means and log scales.
        InputError: `parameters` is no such word.

    Example:
        >>> import torch, geodesic
        >>> geodesic.outputs.ExpectedGaussian().embed(torch.tensor([[[3.0], [0.0]]]))
        tensor([[[3.],
                 [1.]]])
    """

    parameters: Literal["log_scales", "scales"] | None = one_of("log_scales", "scales")

    def embed(self, parameters: Tensor) -> Tensor:
        mean, scale = mean_and_scale(parameters, "ExpectedGaussian")
        return torch.stack([mean, scale if self.parameters == "scales" else scale.exp()], dim=1)

    def doubt(self, values: Tensor, last: str) -> str | None:
        return self.questioned_scales(values, last)


@OUTPUT_GEOMETRIES.register("fisher_rao_bernoulli")
@dataclass(frozen=True, repr=False)
class FisherRaoBernoulli(TwoWords, OutputGeometry):
    """Fisher-Rao distance between Bernoulli distributions: phi(l) = 2 arcsin sqrt p, from logits l.

    2 arcsin sqrt p = pi / 2 + 2 arctan tanh(l / 4),   p = sigmoid(l)

    Warning:
        Logits keep their digits where p is close to 1, and probabilities do not: give the decoder's logits where it
        has them.

    Reference:
        G. Arvanitidis, M. González-Duque, A. Pouplin, D. Kalatzis, S. Hauberg, Pulling back information geometry, 2022.

    Args:
        parameters: What the decoder returns: "logits", the default, or "probabilities". Where it is left out, outputs
            that look like probabilities are refused when geodesics are asked for.

    Raises:
        InputError: `parameters` is no such word.

    Example:
        >>> import torch, geodesic
        >>> geodesic.outputs.FisherRaoBernoulli().embed(torch.tensor([[-1e4, 0.0, 1e4]]))
        tensor([[0.0000, 1.5708, 3.1416]])
    """

    parameters: Literal["logits", "probabilities"] | None = one_of("logits", "probabilities")

    def embed(self, parameters: Tensor) -> Tensor:
        if self.parameters == "probabilities":
            return arcsine(parameters)
        return math.pi / 2 + 2 * torch.atan(torch.tanh(parameters / 4))

    def doubt(self, values: Tensor, last: str) -> str | None:
        fits, looks = bool(((values >= 0) & (values <= 1)).all()), look_like_probabilities(values, last)
        return self.questioned(values, looks, fits, "numbers in [0, 1]")


@OUTPUT_GEOMETRIES.register("fisher_rao_categorical")
@dataclass(frozen=True, repr=False)
class FisherRaoCategorical(TwoWords, OutputGeometry):
    """Fisher-Rao distance between categorical distributions: phi = 2 sqrt p, on a sphere of radius 2.

    p = softmax(l) over the second axis of logits l, (N, K, *event). The chords of a path are those of the sphere.

    Reference:
        G. Arvanitidis, M. González-Duque, A. Pouplin, D. Kalatzis, S. Hauberg, Pulling back information geometry, 2022.

    Args:
        parameters: What the decoder returns: "logits", the default, or "probabilities", which sum to 1 over the second
            axis. Where it is left out, outputs that look like probabilities are refused when geodesics are asked for.

    Raises:
        DecoderError: When called: the parameters have no axis of classes.
        InputError: `parameters` is no such word.

    Example:
        >>> import torch, geodesic
        >>> geodesic.outputs.FisherRaoCategorical().embed(torch.zeros(1, 4))
        tensor([[1., 1., 1., 1.]])
    """

    parameters: Literal["logits", "probabilities"] | None = one_of("logits", "probabilities")

    def embed(self, parameters: Tensor) -> Tensor:
        if parameters.dim() < 2 or parameters.shape[1] < 2:
            raise DecoderError(
                "FisherRaoCategorical: expected logits (N, K, *event) of at least 2 classes from the decoder, got "
                f"{tuple(parameters.shape)}"
            )
        if self.parameters == "probabilities":
            return 2 * root(parameters)
        return 2 * (parameters.log_softmax(dim=1) / 2).exp()

    def doubt(self, values: Tensor, last: str) -> str | None:
        fits = bool((values >= 0).all()) and bool(((values.sum(1) - 1).abs() <= 1e-3).all())
        return self.questioned(values, look_like_classes(values, last), fits, "numbers from 0 on that sum to 1")


@OUTPUT_GEOMETRIES.register("fisher_rao_poisson")
@dataclass(frozen=True, repr=False)
class FisherRaoPoisson(TwoWords, OutputGeometry):
    """Fisher-Rao distance between Poisson distributions: phi = 2 sqrt(rate) = 2 exp(l / 2), from log rates l.

    Reference:
        F. J. Anscombe, The Transformation of Poisson, Binomial and Negative-Binomial Data, 1948.

    Args:
        parameters: What the decoder returns: "log_rates", the default, or "rates", which are refused unless said.

    Raises:
        InputError: `parameters` is no such word.

    Example:
        >>> import torch, geodesic
        >>> print(f"{float(geodesic.outputs.FisherRaoPoisson().embed(torch.tensor([[9.0]]).log())):.3f}")
        6.000
    """

    parameters: Literal["log_rates", "rates"] | None = one_of("log_rates", "rates")

    def embed(self, parameters: Tensor) -> Tensor:
        return 2 * root(parameters) if self.parameters == "rates" else 2 * (parameters / 2).exp()

    def doubt(self, values: Tensor, last: str) -> str | None:
        return self.questioned(values, look_like_rates(values, last), bool((values >= 0).all()), "numbers from 0 on")


@OUTPUT_GEOMETRIES.register("fisher_rao_negative_binomial")
@dataclass(frozen=True, eq=False, repr=False)
class FisherRaoNegativeBinomial(Counts, OutputGeometry):
    """Fisher-Rao distance between negative binomial distributions of given r: phi = 2 sqrt r arcsinh sqrt(mean / r).

    From logits l = log(mean / r): G = J^T diag(r mean / (r + mean)) J, with J their Jacobian. As r grows this becomes
    the Poisson's 2 sqrt(mean).

    Reference:
        F. J. Anscombe, The Transformation of Poisson, Binomial and Negative-Binomial Data, 1948.

    Args:
        total_count: r > 0: one number for all entries, or one for each, in the shape of a row; a tensor or a list. It
            takes on the dtype and the device of the parameters, and keeps its history.

    Raises:
        InputError: `total_count` is not positive and finite.
        DecoderError: When called: the parameters of a row have another shape than `total_count`.

    Example:
        >>> import torch, geodesic
        >>> counts = torch.tensor([1.0, 100.0])  # one a gene
        >>> geodesic.outputs.FisherRaoNegativeBinomial(counts).embed(torch.zeros(1, 2))
        tensor([[ 1.7627, 17.6275]])
    """

    total_count: float | Sequence[Any] | Tensor = field(
        metadata=setting("r: a positive number, or a list of one for each entry", hint=float | tuple[float, ...])
    )

    def embed(self, parameters: Tensor) -> Tensor:
        return 2 * self.root_of_counts(parameters) * arcsinh_of_exponential(parameters / 2)

    def doubt(self, values: Tensor, last: str) -> str | None:
        looks = look_like_rates(values, last)
        return looks and f"its outputs look like means ({looks}), and {self} takes logits, log(mean / total_count)"


@OUTPUT_GEOMETRIES.register("fisher_rao_gaussian")
@dataclass(frozen=True, repr=False)
class FisherRaoGaussian(TwoWords, DistanceGeometry):
    """Fisher-Rao distance between Gaussians with mean and scale: a hyperbolic plane of curvature -1/2 for each entry.

    d^2 = 8 arcsinh^2 sqrt((dmu^2 / 2 + dsigma^2) / (4 sigma_1 sigma_2)),   metric diag(1, 2) / sigma^2 in (mu, sigma)

    There is no embedding, so chords are distances along geodesics of the plane instead of straight lines.

    Reference:
        C. Atkinson, A. F. S. Mitchell, Rao's Distance Measure, 1981.

    Args:
        parameters: What the decoder returns beside the means: "log_scales", the default, or "scales".

    Raises:
        DecoderError: When called: the parameters are not (N, 2, *event), means and log scales.
        InputError: `parameters` is no such word.

    Example:
        >>> import torch, geodesic
        >>> narrow, wide = torch.tensor([[[0.0], [0.0]]]), torch.tensor([[[0.0], [1.0]]])
        >>> geodesic.outputs.FisherRaoGaussian().squared_distance(narrow, wide)
        tensor([2.0000])
    """

    parameters: Literal["log_scales", "scales"] | None = one_of("log_scales", "scales")

    def in_orthonormal_frame(self, parameters: Tensor, tangent: Tensor) -> Tensor:
        _, s = self._mean_and_log_scale(parameters)
        of_log_scale = tangent[:, 1] * (-s).exp() if self.parameters == "scales" else tangent[:, 1]
        return torch.stack([tangent[:, 0] * (-s).exp(), math.sqrt(2) * of_log_scale], dim=1)

    def squared_distance(self, a: Tensor, b: Tensor) -> Float[Tensor, " N"]:
        (mean_a, s_a), (mean_b, s_b) = map(self._mean_and_log_scale, (a, b))
        # With log scales: the squares are taken last, so that narrow scales do not overflow before they must.
        between_means = ((mean_a - mean_b) * (-(s_a + s_b) / 2).exp()).square() / 8
        between_scales = torch.sinh((s_a - s_b) / 2).square()
        return 8 * squared_arcsinh_of_root(between_means + between_scales).flatten(1).sum(1)

    def doubt(self, values: Tensor, last: str) -> str | None:
        return self.questioned_scales(values, last)

    def _mean_and_log_scale(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        mean, scale = mean_and_scale(parameters, "FisherRaoGaussian")
        return mean, scale.log() if self.parameters == "scales" else scale


@OUTPUT_GEOMETRIES.register("features")
@dataclass(frozen=True, eq=False)
class Features(OutputGeometry):
    """Distance between features of the mean: phi = network(mean(parameters)), a perceptual distance.

    Reference:
        S. Laine, Feature-Based Metrics for Exploring the Latent Space of Generative Models, 2018.

    Args:
        network: Row-wise function from means, (N, *event), to features, (N, ...): layers of a classifier, say. A
            module should be in evaluation mode.
        mean: How the decoder's output becomes a mean, as in `Euclidean`.

    Raises:
        DecoderError: The network cannot be called; when called, it does not return one row for each.

    Example:
        >>> import torch, geodesic
        >>> edges = torch.nn.Conv2d(1, 4, 3)
        >>> geodesic.outputs.Features(edges, mean=torch.sigmoid).embed(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 4, 6, 6])
    """

    network: Callable[[Tensor], Tensor]
    mean: Callable[[Tensor], Tensor] = _identity

    def __post_init__(self) -> None:
        if not callable(self.network):
            raise DecoderError(
                f"network: expected a function from (N, *event) to (N, ...), got {type(self.network).__name__}"
            )

    def embed(self, parameters: Tensor) -> Tensor:
        features = self.network(self.mean(parameters))
        if not isinstance(features, Tensor) or features.shape[:1] != parameters.shape[:1]:
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise DecoderError(f"network: expected features (N, ...), one row for each output, got {got}")
        return features

    def doubt(self, values: Tensor, last: str) -> str | None:
        return sigmoid_twice(self.mean, values, last)

    def __repr__(self) -> str:
        return f"Features({getattr(self.network, '__name__', type(self.network).__name__)})"
