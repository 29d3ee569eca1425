"""Corners of polygons, where faces meet: what ways around them gain, and polygons that go there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.calibrations import ways_of
from geodesic.geometry.corners import Sides, sides_of
from geodesic.geometry.strips import Strips
from geodesic.solvers.taut.polygons import Found, Pieces, Polygons

__all__ = ["Corners"]

_SHARES = (1.0, 0.5, 0.2, 0.05, 0.01, 1e-3)  # of the way around corners, that are tried
_SMALL = 1 / 8  # of that: corners that together gain less are not looked at
_ROUNDINGS = 400  # of a corner: a segment beside it has to be longer, for a hundredth of it to be told from nothing


@dataclass(frozen=True)
class Corners:
    """What is known of the corners of polygons, and shorter polygons where a way around them gains.

    Attributes:
        most: By how much polygons may at most become shorter around their corners, (P,).
        gain: By how much they seem to, where it is known, (P,).
        best: The polygons, or those that go around their corners where these are shorter.
    """

    most: Float[Tensor, " P"]
    gain: Float[Tensor, " P"]
    best: Found

    @classmethod
    def of(cls, pieces: Pieces, strips: Strips, found: Found, asked: Bool[Tensor, " P"], share: float) -> Corners:
        """Look at the corners of some polygons.

        Args:
            pieces: Through which they go.
            strips: The polygons, as exactly taut as they can be: beside a short segment the last bit of a step turns
                an angle.
            found: The same as far as steps led, or shorter ones of those that are not asked for.
            asked: Which polygons to look at.
            share: Of a length, that ways around corners have to gain together.
        """
        length, best = found.length, found
        (at,) = (asked[strips.pair] & strips.corners).nonzero(as_tuple=True)
        free, owner = _free(pieces, strips, at), strips.pair[at]

        def summed(values: Float[Tensor, " M"], owner: Int[Tensor, " M"]) -> Float[Tensor, " P"]:
            return torch.zeros_like(length).index_add(0, owner, values)

        # No way around a corner gains more than the straight one through space, if that turns as far.
        most, gain = _shortcuts(pieces, strips, at) * free.amax(1), torch.zeros_like(length)
        least = _SMALL * share * length / owner.bincount(minlength=len(length))
        (large,) = ((most > least[owner]) & _told_apart(strips, at)).nonzero(as_tuple=True)
        if len(large):
            ways, whose = _ways(pieces, strips, at[large], free[large]), owner[large]
            known = ~ways.far.isnan()
            most[large] = torch.where(known, ways.far.minimum(most[large]), most[large])
            gain = summed(torch.where(known, most[large], 0), whose)
            opening = asked & (gain > share * length)
            if bool(opening.any()):
                best = _opened(pieces, strips, best, ways, at[large], opening)
                # What turning as far as the next corners does not gain ends at faces before these. Where more of them
                # meet a way through these in another order may gain it.
                shut = (opening & ~(best.length < length))[whose] & known & ways.two
                most[large] = torch.where(shut, ways.near.minimum(most[large]), most[large])
                gain = summed(torch.where(known, most[large], 0), whose)
        return cls(summed(most, owner), gain, best)


@dataclass(frozen=True)
class _Ways:
    """Ways around corners, (M,).

    Attributes:
        far: By how much they are shorter, if all of the path turns as far as it is straight; NaN where it is not known.
        near: The same if nothing turns but the segments beside the corner.
        nodes: On the ways, (M, W, d).
        passed: Which of them there are, (M, W).
        two: Whether it is two faces that meet.
    """

    far: Float[Tensor, " M"]
    near: Float[Tensor, " M"]
    nodes: Float[Tensor, "M W d"]
    passed: Bool[Tensor, "M W"]
    two: Bool[Tensor, " M"]


def _ways(pieces: Pieces, strips: Strips, at: Int[Tensor, " M"], free: Float[Tensor, "M 2"]) -> _Ways:
    """Where two faces meet angles tell; where more do, what is gained in each of the pieces between them."""
    sides = _sides(pieces, strips, at)
    (many,) = sides.angle.isnan().nonzero(as_tuple=True)
    ways = _Ways(replace(sides, free=free).gain, sides.gain, sides.way, sides.crosses, ~sides.angle.isnan())
    if not len(many):
        return ways
    nodes = strips.nodes[torch.stack([at - 1, at, at + 1], dim=1)[many]]
    through = ways_of(pieces.manifold, pieces.faces, nodes, strips.units[at[many]], free[many])
    more = max(2 - ways.passed.shape[1], 0)
    found, passed = (
        torch.nn.functional.pad(ways.nodes, (0, 0, 0, more)),
        torch.nn.functional.pad(ways.passed, (0, more)),
    )
    found[many, :2] = nodes[:, 1:2] + torch.stack([through.enters, through.leaves], dim=1)
    passed[many, :2] = (through.near > 0)[:, None]
    far, near = ways.far.index_put((many,), through.far), ways.near.index_put((many,), through.near)
    return _Ways(far, near, found, passed, ways.two)


def _opened(
    pieces: Pieces, strips: Strips, best: Found, ways: _Ways, at: Int[Tensor, " M"], opening: Bool[Tensor, " P"]
) -> Found:
    """The polygons with their corners moved to the better side."""
    nodes, found, left = strips.nodes, best, opening
    (rows,) = ((ways.near > 0) & ways.passed.any(1)).nonzero(as_tuple=True)
    passed = ways.passed[rows]
    kept = torch.ones_like(strips.pair, dtype=torch.bool)
    kept[at[rows]] = False
    m, w = passed.nonzero(as_tuple=True)
    order = torch.cat([torch.arange(len(nodes)).to(nodes)[kept], at[rows][m] + (w + 1) / (passed.shape[1] + 2)])
    order = order.argsort()
    pair = torch.cat([strips.pair[kept], strips.pair[at[rows]][m]])[order]
    within = torch.cat([strips.within[kept], torch.zeros_like(m, dtype=torch.bool)])[order]
    corner = nodes[at[rows]]
    for share in _SHARES:
        way = torch.lerp(corner[:, None].expand_as(ways.nodes[rows]), ways.nodes[rows], share)[m, w]
        moved = torch.cat([nodes[kept], way])[order]
        found = pieces.best(found, [Polygons(moved, pair, within)], left)
        left = left & ~(found.length < best.length)
        if not bool(left.any()):
            break
    return found


def _sides(pieces: Pieces, strips: Strips, at: Int[Tensor, " M"]) -> Sides:
    units, d = strips.units[at], strips.nodes.shape[1]
    normals = strips.nodes.new_zeros(*units.shape, d)
    rows, places = (units >= 0).nonzero(as_tuple=True)
    normals[rows, places] = pieces.faces.normals(strips.nodes[at][rows], units[rows, places])
    normals = normals / normals.norm(dim=2, keepdim=True).clamp_min(torch.finfo(normals.dtype).tiny)
    nodes = strips.nodes[torch.stack([at - 1, at, at + 1], dim=1)]
    return sides_of(pieces.manifold.observe, pieces.faces, nodes, units, normals)


def _told_apart(strips: Strips, at: Int[Tensor, " M"]) -> Bool[Tensor, " M"]:
    """Which corners lie far enough from the nodes beside them to be looked at: of others bounds are known."""
    before, here, after = (strips.nodes[at + k] for k in (-1, 0, 1))
    size = (before - here).norm(dim=1).minimum((after - here).norm(dim=1))
    return size > _ROUNDINGS * torch.finfo(here.dtype).eps * (1 + here.norm(dim=1))


def _free(pieces: Pieces, strips: Strips, at: Int[Tensor, " M"]) -> Float[Tensor, "M 2"]:
    """How many times the segments beside corners it is to the next corner, or the end: all of that turns."""
    x = pieces.manifold.observe(strips.nodes).flatten(1)
    chords = torch.where(strips.first[1:], 0, x.diff(dim=0).norm(dim=1))
    upto = torch.nn.functional.pad(chords.cumsum(0), (1, 0))
    index = torch.arange(len(upto), device=at.device)
    stops = strips.ends | strips.corners
    last = torch.where(stops, index, 0).cummax(0).values[at - 1]
    following = torch.where(stops, index, len(upto)).flip(0).cummin(0).values.flip(0)[at + 1]
    way = torch.stack([upto[at] - upto[last], upto[following] - upto[at]], dim=1)
    return way / torch.stack([chords[at - 1], chords[at]], dim=1).clamp_min(torch.finfo(way.dtype).tiny)


def _shortcuts(pieces: Pieces, strips: Strips, at: Int[Tensor, " M"]) -> Float[Tensor, " M"]:
    """By how much longer than straight through space the way over nodes is."""
    x = pieces.manifold.observe(strips.nodes[torch.stack([at - 1, at, at + 1], dim=1)].flatten(0, 1)).flatten(1)
    before, here, after = x.unflatten(0, (-1, 3)).unbind(1)
    return (here - before).norm(dim=1) + (after - here).norm(dim=1) - (after - before).norm(dim=1)
