"""The length of polygons through faces to second order in their nodes, each of which moves along its faces."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.door.faces import Faces
from geodesic.geometry.excess import NewtonStep, newton_step
from geodesic.geometry.manifold import Expansion, Manifold
from geodesic.geometry.strips import Strips
from geodesic.numerics.block_tridiagonal import BlockTridiagonal, convex, products_of_neighbors

__all__ = ["DAMPINGS", "LengthBlocks", "LengthModel", "length_blocks"]

DAMPINGS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Shares of the energy's Hessian in that of the length, with which steps are tried."""

_NOTHING = 1e-12  # of a length: no segment
_BELIEVED = 10.0  # times what the second one promises: more is not to be had before nodes come to where faces meet


@dataclass(frozen=True)
class LengthBlocks:
    """The length of polygons to second order around their nodes, one after the other, as far as these may move.

    Where a node slides along its path, the energy at fixed times grows and the length does not.

    Attributes:
        gradient: (R, d).
        held: Blocks of the energy's Hessian at fixed times, without the decoder's second derivatives, (R, d, d).
        slides: What of it is not in the length's, (R, d, d).
        bending: What the decoder's second derivatives add, (R, d, d); zeros where pieces are flat.
        held_upper: As `held`, of each node and the next one.
        slides_upper: As `slides`, of each node and the next one, with the opposite sign.
        allowed: Projections to the directions in which nodes may move, (R, d, d).
        chords: To each node, (R,).
    """

    gradient: Float[Tensor, "R d"]
    held: Float[Tensor, "R d d"]
    slides: Float[Tensor, "R d d"]
    bending: Float[Tensor, "R d d"]
    held_upper: Float[Tensor, "R d d"]
    slides_upper: Float[Tensor, "R d d"]
    allowed: Float[Tensor, "R d d"]
    chords: Float[Tensor, " R"]

    def at(self, source: Int[Tensor, " S"], strips: Strips) -> LengthBlocks:
        """Those of stretches, whose nodes are these."""
        inner = (~strips.ends).to(self.chords)
        both = torch.nn.functional.pad(inner[:-1] * inner[1:], (0, 1))[:, None, None]
        inner = inner[:, None, None]
        return LengthBlocks(
            self.gradient[source] * inner[..., 0],
            self.held[source] * inner,
            self.slides[source] * inner,
            self.bending[source] * inner,
            self.held_upper[source] * both,
            self.slides_upper[source] * both,
            self.allowed[source] * inner,
            torch.where(strips.first, 0, self.chords[source]),
        )


@dataclass(frozen=True)
class LengthModel:
    """The quadratic model of the length around polygons: padded ones, (P, n, d).

    Attributes:
        gradient: (P, n - 2, d).
        hessian: Of the length, in the directions in which nodes may move.
        convex: That of the energy at fixed times, without its negative curvature: sliding costs what turning does.
        allowed: Projections to these directions, (P, n - 2, d, d).
        step: Newton's.
    """

    gradient: Float[Tensor, "P interior d"]
    hessian: BlockTridiagonal
    convex: BlockTridiagonal
    allowed: Float[Tensor, "P interior d d"]
    step: NewtonStep

    @classmethod
    def of(cls, blocks: LengthBlocks, strips: Strips, length: Float[Tensor, " P"]) -> LengthModel:
        """The model around polygons of these lengths."""
        allowed = strips.padded(blocks.allowed)[:, 1:-1]
        fixed = torch.eye(allowed.shape[-1]).to(allowed) - allowed
        freedom = allowed.diagonal(dim1=-2, dim2=-1).sum((1, 2)).clamp_min(1)

        def padded(diagonal: Tensor, upper: Tensor) -> BlockTridiagonal:
            diagonal, upper = strips.padded(diagonal)[:, 1:-1], strips.padded(upper)[:, 1:-2]
            size = diagonal.diagonal(dim1=-2, dim2=-1).sum((1, 2)) / freedom
            size = torch.where(size > 0, size, 1)[:, None, None, None]
            return BlockTridiagonal((diagonal + diagonal.mT) / 2 + size * fixed, upper)

        def convexified(rows: Tensor, share: float) -> BlockTridiagonal:
            return padded(blocks.held - blocks.slides + convex(blocks.bending, share), upper)[rows]

        upper = blocks.held_upper + blocks.slides_upper
        gradient = strips.padded(blocks.gradient)[:, 1:-1]
        hessian = padded(blocks.held - blocks.slides + blocks.bending, upper)
        held = padded(blocks.held + convex(blocks.bending, 0.0), blocks.held_upper)
        total = torch.zeros_like(length).index_add(0, strips.pair, blocks.chords)[:, None]
        model = cls(gradient, hessian, held, allowed, newton_step(Expansion(total, gradient, hessian, convexified)))
        # A node near where faces meet may seem to slide far beyond: that little of its gain is real.
        promised = _BELIEVED * (gradient * model.damped(DAMPINGS[1])).sum((1, 2)) / length
        # Sums of chords change with where nodes are, by their share of the error: so little curvature is none.
        step = replace(
            model.step,
            excess=torch.where(model.step.excess > promised, promised, model.step.excess),
            minimum=model.step.minimum | promised.isfinite(),
        )
        return replace(model, step=step)

    def damped(self, share: float) -> Float[Tensor, "P interior d"]:
        """The step with some of the energy's Hessian in place of the length's; NaN where that is not positive."""
        H, K = self.hessian, self.convex
        mixed = BlockTridiagonal(torch.lerp(H.diagonal, K.diagonal, share), torch.lerp(H.upper, K.upper, share))
        return mixed.damped(1e-10).cholesky().solve(self.gradient)

    def promised(self, step: Float[Tensor, "P interior d"]) -> Float[Tensor, " P"]:
        """By how much a step makes polygons shorter, by the model."""
        return (step * (self.gradient - (self.hessian @ step) / 2)).sum((1, 2))


