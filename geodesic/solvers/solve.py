"""The driver: chooses a solver and a start, runs them, and alone decides what has converged."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.checks import require_finite, require_fraction, require_integer, require_points, require_positive
from geodesic.errors import InputError
from geodesic.geometry.checks import check_manifold, require_manifold
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.path import constant_speed, refine_path, straight_path
from geodesic.solvers.initial import graph_path
from geodesic.solvers.krylov import LARGEST_EXPLICIT
from geodesic.solvers.measure import Answer, measured, of_the_straight_line
from geodesic.solvers.memory import pairs_at_once
from geodesic.solvers.newton import Newton
from geodesic.solvers.newton_krylov import NewtonKrylov
from geodesic.solvers.run import Report, Run
from geodesic.solvers.solution import GeodesicSolution, Progress, Status
from geodesic.solvers.solver import Solver

__all__ = ["choose_solver", "solve"]

_PROBES = 8  # points on which the decoder is examined before the work begins
_HANDOVER = 1e-6  # relative excess energy, by its own estimate, at which a warm-up is over
_MOST_SEGMENTS = 1024  # that `length_rtol` goes to


def solve(
    manifold: Manifold,
    start: Tensor,
    end: Tensor,
    *,
    solver: Solver[Any] | str = "auto",
    init: str | Tensor = "straight",
    points: Tensor | None = None,
    segments: int = 32,
    length_rtol: float | None = None,
    tol: float = 1e-6,
    max_steps: int = 1000,
    memory: float = 1e9,
    callback: Callable[[Progress], None] | None = None,
) -> GeodesicSolution:
    """Find geodesics between pairs of points, all pairs at once.

    A pair has converged when its relative excess energy, from the Newton decrement, is at most `tol`, whatever rule
    the solver itself follows. That ratio has no unit: multiplying all outputs by a constant changes nothing, as long
    as their squares stay within the range of the dtype. Pairs that have ended leave the batch, and no pair's
    answer depends on the others.

    Args:
        manifold: Where to measure.
        start: First endpoints, (*batch, d), floating point; device and dtype are those of the answer. For a manifold
            with a `latent_shape`, (*batch, *latent_shape).
        end: Last endpoints, of the same shape, dtype and device.
        solver: How to improve the paths. "auto" takes `Newton()`, or `NewtonKrylov()` where Jacobians would be too
            large, see `choose_solver`.
        init: Where to start: "straight", the straight line at constant speed; "graph", a shortest path in a
            neighbour graph, see `graph_path`; "best", both, and the shorter of the two answers for each pair; or
            paths of your own, (*batch, T + 1, d), with the given ends.
        points: Latent points for the graph, (N, d), such as the encodings of the training data; drawn if None.
        segments: Number T of segments of each path, at least 2. Paths of your own have their T.
        length_rtol: Double T, from `segments` on, until two successive lengths of a pair agree to this relative
            difference; a pair that does not agree at 1,024 segments is not resolved. The paths of all pairs are
            resampled to the largest T.
        tol: Largest relative excess energy of a pair that counts as converged.
        max_steps: Most steps for any pair and number of segments.
        memory: Bytes that the work may take besides its answer, about: pairs are worked on in as large
            groups as fit.
        callback: Called with a `Progress` before the first step and after each one.

    Returns:
        The paths with what was measured on them. A pair that did not converge says why in its `status`.
        Equal endpoints give the constant path, of length 0 and converged.

    Raises:
        InputError: Endpoints or settings cannot be used, or not one pair fits into `memory`.
        DecoderError: The decoder does not take the endpoints, has coupled rows, or is not finite there.

    Example:
        >>> import torch, geodesic
        >>> a, b = torch.tensor([torch.pi / 4, 0.0]), torch.tensor([torch.pi / 4, 2.0])
        >>> solution = geodesic.solve(geodesic.Sphere(), a, b)
        >>> print(f"{float(solution.length):.4f}", bool(solution.converged), bool(solution.resolved))
        1.2746 True True
    """
    _check(manifold, start, end, points, segments, length_rtol, tol, max_steps, memory)
    with torch.inference_mode(False):  # tensors made there have no derivatives, and these are needed
        return _solve(
            manifold, start, end, solver, init, points, segments, length_rtol, tol, max_steps, memory, callback
        )


def _solve(
    manifold: Manifold,
    start: Tensor,
    end: Tensor,
    solver: Any,
    init: Any,
    points: Tensor | None,
    segments: int,
    length_rtol: float | None,
    tol: float,
    max_steps: int,
    memory: float,
    callback: Callable[[Progress], None] | None,
) -> GeodesicSolution:
    event = (start.shape[-1],) if manifold.latent_shape is None else manifold.latent_shape
    batch = start.shape[: start.dim() - len(event)]
    a, b = (z.detach().clone().reshape(-1, math.prod(event)) for z in (start, end))
    given = _given_path(init, start, end, len(event))
    segments = segments if given is None else given.shape[1] - 1
    check_manifold(manifold, torch.cat([a[:_PROBES], b[:_PROBES]]))
    if isinstance(solver, str):
        if solver != "auto":
            raise InputError(f"solver: expected 'auto' or a solver such as Newton(), got {solver!r}")
        chosen, reason = choose_solver(manifold, a[:1])
    elif isinstance(solver, Solver):
        chosen, reason = solver, repr(solver)
    else:
        raise InputError(f"solver: expected 'auto' or a solver such as Newton(), got {solver!r}")

    room = _Room.of(manifold, chosen, straight_path(a[:1], b[:1], segments), memory)
    method = _Method(manifold, chosen, tol, max_steps, length_rtol, room)
    everywhere = torch.ones(len(a), dtype=torch.bool, device=a.device)
    starts: list[tuple[Tensor, Tensor]] = []  # paths, and which pairs may begin from them
    if given is not None:
        starts.append((given, everywhere))
    if given is None and init in ("straight", "best"):
        groups = straight_path(a, b, segments).split(room.solver)
        starts.append((torch.cat([constant_speed(manifold, group) for group in groups]), everywhere))
    if given is None and init in ("graph", "best"):
        flat = None if points is None else points.flatten(1)
        graph = graph_path(manifold, a, b, segments, points=flat)
        # Beside the straight line itself, a second straight line would be solved for nothing.
        starts.append((graph.path, graph.connected & ~(graph.straight & bool(starts))))
    watch = _Watch(callback, batch, a)
    answer = _shorter([method.refined(path, usable, watch) for path, usable in starts])
    lines = [
        of_the_straight_line(manifold, *ends, segments)
        for ends in zip(a.split(room.solver), b.split(room.solver), strict=True)
    ]
    return _assembled(answer | _joined(lines), batch, event, tol, reason)


def choose_solver(manifold: Manifold, point: Float[Tensor, "1 d"]) -> tuple[Solver[Any], str]:
    """The solver of `solve(..., solver="auto")` at points like this one, and the reason in words.

    `Newton` takes 2 + 2 d decoder passes and d x D numbers a node for an exact system, which is repaid by its last,
    quadratic steps as long as d is at most 32; `NewtonKrylov` takes two passes and D numbers for each product.

    Example:
        >>> import torch, geodesic
        >>> geodesic.choose_solver(geodesic.Sphere(), torch.ones(1, 2))[1]
        'Newton: d = 2 is at most 32, and Jacobians of 2 x 3 numbers a node are small'
    """
    d = point.shape[-1]
    D = d
    if manifold.has_embedding:
        with torch.no_grad():
            D = manifold.embed(point).numel()
    if d > LARGEST_EXPLICIT:
        return NewtonKrylov(), f"NewtonKrylov: d = {d} is above {LARGEST_EXPLICIT}, where Jacobians cost too much"
    if d * D > _LARGEST_JACOBIAN:
        return NewtonKrylov(), f"NewtonKrylov: Jacobians of {d} x {D} numbers a node are too large"
    return Newton(), (
        f"Newton: d = {d} is at most {LARGEST_EXPLICIT}, and Jacobians of {d} x {D} numbers a node are small"
    )


_LARGEST_JACOBIAN = 4_000_000  # numbers a node: a path of 32 segments would take a gigabyte in float64


# --- what is done with paths ------------------------------------------------------------------


@dataclass(frozen=True)
class _Room:
    """How many paths of a number of segments fit into memory: under the warm-up, and under the solver."""

    warm_up: int
    solver: int
    segments: int

    @classmethod
    def of(cls, manifold: Manifold, solver: Solver[Any], path: Float[Tensor, "1 nodes d"], memory: float) -> _Room:
        size = pairs_at_once(manifold, solver, path, memory)
        warm_up = size if solver.warm_up is None else pairs_at_once(manifold, solver.warm_up, path, memory)
        return cls(warm_up, size, path.shape[1] - 1)

    def at(self, segments: int) -> _Room:
        """The same memory, with another number of segments."""
        warm_up, solver = (max(1, n * self.segments // segments) for n in (self.warm_up, self.solver))
        return _Room(warm_up, solver, segments)


@dataclass(frozen=True)
class _Method:
    """What is done with any paths."""

    manifold: Manifold
    solver: Solver[Any]
    tol: float
    max_steps: int
    length_rtol: float | None
    room: _Room

    def refined(self, path: Float[Tensor, "P nodes d"], usable: Bool[Tensor, " P"], watch: _Watch) -> Answer:
        """Solve and measure; then, if asked for, with twice the segments for the pairs whose length still changes.

        Pairs that did not converge stay as they are: more segments would not help them.
        """
        everything = torch.arange(len(path), device=path.device)
        if self.length_rtol is None:
            return self.solved(path, usable, self.tol, watch.of(everything))
        tol = min(self.tol, self.length_rtol / 10)  # or two lengths of one and the same curve would agree
        answer = self.solved(path, usable, tol, watch.of(everything))
        (open_rows,) = answer["converged"].nonzero(as_tuple=True)
        while len(open_rows) and answer["path"].shape[1] - 1 < _MOST_SEGMENTS:
            answer = _resampled(answer, 2 * (answer["path"].shape[1] - 1))
            old = {name: value[open_rows] for name, value in answer.items()}
            new = self.solved(old["path"], usable[open_rows], tol, watch.of(open_rows))
            new["steps"] = new["steps"] + old["steps"]
            for name, value in new.items():
                answer[name] = answer[name].index_put((open_rows,), value)
            agreed = (new["length"] - old["length"]).abs() <= self.length_rtol * new["length"]
            open_rows = open_rows[~agreed & new["converged"]]
        answer["resolved"][open_rows] = False  # the most segments, and the lengths do not agree yet
        return answer

    def solved(
        self, path: Float[Tensor, "P nodes d"], usable: Bool[Tensor, " P"], tol: float, report: Report
    ) -> Answer:
        """Run the solver, after its warm-up, and measure where the paths end."""
        room = self.room.at(path.shape[1] - 1)
        status = torch.where(usable, Status.RUNNING, Status.NOT_CONNECTED)
        run = Run(self.manifold, path, status, room.warm_up, report)
        warm_up = self.solver.warm_up
        if warm_up is not None:
            steps = int(self.solver.warm_up_share * self.max_steps)
            run.stage(warm_up, max(tol, _HANDOVER), steps, room.warm_up, certified=False)
        run.stage(self.solver, tol, self.max_steps, room.solver, certified=True)
        rows = torch.arange(len(path), device=path.device).split(room.solver)
        groups = [measured(self.manifold, run.path[i], run.status[i], run.excess[i], tol) for i in rows]
        return _joined(groups) | {"minimum": run.minimum, "steps": run.steps}


def _joined(groups: list[Answer]) -> Answer:
    return {name: torch.cat([group[name] for group in groups]) for name in groups[0]}


def _shorter(answers: list[Answer]) -> Answer:
    """For each pair the answer of least length among those whose start could be used."""

    def usable_length(answer: Answer) -> Tensor:
        unusable = (answer["status"] == Status.NOT_CONNECTED) | (answer["status"] == Status.NOT_FINITE)
        return torch.where(unusable | answer["length"].isnan(), torch.inf, answer["length"])

    best = answers[0]
    for other in answers[1:]:
        T = max(best["path"].shape[1], other["path"].shape[1]) - 1
        best, other = _resampled(best, T), _resampled(other, T)
        better = usable_length(other) < usable_length(best)
        best = {
            name: torch.where(better.reshape(-1, *[1] * (value.dim() - 1)), other[name], value)
            for name, value in best.items()
        }
    return best


def _resampled(answer: Answer, segments: int) -> Answer:
    if answer["path"].shape[1] - 1 == segments:
        return answer
    arc = refine_path(answer["arc"][..., None], segments)[..., 0]
    return answer | {"path": refine_path(answer["path"], segments), "arc": arc}


def _assembled(answer: Answer, batch: torch.Size, event: tuple[int, ...], tol: float, solver: str) -> GeodesicSolution:
    path = answer.pop("path")
    path = path.reshape(*batch, path.shape[1], *event)
    values = {name: x.reshape(batch + x.shape[1:]) for name, x in answer.items()}
    return GeodesicSolution(path=path, **values, tol=tol, solver=solver)


@dataclass
class _Watch:
    """Turns what a run on some pairs reports into a `Progress` of all pairs."""

    callback: Callable[[Progress], None] | None
    batch: torch.Size
    points: Tensor

    def __post_init__(self) -> None:
        N, device = len(self.points), self.points.device
        self.energy = torch.full((N,), torch.nan, dtype=self.points.dtype, device=device)
        self.active = torch.ones(N, dtype=torch.bool, device=device)
        self.converged = torch.zeros_like(self.active)

    def of(self, rows: Tensor) -> Report:
        """The report of a run on these rows."""

        def report(step: int, energy: Tensor, active: Tensor, converged: Tensor) -> None:
            if self.callback is None:
                return
            self.energy[rows], self.active[rows], self.converged[rows] = energy, active, converged
            now = (self.energy, self.active, self.converged)
            self.callback(Progress(step, *(x.clone().reshape(self.batch) for x in now)))

        return report


# --- what solve is given ----------------------------------------------------------------------


def _given_path(init: Any, start: Tensor, end: Tensor, event: int) -> Tensor | None:
    """The user's own paths, (P, T + 1, d), or None."""
    if isinstance(init, str):
        if init not in ("straight", "graph", "best"):
            raise InputError(f"init: expected 'straight', 'graph', 'best' or paths, got {init!r}")
        return None
    if not isinstance(init, Tensor):
        raise InputError(f"init: expected 'straight', 'graph', 'best' or paths, got {type(init).__name__}")
    time = start.dim() - event
    expected = (*start.shape[:time], "T + 1", *start.shape[time:])
    if init.dim() != start.dim() + 1 or init.shape[:time] + init.shape[time + 1 :] != start.shape:
        raise InputError(f"init: expected paths of shape {expected}, got {tuple(init.shape)}")
    if init.dtype != start.dtype or init.device != start.device:
        raise InputError(
            f"init: expected paths of {start.dtype} on {start.device}, as the endpoints, got {init.dtype} on "
            f"{init.device}"
        )
    if init.shape[time] < 3:
        raise InputError(f"init: expected paths of at least 2 segments, got {init.shape[time] - 1}")
    require_finite("init", init)
    for name, point, at in (("start", start, 0), ("end", end, -1)):
        if not torch.equal(init.select(time, at), point):
            raise InputError(f"init: its paths do not {name} at the points of `{name}`; set their ends to them")
    return init.detach().reshape(-1, init.shape[time], start.shape[time:].numel())


def _check(
    manifold: Any,
    start: Any,
    end: Any,
    points: Any,
    segments: Any,
    length_rtol: Any,
    tol: Any,
    max_steps: Any,
    memory: Any,
) -> None:
    require_manifold(manifold)
    if length_rtol is not None and not manifold.has_length:
        raise InputError(
            f"length_rtol: chords of {manifold} do not vanish with the step, so its lengths have no limit to refine "
            "to; choose `segments` as a part of the model"
        )
    require_points(manifold.latent_shape, start=start, end=end)
    if points is not None and not (
        isinstance(points, Tensor) and points.dim() == 1 + len(manifold.latent_shape or (0,))
    ):
        got = tuple(points.shape) if isinstance(points, Tensor) else type(points).__name__
        raise InputError(f"points: expected a tensor of latent points, (N, d) or (N, *latent_shape), got {got}")
    require_integer("segments", segments, least=2)
    require_integer("max_steps", max_steps, least=1)
    require_fraction("tol", tol)
    require_positive("memory", memory)
    require_positive("length_rtol", length_rtol, optional=True)
