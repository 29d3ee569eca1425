"""Taut strings: shortest polygons through the faces of a decoder with kinks, which no smooth method sees.

Where activations bend, a decoder is made of smooth pieces. A shortest path crosses from piece to piece through their
faces, like light: with a node on every face that it crosses its length is a smooth function of where it crosses, and
Newton's method on the length converges as on a smooth decoder. Where faces meet a path may bend around a corner; there
the angles on both sides tell whether it is shortest.

Reference:
    N. Sharp, K. Crane, You Can Find Geodesic Paths in Triangle Meshes by Just Flipping Edges, 2020.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.door.faces import Faces
from geodesic.geometry.corners import Sides, sides_of
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.stretches import Stretches
from geodesic.geometry.strips import Strips, crossed, on_face
from geodesic.geometry.taut_lengths import DAMPINGS, LengthBlocks, LengthModel, length_blocks
from geodesic.numerics.block_tridiagonal import BlockTridiagonal

__all__ = ["Polygons", "Taut", "crossing", "tighten"]

_MOST = 100  # steps
_DECREASE = 0.1  # of what Newton promises, that a step across faces has to gain
_FEW = 0.25  # of the nodes, up to which it pays to look for those that a step stops
_SHARES = (1.0, 0.5, 0.2, 0.05, 0.01, 1e-3)  # of the way around corners, that are tried
_PARTS = (0.25, 0.05, 0.01)  # of a step
_STOPS = 24  # rounds in which nodes are found that a step would push beyond their face
_SOON, _AT_ONCE = 2.0, 0.05  # times the share of its step at which the first one stops, and that share: with it stop
_ROUNDINGS = 8  # of a length: what is gained below is none
_SIZE = 16  # segments of a stretch: of longer polygons each stretch takes the step that suits it
_SHIFTS = (_SIZE // 2, None, _SIZE, None)  # of stretches, turn by turn; with none polygons are taken as a whole
_FINER = 0.25  # of the tolerance, for stretches: they are cheap
_SMALL = 1 / 32  # of what may be left: corners that together gain less are not looked at


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


@dataclass(frozen=True)
class Taut:
    """Where polygons ended.

    Attributes:
        strips: The polygons.
        length: Of them, (P,).
        excess: Relative excess energies: what Newton's model and the corners still promise, (P,).
        minimum: Whether the Hessian of the length is positive definite and no corner opens, (P,).
        slope: Norm of the gradient of the length in the directions in which nodes may move, (P,).
        steps: (P,).
    """

    strips: Strips
    length: Float[Tensor, " P"]
    excess: Float[Tensor, " P"]
    minimum: Bool[Tensor, " P"]
    slope: Float[Tensor, " P"]
    steps: Int[Tensor, " P"]


@torch.no_grad()
def tighten(
    manifold: Manifold,
    faces: Faces,
    polygons: Polygons,
    tol: float,
    *,
    curved: bool,
    many: bool = False,
    believed: float = 100.0,
) -> Taut:
    """Shorten polygons until they are shortest among those near by, or no step shortens them.

    Args:
        manifold: With an embedding.
        faces: Of its decoder.
        polygons: To begin with.
        tol: Largest relative excess energy.
        curved: Whether pieces are.
        many: Whether polygons cross so many faces that steps leave out what the decoder's second derivatives add. Ends
            are judged with them.
        believed: How many times what the last steps gained is believed to be left, at most: models promise more where
            faces end before.
    """
    tightening = _Tightening(manifold, faces, _scale(faces, polygons), tol, curved, believed)
    strips = tightening.crossed(*polygons)
    P = int(strips.pair[-1]) + 1
    length, (excess, slope) = tightening.length(strips), torch.full((2, P), torch.nan).to(strips.nodes)
    minimum, steps = (torch.zeros(P, dtype=kind, device=length.device) for kind in (torch.bool, torch.long))
    # What is left along faces and at corners may be too much together.
    stages = [(curved and not many, 1.0), (curved, _FINER)]
    for bends, share in [stages[0], (curved, 1.0), stages[1]] if curved and many else stages:
        running = torch.ones_like(minimum) if share == 1 else excess > tol / 2
        tightening = replace(tightening, tol=share * tol)
        for turn in range(_MOST):
            (rows,) = running.nonzero(as_tuple=True)
            if not len(rows):
                break
            some = strips.of(running)
            blocks = length_blocks(manifold, faces, some, bends)
            ends, new = tightening.better(some, length[rows], blocks, shift=_SHIFTS[turn % len(_SHIFTS)])
            excess[rows], minimum[rows] = ends.excess, ends.minimum
            slopes = blocks.gradient.square().sum(1)
            slope[rows] = torch.zeros_like(ends.excess).index_add(0, some.pair, slopes).sqrt()
            moved = new.length < length[rows] * (1 - _ROUNDINGS * torch.finfo(length.dtype).eps)
            steps[rows] += moved.long()
            strips = _with_pairs(strips, rows, new.strips)
            length[rows] = new.length
            running[rows] = moved
    return Taut(strips, length, excess, minimum, slope, steps)


@torch.no_grad()
def crossing(manifold: Manifold, faces: Faces, polygons: Polygons, *, curved: bool) -> tuple[Strips, Tensor]:
    """Polygons as they are, with a node on each face that they cross, and their lengths, (P,)."""
    tightening = _Tightening(manifold, faces, _scale(faces, polygons), 0.0, curved, 0.0)
    strips = tightening.crossed(*polygons)
    return strips, tightening.length(strips)


def _scale(faces: Faces, polygons: Polygons) -> Float[Tensor, " K"]:
    return faces.heights(polygons.nodes).abs().amax(0)


@dataclass(frozen=True)
class _Ends:
    along: Float[Tensor, " P"]  # relative excess energies, without what corners add
    excess: Float[Tensor, " P"]
    minimum: Bool[Tensor, " P"]


@dataclass(frozen=True)
class _Found:
    strips: Strips
    length: Float[Tensor, " P"]


@dataclass(frozen=True)
class _Tightening:
    """What stays the same while polygons are tightened."""

    manifold: Manifold
    faces: Faces
    scale: Float[Tensor, " K"]
    tol: float
    curved: bool
    believed: float

    def crossed(self, nodes: Tensor, pair: Tensor, within: Tensor) -> Strips:
        return crossed(self.faces, nodes, pair, within, self.scale)

    def length(self, strips: Strips) -> Float[Tensor, " P"]:
        """Of the curves: by their chords, and where pieces are curved also by those of halves, to order 4.

        Sums of chords would grow with each face that a polygon comes to cross.
        """
        x = self.manifold.observe(strips.nodes).flatten(1)
        lengths = x.diff(dim=0).norm(dim=1)
        if self.curved:
            y = self.manifold.observe((strips.nodes[1:] + strips.nodes[:-1]) / 2).flatten(1)
            halves = (y - x[:-1]).norm(dim=1) + (x[1:] - y).norm(dim=1)
            lengths = halves + (halves - lengths) / 3
        lengths = torch.where(strips.first[1:], 0, lengths)
        return x.new_zeros(int(strips.pair[-1]) + 1).index_add(0, strips.pair[1:], lengths)

    def better(
        self, strips: Strips, length: Float[Tensor, " P"], blocks: LengthBlocks, shift: int | None = None
    ) -> tuple[_Ends, _Found]:
        """What is known of polygons, and shorter ones where they are not taut.

        Args:
            strips: The polygons.
            length: Of them.
            blocks: Of the length around them.
            shift: Where the first stretches of long ones end; all are taken as a whole if none.
        """
        model, same = LengthModel.of(blocks, strips, length), _Found(strips, length)
        excess, minimum, best = model.step.excess, model.step.minimum, same
        loose = excess > self.tol / 2
        long = loose & (shift is not None) & (strips.pair.bincount() > 2 * _SIZE)
        promised = torch.full_like(length, torch.nan)  # by steps that end where faces do
        if bool(loose.any()):
            best, promised = self._stepped(same, model, loose, long)
        long = long & ~(best.length < length * (1 - _DECREASE * model.step.excess))
        if bool(long.any()):
            best, promised = self._by_stretches(same, best, blocks, long, shift or 0)
        # What no step gains, in stretches and as a whole, is not to be had: faces end before.
        believed = promised.maximum(self.believed * 2 * (1 - best.length / length))
        excess = torch.where(loose & (believed < excess), believed, excess)
        enough = loose & (excess <= self.tol / 2)
        if bool(enough.any()):
            best = _picked(best, same, enough)
        along = excess
        done = ~(best.length < length)  # those that are taut but for their corners, and those that no step shortens
        corners = done[strips.pair] & strips.corners
        if bool(corners.any()):
            # Beside a short segment the last bit of a step turns an angle.
            strips = self._settled(strips, model.step.direction, done & ~loose)
            (at,) = corners.nonzero(as_tuple=True)
            free, owner = self._free(strips, at), strips.pair[at]
            # No way around a corner gains more than the straight one through space, if that turns as far.
            most = self._shortcuts(strips, at) * free.amax(1)
            large = most > (_SMALL * self.tol * length / owner.bincount(minlength=len(length)))[owner]
            gain = torch.zeros_like(length)
            if bool(large.any()):
                sides = replace(self._sides(strips, at[large]), free=free[large])
                known = ~sides.angle.isnan()  # where two faces meet, not more
                most[large] = torch.where(known, sides.gain.nan_to_num(0.0), most[large])
                gain.index_add_(0, owner[large], torch.where(known, most[large], 0))
                opening = done & (2 * gain / length > self.tol / 2)
                if bool(opening.any()):
                    best = self._opened(strips, best, sides, at[large], opening)
                    # What turning as far as the next corners does not gain ends at faces before these.
                    near = replace(sides, free=torch.ones_like(sides.free)).gain.nan_to_num(0.0)
                    shut = (opening & ~(best.length < length))[owner[large]] & known
                    most[large] = torch.where(shut, near.minimum(most[large]), most[large])
                    gain = torch.zeros_like(length).index_add(0, owner[large], torch.where(known, most[large], 0))
            excess = excess + 2 * torch.zeros_like(length).index_add(0, owner, most) / length
            minimum = minimum & (gain <= self.tol / 4 * length)
        return _Ends(along, excess, minimum), best

    def _by_stretches(
        self, same: _Found, best: _Found, blocks: LengthBlocks, which: Bool[Tensor, " P"], shift: int
    ) -> tuple[_Found, Float[Tensor, " P"]]:
        """Shorter polygons: each of their stretches takes a step of its own, as long as it gains there.

        And what their stretches promise beyond, relative to the polygons'.
        """
        (rows,) = which.nonzero(as_tuple=True)
        (nodes,) = which[same.strips.pair].nonzero(as_tuple=True)
        parts = Stretches.of(same.strips.of(which), _SIZE, shift)
        length = self.length(parts.strips)
        finer = replace(self, tol=_FINER * self.tol)
        ends, found = finer.better(parts.strips, length, blocks.at(nodes[parts.source], parts.strips))
        total = torch.zeros_like(same.length[rows]).index_add(0, parts.owner, ends.along * length)
        promised = torch.full_like(same.length, torch.nan).index_put((rows,), total / same.length[rows])
        new = self.crossed(*parts.joined(found.strips))
        length = self.length(new).nan_to_num(torch.inf)
        shorter = length < best.length[rows]
        lengths = best.length.index_put((rows,), best.length[rows].minimum(length))
        return _Found(_with_pairs(best.strips, rows[shorter], new.of(shorter)), lengths), promised

    def _stepped(
        self, same: _Found, model: LengthModel, loose: Bool[Tensor, " P"], long: Bool[Tensor, " P"]
    ) -> tuple[_Found, Float[Tensor, " P"]]:
        """Shorter polygons by steps of the model, and by how much it promises that they are at the borders of faces.

        The latter, of energies, where it was asked for; NaN elsewhere.
        """
        strips, length = same.strips, same.length
        promised, step = torch.full_like(length, torch.nan), model.step.direction
        loose = loose & step.isfinite().flatten(1).all(1)
        step = self._limited(strips, torch.where(loose[:, None, None], step, 0))
        reach = self._reach(strips, step)
        blocked = loose & (reach < 1).any(1)
        whole = self._moved(strips, step)
        found = self._best(same, [whole], loose)
        enough = length * (1 - _DECREASE * model.step.excess)
        left = loose & ~(found.length < torch.where(blocked, enough, length))
        if not bool(left.any()):
            return found, promised
        least = reach.amin(1).clamp(max=1)[:, None, None]
        # Sliding along faces costs more with damping, as it does for nodes that have their times: paths turn less.
        damped = [torch.where(loose[:, None, None], model.damped(share).nan_to_num(0.0), 0) for share in DAMPINGS]
        damped = [self._limited(strips, step) for step in damped]
        tries = [self._moved(strips, step) for step in damped]
        few = blocked & ~long & ((reach < 1).sum(1) <= _FEW * reach.shape[1])
        if bool(few.any()):
            tries.append(self._moved(strips, self._stopped(strips, model, step, few)))
        better = self._best(found, tries, left)
        left = left & ~long & ~(better.length < length)
        if not bool(left.any()):
            return better, promised
        stopped = self._stopped(strips, model, step, left)
        promised = torch.where(left, 2 * model.promised(stopped) / length, promised)
        tries = [self._moved(strips, stopped), self._moved(strips, least * step)]
        tries += [self._moved(strips, share * step) for share in _PARTS]
        return self._best(better, tries, left), promised

    def _opened(self, strips: Strips, best: _Found, sides: Sides, at: Tensor, opening: Bool[Tensor, " P"]) -> _Found:
        """The polygons with their corners moved to the better side."""
        gains = sides.gain > 0
        nodes, found, left = strips.nodes, best, opening
        (rows,) = gains.nonzero(as_tuple=True)
        crosses = sides.crosses[rows]
        kept = torch.ones_like(strips.pair, dtype=torch.bool)
        kept[at[rows]] = False
        m, w = crosses.nonzero(as_tuple=True)
        order = torch.cat([torch.arange(len(nodes)).to(nodes)[kept], at[rows][m] + (w + 1) / (crosses.shape[1] + 2)])
        order = order.argsort()
        pair = torch.cat([strips.pair[kept], strips.pair[at[rows]][m]])[order]
        within = torch.cat([strips.within[kept], torch.zeros_like(m, dtype=torch.bool)])[order]
        corner = nodes[at[rows]]
        for share in _SHARES:
            way = torch.lerp(corner[:, None].expand_as(sides.way[rows]), sides.way[rows], share)[m, w]
            moved = torch.cat([nodes[kept], way])[order]
            found = self._best(found, [Polygons(moved, pair, within)], left)
            left = left & ~(found.length < best.length)
            if not bool(left.any()):
                break
        return found

    def _sides(self, strips: Strips, at: Int[Tensor, " M"]) -> Sides:
        units, d = strips.units[at], strips.nodes.shape[1]
        normals = strips.nodes.new_zeros(*units.shape, d)
        rows, places = (units >= 0).nonzero(as_tuple=True)
        normals[rows, places] = self.faces.normals(strips.nodes[at][rows], units[rows, places])
        normals = normals / normals.norm(dim=2, keepdim=True).clamp_min(torch.finfo(normals.dtype).tiny)
        nodes = strips.nodes[torch.stack([at - 1, at, at + 1], dim=1)]
        return sides_of(self.manifold.observe, self.faces, nodes, units, normals)

    def _free(self, strips: Strips, at: Int[Tensor, " M"]) -> Float[Tensor, "M 2"]:
        """How many times the segments beside corners it is to the next corner, or the end: all of that turns."""
        x = self.manifold.observe(strips.nodes).flatten(1)
        chords = torch.where(strips.first[1:], 0, x.diff(dim=0).norm(dim=1))
        upto = torch.nn.functional.pad(chords.cumsum(0), (1, 0))
        index = torch.arange(len(upto), device=at.device)
        stops = strips.ends | strips.corners
        last = torch.where(stops, index, 0).cummax(0).values[at - 1]
        following = torch.where(stops, index, len(upto)).flip(0).cummin(0).values.flip(0)[at + 1]
        way = torch.stack([upto[at] - upto[last], upto[following] - upto[at]], dim=1)
        return way / torch.stack([chords[at - 1], chords[at]], dim=1).clamp_min(torch.finfo(way.dtype).tiny)

    def _settled(self, strips: Strips, step: Float[Tensor, "P interior d"], taut: Bool[Tensor, " P"]) -> Strips:
        """Polygons that are taut after the step that was too small to be taken, as far as faces let it."""
        step = torch.where(taut[:, None, None], step.nan_to_num(0.0), 0)
        share = self._reach(strips, step).clamp(max=1)[..., None]
        return replace(strips, nodes=self._moved(strips, share * step).nodes)

    def _shortcuts(self, strips: Strips, at: Int[Tensor, " M"]) -> Float[Tensor, " M"]:
        """By how much longer than straight through space the way over nodes is."""
        x = self.manifold.observe(strips.nodes[torch.stack([at - 1, at, at + 1], dim=1)].flatten(0, 1)).flatten(1)
        before, here, after = x.unflatten(0, (-1, 3)).unbind(1)
        return (here - before).norm(dim=1) + (after - here).norm(dim=1) - (after - before).norm(dim=1)

    def _limited(self, strips: Strips, step: Float[Tensor, "P interior d"]) -> Float[Tensor, "P interior d"]:
        """Steps that move no node farther than polygons are long: far away there are faces without number."""
        size = strips.nodes.diff(dim=0).norm(dim=1)
        size = torch.where(strips.first[1:], 0, size)
        long = torch.zeros_like(step[:, 0, 0]).index_add(0, strips.pair[1:], size)
        farthest = step.norm(dim=2).amax(1).clamp_min(torch.finfo(step.dtype).tiny)
        return step * (long / farthest).clamp(max=1)[:, None, None]

    def _full(self, strips: Strips, step: Float[Tensor, "P interior d"]) -> Float[Tensor, "R d"]:
        """Steps of the interior nodes, (P, n - 2, d), of all nodes one after the other."""
        padded = torch.nn.functional.pad(step, (0, 0, 1, 1))
        moved = padded[strips.pair, strips.place.clamp(max=padded.shape[1] - 1)]
        return torch.where(strips.ends[:, None], 0, moved)

    def _moved(self, strips: Strips, step: Float[Tensor, "P interior d"]) -> Polygons:
        return Polygons(strips.nodes - self._full(strips, step), strips.pair, strips.within)

    def _reach(self, strips: Strips, step: Float[Tensor, "P interior d"]) -> Float[Tensor, "P interior"]:
        """The share of its step at which each node comes to the border of its face, infinite where it does not."""
        moved = self._moved(strips, step).nodes
        a, b = self.faces.heights(strips.nodes), self.faces.heights(moved)
        share = torch.where(on_face(a, self.scale) * on_face(b, self.scale) < 0, a / (a - b), torch.inf)
        if share.shape[1]:
            rows, places = (strips.units >= 0).nonzero(as_tuple=True)
            share[rows, strips.units[rows, places]] = torch.inf
        reach = torch.where(strips.within | strips.ends, torch.inf, share.amin(1))
        reach = strips.padded(reach)[:, 1:-1]
        interior = torch.arange(1, reach.shape[1] + 1, device=reach.device) < strips.pair.bincount()[:, None] - 1
        return torch.where(interior, reach, torch.inf)

    def _stopped(
        self, strips: Strips, model: LengthModel, step: Tensor, blocked: Bool[Tensor, " P"]
    ) -> Float[Tensor, "P interior d"]:
        """The step of least modeled length with nodes stopped where their faces end: those first that come there first.

        Round by round, since the others take shorter steps where these have stopped.
        """
        fixed = torch.zeros_like(step[..., 0], dtype=torch.bool)
        held, eye = torch.zeros_like(step), torch.eye(step.shape[-1]).to(step)
        for _ in range(_STOPS):
            reach = torch.where(fixed, torch.inf, self._reach(strips, step))
            soon = (_SOON * reach.amin(1, keepdim=True)).clamp_min(_AT_ONCE)
            new = (reach < 1) & (reach <= soon) & blocked[:, None]
            if not bool(new.any()):
                break
            held = torch.where(new[..., None], reach.clamp(max=1)[..., None] * step, held)
            fixed |= new
            free = ~fixed[..., None, None]
            diagonal = torch.where(free, model.hessian.diagonal, eye)
            upper = torch.where(free[:, :-1] & free[:, 1:], model.hessian.upper, 0)
            right = torch.where(fixed[..., None], 0, model.gradient - model.hessian @ held)
            step = BlockTridiagonal(diagonal, upper).damped(1e-12).cholesky().solve(right).nan_to_num(0.0)
            step = torch.where(fixed[..., None], held, step)
        left = torch.where(fixed, torch.inf, self._reach(strips, step)).amin(1).clamp(max=1)
        return torch.where(fixed[..., None], step, left[:, None, None] * step)

    def _best(
        self,
        known: _Found,
        tries: list[Polygons],
        asked: Bool[Tensor, " P"],
    ) -> _Found:
        """For each polygon the shortest one: that which is known, or one of those that are tried."""
        P = len(asked)
        parts = []
        for k, (nodes, pair, within) in enumerate(tries):
            on = asked[pair]
            parts.append((nodes[on], pair[on] + k * P, within[on]))
        nodes, pair, within = (torch.cat(x) for x in zip(*parts, strict=True))
        names, number = pair.unique(return_inverse=True)
        new = self.crossed(nodes, number, within)
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
        return _Found(_with_pairs(known.strips, rows, renumbered), torch.where(shorter, least, known.length))


def _picked(found: _Found, other: _Found, which: Bool[Tensor, " P"]) -> _Found:
    """Polygons, some of them replaced by others."""
    strips = _with_pairs(found.strips, which.nonzero()[:, 0], other.strips.of(which))
    return _Found(strips, torch.where(which, other.length, found.length))


def _sorted(strips: Strips) -> Strips:
    order = strips.pair.sort(stable=True).indices
    return Strips(strips.nodes[order], strips.pair[order], strips.units[order])


def _with_pairs(strips: Strips, rows: Int[Tensor, " n"], new: Strips) -> Strips:
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
