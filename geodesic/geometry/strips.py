"""Polygons with a node on each face that they cross: within a piece of the decoder each of their segments.

Nodes of all polygons stand one after the other, (R, d), with the number of their polygon, (R,): they have as many as
they cross faces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.door.faces import Faces

__all__ = ["Strips", "crossed", "on_face", "rounding_of"]

_ROUNDS = 60  # of division: a face is found to rounding in a few, however many lie in a segment
_ONE = 1e-9  # share of a segment, or of a latent point's norm, below which two nodes are one


@dataclass(frozen=True)
class Strips:
    """Polygons through faces.

    Attributes:
        nodes: (R, d).
        pair: Number of the polygon of each node, ascending, (R,).
        units: Of the faces that a node lies on, (R, F), filled up with -1: none at ends and at nodes within a piece.
    """

    nodes: Float[Tensor, "R d"]
    pair: Int[Tensor, " R"]
    units: Int[Tensor, "R F"]

    @property
    def first(self) -> Bool[Tensor, " R"]:
        """Which nodes are the first of their polygon."""
        return _changes(self.pair)

    @property
    def ends(self) -> Bool[Tensor, " R"]:
        """Which nodes are the first or the last of their polygon."""
        return _ends(self.pair)

    @property
    def place(self) -> Int[Tensor, " R"]:
        """The place of each node in its polygon, from 0."""
        index = torch.arange(len(self.pair), device=self.pair.device)
        return index - torch.where(self.first, index, 0).cummax(0).values

    @property
    def corners(self) -> Bool[Tensor, " R"]:
        """Which nodes lie where faces meet."""
        return (self.units >= 0).sum(1) > 1

    @property
    def within(self) -> Bool[Tensor, " R"]:
        """Which nodes lie within pieces, where they may be anywhere on the path."""
        return (self.units < 0).all(1) & ~self.ends

    def padded(self, values: Float[Tensor, "R ..."] | None = None) -> Tensor:
        """Values of the nodes, or they themselves, (P, n, ...), n >= 3: behind the last one of a polygon it again."""
        values = self.nodes if values is None else values
        counts = self.pair.bincount()
        start = counts.cumsum(0) - counts
        index = torch.arange(max(int(counts.max()), 3), device=counts.device).clamp(max=(counts - 1)[:, None])
        return values[start[:, None] + index]

    def of(self, pairs: Bool[Tensor, " P"]) -> Strips:
        """Some of the polygons, numbered anew."""
        kept = pairs[self.pair]
        number = pairs.long().cumsum(0) - 1
        return replace(self, nodes=self.nodes[kept], pair=number[self.pair[kept]], units=self.units[kept])


def rounding_of(dtype: torch.dtype) -> float:
    """The share of a height's scale that counts as zero."""
    return float(torch.finfo(dtype).eps ** 0.65)


def on_face(heights: Float[Tensor, "*N K"], scale: Float[Tensor, "*#N K"]) -> Tensor:
    """The sign of heights, zero on the face up to rounding."""
    return torch.where(heights.abs() <= rounding_of(heights.dtype) * scale, 0, heights.sign()).to(torch.int8)


def crossed(
    faces: Faces,
    nodes: Float[Tensor, "R d"],
    pair: Int[Tensor, " R"],
    within: Bool[Tensor, " R"],
    scale: Float[Tensor, " K"],
) -> Strips:
    """Polygons with a node on every face that they cross, and no others but their ends and those `within` pieces.

    A polygon that comes back to a piece goes straight between where it left it and where it comes back: in a flat
    convex piece nothing is shorter.

    Args:
        faces: Of the decoder.
        nodes: Of polygons, one after the other.
        pair: Number of the polygon of each node.
        within: Which nodes stay, though they may lie on no face.
        scale: Of the heights.
    """
    signs = on_face(faces.heights(nodes), scale)
    for _ in range(_ROUNDS):
        rows, at = _open(faces, nodes, pair, signs)
        if not len(rows):
            break
        order = (rows + at).argsort()
        rows, at = rows[order], at[order]
        apart = torch.ones_like(rows, dtype=torch.bool)
        apart[1:] = (rows + at).diff() > _ONE
        rows, at = rows[apart], at[apart]
        new = torch.lerp(nodes[rows], nodes[rows + 1], at[:, None])
        index = torch.arange(len(nodes), device=nodes.device).to(at)
        order = torch.cat([index, rows + at]).argsort()
        nodes, pair = torch.cat([nodes, new])[order], torch.cat([pair, pair[rows]])[order]
        within = torch.cat([within, torch.zeros_like(apart[: len(rows)])])[order]
        signs = torch.cat([signs, on_face(faces.heights(new), scale)])[order]
    ends = _ends(pair)
    rows, units = (signs == 0).nonzero(as_tuple=True)
    changes = _sign_beside(signs, pair, rows, units, -1) * _sign_beside(signs, pair, rows, units, 1) < 0
    crossing = torch.zeros_like(ends)
    crossing[rows[changes]] = True
    crossing &= ~ends
    kept = crossing | within | ends
    nodes, pair, signs, crossing = nodes[kept], pair[kept], signs[kept], crossing[kept]
    kept = _without_loops(faces, nodes, pair)
    nodes, pair, signs, crossing = nodes[kept], pair[kept], signs[kept], crossing[kept]
    kept = _apart(nodes, pair)
    nodes, pair, signs, crossing = nodes[kept], pair[kept], signs[kept], crossing[kept]
    touched = (signs == 0) & crossing[:, None]
    kept = _needed(touched, pair)
    nodes, pair, touched = nodes[kept], pair[kept], touched[kept]
    most = max(int(touched.sum(1).amax()), 1) if touched.numel() else 1
    if touched.shape[1] == 0:
        return Strips(nodes, pair, pair.new_full((len(nodes), 1), -1))
    there, units = touched.int().topk(most, dim=1)
    return Strips(nodes, pair, torch.where(there > 0, units, -1))


