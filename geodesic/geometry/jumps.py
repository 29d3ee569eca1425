"""Jumps of a decoder: what chords cross and no derivative sees, found by differences along a path."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.geometry.path import segment_lengths
from geodesic.numerics.spline import hermite, like, on_interval, spline_matrices

__all__ = ["Unseen", "jumps", "unseen"]

_NEGLIGIBLE = 1e-4  # of a path's length may go unexamined: it is part of the stated error
_SUSPECTS = 8  # segments of a path that are looked at, those with the longest chords beyond their lengths
_ROUNDINGS = 64  # of the outputs: a smaller step is no jump


class Unseen(NamedTuple):
    """What derivatives do not see of paths, (P, T + 1, d).

    Attributes:
        length: By how much chords exceed the lengths of their segments by derivatives, summed, (P,).
        jump: Whether the decoder jumps between two nodes, (P,).
    """

    length: Float[Tensor, " P"]
    jump: Bool[Tensor, " P"]


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
    with torch.no_grad():
        lengths, chords = segment_lengths(manifold, paths), manifold.squared_chords(paths)
    return unseen(manifold, paths, lengths, chords).jump.reshape(path.shape[:-2])


@torch.no_grad()
def unseen(
    manifold: Manifold,
    path: Float[Tensor, "P nodes d"],
    lengths: Float[Tensor, "P T"],
    squared_chords: Float[Tensor, "P T"],
) -> Unseen:
    """What derivatives do not see of paths, from the lengths of their segments by derivatives and from their chords.

    A chord is never longer than its curve. Where it is longer than quadrature says, either quadrature is coarse (a
    kink, a steep place) or the decoder jumps. Bisection tells: along the half with the greater excess, what
    quadrature misses shrinks with the interval, and a jump does not. What has not shrunk when the interval is shorter
    than a millionth of the segment (in float32, than a five hundredth) is a jump.

    Warning:
        A jump that two nodes enclose in both directions, up and down again, leaves no trace in their chord. Neither
        does one below a ten thousandth of the path's length, or a few roundings of the outputs.

    Args:
        manifold: Where to measure.
        path: Nodes, (P, T + 1, d).
        lengths: Of the segments of the spline through the nodes, as by `segment_lengths`.
        squared_chords: Of the segments, as by `manifold.squared_chords`.
    """
    T = lengths.shape[1]
    excess = squared_chords.clamp_min(0).sqrt() - lengths
    floor = _NEGLIGIBLE / T * (lengths + excess.clamp_min(0)).sum(1)
    found = Unseen(torch.zeros_like(floor), torch.zeros_like(floor, dtype=torch.bool))
    rows, segment = (excess > floor[:, None]).nonzero(as_tuple=True)
    if not len(rows):
        return found
    # Chords that are no lower bounds, as those of a metric at midpoints, exceed lengths and mean nothing.
    ends = path[rows, segment], path[rows, segment + 1]
    rounding = _ROUNDINGS * torch.finfo(path.dtype).eps * manifold.observe(torch.stack(ends)).flatten(2).norm(dim=-1)
    least = floor[rows].maximum(rounding.amax(0))
    beyond = manifold.lower_bound(*ends) - lengths[rows, segment]
    excess = torch.zeros_like(excess).index_put((rows, segment), torch.where(beyond > least, beyond, 0))
    least = torch.zeros_like(excess).index_put((rows, segment), least)
    worst = excess.topk(min(_SUSPECTS, max(T // 2, 1)), dim=1)
    rows, place = (worst.values > 0).nonzero(as_tuple=True)
    if not len(rows):
        return found
    segment = worst.indices[rows, place]
    jumping = _persistent(manifold, path, rows, segment, least[rows, segment])
    return Unseen(excess.sum(1), found.jump.index_fill(0, rows[jumping], True))


def _persistent(manifold: Manifold, path: Tensor, rows: Tensor, segment: Tensor, least: Tensor) -> Tensor:
    """Which of some segments, by their paths and places, keep an excess under bisection: indices into them."""
    T, eps = path.shape[1] - 1, torch.finfo(path.dtype).eps
    slope = like(path, *spline_matrices(T, T))[1] @ path / T
    ends = [x[rows, i] for x in (path, slope) for i in (segment, segment + 1)]
    active, left, width = torch.arange(len(rows), device=rows.device), torch.zeros_like(least), 1.0
    points, weights = like(path, *on_interval())
    # Of float64's 52 bits 20, of float32's 23 nine: with the others outputs are told apart.
    for _ in range(int(-0.4 * math.log2(eps))):
        width /= 2
        a = left[active, None]
        z0, z1, m0, m1 = (x[active, None] for x in ends)
        u = torch.cat([a, a + width, a + 2 * width, a + width * points, a + width * (1 + points)], dim=1)
        at, velocity = hermite(z0, z1, m0, m1, u[..., None])
        length = width * manifold.squared_norm(at[:, 3:], velocity[:, 3:]).sqrt().unflatten(1, (2, -1)) @ weights
        chord = manifold.squared_chords(at[:, :3]).clamp_min(0).sqrt()
        excess, half = (chord - length).max(1)
        left[active] += width * half
        sharp = (chord > 2 * length).gather(1, half[:, None])[:, 0]
        kept = excess > least[active]
        active, sharp = active[kept], sharp[kept]
        if not len(active):
            return active
    return active[sharp]
