"""Surfaces of R^3 whose curvature is not the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import require_positive
from geodesic.errors import InputError
from geodesic.geometry.embedded import EmbeddedManifold
from geodesic.geometry.surfaces.coordinates import coordinates, times, turned
from geodesic.geometry.surfaces.surface import SURFACES, Surface, SymmetricSurface

__all__ = ["Catenoid", "Helicoid", "Paraboloid", "Saddle", "Torus"]


@SURFACES.register("paraboloid")
@final
@dataclass(frozen=True, kw_only=True)
class Paraboloid(EmbeddedManifold, SymmetricSurface):
    """The bowl over the plane z = (x, y) in R^3.

    x(z) = (x, y, a (x^2 + y^2)),   K = 4 a^2 / (1 + 4 a^2 r^2)^2,   r^2 = x^2 + y^2

    Its constant of motion is the angular momentum x y' - y x'.

    Args:
        steepness: a, positive.

    Raises:
        InputError: The steepness is not a positive number.

    Example:
        >>> import torch, geodesic
        >>> geodesic.surfaces.Paraboloid(steepness=0.5).gaussian_curvature(torch.tensor([1.0, 0.0]))
        tensor(0.2500)
    """

    steepness: float = 1.0

    def __post_init__(self) -> None:
        require_positive("steepness", self.steepness)

    def embed(self, z: Tensor) -> Tensor:
        x, y = coordinates(z)
        return torch.stack([x, y, times(self.steepness, x.square() + y.square())], dim=-1)

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        a = self.steepness
        return 4 * a**2 / (1 + 4 * a**2 * z.square().sum(-1)) ** 2

    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return z[..., 0] * v[..., 1] - z[..., 1] * v[..., 0]


@SURFACES.register("saddle")
@final
@dataclass(frozen=True, kw_only=True)
class Saddle(EmbeddedManifold, Surface):
    """The hyperbolic paraboloid over the plane z = (x, y) in R^3.

    x(z) = (x, y, a (x^2 - y^2)),   K = -4 a^2 / (1 + 4 a^2 r^2)^2,   r^2 = x^2 + y^2

    Args:
        steepness: a, positive.

    Raises:
        InputError: The steepness is not a positive number.

    Example:
        >>> import torch, geodesic
        >>> geodesic.surfaces.Saddle(steepness=0.5).gaussian_curvature(torch.tensor([1.0, 0.0]))
        tensor(-0.2500)
    """

    steepness: float = 1.0

    def __post_init__(self) -> None:
        require_positive("steepness", self.steepness)

    def embed(self, z: Tensor) -> Tensor:
        x, y = coordinates(z)
        return torch.stack([x, y, times(self.steepness, x.square() - y.square())], dim=-1)

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        a = self.steepness
        return -4 * a**2 / (1 + 4 * a**2 * z.square().sum(-1)) ** 2


@SURFACES.register("torus")
@final
@dataclass(frozen=True, kw_only=True)
class Torus(EmbeddedManifold, SymmetricSurface):
    """The ring in R^3, by the angle round its tube and the angle round its axis z = (t, phi).

    x(z) = ((R + r cos t) cos phi, (R + r cos t) sin phi, r sin t),   K = cos t / (r (R + r cos t))

    Args:
        major_radius: R, from the axis to the middle of the tube.
        minor_radius: r of the tube, below R.

    Raises:
        InputError: A radius is not a positive number, or the tube is too thick for the ring.

    Example:
        >>> import torch, geodesic
        >>> outside, inside = torch.tensor([0.0, 0.0]), torch.tensor([torch.pi, 0.0])
        >>> torus = geodesic.surfaces.Torus(major_radius=2.0, minor_radius=1.0)
        >>> torus.gaussian_curvature(torch.stack([outside, inside]))
        tensor([ 0.3333, -1.0000])
    """

    major_radius: float = 2.0
    minor_radius: float = 1.0

    def __post_init__(self) -> None:
        require_positive("major_radius", self.major_radius)
        require_positive("minor_radius", self.minor_radius)
        if self.minor_radius >= self.major_radius:
            raise InputError(
                f"minor_radius: expected less than the major radius, {self.major_radius!r}, got {self.minor_radius!r}"
            )

    def embed(self, z: Tensor) -> Tensor:
        t, phi = coordinates(z)
        return turned(self._distance_from_axis(t), phi, times(self.minor_radius, t.sin()))

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        t, _ = coordinates(z)
        return t.cos() / (self.minor_radius * self._distance_from_axis(t))

    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return self._distance_from_axis(z[..., 0]) ** 2 * v[..., 1]

    def _distance_from_axis(self, t: Tensor) -> Tensor:
        return self.major_radius + times(self.minor_radius, t.cos())


@SURFACES.register("catenoid")
@final
@dataclass(frozen=True, kw_only=True)
class Catenoid(EmbeddedManifold, SymmetricSurface):
    """The minimal surface of revolution in R^3, by height and angle z = (t, phi).

    x(z) = (c cosh(t/c) cos phi, c cosh(t/c) sin phi, t),   K = -1 / (c^2 cosh^4(t/c))

    Args:
        waist: c, the smallest distance from the axis, positive.

    Raises:
        InputError: The waist is not a positive number.

    Example:
        >>> import torch, geodesic
        >>> geodesic.surfaces.Catenoid(waist=2.0).gaussian_curvature(torch.zeros(2))
        tensor(-0.2500)
    """

    waist: float = 1.0

    def __post_init__(self) -> None:
        require_positive("waist", self.waist)

    def embed(self, z: Tensor) -> Tensor:
        t, phi = coordinates(z)
        return turned(self._distance_from_axis(t), phi, t)

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        t, _ = coordinates(z)
        return -(self.waist**2) / self._distance_from_axis(t) ** 4

    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return self._distance_from_axis(z[..., 0]) ** 2 * v[..., 1]

    def _distance_from_axis(self, t: Tensor) -> Tensor:
        return times(self.waist, (t / self.waist).cosh())


@SURFACES.register("helicoid")
@final
@dataclass(frozen=True, kw_only=True)
class Helicoid(EmbeddedManifold, SymmetricSurface):
    """The spiral staircase in R^3, by the signed distance from its axis and the angle z = (t, phi).

    x(z) = (t cos phi, t sin phi, c phi),   G = diag(1, c^2 + t^2),   K = -c^2 / (c^2 + t^2)^2

    Its constant of motion is (c^2 + t^2) phi', from screws round the axis.

    Args:
        rise: c, the height gained per radian, positive.

    Raises:
        InputError: The rise is not a positive number.

    Example:
        >>> import torch, geodesic
        >>> geodesic.surfaces.Helicoid(rise=2.0).gaussian_curvature(torch.zeros(2))
        tensor(-0.2500)
    """

    rise: float = 1.0

    def __post_init__(self) -> None:
        require_positive("rise", self.rise)

    def embed(self, z: Tensor) -> Tensor:
        t, phi = coordinates(z)
        return turned(t, phi, times(self.rise, phi))

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        t, _ = coordinates(z)
        return -(self.rise**2) / (self.rise**2 + t**2) ** 2

    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return (self.rise**2 + z[..., 0] ** 2) * v[..., 1]
