"""Surfaces that unroll: their curvature is 0, though R^3 shows most of them bent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import require_integer, require_positive
from geodesic.errors import InputError
from geodesic.geometry.embedded import EmbeddedManifold
from geodesic.geometry.surfaces.coordinates import coordinates, norm, require_size, times, turned
from geodesic.geometry.surfaces.surface import SURFACES, DistanceManifold, Surface, SymmetricSurface

__all__ = ["Cone", "Cylinder", "FlatTorus", "SwissRoll"]


@SURFACES.register("cylinder")
@final
@dataclass(frozen=True, kw_only=True)
class Cylinder(EmbeddedManifold, SymmetricSurface, DistanceManifold):
    """The round cylinder in R^3, by angle and height z = (phi, h).

    x(z) = (R cos phi, R sin phi, h),   K = 0,   d = |(R (phi_b - phi_a), h_b - h_a)|

    Args:
        radius: R, positive.

    Raises:
        InputError: The radius is not a positive number.

    Example:
        >>> import torch, geodesic
        >>> geodesic.surfaces.Cylinder(radius=2.0).distance(torch.zeros(2), torch.tensor([2.0, 3.0]))
        tensor(5.)
    """

    radius: float = 1.0

    def __post_init__(self) -> None:
        require_positive("radius", self.radius)

    def embed(self, z: Tensor) -> Tensor:
        phi, h = coordinates(z)
        return turned(torch.full_like(phi, self.radius), phi, h)

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return z.new_zeros(z.shape[:-1])

    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return self.radius**2 * v[..., 0]

    def distance(self, a: Float[Tensor, "*batch 2"], b: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        phi, h = coordinates(b - a)
        return norm(self.radius * phi, h)


@SURFACES.register("cone")
@final
@dataclass(frozen=True, kw_only=True)
class Cone(EmbeddedManifold, SymmetricSurface, DistanceManifold):
    """The round cone in R^3, by distance from the tip and angle z = (t, phi), t > 0.

    x(z) = t (sin alpha cos phi, sin alpha sin phi, cos alpha),   K = 0

    Unrolled into the plane, two points are seen from the tip under the angle beta = |phi_b - phi_a| sin alpha. While
    beta < pi the geodesic is a straight line there; from pi on the shortest way leads through the tip and
    its length is t_a + t_b.

    Warning:
        At the tip the metric of this chart is singular: no solver finds a way through it.

    Args:
        half_angle: alpha between axis and side, in radians, in (0, pi/2).

    Raises:
        InputError: The angle is out of range.

    Example:
        >>> import torch, geodesic
        >>> cone = geodesic.surfaces.Cone(half_angle=torch.pi / 6)
        >>> a, b, c = torch.tensor([[1.0, 0.0], [1.0, torch.pi], [1.0, 7.0]])
        >>> cone.distance(a, b), cone.distance(a, c)
        (tensor(1.4142), tensor(2.))
    """

    half_angle: float = math.pi / 6

    def __post_init__(self) -> None:
        if not 0 < self.half_angle < math.pi / 2:
            raise InputError(f"half_angle: expected radians between 0 and pi/2, got {self.half_angle!r}")

    def embed(self, z: Tensor) -> Tensor:
        t, phi = coordinates(z)
        return turned(t * math.sin(self.half_angle), phi, t * math.cos(self.half_angle))

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return z.new_zeros(z.shape[:-1])

    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return (z[..., 0] * math.sin(self.half_angle)) ** 2 * v[..., 1]

    def distance(self, a: Float[Tensor, "*batch 2"], b: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        (t_a, phi_a), (t_b, phi_b) = coordinates(a), coordinates(b)
        beta = ((phi_b - phi_a).abs() * math.sin(self.half_angle)).clamp(max=math.pi)
        # The plane's points under the angles -beta/2 and beta/2; at beta = pi their distance is t_a + t_b.
        return norm((t_b - t_a) * (beta / 2).cos(), (t_b + t_a) * (beta / 2).sin())


@SURFACES.register("swiss_roll")
@final
@dataclass(frozen=True)
class SwissRoll(EmbeddedManifold, Surface, DistanceManifold):
    """A plane rolled up along a spiral of Archimedes in R^3; z = (t, y), t >= 0.

    x(z) = (t cos t, t sin t, y),   K = 0
    d = |(s(t_b) - s(t_a), y_b - y_a)|,   s(t) = (t sqrt(1 + t^2) + asinh t) / 2

    s is the arc length of the spiral.

    Example:
        >>> import torch, geodesic
        >>> geodesic.surfaces.SwissRoll().distance(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))
        tensor(1.1478)
    """

    def embed(self, z: Tensor) -> Tensor:
        t, y = coordinates(z)
        return turned(t, t, y)

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return z.new_zeros(z.shape[:-1])

    def distance(self, a: Float[Tensor, "*batch 2"], b: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        (t_a, y_a), (t_b, y_b) = coordinates(a), coordinates(b)
        s_a, s_b = ((t * (1 + t**2).sqrt() + t.asinh()) / 2 for t in (t_a, t_b))
        return norm(s_b - s_a, y_b - y_a)


@SURFACES.register("flat_torus")
@final
@dataclass(frozen=True, kw_only=True)
class FlatTorus(EmbeddedManifold, DistanceManifold):
    """R^n wound up isometrically in R^{2n}: curved for the eye, flat for who lives there.

    x(z) = (cos k z, sin k z) / k,   G = I,   d = |b - a|

    Args:
        dimension: n, at least 1.
        frequency: k; each coordinate has the period 2 pi / k.

    Raises:
        InputError: The dimension is not a positive integer, or the frequency not a positive number.

    Example:
        >>> import torch, geodesic
        >>> torus, z = geodesic.surfaces.FlatTorus(dimension=3), torch.tensor([1.0, 2.0, 3.0])
        >>> bool(torch.allclose(torus.metric_tensor(z), torch.eye(3)))
        True
    """

    dimension: int = 2
    frequency: float = 1.0

    def __post_init__(self) -> None:
        require_integer("dimension", self.dimension, least=1)
        require_positive("frequency", self.frequency)

    def embed(self, z: Tensor) -> Tensor:
        require_size(z, self.dimension)
        k = self.frequency
        angle = times(k, z)
        return times(1 / k, torch.cat([angle.cos(), angle.sin()], dim=-1))

    def distance(self, a: Float[Tensor, "*batch d"], b: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        require_size(a, self.dimension)
        return torch.linalg.vector_norm(b - a, dim=-1)
