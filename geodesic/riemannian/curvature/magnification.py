"""What the metric tensor says at a point: volumes, and how directions differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.checks import guarded
from geodesic.geometry.inverse import MetricInverse
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import Rows
from geodesic.riemannian.curvature.pointwise import pointwise

__all__ = ["anisotropy", "condition_number", "log_volume", "magnification_factor"]


@guarded
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
        z: Points, (*batch, d) or (*batch, *latent_shape), floating point.

    Returns:
        The factors, (*batch,), without history; NaN where the metric is not finite.

    Raises:
        InputError: The points cannot be used.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> plane = geodesic.surfaces.HyperbolicPlane()
        >>> print(f"{float(geodesic.magnification_factor(plane, torch.tensor([0.0, 2.0]))):.3f}")
        0.250
    """
    return log_volume(manifold, z).exp()


@guarded
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
        z: Points, (*batch, d) or (*batch, *latent_shape), floating point.

    Returns:
        The logarithms, (*batch,), without history; NaN where the metric is not finite.

    Raises:
        InputError: The points cannot be used.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> double = geodesic.PullbackManifold(lambda z: 2 * z)
        >>> print(f"{float(geodesic.riemannian.log_volume(double, torch.zeros(64))):.3f}")  # 64 log 2
        44.361
    """

    def logarithm(G: Tensor) -> Tensor:
        inverse = MetricInverse(G)
        logs = inverse.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return torch.where(inverse.regular, logs, -torch.inf)

    return _of_metric(manifold, z, logarithm)


@guarded
def condition_number(manifold: Manifold, z: Tensor) -> Float[Tensor, "*batch"]:
    """How differently directions count: the largest over the smallest eigenvalue of the metric.

    lambda_max(G) / lambda_min(G)

    The square of the ratio of the longest to the shortest vector of unit length in latent coordinates. Infinite where
    the metric is singular to rounding.

    Warning:
        It depends on the units of the latent coordinates.

    Args:
        manifold: The geometry; it need not have lengths.
        z: Points, (*batch, d) or (*batch, *latent_shape), floating point.

    Returns:
        The numbers, (*batch,), at least 1, without history; NaN where the metric is not finite.

    Raises:
        InputError: The points cannot be used.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> stretched = geodesic.PullbackManifold(lambda z: z * torch.tensor([3.0, 1.0]).to(z))
        >>> print(f"{float(geodesic.riemannian.condition_number(stretched, torch.zeros(2))):.3f}")
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


@guarded
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
        z: Points, (*batch, d) or (*batch, *latent_shape), floating point.

    Returns:
        The anisotropies, (*batch,), in [0, 1], without history; NaN where the metric is not finite.

    Raises:
        InputError: The points cannot be used.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> flat = geodesic.PullbackManifold(lambda z: z * torch.tensor([2.0, 0.0]).to(z))
        >>> print(f"{float(geodesic.riemannian.anisotropy(flat, torch.zeros(2))):.3f}")
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

    return given.each(pointwise(manifold, compute, 1, *given.rows))
