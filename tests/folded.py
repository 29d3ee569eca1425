"""Decoders with kinks that are hard in one way each, and what is known of their shortest paths."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Folded:
    """A decoder of a plane, two points, and the length of the shortest path between them.

    Args:
        decoder: Row-wise.
        start: (2,).
        end: (2,).
        shortest: As computed by hand; for none it is not known.
    """

    decoder: Callable[[Tensor], Tensor]
    start: tuple[float, float]
    end: tuple[float, float]
    shortest: float | None = None


def triangle(x: Tensor) -> Tensor:
    """A wave of slopes 1 and -1 with period 1."""
    return (x - (x + 0.5).floor()).abs()


def columns(*x: Tensor) -> Tensor:
    return torch.stack(x, 1)


def over(height: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A height over the plane."""
    return lambda z: torch.cat([z, height(z)[:, None]], 1)


def diamond(z: Tensor) -> Tensor:
    return (1 - z.abs().sum(1)).relu()


CASES = {
    # All folds are parallel: flat, and sqrt(2) times as long across them.
    "pieces finer than the mesh": Folded(
        over(lambda z: triangle(400 * z[:, 0]) / 400), (-1.0, 0.0), (1.013, 1.0), (2 * 2.013**2 + 1) ** 0.5
    ),
    # Outputs fill a half plane, and a quarter of one: straight lines in it.
    "a dead half": Folded(lambda z: columns(z[:, 0].relu(), z[:, 1]), (1.0, 0.0), (-1.0, 1.0), 2**0.5),
    "dead to a point": Folded(lambda z: z.relu(), (1.0, 0.5), (-1.0, -1.0), 1.25**0.5),
    "dead altogether": Folded(lambda z: z.relu(), (-1.0, -0.5), (-0.3, -1.0), 0.0),
    # A valley whose floor is the straight line; and a ridge that is an arc, which chords on either side cut short.
    "along a valley": Folded(over(lambda z: 3 * z[:, 1].abs()), (-1.0, 0.0), (1.0, 0.0), 2.0),
    "along a ridge": Folded(
        lambda z: (1.5 - z[:, 1:].abs()) * columns(z[:, 0].cos(), z[:, 0].sin()),
        (-1.0, 0.0),
        (1.0, 0.0),
        3 * math.sin(1),
    ),
    # A pyramid: over its top along two of its edges, or around.
    "over a pyramid": Folded(over(lambda z: 3 * diamond(z)), (-2.0, 0.0), (2.0, 0.0), 2 * 5**0.5),
    "from the top of a pyramid": Folded(over(lambda z: 3 * diamond(z)), (0.0, 0.0), (1.0, 0.0), 10**0.5),
    "from a kink to a kink": Folded(over(lambda z: z[:, 0].abs() + z[:, 1].abs()), (0.0, -1.0), (1.0, 0.0), 2**0.5),
}


def network(activation: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(3)
    layers = nn.Sequential(nn.Linear(2, 12), activation(), nn.Linear(12, 12), activation(), nn.Linear(12, 4))
    with torch.no_grad():
        for layer in layers[::2]:
            layer.weight.mul_(2.5)
    return layers


class Lambda(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU,
    "LeakyReLU": lambda: nn.LeakyReLU(0.2),
    "Hardtanh": nn.Hardtanh,
    "Hardswish": nn.Hardswish,
    "max pooling": lambda: Lambda(lambda x: torch.nn.functional.max_pool1d(x[:, None], 3, 1, 1)[:, 0]),
    "where": lambda: Lambda(lambda x: torch.where(x > 0, x, 0.3 * x)),
    "|x|": lambda: Lambda(torch.abs),
}
