"""Manifolds given by an embedding into Euclidean space."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.autodiff import expand, jvp, value_and_jvp, vjp
from geodesic.errors import DecoderError
from geodesic.geometry.inverse import MetricInverse
from geodesic.geometry.manifold import Deviation, Expansion, Manifold
from geodesic.numerics.block_tridiagonal import BlockTridiagonal, convex

__all__ = ["EmbeddedManifold"]


class EmbeddedManifold(Manifold):
    """A manifold given by an embedding x(z) into Euclidean space: G = J^T J with J the Jacobian of x.

    Only `embed` is left to write.
    """

    has_embedding = True

    @abstractmethod
    def embed(self, z: Tensor) -> Tensor:
        """x(z), (*batch, ...): points of Euclidean space of any event shape, for points z, (*batch, d)."""

    @final
    def observe(self, z: Float[Tensor, "*batch d"]) -> Tensor:
        return self.embed(z)

    @final
    def metric_tensor(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        J = self.jacobian(z)
        return J.mT @ J

    @final
    def squared_norm(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        d = z.shape[-1]
        rows = jvp(self.embed, z.reshape(-1, d), v.reshape(-1, d))
        return rows.flatten(1).square().sum(-1).reshape(z.shape[:-1])

    @final
    def squared_chords(self, path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1"]:
        x = self.embed(path).flatten(path.dim() - 1)
        return x.diff(dim=-2).square().sum(-1)

    @final
    def chords_and_pullback(
        self, path: Float[Tensor, "*batch nodes d"]
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Callable[[], Tensor]]:
        time = path.dim() - 2
        with torch.inference_mode(False), torch.enable_grad():
            nodes = (path.clone() if path.is_inference() else path.detach()).requires_grad_()
            x = self.embed(nodes)
        if not x.requires_grad:
            raise DecoderError(
                "decoder: its output does not depend on z as far as autograd can see; look for no_grad, detach, "
                "rounding, or a constant"
            )
        step = x.detach().diff(dim=time)

        def pull() -> Tensor:
            # The cotangent of x_i is minus its second difference. The ends are fixed: nothing is asked of them.
            cotangent = torch.zeros_like(x)
            interior = step.shape[time] - 1
            torch.sub(
                step.narrow(time, 0, interior), step.narrow(time, 1, interior), out=cotangent.narrow(time, 1, interior)
            )
            return torch.autograd.grad(x, nodes, cotangent)[0][..., 1:-1, :]

        return step.flatten(time + 1).square().sum(-1), pull

    @final
    def expansion(self, path: Float[Tensor, "paths nodes d"]) -> Expansion:
        # The Hessian of 1/2 sum |x_{i+1} - x_i|^2 has blocks 2 J_i^T J_i + Hess <r_i, x(z_i)> on the diagonal, with
        # r_i = 2 x_i - x_{i-1} - x_{i+1} held fixed, and -J_i^T J_{i+1} beside it.
        P, n, d = path.shape

        def second_difference(x: Tensor) -> Tensor:
            step = x.reshape(P, n, -1).diff(dim=1)
            return torch.nn.functional.pad(step[:, :-1] - step[:, 1:], (0, 0, 1, 1)).reshape(x.shape)

        with torch.no_grad():
            x, J, bending = expand(self.embed, path.reshape(-1, d), second_difference)
        step = x.reshape(P, n, -1).diff(dim=1)
        J = J.reshape(P, n, -1, d)[:, 1:-1]
        bending = bending.reshape(P, n, d, d)[:, 1:-1]
        bending = (bending + bending.mT) / 2
        metric, upper = J.mT @ J, -J[:, :-1].mT @ J[:, 1:]
        gradient = ((step[:, :-1] - step[:, 1:])[..., None, :] @ J)[..., 0, :]

        def convexified(rows: Tensor, share: float) -> BlockTridiagonal:
            return BlockTridiagonal(2 * metric[rows] + convex(bending[rows], share), upper[rows])

        hessian = BlockTridiagonal(2 * metric + bending, upper)
        return Expansion(step.square().sum(-1), gradient, hessian, convexified)

    @final
    def lowered_acceleration(
        self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"], w: Float[Tensor, "*batch d"]
    ) -> Float[Tensor, "*batch d"]:
        # J^T times the acceleration in the embedding space, x'' = J w + D^2 x (v, v).
        d = z.shape[-1]
        both = torch.cat([z, v], dim=-1).reshape(-1, 2 * d)
        change = torch.cat([v, w], dim=-1).reshape(-1, 2 * d)
        try:
            acceleration = self._second_derivative(both, change, "forward")
        except NotImplementedError:  # forward mode knows no second derivative of SiLU, for one
            acceleration = self._second_derivative(both, change, "double_vjp")
        return vjp(self.embed, z.reshape(-1, d), acceleration.detach()).detach().reshape(z.shape)

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
        normal = change - J @ MetricInverse(G)(B)  # II(v, .)
        n = (normal @ v[..., None])[..., 0]
        # n is normal: of D^2 x (w, w) it sees II(w, w) alone.
        across = expand(self.embed, rows, lambda x: n.reshape(x.shape))[2].detach()
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
        II = H - J @ MetricInverse(J.mT @ J)(J.mT @ H)
        products = (II.mT @ II).reshape(len(rows), d, d, d, d)  # [n, i, j, k, l] = <II_ij, II_kl>
        R = torch.einsum("niljk->nijkl", products) - torch.einsum("nikjl->nijkl", products)
        return R.reshape(*z.shape, d, d, d)

    def _second_derivative(self, both: Float[Tensor, "N k"], change: Float[Tensor, "N k"], method: str) -> Tensor:
        """The derivative of J v in (z, v) along a change of both."""
        d = both.shape[-1] // 2
        return jvp(lambda both: jvp(self.embed, both[:, :d], both[:, d:], method), both, change, method)

    def _bending(self, z: Float[Tensor, "N d"], v: Float[Tensor, "N d"]) -> tuple[Tensor, Tensor]:
        """J and its derivative along v, D^2 x (v, e_j) by columns, both (N, D, d)."""
        try:
            J, change = value_and_jvp(self.jacobian, z, v)
        except NotImplementedError:  # as in lowered_acceleration
            J, change = self.jacobian(z), jvp(self.jacobian, z, v, "double_vjp")
        return J.detach(), change.detach()

    @final
    def lower_bound(self, start: Float[Tensor, "*batch d"], end: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """|x(start) - x(end)|: straight through the surrounding space."""
        return self.squared_chords(torch.stack([start, end], dim=-2))[..., 0].sqrt()
