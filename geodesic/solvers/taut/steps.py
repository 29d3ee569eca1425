"""Steps of polygons along the faces that their nodes lie on: whole, damped, or up to where faces end."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.geometry.strips import Strips, on_face
from geodesic.geometry.taut_lengths import DAMPINGS, LengthModel
from geodesic.numerics.block_tridiagonal import BlockTridiagonal
from geodesic.solvers.taut.polygons import Found, Pieces, Polygons

__all__ = ["DECREASE", "Steps"]

DECREASE = 0.1
"""Of what Newton promises, that a step across faces has to gain."""

_FEW = 0.25  # of the nodes, up to which it pays to look for those that a step stops
_MANY, _FIRST = 64, 1e-3  # nodes, and the damping that is tried first where there are more
_PARTS = (0.25, 0.05, 0.01)  # of a step
_STOPS = 24  # rounds in which nodes are found that a step would push beyond their face
_BEFORE = 0.999  # of the way to a border: where its normal is asked for
_UNSOLVED = 1e-6  # of a gradient: what is left of it where a model has no least step
_SOON, _AT_ONCE = 2.0, 0.05  # times the share of its step at which the first one stops, and that share: with it stop


@dataclass(frozen=True)
class Steps:
    """Steps of polygons.

    Attributes:
        pieces: Through which they go.
        strips: The polygons.
    """

    pieces: Pieces
    strips: Strips

    def best(
        self, length: Float[Tensor, " P"], model: LengthModel, loose: Bool[Tensor, " P"], long: Bool[Tensor, " P"]
    ) -> tuple[Found, Float[Tensor, " P"]]:
        """Shorter polygons by steps of a model, and by how much it promises that they are at the borders of faces.

        The latter, relative to energies, where it was asked for; NaN elsewhere.

        Args:
            length: Of the polygons.
            model: Around them.
            loose: Which of them are to take steps.
            long: Which are only to take those that move them as a whole: stretches of them move apart.
        """
        same = Found(self.strips, length)
        promised, step = torch.full_like(length, torch.nan), model.step.direction
        loose = loose & step.isfinite().flatten(1).all(1)
        step = self.limited(torch.where(loose[:, None, None], step, 0))
        reach = self._reach(step)
        blocked = loose & (reach < 1).any(1)
        # Through many faces the whole step leads astray, as a rule: nodes slide, and come to where their faces end.
        many = blocked & (self.strips.pair.bincount() > _MANY)
        damped = self._damped(model, _FIRST, many)
        found = self.pieces.best(same, [self._moved(torch.where(many[:, None, None], damped, step))], loose)
        enough = length * (1 - DECREASE * model.step.excess)
        left = loose & ~(found.length < torch.where(blocked, enough, length))
        if not bool(left.any()):
            return found, promised
        least = reach.amin(1).clamp(max=1)[:, None, None]
        tries = [self._moved(self._damped(model, share, loose)) for share in DAMPINGS]
        few = blocked & ~long & ((reach < 1).sum(1) <= _FEW * reach.shape[1])
        if bool(few.any()):
            tries.append(self._moved(self._stopped(model, step, few)[0]))
        better = self.pieces.best(found, tries, left)
        left = left & ~long & ~(better.length < length)
        if not bool(left.any()):
            return better, promised
        stopped, fixed = self._stopped(model, step, left)
        promised = torch.where(left, 2 * self._most(model, stopped, fixed) / length, promised)
        tries = [self._moved(stopped), self._moved(least * step)]
        tries += [self._moved(share * step) for share in _PARTS]
        tries += [self._moved(alone) for alone in self._alone(model, left)]
        return self.pieces.best(better, tries, left), promised

    def _damped(self, model: LengthModel, share: float, asked: Bool[Tensor, " P"]) -> Float[Tensor, "P interior d"]:
        """Steps with which paths turn less: sliding along faces costs more, as for nodes that have their times."""
        if not bool(asked.any()):
            return torch.zeros_like(model.gradient)
        return self.limited(torch.where(asked[:, None, None], model.damped(share).nan_to_num(0.0), 0))

    def settled(self, step: Float[Tensor, "P interior d"], taut: Bool[Tensor, " P"]) -> Strips:
        """Polygons that are taut after the step that was too small to be taken, as far as faces let it."""
        step = torch.where(taut[:, None, None], step.nan_to_num(0.0), 0)
        share = self._reach(step).clamp(max=1)[..., None]
        return replace(self.strips, nodes=self._moved(share * step).nodes)

    def limited(self, step: Float[Tensor, "P interior d"]) -> Float[Tensor, "P interior d"]:
        """Steps that move no node farther than polygons are long: far away there are faces without number."""
        size = self.strips.nodes.diff(dim=0).norm(dim=1)
        size = torch.where(self.strips.first[1:], 0, size)
        long = torch.zeros_like(step[:, 0, 0]).index_add(0, self.strips.pair[1:], size)
        farthest = step.norm(dim=2).amax(1).clamp_min(torch.finfo(step.dtype).tiny)
        return step * (long / farthest).clamp(max=1)[:, None, None]

    def _full(self, step: Float[Tensor, "P interior d"]) -> Float[Tensor, "R d"]:
        """Steps of the interior nodes, (P, n - 2, d), of all nodes one after the other."""
        padded = torch.nn.functional.pad(step, (0, 0, 1, 1))
        moved = padded[self.strips.pair, self.strips.place.clamp(max=padded.shape[1] - 1)]
        return torch.where(self.strips.ends[:, None], 0, moved)

    def _moved(self, step: Float[Tensor, "P interior d"]) -> Polygons:
        return Polygons(self.strips.nodes - self._full(step), self.strips.pair, self.strips.within)

    def _reach(self, step: Float[Tensor, "P interior d"]) -> Float[Tensor, "P interior"]:
        """The share of its step at which each node comes to the border of its face, infinite where it does not."""
        moved = self._moved(step).nodes
        a, b = self.pieces.faces.heights(self.strips.nodes), self.pieces.faces.heights(moved)
        share = torch.where(on_face(a, self.pieces.scale) * on_face(b, self.pieces.scale) < 0, a / (a - b), torch.inf)
        if share.shape[1]:
            rows, places = (self.strips.units >= 0).nonzero(as_tuple=True)
            share[rows, self.strips.units[rows, places]] = torch.inf
        reach = torch.where(self.strips.within | self.strips.ends, torch.inf, share.amin(1))
        reach = self.strips.padded(reach)[:, 1:-1]
        interior = torch.arange(1, reach.shape[1] + 1, device=reach.device) < self.strips.pair.bincount()[:, None] - 1
        return torch.where(interior, reach, torch.inf)

    def _alone(self, model: LengthModel, asked: Bool[Tensor, " P"]) -> list[Float[Tensor, "P interior d"]]:
        """Steps of every other node, each as far as its own face goes, while its neighbors stay where they are.

        None of them waits for another that has come to the border of its face.
        """
        step = torch.linalg.solve_ex(model.convex.diagonal, model.gradient[..., None]).result[..., 0].nan_to_num(0.0)
        step = self.limited(torch.where(asked[:, None, None], step, 0))
        step = self._reach(step).clamp(max=1)[..., None] * step
        even = torch.arange(step.shape[1], device=step.device)[:, None] % 2 == 0
        return [torch.where(even, step, 0), torch.where(even, 0, step)]

    def _stopped(
        self, model: LengthModel, step: Tensor, blocked: Bool[Tensor, " P"]
    ) -> tuple[Float[Tensor, "P interior d"], Bool[Tensor, "P interior"]]:
        """The step of least modeled length with nodes stopped where their faces end: those first that come there first.

        Round by round, since the others take shorter steps where these have stopped. And which nodes have.
        """
        fixed = torch.zeros_like(step[..., 0], dtype=torch.bool)
        held, eye = torch.zeros_like(step), torch.eye(step.shape[-1]).to(step)
        for _ in range(_STOPS):
            reach = torch.where(fixed, torch.inf, self._reach(step))
            soon = (_SOON * reach.amin(1, keepdim=True)).clamp_min(_AT_ONCE)
            new = (reach < 1) & (reach <= soon) & blocked[:, None]
            if not bool(new.any()):
                break
            held = torch.where(new[..., None], reach.clamp(max=1)[..., None] * step, held)
            fixed |= new
            free = ~fixed[..., None, None]
            diagonal = torch.where(free, model.hessian.diagonal, eye)
            upper = torch.where(free[:, :-1] & free[:, 1:], model.hessian.upper, 0)
            right = torch.where(fixed[..., None], 0, model.gradient - model.hessian @ held)
            step = BlockTridiagonal(diagonal, upper).damped(1e-12).cholesky().solve(right).nan_to_num(0.0)
            step = torch.where(fixed[..., None], held, step)
        left = torch.where(fixed, torch.inf, self._reach(step)).amin(1).clamp(max=1)
        return torch.where(fixed[..., None], step, left[:, None, None] * step), fixed

    def _most(self, model: LengthModel, step: Tensor, fixed: Bool[Tensor, "P interior"]) -> Float[Tensor, " P"]:
        """By how much polygons become shorter at most before nodes come to borders, by the model; infinite if unknown.

        To what a step with stopped nodes promises comes what those gain that want to go back, or along the border.
        """
        slope = model.gradient - model.hessian @ step
        along = (slope * step).sum(2)
        back, aside = (-along).clamp_min(0), self._beside_borders(model, slope, step) * step.norm(dim=2)
        more = torch.where(fixed, back + aside, 0).sum(1)
        promised = model.promised(step)
        free = torch.where(fixed[..., None], 0, slope).flatten(1).norm(dim=1)
        unknown = (free > _UNSOLVED * model.gradient.flatten(1).norm(dim=1)) | ~(promised >= 0)
        return torch.where(unknown, torch.inf, promised + more)

    def _beside_borders(self, model: LengthModel, slope: Tensor, step: Tensor) -> Float[Tensor, "P interior"]:
        """How steep the length is at stopped nodes along the borders at which they are."""
        nodes, faces = self.strips.nodes, self.pieces.faces
        moved = self._moved(step).nodes
        heights = faces.heights(moved).abs() / self.pieces.scale.clamp_min(torch.finfo(moved.dtype).tiny)
        rows, places = (self.strips.units >= 0).nonzero(as_tuple=True)
        heights[rows, self.strips.units[rows, places]] = torch.inf
        normal = faces.normals(torch.lerp(nodes, moved, _BEFORE), heights.argmin(1))
        normal = (model.allowed @ self.strips.padded(normal)[:, 1:-1, :, None])[..., 0]
        normal = torch.nn.functional.normalize(normal, dim=2)
        return (slope - (slope * normal).sum(2, keepdim=True) * normal).norm(dim=2)
