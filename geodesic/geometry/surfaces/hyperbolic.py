"""The hyperbolic plane, and the part of it that lies in R^3: the curvature is -1 everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.chords import MetricManifold
from geodesic.geometry.embedded import EmbeddedManifold
from geodesic.geometry.surfaces.coordinates import coordinates, norm, turned
from geodesic.geometry.surfaces.surface import SURFACES, DistanceManifold, SymmetricSurface

__all__ = ["HyperbolicPlane", "Pseudosphere"]


@SURFACES.register("hyperbolic_plane")
@final
@dataclass(frozen=True)
class HyperbolicPlane(MetricManifold, SymmetricSurface, DistanceManifold):
    """The upper half plane z = (x, y), y > 0, which no embedding into R^3 gives (Hilbert 1901).

    G = I / y^2,   K = -1,   d = 2 asinh(|b - a| / (2 sqrt(y_a y_b)))

    Geodesics are the half circles round points of the line y = 0, and the vertical lines. Its constant of motion
    is x' / y^2, from translations along x. Outside of the half plane metric and distance are NaN.

    Example:
        >>> import torch, geodesic
        >>> geodesic.surfaces.HyperbolicPlane().distance(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 2.0]))
        tensor(0.6931)
    """

    def metric_tensor(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2 2"]:
        _, y = coordinates(z)
        eye = torch.eye(2, dtype=z.dtype, device=z.device)
        # G is finite again below the line y = 0: without NaN a path could step across it.
        return eye / torch.where(y > 0, y, torch.nan)[..., None, None] ** 2

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return z.new_full(z.shape[:-1], -1.0)

    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return v[..., 0] / z[..., 1] ** 2

    def distance(self, a: Float[Tensor, "*batch 2"], b: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        (_, y_a), (_, y_b) = coordinates(a), coordinates(b)
        # A root for each: that of the product would be real where both points lie below the line.
        return _half_plane_distance(torch.linalg.vector_norm(b - a, dim=-1), y_a.sqrt() * y_b.sqrt())


@SURFACES.register("pseudosphere")
@final
@dataclass(frozen=True)
class Pseudosphere(EmbeddedManifold, SymmetricSurface, DistanceManifold):
    """The tractrix turned round its asymptote, a part of the hyperbolic plane in R^3; z = (t, phi), t > 0.

    x(z) = (cos phi / cosh t, sin phi / cosh t, t - tanh t),   K = -1

    (phi, cosh t) are its coordinates in the upper half plane, above the line y = 1. Half circles between two points
    stay above the lower one, so the distance of the plane is that of the surface.

    Warning:
        At the rim, t = 0, the metric of this chart is singular.

    Example:
        >>> import torch, geodesic
        >>> a, b = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
        >>> geodesic.surfaces.Pseudosphere().distance(a, b), (b.cosh() / a.cosh()).log()[0]
        (tensor(0.8912), tensor(0.8912))
    """

    def embed(self, z: Tensor) -> Tensor:
        t, phi = coordinates(z)
        return turned(1 / t.cosh(), phi, t - t.tanh())

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return z.new_full(z.shape[:-1], -1.0)

    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return v[..., 1] / z[..., 0].cosh() ** 2

    def distance(self, a: Float[Tensor, "*batch 2"], b: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        (t_a, phi_a), (t_b, phi_b) = coordinates(a), coordinates(b)
        rise = 2 * ((t_a + t_b) / 2).sinh() * ((t_b - t_a) / 2).sinh()  # cosh t_b - cosh t_a
        return _half_plane_distance(norm(phi_b - phi_a, rise), (t_a.cosh() * t_b.cosh()).sqrt())


def _half_plane_distance(apart: Tensor, mean_height: Tensor) -> Tensor:
    # asinh, not acosh(1 + ...): that loses near points to rounding and has no gradient at equal ones.
    return 2 * torch.asinh(apart / (2 * mean_height))
