"""What a decoder says away from the data: which kinds there are, and their settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from geodesic.checks import require_integer, require_positive
from geodesic.errors import InputError
from geodesic.models.likelihoods import Gaussian, Likelihood
from geodesic.models.uncertain_decoders import BlendedDecoder, RBFScaleDecoder, UncertainDecoder
from geodesic.registry import Registry, setting

__all__ = ["UNCERTAINTIES", "BlendUncertainty", "RBFUncertainty", "Uncertainty", "check_uncertainty"]


class Uncertainty(ABC):
    """What a decoder says away from the training encodings, fitted after training.

    A new kind is one subclass: a frozen dataclass with these three methods, registered in `UNCERTAINTIES`.
    """

    @abstractmethod
    def check(self, likelihood: Likelihood) -> None:
        """Raise `InputError` if decoders of this likelihood have no use for it."""

    @abstractmethod
    def check_rows(self, values: Float[Tensor, "N *event"], likelihood: Likelihood) -> None:
        """Raise `InputError` or `DataError` if it cannot be fitted to these training rows."""

    @abstractmethod
    def wrap(
        self, decoder: nn.Module, latent_size: int, event_shape: tuple[int, ...], likelihood: Likelihood
    ) -> UncertainDecoder:
        """The decoder with the uncertainty around it, not fitted yet."""


UNCERTAINTIES: Registry[Uncertainty] = Registry("uncertainty")
"""Kinds of uncertainty by name: what settings and saved models look up."""


def check_uncertainty(uncertainty: Uncertainty | None, likelihood: Likelihood, decoders: int) -> None:
    """Refuse an uncertainty that does not go with the likelihood, or with so many decoders.

    Raises:
        InputError: With the reason.
    """
    if uncertainty is None:
        return
    if decoders > 1:
        raise InputError(
            "uncertainty: an ensemble shows its uncertainty by its members; use one decoder, or no uncertainty"
        )
    uncertainty.check(likelihood)


@UNCERTAINTIES.register("rbf")
@dataclass(frozen=True)
class RBFUncertainty(Uncertainty):
    """A Gaussian scale that grows away from the encodings: see `RBFScaleDecoder`.

    Args:
        centers: Number of clusters of the training encodings, at least 2.
        width: Of the basis functions, in spreads of the clusters.
        away: The scale far from all encodings, in the units of the data.

    Raises:
        InputError: A number is out of range.
    """

    centers: int = field(default=64, metadata=setting("clusters of the training encodings", ge=2))
    width: float = field(default=1.5, metadata=setting("of the basis functions, in spreads of the clusters", gt=0))
    away: float = field(
        default=1.0, metadata=setting("the scale far from all encodings, in the units of the data", gt=0)
    )

    def __post_init__(self) -> None:
        require_integer("centers", self.centers, least=2)
        require_positive("width", self.width)
        require_positive("away", self.away)

    def check(self, likelihood: Likelihood) -> None:
        """Refuse all but a Gaussian whose scale is one number."""
        _gaussian(likelihood)

    def check_rows(self, values: Float[Tensor, "N *event"], likelihood: Likelihood) -> None:
        """Refuse fewer rows than centers."""
        _require_as_many(values, self.centers)

    def wrap(
        self, decoder: nn.Module, latent_size: int, event_shape: tuple[int, ...], likelihood: Likelihood
    ) -> RBFScaleDecoder:
        """The decoder with another scale, not fitted yet."""
        min_scale = _gaussian(likelihood).min_scale
        return RBFScaleDecoder(decoder, latent_size, event_shape, self.centers, self.width, self.away, min_scale)


@UNCERTAINTIES.register("blend")
@dataclass(frozen=True)
class BlendUncertainty(Uncertainty):
    """Parameters that say nothing away from the encodings: see `BlendedDecoder`.

    Args:
        centers: Number of clusters of the training encodings, at least 2.
        width: Of the kernels, in spreads of the clusters.

    Raises:
        InputError: A number is out of range.
    """

    centers: int = field(default=256, metadata=setting("clusters of the training encodings", ge=2))
    width: float = field(default=0.7, metadata=setting("of the kernels, in spreads of the clusters", gt=0))

    def __post_init__(self) -> None:
        require_integer("centers", self.centers, least=2)
        require_positive("width", self.width)

    def check(self, likelihood: Likelihood) -> None:
        """Every likelihood has parameters that say nothing."""

    def check_rows(self, values: Float[Tensor, "N *event"], likelihood: Likelihood) -> None:
        """Refuse fewer rows than centers, and rows without uninformative parameters."""
        _require_as_many(values, self.centers)
        likelihood.uninformative(values)

    def wrap(
        self, decoder: nn.Module, latent_size: int, event_shape: tuple[int, ...], likelihood: Likelihood
    ) -> BlendedDecoder:
        """The decoder with a blend around it, not fitted yet."""
        shape = likelihood.parameter_shape(event_shape)
        return BlendedDecoder(decoder, latent_size, shape, likelihood.uninformative, self.centers, self.width)


def _gaussian(likelihood: Likelihood) -> Gaussian:
    if not isinstance(likelihood, Gaussian):
        raise InputError(
            f"uncertainty: rbf is a scale, and the likelihood {type(likelihood).__name__} has none; use blend, or a "
            "Gaussian likelihood"
        )
    if likelihood.scale == "per_pixel":
        raise InputError(
            "uncertainty: rbf would replace the scales that per_pixel learns; use the scale learned, or a number"
        )
    return likelihood


def _require_as_many(values: Tensor, centers: int) -> None:
    if centers > len(values):
        raise InputError(
            f"uncertainty.centers: got {centers} clusters of {len(values)} training rows; expected at most "
            f"{len(values)}"
        )
