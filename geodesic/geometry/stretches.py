"""Stretches of polygons: parts of a few nodes each, whose ends stay where they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.strips import Strips

__all__ = ["Stretches"]


@dataclass(frozen=True)
class Stretches:
    """Polygons cut at some of their nodes: what is left of each is a polygon of its own.

    Attributes:
        strips: The stretches, each with both of its ends.
        source: The node of the polygons that each of theirs is.
        owner: Number of the polygon that each stretch is part of, (S,).
    """

    strips: Strips
    source: Int[Tensor, " N"]
    owner: Int[Tensor, " S"]

    @classmethod
    def of(cls, strips: Strips, size: int, shift: int) -> Stretches:
        """Polygons cut after `shift` segments and then after each `size` more."""
        cuts = ((strips.place - shift) % size == 0) & ~strips.ends
        again = 1 + cuts.long()
        source = torch.arange(len(cuts), device=cuts.device).repeat_interleave(again)
        first = strips.first[source]  # a cut begins a stretch where it stands for the second time
        first[1:] |= source[1:] == source[:-1]
        number = first.long().cumsum(0) - 1
        return cls(Strips(strips.nodes[source], number, strips.units[source]), source, strips.pair[source][first])

    def joined(self, strips: Strips) -> tuple[Float[Tensor, "R d"], Int[Tensor, " R"], Bool[Tensor, " R"]]:
        """Nodes of the polygons, the number of each one's, and which lie within pieces; from stretches that moved."""
        pair = self.owner[strips.pair]
        kept = ~strips.first
        kept[0] = True
        kept[1:] |= pair[1:] != pair[:-1]
        joined = Strips(strips.nodes[kept], pair[kept], strips.units[kept])  # a cut within a piece is no end any more
        return joined.nodes, joined.pair, joined.within
