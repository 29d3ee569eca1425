"""The length of polygons through faces to second order in their nodes, each of which moves along its faces."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.door.faces import Faces
from geodesic.geometry.excess import NewtonStep, newton_step
from geodesic.geometry.manifold import Expansion, Manifold
from geodesic.geometry.strips import Strips
from geodesic.numerics.block_tridiagonal import BlockTridiagonal

__all__ = ["DAMPINGS", "LengthModel", "length_model"]

DAMPINGS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Shares of the energy's Hessian in that of the length, with which steps are tried."""

_BELIEVED = 10.0  # times what the second one promises: more is not to be had before nodes come to where faces meet


@dataclass(frozen=True)
class LengthModel:
    """The quadratic model of the length around polygons: padded ones, (P, n, d).

    Attributes:
        gradient: (P, n - 2, d).
        hessian: Of the length, in the directions in which nodes may move.
        convex: That of the energy at fixed times, without its negative curvature: sliding costs what turning does.
        step: Newton's.
    """

    gradient: Float[Tensor, "P interior d"]
    hessian: BlockTridiagonal
    convex: BlockTridiagonal
    step: NewtonStep

    def damped(self, share: float) -> Float[Tensor, "P interior d"]:
        """The step with some of the energy's Hessian in place of the length's; NaN where that is not positive."""
        H, K = self.hessian, self.convex
        mixed = BlockTridiagonal(torch.lerp(H.diagonal, K.diagonal, share), torch.lerp(H.upper, K.upper, share))
        return mixed.damped(1e-10).cholesky().solve(self.gradient)


def length_model(manifold: Manifold, faces: Faces, strips: Strips, length: Float[Tensor, " P"]) -> LengthModel:
    """Of the length, in the directions in which nodes may move: along their faces, or across the path."""
    path = strips.padded()
    allowed = strips.padded(_allowed(faces, strips))[:, 1:-1]
    count = strips.pair.bincount()[:, None]
    place = torch.arange(path.shape[1], device=path.device)
    interior = (place < count - 1)[:, 1:-1]
    allowed = torch.where(interior[..., None, None], allowed, 0)
    chords = manifold.squared_chords(path).clamp_min(0).sqrt()
    weights = torch.where(chords > 1e-12 * length[:, None], 1 / chords, 0)
    found = manifold.expansion(path, weights)
    assert found.sides is not None
    into, out = found.sides.unbind(2)
    cubes = weights**3
    less = (cubes[:, :-1, None, None] * into[..., None] * into[..., None, :]) + (
        cubes[:, 1:, None, None] * out[..., None] * out[..., None, :]
    )
    more = cubes[:, 1:-1, None, None] * out[:, :-1, :, None] * into[:, 1:, None, :]

    def projected(matrix: BlockTridiagonal, rows: Tensor, slides: bool) -> BlockTridiagonal:
        a, part = allowed[rows], float(slides)
        diagonal = a @ (matrix.diagonal - part * less[rows]) @ a
        upper = a[:, :-1] @ (matrix.upper + part * more[rows]) @ a[:, 1:]
        size = diagonal.diagonal(dim1=-2, dim2=-1).sum((1, 2)) / a.diagonal(dim1=-2, dim2=-1).sum((1, 2)).clamp_min(1)
        size = torch.where(size > 0, size, 1)
        fixed = torch.eye(a.shape[-1]).to(a) - a
        diagonal = (diagonal + diagonal.mT) / 2 + size[:, None, None, None] * fixed
        return BlockTridiagonal(diagonal, upper)

    def convexified(rows: Tensor, share: float) -> BlockTridiagonal:
        return projected(found.convexified(rows, share), rows, slides=True)

    everything = torch.arange(len(path), device=path.device)
    gradient = (allowed @ found.gradient[..., None])[..., 0]
    hessian = projected(found.hessian, everything, slides=True)
    convex = projected(found.convexified(everything, 0.0), everything, slides=False)
    model = LengthModel(gradient, hessian, convex, newton_step(Expansion(chords, gradient, hessian, convexified)))
    # A node near where faces meet may seem to slide far beyond: that little of its gain is real.
    promised = _BELIEVED * (gradient * model.damped(DAMPINGS[1])).sum((1, 2)) / length
    # Sums of chords change with where nodes are, by their share of the error: so little curvature is none.
    step = replace(
        model.step,
        excess=torch.where(model.step.excess > promised, promised, model.step.excess),
        minimum=model.step.minimum | promised.isfinite(),
    )
    return replace(model, step=step)


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
    return allowed
