"""Geodesics whose ends move a little at a time: kept near by a few steps, with factors that were formed before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.excess import hessian_seen
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import comfortable
from geodesic.geometry.pieces import pieced
from geodesic.numerics.block_tridiagonal import BlockCholesky, BlockTridiagonal
from geodesic.numerics.masks import divided
from geodesic.riemannian.records import Record
from geodesic.solvers.krylov import LARGEST_EXPLICIT
from geodesic.solvers.lbfgs import LBFGS
from geodesic.solvers.preconditioner import stiffness
from geodesic.solvers.solver import select
from geodesic.solvers.status import Status

__all__ = ["Quadratic", "Relaxed", "affordable", "energies", "relaxed"]

_SAMPLES, _DAMPING = 4, 1e-3  # of the metric, where a Hessian is not positive definite


@dataclass(frozen=True)
class Quadratic(Record):
    """Energies of paths to second order, formed once: with leading axes (*batch), which index pairs.

    Attributes:
        factors: Of the Hessian of E / T in the interior nodes, or of the stiffness matrix where that is not positive
            definite.
        bend: The Hessian of E in the first node, with the others in their best places, (*batch, d, d): that of half the
            squared distance. NaN where the stiffness matrix stands in.
    """

    factors: BlockCholesky
    bend: Float[Tensor, "*batch d d"]

    @classmethod
    def unknown(cls, batch: tuple[int, ...], like: Float[Tensor, "P nodes d"]) -> Quadratic:
        """What stands where nothing was formed, for paths like these."""
        n, d = like.shape[1] - 2, like.shape[2]
        eye = torch.eye(d, dtype=like.dtype, device=like.device)
        identity = BlockTridiagonal(eye.expand(*batch, n, d, d), like.new_zeros(*batch, n - 1, d, d))
        return cls(identity.cholesky(), like.new_full((*batch, d, d), torch.nan))

    @classmethod
    def at(cls, manifold: Manifold, path: Float[Tensor, "P nodes d"]) -> Quadratic:
        """For paths (P, T + 1, d), at 2 + 2 d decoder passes.

        With a mirror image of its second node before it, the first node is an interior one, whose block is doubled.
        """
        T, eps = path.shape[1] - 1, torch.finfo(path.dtype).eps
        mirrored = torch.cat([path[:, 1:2], path], dim=1)
        pieces = pieced(manifold, path)
        H = hessian_seen(pieces.expansion(mirrored))
        factors = BlockTridiagonal(H.diagonal[:, 1:], H.upper[:, 1:]).damped(10 * eps).cholesky()
        definite = factors.positive.clone()
        (rows,) = (~definite).nonzero(as_tuple=True)
        if len(rows):
            even = torch.ones_like(path[rows, 1:, 0])
            metric = stiffness(pieces, path[rows], even, min(_SAMPLES, T), _DAMPING)
            factors = factors.with_rows(rows, metric.cholesky())
        coupling = H.upper[:, 0]
        # One system for each coordinate of the first node, which pulls at the second one alone.
        pull = path.new_zeros(path.shape[2], len(path), T - 1, path.shape[2])
        pull[:, :, 0] = coupling.transpose(0, 1)
        follows = factors.solve(pull)[:, :, 0].permute(1, 2, 0)
        bend = T * (H.diagonal[:, 0] / 2 - coupling @ follows)
        return cls(factors, torch.where(definite[:, None, None], bend, torch.nan))

    def of(self, rows: Tensor) -> Quadratic:
        """Those of some pairs: by numbers along the first axis, or by a mask over the leading axes."""
        return Quadratic(self.factors[rows], self.bend[rows])

    def replaced(self, rows: Tensor, other: Quadratic) -> Quadratic:
        """With those of some pairs, chosen as in `of`, taken from another record that has only these."""
        return Quadratic(self.factors.with_rows(rows, other.factors), self.bend.index_put((rows,), other.bend))


def affordable(manifold: Manifold, path: Float[Tensor, "*batch nodes d"]) -> bool:
    """Whether Hessians can be formed along paths, and all their factors kept."""
    n, d = path.shape[-2], path.shape[-1]
    kept = 2 * path.shape[:-2].numel() * n * d * d * path.element_size()
    if d > LARGEST_EXPLICIT or kept > comfortable(path.device):
        return False
    return pieced(manifold, path).forms_hessian


class Relaxed(NamedTuple):
    """Paths, their energies, and the steps that they took."""

    path: Float[Tensor, "P nodes d"]
    energy: Float[Tensor, " P"]
    steps: Int[Tensor, " P"]


def relaxed(
    manifold: Manifold,
    path: Float[Tensor, "P nodes d"],
    factors: BlockCholesky | None,
    tol: Float[Tensor, " P"],
    max_steps: int,
) -> Relaxed:
    """Improve paths with fixed ends by L-BFGS until their own estimate of the relative excess energy is small enough.

    Nothing is certified and no length is measured: a step costs two decoder passes.

    Args:
        manifold: Where.
        path: Nodes at equal times.
        factors: Of a Hessian from near by, which precondition the steps; None for a few samples of the metric.
        tol: Relative excess energy at which a path is left as it is.
        max_steps: Most steps for any path.
    """
    pieces, solver = pieced(manifold, path), LBFGS()
    state = _begun(pieces, path, factors)
    moving = ~_still(path)  # elsewhere all energy is the decoder's rounding
    path, energy, steps = path.clone(), state.energy.clone(), torch.zeros_like(state.status)
    rows = torch.arange(len(path), device=path.device)
    for step in range(max_steps + 1):
        going = (state.excess > tol[rows]) & (state.status == Status.RUNNING) & moving[rows]
        kept, gone = divided(going if step < max_steps else torch.zeros_like(going))
        if len(gone):
            path[rows[gone]], energy[rows[gone]], steps[rows[gone]] = state.path[gone], state.energy[gone], step
        if not len(kept):
            break
        state, rows = solver.step(pieces, select(state, kept)), rows[kept]
    return Relaxed(path, torch.where(moving, energy, 0), steps)


def energies(manifold: Manifold, path: Float[Tensor, "P nodes d"]) -> Float[Tensor, " P"]:
    """Energies of paths as they are; zero between equal ends."""
    with torch.no_grad():
        energy = (path.shape[1] - 1) / 2 * pieced(manifold, path).squared_chords(path).sum(-1)
    return torch.where(_still(path), 0, energy)


def _begun(manifold: Manifold, path: Float[Tensor, "P nodes d"], factors: BlockCholesky | None) -> Any:
    """The state of L-BFGS at paths, with its own preconditioner or with the factors."""
    weights = torch.ones_like(path[:, 1:, 0])
    if factors is None:
        return LBFGS().begin(manifold, path, weights)
    state = LBFGS(metric_samples=0).begin(manifold, path, weights)
    direction = factors.solve(state.gradient)
    excess = (path.shape[1] - 1) / 2 * (state.gradient * direction).sum((1, 2)) / state.energy
    running = torch.full_like(state.status, Status.RUNNING)
    return state._replace(preconditioner=factors, direction=direction, excess=excess, status=running)


def _still(path: Float[Tensor, "P nodes d"]) -> Bool[Tensor, " P"]:
    """Which paths have equal ends, where the decoder's rounding leaves traces."""
    return (path[:, 0] == path[:, -1]).all(-1)
