"""Distances of pairs by solving for their geodesics, with bounds: what all methods build on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.distances.quadrature import quadrature_error
from geodesic.distances.rounding import surely_below
from geodesic.distances.told import Teller
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import BUDGET, comfortable
from geodesic.solvers.doubts import doubts_of
from geodesic.solvers.mesh import Mesh
from geodesic.solvers.search import Search
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.solve import find
from geodesic.solvers.status import Status

__all__ = ["Found", "Solver", "found_between", "groups", "joined"]

_FIRST, _LARGEST = 64, 2048  # pairs of the first group, and of the largest
_STEADY = 256  # pairs of every group where the clock may not decide
_SECONDS = 4.0  # that a group should take: so much is lost by an interrupt
_BASELESS = (Status.JUMP, Status.NOT_FINITE)  # lengths that are none of a curve


@dataclass(frozen=True)
class Found:
    """What is known of the distances of pairs, (P,), or of all pairs of points, (N, M), as in a `DistanceMatrix`."""

    length: Float[Tensor, "*P"]
    lower: Float[Tensor, "*P"]
    upper: Float[Tensor, "*P"]
    straight_length: Float[Tensor, "*P"]
    error: Float[Tensor, "*P"]
    status: Int[Tensor, "*P"]
    segments: Int[Tensor, "*P"]

    def __getitem__(self, rows: Tensor) -> Found:
        return Found(*(getattr(self, field.name)[rows] for field in fields(self)))

    def at(self, rows: Int[Tensor, " P"], columns: Int[Tensor, " P"]) -> Found:
        """Of matrices of what was found: some pairs."""
        return Found(*(getattr(self, field.name)[rows, columns] for field in fields(self)))

    @classmethod
    def of(cls, manifold: Manifold, solution: GeodesicSolution) -> Found:
        """What a solution says, of one leading axis."""
        status = doubts_of(solution)
        baseless = solution.length.isnan()
        for kind in _BASELESS:
            baseless |= status == kind
        ends = solution.mesh.flatten(2)[:, [0, -1]]
        lower = surely_below(manifold, ends[:, 0], ends[:, 1])
        length = solution.length.maximum(lower)  # quadrature of few segments falls short of the chord beside kinks
        return cls(
            length=torch.where(baseless, torch.nan, length),
            lower=lower,
            upper=torch.where(baseless, torch.inf, length * (1 + quadrature_error(solution))),
            straight_length=solution.straight_length,
            error=torch.where(baseless, torch.inf, solution.error),
            status=status,
            segments=solution.segments,
        )


class Solver:
    """Solves for geodesics of pairs: what it was told once, it keeps.

    Args:
        manifold: Where to measure.
        search: How to look; the plan of the first answer is followed by all others.
        steady: Whether neither the clock nor the free memory decides how many pairs are solved together: the last
            digits of an answer depend on that.
    """

    def __init__(self, manifold: Manifold, search: Search, steady: bool = False) -> None:
        self.manifold, self.search, self.steady = manifold, search, steady

    def room(self, device: torch.device) -> float:
        """Bytes that curves may take which are kept for others to begin from."""
        return BUDGET if self.steady else comfortable(device, self.search.memory)

    def solve(
        self, start: Float[Tensor, "P d"], end: Float[Tensor, "P d"], known: Mesh | None = None
    ) -> GeodesicSolution:
        """The geodesics, from straight lines or from curves that are near them."""
        shape = (-1, *(self.manifold.latent_shape or start.shape[1:]))
        solution = find(self.manifold, start.reshape(shape), end.reshape(shape), self.search, None, known)
        if self.search.plan is None:  # costs are measured once
            self.search = replace(self.search, plan=solution.plan, solver="auto", memory=None)
        return solution


def found_between(solver: Solver, start: Float[Tensor, "P d"], end: Float[Tensor, "P d"], teller: Teller) -> Found:
    """What the geodesics of pairs say of their distances, group by group."""
    parts: list[Found] = []

    def each(some: Int[Tensor, " n"]) -> None:
        parts.append(Found.of(solver.manifold, solver.solve(start[some], end[some])))

    before = 0
    for done in groups(torch.arange(len(start), device=start.device), each, solver.steady):
        teller.tell(done - before)
        before = done
    return joined(parts)


def groups(rows: Int[Tensor, " P"], each: Callable[[Int[Tensor, " n"]], None], steady: bool = False) -> Iterator[int]:
    """Work on rows group by group, the next one as large as seconds allow; yields how many were done after each.

    Args:
        rows: To work on.
        each: The work.
        steady: Whether all groups are of one size instead.
    """
    size, done = _STEADY if steady else _FIRST, 0
    while done < len(rows):
        began = time.monotonic()
        some = rows[done : done + size]
        each(some)
        done += len(some)
        taken = time.monotonic() - began
        if len(some) == size and not steady:
            size = max(1, min(_LARGEST, round(size * min(2.0, _SECONDS / max(taken, 1e-3)))))
        yield done


def joined(parts: Sequence[Found]) -> Found:
    """What was found of several groups of pairs, one after the other."""
    return Found(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Found)))
