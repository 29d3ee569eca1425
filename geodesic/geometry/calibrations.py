"""Where a path passes a place at which several faces meet: what it would gain on a way through a piece beside it.

k faces divide the neighborhood of such a place into 2^k pieces, in each of which the decoder is linear. Let a function
be linear in each piece, grow along the path as the path does, and nowhere grow by a step from piece to piece that leads
on. Where its gradient p is in no piece longer than 1 it calibrates the path: no curve past the place is shorter. Where
it is longer in a piece, by

    s = max <p, v> - |v|    over steps v, |v| = 1, that enter the piece by one face and leave it by another,

a way through it gains s for its length, and loses by going there: as much as the quadratic form says by which the
segments before and behind grow.

Reference:
    R. Harvey, H. B. Lawson, Calibrated geometries, 1982.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.door.faces import Faces
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.strips import on_face

__all__ = ["Ways", "ways_of"]

_MOST_FACES = 5  # that meet, up to which the 2^k pieces between them are looked at
_SMALL = 0.01  # of the nearer neighbor's distance: how far from a corner it is looked at
_SINGULAR = 1e-10  # of the largest eigenvalue of a metric
_SWEEPS = 2  # over faces that the path touches
_HALVINGS = 60  # to find how long a way is
_LOST = 1e-6  # of a gradient: how much of it may lie where the metric is singular
_NONE = 1e-12  # by how much longer than 1 a gradient may be by rounding


@dataclass(frozen=True)
class Ways:
    """Ways past corners.

    Attributes:
        far: By how much a path becomes shorter at most, to second order, if all of it turns up to where it may bend
            again, (M,); NaN where it is not known.
        near: The same if no more of it turns than the segments beside the corner, (M,).
        enters: Where the best way enters its piece, relative to the corner, (M, d).
        leaves: Where it leaves it, (M, d).
    """

    far: Float[Tensor, " M"]
    near: Float[Tensor, " M"]
    enters: Float[Tensor, "M d"]
    leaves: Float[Tensor, "M d"]


@torch.no_grad()
def ways_of(
    manifold: Manifold,
    faces: Faces,
    corner: Float[Tensor, "M 3 d"],
    units: Int[Tensor, "M F"],
    free: Float[Tensor, "M 2"],
) -> Ways:
    """Ways past corners at which several faces meet independently.

    Args:
        manifold: With an embedding.
        faces: Of its decoder.
        corner: The node before each corner, the corner itself, and the node after it.
        units: Whose faces meet there, filled up with -1.
        free: How many times as long as its segments a path is up to where it may bend again, before and behind.
    """
    nothing = torch.full_like(corner[:, 0, 0], torch.nan)
    ways = Ways(nothing, nothing.clone(), torch.zeros_like(corner[:, 0]), torch.zeros_like(corner[:, 0]))
    count = (units >= 0).sum(1)
    for k in count[(count > 1) & (count <= _MOST_FACES)].unique().tolist():
        (rows,) = (count == k).nonzero(as_tuple=True)
        order = (units[rows] >= 0).int().argsort(dim=1, descending=True, stable=True)[:, :k]
        around = _Around.of(manifold, faces, corner[rows], units[rows].gather(1, order))
        for name, value in vars(around.ways(free[rows])).items():
            getattr(ways, name)[rows] = value
    return ways


@dataclass(frozen=True)
class _Around:
    """What is around corners of k faces: in each piece, C = 2^k, which lies behind some of the faces.

    Attributes:
        crossed: Which of the faces the path crosses, (M, k): of the others it comes back to the same side.
        behind: Behind which faces each piece lies, (C, k): the path comes from none.
        last: The piece to which the path leads, (M,).
        normals: Of the faces, pointing behind them, as they are in a piece, (M, C, k, d).
        metric: (M, C, d, d).
        into: The unit covector of the segment before, (M, d).
        out: Of the one behind.
        arms: Lengths of these segments, (M, 2).
        known: Where pieces were found on all sides, (M,).
    """

    crossed: Bool[Tensor, "M k"]
    behind: Bool[Tensor, "C k"]
    last: Int[Tensor, " M"]
    normals: Float[Tensor, "M C k d"]
    metric: Float[Tensor, "M C d d"]
    into: Float[Tensor, "M d"]
    out: Float[Tensor, "M d"]
    arms: Float[Tensor, "M 2"]
    known: Bool[Tensor, " M"]

    @classmethod
    def of(cls, manifold: Manifold, faces: Faces, corner: Float[Tensor, "M 3 d"], units: Int[Tensor, "M k"]) -> _Around:
        before, at, after = corner.unbind(1)
        M, k = units.shape
        size = torch.stack([(before - at).norm(dim=1), (after - at).norm(dim=1)])
        near = (_SMALL * size.amin(0)).minimum(torch.finfo(at.dtype).eps ** (3 / 8) * (1 + at.norm(dim=1)))
        ends = zip((before, after), size, strict=True)
        beside = torch.stack([torch.lerp(at, x, (near / length)[:, None]) for x, length in ends], dim=1)
        signs = on_face(_heights(faces, beside, units), _heights(faces, corner, units).abs().amax(1, keepdim=True))
        first, second = signs.to(at).unbind(1)
        crossed = first * second < 0
        behind = torch.cartesian_prod(*[torch.tensor([False, True], device=at.device)] * k).reshape(-1, k)
        sides = torch.where(behind, -first[:, None], first[:, None])
        points, normals, found = _pieces(faces, at, units, sides * near[:, None, None])
        J = manifold.jacobian(points)
        chords = manifold.observe(corner.flatten(0, 1)).flatten(1).unflatten(0, (M, 3)).diff(dim=1)
        arms = chords.norm(dim=2)
        into, out = (chords / arms[..., None])[..., None].unbind(1)
        last = (crossed * 2 ** torch.arange(k - 1, -1, -1, device=at.device)).sum(1)
        return cls(
            crossed,
            behind,
            last,
            -first[:, None, :, None] * normals,
            J.mT @ J,
            (J[:, 0].mT @ into)[..., 0],
            (J[torch.arange(M, device=at.device), last].mT @ out)[..., 0],
            arms,
            found & (first * second != 0).all(1),
        )

    def at_last(self, values: Float[Tensor, "M C ..."]) -> Tensor:
        """Those of the piece to which the path leads, (M, ...)."""
        return values[torch.arange(len(values), device=values.device), self.last]

    def slopes(self, white: Float[Tensor, "M C d d"]) -> tuple[Tensor, Bool[Tensor, " M"]]:
        """Gradients of a function that grows as the path does, (M, C, d), as short as they may be; where there is one.

        It is given by how fast it grows with the height of each face on both of its sides. On a side to which the path
        does not come it grows as it likes, and beside a face that the path touches as fast as anything between what
        it does before and behind; only, from piece to piece it must not grow.

        Args:
            white: From orthonormal coordinates of steps in a piece to latent ones.
        """
        M, C, k, _ = self.normals.shape
        ends = ((self.into, self.normals[:, 0]), (self.out, self.at_last(self.normals)))
        grows = [(_dual(n).mT @ v[..., None])[..., 0] for v, n in ends]
        along = [v - (g[:, None] @ n)[:, 0] for g, (v, n) in zip(grows, ends, strict=True)]
        before, after = grows
        size = (self.normals[:, 0] @ white[:, 0]).norm(dim=2)
        known = (self.crossed | ((before - after) * size <= _LOST)).all(1)
        after = torch.where(self.crossed, after, after.maximum(before))
        growth = torch.where(self.behind & self.crossed[:, None], after[:, None], before[:, None])
        base = (along[0] + along[1])[:, None] / 2
        normals = self.normals @ white
        for _ in range(_SWEEPS):
            for i in (~self.crossed).any(0).nonzero()[:, 0].tolist():
                p = ((base + (growth[:, :, None] @ self.normals)[:, :, 0])[:, :, None] @ white)[:, :, 0]
                n = normals[:, :, i]
                best = growth[..., i] - (p * n).sum(2) / n.square().sum(2).clamp_min(torch.finfo(n.dtype).tiny)
                for c in range(C):
                    value, beyond = best[:, c], bool(self.behind[c, i])
                    if not beyond:
                        value = value.maximum(before[:, i]).minimum(after[:, i])
                    for j in self.behind[c].nonzero()[:, 0].tolist():
                        if j != i:  # from the piece on the other side of face j the path leads here
                            there = best[:, c - 2 ** (k - 1 - j)]
                            leads = value.minimum(there) if beyond else value.maximum(there)
                            value = torch.where(self.crossed[:, j], leads, value)
                    best[:, c] = value
                best[:, 0] = before[:, i]
                best[torch.arange(M, device=best.device), self.last] = after[:, i]
                growth[..., i] = torch.where(self.crossed[:, None, i], growth[..., i], best)
        return base + (growth[:, :, None] @ self.normals)[:, :, 0], known

    def ways(self, free: Float[Tensor, "M 2"]) -> Ways:
        """Those on which most is gained."""
        M, C, k, d = self.normals.shape
        scale, basis = torch.linalg.eigh(self.metric)
        inside = scale > _SINGULAR * scale[..., -1:]
        white = basis * (torch.where(inside, scale, 1).rsqrt() * inside)[..., None, :]
        slopes, known = self.slopes(white)
        # Where a step costs nothing nothing is calibrated.
        lost = ((slopes[:, :, None] @ basis)[:, :, 0] * ~inside).norm(dim=2)
        slopes, normals = (slopes[:, :, None] @ white)[:, :, 0], self.normals @ white
        known = known & self.known & (lost <= _LOST * (1 + slopes.norm(dim=2))).all(1)
        beside = torch.ones(M, C, dtype=torch.bool, device=free.device)
        beside[:, 0] = False  # where the path itself goes, as the function grows
        beside[torch.arange(M, device=free.device), self.last] = False
        beside &= known[:, None]
        side = torch.where(self.behind, 1.0, -1.0).to(slopes)[..., None]
        far, near = torch.zeros(2, M).to(slopes)
        enters, leaves = torch.zeros(2, M, d).to(slopes)
        for i, j in itertools.permutations(range(k), 2):
            leads = (self.behind[:, i] | ~self.crossed[:, None, i]) & (~self.behind[:, j] | ~self.crossed[:, None, j])
            p = _shortened(slopes, (side * normals)[:, :, i], -(side * normals)[:, :, j])
            m, c = ((p.norm(dim=2) > 1 + _NONE) & beside & leads).nonzero(as_tuple=True)
            if not len(m):
                continue
            through = _Through(self, m, c, i, j, white[m, c], p[m, c])
            for arms, best in ((self.arms * free, far), (self.arms, near)):
                gain, enter, leave = through.way(arms[m])
                best.scatter_reduce_(0, m, gain, "amax")
                if best is near:
                    (largest,) = (gain == near[m]).nonzero(as_tuple=True)
                    enters[m[largest]], leaves[m[largest]] = enter[largest], leave[largest]
        return Ways(torch.where(known, far, torch.nan), torch.where(known, near, torch.nan), enters, leaves)


@dataclass(frozen=True)
class _Through:
    """Ways through pieces, n of them, from their face i to their face j.

    Attributes:
        around: The corners.
        m: Their numbers, (n,).
        c: The pieces, (n,).
        i: The face by which pieces are entered.
        j: The face by which they are left.
        white: From orthonormal coordinates of steps in the piece to latent ones, (n, d, d).
        p: What steps gain, in orthonormal coordinates, (n, d).
    """

    around: _Around
    m: Int[Tensor, " n"]
    c: Int[Tensor, " n"]
    i: int
    j: int
    white: Float[Tensor, "n d d"]
    p: Float[Tensor, "n d"]

    def way(self, arms: Float[Tensor, "n 2"]) -> tuple[Tensor, Tensor, Tensor]:
        """By how much the best way is shorter, (n,), where it enters the piece and where it leaves it, (n, d).

        max <p, v> - |v| - <v, Q v> / 2 over steps v: Q says how much longer than straight the segments beside are.
        """
        A = [
            (G - x[:, :, None] * x[:, None]) / length[:, None, None]
            for G, x, length in zip(
                (self.around.metric[self.m, 0], self.around.at_last(self.around.metric)[self.m]),
                (self.around.into[self.m], self.around.out[self.m]),
                arms.unbind(1),
                strict=True,
            )
        ]
        pair = self.around.normals[self.m, self.c][:, [self.i, self.j]]
        dual = torch.linalg.pinv(pair)
        eye = torch.eye(pair.shape[2]).to(pair)
        along = eye - dual @ pair  # both faces
        enter = -dual[:, :, 1:] @ pair[:, 1:]  # from a step to where it begins, up to what is along both faces
        held = torch.linalg.pinv(along @ (A[0] + A[1]) @ along, hermitian=True)
        enter = enter - held @ along @ (A[0] @ enter + A[1] @ (enter + eye))
        leave = enter + eye
        Q = self.white.mT @ (enter.mT @ A[0] @ enter + leave.mT @ A[1] @ leave) @ self.white
        bend, axes = torch.linalg.eigh((Q + Q.mT) / 2)
        bend, b = bend.clamp_min(0), (axes.mT @ self.p[..., None])[..., 0]
        # |v| is where (1 + |v| Q) v = |v| p; no way through a piece is longer than the segments.
        most = arms.sum(1)
        low, high = 1e-15 * most, most
        for _ in range(_HALVINGS):
            r = (low * high).sqrt()
            longer = (b / (1 + r[:, None] * bend)).norm(dim=1) > 1
            low, high = torch.where(longer, r, low), torch.where(longer, high, r)
        v = high[:, None] * b / (1 + high[:, None] * bend)
        gain = ((b - bend * v / 2) * v).sum(1) - high
        step = self.white @ axes @ v[..., None]
        return gain.clamp_min(0), (enter @ step)[..., 0], (leave @ step)[..., 0]


def _heights(faces: Faces, points: Float[Tensor, "M A d"], units: Int[Tensor, "M k"]) -> Float[Tensor, "M A k"]:
    heights = faces.heights(points.flatten(0, 1)).unflatten(0, points.shape[:2])
    return heights.gather(2, units[:, None].expand(-1, points.shape[1], -1))


def _pieces(
    faces: Faces, at: Float[Tensor, "M d"], units: Int[Tensor, "M k"], target: Float[Tensor, "M C k"]
) -> tuple[Tensor, Tensor, Bool[Tensor, " M"]]:
    """A point in each piece, (M, C, d), the faces' normals there, (M, C, k, d), and where all of them were found.

    Faces of later layers bend where they meet those of earlier ones: in each piece they have normals of their own.
    """
    C, k = target.shape[1:]
    points = at[:, None].expand(-1, C, -1)
    heights, found = torch.zeros_like(target), torch.zeros_like(at[:, 0], dtype=torch.bool)
    for turn in range(k + 2):
        flat = points.flatten(0, 1)
        rows = torch.arange(len(flat), device=at.device).repeat_interleave(k)
        normals = faces.normals(flat[rows], units[:, None].expand(-1, C, -1).flatten())
        normals = normals.unflatten(0, (len(at), C, k))
        if turn:
            heights = _heights(faces, points, units)
            found = (heights.sign() == target.sign()).flatten(1).all(1)
            if bool(found.all()):
                break
        size = normals.norm(dim=3)
        points = points + (_dual(normals) @ (target * size - heights)[..., None])[..., 0]
    return points, normals, found


def _dual(normals: Float[Tensor, "*batch k d"]) -> Float[Tensor, "*batch d k"]:
    """Along each of its columns one height grows, and the others do not change."""
    return torch.linalg.pinv(normals)


def _shortened(p: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """The shortest of p + a one + b other, a, b >= 0: no less than p on steps along which both heights grow."""
    tiny = torch.finfo(p.dtype).tiny

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(-1, keepdim=True)

    aa, ab, bb = (
        dot(x, y).clamp_min(tiny) if x is y else dot(x, y) for x, y in ((one, one), (one, other), (other, other))
    )
    pa, pb = dot(p, one), dot(p, other)
    det = aa * bb - ab.square()
    both = ((ab * pb - bb * pa) / det, (ab * pa - aa * pb) / det)
    zero = torch.zeros_like(pa)
    best = p
    for a, b in ((-pa / aa, zero), (zero, -pb / bb), both):
        new = p + a * one + b * other
        better = (a >= 0) & (b >= 0) & (new.norm(dim=-1, keepdim=True) < best.norm(dim=-1, keepdim=True))
        best = torch.where(better, new, best)
    return best
