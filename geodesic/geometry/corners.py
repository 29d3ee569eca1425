"""Where a polygon passes through a place at which faces meet: whether it would be shorter on either side of it.

The neighborhood of such a place is a cone of flat sectors times the directions along which the faces go on together. A
curve through its tip is a shortest path there if, and only if, it leaves an angle of at least pi on both sides.

Reference:
    N. Sharp, K. Crane, You Can Find Geodesic Paths in Triangle Meshes by Just Flipping Edges, 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.door.faces import Faces

__all__ = ["Sides", "sides_of"]

_DIRECTIONS = 32  # around a corner, at which it is seen which unit is positive
_HALVINGS = 40  # to find where a unit changes sign
_SMALL = 0.01  # of the nearer neighbor's distance: how far from a corner it is looked at


@dataclass(frozen=True)
class Sides:
    """The better side of corners, (M,), and a way around them there.

    Attributes:
        angle: Smaller one of the two that a path leaves, (M,); NaN where more than two faces meet independently.
        arms: Lengths of the segments to a corner and from it, without their part along the faces, (M, 2).
        free: How many times as long the path is up to where it may bend again, (M, 2): about a corner all of it turns.
        way: Points of the way around, (M, W, d): on the faces that it crosses, where a straight line in the unfolded
            sectors does.
        crosses: Which of them there are, (M, W), in the order in which they are passed.
    """

    angle: Float[Tensor, " M"]
    arms: Float[Tensor, "M 2"]
    free: Float[Tensor, "M 2"]
    way: Float[Tensor, "M W d"]
    crosses: Bool[Tensor, "M W"]

    @property
    def gain(self) -> Float[Tensor, " M"]:
        """About how much shorter a path becomes by going around, (M,): none where the angle is at least pi."""
        missing = (math.pi - self.angle).clamp_min(0)
        l1, l2 = (self.arms * self.free).unbind(1)
        straight = (l1.square() + l2.square() - 2 * l1 * l2 * self.angle.cos()).clamp_min(0).sqrt()
        return torch.where(missing > 0, l1 + l2 - straight, self.angle * 0)


@torch.no_grad()
def sides_of(
    embed: Callable[[Tensor], Tensor],
    faces: Faces,
    corner: Float[Tensor, "M 3 d"],
    units: Int[Tensor, "M F"],
    normals: Float[Tensor, "M F d"],
) -> Sides:
    """Look around corners.

    Args:
        embed: The embedding x, from (N, d) to (N, ...).
        faces: Of the decoder.
        corner: The node before each corner, the corner itself, and the node after it.
        units: Whose faces meet there, filled up with -1.
        normals: Of these faces; zeros where there is none.
    """
    before, at, after = corner.unbind(1)
    M = len(at)
    plane, along, independent = _planes(normals)
    size = torch.stack([(before - at).norm(dim=1), (after - at).norm(dim=1)]).amin(0)
    eps = torch.finfo(at.dtype).eps
    near = (_SMALL * size).minimum(eps ** (3 / 8) * (1 + at.norm(dim=1)))
    around = _Around(embed, faces, at, plane, units, near)
    inward, outward = (around.angle_of(x - at) for x in (before, after))
    rays = around.rays()
    W = rays.shape[1]
    grid = torch.arange(_DIRECTIONS, dtype=at.dtype, device=at.device) * (2 * math.pi / _DIRECTIONS)
    angles = torch.cat([rays, inward[:, None], outward[:, None], grid.expand(M, -1)], dim=1)  # rays may be NaN
    known = ~angles.isnan()
    order = torch.where(known, angles, 7.0).argsort(dim=1)
    image = around.images(angles.nan_to_num(0.0).gather(1, order), along)
    unit = image / image.norm(dim=2, keepdim=True)
    step = (unit.roll(-1, 1) - unit).norm(dim=2)
    count = known.sum(1)
    place = torch.arange(angles.shape[1], device=at.device)
    last = (count - 1)[:, None]
    # The last known one is followed by the first.
    closing = (unit[:, 0] - unit[torch.arange(M, device=at.device), count - 1]).norm(dim=1, keepdim=True)
    step = torch.where(place < last, step, torch.where(place == last, closing, 0))
    turn = 2 * (step / 2).clamp(max=1).asin()
    total = turn.sum(1)
    upto = torch.nn.functional.pad(turn.cumsum(1), (1, 0))[:, :-1]
    rank = order.argsort(dim=1)
    unfolded = upto.gather(1, rank)
    theta_in, theta_out = unfolded[:, W], unfolded[:, W + 1]
    left = (theta_out - theta_in).remainder(total)
    better = 1 - 2 * (left > total - left).to(left)  # counterclockwise, or clockwise
    angle = torch.where(better > 0, left, total - left)
    lengths = image.norm(dim=2).gather(1, rank)
    arms = torch.stack(
        [lengths[:, W] * around.radius_of(before - at), lengths[:, W + 1] * around.radius_of(after - at)], dim=1
    )
    passed = (better[:, None] * (unfolded[:, :W] - theta_in[:, None])).remainder(total[:, None])
    crosses = known[:, :W] & (passed > 1e-9) & (passed < angle[:, None] - 1e-9)
    l1, l2 = arms[:, :1], arms[:, 1:]
    reach = l1 * l2 * angle.sin()[:, None] / (l1 * passed.sin() + l2 * (angle[:, None] - passed).sin())
    straight = (l1.square() + l2.square() - 2 * l1 * l2 * angle.cos()[:, None]).clamp_min(0).sqrt()
    share = (l1.square() + reach.square() - 2 * l1 * reach * passed.cos()).clamp_min(0).sqrt() / straight
    # Along the faces the straight way goes on as the path does.
    first, last = (
        around.slide(v, angle, along)[:, None] for v, angle in ((before - at, inward), (after - at, outward))
    )
    slide = (1 - share)[..., None] * first + share[..., None] * last
    directions = around.directions(rays.nan_to_num(0.0), along)
    way = at[:, None] + (reach / lengths[:, :W])[..., None] * directions + slide
    sort = torch.where(crosses, passed, 99.0).argsort(dim=1)
    crosses, way = crosses.gather(1, sort), way.gather(1, sort[..., None].expand_as(way))
    usable = (independent == 2) & total.isfinite()
    angle = torch.where(independent == 1, math.pi, torch.where(usable, angle, torch.nan))  # one face is no corner
    return Sides(angle, arms, torch.ones_like(arms), way.nan_to_num(0.0), crosses & usable[:, None])


def _planes(normals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For corners: two latent directions that span the plane across their faces, (M, 2, d), along each of which two
    heights change one by one; projections to the directions along all faces, (M, d, d); how many are independent.
    """
    _, S, V = torch.linalg.svd(normals, full_matrices=False)
    tol = torch.finfo(S.dtype).eps ** 0.5 * S[:, :1]
    rank = (tol < S).sum(1)
    d = normals.shape[2]
    span = torch.where((tol < S)[..., None], V, 0)
    along = torch.eye(d, dtype=V.dtype, device=V.device) - span.mT @ span
    two = normals[:, :2]
    dual = torch.linalg.pinv(two).mT  # rows: along each one height changes, the other does not
    independent = torch.linalg.matrix_rank(two, rtol=1e-6) == 2
    plane = torch.where(independent[:, None, None], dual, V[:, :2] if V.shape[1] > 1 else dual)
    plane = plane / plane.norm(dim=2, keepdim=True)
    return plane, along, rank


