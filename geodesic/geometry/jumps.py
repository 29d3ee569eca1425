"""Jumps of a decoder: what no derivative sees of the way along a path, found by differences."""

from __future__ import annotations

import math
from copy import copy
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.geometry.passed import Along
from geodesic.geometry.path import spline_speed
from geodesic.numerics.spline import at_halves, hermite, like, on_interval, on_segments, slopes

__all__ = ["Unseen", "along", "jumps", "measured_by_values", "spline_lengths", "unseen"]

_NEGLIGIBLE = 1e-4  # of a path's length may go unexamined: it is part of the stated error
_BY_KINKS = 3e-3  # of a path's length may be missed in a segment without a closer look, if its bends explain it
_SUSPECTS = 8  # segments of a path that are looked at, those of which derivatives miss most
_ROUNDINGS = 64  # of the outputs: a smaller step is no jump
_PARTS = 8  # that a suspect is divided into, and the worst of them again
_HIDDEN_AT = (
    3  # divisions after which a part that is hidden is told from kinks, which are few in so little of a segment
)
_HIDDEN = 0.02  # of a step, that derivatives miss in nearly all parts where something is hidden


class Unseen(NamedTuple):
    """What derivatives do not see of paths, (P, T + 1, d).

    Attributes:
        length: By how much chords exceed the lengths of their segments by derivatives, summed, (P,).
        jump: Whether the decoder jumps between two nodes, or changes there by a part that is hidden, (P,).
    """

    length: Float[Tensor, " P"]
    jump: Bool[Tensor, " P"]


