"""Manifolds: a latent space together with the geometry that a decoder gives it.

A manifold knows local quantities only. It never solves and knows no network: its decoder is a function.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.autodiff import expand, jacobian, jvp, vjp
from geodesic.errors import DecoderError, InputError
from geodesic.geometry.block_tridiagonal import BlockTridiagonal

__all__ = ["ChordManifold", "EmbeddedManifold", "Expansion", "Manifold", "MetricManifold"]


@dataclass(frozen=True)
class Expansion:
    """Half the sum of squared chords of paths, (*batch, T + 1, d), to second order in the interior nodes.

    Attributes:
        squared_chords: (*batch, T).
        gradient: (*batch, T - 1, d).
        hessian: Exact, of T - 1 blocks.
        convexified: The Hessian of some rows of a batch of one axis, with its sources of negative curvature
            multiplied by a share in [0, 1]: exact at 1, positive semidefinite at 0.
    """

    squared_chords: Float[Tensor, "*batch T"]
    gradient: Float[Tensor, "*batch interior d"]
    hessian: BlockTridiagonal
    convexified: Callable[[Tensor, float], BlockTridiagonal]


class Manifold(ABC):
    """Latent space with a Riemannian metric G(z).

    Two primitives suffice to find geodesics: the metric tensor, and the squared chords between the
    neighbours of a path. The other quantities follow from them, see `ChordManifold`; they have methods of their own
    because there are often far cheaper ways to them. Solvers, energies and lengths use nothing else.

    Points are rows of d numbers here. `latent_shape`, where it is not None, is the shape in which a decoder wants
    them and in which `solve` takes and returns them.
    """

    latent_shape: tuple[int, ...] | None = None

    #: Whether squared chords shrink with the square of the step, so that a curve has a length. Where they do not, the
    #: number of segments is part of the model: lengths are sums of chords, and nothing is refined or resolved.
    has_length: ClassVar[bool] = True

    @abstractmethod
    def metric_tensor(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        """G(z), (*batch, d, d), symmetric, at points z, (*batch, d)."""

    @abstractmethod
    def squared_norm(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """v^T G(z) v, (*batch,), for vectors v, (*batch, d), at points z, (*batch, d)."""

    @abstractmethod
    def squared_chords(self, path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1"]:
        """Squared distance between neighbours, (*batch, T), along paths, (*batch, T + 1, d)."""

    @abstractmethod
    def chords_and_pullback(
        self, path: Float[Tensor, "*batch nodes d"]
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Callable[[], Tensor]]:
        """The squared chords, and a function that returns the gradient of half their sum in the interior nodes.

        Both without history. The gradient costs one backward pass, when it is asked for and once at most.
        """

    @abstractmethod
    def expansion(self, path: Float[Tensor, "paths nodes d"]) -> Expansion:
        """Half the sum of squared chords of each path to second order, for paths (P, T + 1, d)."""

    @abstractmethod
    def lowered_acceleration(
        self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"], w: Float[Tensor, "*batch d"]
    ) -> Float[Tensor, "*batch d"]:
        """G (w + Gamma(v, v)): the covariant acceleration of a curve, lowered; zero along a geodesic.

        Args:
            z: Points of the curve, (*batch, d).
            v: Its velocities there, (*batch, d).
            w: Its second derivatives in latent coordinates, (*batch, d).
        """

    @abstractmethod
    def lower_bound(self, start: Float[Tensor, "*batch d"], end: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """A number that the distance is never below, (*batch,)."""

    def observe(self, z: Float[Tensor, "*batch d"]) -> Tensor:
        """What the geometry is made from at points z, (*batch, ...): outputs of a decoder, or the metric tensor."""
        return self.metric_tensor(z)

    def require_usable(self) -> None:  # noqa: B027  # most manifolds have nothing that could change
        """Raise `DecoderError` where a decoder is in training mode: it may have changed since this was made."""

    @final
    def gradient_and_product(
        self, path: Float[Tensor, "*batch nodes d"]
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Tensor, Callable[[Tensor], Tensor]]:
        """Squared chords; gradient of half their sum in the interior nodes; its derivative along a direction.

        The last is the product of the Hessian with directions (*batch, T - 1, d), by differentiating the gradient
        once more: two passes each, whatever d is.
        """
        with torch.inference_mode(False), torch.enable_grad():
            nodes = (path.clone() if path.is_inference() else path.detach()).requires_grad_()
            chords = self.squared_chords(nodes)
            (gradient,) = torch.autograd.grad(chords.sum() / 2, nodes, create_graph=True)

        def product(direction: Tensor) -> Tensor:
            padded = torch.nn.functional.pad(direction, (0, 0, 1, 1))
            (image,) = torch.autograd.grad(gradient, nodes, padded, retain_graph=True)
            return image[..., 1:-1, :]

        return chords.detach(), gradient.detach()[..., 1:-1, :], product


class ChordManifold(Manifold):
    """A manifold given by its metric tensor and its squared chords, both differentiable by autograd.

    Everything else follows from the two. They must treat rows and paths apart.
    """

    def squared_norm(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        return _quadratic_form(self.metric_tensor(z), v)

    @final
    def chords_and_pullback(
        self, path: Float[Tensor, "*batch nodes d"]
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Callable[[], Tensor]]:
        with torch.inference_mode(False), torch.enable_grad():
            nodes = (path.clone() if path.is_inference() else path.detach()).requires_grad_()
            chords = self.squared_chords(nodes)
        return chords.detach(), lambda: torch.autograd.grad(chords.sum() / 2, nodes)[0][..., 1:-1, :]

    @final
    def expansion(self, path: Float[Tensor, "paths nodes d"]) -> Expansion:
        P, T, d = path.shape[0], path.shape[1] - 1, path.shape[2]
        ends = torch.cat([path[:, :-1], path[:, 1:]], dim=-1).reshape(-1, 2 * d)

        def half_chord(ends: Tensor) -> Tensor:
            return self.squared_chords(ends.reshape(-1, 2, d)) / 2

        with torch.no_grad():
            half, slope, hessian = expand(half_chord, ends, torch.ones_like)
        slope, hessian = slope.reshape(P, T, 2 * d), hessian.reshape(P, T, 2 * d, 2 * d)
        hessian = (hessian + hessian.mT) / 2

        def convexified(rows: Tensor, share: float) -> BlockTridiagonal:
            return _assembled(_convex(hessian[rows], share))

        gradient = slope[:, :-1, d:] + slope[:, 1:, :d]
        return Expansion(2 * half.reshape(P, T), gradient, _assembled(hessian), convexified)

    @final
    def lowered_acceleration(
        self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"], w: Float[Tensor, "*batch d"]
    ) -> Float[Tensor, "*batch d"]:
        # Euler and Lagrange's form: d/dt (G v) - 1/2 d/dz (v^T G v).
        d, rows = z.shape[-1], z.reshape(-1, z.shape[-1])
        v_rows = v.reshape(-1, d)
        G = self.metric_tensor(rows)
        change = jvp(self.metric_tensor, rows, v_rows)
        slope = vjp(lambda z: _quadratic_form(self.metric_tensor(z), v_rows), rows, rows.new_ones(len(rows)))
        lowered = (G @ w.reshape(-1, d, 1) + change @ v_rows[..., None])[..., 0] - slope / 2
        return lowered.detach().reshape(z.shape)

    def lower_bound(self, start: Float[Tensor, "*batch d"], end: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        return start.new_zeros(start.shape[:-1])  # without an embedding there are no straight chords to compare with


def _assembled(segments: Float[Tensor, "paths T pair pair"]) -> BlockTridiagonal:
    """The Hessian in the interior nodes, from the Hessians of the segments in both of their ends."""
    d = segments.shape[-1] // 2
    diagonal = segments[:, :-1, d:, d:] + segments[:, 1:, :d, :d]
    return BlockTridiagonal(diagonal, segments[:, 1:-1, :d, d:])


def _convex(matrix: Float[Tensor, "*batch d d"], share: float) -> Float[Tensor, "*batch d d"]:
    """Symmetric matrices with their negative eigenvalues multiplied by the share."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * torch.where(values < 0, share * values, values)[..., None, :]) @ vectors.mT


