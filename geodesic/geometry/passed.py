"""Segments of curves in the surrounding space, from values and velocities at their nodes and halfway between."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.numerics.arcs import SIMPSON, halves_rates, inner_products, lengths_of, quintic_rates
from geodesic.numerics.spline import like

__all__ = ["Passed", "passed_between"]

# Numbers of outputs of which inner products are taken together: so many stay near a processor, which takes a quarter of
# the time.
_AT_ONCE = {"cpu": 2**19, "cuda": 2**26}


class Passed(NamedTuple):
    """The segments of curves by values and velocities at their nodes and halfway between, (P, 2 T + 1, d).

    Attributes:
        lengths: By quintics, (P, T): no shorter than chords, also where a step is too steep for speeds to see it.
        off: The largest difference to the lengths by cubics and by Simpson's rule, (P, T).
        pace: The largest of the three speeds, per segment, (P, T).
        squared_chords: (P, T).
        missed: How far the velocities lead past the end of each segment, by Simpson's rule, (P, T).
        bent: By how much the velocity changes in each, per segment, (P, T): a kink misses no more than half of it.
        size: Norm of the larger one of the outputs at both ends, (P, T).
        wide: Squared chords over two segments, (P, T - 1).
    """

    lengths: Float[Tensor, "P T"]
    off: Float[Tensor, "P T"]
    pace: Float[Tensor, "P T"]
    squared_chords: Float[Tensor, "P T"]
    missed: Float[Tensor, "P T"]
    bent: Float[Tensor, "P T"]
    size: Float[Tensor, "P T"]
    wide: Float[Tensor, "P T-1"]


def passed_between(y: Float[Tensor, "P nodes D"], slope: Float[Tensor, "P nodes D"]) -> Passed:
    """The segments of curves.

    Args:
        y: Values at nodes and halfway between, in turn: (P, 2 T + 1, D).
        slope: Velocities there, per half segment.
    """
    some = max(1, _AT_ONCE.get(y.device.type, _AT_ONCE["cuda"]) // max(y[:1].numel(), 1))
    parts = [_passed(*both) for both in zip(y.split(some), slope.split(some), strict=True)]
    return Passed._make(torch.cat(x) for x in zip(*parts, strict=True))


def _passed(y: Float[Tensor, "P nodes D"], slope: Float[Tensor, "P nodes D"]) -> tuple[Tensor, ...]:
    """What `Passed` has of values and velocities, per half segment, at nodes and halfway between."""
    half = y.diff(dim=1)
    first, second = half[:, ::2], half[:, 1::2]
    left, middle, right = slope[:, :-1:2], slope[:, 1::2], slope[:, 2::2]
    step, speed = first + second, slope.norm(dim=-1)
    gram = inner_products(first, second, left, middle, right)
    by_quintics, by_cubics = (lengths_of(gram, *like(y, *rates)) for rates in (quintic_rates(), halves_rates()))
    three = speed.unfold(1, 3, 2)
    by_simpson = three @ like(y, SIMPSON)[0]
    off = (by_quintics - by_cubics).abs().maximum((by_quintics - by_simpson).abs())
    missed = (step - (left + 4 * middle + right) / 3).norm(dim=-1)
    bent = 2 * slope.diff(dim=1).norm(dim=-1).unflatten(1, (-1, 2)).sum(-1)
    size = y[:, ::2].norm(dim=-1).unfold(1, 2, 1).amax(-1)
    wide = (step[:, 1:] + step[:, :-1]).square().sum(-1)
    return by_quintics, off, 2 * three.amax(-1), step.square().sum(-1), missed, bent, size, wide
