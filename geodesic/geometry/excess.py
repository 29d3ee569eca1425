"""The quadratic model of the energy: Newton's step, and how much of its energy a path could still lose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.geometry.checks import admit_path, guarded
from geodesic.geometry.energy import constant, require_path
from geodesic.geometry.jumps import jumps
from geodesic.geometry.manifold import Expansion, Manifold
from geodesic.numerics.block_tridiagonal import BlockCholesky, BlockTridiagonal
from geodesic.numerics.kernel import on_kernel

__all__ = ["ExactStep", "NewtonStep", "hessian_seen", "newton_step", "relative_excess_energy"]


@guarded
def relative_excess_energy(manifold: Manifold, path: Tensor) -> Float[Tensor, "*batch"]:
    """How much of its energy a path could still lose: the Newton decrement over the energy, g^T H^{-1} g / (2 E).

    g is the gradient of the energy and H its Hessian, block tridiagonal. The ratio has no unit and does not change
    when the outputs are scaled or the latent coordinates are transformed linearly. Near a minimum it is the part of
    E still to gain; near any stationary point it is small.

    Where H is not positive definite no quadratic model has a minimum, and a positive semidefinite part of H takes
    its place, see `newton_step`.

    Warning:
        Takes Jacobians, 2 + 2 d decoder passes. For large d see `NewtonKrylov`, which needs products alone.

    Args:
        manifold: Gives the energy to second order.
        path: Nodes, (*batch, T + 1, d), with T at least 2.

    Returns:
        The ratios, (*batch,). Zero for a constant path. NaN where nothing can be said: the energy is too small for the
        dtype, second derivatives are not finite, or the decoder jumps between two nodes. Without history.

    Raises:
        InputError: The path has no interior node.

    Example:
        >>> import torch, geodesic
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> geodesic.geometry.relative_excess_energy(plane, torch.tensor([[0.0], [0.5], [2.0]]))
        tensor(0.2000)
    """
    require_path(path, interior=True)
    admit_path(manifold, path)
    paths = path.detach().reshape(-1, *path.shape[-2:])
    step = newton_step(manifold.expansion(paths))
    excess = torch.where(jumps(manifold, paths), torch.nan, step.excess)
    return torch.where(constant(paths), 0, excess).reshape(path.shape[:-2])


@dataclass(frozen=True)
class NewtonStep:
    """What the quadratic model of the energy says about paths, (P, T + 1, d).

    Attributes:
        direction: H^{-1} g, (P, T - 1, d), to subtract from the interior nodes; NaN where H is not finite.
        excess: The relative excess energy that the model predicts, (P,).
        minimum: Whether the exact Hessian is positive definite along what the metric sees, (P,).
    """

    direction: Float[Tensor, "P interior d"]
    excess: Float[Tensor, " P"]
    minimum: Bool[Tensor, " P"]


@dataclass(frozen=True)
class ExactStep(NewtonStep):
    """A step with what it was made from.

    Attributes:
        factors: Of the exact Hessian; their solutions are NaN where it is not positive definite.
    """

    factors: BlockCholesky


def newton_step(expansion: Expansion) -> ExactStep:
    """Minimize the quadratic model of the energy, or a convex one where it has no minimum.

    Where the exact Hessian fails to be positive definite, its sources of negative curvature are halved, then left
    out, which makes it semidefinite, then it is damped. Directions that the metric ignores at a node, such as a latent
    coordinate without effect, are no part of this: nodes do not move along them.
    """
    g, hessian = expansion.gradient, expansion.hessian
    eps = torch.finfo(g.dtype).eps
    exact = factors = hessian.damped(10 * eps).cholesky()
    direction, minimum = factors.solve(g), _strictly_positive(hessian)
    exact.positive &= minimum
    finite = hessian.diagonal.isfinite().flatten(1).all(1) & hessian.upper.isfinite().flatten(1).all(1)
    finite &= g.isfinite().flatten(1).all(1)
    (rows,) = (finite & ~minimum).nonzero(as_tuple=True)
    if len(rows):
        ignored = on_kernel(expansion.convexified(rows, 0.0).diagonal, hessian.diagonal[rows], eps**0.5)
        seen = hessian[rows].plus(ignored)
        factors = seen.damped(10 * eps).cholesky()
        direction[rows] = factors.solve(g[rows])
        minimum[rows] = _strictly_positive(seen)
        left, rows = ~factors.positive, rows[~factors.positive]
        ignored = ignored[left]
    for share, damping in ((0.5, 10 * eps), (0.0, 100 * eps), (0.0, eps**0.5)):
        if not len(rows):
            break
        model = expansion.convexified(rows, share)
        if share == 0:  # a positive semidefinite part may ignore more than the Hessian does
            ignored = on_kernel(model.diagonal, model.diagonal, eps**0.5)
        factors = model.plus(ignored).damped(damping).cholesky()
        direction[rows[factors.positive]] = factors.solve(g[rows])[factors.positive]
        rows, ignored = rows[~factors.positive], ignored[~factors.positive]
    total = expansion.squared_chords.sum(-1)
    # Below the range of the dtype squares underflow, and zero over zero would pass for converged.
    seen_at_all = total > torch.finfo(g.dtype).tiny / eps
    excess = torch.where(seen_at_all, (g * direction).sum((-2, -1)) / total, torch.nan)
    return ExactStep(direction, excess, minimum, exact)


def hessian_seen(expansion: Expansion) -> BlockTridiagonal:
    """The Hessian, made positive along directions that the metric ignores at a node and that change no energy."""
    hessian = expansion.hessian
    finite = hessian.diagonal.isfinite().flatten(1).all(1) & hessian.upper.isfinite().flatten(1).all(1)
    (rows,) = finite.nonzero(as_tuple=True)
    ignored = torch.zeros_like(hessian.diagonal)
    if len(rows):
        least = torch.finfo(ignored.dtype).eps ** 0.5
        ignored[rows] = on_kernel(expansion.convexified(rows, 0.0).diagonal, hessian.diagonal[rows], least)
    return hessian.plus(ignored)


def _strictly_positive(hessian: BlockTridiagonal) -> Bool[Tensor, " P"]:
    """Which are positive definite also with a little taken away, which a singular matrix does not survive."""
    return hessian.damped(-100 * torch.finfo(hessian.diagonal.dtype).eps).cholesky().positive
