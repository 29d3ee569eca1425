"""Manifolds: a latent space together with the geometry that a decoder gives it.

A manifold knows local quantities only. It never solves and knows no network: its decoder is a function.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.door.derivatives import FORWARD, Derivatives
from geodesic.door.door import Door
from geodesic.errors import InputError
from geodesic.geometry.passed import Along, middles, passed_between
from geodesic.numerics.arcs import cubic_rates, inner_products, lengths_of
from geodesic.numerics.block_tridiagonal import BlockTridiagonal
from geodesic.numerics.spline import like
from geodesic.tangents import with_fixed_weights

__all__ = ["Deviation", "Expansion", "Manifold", "Traveled", "weighted"]


@dataclass(frozen=True)
class Expansion:
    """Half the weighted sum of squared chords of paths, (*batch, T + 1, d), to second order in the interior nodes.

    Attributes:
        squared_chords: Times their weights, (*batch, T).
        gradient: (*batch, T - 1, d).
        hessian: Exact, of T - 1 blocks.
        convexified: The Hessian of some rows of a batch of one axis, with its sources of negative curvature
            multiplied by a share in [0, 1]: exact at 1, positive semidefinite at 0.
    """

    squared_chords: Float[Tensor, "*batch T"]
    gradient: Float[Tensor, "*batch interior d"]
    hessian: BlockTridiagonal
    convexified: Callable[[Tensor, float], BlockTridiagonal]


@dataclass(frozen=True)
class Deviation:
    """How geodesics beside one of velocity v move, at points of it.

    Attributes:
        metric: G, (*batch, d, d).
        connection: As `Manifold.lowered_connection`, (*batch, d, d).
        curvature: The symmetric matrix of w -> <R(w, v) v, w>, (*batch, d, d): divided by |v|^2 |w|^2 - <v, w>^2 it is
            the sectional curvature. NaN where the metric is singular.
    """

    metric: Float[Tensor, "*batch d d"]
    connection: Float[Tensor, "*batch d d"]
    curvature: Float[Tensor, "*batch d d"]


class Traveled(NamedTuple):
    """The segments of paths, (P, T + 1, d), by their ends and by derivatives between them.

    Attributes:
        speed: At the points of quadrature, (P, T, Q).
        squared_chords: (P, T).
        missed: How far derivatives lead past the end of each segment, |x_{i+1} - x_i - integral of J c'|, (P, T).
            Without an embedding: by how much its chord is longer than its curve.
        bent: By how much J c' changes in each segment, and from there to the next points of quadrature, (P, T): a kink
            misses no more than half of it. Without an embedding 0.
        size: Norm of the larger one of the outputs at both ends, (P, T): what rounding of a chord is relative to.
            Without an embedding 0.
        ends: Speeds at both ends of each segment, (P, T, 2); 0 where no velocities were given there.
        wide: Squared chords over two segments, (P, T - 1).
    """

    speed: Float[Tensor, "P T Q"]
    squared_chords: Float[Tensor, "P T"]
    missed: Float[Tensor, "P T"]
    bent: Float[Tensor, "P T"]
    size: Float[Tensor, "P T"]
    ends: Float[Tensor, "P T 2"]
    wide: Float[Tensor, "P T-1"]


class Manifold(ABC):
    """Latent space with a Riemannian metric G(z).

    Two primitives suffice: the metric tensor, and the squared chords between the neighbors of a path. The other
    quantities follow from them, see `ChordManifold`; they have methods of their own because there are often far
    cheaper ways to them. Solvers, energies, lengths, maps and curvatures use nothing else.

    Points are rows of d numbers here. `latent_shape`, where it is not None, is the shape in which a decoder wants
    them and in which `solve` takes and returns them.
    """

    latent_shape: tuple[int, ...] | None = None

    #: For each latent coordinate after how much of it all comes round again, None where it does not; None where no
    #: coordinate does. Points that differ by whole periods are then one and the same.
    period: tuple[float | None, ...] | None = None

    #: Whether squared chords shrink with the square of the step, so that a curve has a length. Where they do not, the
    #: number of segments is part of the model: lengths are sums of chords, and nothing is refined or resolved.
    has_length: bool = True

    #: Whether `along` takes lengths from values and velocities, see `passed`: half the work of velocities alone, and
    #: nearer to the truth where curves bend little between nodes; not exact where outputs turn at constant speed.
    lengths_by_values: bool = False

    #: Whether outputs are apart by what distances are never below, see `apart`.
    has_chords: bool = False

    #: Whether the geometry is that of an embedding x(z) into Euclidean space, see `embed`.
    has_embedding: bool = False

    @property
    def door(self) -> Door | None:
        """The way to the function of the user's that the geometry is made from; None where there is none."""
        return None

    @final
    def way(self, z: Float[Tensor, "*batch d"]) -> Derivatives:
        """How derivatives are taken at points like these: found out where it is not known yet.

        Raises:
            DecoderError: The user's function cannot be used.
        """
        door = self.door
        return FORWARD if door is None else door.derivatives(z)

    @abstractmethod
    def metric_tensor(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        """G(z), (*batch, d, d), symmetric, at points z, (*batch, d)."""

    @abstractmethod
    def squared_norm(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """v^T G(z) v, (*batch,), for vectors v, (*batch, d), at points z, (*batch, d)."""

    def lowered(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """G(z) v, (*batch, d), for vectors v, (*batch, d), at points z, (*batch, d)."""
        return (self.metric_tensor(z) @ v[..., None])[..., 0]

    @abstractmethod
    def squared_chords(self, path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1"]:
        """Squared distance between neighbors, (*batch, T), along paths, (*batch, T + 1, d)."""

    def chords_of_one_and_two(
        self, path: Float[Tensor, "*batch nodes d"]
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Float[Tensor, "*batch nodes-2"]]:
        """Squared distances between neighbors, as `squared_chords`, and between next but one, (*batch, T - 1)."""
        wide = path.new_empty(*path.shape[:-2], path.shape[-2] - 2)
        for first in (0, 1):  # every second node, and the others: each once
            nodes = path[..., first::2, :]
            if nodes.shape[-2] > 1:
                wide[..., first::2] = self.squared_chords(nodes)
        return self.squared_chords(path), wide

    @abstractmethod
    def chords_and_pullback(
        self, path: Float[Tensor, "*batch nodes d"], weights: Float[Tensor, "*batch nodes-1"] | None = None
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Callable[[], Tensor]]:
        """The squared chords, and a function that returns the gradient of half their sum in the interior nodes.

        Both without history. The gradient costs one backward pass, when it is asked for and once at most.

        Args:
            path: Nodes, (*batch, T + 1, d).
            weights: What each squared chord is multiplied by, (*batch, T): 1 where the nodes lie at equal times,
                1 / (T h) for segments that take a time h of 1.
        """

    @abstractmethod
    def expansion(
        self, path: Float[Tensor, "paths nodes d"], weights: Float[Tensor, "paths nodes-1"] | None = None
    ) -> Expansion:
        """Half the sum of squared chords of each path to second order, for paths (P, T + 1, d).

        Args:
            path: Nodes.
            weights: What each squared chord is multiplied by, (P, T), as in `chords_and_pullback`.
        """

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
    def lowered_connection(
        self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]
    ) -> Float[Tensor, "*batch d d"]:
        """The matrix B with B w = G Gamma(v, w), (*batch, d, d): what carries vectors w along a curve of velocity v.

        B + B^T is the derivative of the metric along v.

        Args:
            z: Points of the curve, (*batch, d).
            v: Its velocities there, (*batch, d).
        """

    def metric_and_acceleration(
        self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"], w: Float[Tensor, "*batch d"]
    ) -> tuple[Float[Tensor, "*batch d d"], Float[Tensor, "*batch d"]]:
        """`metric_tensor` and `lowered_acceleration`, in fewer passes where they have some in common.

        Args:
            z: Points of the curve, (*batch, d).
            v: Its velocities there, (*batch, d).
            w: Its second derivatives there, (*batch, d).
        """
        return self.metric_tensor(z), self.lowered_acceleration(z, v, w)

    @abstractmethod
    def deviation(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Deviation:
        """The metric, the connection and the curvature along v: what moves the neighbors of a geodesic.

        Args:
            z: Points, (*batch, d).
            v: Velocities there, (*batch, d).
        """

    @final
    def lowered_curvature(
        self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]
    ) -> Float[Tensor, "*batch d d"]:
        """The symmetric matrix of w -> <R(w, v) v, w>, (*batch, d, d), see `Deviation`."""
        return self.deviation(z, v).curvature

    @abstractmethod
    def riemann(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d d d"]:
        """R_ijkl = <R(e_i, e_j) e_k, e_l> at points z, (*batch, d, d, d, d). NaN where the metric is singular."""

    def lower_bound(self, start: Float[Tensor, "*batch d"], end: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """A number that the distance is never below, (*batch,): how far outputs are apart, or zero."""
        if not self.has_chords:
            return start.new_zeros(start.shape[:-1])
        both = torch.cat([z.reshape(-1, z.shape[-1]) for z in (start, end)])
        return self.apart(*self.observe(both).tensor_split(2)).reshape(start.shape[:-1])

    def apart(self, x: Float[Tensor, "P *outputs"], y: Float[Tensor, "P *outputs"]) -> Float[Tensor, " P"]:
        """How far apart points are by what `observe` says of them, (P,), which their distances are never below.

        Raises:
            InputError: The manifold has no such chords, see `has_chords`.
        """
        raise InputError(f"manifold: {type(self).__name__} has no chords that bound distances from below")

    def embed(self, z: Tensor) -> Tensor:
        """x(z), (*batch, ...): points of Euclidean space of any event shape, for points z, (*batch, d).

        Raises:
            InputError: The manifold has no embedding at hand, see `has_embedding`.
        """
        raise InputError(f"manifold: {type(self).__name__} has no embedding into Euclidean space")

    @property
    def forms_metric(self) -> bool:
        """Whether memory suffices for the metric tensor of a point; products with it do where it does not."""
        return True

    @property
    def forms_hessian(self) -> bool:
        """Whether memory suffices for the Hessian of the energy in a node; products with it do where it does not."""
        return True

    @final
    def jacobian(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch D d"]:
        """J of the embedding, (*batch, D, d), with its event shape flattened to D, at z, (*batch, d)."""
        x = self.door if self.has_embedding and self.door is not None else self.embed
        J = self.way(z).jacobian(x, z.reshape(-1, z.shape[-1])).flatten(1, -2)
        return J.reshape(*z.shape[:-1], *J.shape[1:])

    def traveled(
        self,
        path: Float[Tensor, "P nodes d"],
        z: Float[Tensor, "P T Q d"],
        v: Float[Tensor, "P T Q d"],
        weights: Float[Tensor, " Q"],
        velocity: Float[Tensor, "P nodes d"] | None = None,
    ) -> Traveled:
        """What derivatives see of the segments of paths, and what they do not, by quadrature.

        Args:
            path: Nodes.
            z: Points of quadrature on the curve between neighbors.
            v: Its velocities there, per segment.
            weights: Of the points; they sum to 1.
            velocity: Of the curve at its nodes, per segment, where speeds are asked for there.
        """
        if not self.has_embedding:
            speed, (squared_chords, wide) = self.squared_norm(z, v).sqrt(), self.chords_of_one_and_two(path)
            missed = (squared_chords.clamp_min(0).sqrt() - speed @ weights).clamp_min(0)
            nothing = torch.zeros_like(missed)
            nodes = torch.zeros_like(path[..., 0]) if velocity is None else self.squared_norm(path, velocity).sqrt()
            return Traveled(speed, squared_chords, missed, nothing, nothing, nodes.unfold(1, 2, 1), wide)
        Q, d, x, rows = z.shape[2], z.shape[3], self.door or self.embed, path.reshape(-1, path.shape[-1])
        if velocity is None:
            y, nodes = x(path).flatten(2), torch.zeros_like(path[..., 0])
        else:
            y, slope = self.way(path).carried(x, rows, velocity.reshape(rows.shape))
            y, nodes = y.reshape(*path.shape[:2], -1), slope.flatten(1).norm(dim=-1).reshape(path.shape[:2])
        step, sizes = y.diff(dim=1), y.norm(dim=-1)
        seen = self.way(z).push(x, z.reshape(-1, d), v.reshape(-1, d)).reshape(*z.shape[:-1], -1)
        missed = (step - weights @ seen).norm(dim=-1)
        bends = torch.nn.functional.pad(seen.flatten(1, 2).diff(dim=1).norm(dim=-1), (1, 1))
        bent, size = bends.unfold(1, Q + 1, Q).sum(-1), sizes.unfold(1, 2, 1).amax(-1)
        wide = (step[:, 1:] + step[:, :-1]).square().sum(-1)
        ends = nodes.unfold(1, 2, 1)
        return Traveled(seen.norm(dim=-1), step.square().sum(-1), missed, bent, size, ends, wide)

    def passed(self, z: Float[Tensor, "P nodes d"], v: Float[Tensor, "P nodes d"], every: int = 0) -> Along:
        """What values and velocities at nodes and halfway between say of the segments of curves: in four passes.

        Between two nodes the quintic with these values and velocities takes the place of the curve in the surrounding
        space: of order 6. Only for manifolds with an embedding.

        Args:
            z: Nodes and points halfway between, in turn: (P, 2 T + 1, d).
            v: Velocities of the curve there, per half segment.
            every: Of so many segments one has acceleration and metric taken, for (1 + d) / every passes; none with 0.
        """
        x, d = self.door or self.embed, z.shape[-1]
        y, slope = self.way(z).carried(x, z.reshape(-1, d), v.reshape(-1, d))
        y, slope = (part.detach().reshape(*z.shape[:2], -1) for part in (y, slope))
        J = self.jacobian(z[:, middles(every)]).detach() if every else y.new_empty(len(y), 0, y.shape[2], d)
        return passed_between(y, slope, J, every)

    def arcs(
        self, path: Float[Tensor, "P nodes d"], velocity: Float[Tensor, "P nodes d"]
    ) -> tuple[Float[Tensor, "P T"], Float[Tensor, "P T"]]:
        """Squared chords and lengths of the segments of curves, from values and velocities at their nodes alone.

        Between two nodes the cubic with these values and velocities takes the place of the curve in the surrounding
        space: of order 4, for two passes. Only for manifolds with an embedding.

        Args:
            path: Nodes.
            velocity: Of the curve at its nodes, per segment.
        """
        x, rows = self.door or self.embed, path.reshape(-1, path.shape[-1])
        y, slope = self.way(path).carried(x, rows, velocity.reshape(rows.shape))
        y, slope = (part.detach().reshape(*path.shape[:2], -1) for part in (y, slope))
        three = (y.diff(dim=1), slope[:, :-1], slope[:, 1:])
        gram = inner_products(*three)
        return gram[..., 0, 0], lengths_of(gram, *like(path, *cubic_rates()))

    def observe(self, z: Float[Tensor, "*batch d"]) -> Tensor:
        """What the geometry is made from at points z, (*batch, ...): outputs of a decoder, or the metric tensor."""
        return self.metric_tensor(z)

    def require_usable(self) -> None:  # noqa: B027  # most manifolds have nothing that could change
        """Raise `DecoderError` where a decoder is in training mode: it may have changed since this was made."""

    def examine(self, z: Float[Tensor, "N d"], given: Tensor | None = None) -> None:  # noqa: B027  # few have a decoder
        """Raise `DecoderError` where a decoder does not suit points z, (N, d), or the geometry of its outputs.

        Args:
            z: Points.
            given: Some of them in the shape in which the user gave them, which tells what a decoder may want.
        """

    def gradient_and_product(
        self, path: Float[Tensor, "*batch nodes d"], weights: Float[Tensor, "*batch nodes-1"] | None = None
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Tensor, Callable[[Tensor], Tensor]]:
        """Squared chords; gradient of half their sum in the interior nodes; its derivative along a direction.

        The last is the product of the Hessian with directions (*batch, T - 1, d), by differentiating the gradient
        once more: two passes each, whatever d is.

        Args:
            path: Nodes, (*batch, T + 1, d).
            weights: What each squared chord is multiplied by, (*batch, T), as in `chords_and_pullback`.
        """
        with torch.inference_mode(False), torch.enable_grad(), with_fixed_weights():
            nodes = (path.clone() if path.is_inference() else path.detach()).requires_grad_()
            chords = weighted(self.squared_chords(nodes), weights)
            (gradient,) = torch.autograd.grad(chords.sum() / 2, nodes, create_graph=True)

        def product(direction: Tensor) -> Tensor:
            padded = torch.nn.functional.pad(direction, (0, 0, 1, 1))
            with with_fixed_weights():  # also of what a checkpoint evaluates anew
                (image,) = torch.autograd.grad(gradient, nodes, padded, retain_graph=True)
            return image[..., 1:-1, :]

        return chords.detach(), gradient.detach()[..., 1:-1, :], product


def weighted(x: Tensor, weights: Float[Tensor, "*batch T"] | None) -> Tensor:
    """Quantities of segments, (*batch, T, ...), times their weights; as they are where there are none."""
    return x if weights is None else x * weights.reshape(*weights.shape, *[1] * (x.dim() - weights.dim()))
