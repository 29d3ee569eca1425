"""Spheres: the same positive curvature everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import require_integer, require_positive
from geodesic.geometry.embedded import EmbeddedManifold
from geodesic.geometry.surfaces.coordinates import coordinates, norm, require_size, times, turned
from geodesic.geometry.surfaces.surface import SURFACES, DistanceManifold, SymmetricSurface

__all__ = ["Sphere", "StereographicSphere"]


@SURFACES.register("sphere")
@final
@dataclass(frozen=True, kw_only=True)
class Sphere(EmbeddedManifold, SymmetricSurface, DistanceManifold):
    """The sphere in R^3, by colatitude and longitude z = (theta, phi), 0 < theta < pi.

    x(z) = R (sin theta cos phi, sin theta sin phi, cos theta),   K = 1 / R^2

    Args:
        radius: R, positive.

    Raises:
        InputError: The radius is not a positive number.

    Example:
        >>> import torch, geodesic
        >>> pole, equator = torch.tensor([0.0, 0.0]), torch.tensor([torch.pi / 2, 1.0])
        >>> geodesic.surfaces.Sphere(radius=2.0).distance(pole, equator)
        tensor(3.1416)
    """

    radius: float = 1.0

    def __post_init__(self) -> None:
        require_positive("radius", self.radius)

    def embed(self, z: Tensor) -> Tensor:
        theta, phi = coordinates(z)
        return turned(times(self.radius, theta.sin()), phi, times(self.radius, theta.cos()))

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return z.new_full(z.shape[:-1], 1 / self.radius**2)

    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return (self.radius * z[..., 0].sin()) ** 2 * v[..., 1]

    def distance(self, a: Float[Tensor, "*batch 2"], b: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        middle, _ = coordinates((a + b) / 2)
        delta, psi = coordinates((b - a) / 2)
        # Sine and cosine of half the angle, without the difference of nearly equal numbers that acos would need.
        sine = norm(delta.sin() * psi.cos(), middle.sin() * psi.sin())
        cosine = norm(delta.cos() * psi.cos(), middle.cos() * psi.sin())
        return 2 * self.radius * torch.atan2(sine, cosine)


@SURFACES.register("stereographic_sphere")
@final
@dataclass(frozen=True, kw_only=True)
class StereographicSphere(EmbeddedManifold, DistanceManifold):
    """The unit sphere S^n in R^{n+1}, by stereographic projection from its pole (0, ..., 0, 1) to R^n.

    x(z) = (2 z, |z|^2 - 1) / (|z|^2 + 1),   G = 4 I / (1 + |z|^2)^2

    One chart for all but the pole; all sectional curvatures are 1.

    Args:
        dimension: n, at least 1.

    Raises:
        InputError: The dimension is not a positive integer.

    Example:
        >>> import torch, geodesic
        >>> geodesic.surfaces.StereographicSphere(dimension=3).distance(torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
        tensor(1.5708)
    """

    dimension: int = 2

    def __post_init__(self) -> None:
        require_integer("dimension", self.dimension, least=1)

    def embed(self, z: Tensor) -> Tensor:
        require_size(z, self.dimension)
        square = z.square().sum(-1, keepdim=True)
        return torch.cat([z + z, square - 1], dim=-1) / (square + 1)

    def distance(self, a: Float[Tensor, "*batch d"], b: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        # |x(b) - x(a)| from the chart: exact to rounding also where the points nearly agree.
        scale = ((1 + a.square().sum(-1)) * (1 + b.square().sum(-1))).sqrt()
        chord = 2 * torch.linalg.vector_norm(b - a, dim=-1) / scale
        return 2 * torch.atan2(chord, torch.linalg.vector_norm(self.embed(a) + self.embed(b), dim=-1))
