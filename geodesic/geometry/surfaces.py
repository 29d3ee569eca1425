"""Manifolds of which closed forms are known: curvatures, distances, constants of motion. For tests and teaching."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import require_integer, require_positive
from geodesic.errors import InputError
from geodesic.geometry.chords import MetricManifold
from geodesic.geometry.embedded import EmbeddedManifold
from geodesic.geometry.manifold import Manifold
from geodesic.registry import Registry

__all__ = [
    "SURFACES",
    "Catenoid",
    "Cone",
    "Cylinder",
    "DistanceManifold",
    "FlatTorus",
    "Helicoid",
    "HyperbolicPlane",
    "Paraboloid",
    "Pseudosphere",
    "Saddle",
    "Sphere",
    "StereographicSphere",
    "Surface",
    "SwissRoll",
    "SymmetricSurface",
    "Torus",
]


class DistanceManifold(Manifold):
    """A manifold whose geodesic distance has a closed form.

    The distance belongs to the chart: where an angle can wind, as on a cylinder, a cone, a pseudosphere or a flat
    torus, it is that of the universal cover, and points 2 pi apart in the angle are different points. This is what
    a path that begins as the straight line of the chart can reach; give its `embed` to
    `PullbackManifold` with a `period` to close it.
    """

    @abstractmethod
    def distance(self, a: Float[Tensor, "*batch d"], b: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """d(a, b), (*batch,), between points, (*batch, d). At equal points its gradient is taken to be zero."""


class Surface(Manifold):
    """A manifold of two dimensions whose Gaussian curvature has a closed form."""

    @abstractmethod
    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        """K(z), (*batch,), at points z, (*batch, 2)."""


class SymmetricSurface(Surface):
    """A surface that a family of motions maps to itself: rotations, screws or translations.

    Reference:
        A. C. Clairaut, Détermination géométrique de la perpendiculaire à la méridienne, 1733.
    """

    @abstractmethod
    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        """xi^T G(z) v, (*batch,), xi the velocity of the motions: it is constant along every geodesic.

        For rotations by phi this is Clairaut's r^2 phi', with r the distance from the axis.

        Args:
            z: Points, (*batch, 2).
            v: Velocities there, (*batch, 2).
        """


#: Manifolds of which a closed form is known, by kind: what tests of laws run over.
SURFACES: Registry[Manifold] = Registry("surface")


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
        theta, phi = _coordinates(z)
        return _turned(_times(self.radius, theta.sin()), phi, _times(self.radius, theta.cos()))

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return z.new_full(z.shape[:-1], 1 / self.radius**2)

    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return (self.radius * z[..., 0].sin()) ** 2 * v[..., 1]

    def distance(self, a: Float[Tensor, "*batch 2"], b: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        middle, _ = _coordinates((a + b) / 2)
        delta, psi = _coordinates((b - a) / 2)
        # Sine and cosine of half the angle, without the difference of nearly equal numbers that acos would need.
        sine = _norm(delta.sin() * psi.cos(), middle.sin() * psi.sin())
        cosine = _norm(delta.cos() * psi.cos(), middle.cos() * psi.sin())
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
        _require_size(z, self.dimension)
        square = z.square().sum(-1, keepdim=True)
        return torch.cat([z + z, square - 1], dim=-1) / (square + 1)

    def distance(self, a: Float[Tensor, "*batch d"], b: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        # |x(b) - x(a)| from the chart: exact to rounding also where the points nearly agree.
        scale = ((1 + a.square().sum(-1)) * (1 + b.square().sum(-1))).sqrt()
        chord = 2 * torch.linalg.vector_norm(b - a, dim=-1) / scale
        return 2 * torch.atan2(chord, torch.linalg.vector_norm(self.embed(a) + self.embed(b), dim=-1))


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
        _, y = _coordinates(z)
        eye = torch.eye(2, dtype=z.dtype, device=z.device)
        # G is finite again below the line y = 0: without NaN a path could step across it.
        return eye / torch.where(y > 0, y, torch.nan)[..., None, None] ** 2

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return z.new_full(z.shape[:-1], -1.0)

    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return v[..., 0] / z[..., 1] ** 2

    def distance(self, a: Float[Tensor, "*batch 2"], b: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        (_, y_a), (_, y_b) = _coordinates(a), _coordinates(b)
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
        t, phi = _coordinates(z)
        return _turned(1 / t.cosh(), phi, t - t.tanh())

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return z.new_full(z.shape[:-1], -1.0)

    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return v[..., 1] / z[..., 0].cosh() ** 2

    def distance(self, a: Float[Tensor, "*batch 2"], b: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        (t_a, phi_a), (t_b, phi_b) = _coordinates(a), _coordinates(b)
        rise = 2 * ((t_a + t_b) / 2).sinh() * ((t_b - t_a) / 2).sinh()  # cosh t_b - cosh t_a
        return _half_plane_distance(_norm(phi_b - phi_a, rise), (t_a.cosh() * t_b.cosh()).sqrt())


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
        phi, h = _coordinates(z)
        return _turned(torch.full_like(phi, self.radius), phi, h)

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return z.new_zeros(z.shape[:-1])

    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return self.radius**2 * v[..., 0]

    def distance(self, a: Float[Tensor, "*batch 2"], b: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        phi, h = _coordinates(b - a)
        return _norm(self.radius * phi, h)


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
        t, phi = _coordinates(z)
        return _turned(t * math.sin(self.half_angle), phi, t * math.cos(self.half_angle))

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return z.new_zeros(z.shape[:-1])

    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return (z[..., 0] * math.sin(self.half_angle)) ** 2 * v[..., 1]

    def distance(self, a: Float[Tensor, "*batch 2"], b: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        (t_a, phi_a), (t_b, phi_b) = _coordinates(a), _coordinates(b)
        beta = ((phi_b - phi_a).abs() * math.sin(self.half_angle)).clamp(max=math.pi)
        # The plane's points under the angles -beta/2 and beta/2; at beta = pi their distance is t_a + t_b.
        return _norm((t_b - t_a) * (beta / 2).cos(), (t_b + t_a) * (beta / 2).sin())


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
        t, y = _coordinates(z)
        return _turned(t, t, y)

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return z.new_zeros(z.shape[:-1])

    def distance(self, a: Float[Tensor, "*batch 2"], b: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        (t_a, y_a), (t_b, y_b) = _coordinates(a), _coordinates(b)
        s_a, s_b = ((t * (1 + t**2).sqrt() + t.asinh()) / 2 for t in (t_a, t_b))
        return _norm(s_b - s_a, y_b - y_a)


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
        x, y = _coordinates(z)
        return torch.stack([x, y, _times(self.steepness, x.square() + y.square())], dim=-1)

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
        x, y = _coordinates(z)
        return torch.stack([x, y, _times(self.steepness, x.square() - y.square())], dim=-1)

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
        t, phi = _coordinates(z)
        return _turned(self._distance_from_axis(t), phi, _times(self.minor_radius, t.sin()))

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        t, _ = _coordinates(z)
        return t.cos() / (self.minor_radius * self._distance_from_axis(t))

    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return self._distance_from_axis(z[..., 0]) ** 2 * v[..., 1]

    def _distance_from_axis(self, t: Tensor) -> Tensor:
        return self.major_radius + _times(self.minor_radius, t.cos())


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
        t, phi = _coordinates(z)
        return _turned(self._distance_from_axis(t), phi, t)

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        t, _ = _coordinates(z)
        return -(self.waist**2) / self._distance_from_axis(t) ** 4

    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return self._distance_from_axis(z[..., 0]) ** 2 * v[..., 1]

    def _distance_from_axis(self, t: Tensor) -> Tensor:
        return _times(self.waist, (t / self.waist).cosh())


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
        t, phi = _coordinates(z)
        return _turned(t, phi, _times(self.rise, phi))

    def gaussian_curvature(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        t, _ = _coordinates(z)
        return -(self.rise**2) / (self.rise**2 + t**2) ** 2

    def clairaut_constant(self, z: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        return (self.rise**2 + z[..., 0] ** 2) * v[..., 1]


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
        _require_size(z, self.dimension)
        k = self.frequency
        angle = _times(k, z)
        return _times(1 / k, torch.cat([angle.cos(), angle.sin()], dim=-1))

    def distance(self, a: Float[Tensor, "*batch d"], b: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        _require_size(a, self.dimension)
        return torch.linalg.vector_norm(b - a, dim=-1)


def _turned(r: Tensor, phi: Tensor, height: Tensor) -> Tensor:
    """Points of R^3 at distance r from the axis, (*batch, 3)."""
    return torch.stack([r * phi.cos(), r * phi.sin(), height], dim=-1)


def _times(factor: float, x: Tensor) -> Tensor:
    """The product with a number, as 0 + factor x: in nested forward mode torch takes ten times as long for factor x."""
    return torch.add(x - x, x, alpha=factor)


def _half_plane_distance(apart: Tensor, mean_height: Tensor) -> Tensor:
    # asinh, not acosh(1 + ...): that loses near points to rounding and has no gradient at equal ones.
    return 2 * torch.asinh(apart / (2 * mean_height))


def _norm(*components: Tensor) -> Tensor:
    # Unlike hypot and sqrt, vector_norm has a gradient at zero: zero.
    return torch.linalg.vector_norm(torch.stack(components, dim=-1), dim=-1)


def _coordinates(z: Tensor) -> tuple[Tensor, Tensor]:
    _require_size(z, 2)
    return z[..., 0], z[..., 1]


def _require_size(z: Tensor, dimension: int) -> None:
    if z.dim() == 0 or z.shape[-1] != dimension:
        raise InputError(f"z: expected points of shape (*batch, {dimension}), got {tuple(z.shape)}")
