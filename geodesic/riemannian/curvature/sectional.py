"""The curvature of planes of directions."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.checks import brief
from geodesic.errors import InputError, SingularMetricError
from geodesic.geometry.checks import guarded
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import Rows, inverse_at, require_limit
from geodesic.riemannian.curvature.pointwise import pointwise, regular_inverse

__all__ = ["curvature_where_regular", "gaussian_curvature", "sectional_curvature"]

_PARALLEL = 100  # times eps: the largest squared sine between vectors that count as parallel


@guarded
def sectional_curvature(manifold: Manifold, z: Tensor, u: Tensor, v: Tensor) -> Float[Tensor, "*batch"]:
    """Curvature of the surface that geodesics in the directions of u and v sweep out; Gauss's where d = 2.

    K = <R(u, v) v, u> / (|u|^2 |v|^2 - <u, v>^2)

    Where the decoder ignores directions, the plane is that of what it sees of u and v.

    Geodesics that leave a point in that plane come together again where K > 0 and spread where K < 0.

    Warning:
        Where u and v are nearly parallel, digits are lost: as many as the sine of the angle between them has zeros.
        Second derivatives do not see the kinks of a decoder (ReLU). On the pieces of one that is affine there the
        curvature is 0; all of it sits where faces meet, and turns what `parallel_transport` carries around.

    Reference:
        M. P. do Carmo, Riemannian Geometry, 1992, chapter 4.

    Args:
        manifold: The geometry.
        z: Points, (*batch, d) or (*batch, *latent_shape), floating point.
        u: Vectors there, of the same shape. Only the plane that they span with v matters.
        v: Vectors there, of the same shape.

    Returns:
        The curvatures, (*batch,), in units of one over a squared length, without history.

    Raises:
        InputError: Points and vectors cannot be used, u and v are parallel, the decoder ignores a direction of their
            plane, or the manifold has no lengths.
        SingularMetricError: The metric at a point is singular, and its rank not the same all around; or it is zero.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> z, (u, v) = torch.zeros(2), torch.eye(2)
        >>> print(f"{float(geodesic.sectional_curvature(geodesic.surfaces.Saddle(), z, u, v)):.3f}")
        -4.000
    """
    given = Rows(manifold, z=z, u=u, v=v)
    require_limit(manifold, "curvature")
    least = _PARALLEL * torch.finfo(z.dtype).eps

    def plane(z: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Vectors u and v made orthonormal, (N, 2, d), and NaN where what is seen of them is parallel."""
        inverse = regular_inverse(manifold, z)
        factor = inverse.factor
        u, v = (x / _norm(factor, x) for x in (u, v))
        u, v = (_unit(factor, inverse.seen(x), least) for x in (u, v))
        u = u - ((factor.mT @ u[..., None]) * (factor.mT @ v[..., None])).sum(-2) * v
        return torch.stack([_unit(factor, u, least), v], dim=1)

    def curvature(z: Tensor, pair: Tensor) -> Tensor:
        u, v = pair.unbind(1)
        return (u * (manifold.lowered_curvature(z, v) @ u[..., None])[..., 0]).sum(-1)

    pairs = pointwise(manifold, plane, 1, *given.rows)
    _require_planes(given.each(pairs.isfinite().flatten(1).all(1)), u, v)
    return given.each(pointwise(manifold, curvature, 1, given.rows[0], pairs))


def _require_planes(planes: Bool[Tensor, "*batch"], u: Tensor, v: Tensor) -> None:
    """Refuse vectors that span no plane, by the first row of them."""
    if planes.all():
        return
    where = (~planes).nonzero()[0].tolist()
    place = f"at {where}, " if where else ""
    one, other = (brief(x.reshape(*planes.shape, -1)[tuple(where)]) for x in (u, v))
    raise InputError(
        f"u, v: {place}u = {one} and v = {other} span no plane: they are parallel to rounding, or the decoder ignores "
        "a direction of theirs; give two different directions that it sees"
    )


def _unit(factor: Float[Tensor, "N d d"], v: Float[Tensor, "N d"], least: float) -> Float[Tensor, "N d"]:
    """Vectors over their norms; NaN where these are rounding."""
    norm = _norm(factor, v)
    return torch.where(norm.square() > least, v / norm, torch.nan)


def _norm(factor: Float[Tensor, "N d d"], v: Float[Tensor, "N d"]) -> Float[Tensor, "N 1"]:
    return (factor.mT @ v[..., None])[..., 0].norm(dim=-1, keepdim=True)


def gaussian_curvature(manifold: Manifold, z: Float[Tensor, "N 2"]) -> Float[Tensor, " N"]:
    """Gauss's curvature at points of a manifold of two coordinates, and NaN where the metric is singular to rounding.

    Example:
        >>> import torch, geodesic
        >>> from geodesic.riemannian.curvature.sectional import gaussian_curvature
        >>> print(f"{float(gaussian_curvature(geodesic.surfaces.Saddle(), torch.zeros(1, 2))):.3f}")
        -4.000
    """
    with torch.no_grad():
        factor = inverse_at(manifold, z).factor
    u, v = torch.linalg.inv(factor).unbind(1)  # orthonormal: coordinate directions may be parallel to rounding
    return curvature_where_regular(manifold, z, u, v)


def curvature_where_regular(
    manifold: Manifold, z: Float[Tensor, "N d"], u: Float[Tensor, "N d"], v: Float[Tensor, "N d"]
) -> Float[Tensor, " N"]:
    """`sectional_curvature`, and NaN where the planes are not finite or the metric is singular.

    Example:
        >>> import torch, geodesic
        >>> from geodesic.riemannian.curvature.sectional import curvature_where_regular
        >>> z = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)  # a pole, and a point of the equator
        >>> u, v = torch.eye(2).double()[:, None].expand(2, 2, 2)
        >>> print([f"{K:.3f}" for K in curvature_where_regular(geodesic.surfaces.Sphere(), z, u, v).tolist()])
        ['nan', '1.000']
    """
    (known,) = torch.cat([u, v], dim=-1).isfinite().all(-1).nonzero(as_tuple=True)
    found = torch.full_like(z[:, 0], torch.nan)
    if len(known) == 0:
        return found
    try:
        found[known] = sectional_curvature(manifold, z[known], u[known], v[known])
    except SingularMetricError:
        # Singular to rounding, which in another batch is another one: found by halves.
        if len(known) > 1:
            for part in known.tensor_split(2):
                found[part] = curvature_where_regular(manifold, z[part], u[part], v[part])
    return found
