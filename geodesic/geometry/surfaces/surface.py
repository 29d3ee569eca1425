"""What a manifold with a closed form has to say: distances, curvatures, constants of motion; and who says it."""

from __future__ import annotations

from abc import abstractmethod

from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.registry import Registry

__all__ = ["SURFACES", "DistanceManifold", "Surface", "SymmetricSurface"]


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
