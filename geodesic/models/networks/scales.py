"""Where the scale of a Gaussian comes from: a last layer of the decoder.

A Gaussian's parameters are means and log scales, (N, 2, *event). What a network has too few of, or too freely,
comes from here.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from geodesic.checks import require_positive
from geodesic.errors import InputError

__all__ = ["BoundedScale", "FixedScale", "LearnedScale"]


class FixedScale(nn.Module):
    """Means, (N, *event), with a given scale beside them: parameters of a Gaussian, (N, 2, *event).

    Args:
        scale: Standard deviation of every entry, positive.

    Raises:
        InputError: The scale is not positive and finite.

    Example:
        >>> import torch
        >>> from geodesic.models.networks.scales import FixedScale
        >>> FixedScale(0.1)(torch.zeros(3, 1, 8, 8))[:, 1].exp().unique()
        tensor([0.1000])
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.log_scale = _log_of_scale("scale", scale)

    def forward(self, mean: Tensor) -> Float[Tensor, "N 2 *event"]:
        """Means and log scales."""
        return torch.stack([mean, torch.full_like(mean, self.log_scale)], dim=1)


class LearnedScale(nn.Module):
    """Means, (N, *event), with one scale beside them that is learned: parameters of a Gaussian, (N, 2, *event).

        sigma = min_scale + exp(u)

    u is a weight that begins at 0.

    Reference:
        O. Rybkin, K. Daniilidis, S. Levine, Simple and Effective VAE Training with Calibrated Decoders, 2021.

    Args:
        min_scale: Lower bound of the scale, positive.

    Raises:
        InputError: The bound is not positive and finite.

    Example:
        >>> import torch
        >>> from geodesic.models.networks.scales import LearnedScale
        >>> LearnedScale(min_scale=0.5)(torch.zeros(3, 1, 8, 8))[:, 1].exp().unique()
        tensor([1.5000], grad_fn=<Unique2Backward0>)
    """

    def __init__(self, min_scale: float) -> None:
        super().__init__()
        self.log_min_scale = _log_of_scale("min_scale", min_scale)
        self.free_log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, mean: Tensor) -> Float[Tensor, "N 2 *event"]:
        """Means and log scales."""
        log_scale = _bounded(self.free_log_scale, self.log_min_scale)
        return torch.stack([mean, log_scale.expand_as(mean)], dim=1)


class BoundedScale(nn.Module):
    """Means m and free numbers u, (N, 2, *event), to means and log scales that are bounded from below.

        sigma = min_scale + exp(u)

    Without a bound the likelihood has none: where a pixel never varies, as at the border of MNIST, its scale
    would go to 0 and its density to infinity.

    Args:
        min_scale: Lower bound of the scales, positive.

    Raises:
        InputError: The bound is not positive and finite; when called, there are not two numbers for each entry.

    Example:
        >>> import torch
        >>> from geodesic.models.networks.scales import BoundedScale
        >>> BoundedScale(min_scale=0.01)(torch.full((1, 2, 1), -1.0e4)).exp()
        tensor([[[0.0000],
                 [0.0100]]])
    """

    def __init__(self, min_scale: float) -> None:
        super().__init__()
        self.log_min_scale = _log_of_scale("min_scale", min_scale)

    def forward(self, parameters: Tensor) -> Float[Tensor, "N 2 *event"]:
        """Means and log scales."""
        if parameters.ndim < 2 or parameters.shape[1] != 2:
            raise InputError(f"parameters: expected (N, 2, *event), got {tuple(parameters.shape)}")
        mean, free = parameters.unbind(1)
        return torch.stack([mean, _bounded(free, self.log_min_scale)], dim=1)


def _log_of_scale(name: str, scale: float) -> float:
    require_positive(name, scale)
    return math.log(scale)


def _bounded(free: Tensor, log_min_scale: float) -> Tensor:
    """log(min_scale + exp(u)), which is smooth; torch's softplus is linear from its threshold on."""
    return log_min_scale + softplus(free - log_min_scale, threshold=40)
