"""Latent coordinates that come round again: their periods, and the copies of points that are one and the same."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.checks import brief, is_number
from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold

__all__ = [
    "Period",
    "checked_period",
    "gathered",
    "moved_by",
    "on_circles",
    "periods_of",
    "require_periodic",
    "said",
    "same_points",
    "turns",
    "unwrapped",
]

Period = tuple[float | None, ...]
"""For each latent coordinate its period, None where it has none."""

_FRACTIONS = (0.5, 0.29)  # of a period, over which outputs are seen to change
_ROUNDINGS = 100  # of the outputs, by which they may differ a period away
_OF_A_POINT = 8  # by which a point may differ from another one that it is a copy of


def checked_period(period: Any) -> Period | None:
    """A `period` as a tuple of numbers and None; None where no coordinate has one.

    Raises:
        InputError: It is no list of positive numbers and None.

    Example:
        >>> from geodesic.geometry.period import checked_period
        >>> checked_period([6, None]), checked_period((None, None))
        ((6.0, None), None)
    """
    if period is None:
        return None
    if not isinstance(period, tuple | list):
        raise InputError(
            f"period: expected an entry for each latent coordinate, such as (2 * pi, None), got {period!r}; write "
            "None for a coordinate without a period"
        )
    for k, p in enumerate(period):
        if p is not None and not (is_number(p) and 0 < p < math.inf):
            raise InputError(
                f"period[{k}]: expected a positive number, got {p!r}; write None for a coordinate without a period"
            )
    return None if all(p is None for p in period) else tuple(None if p is None else float(p) for p in period)


def said(period: Period | None) -> str:
    """What the text of a manifold says of its period."""
    return "" if period is None else f", period=({', '.join('None' if p is None else f'{p:g}' for p in period)})"


def periods_of(period: Period, z: Float[Tensor, "*batch d"]) -> Float[Tensor, " d"]:
    """The periods as a tensor for points like these; 0 for a coordinate that has none.

    Raises:
        InputError: Points have another number of coordinates.
    """
    if len(period) != z.shape[-1]:
        raise InputError(
            f"period: expected an entry for each of the {z.shape[-1]} latent coordinates, got {len(period)}; write "
            "None for a coordinate without a period"
        )
    return torch.tensor([p or 0.0 for p in period], dtype=z.dtype, device=z.device)


def turns(period: Period, z: Float[Tensor, "*#batch d"], near: Float[Tensor, "*#batch d"]) -> Int[Tensor, "... d"]:
    """How many periods to add to each coordinate of points z, so that they come nearest to other points.

    Halfway between two copies it is the higher one.

    Example:
        >>> import torch
        >>> from geodesic.geometry.period import turns
        >>> turns((1.0, None), torch.tensor([0.9, 5.0]), torch.tensor([3.1, 0.0]))
        tensor([2, 0])
    """
    p = periods_of(period, z)
    share = torch.where(p > 0, (near - z) / torch.where(p > 0, p, 1), 0)
    return (share + 0.5).floor().long()


def moved_by(
    period: Period, z: Float[Tensor, "*#batch d"], winding: Int[Tensor, "*#batch d"]
) -> Float[Tensor, "... d"]:
    """The copies of points so many periods away; coordinates that stay are the same bit for bit."""
    return torch.where(winding == 0, z, z + winding * periods_of(period, z))


def unwrapped(
    period: Period | None, z: Float[Tensor, "*#batch d"], near: Float[Tensor, "*#batch d"]
) -> Float[Tensor, "... d"]:
    """The copies of points z that lie nearest to other points, coordinate by coordinate.

    Example:
        >>> import torch
        >>> from geodesic.geometry.period import unwrapped
        >>> unwrapped((1.0, None), torch.tensor([0.75, 5.0]), torch.zeros(2))
        tensor([-0.2500,  5.0000])
    """
    return z if period is None else moved_by(period, z, turns(period, z, near))


def same_points(
    period: Period | None, z: Float[Tensor, "*batch d"], others: Float[Tensor, "*batch d"]
) -> Float[Tensor, "*batch d"]:
    """The other points where they are copies of points z, but for rounding; elsewhere the nearest copies of these."""
    copies = unwrapped(period, z, others)
    rounding = _OF_A_POINT * torch.finfo(z.dtype).eps * (z.abs() + others.abs())
    return torch.where((copies != z) & ((others - copies).abs() <= rounding), others, copies)


def gathered(period: Period | None, x: Float[Tensor, "R N d"], weights: Float[Tensor, "R N"]) -> Float[Tensor, "R N d"]:
    """The copies of points that lie nearest to their circular mean, in the turn of the first point of each row.

    The circular mean of angles is that of their points on the circle, seen from its center.
    """
    if period is None:
        return x
    p = periods_of(period, x)
    angle = torch.where(p > 0, 2 * math.pi / torch.where(p > 0, p, 1) * x, 0)
    sine, cosine = ((weights[..., None] * f(angle)).sum(1) for f in (torch.sin, torch.cos))
    middle = torch.where(p > 0, torch.atan2(sine, cosine) * p / (2 * math.pi), x[:, 0])
    return unwrapped(period, x, unwrapped(period, middle, x[:, 0])[:, None])


def on_circles(period: Period | None, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch D"]:
    """Points with each periodic coordinate on a circle as long as its period: neighbors are neighbors over the seam."""
    if period is None:
        return z
    p = periods_of(period, z)
    closed = p > 0
    radius = p[closed] / (2 * math.pi)
    angle = z[..., closed] / radius
    return torch.cat([z[..., ~closed], radius * angle.cos(), radius * angle.sin()], dim=-1)


def require_periodic(manifold: Manifold, points: Float[Tensor, "N d"]) -> None:
    """Refuse a period that the outputs of a decoder, or the metric, do not have at these points.

    Raises:
        InputError: With the coordinate, and by how much values differ a period away.
    """
    period = checked_period(manifold.period)
    if period is None:
        return
    periods = periods_of(period, points)
    with torch.no_grad():
        values = manifold.observe(points).flatten(1)
        for k, p in enumerate(period):
            if p is None:
                continue
            step = torch.zeros_like(periods)
            step[k] = p
            beside = [manifold.observe(points + share * step).flatten(1) for share in (*_FRACTIONS, 1.0)]
            *change, gap = ((x - values).norm(dim=1) for x in beside)
            apart = torch.stack(change).amax(0).nan_to_num(0.0)
            eps = torch.finfo(values.dtype).eps
            off = gap > eps**0.5 * apart.amax() + _ROUNDINGS * eps * values.norm(dim=1)
            if bool(off.any()):
                row = int(off.nonzero()[0])
                raise InputError(
                    f"period[{k}]: expected g(z + {p:g}) = g(z) in coordinate {k}, got values that differ by "
                    f"{float(gap[row]):.3g} at {brief(points[row])}, where they change by {float(apart[row]):.3g} "
                    "within a period; give the period that the decoder or the metric has, or None"
                )
