"""From where a mean or median is searched, and which of several answers is the answer."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.errors import GeodesicWarning
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.path import path_length, straight_path
from geodesic.geometry.period import Period, periods_of, unwrapped
from geodesic.geometry.pieces import pieced
from geodesic.geometry.points import inverse_at
from geodesic.riemannian.statistics.descent import Found
from geodesic.solvers.status import Status

__all__ = ["agreement", "best_of", "clear_of_seams", "two_starts"]

_CANDIDATES = 64  # points among which the second start is looked for: as many of each other's chords are taken
_APART = 1e-3  # of the spread: two answers farther apart than this are two,
_LOOSE = 10  # and than so many tolerances


def two_starts(manifold: Manifold, x: Float[Tensor, "R N d"], w: Float[Tensor, "R N"]) -> Float[Tensor, "2 R d"]:
    """The weighted latent mean, and of the heaviest points that with the least sum of squared chords."""
    middle = (w[..., None] * x).sum(1)
    heavy = w.sort(dim=-1, descending=True, stable=True).indices[:, :_CANDIDATES]
    K = heavy.shape[1]
    some = x.gather(1, heavy[..., None].expand(-1, -1, x.shape[-1]))
    of_some = w.gather(1, heavy)
    one, other = some[:, :, None].expand(-1, K, K, -1), some[:, None].expand(-1, K, K, -1)
    pairs = torch.stack([one, unwrapped(manifold.period, other, one)], dim=-2)
    with torch.no_grad():
        chords = pieced(manifold, x).squared_chords(pairs)
        sums = (chords.reshape(-1, K, K) * of_some[:, None]).sum(-1).nan_to_num(nan=torch.inf)
        central = torch.where(of_some > 0, sums, torch.inf).argmin(-1)
        point = some[torch.arange(len(x), device=x.device), central]
        usable = [inverse_at(manifold, z, on_range=True).regular[:, None] for z in (middle, point)]
    middle, point = torch.where(usable[0], middle, point), torch.where(usable[1], point, middle)
    require_regular(middle, inverse_at(manifold, middle, on_range=True), "points")
    return torch.stack([middle, point])


def best_of(found: Found, S: int) -> Int[Tensor, " R"]:
    """Which start led to the least F, among those that converged if there are any."""
    value = found.visit.value.nan_to_num(nan=torch.inf).unflatten(0, (S, -1))
    converged = (found.status == Status.CONVERGED).unflatten(0, (S, -1))
    value = torch.where(converged | ~converged.any(0), value, torch.inf)
    # Two starts at the same point differ by rounding: the first then.
    least = value.amin(0)
    return (value <= least * (1 + 1e-9)).to(torch.uint8).argmax(0)


def agreement(manifold: Manifold, found: Found, best: Tensor, S: int, what: str, tol: float) -> Bool[Tensor, " R"]:
    """Whether all starts that converged did so at one point; with a warning where they did not."""
    point, length, status = (v.unflatten(0, (S, -1)) for v in (found.point, found.visit.length, found.status))
    R = len(best)
    every = torch.arange(R, device=best.device)
    winner = point[best, every].expand_as(point)
    spread = length[best, every].amax(-1)
    line = straight_path(winner, unwrapped(manifold.period, point, winner), 8)
    with torch.no_grad():
        apart = path_length(pieced(manifold, line), line).nan_to_num(nan=torch.inf)
    apart = torch.where((winner == point).all(-1) | (status != Status.CONVERGED), 0, apart).amax(0)
    apart = torch.where(status[best, every] == Status.CONVERGED, apart, 0)
    several = apart > max(_APART, _LOOSE * tol) * spread
    if several.any():
        row = int(several.nonzero()[0])
        names = ("the latent mean", "the most central point")
        warnings.warn(
            GeodesicWarning(
                f"{what}: {int(several.sum())} of {R} may not be unique: two starts led to points "
                f"{float(apart[row]):.3g} apart, where the points are up to {float(spread[row]):.3g} away; the "
                f"answer is that of {names[int(best[row])]}, with the smaller sum. Give initial_point to choose, or "
                "take fewer or nearer points"
            ),
            stacklevel=5,
        )
    return ~several


def clear_of_seams(
    period: Period | None, m: Float[Tensor, "R d"], x: Float[Tensor, "R N d"], w: Float[Tensor, "R N"]
) -> Bool[Tensor, " R"]:
    """Whether all points are less than a quarter of a period away from m in every periodic coordinate.

    On a circle that is where a mean is known to be the only one: with points farther away another may lie on the other
    side, which the two starts need not find.
    """
    if period is None:
        return torch.ones_like(m[:, 0], dtype=torch.bool)
    p = periods_of(period, m)
    away = (unwrapped(period, x, m[:, None]) - m[:, None]).abs()
    return ((away < p / 4) | (p == 0) | (w == 0)[..., None]).flatten(1).all(1)
