"""The nearest neighbors of many points, with what bounds decide of them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.arrays import TensorRecord, takes_arrays

__all__ = ["NearestPoints"]


@dataclass(frozen=True, kw_only=True)
class NearestPoints(TensorRecord):
    """The k nearest of N points to each of Q queries, nearest first.

    Attributes:
        indices: Which points, (Q, k).
        length: Of the shortest curves found to them, (Q, k); infinite where there is none.
        lower: What the distances are never below, (Q, k); infinite where outputs are not finite.
        upper: What they are never above, (Q, k), as far as quadrature goes.
        open: Whether bounds leave open that the point is among the k nearest, (Q, k): then lengths decided. So it is
            where no curve was found.
        unordered: Whether bounds leave open that the point has this place among them, (Q, k).
        solved: Whether a geodesic was solved for, (Q, k): else `length` is that of a straight line.
        share_solved: Geodesics that were solved for, over Q N.
        candidates: Points that bounds did not exclude, (Q,).
        recall: Of approximate candidates the share of the nearest points through the surrounding space that were among
            them, on random queries; 1 where all points were candidates. `open` supposes that none was missed.
    """

    indices: Int[Tensor, "Q k"]
    length: Float[Tensor, "Q k"]
    lower: Float[Tensor, "Q k"]
    upper: Float[Tensor, "Q k"]
    open: Bool[Tensor, "Q k"]
    unordered: Bool[Tensor, "Q k"]
    solved: Bool[Tensor, "Q k"]
    share_solved: float
    candidates: Int[Tensor, " Q"]
    recall: float = 1.0

    @takes_arrays
    def summary(self) -> str:
        """How many neighbors bounds alone decide, and what it took.

        Example:
            >>> import torch, geodesic
            >>> points = torch.linspace(1, 6, 20)[:, None] * torch.tensor([1.0, 0.1])
            >>> found = geodesic.nearest(geodesic.surfaces.SwissRoll(), points, points[:2], 3)
            >>> print(found.summary().partition(",")[0])
            3 nearest of each of 2 queries: 0.0% of them open
        """
        Q, k = self.indices.shape
        missed = "" if self.recall == 1 else f"; candidates are approximate, with a recall of {self.recall:.2%}"
        return (
            f"{k} nearest of each of {Q:,} queries: {float(self.open.float().mean()):.1%} of them open, "
            f"{float(self.unordered.float().mean()):.1%} in an order that bounds leave open; geodesics solved for "
            f"{self.share_solved:.2%} of all pairs{missed}"
        )
