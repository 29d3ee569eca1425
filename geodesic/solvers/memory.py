"""How a plan is followed: groups of pairs, one pair, or pieces of its path, as they fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.geometry.costs import Meter
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import grouped, rows_within
from geodesic.geometry.path import path_length
from geodesic.geometry.pieces import InPieces
from geodesic.solvers.plan import Plan
from geodesic.solvers.solver import Solver

__all__ = ["Room", "Workspace"]

_SAMPLES = 4  # of the metric at once, which preconditioners take
_BACKWARD = 3.0  # times what a backward pass of the paths takes, that work by products may hold


@dataclass(frozen=True)
class Room:
    """How paths of a number of segments are worked on.

    Attributes:
        manifold: The manifold, in pieces if need be.
        warm_up: Pairs at once under the warm-up.
        solver: Pairs at once under the solver.
        nodes: Of a path at once.
        bytes: That the largest group takes, about.
    """

    manifold: Manifold
    warm_up: int
    solver: int
    nodes: int
    bytes: float

    def grouped(self, compute: Callable[..., Any], *tensors: Tensor) -> Any:
        """`compute` of the manifold and rows of tensors, group by group, put together: a tensor, or each of several."""
        return grouped(partial(compute, self.manifold), self.solver, *tensors)


class Workspace:
    """Where the pairs of one call are worked on.

    Args:
        manifold: The manifold.
        plan: To be followed.
        point: One like those to come, (1, d).
        pairs: Of the call.
    """

    def __init__(self, manifold: Manifold, plan: Plan, point: Float[Tensor, "1 d"], pairs: int) -> None:
        self.manifold, self.plan, self.pairs = manifold, plan, pairs
        self._meter = Meter(manifold, point, plan.costs)
        self._rooms: dict[int, Room] = {}

    @property
    def solver(self) -> Solver[Any]:
        """The one of the plan."""
        return cast(Solver[Any], self.plan.solver)  # text was refused

    @property
    def followed(self) -> Plan:
        """The plan with what was measured by now, and what was worked on at once."""
        largest = max(self._rooms)
        room = self._rooms[largest]
        taken = max(room.bytes for room in self._rooms.values())
        return replace(
            self.plan,
            pairs=room.solver,
            nodes=room.nodes,
            path_nodes=largest + 1,
            bytes=taken,
            costs=self._meter.costs,
        )

    def at(self, segments: int) -> Room:
        """How to work on paths of so many segments."""
        if segments not in self._rooms:
            exact = self.plan.certificate == "exact"
            self._rooms[segments] = self._exact(segments + 1) if exact else self._by_products(segments + 1)
        return self._rooms[segments]

    @torch.no_grad()
    def lengths(self, path: Float[Tensor, "n nodes d"], asked: Bool[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Lengths of some curves, infinite for the others."""
        lengths = torch.full_like(path[:, 0, 0], torch.inf)
        (rows,) = asked.nonzero(as_tuple=True)
        if len(rows):
            lengths[rows] = self.at(path.shape[1] - 1).grouped(path_length, path[rows])
        return lengths

    def _exact(self, nodes: int) -> Room:
        pieces = InPieces(self.manifold, self.plan.pair_bytes, self._meter)
        samples = _SAMPLES * self._meter.bytes_a_node("metric_tensor") if pieces.forms_metric else 0.0
        pair = nodes * self._meter.bytes_a_node("expansion") + samples
        begun = nodes * self._meter.bytes_a_node("gradient") + samples
        if pair > self.plan.pair_bytes:
            return self._room(pieces, self.plan.pair_bytes, begun, min(pieces.size_of("expansion"), nodes))
        # Estimates may be too low on a GPU, where pieces are halved; elsewhere nobody says that memory runs out.
        return self._room(pieces if self._meter.point.is_cuda else self.manifold, pair, begun, nodes)

    def _by_products(self, nodes: int) -> Room:
        begun = nodes * self._meter.bytes_a_node("gradient")
        most = min(_BACKWARD * begun, self.plan.pair_bytes)
        pair = min(nodes * self._meter.bytes_a_node("product"), most)
        pieces = InPieces(self.manifold, self.plan.pair_bytes, self._meter, most * self._at_once(pair))
        return self._room(pieces, pair, begun, min(pieces.size_of("product"), nodes))

    def _room(self, manifold: Manifold, pair: float, begun: float, nodes: int) -> Room:
        """Groups of pairs that take so many bytes each, under the solver and under its warm-up."""
        solver = self._at_once(pair)
        return Room(manifold, self._at_once(begun), solver, nodes, pair * solver)

    def _at_once(self, pair: float) -> int:
        """How many pairs of so many bytes are worked on together."""
        return max(1, min(self.pairs, rows_within(pair, self.plan.group_bytes)))
