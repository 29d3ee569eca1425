"""Random numbers that a seed decides, the same ones for every device and dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.geometry.inverse import MetricInverse

__all__ = ["Noise"]


@dataclass(frozen=True)
class Noise:
    """A generator on the CPU in float64. No global random state is read or changed."""

    generator: torch.Generator

    @classmethod
    def seeded(cls, seed: Any) -> Noise:
        """Begin with a seed."""
        require_integer("seed", seed)
        return cls(torch.Generator().manual_seed(seed))

    def normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64, device="cpu").to(like)

    def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Numbers between 0 and 1."""
        return torch.rand(shape, generator=self.generator, dtype=torch.float64, device="cpu").to(like)

    def vectors(self, inverse: MetricInverse, shape: tuple[int, ...]) -> Float[Tensor, "B n d"]:
        """N vectors of N(0, G^{-1}) at each of B points: F xi with F^T G F = I, xi standard normal."""
        return raised(inverse, self.normal(shape, inverse.factor))


def raised(inverse: MetricInverse, xi: Float[Tensor, "B n d"]) -> Float[Tensor, "B n d"]:
    """F xi with F^T G F = I: standard normal xi become N(0, G^{-1}), on the range of G where it is singular."""
    return xi @ inverse.frame.mT
