"""The connection of a latent space, and the tensors of its curvature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.checks import guarded
from geodesic.geometry.inverse import MetricInverse
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import Rows, require_limit
from geodesic.riemannian.curvature.pointwise import pointwise, regular_inverse

__all__ = ["christoffel_symbols", "ricci_tensor", "riemann_tensor", "scalar_curvature"]


@guarded
def christoffel_symbols(manifold: Manifold, z: Tensor) -> Float[Tensor, "*batch d d d"]:
    """Christoffel symbols of the second kind: the connection in latent coordinates.

    Gamma^k_ij = 1/2 G^kl (d_i G_jl + d_j G_il - d_l G_ij),   Gamma = (J^T J)^{-1} J^T D^2 x  for an embedding x

    Nothing else here is computed from them: d^3 numbers a point, of which a geodesic needs d. Where the decoder ignores
    directions, G^{-1} is the inverse on the range of G.

    Warning:
        Decoders with kinks (ReLU) have no second derivatives there and zero ones beside them, so that all that is made
        of second derivatives tells nothing of the kinks. This holds for every curvature too.

    Reference:
        M. P. do Carmo, Riemannian Geometry, 1992, chapter 2.

    Args:
        manifold: The geometry.
        z: Points, (*batch, d), floating point; (*batch, *latent_shape) for a manifold with a `latent_shape`, whose
            coordinates are then counted in the order of `flatten`.

    Returns:
        The symbols, (*batch, d, d, d), [..., k, i, j] = Gamma^k_ij, without history.

    Raises:
        InputError: The points cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point is singular, and its rank not the same all around; or it is zero.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> gamma = geodesic.christoffel_symbols(geodesic.surfaces.HyperbolicPlane(), torch.tensor([3.0, 2.0]))
        >>> print(f"{float(gamma[0, 0, 1]):.3f} {float(gamma[1, 0, 0]):.3f}")  # -1/y and 1/y
        -0.500 0.500
    """
    given = Rows(manifold, z=z)
    require_limit(manifold, "connection")
    d = given.rows[0].shape[-1]

    def symbols(z: Tensor) -> Tensor:
        units = torch.eye(d, dtype=z.dtype, device=z.device).repeat(len(z), 1)
        lowered = manifold.lowered_connection(z.repeat_interleave(d, 0), units)  # [n i, k, j] = <Gamma(e_i, e_j), e_k>
        lowered = lowered.unflatten(0, (len(z), d)).transpose(1, 2)
        return regular_inverse(manifold, z)(lowered.flatten(2)).reshape(len(z), d, d, d)

    return given.each(pointwise(manifold, symbols, d, *given.rows))


@guarded
def riemann_tensor(manifold: Manifold, z: Tensor) -> Float[Tensor, "*batch d d d d"]:
    """The Riemann tensor, with all indices lowered.

    R_ijkl = <R(e_i, e_j) e_k, e_l>,   R(u, v) w = D_u D_v w - D_v D_u w - D_[u,v] w

    On the unit sphere R_ijkl = G_jk G_il - G_ik G_jl. For an embedding by Gauss's equation, from second derivatives
    of the decoder; otherwise from second derivatives of the metric. Directions that the decoder ignores have no
    curvature: zeros.

    Warning:
        It takes d^4 numbers a point: 0.1 GB in float64 for d = 64. `sectional_curvature` and `ricci_tensor` never form
        it. Second derivatives do not see the kinks of a decoder (ReLU).

    Reference:
        M. P. do Carmo, Riemannian Geometry, 1992, chapters 4 and 6; the sign of R as in J. M. Lee, Introduction to
        Riemannian Manifolds, 2018.

    Args:
        manifold: The geometry.
        z: Points, (*batch, d) or (*batch, *latent_shape), floating point.

    Returns:
        The tensors, (*batch, d, d, d, d), without history.

    Raises:
        InputError: The points cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point is singular, and its rank not the same all around; or it is zero.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> R = geodesic.riemannian.riemann_tensor(geodesic.surfaces.Sphere(), torch.tensor([torch.pi / 2, 0.0]))
        >>> print(f"{float(R[0, 1, 1, 0]):.3f}")
        1.000
    """
    given = Rows(manifold, z=z)
    require_limit(manifold, "curvature")

    def tensors(z: Tensor) -> Tensor:
        regular_inverse(manifold, z)
        return manifold.riemann(z)

    d = given.rows[0].shape[-1]
    return given.each(pointwise(manifold, tensors, d, *given.rows))


@guarded
def ricci_tensor(manifold: Manifold, z: Tensor) -> Float[Tensor, "*batch d d"]:
    """The Ricci tensor: d - 1 times the mean sectional curvature of the planes through a unit vector.

    Ric_jk = G^il R_ijkl = sum over a of <R(e_j, E_a) E_a, e_k>,   E_a an orthonormal frame

    Where Ric(v, v) > 0, small balls round the point have less volume in direction v than in flat space. The sum over a
    frame needs d^3 numbers a point, not the d^4 of the Riemann tensor. Where the decoder ignores directions, d is the
    rank of the metric, and the frame is one of what it sees.

    Warning:
        Second derivatives do not see the kinks of a decoder (ReLU).

    Reference:
        M. P. do Carmo, Riemannian Geometry, 1992, chapter 4, without his factor 1 / (d - 1).

    Args:
        manifold: The geometry.
        z: Points, (*batch, d) or (*batch, *latent_shape), floating point.

    Returns:
        The tensors, (*batch, d, d), symmetric, without history.

    Raises:
        InputError: The points cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point is singular, and its rank not the same all around; or it is zero.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> ricci = geodesic.riemannian.ricci_tensor(geodesic.surfaces.StereographicSphere(dimension=3), torch.zeros(3))
        >>> print([f"{x:.3f}" for x in ricci.diagonal().tolist()])  # (3 - 1) G, and G = 4 I
        ['8.000', '8.000', '8.000']
    """
    return _ricci(manifold, z, lambda ricci, inverse: ricci)


@guarded
def scalar_curvature(manifold: Manifold, z: Tensor) -> Float[Tensor, "*batch"]:
    """The scalar curvature: d (d - 1) times the mean sectional curvature, twice Gauss's where d = 2.

    S = G^jk Ric_jk

    Where the decoder ignores directions, d is the rank of the metric.

    Warning:
        Second derivatives do not see the kinks of a decoder (ReLU).

    Reference:
        M. P. do Carmo, Riemannian Geometry, 1992, chapter 4, without his factor 1 / (d (d - 1)).

    Args:
        manifold: The geometry.
        z: Points, (*batch, d) or (*batch, *latent_shape), floating point.

    Returns:
        The curvatures, (*batch,), without history.

    Raises:
        InputError: The points cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point is singular, and its rank not the same all around; or it is zero.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> sphere = geodesic.surfaces.StereographicSphere(dimension=3)
        >>> print(f"{float(geodesic.riemannian.scalar_curvature(sphere, torch.ones(3))):.3f}")
        6.000
    """
    return _ricci(manifold, z, lambda ricci, inverse: inverse(ricci).diagonal(dim1=-2, dim2=-1).sum(-1))


def _ricci(manifold: Any, z: Any, answer: Callable[[Tensor, MetricInverse], Tensor]) -> Tensor:
    given = Rows(manifold, z=z)
    require_limit(manifold, "curvature")
    d = given.rows[0].shape[-1]

    def compute(z: Tensor) -> Tensor:
        inverse = regular_inverse(manifold, z)
        frame = inverse.frame.mT  # its rows are orthonormal
        sections = manifold.lowered_curvature(z.repeat_interleave(d, 0), frame.flatten(0, 1))
        return answer(sections.unflatten(0, (len(z), d)).sum(1), inverse)

    return given.each(pointwise(manifold, compute, d, *given.rows))
