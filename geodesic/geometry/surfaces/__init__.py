"""Manifolds of which closed forms are known: curvatures, distances, constants of motion. For tests and teaching."""

from geodesic.geometry.surfaces.flat import Cone, Cylinder, FlatTorus, SwissRoll
from geodesic.geometry.surfaces.hyperbolic import HyperbolicPlane, Pseudosphere
from geodesic.geometry.surfaces.spheres import Sphere, StereographicSphere
from geodesic.geometry.surfaces.surface import SURFACES, DistanceManifold, Surface, SymmetricSurface
from geodesic.geometry.surfaces.varying import Catenoid, Helicoid, Paraboloid, Saddle, Torus

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
