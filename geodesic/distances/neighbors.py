"""Nearest neighbors by geodesic distance: decided by bounds as far as they go, solved for where they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.arrays import TensorRecord, takes_arrays
from geodesic.checks import require_alike, require_integer
from geodesic.distances.matrix import suited
from geodesic.distances.solved import Found, Solver, groups
from geodesic.distances.straight import straight_found
from geodesic.distances.surroundings import Surroundings
from geodesic.distances.told import DistanceProgress, Teller
from geodesic.errors import InputError
from geodesic.geometry.checks import guarded
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import Rows
from geodesic.keywords import renamed
from geodesic.solvers.search import IN_SEARCH, Search

__all__ = ["NearestPoints", "nearest"]

_LINES = 16  # segments of straight lines
_MORE = 2  # times k, so many candidates are looked at first
_QUERIES = 256  # at once
_UNKNOWN = 8  # times k, so many candidates are solved for where nothing bounds distances from below


@dataclass(frozen=True, kw_only=True)
class NearestPoints(TensorRecord):
    """The k nearest of N points to each of Q queries, nearest first.

    Attributes:
        indices: Which points, (Q, k).
        length: Of the shortest curves found to them, (Q, k).
        lower: What the distances are never below, (Q, k).
        upper: What they are never above, (Q, k), as far as quadrature goes.
        open: Whether bounds leave open that the point is among the k nearest, (Q, k): then lengths decided.
        unordered: Whether bounds leave open that the point has this place among them, (Q, k).
        solved: Whether a geodesic was solved for, (Q, k): else `length` is that of a straight line.
        share_solved: Geodesics that were solved for, over Q N.
        candidates: Points that bounds did not exclude, (Q,).
    """

    indices: Int[Tensor, "Q k"]
    length: Float[Tensor, "Q k"]
    lower: Float[Tensor, "Q k"]
    upper: Float[Tensor, "Q k"]
    open: Bool[Tensor, "Q k"]
    unordered: Bool[Tensor, "Q k"]
    solved: Bool[Tensor, "Q k"]
    share_solved: float
    candidates: Int[Tensor, " Q"]

    @takes_arrays
    def summary(self) -> str:
        """How many neighbors bounds alone decide, and what it took.

        Example:
            >>> import torch, geodesic
            >>> points = torch.linspace(1, 6, 20)[:, None] * torch.tensor([1.0, 0.1])
            >>> found = geodesic.nearest(geodesic.surfaces.SwissRoll(), points, points[:2], 3)
            >>> print(found.summary().partition(",")[0])
            3 nearest of each of 2 queries: 0.0% of them open
        """
        Q, k = self.indices.shape
        return (
            f"{k} nearest of each of {Q:,} queries: {float(self.open.float().mean()):.1%} of them open, "
            f"{float(self.unordered.float().mean()):.1%} in an order that bounds leave open; geodesics solved for "
            f"{self.share_solved:.2%} of all pairs"
        )


@guarded
@renamed(**IN_SEARCH)
def nearest(
    manifold: Manifold,
    points: Tensor,
    queries: Tensor | None,
    k: int,
    *,
    search: Search = Search(),
    callback: Callable[[DistanceProgress], None] | None = None,
) -> NearestPoints:
    """The k nearest points to each query by geodesic distance.

    chord <= d <= length of the straight line, and of every curve that is found

    Candidates come in the order of their distance through the surrounding space, which no geodesic is shorter than, so
    none is missed: once that exceeds the k-th least length, no other point can be among the nearest. Straight lines
    bound distances from above. A geodesic is solved for only where these bounds leave open whether a point is
    among the k nearest, or which place it has. What stays open then is decided by length, and said.

    Warning:
        Where nothing bounds distances from below (a metric given by itself, no embedding), points are left out by the
        lengths of straight lines alone, and everything is open.

    Args:
        manifold: Where to measure.
        points: To choose from, (N, d), floating point; (N, *latent_shape) for a manifold with a `latent_shape`.
        queries: Points to find neighbors of, (Q, d); None for the points themselves, each of which is its own first
            neighbor.
        k: Neighbors, from 1 to N.
        search: How geodesics are looked for, see `distance_matrix`.
        callback: Called with a `DistanceProgress` after each group of pairs.

    Returns:
        The neighbors, with bounds. Without history.

    Raises:
        InputError: Shapes or settings cannot be used, `k` is above the number of points, or there are no lengths.
        DecoderError: As from `solve`.

    Example:
        >>> import torch, geodesic
        >>> roll = geodesic.surfaces.SwissRoll()
        >>> points = torch.linspace(1, 12, 40)[:, None] * torch.tensor([1.0, 0.0])
        >>> geodesic.nearest(roll, points, points[:1], 3).indices
        tensor([[0, 1, 2]])
    """
    search = suited(manifold, search)
    (x,) = _rows(manifold, points=points)
    itself = queries is None or queries is points
    z = x if queries is None else _rows(manifold, queries=queries)[0]
    require_alike(points=x[:1], queries=z[:1])
    require_integer("k", k, least=1, most=len(x), note="the number of points")
    work = _Work(Solver(manifold, search), x, z, k, itself, Teller(callback))
    parts = [work.of(rows) for rows in torch.arange(len(z), device=z.device).split(_QUERIES)]
    found: dict[str, Any] = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return NearestPoints(**found, share_solved=work.count / (len(x) * len(z)))


def _rows(manifold: Manifold, **points: Any) -> list[Tensor]:
    axes = 1 + len(manifold.latent_shape or (None,))
    for name, z in points.items():
        if isinstance(z, Tensor) and (z.dim() != axes or not len(z)):
            raise InputError(f"{name}: expected points, (N, d), at least one, got {tuple(z.shape)}")
    return Rows(manifold, **points).rows


@dataclass
class _Work:
    """What stays the same for all queries, and how many geodesics were solved for."""

    solver: Solver
    points: Float[Tensor, "N d"]
    queries: Float[Tensor, "Q d"]
    k: int
    itself: bool
    teller: Teller
    count: int = 0

    def of(self, rows: Int[Tensor, " q"]) -> dict[str, Tensor]:
        """The answer for some queries."""
        near = self._begun(rows)
        while True:
            asked = near.asked()
            if not len(asked[0]):
                break
            self._solve(rows, near, asked)
        return near.answer()

    def _begun(self, rows: Int[Tensor, " q"]) -> _Candidates:
        """All points as candidates, with chords and, for those that need them, straight lines."""
        z, N, q = self.queries[rows], len(self.points), len(rows)
        space = Surroundings(self.solver.manifold, torch.cat([z, self.points]))
        at = torch.arange(q + N, device=z.device)
        near = _Candidates(space.lower_bounds(at[:q], at[q:]), self.k)
        same = (z[:, None] == self.points).all(-1)
        i, j = same.nonzero(as_tuple=True)
        near.note(i, j, torch.zeros_like(near.lower[i, j]), torch.zeros_like(near.lower[i, j]), solved=True)
        if self.itself:
            near.first[torch.arange(q, device=z.device), rows] = True
        while True:  # straight lines, nearest chords first, until no other point can come among the nearest
            i, j = near.unmeasured()
            if not len(i):
                return near
            lines = straight_found(self.solver.manifold, z[i], self.points[j], _LINES)
            near.note(i, j, lines.length, lines.upper, solved=False)

    def _solve(self, rows: Int[Tensor, " q"], near: _Candidates, asked: tuple[Tensor, Tensor]) -> None:
        i, j = asked
        self.teller.pairs += len(i)

        def each(some: Int[Tensor, " n"]) -> None:
            a, b = i[some], j[some]
            solution = self.solver.solve(self.queries[rows[a]], self.points[b])
            found = Found.of(self.solver.manifold, solution)
            near.note(a, b, found.length, found.upper, solved=True)

        before = 0
        for done in groups(torch.arange(len(i), device=i.device), each):
            self.teller.tell(done - before)
            before = done
        self.count += len(i)


class _Candidates:
    """What is known between some queries and all points.

    Args:
        lower: What distances are never below, (q, N).
        k: Neighbors.
    """

    def __init__(self, lower: Float[Tensor, "q N"], k: int) -> None:
        self.lower, self.k = lower, k
        self.bounded = bool((lower > 0).any())
        self.length, self.upper = (torch.full_like(lower, torch.inf) for _ in range(2))
        self.measured, self.solved, self.first = (torch.zeros_like(lower, dtype=torch.bool) for _ in range(3))
        self.order = lower.argsort(dim=1, stable=True)

    def note(self, i: Tensor, j: Tensor, length: Tensor, upper: Tensor, *, solved: bool) -> None:
        """Curves to points were found."""
        self.length[i, j] = self.length[i, j].minimum(length.nan_to_num(nan=torch.inf))
        self.upper[i, j] = self.upper[i, j].minimum(upper)
        self.measured[i, j] = True
        if solved:
            self.solved[i, j] = True

    @property
    def reach(self) -> Float[Tensor, "q 1"]:
        """The k-th least upper bound of each query: no point whose lower bound is above it is among the nearest."""
        return self.upper.kthvalue(self.k, dim=1, keepdim=True).values

    def unmeasured(self) -> tuple[Tensor, Tensor]:
        """The next candidates whose straight lines are to be measured, as queries and points."""
        wanted = ~self.measured & (self.lower <= self.reach)
        if self.bounded:  # in the order of their chords, some at a time: the reach shrinks on the way
            rank = wanted.gather(1, self.order).cumsum(1)
            next_ = (rank <= _MORE * self.k) & wanted.gather(1, self.order)
            wanted = torch.zeros_like(wanted).scatter(1, self.order, next_)
        i, j = wanted.nonzero(as_tuple=True)
        return i, j

    def asked(self) -> tuple[Tensor, Tensor]:
        """The candidates whose geodesics are to be solved for next, as queries and points.

        Those that bounds leave open, whether they belong to the nearest or which place they have, as long as their
        lower bounds are below the k-th least length; the most promising first.
        """
        known = self.length.kthvalue(self.k, dim=1, keepdim=True).values
        wanted = ~self.solved & self.measured & (self.lower < known) & self._undecided()
        if not self.bounded:  # what is far by straight lines is left out
            most = min(_UNKNOWN * self.k, self.length.shape[1])
            wanted &= self.length <= self.length.kthvalue(most, dim=1, keepdim=True).values
        value = torch.where(wanted, self.length, torch.inf)
        least = value.argsort(dim=1)[:, : self.k]
        next_ = torch.zeros_like(wanted).scatter(1, least, True) & wanted
        i, j = next_.nonzero(as_tuple=True)
        return i, j

    def _undecided(self) -> Bool[Tensor, "q N"]:
        """Of which points bounds do not say whether they are among the nearest, or in which place."""
        return self._open() | self._unordered()

    def _open(self) -> Bool[Tensor, "q N"]:
        """Which points may be among the k nearest, or may not be.

        One is for certain if fewer than k others can be nearer, and is not if k others are for certain.
        """
        possible = self._below(self.lower, self.upper)  # others that can be nearer
        certain = self._below(self.upper, self.lower)  # others that are nearer
        return (possible >= self.k) & (certain < self.k) & ~self.first

    def _unordered(self) -> Bool[Tensor, "q N"]:
        """Which points can have several places, one of them among the k nearest."""
        possible, certain = self._below(self.lower, self.upper), self._below(self.upper, self.lower)
        return (certain < self.k) & (possible != certain) & ~self.first

    def _below(self, values: Float[Tensor, "q N"], bounds: Float[Tensor, "q N"]) -> Int[Tensor, "q N"]:
        """How many other points have a value below the bound of a point."""
        ordered = values.sort(dim=1).values.contiguous()
        count = torch.searchsorted(ordered, bounds.contiguous())
        return count - (values < bounds).to(count)

    def answer(self) -> dict[str, Tensor]:
        """The nearest points, by length."""
        length = torch.where(self.first, -1.0, self.length)
        chosen = length.argsort(dim=1, stable=True)[:, : self.k]
        names = {"length": self.length, "lower": self.lower, "upper": self.upper, "solved": self.solved}
        names |= {"open": self._open(), "unordered": self._unordered()}
        found = {name: x.gather(1, chosen) for name, x in names.items()}
        return {"indices": chosen, "candidates": (self.lower <= self.reach).sum(1), **found}
