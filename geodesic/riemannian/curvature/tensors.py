"""Curvature of a latent space, and what its metric tensor says at a point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.inverse import MetricInverse, require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import rows_at_once
from geodesic.geometry.points import Rows, inverse_at, require_limit

__all__ = [
    "anisotropy",
    "christoffel_symbols",
    "condition_number",
    "log_volume",
    "magnification_factor",
    "ricci_tensor",
    "riemann_tensor",
    "scalar_curvature",
    "sectional_curvature",
]

_PARALLEL = 100  # times eps: the largest squared sine between vectors that count as parallel


# --- derivatives of the metric ------------------------------------------------------------------


def christoffel_symbols(manifold: Manifold, z: Tensor) -> Float[Tensor, "*batch d d d"]:
    """Christoffel symbols of the second kind: the connection in latent coordinates.

    Gamma^k_ij = 1/2 G^kl (d_i G_jl + d_j G_il - d_l G_ij),   Gamma = (J^T J)^{-1} J^T D^2 x  for an embedding x

    Nothing else here is computed from them: d^3 numbers a point, of which a geodesic needs d.

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
        SingularMetricError: The metric at a point is singular.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> gamma = geodesic.christoffel_symbols(geodesic.HyperbolicPlane(), torch.tensor([3.0, 2.0]))
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
        return _regular(manifold, z)(lowered.flatten(2)).reshape(len(z), d, d, d)

    return given.each(_by_groups(manifold, symbols, d, *given.rows))


def riemann_tensor(manifold: Manifold, z: Tensor) -> Float[Tensor, "*batch d d d d"]:
    """The Riemann tensor, with all indices lowered.

    R_ijkl = <R(e_i, e_j) e_k, e_l>,   R(u, v) w = D_u D_v w - D_v D_u w - D_[u,v] w

    On the unit sphere R_ijkl = G_jk G_il - G_ik G_jl. For an embedding by Gauss's equation, from second derivatives
    of the decoder; otherwise from second derivatives of the metric.

    Warning:
        It takes d^4 numbers a point: 0.1 GB in float64 for d = 64. `sectional_curvature` and `ricci_tensor` never form
        it. Decoders with kinks: see `christoffel_symbols`.

    Reference:
        M. P. do Carmo, Riemannian Geometry, 1992, chapters 4 and 6; the sign of R as in J. M. Lee, Introduction to
        Riemannian Manifolds, 2018.

    Args:
        manifold: The geometry.
        z: Points, as in `christoffel_symbols`.

    Returns:
        The tensors, (*batch, d, d, d, d), without history.

    Raises:
        InputError: The points cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point is singular.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> R = geodesic.riemann_tensor(geodesic.Sphere(), torch.tensor([torch.pi / 2, 0.0]))
        >>> print(f"{float(R[0, 1, 1, 0]):.3f}")
        1.000
    """
    given = Rows(manifold, z=z)
    require_limit(manifold, "curvature")

    def tensors(z: Tensor) -> Tensor:
        _regular(manifold, z)
        return manifold.riemann(z)

    d = given.rows[0].shape[-1]
    return given.each(_by_groups(manifold, tensors, d, *given.rows))


