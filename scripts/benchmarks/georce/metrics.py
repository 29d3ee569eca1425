"""Manifolds that are only a metric, and the pairs between which paths are sought."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geodesic.geometry.chords import MetricManifold
from geodesic.geometry.manifold import Expansion


class Metric(MetricManifold):
    """Any function of z as a metric, with a count of the rows that went through it, forwards or backwards."""

    def __init__(self, metric: Callable[[Tensor], Tensor]) -> None:
        self.metric, self.rows = metric, 0

    def metric_tensor(self, z: Tensor) -> Tensor:
        rows = z.shape[:-1].numel()
        self.rows += rows
        G = self.metric(z)
        if G.requires_grad and not torch._C._functorch.is_functorch_wrapped_tensor(G):
            G.register_hook(lambda _: self._count(rows))
        return G

    def expansion(self, path: Tensor, weights: Tensor | None = None) -> Expansion:
        # One forward and one backward pass, and the tangents of both along 2 d directions.
        before, expansion = self.rows, super().expansion(path, weights)
        self.rows = before + (2 + 4 * path.shape[-1]) * len(path) * (path.shape[1] - 1)
        return expansion

    def _count(self, rows: int) -> None:
        self.rows += rows


@dataclass(frozen=True)
class Problem:
    """A metric and the ends of some pairs, (P, d) each."""

    name: str
    metric: Callable[[Tensor], Tensor]
    start: Tensor
    end: Tensor


def scaled_identity(scale: Tensor, d: int) -> Tensor:
    return scale[..., None, None] * torch.eye(d, dtype=scale.dtype, device=scale.device)


def half_plane(z: Tensor) -> Tensor:
    return scaled_identity(torch.where(z[..., 1] > 0, z[..., 1], torch.nan) ** -2, 2)


def normal(z: Tensor) -> Tensor:
    """Fisher and Rao's metric of normal distributions, by mean and standard deviation."""
    inverse = torch.where(z[..., 1] > 0, z[..., 1], torch.nan) ** -2
    return torch.diag_embed(torch.stack([inverse, 2 * inverse], dim=-1))


def paraboloid(z: Tensor) -> Tensor:
    return torch.eye(2, dtype=z.dtype, device=z.device) + 4 * z[..., :, None] * z[..., None, :]


def torus(z: Tensor) -> Tensor:
    t = z[..., 0]
    return torch.diag_embed(torch.stack([torch.ones_like(t), (2 + t.cos()) ** 2], dim=-1))


def sphere(z: Tensor) -> Tensor:
    return scaled_identity(4 / (1 + z.square().sum(-1)) ** 2, z.shape[-1])


def bump(z: Tensor) -> Tensor:
    return scaled_identity(1 + 50 * (-2 * z.square().sum(-1)).exp(), z.shape[-1])


def inverse_density(centers: Tensor, width: float, floor: float) -> Callable[[Tensor], Tensor]:
    """I / (p(z) + floor), p a mixture of equal normal distributions without its factor."""

    def metric(z: Tensor) -> Tensor:
        square = (z[..., None, :] - centers).square().sum(-1)
        return scaled_identity(1 / ((-square / (2 * width**2)).exp().mean(-1) + floor), z.shape[-1])

    return metric


def local_variance(data: Tensor, width: float, floor: float) -> Callable[[Tensor], Tensor]:
    """The metric of locally adaptive normal distributions: one over the local variance of each coordinate.

    Reference:
        G. Arvanitidis, L. K. Hansen, S. Hauberg, A Locally Adaptive Normal Distribution, 2016.
    """

    def metric(z: Tensor) -> Tensor:
        square = (data - z[..., None, :]) ** 2
        weight = (-square.sum(-1, keepdim=True) / (2 * width**2)).exp()
        return torch.diag_embed(1 / ((weight * square).sum(-2) + floor))

    return metric


def network(d: int, hidden: int = 20, outputs: int = 30) -> Callable[[Tensor], Tensor]:
    """J^T J of a decoder d-20-20-30 with tanh, as a metric and nothing else."""
    A, B, C = (torch.randn(m, n) * (2 / n) ** 0.5 for n, m in ((d, hidden), (hidden, hidden), (hidden, outputs)))

    def metric(z: Tensor) -> Tensor:
        h = (z @ A.mT).tanh()
        k = (h @ B.mT).tanh()
        J = C @ ((1 - k**2)[..., None] * (B @ ((1 - h**2)[..., None] * A)))
        return J.mT @ J

    return metric


def problems(pairs: int, seed: int) -> list[Problem]:
    """All of them, in float64."""
    torch.manual_seed(seed)

    def uniform(low: Sequence[float], high: Sequence[float]) -> tuple[Tensor, Tensor]:
        a, b = (torch.tensor(x) for x in (low, high))
        z = a + (b - a) * torch.rand(2, pairs, len(low))
        return z[0], z[1]

    def gaussian(d: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        z = scale * torch.randn(2, pairs, d)
        return z[0], z[1]

    def among(data: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.stack([torch.randperm(len(data))[:2] for _ in range(pairs)])
        return data[rows[:, 0]], data[rows[:, 1]]

    def arc(d: int) -> Tensor:
        """Fifty noisy points on a half circle."""
        phi = math.pi * torch.rand(50)
        circle = torch.stack([phi.cos(), phi.sin()], dim=-1)
        return torch.nn.functional.pad(circle, (0, d - 2)) + 0.1 * torch.randn(50, d)

    centers = torch.tensor([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.5, 1.0]])
    land = {d: arc(d) for d in (2, 10)}
    return [
        Problem("half plane", half_plane, *uniform([-1, 0.2], [1, 2])),
        Problem("normal", normal, *uniform([-2, 0.2], [2, 2])),
        Problem("paraboloid", paraboloid, *uniform([-1.5, -1.5], [1.5, 1.5])),
        Problem("torus", torus, *uniform([-2, -1], [2, 1])),
        *(Problem(f"sphere, d = {d}", sphere, *gaussian(d, 0.5 * d**-0.5)) for d in (2, 5, 10)),
        Problem("bump", bump, *gaussian(2)),
        Problem("1 / density", inverse_density(centers, 0.4, 0.01), *uniform([-1.3, -0.3], [1.8, 1.3])),
        *(
            Problem(f"local variance, d = {d}", local_variance(land[d], width, 0.01), *among(land[d]))
            for d, width in ((2, 0.15), (10, 0.5))
        ),
        *(Problem(f"network, d = {d}", network(d), *gaussian(d)) for d in (2, 8)),
    ]
