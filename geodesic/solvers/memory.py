"""What fits into the memory that may be used: groups of pairs, one pair, or pieces of its path."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import comfortable, most, rows_within
from geodesic.geometry.pieces import InPieces
from geodesic.solvers.solver import Solver

__all__ = ["Plan", "Room"]

_SAMPLES = 4  # of the metric at once, which preconditioners take


@dataclass(frozen=True)
class Room:
    """How paths of a number of segments are worked on.

    Attributes:
        manifold: The manifold, in pieces if need be.
        warm_up: Pairs at once under the warm-up.
        solver: Pairs at once under the solver.
        pair: Bytes that a pair takes, about.
        said: What to know about it, in words; empty where whole paths fit.
    """

    manifold: Manifold
    warm_up: int
    solver: int
    pair: float
    said: str = ""

    def bytes_of(self, pairs: int) -> float:
        """What the largest group takes where there are so many pairs, about."""
        return self.pair * min(pairs, self.solver)


@dataclass(frozen=True)
class Plan:
    """How memory is used in one call of `solve`.

    Attributes:
        manifold: The manifold, in pieces that fit.
        solver: The one that runs.
        work: Of the solver's work, what takes the most: a Hessian, or a product with it.
        comfortable: Bytes for groups of pairs.
        most: Bytes for one pair.
        said: Which solver took the place of which, in words; empty where none did.
    """

    manifold: InPieces
    solver: Solver[Any]
    work: str
    comfortable: float
    most: float
    said: str = ""

    @classmethod
    def of(cls, manifold: Manifold, solver: Solver[Any], point: Float[Tensor, "1 d"], memory: float | None) -> Plan:
        """The plan for paths of points like this one, in so many bytes, or in half of what is free.

        Raises:
            InputError: Not even the nodes that a gradient needs at once fit.
        """
        allowed = most(point.device, memory)
        pieces = InPieces(manifold, allowed, point)
        needed = pieces.bytes_of("gradient")
        if needed > allowed:
            raise InputError(
                f"memory: three nodes with their backward pass take about {_text(needed)}, got {_text(allowed)}; "
                f"{'free some' if memory is None else 'raise memory'}, or use a decoder of smaller outputs"
            )
        lighter, said = solver.lighter(), ""
        explicit = solver.uses_hessian(point.shape[-1]) and pieces.forms_hessian
        if lighter is not None and not explicit:
            said = f"NewtonKrylov in its place, since the Jacobians of four nodes do not fit into {_text(allowed)}"
            solver = lighter
        work = "expansion" if explicit else "product"
        return cls(pieces, solver, work, comfortable(point.device, memory), allowed, said)

    def at(self, segments: int) -> Room:
        """How to work on paths of so many segments."""
        nodes, pieces = segments + 1, self.manifold
        samples = _SAMPLES * pieces.bytes_a_node("metric_tensor") if pieces.forms_metric else 0.0
        pair = nodes * pieces.bytes_a_node(self.work) + samples
        begun = nodes * pieces.bytes_a_node("gradient") + samples
        solver, warm_up = (max(1, rows_within(size, self.comfortable)) for size in (pair, begun))
        if pair > self.most:
            size = min(pieces.size_of(self.work), nodes)
            said = f"{size} of {nodes} nodes at once, to stay within {_text(self.most)}" if size < nodes else ""
            return Room(pieces, warm_up, solver, self.most, said)
        # Estimates may be too low on a GPU, where pieces are halved; elsewhere nobody says that memory runs out.
        whole = self.work == "expansion" and pieces.point.device.type != "cuda"
        return Room(pieces.manifold if whole else pieces, warm_up, solver, pair)


def _text(size: float) -> str:
    if math.isinf(size):
        return "more than there is"
    return f"{size / 1e9:.3g} GB" if size >= 1e8 else f"{size / 1e6:.3g} MB"