@torch.no_grad()
def along(manifold: Manifold, path: Float[Tensor, "P nodes d"], doubted: bool = False, every: int = 0) -> Along:
    """The spline through the nodes, by its derivatives and by its chords: for the price of its length.

    Where a curve has no length beside its segments, their chords, of which nothing is missed.

    Args:
        manifold: Where to measure.
        path: Nodes, (P, T + 1, d).
        doubted: Whether another rule is asked, too, for one pass more at each node where that is not known already.
        every: Of so many segments one has its acceleration and its metric taken, where lengths are by values: there
            alone, and if it is not 0.
    """
    if _by_values(manifold):
        return manifold.passed(*at_halves(path), every)
    unasked = path.new_empty(len(path), 0, path.shape[2], path.shape[2]), path.new_empty(len(path), 0, path.shape[2])
    if not manifold.has_length:
        chords, wide = manifold.chords_of_one_and_two(path)
        length, nothing = chords.sqrt(), torch.zeros_like(chords)
        return Along(length, nothing, length, chords, nothing, nothing, nothing, *unasked, wide)
    (weights,) = like(path, on_interval()[1])
    found = manifold.traveled(path, *on_segments(path), weights, slopes(path) if doubted else None)
    lengths, middle = found.speed @ weights, found.speed[..., found.speed.shape[2] // 2]
    off = (lengths - (found.ends.sum(-1) + 4 * middle) / 6).abs() if doubted else torch.zeros_like(lengths)
    chords, missed, bent, size, _, wide = found[1:]
    return Along(lengths, off, found.speed.amax(-1), chords, missed, bent, size, *unasked, wide)


def spline_lengths(manifold: Manifold, path: Float[Tensor, "P nodes d"]) -> Float[Tensor, "P T"]:
    """Lengths of the segments of the spline through the nodes: those of `along`, alone."""
    if _by_values(manifold):
        return manifold.passed(*at_halves(path)).lengths
    speed, weights = spline_speed(manifold, path)
    return (speed * weights).unflatten(1, (path.shape[1] - 1, -1)).sum(-1)


def measured_by_values(manifold: Manifold) -> Manifold:
    """The same manifold, whose lengths `along` takes from values and velocities, see `Manifold.lengths_by_values`."""
    same = copy(manifold)
    object.__setattr__(same, "lengths_by_values", True)  # surfaces are frozen
    return same


def _by_values(manifold: Manifold) -> bool:
    return manifold.lengths_by_values and manifold.has_embedding and manifold.has_length


def jumps(manifold: Manifold, path: Float[Tensor, "*batch nodes d"]) -> Bool[Tensor, "*batch"]:
    """Which paths cross a jump of the decoder, (*batch,), see `unseen`.

    Example:
        >>> import torch, geodesic
        >>> step = geodesic.PullbackManifold(lambda z: torch.cat([z, (z > 0.1).to(z)], dim=1))
        >>> path = geodesic.straight_path(torch.tensor([[-1.0], [0.2]]), torch.ones(2, 1))
        >>> geodesic.geometry.jumps.jumps(step, path)
        tensor([ True, False])
    """
    paths = path.detach().reshape(-1, *path.shape[-2:])
    return unseen(manifold, paths, along(manifold, paths)).jump.reshape(path.shape[:-2])


@torch.no_grad()
def unseen(manifold: Manifold, path: Float[Tensor, "P nodes d"], along: Along) -> Unseen:
    """What derivatives do not see of paths.

    Between two nodes the outputs change by the integral of J c'. Where they do not, quadrature is coarse (a kink, a
    steep place), or the decoder jumps, or a part of it is hidden from derivatives. Division tells: in the part of a
    segment of which most is missed, what quadrature misses shrinks with the part, and a jump does not. What has not
    shrunk when the part is shorter than a millionth of the segment (in float32, than a five hundredth) is a jump. What
    is hidden is missed in all parts, however short, and a kink in one of them.

    Warning:
        A jump that two nodes enclose in both directions, up and down again, leaves no trace between them. Neither
        does one below a ten thousandth of the path's length (next to kinks, three thousandths), or a few roundings of
        the outputs. Without an embedding steps have sizes alone: what is missed shows where a chord is longer than its
        curve.

    Args:
        manifold: Where to measure.
        path: Nodes, (P, T + 1, d).
        along: What `along` says of them.
    """
    lengths, missed, T = along.lengths, along.missed, path.shape[1] - 1
    excess = (along.squared_chords.clamp_min(0).sqrt() - lengths).clamp_min(0)
    whole = (lengths + excess).sum(1)
    floor = _NEGLIGIBLE / T * whole
    found = Unseen(torch.zeros_like(floor), torch.zeros_like(floor, dtype=torch.bool))
    rows, segment = (missed > floor[:, None]).nonzero(as_tuple=True)
    if not len(rows):
        return found
    size = along.size
    if not manifold.has_embedding:
        ends = path[rows, segment], path[rows, segment + 1]
        size = size.index_put((rows, segment), manifold.observe(torch.stack(ends)).flatten(2).norm(dim=-1).amax(0))
        # Chords that are no lower bounds, as those of a metric at midpoints, exceed lengths and mean nothing.
        beyond = (manifold.lower_bound(*ends) - lengths[rows, segment]).clamp_min(0)
        missed = excess = torch.zeros_like(missed).index_put((rows, segment), beyond)
    least = (_ROUNDINGS * torch.finfo(path.dtype).eps * size).maximum(floor[:, None])
    excess, missed = (torch.where(x > least, x, 0) for x in (excess, missed))
    missed = torch.where((missed > along.bent / 2) | (missed > _BY_KINKS * whole[:, None]), missed, 0)
    worst = missed.topk(min(_SUSPECTS, max(T // 2, 1)), dim=1)
    rows, place = (worst.values > 0).nonzero(as_tuple=True)
    if len(rows):
        segment = worst.indices[rows, place]
        pace = along.pace
        kinks = _BY_KINKS * whole[rows]
        persistent = _persistent(manifold, path, (rows, segment), least[rows, segment], pace[rows, segment], kinks)
        found = found._replace(jump=found.jump.index_fill(0, rows[persistent], True))
    return found._replace(length=excess.sum(1))


def _persistent(
    manifold: Manifold, path: Tensor, suspects: tuple[Tensor, Tensor], least: Tensor, pace: Tensor, kinks: Tensor
) -> Int[Tensor, " jumping"]:
    """Of which segments, by their paths and places, something is missed however short their parts are.

    Where `least` at the least is missed, and more than a kink could hide at that pace. What is no more than `kinks`,
    and than bends of the part explain, is looked at no longer.
    """
    rows, segment = suspects
    slope, eps = slopes(path), torch.finfo(path.dtype).eps
    ends = [x[rows, i] for x in (path, slope) for i in (segment, segment + 1)]
    active, left, width = torch.arange(len(rows), device=rows.device), torch.zeros_like(least), 1.0
    bounds, middles = (torch.arange(_PARTS + 1).to(path) / _PARTS, (torch.arange(_PARTS) + 0.5).to(path) / _PARTS)
    hidden = []
    # Of float64's 52 bits 21, of float32's 23 nine: with the others outputs are told apart.
    for division in range(1, 1 + round(-0.4 * math.log2(eps) / math.log2(_PARTS))):
        if not len(active):
            break
        z0, z1, m0, m1 = (x[active, None] for x in ends)
        at = [left[active, None, None] + width * share[:, None] for share in (bounds, middles)]
        width /= _PARTS
        nodes, _ = hermite(z0, z1, m0, m1, at[0])
        z, v = hermite(z0, z1, m0, m1, at[1])
        found = manifold.traveled(nodes, z[:, :, None], width * v[:, :, None], torch.ones_like(width * z[0, 0, :1]))
        missed, worst = found.missed.max(1)
        bent = found.bent.gather(1, worst[:, None])[:, 0]
        left[active] += width * worst
        chords = found.squared_chords.clamp_min(0).sqrt()
        if division == _HIDDEN_AT and manifold.has_embedding:
            everywhere = (found.missed > _HIDDEN * chords).sum(1) >= _PARTS - 1
            hidden.append(active[everywhere & (missed > least[active])])
        sharp = missed > 2 * torch.maximum(width * pace[active], found.speed.flatten(1).amax(1))
        kept = (missed > least[active]) & ((missed > bent / 2) | (missed > kinks[active]))
        active, sharp = active[kept], sharp[kept]
    return torch.cat([active[sharp] if len(active) else active, *hidden])
