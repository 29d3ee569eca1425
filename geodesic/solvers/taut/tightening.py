"""Taut strings: shortest polygons through the faces of a decoder with kinks, which no smooth method sees.

Where activations bend, a decoder is made of smooth pieces. A shortest path crosses from piece to piece through their
faces, like light: with a node on every face that it crosses its length is a smooth function of where it crosses, and
Newton's method on the length converges as on a smooth decoder. Where faces meet a path may bend around a corner; there
the angles on both sides tell whether it is shortest.

Reference:
    N. Sharp, K. Crane, You Can Find Geodesic Paths in Triangle Meshes by Just Flipping Edges, 2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.door.faces import Faces
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.stretches import Stretches
from geodesic.geometry.strips import Strips
from geodesic.geometry.taut_lengths import LengthBlocks, LengthModel, length_blocks
from geodesic.solvers.taut.corners import Corners
from geodesic.solvers.taut.polygons import Found, Pieces, Polygons, picked, with_pairs
from geodesic.solvers.taut.steps import DECREASE, Steps

__all__ = ["Effort", "Taut", "crossing", "tighten"]

_IDLE, _TURNS = 1e-3, 6  # of the tolerance, and how often in a row: who gains no more by a step comes to no end
_ROUNDINGS = 8  # of a length: what is gained below is none
_SIZE = 16  # segments of a stretch: of longer polygons each stretch takes the step that suits it
_SHIFTS = (_SIZE // 2, None, _SIZE, None)  # of stretches, turn by turn; with none polygons are taken as a whole
_FINER = 0.25  # of the tolerance, for stretches: they are cheap


@dataclass(frozen=True)
class Effort:
    """How far polygons are tightened.

    Attributes:
        tol: Largest relative excess energy.
        believed: How many times what the last steps gained is believed to be left, at most: models promise more where
            faces end before.
        most: Steps. Where they do not come to an end, as much as the second half of them gained is believed to be left.
        in_parts: Whether each stretch of a long polygon takes a step of its own, too, where none of the whole gains.
    """

    tol: float
    believed: float = math.inf
    most: int = 200
    in_parts: bool = True


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
        gained: By how much polygons became shorter, relative to their lengths, (P,).
    """

    strips: Strips
    length: Float[Tensor, " P"]
    excess: Float[Tensor, " P"]
    minimum: Bool[Tensor, " P"]
    slope: Float[Tensor, " P"]
    steps: Int[Tensor, " P"]
    gained: Float[Tensor, " P"]

    def with_rows(self, rows: Int[Tensor, " n"], new: Taut) -> Taut:
        """The polygons with some of them replaced."""
        values = {name: getattr(self, name).index_put((rows,), x) for name, x in vars(new).items() if name != "strips"}
        return Taut(with_pairs(self.strips, rows, new.strips), **values)


@torch.no_grad()
def tighten(
    manifold: Manifold,
    faces: Faces,
    polygons: Polygons,
    effort: Effort,
    *,
    curved: bool,
    many: bool = False,
) -> Taut:
    """Shorten polygons until they are shortest among those near by, or no step shortens them.

    Args:
        manifold: With an embedding.
        faces: Of its decoder.
        polygons: To begin with.
        effort: How far.
        curved: Whether pieces are.
        many: Whether polygons cross so many faces that steps leave out what the decoder's second derivatives add. Ends
            are judged with them.
    """
    tightening = _Tightening(Pieces.around(polygons, manifold, faces, curved), effort)
    strips = tightening.pieces.crossed(polygons)
    P = int(strips.pair[-1]) + 1
    length, (excess, slope) = tightening.pieces.length(strips), torch.full((2, P), torch.nan).to(strips.nodes)
    begun = length.clone()
    minimum, steps = (torch.zeros(P, dtype=kind, device=length.device) for kind in (torch.bool, torch.long))
    # What is left along faces and at corners may be too much together.
    stages = [(curved and not many, 1.0), (curved, _FINER)]
    for bends, share in [stages[0], (curved, 1.0), stages[1]] if curved and many else stages:
        running = torch.ones_like(minimum) if share == 1 else excess > effort.tol / 2
        tightening = tightening.to(share * effort.tol)
        before, idle = length.clone(), torch.zeros_like(steps)
        for turn in range(effort.most):
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
            idle[rows] = torch.where(new.length < (1 - _IDLE * effort.tol) * length[rows], 0, idle[rows] + 1)
            strips = with_pairs(strips, rows, new.strips)
            length[rows] = new.length
            running[rows] = moved & (idle[rows] < _TURNS)
            if turn == effort.most // 2:
                before = length.clone()
        if bool(running.any()):  # what the last steps gained may be to be gained again
            excess = torch.where(running, excess.maximum(2 * (before / length - 1)), excess)
    return Taut(strips, length, excess, minimum, slope, steps, begun / length - 1)


