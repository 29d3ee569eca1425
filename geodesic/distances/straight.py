"""Lengths of straight latent lines: what is known of a distance without a search."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.distances.quadrature import length_missed
from geodesic.distances.rounding import moved_by_rounding, surely_below
from geodesic.distances.solved import Found
from geodesic.distances.work import Work
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import grouped, rows_at_once
from geodesic.geometry.period import unwrapped
from geodesic.solvers.measure import straight_lines
from geodesic.solvers.status import Status

__all__ = ["straight_all", "straight_found"]


def straight_all(work: Work, segments: int) -> None:
    """Measure the straight lines of all pairs that are not known."""
    first, second = work.pairs
    open_ = work.open(first, second)
    for some in open_.split(_at_once(work.solver.manifold, work.points, segments)) if len(open_) else ():
        i, j = first[some], second[some]
        work.put(i, j, straight_found(work.solver.manifold, work.points[i], work.others[j], segments))
        work.teller.tell(len(some))


def straight_found(manifold: Manifold, start: Float[Tensor, "P d"], end: Float[Tensor, "P d"], segments: int) -> Found:
    """What straight lines say of distances, (P,): to the nearest copies where coordinates are periodic.

    Upper bounds are the lengths with what quadrature may have missed of them.

    Args:
        manifold: Where to measure.
        start: First ends.
        end: Last ends.
        segments: Of the lines.
    """
    end = unwrapped(manifold.period, end, start)

    def measured(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        lines = straight_lines(manifold, a, b, segments)
        return lines.length, length_missed(lines), surely_below(manifold, a, b)

    with torch.no_grad():
        length, missed, lower = grouped(measured, _at_once(manifold, start, segments), start, end)
    known, sure = length.isfinite(), missed + length * moved_by_rounding(start, end)
    length = torch.where(known, length.maximum(lower), torch.nan)
    return Found(
        length=length,
        lower=lower,
        upper=torch.where(known, length + sure, torch.inf),
        straight_length=length,
        error=torch.full_like(length, torch.inf),  # as that of a geodesic it is not known
        status=torch.full_like(length, Status.NOT_SOUGHT, dtype=torch.long),
        segments=torch.zeros_like(length, dtype=torch.long),
    )


def _at_once(manifold: Manifold, z: Tensor, segments: int) -> int:
    return max(1, rows_at_once(manifold, z, order=1) // (segments + 1))