def _open(faces: Faces, nodes: Tensor, pair: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    """The segments that still cross a face, and at which share of them a straight height does."""
    opposite = (signs[:-1] * signs[1:] < 0) & (pair[1:] == pair[:-1])[:, None]
    rows, units = opposite.nonzero(as_tuple=True)
    if not len(rows):
        return rows, nodes.new_zeros(0)
    some, place = torch.cat([rows, rows + 1]).unique(return_inverse=True)
    heights = faces.heights(nodes[some])
    a, b = heights[place, units.repeat(2)].chunk(2)
    return rows, (a / (a - b)).clamp(_ONE, 1 - _ONE)


def _changes(pair: Int[Tensor, " R"]) -> Bool[Tensor, " R"]:
    changed = torch.ones_like(pair, dtype=torch.bool)
    changed[1:] = pair[1:] != pair[:-1]
    return changed


def _ends(pair: Int[Tensor, " R"]) -> Bool[Tensor, " R"]:
    return _changes(pair) | _changes(pair.flip(0)).flip(0)


def _sign_beside(
    signs: Tensor, pair: Int[Tensor, " R"], rows: Int[Tensor, " n"], units: Int[Tensor, " n"], way: int
) -> Int[Tensor, " n"]:
    """The next sign of a unit that is not zero, before some nodes (-1) or behind them (1); zero if there is none."""
    found, at = torch.zeros_like(rows), rows
    left = torch.arange(len(rows), device=rows.device)
    while len(left):
        at = at + way
        inside = (at >= 0) & (at < len(pair))
        inside &= pair[at.clamp(0, len(pair) - 1)] == pair[rows[left]]
        left, at = left[inside], at[inside]
        sign = signs[at, units[left]].long()
        found[left] = sign
        left, at = left[sign == 0], at[sign == 0]
    return found


def _without_loops(faces: Faces, nodes: Tensor, pair: Tensor) -> Bool[Tensor, " R"]:
    """Which nodes are left when polygons do not leave pieces that they come back to."""
    kept = torch.ones_like(pair, dtype=torch.bool)
    if len(nodes) < 2:
        return kept
    inside = pair[1:] == pair[:-1]
    positive = faces.heights((nodes[1:] + nodes[:-1]) / 2) > 0
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(2**62, (positive.shape[1],), generator=generator).to(pair.device)
    piece = torch.where(positive, words, 0).sum(1)  # a hash of the signs
    piece = torch.stack([pair[1:], piece], dim=1)
    new = torch.ones_like(inside)
    new[1:] = (piece[1:] != piece[:-1]).any(1)
    runs = piece[new & inside]
    _, number, count = runs.unique(dim=0, return_inverse=True, return_counts=True)
    again = runs[(count > 1)[number], 0].unique().tolist()
    for k in again:  # few
        (rows,) = ((piece[:, 0] == k) & inside).nonzero(as_tuple=True)
        names = piece[rows, 1].tolist()
        last = {name: i for i, name in enumerate(names)}
        i = 0
        while i < len(names):
            j = last[names[i]]
            if len(set(names[i : j + 1])) > 1:
                kept[rows[i] + 1 : rows[j] + 1] = False
            i = j + 1
    return kept


def _apart(nodes: Tensor, pair: Tensor) -> Bool[Tensor, " R"]:
    """Which nodes are left of those that lie together: the first, but for ends."""
    ends = _ends(pair)
    gap = nodes.diff(dim=0).norm(dim=1) > _ONE * (1 + nodes[1:].norm(dim=1))
    same = pair[1:] == pair[:-1]
    kept = torch.ones_like(ends)
    kept[1:] = gap | ~same
    kept |= ends
    kept[:-1] &= gap | ~same | ~ends[1:] | ends[:-1]
    return kept


def _needed(touched: Bool[Tensor, "R K"], pair: Tensor) -> Bool[Tensor, " R"]:
    """Which nodes are needed where a polygon runs along faces: one that crosses each of them."""
    some = touched.any(1)
    same = pair[1:] == pair[:-1]
    within_last = ~(touched[1:] & ~touched[:-1]).any(1) & same & some[1:]
    within_next = ~(touched[:-1] & ~touched[1:]).any(1) & same & some[:-1]
    needed = torch.ones_like(some)
    needed[1:] &= ~within_last
    needed[:-1] &= ~(within_next & ~within_last)
    return needed
