"""Points on which a function is looked at, and its derivatives there by differences of values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Probe", "Probes", "pair", "size_of", "spread_of"]

RowWise = Callable[[Tensor], Tensor]

_STEPS = (0.1, 1.0, 0.03, 0.3, 0.1, 3.0, 0.1, 0.3)  # in units of eps^(1/3), one a round: a round may meet a kink
_NEAR = 0.1  # distance of probes from the points, in units of how far these spread
_LONGER = 4.0  # ratio of steps, where rounding hides the difference of shorter ones
_LONGEST = 4.0  # step, in units of how far the points spread
_LEAST = 1e-3  # spread, in units of how far points lie from the origin
_ROUNDING = 4.0  # eps that values may be off


@dataclass(frozen=True)
class Probe:
    """Points, directions and cotangents on which derivatives are compared.

    Attributes:
        z: Points, (2, d).
        u, v: Tangents there, (2, d).
        r: Cotangents, of the shape of f(z).
        along: The derivative of f along u, by a difference.
        error: How far off that may be, as the norm of each row, with axes to divide by.
        step: Of differences of derivatives.
    """

    z: Float[Tensor, "2 d"]
    u: Float[Tensor, "2 d"]
    v: Float[Tensor, "2 d"]
    r: Tensor
    along: Tensor
    error: Tensor
    step: float


class Probes:
    """Where a function is looked at: rounds of probes, each at other points and with another step.

    They lie near some of the points, and not on them: at centers and corners derivatives may be special.

    Args:
        function: From (N, d) to (N, ...).
        points: Where it is going to be used, (N, d).

    Attributes:
        tolerance: Largest relative difference between a derivative that is right and a difference of values.
        bent: The same between a second derivative and a difference of derivatives.
        rounding: The same between two ways to take one derivative.
    """

    def __init__(self, function: RowWise, points: Float[Tensor, "N d"]) -> None:
        self._function, self._rows, self._spread = function, pair(points), spread_of(points)
        try:
            function(self._rows)
        except torch.OutOfMemoryError:
            self._rows = self._rows[:1]
        self._known: dict[int, Probe] = {}
        double = points.dtype == torch.float64
        self.tolerance, self.bent, self.rounding = (1e-4, 1e-4, 1e-8) if double else (2e-3, 3e-2, 1e-3)

    def __len__(self) -> int:
        return len(_STEPS)

    def __getitem__(self, k: int) -> Probe:
        if not 0 <= k < len(self):
            raise IndexError(k)
        if k not in self._known:
            self._known[k] = self._made(k)
        return self._known[k]

    def _made(self, k: int) -> Probe:
        generator, rows, f = torch.Generator("cpu").manual_seed(k), self._rows, self._function

        def draw(shape: torch.Size) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu").to(rows)

        z = rows + _NEAR * self._spread * draw(rows.shape)
        if not f(z).isfinite().all():
            z = rows.clone()
        u, v = (self._spread * draw(rows.shape) for _ in range(2))
        step = _STEPS[k] * torch.finfo(rows.dtype).eps ** (1 / 3)
        along, error = _derivative(f, z, u, step, self.tolerance)
        # In part at random, in part along the change itself, where most of it is seen; the two never cancel.
        random = draw(along.shape)
        r = random / (2 * size_of(random)) + along / size_of(along).clamp_min(torch.finfo(along.dtype).tiny)
        return Probe(z, u, v, r, along, error, step)


def _derivative(
    f: RowWise, z: Float[Tensor, "N d"], u: Float[Tensor, "N d"], step: float, tolerance: float
) -> tuple[Tensor, Tensor]:
    """The derivative of f along u by central differences, and how far off it may be.

    Where rounding hides the difference, as that of small changes of large values, steps become longer: two in a row
    make a difference of fourth order, and tell how much longer ones leave out. Each row keeps the best.
    """
    last, noise = _central(f, z, u, step)
    best, error = last, torch.full_like(noise, torch.inf)
    while bool((error > tolerance / 4 * size_of(best)).any()) and _LONGER * step < _LONGEST:
        step *= _LONGER
        try:
            longer, less_noise = _central(f, z, u, step)
        except torch.OutOfMemoryError:
            raise
        except Exception:  # a function may fail far away from where it is used
            break
        square = _LONGER**2
        # Kinks may be on the way of both, and each then leaves out about as much as they differ.
        off = size_of(longer - last) + square / (square - 1) * noise
        better = off < error
        best = torch.where(better, (square * last - longer) / (square - 1), best)
        error = torch.where(better, off, error)
        last, noise = longer, less_noise
    return best, torch.where(error.isfinite(), error, noise)


def _central(f: RowWise, z: Float[Tensor, "N d"], u: Float[Tensor, "N d"], step: float) -> tuple[Tensor, Tensor]:
    """The central difference of f along u, and what rounding may leave of it, as a norm of each row."""
    after, before = f(z + step * u), f(z - step * u)
    change = (after - before) / (2 * step)
    # Of the values, and of the points.
    moved = (z.norm(dim=1) / u.norm(dim=1)).reshape(-1, *[1] * (change.dim() - 1))
    size = torch.maximum(size_of(after), size_of(before)) + moved * size_of(change)
    return change, _ROUNDING * torch.finfo(z.dtype).eps / step * size


def pair(points: Float[Tensor, "N d"]) -> Float[Tensor, "2 d"]:
    """Two of the points, as different as may be."""
    return points[[0, len(points) // 2]] if len(points) > 1 else points[[0, 0]]


def spread_of(points: Float[Tensor, "N d"]) -> Float[Tensor, " d"]:
    """How far points lie from each other, or a tenth of how far they lie from the origin."""
    size = points[:2].abs().amax(0)
    spread = points.std(0) if len(points) > 1 else torch.zeros_like(points[0])
    # Where points nearly agree, rounding would hide what changes from one to the next.
    return torch.where(spread > 0, torch.maximum(spread, _LEAST * size), 0.1 * (1 + size))


def size_of(x: Tensor) -> Tensor:
    """The norm of each row, with axes to divide by."""
    axes = tuple(range(1, x.dim()))
    return x.square().sum(axes, keepdim=True).sqrt() if axes else x.abs()
