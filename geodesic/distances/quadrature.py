"""How far the length of a curve may be off by quadrature: what makes a length an upper bound of the distance."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.distances.rounding import moved_by_rounding
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import grouped, rows_at_once
from geodesic.numerics.spline import hermite, slopes
from geodesic.solvers.solution import GeodesicSolution

__all__ = ["quadrature_error"]

_BESIDE_KINKS = 2.0  # times the difference of the rules, that the error on a segment with a kink is at most
_LIKELY = 3.0  # times the root of the summed squares of the segments' errors: kinks make their signs random
_ROUNDINGS = 10  # of a length


@torch.no_grad()
def quadrature_error(manifold: Manifold, solution: GeodesicSolution) -> Float[Tensor, " P"]:
    """Estimated error of the lengths of curves, (P,), relative to them: by how much two rules differ on each segment.

    Lengths are by the rule of Gauss and Legendre of order 6; Simpson's, of order 4, errs more where speeds are smooth.
    Where the speed jumps once on a segment, from one constant to another, their difference is at least half of the
    error, wherever that is. These bounds add up as they are, or as three times the root of the sum of their squares
    where that is less: between many kinks, whose signs are random. What rounding of the nodes may change is added.

    Args:
        manifold: Where the curves lie.
        solution: The curves, of one leading axis.
    """
    error = torch.full_like(solution.length, torch.inf)
    (taut,) = solution.polygon.nonzero(as_tuple=True)
    # Of a polygon through faces the segments are smooth, and no shorter than their chords: its own error holds both.
    error[taut] = solution.error[taut]
    for T in solution.segments[~solution.polygon].unique().tolist():
        (rows,) = ((solution.segments == T) & ~solution.polygon).nonzero(as_tuple=True)
        path = solution.mesh[rows, : T + 1].flatten(2)
        by_gauss = solution.arc[rows, : T + 1].diff(dim=1) * solution.length[rows, None]
        size = max(1, rows_at_once(manifold, path[0], order=1) // (2 * T + 1))
        by_simpson = grouped(lambda some: _simpson(manifold, some), size, path)
        off = _BESIDE_KINKS * (by_gauss - by_simpson).abs()
        between = off.sum(1).minimum(_LIKELY * off.square().sum(1).sqrt()) / solution.length[rows]
        error[rows] = between + moved_by_rounding(path[:, 0], path[:, -1])
    still = solution.length == 0
    eps = torch.finfo(error.dtype).eps
    return torch.where(still, 0, error.nan_to_num(nan=torch.inf).clamp_min(_ROUNDINGS * eps))


def _simpson(manifold: Manifold, path: Float[Tensor, "P nodes d"]) -> Float[Tensor, "P T"]:
    """Lengths of the segments of the spline through the nodes, by Simpson's rule."""
    slope = slopes(path)
    middle, velocity = hermite(path[:, :-1], path[:, 1:], slope[:, :-1], slope[:, 1:], path.new_tensor(0.5))
    z, v = torch.cat([path, middle], dim=1), torch.cat([slope, velocity], dim=1)
    speed = manifold.squared_norm(z, v).clamp_min(0).sqrt()
    nodes, middles = speed.split([path.shape[1], middle.shape[1]], dim=1)
    return (nodes[:, :-1] + 4 * middles + nodes[:, 1:]) / 6
