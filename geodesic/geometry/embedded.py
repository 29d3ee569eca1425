"""Manifolds given by an embedding into Euclidean space."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import cast, final

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.door.door import Door
from geodesic.geometry.inverse import MetricInverse
from geodesic.geometry.manifold import Deviation, Expansion, Manifold, weighted
from geodesic.numerics.block_tridiagonal import BlockTridiagonal, convex, products_of_neighbors

__all__ = ["EmbeddedManifold"]

_FEW = 4  # latent coordinates up to which second derivatives along all of them cost less than passes back


class EmbeddedManifold(Manifold):
    """A manifold given by an embedding x(z) into Euclidean space: G = J^T J with J the Jacobian of x.

    Only `embed` is left to write.
    """

    has_chords = has_embedding = True

    @abstractmethod
    def embed(self, z: Tensor) -> Tensor:
        """x(z), (*batch, ...): points of Euclidean space of any event shape, for points z, (*batch, d)."""

    @property
    def door(self) -> Door | None:
        if type(self).__module__.startswith("geodesic."):
            return None  # our own surfaces hide nothing
        if not hasattr(self, "_door"):
            object.__setattr__(self, "_door", Door(self.embed, (self,)))
        return cast(Door, self._door)  # type: ignore[attr-defined]

    @property
    def _x(self) -> Callable[[Tensor], Tensor]:
        """The embedding, with the operators that were found to be right."""
        return self.door or self.embed

    @final
    def observe(self, z: Float[Tensor, "*batch d"]) -> Tensor:
        return self._x(z)

    @final
    def metric_tensor(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        J = self.jacobian(z)
        return J.mT @ J

    @final
    def squared_norm(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        d = z.shape[-1]
        rows = self.way(z).push(self._x, z.reshape(-1, d), v.reshape(-1, d))
        return rows.flatten(1).square().sum(-1).reshape(z.shape[:-1])

    @final
    def lowered(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        way, rows = self.way(z), z.reshape(-1, z.shape[-1])
        image = way.push(self._x, rows, v.reshape(rows.shape))
        return way.pull(self._x, rows, image).reshape(z.shape)

    @final
    def squared_chords(self, path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1"]:
        x = self._x(path).flatten(path.dim() - 1)
        return x.diff(dim=-2).square().sum(-1)

    @final
    def chords_of_one_and_two(
        self, path: Float[Tensor, "*batch nodes d"]
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Float[Tensor, "*batch nodes-2"]]:
        step = self._x(path).flatten(path.dim() - 1).diff(dim=-2)
        wide = step[..., :-1, :] + step[..., 1:, :]
        return step.square().sum(-1), wide.square().sum(-1)

    @final
    def chords_and_pullback(
        self, path: Float[Tensor, "*batch nodes d"], weights: Float[Tensor, "*batch nodes-1"] | None = None
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Callable[[], Tensor]]:
        way, time = self.way(path), path.dim() - 2
        with torch.inference_mode(False), torch.set_grad_enabled(way.reverse):
            nodes = (path.clone() if path.is_inference() else path.detach()).requires_grad_(way.reverse)
            x = self._x(nodes)
        step = x.detach().diff(dim=time)

        def pull() -> Tensor:
            # The ends are fixed: nothing is asked of them.
            cotangent = _second_difference(weighted(step, weights), time)
            if not way.reverse:
                rows = path.reshape(-1, path.shape[-1])
                slope = way.pull(self._x, rows, cotangent.flatten(0, time)).reshape(path.shape)
            elif x.requires_grad:
                (slope,) = torch.autograd.grad(x, nodes, cotangent)
            else:  # a constant, or the door would not have let it in
                slope = torch.zeros_like(path)
            return slope[..., 1:-1, :]

        return weighted(step.flatten(time + 1).square().sum(-1), weights), pull

    @final
    def gradient_and_product(
        self, path: Float[Tensor, "*batch nodes d"], weights: Float[Tensor, "*batch nodes-1"] | None = None
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Tensor, Callable[[Tensor], Tensor]]:
        way, time, d = self.way(path), path.dim() - 2, path.shape[-1]
        if way.reverse and way.curvature:
            return super().gradient_and_product(path, weights)
        # No graph to differentiate once more: J^T of the change of the second differences, and what bends J^T.
        rows = path.detach().reshape(-1, d)
        with torch.no_grad():  # parameters of a decoder may require gradients, which nobody asks for here
            step = self._x(path.detach()).diff(dim=time)
            r = _second_difference(weighted(step, weights), time).flatten(0, time)
            gradient = way.pull(self._x, rows, r).reshape(path.shape)

        @torch.no_grad()
        def product(direction: Tensor) -> Tensor:
            u = torch.nn.functional.pad(direction, (0, 0, 1, 1)).reshape(rows.shape)
            change = way.push(self._x, rows, u).unflatten(0, path.shape[:-1])
            change = _second_difference(weighted(change.diff(dim=time), weights), time).flatten(0, time)
            image = way.pull(self._x, rows, change) + way.turn(self._x, rows, r, u)
            return image.reshape(path.shape)[..., 1:-1, :]

        chords = weighted(step.flatten(time + 1).square().sum(-1), weights)
        return chords, gradient[..., 1:-1, :], product

    @final
    def expansion(
        self, path: Float[Tensor, "paths nodes d"], weights: Float[Tensor, "paths nodes-1"] | None = None
    ) -> Expansion:
        # The Hessian of 1/2 sum w_i |x_{i+1} - x_i|^2 has blocks (w_{i-1} + w_i) J_i^T J_i + Hess <r_i, x(z_i)> on the
        # diagonal, with r_i = w_{i-1} (x_i - x_{i-1}) - w_i (x_{i+1} - x_i) held fixed, and -w_i J_i^T J_{i+1} beside.
        P, n, d = path.shape
        w = path.new_ones(P, n - 1) if weights is None else weights

        def cotangent(x: Tensor) -> Tensor:
            return _second_difference(weighted(x.unflatten(0, (P, n)).diff(dim=1), w), 1).reshape(x.shape)

        way = self.way(path)
        with torch.no_grad():
            x, J, bending = way.expand(self._x, path.reshape(-1, d), cotangent)
        step = x.reshape(P, n, -1).diff(dim=1)
        rows = J.reshape(P, n, -1, d).mT.contiguous()
        bending = bending.reshape(P, n, d, d)[:, 1:-1]
        bending = (bending + bending.mT) / 2
        metric, upper = products_of_neighbors(rows)
        metric, upper = weighted(metric[:, 1:-1], w[:, :-1] + w[:, 1:]), weighted(upper[:, 1:-1], -w[:, 1:-1])
        pull = weighted(step, w)
        force = torch.nn.functional.pad(pull[:, :-1] - pull[:, 1:], (0, 0, 1, 1))  # a slice of rows would be copied
        gradient = (rows @ force[..., None])[:, 1:-1, :, 0]

        def convexified(rows: Tensor, share: float) -> BlockTridiagonal:
            return BlockTridiagonal(metric[rows] + convex(bending[rows], share), upper[rows])

        hessian = BlockTridiagonal(metric + bending, upper)
        return Expansion((step * pull).sum(-1), gradient, hessian, convexified)

    @final
    def lowered_acceleration(
        self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"], w: Float[Tensor, "*batch d"]
    ) -> Float[Tensor, "*batch d"]:
        # J^T times the acceleration in the embedding space, x'' = J w + D^2 x (v, v).
        way, rows = self.way(z), z.reshape(-1, z.shape[-1])
        acceleration = way.second_along(self._x, rows, v.reshape(rows.shape), w.reshape(rows.shape))
        return way.pull(self._x, rows, acceleration.detach()).detach().reshape(z.shape)

    @final
    def metric_and_acceleration(
        self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"], w: Float[Tensor, "*batch d"]
    ) -> tuple[Float[Tensor, "*batch d d"], Float[Tensor, "*batch d"]]:
        d = z.shape[-1]
        if d > _FEW or not self.way(z).curvature:
            return super().metric_and_acceleration(z, v, w)
        # 2 + 2 d passes, where 7 + d would be taken: x'' = J w + D^2 x (v, v) from the columns of J and D^2 x (v, .).
        v, w = v.reshape(-1, d, 1), w.reshape(-1, d, 1)
        J, change = self._bending(z.reshape(-1, d), v[..., 0])
        u = J.mT @ (J @ w + change @ v)
        return (J.mT @ J).reshape(*z.shape, d), u.reshape(z.shape)

    @final
    def lowered_connection(
        self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]
    ) -> Float[Tensor, "*batch d d"]:
        # <D^2 x (v, e_j), d_k x>
        J, change = self._bending(z.reshape(-1, z.shape[-1]), v.reshape(-1, z.shape[-1]))
        return (J.mT @ change).reshape(*z.shape, z.shape[-1])

    @final
    def deviation(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Deviation:
        # Gauss: <R(w,v)v,w> = <II(w,w), II(v,v)> - |II(w,v)|^2, II the normal part of D^2 x.
        d = z.shape[-1]
        rows, v = z.reshape(-1, d), v.reshape(-1, d)
        J, change = self._bending(rows, v)
        G, B = J.mT @ J, J.mT @ change
        normal = change - J @ MetricInverse.wherever_finite(G)(B)  # II(v, .)
        n = (normal @ v[..., None])[..., 0]
        # n is normal: of D^2 x (w, w) it sees II(w, w) alone.
        across = self.way(z).expand(self._x, rows, lambda x: n.reshape(x.shape))[2].detach()
        R = (across + across.mT) / 2 - normal.mT @ normal
        return Deviation(*(x.reshape(*z.shape, d) for x in (G, B, R)))

    @final
    def riemann(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d d d"]:
        d = z.shape[-1]
        rows = z.reshape(-1, d)
        J = self.jacobian(rows).detach()
        units = torch.eye(d, dtype=z.dtype, device=z.device)
        H = torch.stack([self._bending(rows, e.expand_as(rows))[1] for e in units], dim=-1)  # [n, D, i, j]
        H = H.flatten(2)
        II = H - J @ MetricInverse.wherever_finite(J.mT @ J)(J.mT @ H)
        products = (II.mT @ II).reshape(len(rows), d, d, d, d)  # [n, i, j, k, l] = <II_ij, II_kl>
        R = torch.einsum("niljk->nijkl", products) - torch.einsum("nikjl->nijkl", products)
        return R.reshape(*z.shape, d, d, d)

    def _bending(self, z: Float[Tensor, "N d"], v: Float[Tensor, "N d"]) -> tuple[Tensor, Tensor]:
        """J and its derivative along v, D^2 x (v, e_j) by columns, both (N, D, d)."""
        return tuple(x.detach().flatten(1, -2) for x in self.way(z).bend(self._x, z, v))  # type: ignore[return-value]

    @final
    def apart(self, x: Float[Tensor, "P *outputs"], y: Float[Tensor, "P *outputs"]) -> Float[Tensor, " P"]:
        """|x - y|: straight through the surrounding space."""
        return (x - y).flatten(1).norm(dim=1)


def _second_difference(step: Tensor, time: int) -> Tensor:
    """2 x_i - x_{i-1} - x_{i+1} at the interior nodes and zero at the ends, from the steps along an axis."""
    interior = step.shape[time] - 1
    bent = torch.zeros_like(step.narrow(time, 0, 1)).repeat_interleave(interior + 2, time)
    torch.sub(step.narrow(time, 0, interior), step.narrow(time, 1, interior), out=bent.narrow(time, 1, interior))
    return bent
