"""Polygons through the faces of a decoder, how long they are, and which of several is the shortest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.door.faces import Faces
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.strip_lengths import by_halves, chords
from geodesic.geometry.strips import Strips, crossed

__all__ = ["Found", "Pieces", "Polygons", "picked", "with_pairs"]


class Polygons(NamedTuple):
    """Nodes of polygons one after the other.

    Attributes:
        nodes: (R, d).
        pair: Number of the polygon of each node, ascending, (R,).
        within: Which nodes stay where they lie on no face, (R,).
    """

    nodes: Float[Tensor, "R d"]
    pair: Int[Tensor, " R"]
    within: Bool[Tensor, " R"]

    @classmethod
    def along(cls, path: Float[Tensor, "P n d"], within: Bool[Tensor, "P n"]) -> Polygons:
        """Those of paths, without nodes that only fill these up."""
        kept = torch.ones(path.shape[:2], dtype=torch.bool, device=path.device)
        kept[:, 1:] = (path[:, 1:] != path[:, :-1]).any(2)
        pair = torch.arange(len(path), device=path.device)[:, None].expand(path.shape[:2])
        return cls(path[kept], pair[kept], within[kept])

    @classmethod
    def again(cls, strips: Strips) -> Polygons:
        """Those through faces, to go on from."""
        return cls(strips.nodes, strips.pair, strips.within)


@dataclass(frozen=True)
class Found:
    """Polygons and their lengths.

    Attributes:
        strips: The polygons.
        length: Of them, (P,).
    """

    strips: Strips
    length: Float[Tensor, " P"]


@dataclass(frozen=True)
class Pieces:
    """The pieces of a decoder, through which polygons go.

    Attributes:
        manifold: With an embedding.
        faces: Between the pieces.
        scale: Of the heights of faces, (K,).
        curved: Whether pieces are.
    """

    manifold: Manifold
    faces: Faces
    scale: Float[Tensor, " K"]
    curved: bool

    @classmethod
    def around(cls, polygons: Polygons, manifold: Manifold, faces: Faces, curved: bool) -> Pieces:
        """Those around polygons."""
        return cls(manifold, faces, faces.heights(polygons.nodes).abs().amax(0), curved)

    def crossed(self, polygons: Polygons) -> Strips:
        """Polygons with a node on each face that they cross."""
        return crossed(self.faces, *polygons, self.scale)

    def length(self, strips: Strips) -> Float[Tensor, " P"]:
        """Of the curves: by their chords, and where pieces are curved by their arcs.

        Sums of chords would grow with each face that a polygon comes to cross.
        """
        arcs = by_halves(self.manifold, strips)[0] if self.curved else chords(self.manifold, strips)
        return arcs.new_zeros(int(strips.pair[-1]) + 1).index_add(0, strips.pair, arcs)

    def best(
        self,
        known: Found,
        tries: list[Polygons],
        asked: Bool[Tensor, " P"],
    ) -> Found:
        """For each polygon the shortest one: that which is known, or one of those that are tried."""
        P = len(asked)
        parts = []
        for k, (nodes, pair, within) in enumerate(tries):
            on = asked[pair]
            parts.append((nodes[on], pair[on] + k * P, within[on]))
        nodes, pair, within = (torch.cat(x) for x in zip(*parts, strict=True))
        names, number = pair.unique(return_inverse=True)
        new = self.crossed(Polygons(nodes, number, within))
        lengths = self.length(new).nan_to_num(torch.inf)
        table = torch.full((len(tries), P), torch.inf).to(lengths)
        table.view(-1)[names] = lengths
        least, which = table.min(0)
        shorter = least < known.length
        picked = torch.zeros(len(names), dtype=torch.bool, device=pair.device)
        picked[torch.isin(names, (which * P + torch.arange(P, device=pair.device))[shorter])] = True
        chosen = new.of(picked)
        chosen = _sorted(replace(chosen, pair=(names[picked] % P)[chosen.pair]))
        rows = shorter.nonzero()[:, 0]
        renumbered = replace(chosen, pair=torch.searchsorted(rows, chosen.pair))
        return Found(with_pairs(known.strips, rows, renumbered), torch.where(shorter, least, known.length))


def picked(found: Found, other: Found, which: Bool[Tensor, " P"]) -> Found:
    """Polygons, some of them replaced by others."""
    strips = with_pairs(found.strips, which.nonzero()[:, 0], other.strips.of(which))
    return Found(strips, torch.where(which, other.length, found.length))


def _sorted(strips: Strips) -> Strips:
    order = strips.pair.sort(stable=True).indices
    return Strips(strips.nodes[order], strips.pair[order], strips.units[order])


def with_pairs(strips: Strips, rows: Int[Tensor, " n"], new: Strips) -> Strips:
    """The polygons, some of them replaced: by those numbered from 0 in `new`."""
    if not len(rows):
        return strips
    stays = ~torch.isin(strips.pair, rows)
    F = max(strips.units.shape[1], new.units.shape[1])
    units = [torch.nn.functional.pad(x, (0, F - x.shape[1]), value=-1) for x in (strips.units[stays], new.units)]
    return _sorted(
        Strips(
            torch.cat([strips.nodes[stays], new.nodes]),
            torch.cat([strips.pair[stays], rows[new.pair]]),
            torch.cat(units),
        )
    )
