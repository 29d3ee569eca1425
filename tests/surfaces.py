"""The one table of pairs of points whose geodesic is known, for the tests."""

from typing import NamedTuple

from torch import pi

import geodesic
from geodesic import Manifold
from geodesic.geometry import EmbeddedManifold
from geodesic.surfaces import StereographicSphere


class Known(NamedTuple):
    """A pair of points, the length of the geodesic that the straight line leads to, and the straight line's own."""

    manifold: Manifold
    start: tuple[float, ...]
    end: tuple[float, ...]
    length: float
    straight: float | None


def _on_the_sphere(n: int, length: float, straight: float) -> Known:
    start = tuple(-i / (n - 1) for i in range(n))
    return Known(StereographicSphere(dimension=n), start, (0.5,) * n, length, straight)


# None of these numbers was made with this library.
# Geodesics with a closed form, which is then not the one of `distance`: acos of the scalar product on spheres, acosh on
# the hyperbolic plane and the pseudosphere, the law of cosines on the cone, scipy.integrate.quad for the spiral.
# Torus, catenoid, helicoid: scipy.integrate.solve_bvp, both ends fixed, 401 nodes to begin with, tol=1e-10, on the
# geodesic equation t'' = (B_t / 2A) phi'^2 - (A_t / 2A) t'^2, phi'' = -(B_t / B) t' phi' of the metric
# diag(A(t), B(t)); the length is the speed, constant to 2e-14. By the same script pseudosphere and cone came out equal
# to their closed forms to 12 digits. Paraboloid and saddle: a boundary value solver at the same tolerance.
# Straight lines: scipy.integrate.quad of the speed, epsabs=1e-13.
# All agree with `solve` at segments=256, tol=1e-14 to 1e-10, the spiral (three quarters of a turn) to 1e-9.
KNOWN = {
    "paraboloid": Known(geodesic.surfaces.Paraboloid(), (1.0, 0.0), (-0.5, 1.0), 2.0993679301, 2.5425587),
    "saddle": Known(geodesic.surfaces.Saddle(), (1.0, 0.5), (-1.0, 1.0), 2.5977711346, None),
    "sphere": Known(geodesic.surfaces.Sphere(), (pi / 4, 0.0), (pi / 4, 2.0), 1.2745557823, 2**0.5),
    "cylinder": Known(geodesic.surfaces.Cylinder(), (0.0, 0.0), (2.0, 1.0), 5**0.5, 5**0.5),
    "flat torus": Known(geodesic.surfaces.FlatTorus(frequency=3.0), (0.0, 0.0), (0.5, 1.0), 1.25**0.5, 1.25**0.5),
    "cone": Known(geodesic.surfaces.Cone(), (1.0, 0.0), (2.0, 3.0), 2.1718773431, 2.4687842553),
    "Swiss roll": Known(geodesic.surfaces.SwissRoll(), (1.0, 0.0), (6.0, 2.0), 18.4550752848, 18.4743418425),
    "pseudosphere": Known(geodesic.surfaces.Pseudosphere(), (1.0, 0.0), (1.5, 2.0), 1.0792751994, 1.1463070039),
    "hyperbolic plane": Known(geodesic.surfaces.HyperbolicPlane(), (-1.0, 0.5), (1.0, 1.0), 2.3421790088, 2.8579190395),
    "hyperbolic plane, vertical": Known(
        geodesic.surfaces.HyperbolicPlane(), (0.0, 1.0), (0.0, 0.2), 1.6094379124, 1.6094379124
    ),
    "torus": Known(geodesic.surfaces.Torus(), (0.5, 0.0), (2.0, 1.5), 3.3606430616, 3.7512828715),
    "catenoid": Known(geodesic.surfaces.Catenoid(), (-1.0, 0.0), (0.5, 2.0), 2.7966124085, 2.8271608319),
    "helicoid": Known(geodesic.surfaces.Helicoid(), (-1.0, 0.0), (1.5, 1.5), 3.0653528575, 3.1257658424),
    "sphere of dimension 2": _on_the_sphere(2, 2.3005239830, 2.4369618111),
    "sphere of dimension 3": _on_the_sphere(3, 2.4619188347, 2.7456010459),
    "sphere of dimension 5": _on_the_sphere(5, 2.4025747746, 3.1283165135),
    "sphere of dimension 10": _on_the_sphere(10, 1.9751695630, 3.5285704874),
    "sphere of dimension 20": _on_the_sphere(20, 1.4991466713, 3.6790976733),
    "sphere of dimension 50": _on_the_sphere(50, 0.9899991550, 3.4038812668),
}
# Where chords are chords of a Euclidean space, and 2 E <= d^2.
EMBEDDED = [name for name, known in KNOWN.items() if isinstance(known.manifold, EmbeddedManifold)]
