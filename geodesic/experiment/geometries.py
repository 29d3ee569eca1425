"""The geometries that settings can name: from a model to a manifold.

What is registered in `OUTPUT_GEOMETRIES` can be named too; here are those that are more than one of these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from geodesic.adapters.imported import import_network
from geodesic.checks import require_integer, require_positive
from geodesic.errors import InputError, SettingsError
from geodesic.experiment.model import Model
from geodesic.experiment.settings.section import FUNCTION
from geodesic.geometry.ensembles import EnsembleManifold, IndependentEnsembleManifold
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.metrics import DensityManifold, LocalVarianceManifold
from geodesic.geometry.outputs import (
    OUTPUT_GEOMETRIES,
    DistanceGeometry,
    Euclidean,
    ExpectedGaussian,
    Features,
    OutputGeometry,
)
from geodesic.geometry.parameters import TwoWords
from geodesic.geometry.pullback import PullbackManifold
from geodesic.models.likelihoods import Gaussian
from geodesic.registry import Registry, setting

__all__ = [
    "GEOMETRIES",
    "Context",
    "DensityGeometry",
    "EuclideanGeometry",
    "ExpectedGeometry",
    "FeaturesGeometry",
    "FisherRaoGeometry",
    "Geometry",
    "LocalVarianceGeometry",
    "NaturalGeometry",
]


@dataclass(frozen=True)
class Context:
    """What a geometry is made from.

    Args:
        model: The decoders.
        device: Where they are.
        dtype: Their precision.
        encodings: Gives the latent points of the training rows, (N, d), or None where there are none.
        independent: Whether the members of an ensemble are drawn anew at every point.
    """

    model: Model
    device: torch.device
    dtype: torch.dtype
    encodings: Callable[[], Tensor | None]
    independent: bool = False

    def pull_back(self, outputs: OutputGeometry | DistanceGeometry) -> Manifold:
        """The latent space with a geometry of the decoder's outputs, or of its members' outputs.

        Raises:
            SettingsError: An ensemble, or `independent`, does not go with it.
        """
        decoders = self.model.decoders
        if len(decoders) == 1:
            if self.independent:
                raise SettingsError(
                    "geodesic.members: 'independent' is about the members of an ensemble, and this model has one "
                    "decoder; train one with model.decoders=4, or leave members at 'same'"
                )
            return PullbackManifold(decoders[0], outputs, period=self.model.period)
        if isinstance(outputs, DistanceGeometry):
            raise SettingsError(
                "geodesic.geometry: fisher_rao of a Gaussian likelihood has no embedding, which the geometry of an "
                "ensemble is made from; use euclidean, or expected where the scale varies"
            )
        kind = IndependentEnsembleManifold if self.independent else EnsembleManifold
        return kind(decoders, outputs, period=self.model.period)


class Geometry(ABC):
    """A geometry of the latent space, as settings describe it.

    A new kind is one subclass: a frozen dataclass with `build`, registered in `GEOMETRIES`.
    """

    @abstractmethod
    def build(self, context: Context) -> Manifold:
        """The manifold.

        Raises:
            SettingsError: The model does not have what the geometry needs.
            CheckpointError: Weights cannot be read.
        """


GEOMETRIES: Registry[Geometry] = Registry("geometry")
"""Kinds of geometries by name, beside those of `OUTPUT_GEOMETRIES`."""


@GEOMETRIES.register("euclidean")
@dataclass(frozen=True)
class EuclideanGeometry(Geometry):
    """Distance between means: see `geodesic.outputs.Euclidean`."""

    def build(self, context: Context) -> Manifold:
        """The means are those of the model's likelihood."""
        return context.pull_back(Euclidean(mean=context.model.output_mean))


@GEOMETRIES.register("expected")
@dataclass(frozen=True)
class ExpectedGeometry(Geometry):
    """The expected metric of random outputs, for a Gaussian likelihood: see `geodesic.outputs.ExpectedGaussian`."""

    def build(self, context: Context) -> Manifold:
        """Refused where there is no scale, or none that varies."""
        likelihood = context.model.likelihood
        if not isinstance(likelihood, Gaussian):
            found = "a decoder without a likelihood" if likelihood is None else type(likelihood).__name__
            raise SettingsError(
                "geodesic.geometry: expected is the metric of outputs with a mean and a scale, so it needs "
                f"model.likelihood: gaussian, got {found}"
            )
        if not context.model.varying_scale:
            raise SettingsError(
                "geodesic.geometry: with a scale that is the same everywhere, expected is the metric euclidean; set "
                "model.uncertainty: rbf or model.likelihood.scale: per_pixel, or use euclidean"
            )
        return context.pull_back(ExpectedGaussian())


