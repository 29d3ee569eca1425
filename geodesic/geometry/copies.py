"""Which copy of a point to go to, where latent coordinates are periodic."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.geometry.path import straight_path
from geodesic.geometry.period import Period, moved_by, periods_of, same_points, turns
from geodesic.geometry.pieces import InPieces, pieced

__all__ = ["Copy", "nearest_copies", "nearest_copy", "to_nearest_copies"]

_MOST = 81  # copies of a point that are compared: all neighbors of the nearest for up to 4 periodic coordinates
_WORTH = 1.5  # times the shortest straight line, beyond which no geodesic is looked for


class Copy(NamedTuple):
    """A copy of the last endpoint of each pair, and whether it is near enough to be worth a search.

    Attributes:
        end: (P, d).
        usable: (P,), boolean.
    """

    end: Float[Tensor, "P d"]
    usable: Bool[Tensor, " P"]


def nearest_copies(
    manifold: Manifold, start: Float[Tensor, "P d"], end: Float[Tensor, "P d"], most: int = 1, segments: int = 16
) -> list[Copy]:
    """The copies of last endpoints with the shortest straight lines, from the shortest on.

    Compared are the copy that lies nearest in latent coordinates and its neighbors, a period to either side in each
    periodic coordinate, and in all combinations of them where these are at most four. Lengths are sums of chords; where
    a curve has none, the energy decides. Of straight lines that are equally long that to the nearest copy counts, and
    the rule does not depend on the period in which points are given.

    Args:
        manifold: Where to measure. Without periods the ends are the only copies.
        start: First endpoints.
        end: Last endpoints.
        most: How many copies to return, at most. All but the first are usable only where their straight lines are not
            much longer than the shortest.
        segments: Of the straight lines.
    """
    everywhere = torch.ones_like(start[:, 0], dtype=torch.bool)
    if manifold.period is None or not len(start):
        return [Copy(end, everywhere)]
    shifts = _neighbors(manifold.period, start)
    winding = turns(manifold.period, end, start)[:, None] + shifts
    copies = moved_by(manifold.period, end[:, None].expand(-1, len(shifts), -1), winding)
    # A point and its own copy differ by rounding, over which no path can be solved for.
    first = start[:, None].expand_as(copies)
    onto = same_points(manifold.period, end, start)
    same = (onto == start).all(-1) & (end != start).any(-1)
    copies = torch.where(same[:, None, None] & (shifts == 0).all(-1)[:, None], first, copies)
    lengths = _sizes(manifold, straight_path(first, copies, segments))
    rows, shortest = torch.arange(len(start), device=start.device), lengths.amin(1)
    found: list[Copy] = []
    for _ in range(min(most, len(shifts))):
        least = lengths.amin(1, keepdim=True)
        chosen = (lengths <= (1 + 100 * torch.finfo(start.dtype).eps) * least).to(torch.uint8).argmax(1)
        usable = least[:, 0] <= _WORTH * shortest if found else everywhere
        found.append(Copy(copies[rows, chosen], usable & (least[:, 0].isfinite() | (not found))))
        lengths = lengths.index_put((rows, chosen), torch.full_like(shortest, torch.inf))
    return found


def nearest_copy(manifold: Manifold, start: Float[Tensor, "P d"], end: Float[Tensor, "P d"]) -> Float[Tensor, "P d"]:
    """The copies of last endpoints with the shortest straight lines, see `nearest_copies`."""
    return nearest_copies(manifold, start, end)[0].end


def to_nearest_copies(manifold: Manifold, path: Float[Tensor, "P nodes d"]) -> Float[Tensor, "P nodes d"]:
    """The paths, or straight lines to other copies of their ends where these are shorter.

    Where the first ends of paths move, as in a search for a mean, other copies come nearer.
    """
    if manifold.period is None or not len(path):
        return path
    copies = nearest_copy(manifold, path[:, 0], path[:, -1])
    (rows,) = (copies != path[:, -1]).any(-1).nonzero(as_tuple=True)
    if not len(rows):
        return path
    line = straight_path(path[rows, 0], copies[rows], path.shape[1] - 1)
    shorter = _sizes(manifold, line) < _sizes(manifold, path[rows])
    return path.index_put((rows[shorter],), line[shorter])


def _sizes(manifold: Manifold, path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch"]:
    """Sums of chords, or the root of that of their squares where curves have no length; infinite where not finite."""
    within = manifold if isinstance(manifold, InPieces) else pieced(manifold, path)
    with torch.no_grad():
        squares = within.squared_chords(path).clamp_min(0)
    sizes = squares.sqrt().sum(-1) if manifold.has_length else squares.sum(-1).sqrt()
    return sizes.nan_to_num(nan=torch.inf)


def _neighbors(period: Period, z: Float[Tensor, "*batch d"]) -> Int[Tensor, "C d"]:
    """The turns from the nearest copy of a point to those that are compared, itself the first."""
    closed = [k for k, p in enumerate(periods_of(period, z).tolist()) if p > 0]
    if 3 ** len(closed) <= _MOST:
        steps = list(itertools.product((0, 1, -1), repeat=len(closed)))
    else:
        units = torch.eye(len(closed), dtype=torch.long, device="cpu").tolist()
        steps = [tuple([0] * len(closed)), *(tuple(sign * x for x in unit) for unit in units for sign in (1, -1))]
    shifts = torch.zeros(len(steps), z.shape[-1], dtype=torch.long, device="cpu")
    shifts[:, closed] = torch.tensor(steps, dtype=torch.long, device="cpu")
    return shifts.to(z.device)
