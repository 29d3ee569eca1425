"""Weighted points, and what is seen of them from a candidate for their mean or median."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.inverse import MetricInverse
from geodesic.geometry.points import inverse_at
from geodesic.riemannian.records import Record
from geodesic.riemannian.statistics.pairs import Geodesics, Pairs
from geodesic.riemannian.statistics.relaxation import Quadratic, affordable
from geodesic.solvers.status import Status

__all__ = ["Cloud", "Visit", "covector_norm"]

_NEGLIGIBLE = 1e-8  # of the largest squared distance
# The least eigenvalues of a Hessian, as a share of what they are on a flat manifold: with smaller ones, steps lead too
# far. The larger the gradient, the nearer to the step of a flat manifold.
_CURVED, _FAR = 0.3, 3.0

# From starts and ends, (P, d), and the mask (R, N) that chose them, to their geodesics.
Look: TypeAlias = Callable[[Tensor, Tensor, Tensor], Pairs]


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
        doubts: How the geodesics ended, as in `Pairs`; those that do not count have converged.
        steps: What it took to keep them near, as in `Pairs`.
    """

    value: Float[Tensor, " R"]
    gradient: Float[Tensor, "R d"]
    size: Float[Tensor, " R"]
    squared: Float[Tensor, "R N"]
    length: Float[Tensor, "R N"]
    pull: Float[Tensor, "R N d"]
    path: Float[Tensor, "R N nodes d"]
    doubts: Int[Tensor, "R N"]
    steps: Int[Tensor, "R N"]

    @property
    def certified(self) -> Bool[Tensor, " R"]:
        """Whether it is known of all geodesics how they ended."""
        return (self.doubts != Status.RUNNING).all(-1)


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

    def found(self, m: Float[Tensor, "R d"]) -> Visit:
        """Look for the geodesics from points m, (R, d): roughly, where that can be made good later."""
        return self._visited(m, lambda a, b, _: self.geodesics.between(a, b, roughly=True))

    def certified(self, m: Float[Tensor, "R d"], path: Float[Tensor, "R N nodes d"]) -> Visit:
        """Find the geodesics from points m, (R, d), near paths that lead there, as exactly as an answer needs them."""
        return self._visited(m, lambda a, b, seen: self.geodesics.between(a, b, path[seen]))

    def kept(
        self,
        m: Float[Tensor, "R d"],
        path: Float[Tensor, "R N nodes d"],
        quadratic: Quadratic | None,
        tol: Float[Tensor, " R"],
    ) -> Visit:
        """Keep geodesics near paths that lead from points m, (R, d), without certificates; for "ode" with them.

        Args:
            m: The points.
            path: Where the geodesics were, with their ends moved.
            quadratic: What was formed along them.
            tol: Relative excess energy that they may have; infinite for paths that are to stay as they are.
        """
        if self.geodesics.method == "ode":
            return self.certified(m, path)

        def near(_: Tensor, __: Tensor, seen: Tensor) -> Pairs:
            factors = None if quadratic is None else quadratic.of(seen).factors
            return self.geodesics.near(path[seen], factors, tol[:, None].expand(seen.shape)[seen])

        return self._visited(m, near)

    def completed(self, m: Float[Tensor, "R d"], visit: Visit) -> Visit:
        """The same with distances and paths to the points of weight zero."""
        missing = self.weights == 0
        if not bool(missing.any()):
            return visit
        others = self._seen(m, missing, lambda a, b, _: self.geodesics.between(a, b))
        return replace(
            visit,
            squared=visit.squared + others.squared,
            length=visit.length + others.length,
            path=visit.path + others.path,
        )

    def quadratic(
        self, path: Float[Tensor, "R N nodes d"], wanted: Bool[Tensor, "R N"], known: Quadratic | None
    ) -> Quadratic | None:
        """Energies to second order along some of the paths, along the others as they were known; None if too dear."""
        if known is None:
            if self.geodesics.method == "ode" or not affordable(self.geodesics.manifold, path):
                return None
            known = Quadratic.unknown(tuple(wanted.shape), path.flatten(0, 1))
        wanted = wanted & (self.weights > 0)
        return known.replaced(wanted, Quadratic.at(self.geodesics.manifold, path[wanted])) if wanted.any() else known

    def only_points(self, m: Float[Tensor, "R d"]) -> Float[Tensor, "R d"]:
        """The points m, or where there is but one point in a row, this: a search would only come near to it."""
        first = self.weights.argmax(-1)
        point = self.points[torch.arange(len(m), device=m.device), first]
        alone = ((self.points == point[:, None]).all(-1) | (self.weights == 0)).all(-1)
        return torch.where(alone[:, None], point, m)

    def touches(self, visit: Visit) -> Bool[Tensor, " R"]:
        """Whether it was made from one of the points itself."""
        return ((visit.squared == 0) & (self.weights > 0)).any(-1)

    def inverse_hessian(
        self, m: Float[Tensor, "R d"], visit: Visit, quadratic: Quadratic | None
    ) -> Float[Tensor, "R d d"]:
        """That of F by second derivatives of the energies, where these are known, made positive.

        Elsewhere what it is on a flat manifold, or for power 1 its majorant: G^{-1} / sum w, G^{-1} / sum (w / d).
        """
        inverse = inverse_at(self.geodesics.manifold, m, on_range=True)
        eye = torch.eye(m.shape[-1], dtype=m.dtype, device=m.device).expand(len(m), -1, -1)
        u = self.weights
        if self.power == 1:
            d = visit.squared.sqrt()
            u = u / torch.where(d > 0, d, torch.inf)
        total = u.sum(-1)[:, None, None]
        flat = inverse(eye) / torch.where(total > 0, total, 1)
        if quadratic is None:
            return flat
        S = torch.where((u > 0)[..., None, None], u[..., None, None] * quadratic.bend, 0).sum(1)
        if self.power == 1:
            # The Hessian of d = sqrt(2 E) is that of E less the square of the gradient of d, over d.
            along = visit.pull / torch.where(u > 0, u.sqrt() * visit.squared.sqrt(), torch.inf)[..., None]
            S = S - along.mT @ along
        usable = (S.isfinite().flatten(1).all(1) & inverse.regular)[:, None, None]
        frame = torch.where(usable, inverse.frame, 0)
        # In an orthonormal frame a flat manifold has the total weight for all eigenvalues.
        values, vectors = torch.linalg.eigh(frame.mT @ torch.where(usable, (S + S.mT) / 2, 0) @ frame)
        least = (_FAR * visit.size).clamp(_CURVED, 1)[:, None] * total[..., 0]
        along = frame @ vectors / values.maximum(least).sqrt()[:, None, :]
        return torch.where(usable, along @ along.mT, flat)

    def _visited(self, m: Float[Tensor, "R d"], look: Look) -> Visit:
        """What is seen from points m of all that has a weight."""
        w = self.weights
        pairs = self._seen(m, w > 0, look)
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
        return Visit(value, gradient, size, pairs.squared, pairs.length, pull, pairs.path, doubts, pairs.steps)

    def _seen(self, m: Float[Tensor, "R d"], seen: Bool[Tensor, "R N"], look: Look) -> Pairs:
        """The geodesics to some of the points, with leading axes (R, N), zero for the others."""
        pairs = look(m[:, None].expand(self.points.shape)[seen], self.points[seen], seen)

        def spread(x: Tensor) -> Tensor:
            return x.new_zeros(*seen.shape, *x.shape[1:]).index_put((seen,), x)

        return Pairs(*(spread(x) for x in vars(pairs).values()))


def covector_norm(inverse: MetricInverse, covector: Float[Tensor, "R d"]) -> Float[Tensor, " R"]:
    """|p| in the inverse metric."""
    return torch.linalg.vecdot(covector, inverse(covector)).clamp_min(0).sqrt()