@GEOMETRIES.register("fisher_rao")
@dataclass(frozen=True)
class FisherRaoGeometry(Geometry):
    """Fisher-Rao distance between the distributions of outputs, whichever suits the likelihood.

    Args:
        parameters: What a decoder of one's own returns, if it is not what the likelihood's name stands for:
            "probabilities" instead of logits, say; see the geometries of `geodesic.outputs`.
    """

    parameters: Literal["logits", "probabilities", "log_rates", "rates", "log_scales", "scales"] | None = field(
        default=None,
        metadata=setting("what the decoder returns: probabilities, rates or scales; null: logits or logarithms"),
    )

    def build(self, context: Context) -> Manifold:
        """The likelihood names its own."""
        likelihood = context.model.likelihood
        if likelihood is None:
            raise SettingsError(
                "geodesic.geometry: fisher_rao needs to know what the decoder's outputs mean; set model.likelihood, "
                "such as bernoulli for logits; natural is for decoders that return distributions"
            )
        try:
            outputs = likelihood.fisher_rao()
        except InputError as error:
            raise SettingsError(f"geodesic.geometry: {error}") from None
        return context.pull_back(outputs if self.parameters is None else self._said(outputs))

    def _said(self, outputs: OutputGeometry | DistanceGeometry) -> OutputGeometry | DistanceGeometry:
        """The geometry that takes the parameters that the settings name."""
        choice: tuple[str, ...] = outputs.words() if isinstance(outputs, TwoWords) else ()
        if self.parameters not in choice:
            raise SettingsError(
                f"geodesic.geometry.parameters: expected {' or '.join(choice) or 'null'} for {outputs}, got "
                f"{self.parameters}"
            )
        return OUTPUT_GEOMETRIES.make(OUTPUT_GEOMETRIES.kind_of(outputs), parameters=self.parameters)


@GEOMETRIES.register("natural")
@dataclass(frozen=True)
class NaturalGeometry(Geometry):
    """The geometry that suits what a decoder of one's own returns, a distribution say: see `geodesic.wrap`."""

    def build(self, context: Context) -> Manifold:
        """Of a VAE that was trained here the likelihood names it."""
        outputs = context.model.natural
        if outputs is None or context.model.likelihood is not None:
            raise SettingsError(
                "geodesic.geometry: natural is for a decoder of one's own that says what it returns; where there is a "
                "likelihood use fisher_rao, or euclidean"
            )
        return context.pull_back(outputs)


@GEOMETRIES.register("features")
@dataclass(frozen=True)
class FeaturesGeometry(Geometry):
    """Distance between a network's features of the means: see `geodesic.outputs.Features`.

    Args:
        network: `package.module:function` that makes the network.
        weights: safetensors file loaded into the network.
    """

    network: Annotated[str, Field(pattern=FUNCTION)] = field(
        metadata=setting("`package.module:function` that makes the network")
    )
    weights: str | None = field(default=None, metadata=setting("safetensors file loaded into the network"))

    def build(self, context: Context) -> Manifold:
        """The network is made in the precision of the model."""
        where = context.device, context.dtype
        network = import_network("geodesic.geometry.network", self.network, self.weights, *where)
        return context.pull_back(Features(network, mean=context.model.output_mean))


@dataclass(frozen=True)
class _OfPoints(Geometry):
    """A geometry that is made from encodings, and looks at no decoder."""

    bandwidth: float | None = field(default=None, metadata=setting("null: Scott's rule", gt=0))
    points: int = field(default=1000, metadata=setting("first so many training rows", ge=2))

    def __post_init__(self) -> None:
        if self.bandwidth is not None:
            require_positive("bandwidth", self.bandwidth)
        require_integer("points", self.points, least=2)

    def encodings(self, context: Context) -> tuple[Float[Tensor, "N d"], float]:
        """The points, and the bandwidth of their kernels."""
        kind = GEOMETRIES.kind_of(self)
        if context.independent:
            raise SettingsError(f"geodesic.members: the geometry {kind} looks at no decoder; leave it at 'same'")
        encodings = context.encodings()
        if encodings is None:
            raise SettingsError(
                f"geodesic.geometry: {kind} is made from encodings of the training rows, so it needs data and an "
                "encoder"
            )
        points = encodings[: self.points]
        return points, self.bandwidth or _scott(points)


@GEOMETRIES.register("local_variance")
@dataclass(frozen=True)
class LocalVarianceGeometry(_OfPoints):
    """A diagonal metric of the training encodings: see `geodesic.LocalVarianceManifold`.

    Args:
        bandwidth: Of the kernels, in latent units; None: Scott's rule.
        rho: The variance that is assumed where there are no data, in squared latent units.
        points: So many of the training rows, from the first.
    """

    rho: float = field(default=1e-3, metadata=setting("the variance that is assumed where there are no data", gt=0))

    def build(self, context: Context) -> Manifold:
        """The metric is large where there are few points."""
        return LocalVarianceManifold(*self.encodings(context), self.rho, period=context.model.period)


@GEOMETRIES.register("density")
@dataclass(frozen=True)
class DensityGeometry(_OfPoints):
    """A conformal metric of the density of the training encodings: see `geodesic.DensityManifold`.

    Args:
        bandwidth: Of the kernels, in latent units; None: Scott's rule.
        floor: What a place without data counts, as a part of the mean density.
        points: So many of the training rows, from the first.
    """

    floor: float = field(
        default=1e-2, metadata=setting("what a place without data counts, as a part of the mean density", gt=0)
    )

    def build(self, context: Context) -> Manifold:
        """The metric is large where the density is small."""
        return DensityManifold(*self.encodings(context), self.floor, period=context.model.period)


def _scott(points: Float[Tensor, "N d"]) -> float:
    """Scott's rule of thumb: the root mean variance, times N^(-1 / (d + 4))."""
    N, d = points.shape
    return float(points.var(0).mean().sqrt()) * N ** (-1 / (d + 4))