class MetricManifold(ChordManifold):
    """A manifold given by its metric tensor alone: what has no embedding at hand, or none at all.

    squared chord = u^T G((z_i + z_{i+1}) / 2) u,   u = z_{i+1} - z_i

    Only `metric_tensor` is left to write; it must be differentiable in z by autograd and treat rows apart.

    The metric is taken at the midpoint of a segment, which is of second order in 1/T. With the metric at the left
    node, a rule often seen, the energy is of first order only, its minimiser jumps where the metric is small, and
    lengths read off it lie below the true distance.

    Warning:
        These chords are no distances between points of a Euclidean space: twice the energy may exceed the squared
        distance, or fall short of it, by order 1/T^2.
    """

    @final
    def squared_chords(self, path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1"]:
        G = self.metric_tensor(_midpoints(path))
        # A constant metric has no derivative; one that merely hides it would give a gradient without dG/dz.
        if path.requires_grad and not G.requires_grad and not torch.equal(G, G[..., :1, :, :].expand_as(G)):
            raise InputError(
                "manifold: its metric_tensor changes with z, but not as far as autograd can see; look for "
                "no_grad or detach"
            )
        return _quadratic_form(G, path.diff(dim=-2))


def _midpoints(path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1 d"]:
    return (path[..., 1:, :] + path[..., :-1, :]) / 2


def _quadratic_form(G: Float[Tensor, "*batch d d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    return (v * (G @ v[..., None])[..., 0]).sum(-1)


class EmbeddedManifold(Manifold):
    """A manifold given by an embedding x(z) into Euclidean space: G = J^T J with J the Jacobian of x.

    Only `embed` is left to write.
    """

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
            return BlockTridiagonal(2 * metric[rows] + _convex(bending[rows], share), upper[rows])

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

        def second_derivative(method: str) -> Tensor:
            return jvp(lambda both: jvp(self.embed, both[:, :d], both[:, d:], method), both, change, method)

        try:
            acceleration = second_derivative("forward")
        except NotImplementedError:  # forward mode knows no second derivative of SiLU, for one
            acceleration = second_derivative("double_vjp")
        return vjp(self.embed, z.reshape(-1, d), acceleration.detach()).detach().reshape(z.shape)

    @final
    def lower_bound(self, start: Float[Tensor, "*batch d"], end: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """|x(start) - x(end)|: straight through the surrounding space."""
        return self.squared_chords(torch.stack([start, end], dim=-2))[..., 0].sqrt()

    @final
    def jacobian(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch D d"]:
        """J, (*batch, D, d), with the event shape of the embedding flattened to D, at z, (*batch, d)."""
        d = z.shape[-1]
        J = jacobian(self.embed, z.reshape(-1, d)).flatten(1, -2)
        return J.reshape(*z.shape[:-1], *J.shape[1:])