@torch.no_grad()
def crossing(manifold: Manifold, faces: Faces, polygons: Polygons, *, curved: bool) -> tuple[Strips, Tensor]:
    """Polygons as they are, with a node on each face that they cross, and their lengths, (P,)."""
    pieces = Pieces.around(polygons, manifold, faces, curved)
    strips = pieces.crossed(polygons)
    return strips, pieces.length(strips)


@dataclass(frozen=True)
class _Ends:
    along: Float[Tensor, " P"]  # relative excess energies, without what corners add
    excess: Float[Tensor, " P"]
    minimum: Bool[Tensor, " P"]


@dataclass(frozen=True)
class _Tightening:
    """What stays the same while polygons are tightened."""

    pieces: Pieces
    effort: Effort

    def to(self, tol: float) -> _Tightening:
        """The same to another tolerance."""
        return replace(self, effort=replace(self.effort, tol=tol))

    def better(
        self, strips: Strips, length: Float[Tensor, " P"], blocks: LengthBlocks, shift: int | None = None
    ) -> tuple[_Ends, Found]:
        """What is known of polygons, and shorter ones where they are not taut.

        Args:
            strips: The polygons.
            length: Of them.
            blocks: Of the length around them.
            shift: Where the first stretches of long ones end; all are taken as a whole if none.
        """
        model, same = LengthModel.of(blocks, strips, length), Found(strips, length)
        steps = Steps(self.pieces, strips)
        excess, minimum, best = model.step.excess, model.step.minimum, same
        tol = self.effort.tol
        loose = excess > tol / 2
        many = loose & (strips.pair.bincount() > 2 * _SIZE)
        long = many & (shift is not None)
        promised = torch.full_like(length, torch.nan)  # by steps that end where faces do
        if bool(loose.any()):
            best, promised = steps.best(length, model, loose, long)
        # What no step gains as a whole, stretches may.
        long = (long | many & self.effort.in_parts) & ~(
            best.length < torch.where(long, length * (1 - DECREASE * model.step.excess), length)
        )
        if bool(long.any()):
            best, promised = self._by_stretches(same, best, blocks, long, shift or 0)
        # What no step gains, in stretches and as a whole, is not to be had: faces end before.
        believed = promised.maximum(self.effort.believed * 2 * (1 - best.length / length))
        excess = torch.where(loose & (believed < excess), believed, excess)
        enough = loose & (excess <= tol / 2)
        if bool(enough.any()):
            best = picked(best, same, enough)
        along = excess
        done = ~(best.length < length)  # those that are taut but for their corners, and those that no step shortens
        if bool((done[strips.pair] & strips.corners).any()):
            settled = steps.settled(model.step.direction, done & ~loose)
            corners = Corners.of(self.pieces, settled, best, done, tol / 4)
            best, excess = corners.best, excess + 2 * corners.most / length
            minimum = minimum & (corners.gain <= tol / 4 * length)
        return _Ends(along, excess, minimum), best

    def _by_stretches(
        self, same: Found, best: Found, blocks: LengthBlocks, which: Bool[Tensor, " P"], shift: int
    ) -> tuple[Found, Float[Tensor, " P"]]:
        """Shorter polygons: each of their stretches takes a step of its own, as long as it gains there.

        And what their stretches promise beyond, relative to the polygons'.
        """
        (rows,) = which.nonzero(as_tuple=True)
        (nodes,) = which[same.strips.pair].nonzero(as_tuple=True)
        parts = Stretches.of(same.strips.of(which), _SIZE, shift)
        length = self.pieces.length(parts.strips)
        finer = self.to(_FINER * self.effort.tol)
        ends, found = finer.better(parts.strips, length, blocks.at(nodes[parts.source], parts.strips))
        total = torch.zeros_like(same.length[rows]).index_add(0, parts.owner, ends.along * length)
        promised = torch.full_like(same.length, torch.nan).index_put((rows,), total / same.length[rows])
        new = self.pieces.crossed(Polygons(*parts.joined(found.strips)))
        length = self.pieces.length(new).nan_to_num(torch.inf)
        shorter = length < best.length[rows]
        lengths = best.length.index_put((rows,), best.length[rows].minimum(length))
        return Found(with_pairs(best.strips, rows[shorter], new.of(shorter)), lengths), promised
