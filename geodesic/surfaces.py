"""Surfaces and other manifolds of which closed forms are known. `geodesic.surfaces.Torus()`, say.

These names are defined in `geodesic.geometry.surfaces`.
"""

from geodesic.geometry.surfaces import (
    SURFACES,
    Catenoid,
    Cone,
    Cylinder,
    DistanceManifold,
    FlatTorus,
    Helicoid,
    HyperbolicPlane,
    Paraboloid,
    Pseudosphere,
    Saddle,
    Sphere,
    StereographicSphere,
    Surface,
    SwissRoll,
    SymmetricSurface,
    Torus,
)

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