@dataclass(frozen=True)
class _Around:
    """What a decoder is on small circles around corners, in the planes across their faces."""

    embed: Callable[[Tensor], Tensor]
    faces: Faces
    at: Float[Tensor, "M d"]
    plane: Float[Tensor, "M 2 d"]
    units: Int[Tensor, "M F"]
    near: Float[Tensor, " M"]

    def angle_of(self, v: Float[Tensor, "M d"]) -> Float[Tensor, " M"]:
        """Of the part of latent vectors in the plane."""
        x = self._coordinates(v)
        return torch.atan2(x[:, 1], x[:, 0]).remainder(2 * math.pi)

    def radius_of(self, v: Float[Tensor, "M d"]) -> Float[Tensor, " M"]:
        return self._coordinates(v).norm(dim=1)

    def _coordinates(self, v: Tensor) -> Float[Tensor, "M 2"]:
        return (torch.linalg.pinv(self.plane.mT) @ v[..., None])[..., 0]

    def _points(self, angles: Float[Tensor, "M A"]) -> Float[Tensor, "M A d"]:
        return self.at[:, None] + self.near[:, None, None] * self._circle(angles)

    def _circle(self, angles: Float[Tensor, "M A"]) -> Float[Tensor, "M A d"]:
        return torch.stack([angles.cos(), angles.sin()], dim=-1) @ self.plane

    def _heights(self, points: Float[Tensor, "M A d"], units: Int[Tensor, "M F"]) -> Float[Tensor, "M A F"]:
        heights = self.faces.heights(points.flatten(0, 1)).unflatten(0, points.shape[:2])
        return heights.gather(2, units[:, None].expand(-1, points.shape[1], -1))

    def rays(self) -> Float[Tensor, "M W"]:
        """Angles at which units change sign, NaN where there are fewer."""
        M = len(self.at)
        grid = torch.arange(_DIRECTIONS, dtype=self.at.dtype, device=self.at.device) + 0.123
        angles = (grid * (2 * math.pi / _DIRECTIONS)).expand(M, -1)
        heights = self._heights(self._points(angles), self.units.clamp_min(0))
        heights = torch.where((self.units >= 0)[:, None], heights, 1.0)
        m, j, f = ((heights > 0) != (heights.roll(-1, 1) > 0)).nonzero(as_tuple=True)
        low, high = angles[m, j], angles[m, j] + 2 * math.pi / _DIRECTIONS
        positive, unit = heights[m, j, f] > 0, self.units[m, f]
        some = _Around(self.embed, self.faces, self.at[m], self.plane[m], unit[:, None], self.near[m])
        for _ in range(_HALVINGS if len(m) else 0):
            middle = (low + high) / 2
            same = (some._heights(some._points(middle[:, None]), unit[:, None])[:, 0, 0] > 0) == positive
            low, high = torch.where(same, middle, low), torch.where(same, high, middle)
        counts = m.bincount(minlength=M)
        rays = torch.full((M, max(int(counts.max()), 1)), torch.nan, dtype=angles.dtype, device=angles.device)
        place = torch.arange(len(m), device=m.device) - (counts.cumsum(0) - counts)[m]
        rays[m, place] = ((low + high) / 2).remainder(2 * math.pi)
        return rays

    def _raw(self, points: Float[Tensor, "M A d"]) -> Float[Tensor, "M A D"]:
        x = self.embed(torch.cat([self.at[:, None], points], dim=1).flatten(0, 1)).flatten(1)
        x = x.unflatten(0, (len(points), -1))
        return (x[:, 1:] - x[:, :1]) / self.near[:, None, None]

    def _basis(self, along: Float[Tensor, "M d d"]) -> tuple[Tensor, Tensor]:
        """Of the directions along the faces, latent ones, (M, r, d), and their images, (M, r, D)."""
        M, d = self.at.shape
        if d == 2:
            return self.at.new_zeros(M, 0, d), self.at.new_zeros(M, 0, 1)
        _, vectors = torch.linalg.eigh(along)
        basis = vectors[..., 2:].mT
        return basis, self._raw(self.at[:, None] + self.near[:, None, None] * basis)

    def images(self, angles: Float[Tensor, "M A"], along: Float[Tensor, "M d d"]) -> Float[Tensor, "M A D"]:
        """Of unit steps at these angles, without their parts along the faces."""
        images = self._raw(self._points(angles))
        basis, tangents = self._basis(along)
        if not basis.shape[1]:
            return images
        return images - self._shares(images, tangents) @ tangents

    def directions(self, angles: Float[Tensor, "M A"], along: Float[Tensor, "M d d"]) -> Float[Tensor, "M A d"]:
        """Latent directions at these angles whose images have no part along the faces."""
        circle = self._circle(angles)
        basis, tangents = self._basis(along)
        if not basis.shape[1]:
            return circle
        return circle - self._shares(self._raw(self._points(angles)), tangents) @ basis

    def slide(self, v: Float[Tensor, "M d"], angle: Float[Tensor, " M"], along: Float[Tensor, "M d d"]) -> Tensor:
        """How far vectors at these angles lead along the faces, as latent vectors there, (M, d)."""
        basis, tangents = self._basis(along)
        if not basis.shape[1]:
            return torch.zeros_like(v)
        image = self._raw(self._points(angle[:, None]))
        shares = self._shares(image, tangents)[:, 0] * self.radius_of(v)[:, None] + (basis @ v[..., None])[..., 0]
        return (shares[:, None] @ basis)[:, 0]

    def _shares(self, images: Tensor, tangents: Tensor) -> Float[Tensor, "M A r"]:
        gram = tangents @ tangents.mT
        return (torch.linalg.pinv(gram, hermitian=True) @ tangents @ images.mT).mT  # where the metric is singular, too
