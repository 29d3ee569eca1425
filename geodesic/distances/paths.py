"""Geodesics that are kept so that later ones can begin near them."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.numerics.spline import constant_speed_at
from geodesic.solvers.mesh import Mesh
from geodesic.solvers.solution import GeodesicSolution

__all__ = ["KnownPaths"]

_FINEST = 128  # segments that a curve is kept with
_HALF = 32  # of one of two curves that are joined


class KnownPaths:
    """Nodes and times of geodesics, by the numbers of their ends.

    Args:
        points: The points, (N, d).
        others: The others, (M, d).
        symmetric: Whether these are the same.
        memory: Bytes that the nodes may take; what does not fit is forgotten.
    """

    def __init__(
        self, points: Float[Tensor, "N d"], others: Float[Tensor, "M d"], symmetric: bool, memory: float
    ) -> None:
        self.points, self.others, self.symmetric, self._left = points, others, symmetric, memory
        count = len(points) * len(others)
        self._segments = torch.zeros(count, dtype=torch.int16, device=points.device)
        self._place = torch.full((count,), -1, dtype=torch.int32, device=points.device)
        self._kept: dict[int, list[Mesh]] = {}
        self._count: dict[int, int] = {}

    def keep(self, first: Int[Tensor, " P"], second: Int[Tensor, " P"], solution: GeodesicSolution) -> None:
        """Keep the curves of pairs that were found, for as long as there is room."""
        for T in solution.segments.unique().tolist():
            (rows,) = ((solution.segments == T) & solution.converged).nonzero(as_tuple=True)
            stride = max(1, T // _FINEST)
            if T % stride or not len(rows):
                continue
            mesh = solution.mesh[rows, : T + 1 : stride].flatten(2)
            times = solution.times[rows, : T + 1 : stride]
            self._left -= mesh.nbytes + times.nbytes
            if self._left < 0:
                return
            kept = T // stride
            at = self._count.get(kept, 0)
            number = first[rows] * len(self.others) + second[rows]
            self._segments[number] = kept
            self._place[number] = torch.arange(at, at + len(rows), dtype=torch.int32, device=number.device)
            self._kept.setdefault(kept, []).append(Mesh(mesh, times))
            self._count[kept] = at + len(rows)

    def segments(self, first: Int[Tensor, " P"], second: Int[Tensor, " P"]) -> Int[Tensor, " P"]:
        """With how many segments the curves of pairs are kept, (P,): 0 where they are not."""
        number, _ = self._number(first, second)
        return torch.where(first == second, 0, self._of(number)) if self.symmetric else self._of(number)

    def moved(
        self,
        near: tuple[Int[Tensor, " P"], Int[Tensor, " P"]],
        to: tuple[Int[Tensor, " P"], Int[Tensor, " P"]],
        segments: int,
    ) -> Mesh:
        """The curves of pairs that are kept with so many segments, moved to other ends.

        Every node is moved by a part of what the ends are moved by: linear in its time.
        """
        nodes, times = self._curves(*near, segments)
        start, end = self.points[to[0]], self.others[to[1]]
        at, share = nodes[:, [0, -1]], times[..., None]
        nodes = nodes + (1 - share) * (start - at[:, 0])[:, None] + share * (end - at[:, 1])[:, None]
        return Mesh(torch.cat([start[:, None], nodes[:, 1:-1], end[:, None]], dim=1), times)

    def round(
        self, first: Int[Tensor, " P"], third: Int[Tensor, " P"], second: Int[Tensor, " P"], share: Float[Tensor, " P"]
    ) -> Mesh:
        """The curves from first points by way of third ones to second ones, which are kept: 32 segments each.

        Args:
            first: Where they begin.
            third: Where they pass.
            second: Where they end.
            share: Of the length, that lies before the third point.
        """
        half = _HALF
        one, other = self._resampled(first, third, half), self._resampled(third, second, half)
        t = torch.linspace(0, 1, half + 1, dtype=one.dtype, device=one.device)
        at = share[:, None]
        times = torch.cat([at * t, at + (1 - at) * t[1:]], dim=1)
        times = torch.cat([times[:, :-1], torch.ones_like(at)], dim=1)
        return Mesh(torch.cat([one, other[:, 1:]], dim=1), times)

    def _resampled(self, first: Int[Tensor, " P"], second: Int[Tensor, " P"], segments: int) -> Float[Tensor, "P n d"]:
        """Curves that are kept, with nodes at equal times."""
        kept = self.segments(first, second)
        nodes = self.points.new_empty(len(first), segments + 1, self.points.shape[1])
        t = torch.linspace(0, 1, segments + 1, dtype=nodes.dtype, device=nodes.device)
        for T in kept.unique().tolist():
            (rows,) = (kept == T).nonzero(as_tuple=True)
            nodes[rows] = constant_speed_at(*self._curves(first[rows], second[rows], T), t)[0]
        return torch.cat([self.points[first][:, None], nodes[:, 1:-1], self.others[second][:, None]], dim=1)

    def _curves(self, first: Int[Tensor, " P"], second: Int[Tensor, " P"], segments: int) -> Mesh:
        """Curves that are kept with so many segments, from their first end to their second."""
        number, flipped = self._number(first, second)
        if len(self._kept[segments]) > 1:
            joined = Mesh(*(torch.cat(parts) for parts in zip(*self._kept[segments], strict=True)))
            self._kept[segments] = [joined]
        nodes, times = (x[self._place[number].long()] for x in self._kept[segments][0])
        nodes = torch.where(flipped[:, None, None], nodes.flip(1), nodes)
        times = torch.where(flipped[:, None], 1 - times.flip(1), times)
        return Mesh(nodes, times)

    def _of(self, number: Int[Tensor, " P"]) -> Int[Tensor, " P"]:
        known = number >= 0
        return torch.where(known, self._segments[number.clamp_min(0)].long(), 0)

    def _number(
        self, first: Int[Tensor, " P"], second: Int[Tensor, " P"]
    ) -> tuple[Int[Tensor, " P"], Bool[Tensor, " P"]]:
        """Under which numbers pairs are kept, and whether from their second end to their first."""
        unknown = (first < 0) | (second < 0)
        number = torch.where(unknown, -1, first * len(self.others) + second)
        flipped = torch.zeros_like(unknown)
        if self.symmetric:
            flipped = ~unknown & (self._segments[number.clamp_min(0)] == 0)
            number = torch.where(flipped, second * len(self.others) + first, number)
        return number, flipped
