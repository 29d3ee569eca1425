"""The geodesic curvature of a curve: zero along a geodesic, and what T segments leave of it."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.geometry.checks import admit_path, guarded
from geodesic.geometry.energy import constant, require_path
from geodesic.geometry.inverse import MetricInverse
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.passed import Along
from geodesic.geometry.path import path_length, spline_through
from geodesic.numerics.conjugate_gradients import Systems, conjugate_gradients
from geodesic.numerics.kernel import rank

__all__ = ["decoder_residual", "forms_metric", "geodesic_curvature", "inverse_norm"]

_EXPLICIT = 32  # latent coordinates up to which metric tensors are formed everywhere
_RANKED = 64  # and up to which one is, for its rank
_STEPS = 20  # of conjugate gradients, where they are not
_MISSING = 0.1  # of a squared curvature, where they are not


@guarded
def decoder_residual(manifold: Manifold, path: Tensor) -> Float[Tensor, "*batch"]:
    """Largest geodesic curvature of the spline through the nodes times its length, halfway between the nodes.

    L max_i |P a_i| / |x'_i|^2,   |P a|^2 = u^T G^{-1} u - (c' . u)^2 / |x'|^2,   u = J^T a = G (c'' + Gamma(c', c'))

    a is the acceleration of x(c(t)), c the not-a-knot spline, and P the projection onto the directions that are tangent
    to the surface and orthogonal to the curve: zero along a geodesic, whatever its speed. On a geodesic run through at
    constant speed this is the tangential acceleration over the speed. At the nodes of a converged path it vanishes
    however coarse the path is; between them it is of order 1/T^2, and tells whether T was enough.

    Args:
        manifold: Gives the metric and the acceleration.
        path: Nodes, (*batch, T + 1, d), with T at least 2.

    Returns:
        The residuals, (*batch,), without unit. Zero for a constant path. Above 32 latent coordinates, or where memory
        does not suffice for the metric, a lower bound, see `geodesic_curvature`. Without history.

    Raises:
        InputError: The path has no interior node.

    Example:
        >>> import torch, geodesic
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> geodesic.geometry.decoder_residual(plane, geodesic.straight_path(torch.zeros(2), torch.ones(2))) < 1e-3
        tensor(True)
    """
    require_path(path, interior=True)
    admit_path(manifold, path)
    curvature = geodesic_curvature(manifold, path.detach())[0]
    with torch.no_grad():
        return curvature.amax(-1) * path_length(manifold, path.detach())


def forms_metric(manifold: Manifold, d: int) -> bool:
    """Whether curvatures of paths in d latent coordinates are found with the metric tensor."""
    return d <= _EXPLICIT and manifold.forms_metric


def geodesic_curvature(
    manifold: Manifold, path: Tensor, every: int = 1, products: int | None = None, seen: Along | None = None
) -> tuple[Float[Tensor, "*batch middles"], Int[Tensor, "*batch"]]:
    """|P a| / |x'|^2 halfway between the nodes of every segment, or of some, as in `decoder_residual`: one over length.

    And how many latent directions the metric ignores there, at most: d minus its least rank, see
    `geodesic.numerics.kernel`; above 32 latent coordinates in the middle of the path alone, above 64 not looked for, 0.

    Up to 32 latent coordinates with the metric tensor; above, by conjugate gradients on G. Their value only grows
    towards the true one: at most 20 steps are taken, until about a tenth of the square is missing.

    Args:
        manifold: Gives the metric and the acceleration.
        path: Nodes, (*batch, T + 1, d).
        every: Of so many segments one is looked at.
        products: With G, that are taken above 32 latent coordinates; what these miss is then estimated and added, which
            need not be from below.
        seen: What is known of the curve already, with its accelerations on these segments, or on none.
    """
    middle, velocity, acceleration = (x[..., every // 2 :: every, :] for x in spline_through(path))
    with torch.no_grad():
        if forms_metric(manifold, path.shape[-1]):
            if seen is not None and seen.metric.shape[1]:
                G, u = seen.metric, (path.shape[-2] - 1) ** 2 * seen.pulled
            else:
                G, u = manifold.metric_and_acceleration(middle, velocity, acceleration)
            squared = (velocity * (G @ velocity[..., None])[..., 0]).sum(-1)
            L, deficiency = _cholesky(G), _deficiency(G).amax(-1)
            square = (u * torch.cholesky_solve(u[..., None], L)[..., 0]).sum(-1)
        else:
            u = manifold.lowered_acceleration(middle, velocity, acceleration)
            squared = manifold.squared_norm(middle, velocity)
            square = inverse_norm(manifold, middle, u, products or _STEPS, share=_MISSING, estimated=bool(products))
            deficiency = torch.zeros_like(u[..., 0, 0], dtype=torch.int64)
            if path.shape[-1] <= _RANKED and manifold.forms_metric:
                deficiency = _deficiency(manifold.metric_tensor(middle[..., middle.shape[-2] // 2, :]))
        along = (u * velocity).sum(-1).square() / squared
        # A curve that stands still, and one whose parts are lost in rounding, has no curvature to speak of.
        curvature = (square - along).clamp_min(0).sqrt() / squared
    return torch.where(constant(path)[..., None] | (squared == 0), 0, curvature), deficiency


def inverse_norm(
    manifold: Manifold,
    z: Float[Tensor, "*batch d"],
    u: Float[Tensor, "*batch d"],
    steps: int = 20,
    share: float = 0.0,
    estimated: bool = False,
) -> Float[Tensor, "*batch"]:
    """u^T G(z)^{-1} u from below, by conjugate gradients with products G v, until about a share of it is missing.

    Args:
        manifold: Gives the products.
        z: Points, (*batch, d).
        u: Covectors there, (*batch, d).
        steps: Most products.
        share: That may be missing.
        estimated: Whether what is missing is estimated and added, which need not be from below.
    """
    rows = z.reshape(-1, z.shape[-1])

    def product(v: Tensor) -> Tensor:
        return manifold.lowered(rows, v).detach()

    found = conjugate_gradients(
        Systems(product), u.reshape(rows.shape), max_products=steps, accuracy=share, share=share
    )
    return (found.form + found.rest if estimated else found.form).reshape(z.shape[:-1])


def _deficiency(G: Float[Tensor, "*batch d d"]) -> Int[Tensor, "*batch"]:
    """How many directions each metric ignores, 0 where it is not finite."""
    singular = ~MetricInverse(G).regular & G.isfinite().flatten(-2).all(-1)
    deficiency = torch.zeros_like(singular, dtype=torch.int64)
    deficiency[singular] = G.shape[-1] - rank(G[singular])
    return deficiency


def _cholesky(G: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch d d"]:
    """Cholesky factor of a metric, which a decoder may leave singular to rounding (a dead ReLU, say)."""
    jitter = 10 * torch.finfo(G.dtype).eps * G.diagonal(dim1=-2, dim2=-1).sum(-1)
    jitter = jitter.clamp_min(torch.finfo(G.dtype).tiny)[..., None, None]
    eye = torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
    L, failed = torch.linalg.cholesky_ex(G + jitter * eye)
    # What follows from a failed factor should be NaN, and NaN is never taken for converged.
    return L.masked_fill(failed[..., None, None] > 0, torch.nan)
