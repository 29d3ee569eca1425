"""Newton steps without Jacobians: conjugate gradients on products with the Hessian."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.excess import NewtonStep, newton_step
from geodesic.geometry.manifold import Manifold
from geodesic.numerics.conjugate_gradients import Systems, conjugate_gradients
from geodesic.numerics.masks import divided
from geodesic.solvers.preconditioner import Preconditioner, precondition, with_metric
from geodesic.solvers.solver import Certificate, inner

__all__ = ["LARGEST_EXPLICIT", "Effort", "KrylovStep", "certify", "krylov_step"]

LARGEST_EXPLICIT = 32
"""Latent coordinates up to which Jacobians are formed: a system takes 2 + 2 d decoder passes."""

_SHARE = 0.03  # of the decrement may be left: it is estimated and added
_SAFETY, _UNSOLVED = 2.0, 10.0  # what is added over what is estimated, which is not from above; where products end
_LEADS = 0.3  # of the gradient's norm may be left by a step
_LOOKS = 6  # products with which a saddle is looked for


def certify(
    manifold: Manifold,
    path: Float[Tensor, "P nodes d"],
    weights: Float[Tensor, "P T"],
    tol: Float[Tensor, " P"],
) -> Certificate:
    """The Newton decrement and the sign of the Hessian: by Jacobians for few latent coordinates, by products else.

    Args:
        manifold: Where to measure.
        path: Nodes, (P, T + 1, d).
        weights: Of their segments, (P, T).
        tol: As in `krylov_step`.
    """
    if path.shape[-1] <= LARGEST_EXPLICIT and manifold.forms_hessian:
        return newton_step(manifold.expansion(path, weights))
    with torch.no_grad():
        chords = weights * manifold.squared_chords(path)
    preconditioner = with_metric(manifold, path, weights) or precondition(manifold, path, weights, chords, 0)
    return krylov_step(manifold, path, weights, preconditioner, tol)


@dataclass(frozen=True)
class Effort:
    """How exactly a Newton system is solved.

    Attributes:
        most: Most products, one number or one for each pair.
        residual: Part of the gradient's norm that may be left, whatever the decrement.
        leads: Whether the step has to lead on: it is then solved a little further where the excess is above `tol`.
    """

    most: Int[Tensor, " P"] | int = 100
    residual: float = 0.1
    leads: bool = False


@dataclass(frozen=True)
class KrylovStep(NewtonStep):
    """A step by products, (P, T - 1, d), with whether its excess is `known`, (P,): as exactly as was asked."""

    known: Bool[Tensor, " P"]


def krylov_step(
    manifold: Manifold,
    path: Float[Tensor, "P nodes d"],
    weights: Float[Tensor, "P T"],
    preconditioner: Preconditioner,
    tol: Float[Tensor, " P"],
    effort: Effort | None = None,
) -> KrylovStep:
    """Minimize the quadratic model of the energy by preconditioned conjugate gradients, as exactly as it is asked for.

    The excess is what the step gains in the model and, by an estimate from above, what an exact one would gain beyond
    it. A pair ends early where what it gains alone is above `tol`, and where it meets negative curvature: with what it
    has, a direction of descent. Where products end before that, several times what is estimated is added.

    Reference:
        T. Steihaug, The Conjugate Gradient Method and Trust Regions in Large Scale Optimization, 1983.

    Args:
        manifold: Where to measure.
        path: Nodes, (P, T + 1, d).
        weights: Of their segments, (P, T).
        preconditioner: For the Hessian of half the weighted squared chords.
        tol: The excess that is asked for, (P,); 0 where it is to be known as exactly as can be.
        effort: How exactly; by default with up to 100 products.

    Returns:
        The step; here `minimum` says that no direction of negative curvature was met, which for large d is evidence,
        not proof. It is False where the excess is above `tol`.
    """
    effort = Effort() if effort is None else effort
    chords, g, systems = _systems(manifold, path, weights, preconditioner)
    total = chords.sum(-1)
    most = torch.as_tensor(effort.most, device=g.device).expand(len(g))
    taken, residual = 0, torch.zeros_like(total)

    def decided(form: Tensor, rest: Tensor, left: Tensor, rows: Tensor) -> Tensor:
        nonlocal taken
        taken, residual[rows] = taken + 1, left
        limit = tol[rows] * total[rows]
        refused = (form > limit) & (limit > 0) & (left <= (_LEADS if effort.leads else torch.inf))
        return refused | (taken >= most[rows])

    products = int(most.max()) if len(g) else 0
    found = conjugate_gradients(
        systems, g, max_products=products, accuracy=effort.residual, share=_SHARE, decided=decided
    )
    # No path can lose more than all of its energy, whatever a model with next to no curvature says.
    gain = torch.maximum(inner(g, found.solution), found.form)
    solved = (residual <= effort.residual) & (found.rest <= _SHARE * found.form) | ~found.positive
    beyond = torch.where(solved, _SAFETY * found.rest, _UNSOLVED * found.rest)
    excess = ((gain + beyond) / total).clamp(max=1)
    excess = torch.where(total > torch.finfo(g.dtype).tiny / torch.finfo(g.dtype).eps, excess, torch.nan)
    finite = g.isfinite().flatten(1).all(1) & preconditioner.positive
    direction = torch.where(finite[:, None, None], found.solution, torch.nan)
    excess = torch.where(finite, excess, torch.nan)
    asked, _ = divided(finite & ((excess <= tol) | (tol == 0)))
    minimum = torch.zeros_like(finite)
    if len(asked):
        if systems.narrowed is not None and len(asked) < len(g):
            systems = systems.narrowed(asked)
        minimum[asked] = found.positive[asked] & _seems_minimum(systems, g[asked])
    known = ~finite | solved | ((gain > tol * total) & (tol > 0))
    return KrylovStep(direction, excess, minimum, known)


def _systems(
    manifold: Manifold, path: Tensor, weights: Tensor, preconditioner: Preconditioner
) -> tuple[Float[Tensor, "P T"], Float[Tensor, "P interior d"], Systems]:
    """Weighted squared chords, the gradients of half their sums, and the Newton systems."""
    chords, g, product = manifold.gradient_and_product(path, weights)

    def narrowed(rows: Tensor) -> Systems:
        return _systems(manifold, path[rows], weights[rows], preconditioner[rows])[2]

    return chords, g, Systems(product, preconditioner.solve, narrowed)


def _seems_minimum(systems: Systems, like: Float[Tensor, "P interior d"]) -> Bool[Tensor, " P"]:
    """Whether no negative curvature is met along conjugate directions from a random one.

    The gradient of a stationary point, or of a symmetric start, tells nothing about directions across.
    """
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(like.shape[1:], generator=generator, dtype=like.dtype, device="cpu")
    random = random.to(like.device).expand_as(like)
    # In the range of H, and no further than to where rounding leaves it: directions that a metric of deficient rank
    # ignores have no curvature, and make no saddle.
    right, accuracy = systems.product(systems.scaled(random)), torch.finfo(like.dtype).eps ** 0.5
    return conjugate_gradients(systems, right, max_products=_LOOKS, accuracy=accuracy).positive
