"""Lengths as published work finds them: the energy of a cubic spline, lowered by so many steps of Adam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from geodesic.distances.store.job import Layout
from geodesic.distances.store.pairs_job import PairsJob
from geodesic.geometry.checks import guarded
from geodesic.geometry.energy import energy_and_gradient
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.path import path_length, straight_path
from geodesic.numerics.spline import like, spline_matrices

__all__ = ["AdamJob", "adam_lengths"]

_PIECES = 6  # of the spline: five nodes are free
_SEGMENTS = 20  # of the energy
_RATE = 0.1  # Adam's step size
_MEASURED = 128  # segments by which the length of the spline is measured


@guarded
def adam_lengths(manifold: Manifold, start: Tensor, end: Tensor, steps: Sequence[int]) -> Float[Tensor, "P S"]:
    """Riemannian lengths of cubic splines from a to b after some steps of Adam on their energy.

    c(t) = sum_k B_k(t) c_k,   E = (T/2) sum_i |x(c(t_{i+1})) - x(c(t_i))|^2   with T = 20 and five free nodes c_k

    Adam steps by 0.1 in each coordinate, all pairs together, from the straight line, and stops at no tolerance: a
    comparison of our own in the manner of published work, not a copy of any.

    Reference:
        N. S. Detlefsen, A. Pouplin, C. W. Feldager, et al., StochMan, 2021, whose splines and optimizer these resemble.

    Args:
        manifold: Where to measure.
        start: (P, d).
        end: (P, d).
        steps: After which lengths are measured, increasing.

    Returns:
        The lengths, (P, S), by the same quadrature as those of `solve`.

    Example:
        >>> import torch, geodesic
        >>> from geodesic.experiment.studies.spline_adam import adam_lengths
        >>> a, b = torch.tensor([[torch.pi / 4, 0.0]]), torch.tensor([[torch.pi / 4, 2.0]])
        >>> length = adam_lengths(geodesic.surfaces.Sphere(), a, b, (1, 150))
        >>> bool(length[0, 0] > length[0, 1]), bool((length[0, 1] - 1.2746).abs() < 0.01)
        (True, True)
    """
    nodes = straight_path(start, end, _PIECES)
    (B,) = like(nodes, spline_matrices(_PIECES, _SEGMENTS)[0])
    inner = nodes[:, 1:-1].clone()
    adam, lengths = torch.optim.Adam([inner], lr=_RATE), []
    for step in range(1, steps[-1] + 1 if steps else 1):
        _, gradient = energy_and_gradient(manifold, B @ _whole(nodes, inner))
        inner.grad = B[1:-1, 1:-1].T @ gradient
        adam.step()
        if step in steps:
            (fine,) = like(nodes, spline_matrices(_PIECES, _MEASURED)[0])
            with torch.no_grad():
                lengths.append(path_length(manifold, fine @ _whole(nodes, inner)))
    return torch.stack(lengths, -1)


def _whole(nodes: Tensor, inner: Tensor) -> Tensor:
    return torch.cat([nodes[:, :1], inner.detach(), nodes[:, -1:]], 1)


@dataclass(frozen=True, eq=False)
class AdamJob(PairsJob):
    """The same as `GeodesicsJob`, by Adam.

    Attributes:
        steps: As in `adam_lengths`.
    """

    steps: tuple[int, ...] = ()

    kind: ClassVar[str] = "splines by Adam"

    @property
    def settings(self) -> dict[str, Any]:
        return super().settings | {"steps": list(self.steps)}

    @property
    def layouts(self) -> dict[str, Layout]:
        real, S = str(self.points.dtype).removeprefix("torch."), len(self.steps)
        return {"length": Layout((len(self.points), S), (self.tile, S), real, torch.nan)}

    def found(self, start: Tensor, end: Tensor) -> dict[str, NDArray[Any]]:
        return {"length": adam_lengths(self.manifold, start, end, self.steps).cpu().numpy()}
