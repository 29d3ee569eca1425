"""Distances of pairs by solving for their geodesics, with bounds: what all methods build on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.distances.quadrature import quadrature_error
from geodesic.distances.rounding import surely_below
from geodesic.distances.told import Teller
from geodesic.geometry.costs import Meter
from geodesic.geometry.jumps import measured_by_values
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import BUDGET, comfortable
from geodesic.solvers.doubts import doubts_of
from geodesic.solvers.mesh import Mesh
from geodesic.solvers.search import Search
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.solve import find
from geodesic.solvers.status import Status

__all__ = ["Found", "Solver", "found_between", "groups", "joined"]

_LARGEST = 1024  # pairs solved together
_BYTES = {"cpu": 2.0**19, "cuda": 2.0**24}  # that one output of each of them takes: on a CPU more are no faster
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
        steady: Whether free memory decides nothing: the last digits of an answer depend on which curves are kept.
    """

    def __init__(self, manifold: Manifold, search: Search, steady: bool = False) -> None:
        self.manifold, self.search, self.steady = measured_by_values(manifold), search, steady

    def room(self, device: torch.device) -> float:
        """Bytes that curves may take which are kept for others to begin from."""
        return BUDGET if self.steady else comfortable(device, self.search.memory)

    def at_once(self, points: Float[Tensor, "N d"]) -> int:
        """How many pairs are solved together, the last digits of whose answers depend on that: by bytes, not the clock.

        An output takes the fewer bytes the less work it is, and so an interrupt loses seconds.
        """
        node = Meter(self.manifold, points[:1]).bytes_a_node("observe")
        return max(1, min(_LARGEST, int(_BYTES.get(points.device.type, _BYTES["cuda"]) / node)))

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
    for done in groups(torch.arange(len(start), device=start.device), each, solver.at_once(start)):
        teller.tell(done - before)
        before = done
    return joined(parts)


def groups(rows: Int[Tensor, " P"], each: Callable[[Int[Tensor, " n"]], None], size: int) -> Iterator[int]:
    """Work on rows in groups of a size; yields how many were done after each."""
    done = 0
    for some in rows.split(size) if len(rows) else ():
        each(some)
        done += len(some)
        yield done


def joined(parts: Sequence[Found]) -> Found:
    """What was found of several groups of pairs, one after the other."""
    return Found(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Found)))
