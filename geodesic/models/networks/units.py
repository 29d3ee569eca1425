"""Numbers in the units of the data, and what an encoder is given in their place."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geodesic.errors import DataError
from geodesic.models.networks.network import require_rows

__all__ = ["InUnits", "Log1p", "RowInputs", "Standardize", "location_and_scale", "shared_scale"]


def location_and_scale(values: Float[Tensor, "N *event"]) -> tuple[Tensor, Tensor]:
    """The mean of each entry of rows and its standard deviation, in the shape of a row.

    The channels of an image have one standard deviation each: a pixel at the border, which hardly varies, would
    otherwise count as much as any other. Where nothing varies the scale is 1.

    Args:
        values: The rows, (N, *event).

    Example:
        >>> import torch
        >>> from geodesic.models.networks.units import location_and_scale
        >>> location_and_scale(torch.tensor([[0.0, 5.0], [4.0, 5.0]]))
        (tensor([2., 5.]), tensor([2., 1.]))
    """
    exact = values.double()
    mean = exact.mean(0)
    square = (exact - mean).square().mean(0)
    if square.dim() == 3:
        square = square.mean((1, 2), keepdim=True)
    scale = square.sqrt()
    # What is left of a constant entry after rounding is no scale.
    varies = scale > 4 * torch.finfo(values.dtype).eps * mean.abs()
    return mean.to(values), torch.where(varies, scale, 1.0).expand(mean.shape).to(values)


def shared_scale(values: Float[Tensor, "N *event"]) -> Float[Tensor, ""]:
    """The standard deviation of entries about the mean of each, one for all of them; 1 where nothing varies.

    Example:
        >>> import torch
        >>> from geodesic.models.networks.units import shared_scale
        >>> shared_scale(torch.tensor([[0.0, 50.0], [4.0, 50.0]]).double())
        tensor(1.4142, dtype=torch.float64)
    """
    exact = values.double()
    scale = (exact - exact.mean(0)).square().mean().sqrt()
    return torch.where(scale > 0, scale, 1.0)


class InUnits(nn.Module):
    """Standardized numbers to those of the data: the last layer of a decoder of Gaussians.

        m + a u,   log s + log a

    The mean m and the scale a of each entry are those of the training rows.

    Args:
        event_shape: Shape of one row.

    Example:
        >>> import torch
        >>> from geodesic.models.networks.units import InUnits
        >>> units = InUnits((2,))
        >>> units.fit(torch.tensor([[0.0, 50.0], [4.0, 70.0]]))
        >>> units(torch.zeros(1, 2))
        tensor([[ 2., 60.]])
    """

    location: Tensor
    scale: Tensor

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("location", torch.zeros(event_shape))
        self.register_buffer("scale", torch.ones(event_shape))

    def fit(self, values: Float[Tensor, "N *event"]) -> None:
        """Take the mean and the scale of training rows, (N, *event)."""
        location, scale = location_and_scale(values)
        self.location.copy_(location)
        self.scale.copy_(scale)

    def forward(self, numbers: Tensor) -> Tensor:
        """Means, (N, *event), or means and log scales, (N, 2, *event), of standardized ones of that shape."""
        if numbers.dim() == self.location.dim() + 1:
            return self.location + self.scale * numbers
        mean, log_scale = numbers.unbind(1)
        return torch.stack([self.location + self.scale * mean, log_scale + self.scale.log()], dim=1)


class RowInputs(nn.Module, ABC):
    """What an encoder is given in place of rows. Its numbers come from the training rows and are saved with the model.

    Args:
        event_shape: Shape of one row.
    """

    location: Tensor
    scale: Tensor

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = event_shape
        self.register_buffer("location", torch.zeros(event_shape))
        self.register_buffer("scale", torch.ones(event_shape))

    @abstractmethod
    def fit(self, values: Float[Tensor, "N *event"]) -> None:
        """Take its numbers from training rows, (N, *event)."""

    def forward(self, x: Tensor) -> Float[Tensor, "N *event"]:
        """(f(x) - m) / a, with the mean m and the scale a of the training rows."""
        require_rows(x, self.event_shape)
        return (self.before(x) - self.location) / self.scale

    @abstractmethod
    def before(self, x: Float[Tensor, "N *event"]) -> Float[Tensor, "N *event"]:
        """f(x)."""

    @abstractmethod
    def check(self, values: Tensor) -> None:
        """Raise `DataError` if rows hold values that it cannot take."""


class Standardize(RowInputs):
    """Rows whose entries have mean 0 and standard deviation 1, one a channel for images.

    Example:
        >>> import torch
        >>> from geodesic.models.networks.units import Standardize
        >>> inputs = Standardize((2,))
        >>> inputs.fit(torch.tensor([[0.0, 50.0], [4.0, 70.0]]))
        >>> inputs(torch.tensor([[4.0, 50.0]]))
        tensor([[ 1., -1.]])
    """

    def fit(self, values: Float[Tensor, "N *event"]) -> None:
        location, scale = location_and_scale(values)
        self.location.copy_(location)
        self.scale.copy_(scale)

    def before(self, x: Float[Tensor, "N *event"]) -> Float[Tensor, "N *event"]:
        return x

    def check(self, values: Tensor) -> None:
        """All finite rows will do."""


class Log1p(RowInputs):
    """Logarithms of counts, log(1 + x), about their means and in one scale for all entries.

    One scale, because the logarithm has made entries comparable: one of its own would make the noise of an entry
    that hardly varies as large as what varies.

    Args:
        event_shape: Shape of one row.
        by_row: Rows are brought to the same total first, the mean of the training rows.

    Example:
        >>> import torch
        >>> from geodesic.models.networks.units import Log1p
        >>> inputs = Log1p((2,), by_row=True)
        >>> inputs.fit(torch.tensor([[1.0, 3.0], [6.0, 2.0]]))
        >>> torch.equal(inputs(torch.tensor([[1.0, 3.0]])), inputs(torch.tensor([[10.0, 30.0]])))
        True
    """

    total: Tensor

    def __init__(self, event_shape: tuple[int, ...], by_row: bool = False) -> None:
        super().__init__(event_shape)
        self.by_row = by_row
        if by_row:
            self.register_buffer("total", torch.ones(()))

    def fit(self, values: Float[Tensor, "N *event"]) -> None:
        if self.by_row:
            self.total.copy_(values.double().flatten(1).sum(1).mean())
        logarithms = self.before(values)
        self.location.copy_(logarithms.double().mean(0))
        self.scale.copy_(shared_scale(logarithms))

    def before(self, x: Float[Tensor, "N *event"]) -> Float[Tensor, "N *event"]:
        if self.by_row:
            # A row of zeros stays one.
            total = x.flatten(1).sum(1).clamp_min(torch.finfo(x.dtype).tiny)
            x = x * (self.total / total).reshape(-1, *[1] * (x.dim() - 1))
        return x.log1p()

    def check(self, values: Tensor) -> None:
        """Raise `DataError` unless all values are above -1."""
        low = values.min().item()
        if not low > -1:
            raise DataError(
                f"inputs: log1p takes numbers above -1, got {low:.6g}; say standardize or none instead (in settings, "
                "model.inputs)"
            )
