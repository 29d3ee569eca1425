"""Geodesics that are kept so that later ones can begin near them."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.solvers.mesh import Mesh, even
from geodesic.solvers.solution import GeodesicSolution

__all__ = ["KnownPaths"]


class KnownPaths:
    """Nodes of geodesics at equal times, by the numbers of their ends.

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
        self._place = torch.full((len(points) * len(others),), -1, dtype=torch.int32, device=points.device)
        self._kept: list[Tensor] = []
        self._count = 0

    @property
    def has_room(self) -> bool:
        """Whether more can be kept."""
        return self._left > 0

    def keep(self, first: Int[Tensor, " P"], second: Int[Tensor, " P"], solution: GeodesicSolution) -> None:
        """Keep the curves of pairs that were found, for as long as there is room."""
        (rows,) = solution.converged.nonzero(as_tuple=True)
        nodes = solution.path[rows].flatten(2)
        self._left -= nodes.nbytes
        if self._left < 0 or not len(rows):
            return
        number = first[rows] * len(self.others) + second[rows]
        at = torch.arange(self._count, self._count + len(rows), dtype=torch.int32, device=number.device)
        self._place[number] = at
        self._kept.append(nodes)
        self._count += len(rows)

    def known(self, first: Int[Tensor, " P"], second: Int[Tensor, " P"]) -> Bool[Tensor, " P"]:
        """Of which pairs the curves are kept, (P,)."""
        return self._found(first, second)[0] >= 0

    def moved(
        self,
        near: tuple[Int[Tensor, " P"], Int[Tensor, " P"]],
        to: tuple[Int[Tensor, " P"], Int[Tensor, " P"]],
    ) -> Mesh:
        """The curves of pairs that are kept, moved to other ends.

        Every node is moved by a part of what the ends are moved by: linear in its time.
        """
        nodes = self._curves(*near)
        start, end = self.points[to[0]], self.others[to[1]]
        share = torch.linspace(0, 1, nodes.shape[1], dtype=nodes.dtype, device=nodes.device)[:, None]
        nodes = nodes + (1 - share) * (start - nodes[:, 0])[:, None] + share * (end - nodes[:, -1])[:, None]
        return even(torch.cat([start[:, None], nodes[:, 1:-1], end[:, None]], dim=1))

    def round(
        self, first: Int[Tensor, " P"], third: Int[Tensor, " P"], second: Int[Tensor, " P"], share: Float[Tensor, " P"]
    ) -> Mesh:
        """The curves from first points by way of third ones to second ones, which are kept, with the nodes of both.

        Args:
            first: Where they begin.
            third: Where they pass.
            second: Where they end.
            share: Of the length, that lies before the third point.
        """
        one, other = self._curves(first, third), self._curves(third, second)
        t = torch.linspace(0, 1, one.shape[1], dtype=one.dtype, device=one.device)
        at = share[:, None]
        times = torch.cat([at * t, at + (1 - at) * t[1:]], dim=1)
        times = torch.cat([times[:, :-1], torch.ones_like(at)], dim=1)
        return Mesh(torch.cat([one, other[:, 1:]], dim=1), times)

    def _curves(self, first: Int[Tensor, " P"], second: Int[Tensor, " P"]) -> Float[Tensor, "P nodes d"]:
        """Curves that are kept, from their first end to their second."""
        place, flipped = self._found(first, second)
        if len(self._kept) > 1:
            self._kept = [torch.cat(self._kept)]
        nodes = self._kept[0][place.long()]
        nodes = torch.where(flipped[:, None, None], nodes.flip(1), nodes)
        return torch.cat([self.points[first][:, None], nodes[:, 1:-1], self.others[second][:, None]], dim=1)

    def _found(self, first: Int[Tensor, " P"], second: Int[Tensor, " P"]) -> tuple[Tensor, Bool[Tensor, " P"]]:
        """Where the curves of pairs are kept, -1 where nowhere, and whether from their second end to their first."""
        unknown = (first < 0) | (second < 0)
        place = torch.where(unknown, -1, self._place[(first * len(self.others) + second).clamp_min(0)])
        flipped = torch.zeros_like(unknown)
        if self.symmetric:
            flipped = ~unknown & (place < 0)
            other = self._place[(second * len(self.others) + first).clamp_min(0)]
            place = torch.where(flipped, other, place)
            place = torch.where(first == second, -1, place)
        return place, flipped