def length_blocks(manifold: Manifold, faces: Faces, strips: Strips, bends: bool) -> LengthBlocks:
    """Of polygons, in the directions in which nodes may move: along their faces, or across the path.

    Args:
        manifold: With an embedding.
        faces: Of its decoder.
        strips: The polygons.
        bends: Whether to ask for the decoder's second derivatives, which cost as much as all the rest.
    """
    f, nodes = manifold.door or manifold.embed, strips.nodes
    way, apart = manifold.way(nodes), strips.first[1:]  # all polygons are one path: nothing joins two of them
    x = f(nodes).detach().flatten(1)
    step = torch.where(apart[:, None], 0, x.diff(dim=0))
    chords = step.norm(dim=1)
    total = chords.new_zeros(int(strips.pair[-1]) + 1).index_add(0, strips.pair[1:], chords)
    w = torch.where(chords > _NOTHING * total[strips.pair[1:]], 1 / chords, 0)
    unit = step * w[:, None]
    turn = torch.nn.functional.pad(unit, (0, 0, 1, 0)) - torch.nn.functional.pad(unit, (0, 0, 0, 1))
    if bends:
        _, J, bending = way.expand(f, nodes, lambda x: turn.reshape(x.shape))
        bending = (bending + bending.mT) / 2
    else:
        J = way.jacobian(f, nodes)
        bending = nodes.new_zeros(len(nodes), nodes.shape[1], nodes.shape[1])
    rows = J.detach().reshape(len(nodes), -1, nodes.shape[1]).mT.contiguous()
    metric, beside = (part[0] for part in products_of_neighbors(rows[None]))
    before, behind = (
        torch.nn.functional.pad(w, (1, 0))[:, None, None],
        torch.nn.functional.pad(w, (0, 1))[:, None, None],
    )
    into = rows @ torch.nn.functional.pad(unit, (0, 0, 1, 0))[..., None]
    out = rows @ torch.nn.functional.pad(unit, (0, 0, 0, 1))[..., None]
    a = _allowed(faces, strips)
    next_one = torch.nn.functional.pad(a[1:], (0, 0, 0, 0, 0, 1))
    upper = torch.nn.functional.pad(beside, (0, 0, 0, 0, 0, 1)) * behind
    across = behind * out @ torch.nn.functional.pad(into[1:], (0, 0, 0, 0, 0, 1)).mT
    return LengthBlocks(
        gradient=(a @ (into - out))[..., 0],
        held=a @ ((before + behind) * metric) @ a,
        slides=a @ (before * into @ into.mT + behind * out @ out.mT) @ a,
        bending=a @ bending @ a,
        held_upper=-a @ upper @ next_one,
        slides_upper=a @ across @ next_one,
        allowed=a,
        chords=torch.nn.functional.pad(chords, (1, 0)),
    )


def _allowed(faces: Faces, strips: Strips) -> Float[Tensor, "R d d"]:
    """Projections to the directions in which each node may move."""
    nodes, d = strips.nodes, strips.nodes.shape[1]
    ways = nodes.new_zeros(len(nodes), strips.units.shape[1], d)
    on = strips.units >= 0
    rows, places = on.nonzero(as_tuple=True)
    if len(rows):
        ways[rows, places] = faces.normals(nodes[rows], strips.units[rows, places])
    (free,) = (~on.any(1) & ~strips.ends).nonzero(as_tuple=True)
    if len(free):
        ways[free, 0] = nodes[free + 1] - nodes[free - 1]
    first = ways[:, 0] / ways[:, 0].norm(dim=1, keepdim=True).clamp_min(torch.finfo(ways.dtype).tiny)
    eye = torch.eye(d, dtype=nodes.dtype, device=nodes.device)
    allowed = eye - first[:, :, None] * first[:, None, :]
    (many,) = strips.corners.nonzero(as_tuple=True)
    if len(many):
        unit = ways[many] / ways[many].norm(dim=2, keepdim=True).clamp_min(torch.finfo(ways.dtype).tiny)
        allowed[many] = eye - torch.linalg.pinv(unit, rtol=1e-7) @ unit
    return torch.where(strips.ends[:, None, None], 0, allowed)
