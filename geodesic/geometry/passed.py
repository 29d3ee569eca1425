"""What is known of the segments of curves; and how, from values and velocities at nodes and halfway between."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.numerics.arcs import SIMPSON, halves_rates, inner_products, lengths_of, quintic_rates
from geodesic.numerics.spline import like

__all__ = ["Along", "middles", "passed_between"]

# Numbers of outputs of which inner products are taken together: so many stay near a processor, which takes a quarter of
# the time.
_AT_ONCE = {"cpu": 2**19, "cuda": 2**26}


class Along(NamedTuple):
    """Curves through nodes, (P, T + 1, d), segment by segment.

    Attributes:
        lengths: (P, T).
        off: By how much other rules of quadrature have others, (P, T), if that was asked for.
        pace: The largest speed that was seen, per segment, (P, T).
        squared_chords: (P, T).
        missed: What derivatives do not see of each segment, see `Traveled`; how far the velocities at its ends and
            halfway lead past its end, by Simpson's rule, where values are known there: (P, T).
        bent: By how much the velocity changes in each, per segment, (P, T): a kink misses no more than half of it.
        size: Norm of the larger one of the outputs at both ends, (P, T).
        metric: G halfway on some segments, (P, K, d, d), if that was asked for.
        pulled: J^T x'' there, with the acceleration per segment, (P, K, d).
        wide: Squared chords over two segments, (P, T - 1).
    """

    lengths: Float[Tensor, "P T"]
    off: Float[Tensor, "P T"]
    pace: Float[Tensor, "P T"]
    squared_chords: Float[Tensor, "P T"]
    missed: Float[Tensor, "P T"]
    bent: Float[Tensor, "P T"]
    size: Float[Tensor, "P T"]
    metric: Float[Tensor, "P K d d"]
    pulled: Float[Tensor, "P K d"]
    wide: Float[Tensor, "P T-1"]


def passed_between(
    y: Float[Tensor, "P nodes D"], slope: Float[Tensor, "P nodes D"], J: Float[Tensor, "P K D d"], every: int
) -> Along:
    """The segments of curves: lengths by quintics, no shorter than chords even where no speed sees a step.

    Args:
        y: Values at nodes and halfway between, in turn: (P, 2 T + 1, D).
        slope: Velocities there, per half segment.
        J: Jacobians halfway on every so many segments, beginning with half as many.
        every: So many.
    """
    some = max(1, _AT_ONCE.get(y.device.type, _AT_ONCE["cuda"]) // max(y[:1].numel(), 1))
    parts = [_passed(*part, every) for part in zip(y.split(some), slope.split(some), J.split(some), strict=True)]
    return Along._make(torch.cat(x) for x in zip(*parts, strict=True))


def middles(every: int) -> slice:
    """Where, among nodes and points halfway between, those of `passed_between` lie."""
    return slice(2 * (every // 2) + 1, None, 2 * every) if every else slice(0)


def _passed(y: Tensor, slope: Tensor, J: Tensor, every: int) -> tuple[Tensor, ...]:
    """What `Along` has, see `passed_between`."""
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
    seen = by_quintics, off, 2 * three.amax(-1), step.square().sum(-1), missed, bent, size
    # The second derivative of the quintic, halfway.
    at = slice(every // 2, None, every) if every else slice(0)
    acceleration = 8 * (second - first)[:, at] - 2 * (right - left)[:, at]
    return *seen, J.mT @ J, (J.mT @ acceleration[..., None])[..., 0], wide
