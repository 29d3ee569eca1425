"""How far the length of a curve may be off by quadrature: what makes a length an upper bound of the distance."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.distances.rounding import moved_by_rounding
from geodesic.solvers.measure import StraightLines
from geodesic.solvers.solution import GeodesicSolution

__all__ = ["length_missed", "quadrature_error"]

_ROUNDINGS = 10  # of a length
_OF_BENDS = 2.0  # times what arcs are longer than their chords, that they may be off


def quadrature_error(solution: GeodesicSolution) -> Float[Tensor, " P"]:
    """Estimated error of the lengths of curves, (P,), relative to them, with what rounding of the nodes may change.

    Args:
        solution: The curves, of one leading axis.
    """
    ends = solution.mesh.flatten(2)[:, [0, -1]]
    by_rules = solution.quadrature_error + moved_by_rounding(ends[:, 0], ends[:, 1])
    # Of a polygon through faces the segments are smooth, and no shorter than their chords: its own error holds both.
    error = torch.where(solution.polygon, solution.error, by_rules)
    eps = torch.finfo(error.dtype).eps
    return torch.where(solution.length == 0, 0, error.nan_to_num(nan=torch.inf).clamp_min(_ROUNDINGS * eps))


def length_missed(lines: StraightLines) -> Float[Tensor, " P"]:
    """What the lengths of straight lines may fall short of the truth by quadrature, (P,), in units of length.

    What a curve is longer between two nodes than their chord is known by one cubic alone, and so may be three times as
    long. That holds on circles up to a whole turn between nodes, and hardly ever fails beside kinks. The difference to
    half as many segments, which is of higher order, is too small where both rules miss the same bend.

    Args:
        lines: As measured.
    """
    return _OF_BENDS * (lines.arcs - lines.chords).abs().sum(1)
