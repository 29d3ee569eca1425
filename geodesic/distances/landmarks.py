"""Distances by way of landmarks: geodesics to a few points, and the triangle inequality between all others."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.distances.methods import Landmarks
from geodesic.distances.order import spread_first
from geodesic.distances.surroundings import Surroundings, equal
from geodesic.distances.work import Work
from geodesic.solvers.status import Status

__all__ = ["by_landmarks", "shorter_by_a_third"]

_AT_ONCE = 2**24  # numbers of a block of sums


def by_landmarks(work: Work, method: Landmarks) -> dict[str, Any]:
    """Fill in the ways over landmarks for all pairs, and the geodesics to these.

    Args:
        work: The points.
        method: Settings.

    Returns:
        `estimate`, as in `DistanceMatrix`.

    Raises:
        InputError: There are more landmarks than points.
    """
    require_integer("count", method.count, least=1, most=len(work.points), note="the number of points")
    z, rows, columns = work.nodes
    order, _ = spread_first(work.points)
    chosen = order[: method.count]
    everyone = torch.arange(len(z), device=z.device)
    i, j = chosen.repeat_interleave(len(z)), everyone.repeat(len(chosen))
    twice = torch.isin(j, chosen) & (j < i)  # pairs of two landmarks, from their other end
    (open_,) = (~twice & (z[i] != z[j]).any(-1)).nonzero(as_tuple=True)
    work.teller.pairs = work.teller.done
    found = work.between(i[open_], j[open_], z)
    length, upper = (_to_landmarks(x, chosen, i[open_], j[open_], z) for x in (found.length, found.upper))
    ways, bounds = (shorter_by_a_third(x[:, rows], x[:, columns])[0] for x in (length, upper))
    estimate = torch.zeros_like(ways)
    for to in length:
        estimate = estimate.maximum((to[rows, None] - to[columns]).abs().nan_to_num(nan=0.0, posinf=0.0))
    lower = Surroundings(work.solver.manifold, z).lower_bounds(rows, columns)
    work.fill(ways, bounds, lower)
    exact = (work.known.status != Status.NOT_SOUGHT) & work.known.length.isfinite()
    return {"estimate": torch.where(exact, work.known.length, estimate)}


def shorter_by_a_third(
    first: Float[Tensor, "K N"], second: Float[Tensor, "K M"]
) -> tuple[Float[Tensor, "N M"], Tensor]:
    """The least sum over a third point k of first[k, i] and second[k, j], (N, M), and which point that is."""
    first, second = (torch.where(x.isnan(), torch.inf, x) for x in (first, second))
    K, N = first.shape
    least, third = [], []
    for rows in torch.arange(N, device=first.device).split(max(1, _AT_ONCE // max(K * second.shape[1], 1))):
        sums = (first[:, rows, None] + second[:, None]).min(0)
        least.append(sums.values)
        third.append(sums.indices)
    return torch.cat(least), torch.cat(third)


def _to_landmarks(x: Tensor, chosen: Tensor, i: Tensor, j: Tensor, z: Tensor) -> Float[Tensor, "K nodes"]:
    """What was found between landmarks and all points as a matrix; between equal points zero."""
    K = len(chosen)
    place = torch.full((len(z),), -1, dtype=torch.long, device=z.device)
    place[chosen] = torch.arange(K, device=z.device)
    matrix = x.new_full((K, len(z)), torch.inf)
    matrix[equal(z[chosen], z)] = 0
    matrix[place[i], j] = x
    both = place[j] >= 0
    matrix[place[j[both]], i[both]] = x[both]
    return matrix
