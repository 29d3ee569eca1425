"""Newton steps without Jacobians: conjugate gradients on products with the Hessian."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.geometry.excess import NewtonStep, newton_step
from geodesic.geometry.manifold import Manifold
from geodesic.numerics.conjugate_gradients import conjugate_gradients
from geodesic.solvers.preconditioner import Preconditioner, precondition
from geodesic.solvers.solver import Certificate, inner

__all__ = ["LARGEST_EXPLICIT", "certify", "krylov_step", "seems_minimum"]

LARGEST_EXPLICIT = 32
"""Latent coordinates up to which Jacobians are formed: a system takes 2 + 2 d decoder passes."""

_CERTIFICATE = 0.03  # of the decrement may be left: it is estimated and added
_RESIDUAL = 0.1  # of the gradient's norm may be left, whatever the decrement
_SAFETY = 2.0  # what is added over what is estimated, which is not from above
_SAMPLES = 4  # of the metric, for the preconditioner


def certify(manifold: Manifold, path: Float[Tensor, "P nodes d"], weights: Float[Tensor, "P T"]) -> Certificate:
    """The Newton decrement and the sign of the Hessian: by Jacobians for few latent coordinates, by products else."""
    if path.shape[-1] <= LARGEST_EXPLICIT and manifold.forms_hessian:
        return newton_step(manifold.expansion(path, weights))
    with torch.no_grad():
        chords = weights * manifold.squared_chords(path)
    share = torch.full_like(chords[:, 0], _CERTIFICATE)
    preconditioner = precondition(manifold, path, weights, chords, _SAMPLES)
    step = krylov_step(manifold, path, weights, preconditioner, share)[0]
    return replace(step, minimum=step.minimum & seems_minimum(manifold, path, weights, preconditioner))


def seems_minimum(
    manifold: Manifold,
    path: Float[Tensor, "P nodes d"],
    weights: Float[Tensor, "P T"],
    preconditioner: Preconditioner,
    products: int = 20,
) -> Bool[Tensor, " P"]:
    """Whether no negative curvature is met along conjugate directions from a random one.

    The gradient of a stationary point, or of a symmetric start, tells nothing about directions across.
    """
    _, g, product = manifold.gradient_and_product(path, weights)
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(g.shape[1:], generator=generator, dtype=g.dtype, device="cpu").to(g.device).expand_as(g)
    # In the range of H, and no further than to where rounding leaves it: directions that a metric of deficient rank
    # ignores have no curvature, and make no saddle.
    right, accuracy = product(preconditioner.solve(random)), torch.finfo(g.dtype).eps ** 0.5
    found = conjugate_gradients(
        product, right, max_products=products, accuracy=accuracy, precondition=preconditioner.solve
    )
    return preconditioner.positive & found.positive


def krylov_step(
    manifold: Manifold,
    path: Float[Tensor, "P nodes d"],
    weights: Float[Tensor, "P T"],
    preconditioner: Preconditioner,
    share: Float[Tensor, " P"],
    max_products: int = 100,
) -> tuple[NewtonStep, Float[Tensor, " P"], Float[Tensor, "P interior d"]]:
    """Minimize the quadratic model of the energy by preconditioned conjugate gradients, to an accuracy.

    A pair ends early where it meets negative curvature: with what it has, a direction of descent. The excess is what
    the step gains in the model and, by an estimate from above, what an exact one would gain beyond it.

    Reference:
        T. Steihaug, The Conjugate Gradient Method and Trust Regions in Large Scale Optimization, 1983.

    Args:
        manifold: Where to measure.
        path: Nodes, (P, T + 1, d).
        weights: Of their segments, (P, T).
        preconditioner: For the Hessian of half the weighted squared chords.
        share: Part of the decrement g^T H^{-1} g that the step may leave, for each pair.
        max_products: Most products with the Hessian, two decoder passes each.

    Returns:
        The step; here `minimum` says that no direction of negative curvature was met, which for large d is evidence,
        not proof. Then the energies, and the gradients of half the weighted squared chords.
    """
    chords, g, product = manifold.gradient_and_product(path, weights)
    total = chords.sum(-1)
    found = conjugate_gradients(
        product, g, max_products=max_products, accuracy=_RESIDUAL, share=share, precondition=preconditioner.solve
    )
    direction = found.solution
    # No path can lose more than all of its energy, whatever a model with next to no curvature says.
    excess = ((inner(g, direction) + _SAFETY * found.rest) / total).clamp(max=1)
    excess = torch.where(total > torch.finfo(g.dtype).tiny / torch.finfo(g.dtype).eps, excess, torch.nan)
    finite = g.isfinite().flatten(1).all(1) & preconditioner.positive
    direction = torch.where(finite[:, None, None], direction, torch.nan)
    step = NewtonStep(direction, torch.where(finite, excess, torch.nan), found.positive)
    return step, (path.shape[1] - 1) / 2 * total, g
