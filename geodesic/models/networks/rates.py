"""Rates of counts: last layers of a decoder of Poisson or negative binomial parameters."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

__all__ = ["LogRates", "OverCounts"]

_HIGHEST = 80.0  # exp of it is finite in float32
_ABOVE = 5.0  # log rates may go so far beyond that of the largest count
_SMALLEST_COUNT, _LARGEST_COUNT = math.log(1e-3), math.log(1e5)
_PACE = 10.0  # one number for all rows has to go farther than a weight in as many steps of Adam


class LogRates(nn.Module):
    """A network's numbers u, (N, *event), to log rates that begin at those of the data and are bounded from above.

        l = b - log(1 + exp(b - m - a u)),   which is about m + a u far below b

    The offset m of each entry is that of a constant model. The scale a is that of the logarithms of the counts: a new
    network, whose numbers are about 1, is then neither far from the data nor blind to them. The bound b lies well above
    the largest count: one latent point far out would otherwise have a rate that overflows, and its gradient would take
    all weights along.

    Args:
        event_shape: Shape of one row.
        by_row: Rates are those of a row of a given total count; `total` holds it.

    Example:
        >>> import torch
        >>> from geodesic.models.networks.rates import LogRates
        >>> rates = LogRates((2,))
        >>> rates.fit(torch.tensor([0.0, 3.0]), scale=torch.tensor(1.0), highest=torch.tensor(4.0))
        >>> rates(torch.tensor([[1.0, 0.0], [1.0, 1.0e4]])).round(decimals=1)
        tensor([[1., 3.],
                [1., 9.]])
    """

    offset: Tensor
    scale: Tensor
    bound: Tensor
    total: Tensor

    def __init__(self, event_shape: tuple[int, ...], by_row: bool = False) -> None:
        super().__init__()
        self.register_buffer("offset", torch.zeros(event_shape))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("bound", torch.tensor(_HIGHEST))
        if by_row:
            self.register_buffer("total", torch.ones(()))

    def fit(self, offset: Float[Tensor, "*event"], scale: Float[Tensor, ""], highest: Float[Tensor, ""]) -> None:
        """Take the offset of each entry, the scale, and the log rate of the largest count."""
        self.offset.copy_(offset)
        self.scale.copy_(scale)
        self.bound.copy_((highest + _ABOVE).clamp_max(_HIGHEST))

    def forward(self, u: Float[Tensor, "N *event"]) -> Float[Tensor, "N *event"]:
        """Log rates."""
        # torch's softplus is linear from its threshold on, where rounding makes no difference yet.
        return self.bound - softplus(self.bound - self.offset - self.scale * u, threshold=40)


class OverCounts(nn.Module):
    """Log rates to logits of negative binomials whose r is learned, one for each entry: log rate - log r.

    The mean is that of the log rate whatever r is. r stays between 0.001 and 100,000, beyond which it is a Poisson
    distribution for all counts that single precision can tell apart.

    Args:
        event_shape: Shape of one row.

    Example:
        >>> import torch
        >>> from geodesic.models.networks.rates import OverCounts
        >>> counts = OverCounts((2,))
        >>> counts.fit(torch.tensor([1.0, 100.0]))
        >>> counts.total_count().detach().round()
        tensor([  1., 100.])
    """

    begin: Tensor

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("begin", torch.zeros(event_shape))
        self.free = nn.Parameter(torch.zeros(event_shape))

    def fit(self, total_count: Float[Tensor, "*event"]) -> None:
        """Begin at an r of each entry."""
        with torch.no_grad():
            self.begin.copy_(total_count.log())

    def log_total_count(self) -> Float[Tensor, "*event"]:
        """Log r, within its bounds."""
        free = self.begin + _PACE * self.free
        low = _SMALLEST_COUNT + softplus(free - _SMALLEST_COUNT, threshold=40)
        return _LARGEST_COUNT - softplus(_LARGEST_COUNT - low, threshold=40)

    def total_count(self) -> Float[Tensor, "*event"]:
        """The r of each entry."""
        return self.log_total_count().exp()

    def forward(self, log_rates: Float[Tensor, "N *event"]) -> Float[Tensor, "N *event"]:
        """Logits."""
        return log_rates - self.log_total_count()
