"""Numbers around a mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geodesic.checks import is_number, require_positive
from geodesic.errors import DataError, InputError
from geodesic.geometry.outputs import FisherRaoGaussian
from geodesic.models.likelihoods.likelihood import LIKELIHOODS, InputKind, Likelihood, matched, require_second_axis
from geodesic.models.likelihoods.refusals import refuse, require_some
from geodesic.models.networks.scales import BoundedScale, FixedScale, LearnedScale
from geodesic.models.networks.units import InUnits
from geodesic.registry import setting

__all__ = ["Gaussian"]


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
        min_scale: Lower bound of scales that are learned or fitted. In parts of the standard deviation of the
            entry, or of the channel of an image, where rows are standardized, as they are unless the VAE is made
            with other `inputs`; otherwise in the units of the data.

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
        m, s = matched(self, parameters, x).unbind(1)
        entries = -((x - m) * (-s).exp()).square() / 2 - s - math.log(2 * math.pi) / 2
        return entries.flatten(1).sum(1)

    def mean(self, parameters: Tensor) -> Float[Tensor, "N *event"]:
        """The means m."""
        require_second_axis(parameters, 2, "means and log scales")
        return parameters[:, 0]

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "N *event"]:
        """Draw m + exp(s) * noise."""
        require_second_axis(parameters, 2, "means and log scales")
        m, s = parameters.unbind(1)
        return m + s.exp() * torch.randn(m.shape, generator=generator, dtype=m.dtype, device=m.device)

    def check(self, values: Tensor) -> None:
        """Raise `DataError` unless all values are finite."""
        require_some(values)
        refuse(values, ~values.isfinite(), "Gaussian", "finite values", "remove or replace it")

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

    def constant(self, values: Tensor) -> Float[Tensor, "1 *parameters"]:
        """The mean of each entry and its log scale: its own, one for all, or the one given, as `scale` says."""
        mean, square = values.mean(0, keepdim=True), values.var(0, correction=0, keepdim=True)
        if self.scale == "learned":
            square = square.mean().expand_as(square)
        scale = square.sqrt().clamp_min(self.min_scale)
        if is_number(self.scale):
            scale = torch.full_like(mean, float(self.scale))
        return torch.stack([mean, scale.log()], dim=1)

    def fisher_rao(self) -> FisherRaoGaussian:
        """Hyperbolic planes of means and scales, one for each entry."""
        return FisherRaoGaussian()

    def decoder(
        self,
        make_network: Callable[[tuple[int, ...]], nn.Module],
        event_shape: tuple[int, ...],
        *,
        standardized: bool = False,
    ) -> nn.Module:
        """A network for the means, and for the log scales where they are asked for, with the layer of its scale."""
        units = [InUnits(event_shape)] if standardized else []
        if self.scale == "per_pixel":
            return nn.Sequential(make_network(self.parameter_shape(event_shape)), BoundedScale(self.min_scale), *units)
        if self.scale == "learned":
            return nn.Sequential(make_network(event_shape), LearnedScale(self.min_scale), *units)
        # The scale that is given is in the units of the data already.
        return nn.Sequential(make_network(event_shape), *units, FixedScale(self.scale))

    @property
    def inputs(self) -> InputKind:
        """Standardized rows."""
        return "standardize"

    def begin(self, decoder: nn.Module, values: Tensor) -> None:
        """Have the network of standardized rows start at the mean of each entry, in units of the training rows."""
        for units in _units_of(decoder):
            units.fit(values)

    def constant_log_prob(self, decoder: nn.Module, values: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        """Log density of each row of x, (N,), under the best Gaussian of each entry: one scale is one in the units."""
        values, x, more = values.double(), x.double(), torch.zeros((), dtype=torch.float64)
        if not is_number(self.scale):
            for units in _units_of(decoder)[:1]:  # those of all members of an ensemble are the same
                scale = units.scale.double().to(x.device)
                values, x, more = values / scale, x / scale, scale.log().sum()
        return self._under_constant(values, x) - more.to(x.device)


def _units_of(decoder: nn.Module) -> list[InUnits]:
    """The layer that turns standardized numbers into those of the data, if a decoder has one."""
    return [layer for layer in decoder.modules() if isinstance(layer, InUnits)]
