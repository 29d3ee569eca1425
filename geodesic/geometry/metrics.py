"""Manifolds given by a metric tensor: a function of the user's, or built from data in the latent space."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import require_cloud, require_positive
from geodesic.door.door import Door, visit
from geodesic.geometry.chords import MetricManifold
from geodesic.geometry.memory import comfortable, grouped, rows_within
from geodesic.geometry.period import Period, checked_period, periods_of, said

__all__ = ["DensityManifold", "LocalVarianceManifold", "MetricFunction"]


@final
class MetricFunction(MetricManifold):
    """Latent space with a metric tensor that is given as a function.

    Args:
        metric_tensor: G, from points (*batch, d) to symmetric positive definite matrices (*batch, d, d), with two
            derivatives by autograd. It must treat rows apart.
        period: As in `PullbackManifold`: after how much of each coordinate the metric comes round again.

    Raises:
        InputError: From `solve`, where the metric at an endpoint is not symmetric and positive definite. Pairs whose
            path meets such a place further on end `Status.NOT_FINITE`.

    Example:
        >>> import torch, geodesic
        >>> def half_plane(z):
        ...     return torch.eye(2).expand(*z.shape[:-1], 2, 2) / z[..., 1, None, None] ** 2
        >>> a, b = torch.tensor([0.0, 1.0]), torch.tensor([0.0, 2.0])
        >>> print(f"{float(geodesic.solve(geodesic.MetricFunction(half_plane), a, b).length):.3f}")
        0.693
    """

    def __init__(self, metric_tensor: Callable[[Tensor], Tensor], period: Period | None = None) -> None:
        self._metric_tensor, self.period = metric_tensor, checked_period(period)
        self._door = Door(metric_tensor, (metric_tensor,), metric=True)

    @property
    def door(self) -> Door:
        return self._door

    def metric_tensor(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        with visit() as outermost:
            if outermost and z.numel():  # elsewhere a tool has looked at it
                self.way(z)
            return self._metric_tensor(z)

    def __repr__(self) -> str:
        name = getattr(self._metric_tensor, "__name__", type(self._metric_tensor).__name__)
        return f"MetricFunction({name}{said(self.period)}{self.door.note and f'; {self.door.note}'})"


@final
class LocalVarianceManifold(MetricManifold):
    """The diagonal metric of the locally adaptive normal distribution: paths are short where the data vary.

    G_jj(z) = 1 / (sum over n of w_n(z) (x_nj - z_j)^2 + rho),   w_n(z) = exp(-|x_n - z|^2 / (2 bandwidth^2))

    Far from all points the metric is I / rho.

    Reference:
        G. Arvanitidis, L. K. Hansen, S. Hauberg, A Locally Adaptive Normal Distribution, 2016.

    Args:
        points: Data x_n, (N, d), such as encodings.
        bandwidth: Of the weights, in the units of the points.
        rho: The variance that is assumed where there are no data, in their squared unit.
        period: As in `PullbackManifold`. Differences in a coordinate of period p are then (p / pi) sin(pi (x - z) / p).

    Raises:
        InputError: The points are no finite rows, or a number or a period is not positive.

    Example:
        >>> import torch, geodesic
        >>> manifold = geodesic.LocalVarianceManifold(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), bandwidth=1.0, rho=0.1)
        >>> manifold.metric_tensor(torch.zeros(2)).diagonal()
        tensor([ 0.7616, 10.0000])
    """

    def __init__(self, points: Tensor, bandwidth: float, rho: float = 1e-3, period: Period | None = None) -> None:
        require_cloud("points", points)
        require_positive("bandwidth", bandwidth)
        require_positive("rho", rho)
        self.points, self.bandwidth, self.rho = points.detach(), float(bandwidth), float(rho)
        self.period = checked_period(period)

    def metric_tensor(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        difference = _differences(self.points, z, self.period)
        weights = (-difference.square().sum(-1) / (2 * self.bandwidth**2)).exp()
        variance = (weights[..., None] * difference.square()).sum(-2)
        return torch.diag_embed(1 / (variance + self.rho))

    def __repr__(self) -> str:
        N, d = self.points.shape
        said_so = f"bandwidth={self.bandwidth:g}, rho={self.rho:g}{said(self.period)}"
        return f"LocalVarianceManifold({N} points of size {d}, {said_so})"


@final
class DensityManifold(MetricManifold):
    """A conformal metric from the density of the data: paths are short where data are dense.

    G(z) = (p(z) / p_0 + floor)^(-2/d) I,   p a Gaussian kernel density estimate, p_0 its mean over the points

    Lengths are latent ones where p is p_0 (but for the floor) and at most floor^(-1/d) times as long elsewhere.

    Reference:
        G. Arvanitidis, B. Georgiev, B. Schölkopf, A prior-based approximate latent Riemannian metric, 2022.

    Args:
        points: Data, (N, d), such as encodings.
        bandwidth: Of the kernels, in the units of the points.
        floor: What a place without data counts, as a part of p_0.
        period: As in `PullbackManifold`. Differences in a coordinate of period p are then (p / pi) sin(pi (x - z) / p).

    Raises:
        InputError: The points are no finite rows, or a number or a period is not positive.

    Example:
        >>> import torch, geodesic
        >>> ring = torch.linspace(0, 2 * torch.pi, 101)[:100]
        >>> points = 2 * torch.stack([ring.cos(), ring.sin()], dim=1)
        >>> manifold = geodesic.DensityManifold(points, bandwidth=0.3)
        >>> solution = geodesic.solve(manifold, points[0], points[45])
        >>> bool(solution.path.norm(dim=-1).min() > 1.8)
        True
    """

    def __init__(self, points: Tensor, bandwidth: float, floor: float = 1e-2, period: Period | None = None) -> None:
        require_cloud("points", points)
        require_positive("bandwidth", bandwidth)
        require_positive("floor", floor)
        self.points, self.bandwidth, self.floor = points.detach(), float(bandwidth), float(floor)
        self.period = checked_period(period)
        with torch.no_grad():
            a_row = 3 * self.points.numel() * self.points.element_size()  # differences, their squares, and one more
            logs = grouped(self._log_density, rows_within(a_row, comfortable(points.device)), self.points)
            self._log_mean = float(logs.logsumexp(0)) - math.log(len(self.points))

    def metric_tensor(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        d = z.shape[-1]
        density = (self._log_density(z) - self._log_mean).exp()
        factor = (density + self.floor) ** (-2 / d)
        return factor[..., None, None] * torch.eye(d, dtype=z.dtype, device=z.device)

    def _log_density(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """Up to a constant, which p_0 has too."""
        squared = _differences(self.points, z, self.period).square().sum(-1)
        return (-squared / (2 * self.bandwidth**2)).logsumexp(-1)

    def __repr__(self) -> str:
        N, d = self.points.shape
        said_so = f"bandwidth={self.bandwidth:g}, floor={self.floor:g}{said(self.period)}"
        return f"DensityManifold({N} points of size {d}, {said_so})"


def _differences(
    points: Float[Tensor, "N d"], z: Float[Tensor, "*batch d"], period: Period | None
) -> Float[Tensor, "*batch N d"]:
    """x_n - z; in a coordinate of period p the chord between the two on a circle of this length, with its sign."""
    difference = points.to(z) - z[..., None, :]
    if period is None:
        return difference
    p = periods_of(period, z)
    angle = math.pi / torch.where(p > 0, p, 1) * difference
    return torch.where(p > 0, p / math.pi * angle.sin(), difference)
