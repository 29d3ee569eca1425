"""Which solver suits a manifold, and why."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.checks import guarded
from geodesic.geometry.manifold import Manifold
from geodesic.solvers.krylov import LARGEST_EXPLICIT
from geodesic.solvers.newton import Newton
from geodesic.solvers.newton_krylov import NewtonKrylov
from geodesic.solvers.solver import Solver

__all__ = ["choose_solver"]

_LARGEST_JACOBIAN = 4_000_000  # numbers a node: a path of 32 segments would take a gigabyte in float64


@guarded(differentiable=True)  # its answer has no numbers
def choose_solver(manifold: Manifold, point: Float[Tensor, "1 d"]) -> tuple[Solver[Any], str]:
    """The solver of `solve(..., solver="auto")` at points like this one, and the reason in words.

    `Newton` takes 2 + 2 d decoder passes and d x D numbers a node for an exact system, which is repaid by its last,
    quadratic steps as long as d is at most 32; `NewtonKrylov` takes two passes and D numbers for each product.

    Example:
        >>> import torch, geodesic
        >>> geodesic.solvers.choose_solver(geodesic.surfaces.Sphere(), torch.ones(1, 2))[1]
        'Newton: d = 2 is at most 32, and Jacobians of 2 x 3 numbers a node are small'
    """
    d = point.shape[-1]
    D = d
    if manifold.has_embedding:
        with torch.no_grad():
            D = manifold.embed(point).numel()
    if d > LARGEST_EXPLICIT:
        return NewtonKrylov(), f"NewtonKrylov: d = {d} is above {LARGEST_EXPLICIT}, where Jacobians cost too much"
    if d * D > _LARGEST_JACOBIAN:
        return NewtonKrylov(), f"NewtonKrylov: Jacobians of {d} x {D} numbers a node are too large"
    return Newton(), (
        f"Newton: d = {d} is at most {LARGEST_EXPLICIT}, and Jacobians of {d} x {D} numbers a node are small"
    )
