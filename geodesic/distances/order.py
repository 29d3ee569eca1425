"""In which order pairs are solved: coarse points first, and every later pair beside one that is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Stage", "spread_first", "stages"]

_COARSEST = 16  # points whose pairs are solved from straight lines
_NEAR = 0.25  # of the distance between the ends: a pair whose end is moved farther has nothing to learn from the other
_AT_ONCE = 2**22  # numbers of the points whose distances are taken together


@dataclass(frozen=True)
class Stage:
    """Pairs that can be solved together, once those of earlier stages are known.

    Attributes:
        first: Rows of the points, (P,).
        second: Rows of the others, (P,).
        near_first: The pair to begin from, whose geodesic is moved to these ends, (P,); -1 where there is none.
        near_second: Its other end, (P,).
    """

    first: Int[Tensor, " P"]
    second: Int[Tensor, " P"]
    near_first: Int[Tensor, " P"]
    near_second: Int[Tensor, " P"]


def spread_first(x: Float[Tensor, "N D"]) -> tuple[Int[Tensor, " N"], Int[Tensor, " N"]]:
    """Points in an order in which each is as far as possible from all before it, and its nearest among those.

    T. F. Gonzalez, Clustering to minimize the maximum intercluster distance, 1985.

    Returns:
        The order, (N,), the first one the nearest to the mean; and of each point, by its own number, the nearest one
        before it, (N,), -1 for the first.

    Example:
        >>> import torch
        >>> from geodesic.distances.order import spread_first
        >>> order, parent = spread_first(torch.tensor([[0.0], [0.4], [1.0], [3.0]]))
        >>> order.tolist(), parent.tolist()
        ([2, 3, 0, 1], [2, 0, -1, 2])
    """
    N = len(x)
    order = torch.empty(N, dtype=torch.long, device=x.device)
    parent = torch.full_like(order, -1)
    gap = torch.full_like(x[:, 0], torch.inf)
    last = (x - x.mean(0)).square().sum(-1).argmin()
    for k in range(N):
        order[k] = last
        gap[last] = -torch.inf
        d = (x - x[last]).square().sum(-1)
        nearer = d < gap
        parent[nearer], gap[nearer] = last, d[nearer]
        last = gap.argmax()
    return order, parent


def stages(x: Float[Tensor, "N D"], y: Float[Tensor, "M D"] | None = None) -> list[Stage]:
    """All pairs of points x with others y, or of points x among themselves, each once, i < j, in stages.

    The points of a level are twice as many as those of the one before. Pairs of new rows with old columns begin from
    the pair of the row's nearest old point; pairs with new columns from the pair of the column's nearest old point.

    Args:
        x: Points, as they are told apart: (N, D).
        y: The others, (M, D).
    """
    same = y is None
    order_x, parent_x = spread_first(x)
    order_y, parent_y = (order_x, parent_x) if y is None else spread_first(y)
    y = x if y is None else y
    found, old_x, old_y = [], order_x[:0], order_y[:0]
    size = _COARSEST
    while len(old_x) < len(x) or len(old_y) < len(y):
        all_x, all_y = order_x[:size], order_y[:size]
        new_x, new_y = all_x[len(old_x) :], all_y[len(old_y) :]
        nowhere = not len(old_x) or not len(old_y)
        if nowhere:
            i, j = _product(all_x, all_y)
            i, j = (i[i < j], j[i < j]) if same else (i, j)
            found.append(_stage(x, y, i, j, -torch.ones_like(i), j))
        else:
            i, j = _product(new_x, old_y)
            found.append(_stage(x, y, i, j, _within(parent_x, old_x)[i], j))
            i, j = _product(new_x if same else all_x, new_y)
            i, j = (i[i < j], j[i < j]) if same else (i, j)
            found.append(_stage(x, y, i, j, i, _within(parent_y, old_y)[j]))
        old_x, old_y, size = all_x, all_y, 2 * size
    return [stage for stage in found if len(stage.first)]


def _within(parent: Int[Tensor, " N"], old: Int[Tensor, " K"]) -> Int[Tensor, " N"]:
    """Of each point the nearest old one: parents of parents, until they are old."""
    known = torch.zeros_like(parent, dtype=torch.bool)
    known[old] = True
    near = parent.clone()
    while bool((~known[near.clamp_min(0)] & (near >= 0)).any()):
        near = torch.where(known[near.clamp_min(0)], near, parent[near.clamp_min(0)])
    return near


def _product(a: Int[Tensor, " A"], b: Int[Tensor, " B"]) -> tuple[Int[Tensor, " AB"], Int[Tensor, " AB"]]:
    return a.repeat_interleave(len(b)), b.repeat(len(a))


def _stage(x: Tensor, y: Tensor, i: Tensor, j: Tensor, near_i: Tensor, near_j: Tensor) -> Stage:
    """The stage, without what lies too far away to begin from, or begins and ends at one point."""
    moved = _apart(x, i, x, near_i.clamp_min(0)) + _apart(y, j, y, near_j.clamp_min(0))
    usable = (near_i >= 0) & (near_j >= 0) & (moved < _NEAR * _apart(x, i, y, j))
    return Stage(i, j, torch.where(usable, near_i, -1), torch.where(usable, near_j, -1))


def _apart(x: Tensor, i: Int[Tensor, " P"], y: Tensor, j: Int[Tensor, " P"]) -> Float[Tensor, " P"]:
    """Distances of points x[i] and y[j], (P,), some at a time."""
    some = max(1, _AT_ONCE // x.shape[1])
    return torch.cat([(x[a] - y[b]).norm(dim=-1) for a, b in zip(i.split(some), j.split(some), strict=True)])
