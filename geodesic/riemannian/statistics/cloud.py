"""Weighted points, and what is seen of them from a candidate for their mean or median."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.inverse import MetricInverse
from geodesic.geometry.points import inverse_at
from geodesic.riemannian.records import Record
from geodesic.riemannian.statistics.pairs import Geodesics, Pairs
from geodesic.solvers.status import Status

__all__ = ["Cloud", "Visit", "covector_norm"]

_NEGLIGIBLE = 1e-8  # of the largest squared distance


@dataclass(frozen=True)
class Visit(Record):
    """What a point sees of the others: for R rows of N points each.

    Attributes:
        value: F, the weighted sum that is minimized.
        gradient: Its derivative in the point.
        size: Of the gradient, as a number without unit.
        squared: Squared distances to the points, as `Pairs` has them.
        length: Distances to them.
        pull: Weighted covectors, of which the gradient is minus the sum.
        path: Nodes of the geodesics.
        doubts: How the geodesics ended, see `doubts_of`; those that do not count have converged.
    """

    value: Float[Tensor, " R"]
    gradient: Float[Tensor, "R d"]
    size: Float[Tensor, " R"]
    squared: Float[Tensor, "R N"]
    length: Float[Tensor, "R N"]
    pull: Float[Tensor, "R N d"]
    path: Float[Tensor, "R N nodes d"]
    doubts: Int[Tensor, "R N"]


@dataclass(frozen=True)
class Cloud(Record):
    """R rows of N weighted points each, and how to see them from a point.

    F(m) = 1/2 sum w_i d(m, x_i)^2   or, for power 1,   F(m) = sum w_i d(m, x_i)

    Args:
        geodesics: How distances are found.
        points: x, (R, N, d).
        weights: w, (R, N), of sum 1. Points of weight zero are not looked at.
        power: 2 or 1.
    """

    geodesics: Geodesics
    points: Float[Tensor, "R N d"]
    weights: Float[Tensor, "R N"]
    power: int

    def visit(self, m: Float[Tensor, "R d"], path: Tensor | None = None) -> Visit:
        """Find the geodesics from points m, (R, d), beginning from paths that lead there, (R, N, T + 1, d), if any."""
        w = self.weights
        pairs = self._seen(m, w > 0, path)
        # Next to a point the chords are rounding, which no solver improves, and which says nothing at this scale.
        negligible = pairs.squared <= _NEGLIGIBLE * pairs.squared.amax(-1, keepdim=True)
        doubts = torch.where((w == 0) | negligible, Status.CONVERGED, pairs.doubts)
        if self.power == 2:
            value = (w * pairs.squared).sum(-1) / 2
            pull = w[..., None] * pairs.covector
        else:
            d = pairs.squared.sqrt()
            value = (w * d).sum(-1)
            pull = (w / torch.where(d > 0, d, torch.inf))[..., None] * pairs.covector
        inverse = inverse_at(self.geodesics.manifold, m, on_range=True)
        gradient = -pull.sum(1)
        size = covector_norm(inverse, gradient)
        if self.power == 2:
            spread_of_all = (2 * value).sqrt()
            size = torch.where(spread_of_all > 0, size / spread_of_all, 0)
        else:
            # At a point of the cloud the unit ball of its weight is subtracted: what is left is the least subgradient.
            here = (w * (pairs.squared == 0)).sum(-1)
            share = (1 - here / size.clamp_min(torch.finfo(w.dtype).tiny)).clamp_min(0)
            gradient, size = share[:, None] * gradient, share * size
        return Visit(value, gradient, size, pairs.squared, pairs.length, pull, pairs.path, doubts)

    def completed(self, m: Float[Tensor, "R d"], visit: Visit) -> Visit:
        """The same with distances and paths to the points of weight zero."""
        missing = self.weights == 0
        if not bool(missing.any()):
            return visit
        others = self._seen(m, missing, None)
        return replace(
            visit,
            squared=visit.squared + others.squared,
            length=visit.length + others.length,
            path=visit.path + others.path,
        )

    def only_points(self, m: Float[Tensor, "R d"]) -> Float[Tensor, "R d"]:
        """The points m, or where there is but one point in a row, this: a search would only come near to it."""
        first = self.weights.argmax(-1)
        point = self.points[torch.arange(len(m), device=m.device), first]
        alone = ((self.points == point[:, None]).all(-1) | (self.weights == 0)).all(-1)
        return torch.where(alone[:, None], point, m)

    def touches(self, visit: Visit) -> Bool[Tensor, " R"]:
        """Whether it was made from one of the points itself."""
        return ((visit.squared == 0) & (self.weights > 0)).any(-1)

    def inverse_hessian(self, m: Float[Tensor, "R d"], visit: Visit) -> Float[Tensor, "R d d"]:
        """What it is on a flat manifold, or for power 1 its majorant: G^{-1} / sum w, G^{-1} / sum (w / d)."""
        inverse = inverse_at(self.geodesics.manifold, m, on_range=True)
        eye = torch.eye(m.shape[-1], dtype=m.dtype, device=m.device)
        H = inverse(eye.expand(len(m), -1, -1))
        if self.power == 2:
            return H
        d = visit.squared.sqrt()
        near = (self.weights / torch.where(d > 0, d, torch.inf)).sum(-1)
        return H / torch.where(near > 0, near, 1)[:, None, None]

    def _seen(self, m: Float[Tensor, "R d"], seen: Bool[Tensor, "R N"], path: Tensor | None) -> Pairs:
        """The geodesics to some of the points, with leading axes (R, N), zero for the others."""
        start = m[:, None].expand(self.points.shape)[seen]
        pairs = self.geodesics.between(start, self.points[seen], None if path is None else path[seen])

        def spread(x: Tensor) -> Tensor:
            return x.new_zeros(*seen.shape, *x.shape[1:]).index_put((seen,), x)

        return Pairs(*(spread(x) for x in vars(pairs).values()))


def covector_norm(inverse: MetricInverse, covector: Float[Tensor, "R d"]) -> Float[Tensor, " R"]:
    """|p| in the inverse metric."""
    return torch.linalg.vecdot(covector, inverse(covector)).clamp_min(0).sqrt()
