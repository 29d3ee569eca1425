"""Certificates of quasi-Newton methods: by products with the Hessian, as many as the path is worth."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.numerics.masks import divided
from geodesic.solvers.krylov import Effort, KrylovStep, krylov_step
from geodesic.solvers.preconditioner import price_of_metric, with_metric
from geodesic.solvers.quasi_newton import Corrected, QuasiNewton
from geodesic.solvers.stiffness import Laplacian

__all__ = ["certified"]

_LEAST, _MOST = 20, 100  # products that a certificate may take, however few steps were taken, and of a path that ends
_ALONE = 0.03  # of the gradient's norm may be left under a Laplacian alone, which hides soft directions


def certified(manifold: Manifold, state: Corrected, tol: Float[Tensor, " P"], steps: int, samples: int) -> KrylovStep:
    """The Newton system of paths, with the matrix of their solver for a preconditioner.

    It takes no more products than steps were taken, unless they were few, or the path ends here. Under a Laplacian the
    residual falls long before directions are seen along which the energy hardly changes: of decoders to which most
    coordinates hardly matter, half of the excess may lie there. So more is asked of it, and where that takes more
    products than the metric costs, the metric is taken.

    Args:
        manifold: Where to measure.
        state: Of the solver.
        tol: As in `krylov_step`.
        steps: That were taken.
        samples: Of the metric that the preconditioner may take.
    """
    path, weights, H = state.path, state.weights, QuasiNewton.of(state)
    most = torch.where(tol > 0, max(_LEAST, steps), _MOST)
    if not isinstance(state.preconditioner, Laplacian):
        return krylov_step(manifold, path, weights, H, tol, Effort(most))
    price = price_of_metric(manifold, path, samples)
    first = most if price is None else (most // 2).clamp(max=price)
    step = krylov_step(manifold, path, weights, H, tol, Effort(first, residual=_ALONE))
    rows, _ = divided(~step.known)
    better = with_metric(manifold, path[rows], weights[rows], samples) if price is not None and len(rows) else None
    if better is None:
        return step
    H = QuasiNewton(better, state.steps[rows], state.changes[rows], state.scales[rows])
    again = krylov_step(manifold, path[rows], weights[rows], H, tol[rows], Effort((most - first)[rows]))
    return KrylovStep(
        *(x.index_put((rows,), y) for x, y in zip(_parts(step), _parts(again), strict=True)),
    )


def _parts(step: KrylovStep) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return step.direction, step.excess, step.minimum, step.known
