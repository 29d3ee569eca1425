"""The loop over steps: what a solver does to a batch of paths, in groups that fit into memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.energy import energy_and_gradient
from geodesic.geometry.manifold import Manifold
from geodesic.numerics.masks import divided
from geodesic.solvers.mesh import Mesh
from geodesic.solvers.progress import Report
from geodesic.solvers.solver import Solver, select
from geodesic.solvers.status import Status

__all__ = ["Ended", "Run"]

_PATIENCE = 20  # steps after which a pair is asked whether it still gains
_FAR, _FARTHER = 30.0, 1.01  # times the size of the ends, and times where it was before: a path leads away
_UNSTABLE = 0.01  # part of `tol` that is asked of paths which are no minima, while they move
_HARDLY = 1e-3  # of its energy that it gains by that


class Ended(NamedTuple):
    """Where paths ended.

    Attributes:
        mesh: The paths, and when they pass their nodes.
        status: `Status` of each pair, (P,).
        steps: Taken by each pair, (P,).
        excess: Relative excess energies by the certificates, (P,); NaN where there is none.
        minimum: Whether the certificate says that the path is a strict local minimum, (P,).
        energy: Of the paths, (P,).
        gradient_norm: Of their energies, (P,).
    """

    mesh: Mesh
    status: Int[Tensor, " P"]
    steps: Int[Tensor, " P"]
    excess: Float[Tensor, " P"]
    minimum: Bool[Tensor, " P"]
    energy: Float[Tensor, " P"]
    gradient_norm: Float[Tensor, " P"]


class Run:
    """Paths, and what has become of them.

    Rows of a solver's state are the active pairs of one group; finished ones are written back and leave.

    Args:
        manifold: Where the paths lie.
        mesh: Where they begin, and when they pass their nodes.
        status: `Status` of each pair; those that do not start as `Status.RUNNING` stay as they are.
        size: Most pairs whose energy and gradient are computed at once.
        report: Called with the step, and energies, active and converged pairs, (P,).
    """

    def __init__(
        self,
        manifold: Manifold,
        mesh: Mesh,
        status: Int[Tensor, " P"],
        size: int,
        report: Report,
    ) -> None:
        self.manifold, self._report = manifold, report
        path, self._times = mesh
        self.path, self._weights = path.clone(), mesh.weights
        still = (path[:, 0] == path[:, -1]).all(-1)
        self.path[still] = path[still, :1]
        self.status = torch.where(still, Status.CONVERGED, status)
        self.steps = torch.zeros_like(self.status)
        self.excess = torch.where(still, 0, torch.full_like(path[:, 0, 0], torch.nan))
        self.minimum = still
        # Own estimates at which pairs are asked for certificates, and steps at which they are in any case.
        self._asks, self._latest = torch.zeros_like(self.excess), torch.zeros_like(self.status)
        self._energy, self._slope = (torch.where(still, 0.0, torch.nan).to(path) for _ in range(2))
        (rows,) = ((self.status != Status.RUNNING) & ~still).nonzero(as_tuple=True)
        for some in rows.split(size) if len(rows) else ():  # where nothing runs, what is there is measured
            energy, gradient = energy_and_gradient(manifold, self.path[some], self._weights[some])
            self._energy[some], self._slope[some] = energy, gradient.square().sum((1, 2)).sqrt()

    @property
    def ended(self) -> Ended:
        """Where the paths are by now."""
        return Ended(
            Mesh(self.path, self._times), self.status, self.steps, self.excess, self.minimum, self._energy, self._slope
        )

    def stage(self, solver: Solver[Any], tol: float, max_steps: int, size: int, certified: bool) -> None:
        """Run one solver on the pairs that are not finished, until all their steps are `max_steps`.

        Uncertified ends finish nothing. `size` is the number of pairs that memory allows at once.
        """
        (active,) = (self.status == Status.RUNNING).nonzero(as_tuple=True)
        if not len(active):
            self._tell(int(self.steps.max()))
            return
        for group in active.split(size):
            self._group(solver, group, tol, max_steps, certified)

    def _group(self, solver: Solver[Any], active: Tensor, tol: float, max_steps: int, certified: bool) -> None:
        limit = max_steps - self.steps
        done = int(self.steps[active].max())
        state = solver.begin(self.manifold, self.path[active], self._weights[active])
        active, state = self._admitted(active, state)
        before, reached = (torch.full_like(self._energy, torch.inf) for _ in range(2))
        self._asks[active], self._latest[active] = tol, solver.asks_latest
        for step in range(max_steps + 1):
            self._energy[active] = state.energy
            last = step >= limit[active]
            ended = state.status != Status.RUNNING
            if step % _PATIENCE == 0:
                # Stalled: it gains next to nothing, or at this pace takes more steps for what is left than there are.
                left = state.excess.nan_to_num(0.0, posinf=0.0) * _PATIENCE / max_steps
                gained, reach = before[active] - state.energy, _reach(state.path)
                idle = gained <= left.clamp_min(tol / 1000) * state.energy
                away = (gained <= _HARDLY * state.energy) & (reach > _FAR) & (reach > _FARTHER * reached[active])
                status = torch.where(away, Status.FAR_AWAY, Status.STALLED)
                state = state._replace(status=torch.where((idle | away) & ~ended, status, state.status))
                ended, before = ended | idle | away, self._energy.clone()
                reached[active] = reach
            if certified:
                due = ended | last
                if step % solver.check_every == 0:
                    due |= (state.excess <= self._asks[active]) | (step >= self._latest[active])
                state, gone, kept = self._certified(solver, state, active, due, ended | last, tol)
                self._latest[active] = torch.where(due, max(2 * step, solver.asks_latest), self._latest[active])
            else:
                gone, kept = divided(ended | last | (state.excess <= tol))
            if len(gone):
                rows = active[gone]
                self.path[rows], self.steps[rows] = state.path[gone], self.steps[rows] + step
                self._slope[rows] = (state.path.shape[1] - 1) * state.gradient[gone].square().sum((1, 2)).sqrt()
                active, state = active[kept], select(state, kept)
            self._tell(done + step)
            if not len(active):
                break
            state = solver.step(self.manifold, state)

    def _admitted(self, active: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The pairs that can be worked on: not where the decoder is constant, or not finite."""
        finite = state.energy.isfinite() & state.gradient.isfinite().flatten(1).all(1)
        level = state.energy == 0
        if bool((finite & ~level).all()):
            return active, state
        level = _level(self.manifold, state.path, level)
        gone, kept = divided(level | ~finite)
        rows, energy, level = active[gone], state.energy[gone], level[gone]
        self.status[rows] = torch.where(level, Status.CONVERGED, Status.NOT_FINITE)
        self.excess[rows] = self._slope[rows] = torch.where(level, 0.0, torch.nan).to(energy)
        self.minimum[rows], self._energy[rows] = level, energy
        return active[kept], select(state, kept)

    def _certified(
        self, solver: Solver[Any], state: Any, active: Tensor, due: Tensor, final: Tensor, tol: float
    ) -> tuple[Any, Tensor, Tensor]:
        """Certify the pairs that are due: the state then; which have ended, converged or not, and which go on."""
        asked, others = divided(due)
        if not len(asked):
            return state, asked, others
        rows, final, own = active[asked], final[asked], state.status[asked]
        # Of a pair that ends anyway its excess is wanted, of another one whether it is small enough.
        wanted = torch.full_like(state.energy[asked], tol).masked_fill(final, 0.0)
        certificate = solver.certify(self.manifold, select(state, asked), wanted)
        self.excess[rows], self.minimum[rows] = certificate.excess, certificate.minimum
        # Beside a saddle point a path can lose far more than its model says, which is made convex there.
        enough = torch.where(certificate.minimum | final, tol, _UNSTABLE * tol)
        converged = certificate.excess <= enough
        status = torch.where(own == Status.RUNNING, Status.MAX_STEPS, own)
        status = torch.where(final, status, Status.RUNNING)
        self.status[rows] = torch.where(converged, Status.CONVERGED, status)
        gone, kept = divided(torch.zeros_like(due).index_put((asked,), converged | final))
        if len(gone) < len(asked):
            state = solver.informed(state, asked, certificate)
            part = (tol / certificate.excess).clamp(max=solver.asks_again)
            self._asks[rows] = (part * state.excess[asked]).nan_to_num(tol)
        return state, gone, kept

    def _tell(self, step: int) -> None:
        self._report(step, self._energy, self.status == Status.RUNNING, self.status == Status.CONVERGED)


def _reach(path: Float[Tensor, "P nodes d"]) -> Float[Tensor, " P"]:
    """How far paths go from where they begin, over the size of their ends: their norms, or how far they are apart."""
    start, end = path[:, 0], path[:, -1]
    size = torch.stack([start.norm(dim=-1), end.norm(dim=-1), (end - start).norm(dim=-1)]).amax(0)
    return (path - path[:, :1]).norm(dim=-1).amax(-1) / size


def _level(manifold: Manifold, path: Tensor, suspects: Bool[Tensor, " P"]) -> Bool[Tensor, " P"]:
    """On which paths the decoder is constant, bit for bit.

    An energy of zero alone may be one whose squares have left the range of the dtype.
    """
    if not bool(suspects.any()):
        return suspects
    with torch.no_grad():
        nodes = path[suspects]
        # Of a metric alone this is the metric, which may well be constant: its speed must vanish too.
        x, speed = manifold.observe(nodes), manifold.squared_norm(nodes[:, 1:], nodes.diff(dim=1))
    constant = (x == x[:, :1]).flatten(1).all(1) & (speed == 0).all(1)
    return suspects.clone().masked_scatter(suspects, constant)
