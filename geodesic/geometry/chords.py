"""Manifolds given by a metric tensor and chords that autograd can differentiate."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast, final

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.door.derivatives import Derivatives
from geodesic.door.door import Door
from geodesic.errors import DecoderError
from geodesic.geometry.inverse import MetricInverse
from geodesic.geometry.manifold import Deviation, Expansion, Manifold, weighted
from geodesic.numerics.block_tridiagonal import BlockTridiagonal, convex

__all__ = ["ChordManifold", "MetricManifold"]


class ChordManifold(Manifold):
    """A manifold given by its metric tensor and its squared chords, both differentiable by autograd.

    Everything else follows from the two. They must treat rows and paths apart.
    """

    def squared_norm(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        return _squared_length(self.metric_tensor(z), v)

    @final
    def _twice(self, z: Float[Tensor, "*batch d"]) -> Derivatives:
        """How derivatives of the metric and of chords are taken, which are made of derivatives themselves."""
        way = self.way(z)
        if not way.curvature:
            raise DecoderError(
                "decoder: one of its operators can be differentiated once only, and this geometry needs more; take an "
                "output geometry with an embedding, such as Euclidean(), or write the operator with torch's own "
                "functions"
            )
        return way

    @final
    def chords_and_pullback(
        self, path: Float[Tensor, "*batch nodes d"], weights: Float[Tensor, "*batch nodes-1"] | None = None
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Callable[[], Tensor]]:
        if not self._twice(path).reverse:
            opened = self._opened(path, weights)
            gradient = opened.gradient.reshape(*path.shape[:-2], -1, path.shape[-1])
            return opened.squared_chords.reshape((*path.shape[:-2], -1)), lambda: gradient
        with torch.inference_mode(False), torch.enable_grad():
            nodes = (path.clone() if path.is_inference() else path.detach()).requires_grad_()
            chords = weighted(self.squared_chords(nodes), weights)
        return chords.detach(), lambda: torch.autograd.grad(chords.sum() / 2, nodes)[0][..., 1:-1, :]

    @final
    def gradient_and_product(
        self, path: Float[Tensor, "*batch nodes d"], weights: Float[Tensor, "*batch nodes-1"] | None = None
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Tensor, Callable[[Tensor], Tensor]]:
        if self._twice(path).reverse:
            return super().gradient_and_product(path, weights)
        # Reverse mode would leave a part out: the Hessian is formed, by the way that sees all.
        opened = self._opened(path, weights)
        gradient = opened.gradient.reshape(*path.shape[:-2], -1, path.shape[-1])
        chords = opened.squared_chords.reshape((*path.shape[:-2], -1))
        return chords, gradient, lambda u: (opened.hessian @ u.reshape(opened.gradient.shape)).reshape(u.shape)

    def _opened(self, path: Tensor, weights: Tensor | None) -> Expansion:
        """The expansion of paths of any leading axes, which become one."""
        flat = None if weights is None else weights.reshape(-1, weights.shape[-1])
        return self.expansion(path.reshape(-1, *path.shape[-2:]), flat)

    @final
    def expansion(
        self, path: Float[Tensor, "paths nodes d"], weights: Float[Tensor, "paths nodes-1"] | None = None
    ) -> Expansion:
        P, T, d = path.shape[0], path.shape[1] - 1, path.shape[2]
        ends = torch.cat([path[:, :-1], path[:, 1:]], dim=-1).reshape(-1, 2 * d)

        def half_chord(ends: Tensor) -> Tensor:
            return self.squared_chords(ends.reshape(-1, 2, d)) / 2

        with torch.no_grad():
            half, slope, hessian = self._twice(path).expand(half_chord, ends, torch.ones_like)
        half, slope = weighted(half.reshape(P, T), weights), weighted(slope.reshape(P, T, 2 * d), weights)
        hessian = weighted(hessian.reshape(P, T, 2 * d, 2 * d), weights)
        hessian = (hessian + hessian.mT) / 2

        def convexified(rows: Tensor, share: float) -> BlockTridiagonal:
            return _assembled(convex(hessian[rows], share))

        gradient = slope[:, :-1, d:] + slope[:, 1:, :d]
        return Expansion(2 * half, gradient, _assembled(hessian), convexified)

    @final
    @torch.enable_grad()  # without it SiLU, for one, has no second derivative in forward mode
    def lowered_acceleration(
        self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"], w: Float[Tensor, "*batch d"]
    ) -> Float[Tensor, "*batch d"]:
        # Euler and Lagrange's form: d/dt (G v) - 1/2 d/dz (v^T G v).
        d, rows = z.shape[-1], z.reshape(-1, z.shape[-1])
        v_rows = v.reshape(-1, d)
        G, way = self.metric_tensor(rows), self._twice(z)
        change = way.push(self.metric_tensor, rows, v_rows)
        slope = way.pull(lambda z: _quadratic_form(self.metric_tensor(z), v_rows), rows, rows.new_ones(len(rows)))
        lowered = (G @ w.reshape(-1, d, 1) + change @ v_rows[..., None])[..., 0] - slope / 2
        return lowered.detach().reshape(z.shape)

    @final
    @torch.enable_grad()  # without it SiLU, for one, has no second derivative in forward mode
    def lowered_connection(
        self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]
    ) -> Float[Tensor, "*batch d d"]:
        rows, v_rows = z.reshape(-1, z.shape[-1]), v.reshape(-1, z.shape[-1])
        way = self._twice(z)
        change = way.push(self.metric_tensor, rows, v_rows)
        M = way.jacobian(self._lowered(v_rows), rows)
        return ((change + M - M.mT) / 2).detach().reshape(*z.shape, z.shape[-1])

    @final
    @torch.enable_grad()  # without it SiLU, for one, has no second derivative in forward mode
    def deviation(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Deviation:
        # <R(w,v)v,w> = D_w D_v <w,v> - D_w D_w <v,v> / 2 - D_v D_v <w,w> / 2 + |Gamma(w,v)|^2 - <Gamma(w,w),Gamma(v,v)>
        # where D differentiates the metric, v and w held fixed.
        d, way = z.shape[-1], self._twice(z)
        rows, v = z.reshape(-1, d), v.reshape(-1, d)
        G = self.metric_tensor(rows).detach()
        inverse, B = MetricInverse.wherever_finite(G), self.lowered_connection(rows, v)
        a = inverse((B @ v[..., None])[..., 0])  # Gamma(v, v)

        def along(z: Tensor) -> Tensor:
            return way.push(self.metric_tensor, z, v)

        def slope(z: Tensor) -> Tensor:
            return way.pull(lambda z: _quadratic_form(self.metric_tensor(z), v), z, z.new_ones(len(z)))

        second = way.push(along, rows, v)
        mixed = way.jacobian(lambda z: (along(z) @ v[..., None])[..., 0], rows)
        hessian = way.jacobian(slope, rows)
        across = way.jacobian(self._lowered(a), rows) - way.push(self.metric_tensor, rows, a) / 2
        R = mixed - hessian / 2 - second / 2 + B.mT @ inverse(B) - across
        return Deviation(*(x.reshape(*z.shape, d) for x in (G, B, ((R + R.mT) / 2).detach())))

    @final
    @torch.enable_grad()  # without it SiLU, for one, has no second derivative in forward mode
    def riemann(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d d d"]:
        d, way = z.shape[-1], self._twice(z)
        rows = z.reshape(-1, d)
        inverse = MetricInverse.wherever_finite(self.metric_tensor(rows).detach())
        first = way.jacobian(self.metric_tensor, rows).detach()  # [n, i, j, k] = d_k G_ij
        second = way.jacobian(lambda z: way.jacobian(self.metric_tensor, z), rows).detach()
        # [n, k, i, j] = <Gamma(e_i, e_j), e_k>
        gamma = (first.permute(0, 1, 3, 2) + first - first.permute(0, 3, 1, 2)) / 2
        raised = inverse(gamma.flatten(2)).reshape(gamma.shape)
        bent = (
            torch.einsum("niljk->nijkl", second)
            + torch.einsum("njkil->nijkl", second)
            - torch.einsum("nikjl->nijkl", second)
            - torch.einsum("njlik->nijkl", second)
        ) / -2
        product = torch.einsum("npil,npjk->nijkl", gamma, raised) - torch.einsum("npik,npjl->nijkl", gamma, raised)
        return (bent - product).reshape(*z.shape, d, d, d)

    def _lowered(self, v: Float[Tensor, "N d"]) -> Callable[[Tensor], Tensor]:
        """The function z -> G(z) v."""
        return lambda z: (self.metric_tensor(z) @ v[..., None])[..., 0]


def _assembled(segments: Float[Tensor, "paths T pair pair"]) -> BlockTridiagonal:
    """The Hessian in the interior nodes, from the Hessians of the segments in both of their ends."""
    d = segments.shape[-1] // 2
    diagonal = segments[:, :-1, d:, d:] + segments[:, 1:, :d, :d]
    return BlockTridiagonal(diagonal, segments[:, 1:-1, :d, d:])


class MetricManifold(ChordManifold):
    """A manifold given by its metric tensor alone: what has no embedding at hand, or none at all.

    squared chord = u^T G((z_i + z_{i+1}) / 2) u,   u = z_{i+1} - z_i

    Only `metric_tensor` is left to write; it must be differentiable in z by autograd and treat rows apart.

    The metric is taken at the midpoint of a segment, which is of second order in 1/T. With the metric at the left
    node, a rule often seen, the energy is of first order only, its minimizer jumps where the metric is small, and
    lengths read off it lie below the true distance.

    Warning:
        These chords are no distances between points of a Euclidean space: twice the energy may exceed the squared
        distance, or fall short of it, by order 1/T^2.
    """

    @property
    def door(self) -> Door | None:
        if type(self).__module__.startswith("geodesic."):
            return None  # our own metrics hide nothing; `MetricFunction` has a door of its own
        if not hasattr(self, "_door"):
            object.__setattr__(self, "_door", Door(self.metric_tensor, (self,), metric=True))
        return cast(Door, self._door)  # type: ignore[attr-defined]

    @final
    def squared_chords(self, path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1"]:
        G = self.metric_tensor(_midpoints(path))
        return _squared_length(G, path.diff(dim=-2))


def _midpoints(path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1 d"]:
    return (path[..., 1:, :] + path[..., :-1, :]) / 2


def _quadratic_form(G: Float[Tensor, "*batch d d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    return (v * (G @ v[..., None])[..., 0]).sum(-1)


def _squared_length(G: Float[Tensor, "*batch d d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    """v^T G v; NaN where it is negative beyond rounding, and G no metric: minimizers would run there."""
    square = _quadratic_form(G, v)
    rounding = 100 * torch.finfo(v.dtype).eps * G.detach().abs().amax((-2, -1)) * v.detach().square().sum(-1)
    return torch.where(square < -rounding, torch.nan, square)
