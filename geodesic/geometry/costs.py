"""What the nodes of a path cost, by kind of work: bytes and seconds, found out once for each manifold and device."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import bytes_a_row, remembered

__all__ = ["LEAST", "Costs", "Meter"]

LEAST = {"squared_chords": 2, "gradient": 3, "product": 5, "expansion": 4}
"""Nodes to work on at the least, for one to be kept: a chord has two ends; a gradient reaches one node to each side, a
product with the Hessian two, and a row of the Hessian ends at the node after the next. Other work is done on points."""

_VECTORS = {
    **{"squared_norm": 1, "lowered": 1, "lowered_acceleration": 2, "metric_and_acceleration": 2},
    **{"lowered_connection": 1, "deviation": 1},
}

# The fastest of a few calls counts: the first may compile or fill a cache, others run beside other programs.
_LEAST_CALLS, _MOST_CALLS = 2, 4
_DIRECTIONS = 2  # by which more are taken at once, to see what one takes
_LONG = 0.03  # seconds of a call, of which two will do


@dataclass(frozen=True)
class Costs:
    """What kinds of work cost on one node of a path, or on one point.

    Kinds are methods of a manifold: "observe" is a forward pass, "squared_norm" a Jacobian-vector product, "expansion"
    an exact Hessian with its Jacobians. And "gradient", of the energy, a vector-Jacobian product; "product", of the
    Hessian of the energy with a direction.

    Attributes:
        bytes: What is held at once, with a share that allocators waste.
        seconds: Of those kinds that had to be timed.
    """

    bytes: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


class Meter:
    """Finds out what work costs, where it is asked for, on a few copies of one point.

    Args:
        manifold: With which the work is done.
        point: One like those to come, (1, d).
        known: What is known, and is not measured anew.
    """

    def __init__(self, manifold: Manifold, point: Float[Tensor, "1 d"], known: Costs | None = None) -> None:
        self.manifold, self.point = manifold, point.detach()
        known = Costs() if known is None else known
        self._bytes, self._seconds = dict(known.bytes), dict(known.seconds)

    @property
    def costs(self) -> Costs:
        """All that is known by now."""
        return Costs(dict(self._bytes), dict(self._seconds))

    def bytes_a_node(self, work: str) -> float:
        """What a point takes in some kind of work; infinite where a GPU has no room for a few of them."""
        if work not in self._bytes:
            self._bytes[work] = self._watched(work)
        return self._bytes[work]

    def seconds_a_node(self, work: str) -> float:
        """How long some kind of work takes a point in the least path, or a point by itself."""
        if work not in self._seconds:
            self._seconds[work] = remembered(self.manifold, self._key(work, "seconds"), lambda: self._timed(work))
        return self._seconds[work]

    def _key(self, work: str, what: str) -> tuple[object, ...]:
        return work, what, self.point.shape[-1], self.point.dtype, self.point.device

    def _watched(self, work: str) -> float:
        if work == "metric_tensor" and self.manifold.has_embedding:
            # Too dear to be watched with all d directions side by side: a few more of them tell what each takes on its
            # way. An output with its products is held twice while they are put together.
            more = bytes_a_row(self.manifold, self._key(work, "bytes"), lambda k: self._product(_DIRECTIONS * k))
            return (1 + self.point.shape[-1]) * max(more / _DIRECTIONS, 2 * self.bytes_a_node("observe"))
        return bytes_a_row(self.manifold, self._key(work, "bytes"), lambda nodes: self._prepared(work, nodes)())

    def _product(self, directions: int) -> Tensor:
        """The products of so many directions at the point with each other, as those of a metric are made."""
        x, way, d = self.manifold.door or self.manifold.embed, self.manifold.way(self.point), self.point.shape[-1]
        units = torch.eye(directions, d, dtype=self.point.dtype, device=self.point.device)
        with torch.no_grad():
            J = way.jacobian(lambda w: x(self.point + w @ units), self.point.new_zeros(1, directions)).flatten(1, -2)
            return J.mT @ J

    def _timed(self, work: str) -> float:
        run, seconds = self._prepared(work, 1), list[float]()
        while len(seconds) < _LEAST_CALLS or (len(seconds) < _MOST_CALLS and min(seconds) < _LONG):
            self._wait()
            begun = time.perf_counter()
            run()
            self._wait()
            seconds.append(time.perf_counter() - begun)
        return min(seconds) / 3  # of the least path that has an interior node, or of as many points

    def _wait(self) -> None:
        if self.point.is_cuda:
            torch.cuda.synchronize(self.point.device)

    def _prepared(self, work: str, nodes: int) -> Callable[[], object]:
        """Some kind of work on a few nodes, ready to be done; a product follows on its gradient."""
        manifold, path = self.manifold, self.point.repeat(nodes + 2, 1)[None]
        if work == "gradient":
            return lambda: manifold.chords_and_pullback(path)[1]()
        if work == "product":
            _, gradient, product = manifold.gradient_and_product(path)
            return lambda: product(gradient)
        done: Callable[..., Any] = getattr(manifold, work)
        arguments = [path] if work in LEAST else [path[0]] * (1 + _VECTORS.get(work, 0))
        return lambda: done(*arguments)
