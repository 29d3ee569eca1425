"""Which points can be the nearest to a query: by bounds as far as they go, by geodesics where they do not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.distances.solved import Found, Solver, groups
from geodesic.distances.straight import straight_found
from geodesic.distances.surroundings import Surroundings, chords_below, equal
from geodesic.distances.told import Teller
from geodesic.solvers.status import Status

__all__ = ["Candidates", "Queries"]

_LINES = 16  # segments of straight lines
_MORE = 2  # times k, so many candidates are looked at first
_UNKNOWN = 8  # times k, so many candidates are solved for where nothing bounds distances from below


@dataclass
class Queries:
    """Queries and the points among which their neighbors are looked for.

    Attributes:
        solver: Looks for geodesics.
        points: To choose from, (N, d).
        queries: Whose neighbors are wanted, (Q, d).
        k: Neighbors.
        itself: Whether the queries are the points: each is its own first neighbor.
        among: The only points that are looked at for each query, (Q, C); None for all points.
        teller: Of progress.
        count: Geodesics that were solved for.
    """

    solver: Solver
    points: Float[Tensor, "N d"]
    queries: Float[Tensor, "Q d"]
    k: int
    itself: bool
    teller: Teller
    among: Int[Tensor, "Q C"] | None = None
    count: int = 0

    def of(self, rows: Int[Tensor, " q"]) -> dict[str, Tensor]:
        """The answer for some queries."""
        near = self._begun(rows)
        while True:
            asked = near.asked()
            if not len(asked[0]):
                break
            self._solve(rows, near, asked)
        found = near.answer()
        if self.among is None:
            return found
        # Points that are no candidates are as far through the surrounding space as the farthest candidate, or farther.
        beyond = found["upper"] >= near.lower.amax(1, keepdim=True)
        return found | {
            "indices": self.among[rows].gather(1, found["indices"]),
            "open": found["open"] | beyond,
            "unordered": found["unordered"] | beyond,
        }

    @cached_property
    def _space(self) -> Surroundings:
        return Surroundings(self.solver.manifold, self.points)

    def _begun(self, rows: Int[Tensor, " q"]) -> Candidates:
        """The candidates, with chords and, for those that need them, straight lines."""
        z, N, q = self.queries[rows], len(self.points), len(rows)
        if self.among is None:
            space, at = self._space.with_more(z), torch.arange(N + q, device=z.device)
            near, same = Candidates(space.lower_bounds(at[N:], at[:N]), self.k), equal(z, self.points)
        else:
            points = self.points[self.among[rows]]
            near = Candidates(chords_below(self.solver.manifold, z, points), self.k)
            same = (points == z[:, None]).all(-1)
        i, j = same.nonzero(as_tuple=True)
        near.lower[i, j] = 0
        near.note(i, j, torch.zeros_like(near.lower[i, j]), torch.zeros_like(near.lower[i, j]), solved=True)
        if self.itself:
            near.first |= self._columns(rows) == rows[:, None]
        while True:  # straight lines, nearest chords first, until no other point can come among the nearest
            i, j = near.unmeasured()
            if not len(i):
                return near
            lines = straight_found(self.solver.manifold, z[i], self.points[self._columns(rows)[i, j]], _LINES)
            near.note(i, j, lines.length, lines.upper, solved=False)

    def _columns(self, rows: Int[Tensor, " q"]) -> Int[Tensor, "q C"]:
        """Which points are the candidates."""
        if self.among is not None:
            return self.among[rows]
        return torch.arange(len(self.points), device=rows.device).expand(len(rows), -1)

    def _solve(self, rows: Int[Tensor, " q"], near: Candidates, asked: tuple[Tensor, Tensor]) -> None:
        i, j = asked
        self.teller.pairs += len(i)

        def each(some: Int[Tensor, " n"]) -> None:
            a, b = i[some], j[some]
            solution = self.solver.solve(self.queries[rows[a]], self.points[self._columns(rows)[a, b]])
            found = Found.of(self.solver.manifold, solution)
            near.note(a, b, found.length, found.upper, solved=True)
            jump = found.status == Status.JUMP  # which its straight line crosses unseen
            near.forget(a[jump], b[jump])

        before = 0
        for done in groups(torch.arange(len(i), device=i.device), each, self.solver.at_once(self.points)):
            self.teller.tell(done - before)
            before = done
        self.count += len(i)


class Candidates:
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

    def forget(self, i: Tensor, j: Tensor) -> None:
        """What was taken for curves to points is none."""
        self.length[i, j] = self.upper[i, j] = torch.inf

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
        nowhere = self.upper.isinf() & ~self.first
        names |= {"open": self._open() | nowhere, "unordered": self._unordered() | nowhere}
        found = {name: x.gather(1, chosen) for name, x in names.items()}
        return {"indices": chosen, "candidates": (self.lower <= self.reach).sum(1), **found}
