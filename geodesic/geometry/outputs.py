"""Output geometries: how far apart two decoder outputs are, as embeddings phi into Euclidean space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Euclidean", "OutputGeometry"]


class OutputGeometry(ABC):
    """A map phi from decoder outputs into Euclidean space, whose distances it lends to them.

    A new geometry is one subclass with `embed`; everything downstream works with x = phi(g(z)) alone.
    """

    @abstractmethod
    def embed(self, parameters: Tensor) -> Tensor:
        """phi, row by row.

        Args:
            parameters: What the decoder returns, (N, ...).

        Returns:
            Points of Euclidean space, (N, ...), of any event shape.
        """


def _identity(parameters: Tensor) -> Tensor:
    return parameters


@dataclass(frozen=True)
class Euclidean(OutputGeometry):
    """Straight-line distance between means: phi(parameters) = mean(parameters).

    Reference:
        H. Shao, A. Kumar, P. T. Fletcher, The Riemannian Geometry of Deep Generative Models, 2017.

    Args:
        mean: How the decoder's output becomes a mean, row by row: `torch.sigmoid` for Bernoulli logits; by
            default the output is the mean.

    Example:
        >>> import torch, geodesic
        >>> geodesic.Euclidean(mean=torch.sigmoid).embed(torch.zeros(1, 2))
        tensor([[0.5000, 0.5000]])
    """

    mean: Callable[[Tensor], Tensor] = _identity

    def embed(self, parameters: Tensor) -> Tensor:
        return self.mean(parameters)