def sectional_curvature(manifold: Manifold, z: Tensor, u: Tensor, v: Tensor) -> Float[Tensor, "*batch"]:
    """Curvature of the surface that geodesics in the directions of u and v sweep out; Gauss's where d = 2.

    K = <R(u, v) v, u> / (|u|^2 |v|^2 - <u, v>^2)

    Geodesics that leave a point in that plane come together again where K > 0 and spread where K < 0.

    Warning:
        Where u and v are nearly parallel, digits are lost: as many as the sine of the angle between them has zeros.
        Decoders with kinks: see `christoffel_symbols`.

    Reference:
        M. P. do Carmo, Riemannian Geometry, 1992, chapter 4.

    Args:
        manifold: The geometry.
        z: Points, as in `christoffel_symbols`.
        u: Vectors there, of the same shape. Only the plane that they span with v matters.
        v: Vectors there, of the same shape.

    Returns:
        The curvatures, (*batch,), in units of one over a squared length, without history.

    Raises:
        InputError: Points and vectors cannot be used, u and v are parallel, or the manifold has no lengths.
        SingularMetricError: The metric at a point is singular.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> z, (u, v) = torch.zeros(2), torch.eye(2)
        >>> print(f"{float(geodesic.sectional_curvature(geodesic.Saddle(), z, u, v)):.3f}")
        -4.000
    """
    given = Rows(manifold, z=z, u=u, v=v)
    require_limit(manifold, "curvature")
    least = _PARALLEL * torch.finfo(z.dtype).eps

    def plane(z: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Vectors u and v made orthonormal, (N, 2, d), and NaN where they are parallel."""
        factor = _regular(manifold, z).factor
        u, v = (x / _norm(factor, x) for x in (u, v))
        u = u - ((factor.mT @ u[..., None]) * (factor.mT @ v[..., None])).sum(-2) * v
        sine = _norm(factor, u)
        return torch.stack([torch.where(sine.square() > least, u / sine, torch.nan), v], dim=1)

    pairs = _by_groups(manifold, plane, 1, *given.rows)
    parallel = given.each(~pairs.isfinite().flatten(1).all(1))
    if parallel.any():
        where = parallel.nonzero()[0].tolist()
        place = f"at {where}, " if where else ""
        raise InputError(
            f"u, v: {place}u = {u.reshape(*parallel.shape, -1)[tuple(where)].tolist()} and "
            f"v = {v.reshape(*parallel.shape, -1)[tuple(where)].tolist()} are parallel to rounding and span no plane; "
            "give two different directions"
        )

    def curvature(z: Tensor, pair: Tensor) -> Tensor:
        u, v = pair.unbind(1)
        return (u * (manifold.lowered_curvature(z, v) @ u[..., None])[..., 0]).sum(-1)

    return given.each(_by_groups(manifold, curvature, 1, given.rows[0], pairs))


def ricci_tensor(manifold: Manifold, z: Tensor) -> Float[Tensor, "*batch d d"]:
    """The Ricci tensor: d - 1 times the mean sectional curvature of the planes through a unit vector.

    Ric_jk = G^il R_ijkl = sum over a of <R(e_j, E_a) E_a, e_k>,   E_a an orthonormal frame

    Where Ric(v, v) > 0, small balls round the point have less volume in direction v than in flat space. The sum over a
    frame needs d^3 numbers a point, not the d^4 of the Riemann tensor.

    Warning:
        Decoders with kinks: see `christoffel_symbols`.

    Reference:
        M. P. do Carmo, Riemannian Geometry, 1992, chapter 4, without his factor 1 / (d - 1).

    Args:
        manifold: The geometry.
        z: Points, as in `christoffel_symbols`.

    Returns:
        The tensors, (*batch, d, d), symmetric, without history.

    Raises:
        InputError: The points cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point is singular.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> ricci = geodesic.ricci_tensor(geodesic.StereographicSphere(dimension=3), torch.zeros(3))
        >>> print([f"{x:.3f}" for x in ricci.diagonal().tolist()])  # (3 - 1) G, and G = 4 I
        ['8.000', '8.000', '8.000']
    """
    return _ricci(manifold, z, lambda ricci, inverse: ricci)


def scalar_curvature(manifold: Manifold, z: Tensor) -> Float[Tensor, "*batch"]:
    """The scalar curvature: d (d - 1) times the mean sectional curvature, twice Gauss's where d = 2.

    S = G^jk Ric_jk

    Warning:
        Decoders with kinks: see `christoffel_symbols`.

    Reference:
        M. P. do Carmo, Riemannian Geometry, 1992, chapter 4, without his factor 1 / (d (d - 1)).

    Args:
        manifold: The geometry.
        z: Points, as in `christoffel_symbols`.

    Returns:
        The curvatures, (*batch,), without history.

    Raises:
        InputError: The points cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point is singular.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> print(f"{float(geodesic.scalar_curvature(geodesic.StereographicSphere(dimension=3), torch.ones(3))):.3f}")
        6.000
    """
    return _ricci(manifold, z, lambda ricci, inverse: inverse(ricci).diagonal(dim1=-2, dim2=-1).sum(-1))


def _ricci(manifold: Any, z: Any, answer: Callable[[Tensor, MetricInverse], Tensor]) -> Tensor:
    given = Rows(manifold, z=z)
    require_limit(manifold, "curvature")
    d = given.rows[0].shape[-1]

    def compute(z: Tensor) -> Tensor:
        inverse = _regular(manifold, z)
        frame = torch.linalg.inv(inverse.factor)  # its rows are orthonormal: L^{-1} G L^{-T} = I
        sections = manifold.lowered_curvature(z.repeat_interleave(d, 0), frame.flatten(0, 1))
        return answer(sections.unflatten(0, (len(z), d)).sum(1), inverse)

    return given.each(_by_groups(manifold, compute, d, *given.rows))


# --- the metric itself --------------------------------------------------------------------------


def magnification_factor(manifold: Manifold, z: Tensor) -> Float[Tensor, "*batch"]:
    """How many times larger a small volume is than in latent coordinates.

    sqrt(det G)

    Large where a decoder changes fast: between clusters, often. Zero where the metric is singular to rounding.

    Warning:
        Its logarithm grows with d: in many dimensions it leaves the finite numbers, and `log_volume` does not. It
        depends on the units of the latent coordinates.

    Reference:
        C. M. Bishop, M. Svensén, C. K. I. Williams, Magnification Factors for the GTM Algorithm, 1997.

    Args:
        manifold: The geometry; it need not have lengths.
        z: Points, as in `christoffel_symbols`.

    Returns:
        The factors, (*batch,), without history; NaN where the metric is not finite.

    Raises:
        InputError: The points cannot be used.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> print(f"{float(geodesic.magnification_factor(geodesic.HyperbolicPlane(), torch.tensor([0.0, 2.0]))):.3f}")
        0.250
    """
    return log_volume(manifold, z).exp()


def log_volume(manifold: Manifold, z: Tensor) -> Float[Tensor, "*batch"]:
    """Logarithm of the volume element, by which densities are counted against the Riemannian volume.

    1/2 log det G = sum over i of log L_ii,   G = L L^T

    Minus infinity where the metric is singular to rounding. A sum of logarithms: no number of dimensions overflows.

    Warning:
        It depends on the units of the latent coordinates: differences between points do not.

    Reference:
        X. Pennec, Intrinsic Statistics on Riemannian Manifolds, 2006.

    Args:
        manifold: The geometry; it need not have lengths.
        z: Points, as in `christoffel_symbols`.

    Returns:
        The logarithms, (*batch,), without history; NaN where the metric is not finite.

    Raises:
        InputError: The points cannot be used.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> double = geodesic.PullbackManifold(lambda z: 2 * z)
        >>> print(f"{float(geodesic.log_volume(double, torch.zeros(64))):.3f}")  # 64 log 2
        44.361
    """

    def logarithm(G: Tensor) -> Tensor:
        inverse = MetricInverse(G)
        logs = inverse.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return torch.where(inverse.regular, logs, -torch.inf)

    return _of_metric(manifold, z, logarithm)


def condition_number(manifold: Manifold, z: Tensor) -> Float[Tensor, "*batch"]:
    """How differently directions count: the largest over the smallest eigenvalue of the metric.

    lambda_max(G) / lambda_min(G)

    The square of the ratio of the longest to the shortest vector of unit length in latent coordinates. Infinite where
    the metric is singular to rounding.

    Warning:
        It depends on the units of the latent coordinates.

    Args:
        manifold: The geometry; it need not have lengths.
        z: Points, as in `christoffel_symbols`.

    Returns:
        The numbers, (*batch,), at least 1, without history; NaN where the metric is not finite.

    Raises:
        InputError: The points cannot be used.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> stretched = geodesic.PullbackManifold(lambda z: z * torch.tensor([3.0, 1.0]).to(z))
        >>> print(f"{float(geodesic.condition_number(stretched, torch.zeros(2))):.3f}")
        9.000
    """

    def ratio(G: Tensor) -> Tensor:
        inverse = MetricInverse(G)
        # Of the factor, and squared: eigenvalues of G would lose the small one where units differ by 1e8.
        factor = torch.where(
            inverse.regular[..., None, None], inverse.factor, torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
        )
        values = torch.linalg.svdvals(factor)
        return torch.where(inverse.regular, (values[..., 0] / values[..., -1]).square(), torch.inf)

    return _of_metric(manifold, z, ratio)


def anisotropy(manifold: Manifold, z: Tensor) -> Float[Tensor, "*batch"]:
    """Fractional anisotropy of the metric: 0 where all directions count alike, 1 where one alone does.

    sqrt(d / (d - 1)) |lambda - mean(lambda)| / |lambda|,   lambda the eigenvalues of G

    Unlike the condition number it is bounded, and tells one long direction from one short one. Defined for singular
    metrics too; 0 for d = 1 and where G = 0.

    Warning:
        It depends on the ratios between the units of the latent coordinates.

    Reference:
        P. J. Basser, C. Pierpaoli, Microstructural and Physiological Features of Tissues Elucidated by
        Quantitative-Diffusion-Tensor MRI, 1996.

    Args:
        manifold: The geometry; it need not have lengths.
        z: Points, as in `christoffel_symbols`.

    Returns:
        The anisotropies, (*batch,), in [0, 1], without history; NaN where the metric is not finite.

    Raises:
        InputError: The points cannot be used.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> flat = geodesic.PullbackManifold(lambda z: z * torch.tensor([2.0, 0.0]).to(z))
        >>> print(f"{float(geodesic.anisotropy(flat, torch.zeros(2))):.3f}")
        1.000
    """

    def fraction(G: Tensor) -> Tensor:
        # Norms of eigenvalues are Frobenius norms: no eigenvalue is needed.
        d = G.shape[-1]
        G = G / G.abs().amax((-2, -1), keepdim=True).clamp_min(torch.finfo(G.dtype).tiny)
        mean = G.diagonal(dim1=-2, dim2=-1).mean(-1)
        rest = torch.linalg.matrix_norm(G - mean[..., None, None] * torch.eye(d, dtype=G.dtype, device=G.device))
        size = torch.linalg.matrix_norm(G)
        part = rest / torch.where(size > 0, size, 1)
        return ((d / max(d - 1, 1)) ** 0.5 * part).clamp(max=1)  # rounding alone exceeds it

    return _of_metric(manifold, z, fraction)


def _of_metric(manifold: Any, z: Any, answer: Callable[[Tensor], Tensor]) -> Tensor:
    """A quantity of the metric tensor, NaN where that is not finite."""
    given = Rows(manifold, z=z)

    def compute(z: Tensor) -> Tensor:
        G = manifold.metric_tensor(z)
        finite = G.isfinite().flatten(1).all(1)
        return torch.where(finite, answer(torch.where(finite[:, None, None], G, 1)), torch.nan)

    return given.each(_by_groups(manifold, compute, 1, *given.rows))


# --- shared -------------------------------------------------------------------------------------


def _regular(manifold: Manifold, z: Float[Tensor, "N d"]) -> MetricInverse:
    inverse = inverse_at(manifold, z)
    require_regular(z, inverse)
    return inverse


def _norm(factor: Float[Tensor, "N d d"], v: Float[Tensor, "N d"]) -> Float[Tensor, "N 1"]:
    return (factor.mT @ v[..., None])[..., 0].norm(dim=-1, keepdim=True)


def _by_groups(manifold: Manifold, compute: Callable[..., Tensor], share: int, *tensors: Tensor) -> Tensor:
    """In groups of rows of which each takes the memory of `share` derivatives of all coordinates."""
    with torch.inference_mode(False), torch.no_grad():
        size = max(1, rows_at_once(manifold, tensors[0]) // share)
        return torch.cat([compute(*rows) for rows in zip(*(t.split(size) for t in tensors), strict=True)])
