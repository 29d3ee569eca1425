"""The driver: chooses a solver and a start, runs them, and alone decides what has converged."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.energy import constant, energy_and_gradient, path_energy, tangential_acceleration
from geodesic.geometry.manifold import EmbeddedManifold, Manifold, check_manifold
from geodesic.geometry.path import constant_speed, refine_path, spline_speed, straight_path
from geodesic.solvers.initial import graph_path
from geodesic.solvers.krylov import LARGEST_EXPLICIT
from geodesic.solvers.memory import pairs_at_once
from geodesic.solvers.newton import Newton
from geodesic.solvers.newton_krylov import NewtonKrylov
from geodesic.solvers.solution import GeodesicSolution, Progress, Status
from geodesic.solvers.solver import Solver, select

__all__ = ["choose_solver", "solve"]

_PROBES = 8  # points on which the decoder is examined before the work begins
_RESOLVED = 1e-3  # largest estimated relative error of a resolved length
_HANDOVER = 1e-6  # relative excess energy, by its own estimate, at which a warm-up is over
_PATIENCE = 20  # steps in which a pair has to gain a thousandth of the tolerance, or has stalled
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

    size = pairs_at_once(manifold, chosen, straight_path(a[:1], b[:1], segments), memory)
    watch = _Watch(callback, batch, a)
    everywhere = torch.ones(len(a), dtype=torch.bool, device=a.device)
    starts: list[tuple[Tensor, Tensor]] = []  # paths, and which pairs may begin from them
    if given is not None:
        starts.append((given, everywhere))
    if given is None and init in ("straight", "best"):
        straight = straight_path(a, b, segments)
        groups = torch.arange(len(a), device=a.device).split(size)
        starts.append((torch.cat([constant_speed(manifold, straight[rows]) for rows in groups]), everywhere))
    if given is None and init in ("graph", "best"):
        flat = None if points is None else points.flatten(1)
        graph = graph_path(manifold, a, b, segments, points=flat)
        # Beside the straight line itself, a second straight line would be solved for nothing.
        starts.append((graph.path, graph.connected & ~(graph.straight & bool(starts))))
    parts = []
    for rows in torch.arange(len(a), device=a.device).split(size):
        answers = [
            _refined(manifold, chosen, path[rows], usable[rows], length_rtol, tol, max_steps, size, watch.of(rows))
            for path, usable in starts
        ]
        parts.append(_shorter(answers) | _of_the_straight_line(manifold, a[rows], b[rows], segments))
    return _assembled(parts, batch, event, tol, reason)


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
    if isinstance(manifold, EmbeddedManifold):
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


# --- one group of pairs -----------------------------------------------------------------------

Answer = dict[str, Tensor]
Report = Callable[[int, Tensor, Tensor, Tensor], None]


def _refined(
    manifold: Manifold,
    solver: Solver[Any],
    path: Float[Tensor, "P nodes d"],
    connected: Bool[Tensor, " P"],
    length_rtol: float | None,
    tol: float,
    max_steps: int,
    size: int,
    report: Report,
) -> Answer:
    """Solve and measure; then, if asked for, with twice the segments for the pairs whose length still changes.

    Pairs that did not converge stay as they are: more segments would not help them. `size` is the number of pairs
    that memory allows at the first number of segments.
    """
    if length_rtol is not None:
        tol = min(tol, length_rtol / 10)  # or two lengths of one and the same curve would agree
    answer = _solved(manifold, solver, path, connected, tol, max_steps, report)
    (open_rows,) = answer["converged"].nonzero(as_tuple=True)
    first = path.shape[1] - 1
    while length_rtol is not None and len(open_rows) and answer["path"].shape[1] - 1 < _MOST_SEGMENTS:
        T = 2 * (answer["path"].shape[1] - 1)
        old = answer["length"][open_rows]
        answer = _resampled(answer, T)
        groups = [
            _solved(manifold, solver, answer["path"][rows], connected[rows], tol, max_steps, report)
            for rows in open_rows.split(max(1, size * first // T))
        ]
        new = {name: torch.cat([group[name] for group in groups]) for name in groups[0]}
        new["steps"] = new["steps"] + answer["steps"][open_rows]
        for name, value in new.items():
            answer[name] = answer[name].index_put((open_rows,), value)
        agreed = (new["length"] - old).abs() <= length_rtol * new["length"]
        open_rows = open_rows[~agreed & new["converged"]]
    if length_rtol is not None:
        answer["resolved"][open_rows] = False  # the most segments, and the lengths do not agree yet
    return answer


def _solved(
    manifold: Manifold,
    solver: Solver[Any],
    path: Float[Tensor, "P nodes d"],
    connected: Bool[Tensor, " P"],
    tol: float,
    max_steps: int,
    report: Report,
) -> Answer:
    """Run the solver, after its warm-up, and measure where the paths end."""
    run = _Run(manifold, path, torch.where(connected, Status.RUNNING, Status.NOT_CONNECTED), report)
    if solver.warm_up is not None:
        run.stage(solver.warm_up, max(tol, _HANDOVER), int(solver.warm_up_share * max_steps), certified=False)
    run.stage(solver, tol, max_steps, certified=True)
    return run.measured(tol)


class _Run:
    """The loop over steps. Rows of a state are the active pairs; finished ones are written back and leave."""

    def __init__(self, manifold: Manifold, path: Tensor, status: Int[Tensor, " P"], report: Report) -> None:
        self.manifold, self.report = manifold, report
        self.path = path.clone()
        still = (path[:, 0] == path[:, -1]).all(-1)
        self.path[still] = path[still, :1]
        # One pair where the decoder is not finite must not spoil the others.
        energy, gradient = energy_and_gradient(manifold, path)
        finite = energy.isfinite() & gradient.isfinite().flatten(1).all(1)
        status = torch.where(finite | (status != Status.RUNNING), status, Status.NOT_FINITE)
        self.status = torch.where(still, Status.CONVERGED, status)
        self.steps = torch.zeros_like(self.status)
        self.energy = torch.where(still, 0, torch.full_like(path[:, 0, 0], torch.nan))
        self.excess = self.energy.clone()
        self.minimum = still
        self.step = 0

    def stage(self, solver: Solver[Any], tol: float, max_steps: int, certified: bool) -> None:
        """Run one solver on the pairs that are not finished, until all their steps are `max_steps`.

        Uncertified ends finish nothing.
        """
        (active,) = (self.status == Status.RUNNING).nonzero(as_tuple=True)
        if not len(active):
            self._tell()
            return
        limit = max_steps - self.steps
        state = solver.begin(self.manifold, self.path[active])
        before = torch.full_like(self.energy, torch.inf)
        for step in range(max_steps + 1):
            self.energy[active] = state.energy
            last = step >= limit[active]
            ended = state.status != Status.RUNNING
            if step % _PATIENCE == 0:
                idle = before[active] - state.energy <= tol / 1000 * state.energy
                state = state._replace(status=torch.where(idle & ~ended, Status.STALLED, state.status))
                ended, before = ended | idle, self.energy.clone()
            if certified:
                due = ended | last
                if step % solver.check_every == 0:
                    due |= state.excess <= tol
                ended = self._certified(solver, state, active, due, ended | last, tol)
            else:
                ended |= (state.excess <= tol) | last
            rows = active[ended]
            self.path[rows], self.steps[rows] = state.path[ended], self.steps[rows] + step
            if bool(ended.any()):
                active = active[~ended]
                state = select(state, ~ended)
            self._tell()
            if not len(active):
                break
            state = solver.step(self.manifold, state)
            self.step += 1

    def _certified(
        self, solver: Solver[Any], state: Any, active: Tensor, due: Tensor, final: Tensor, tol: float
    ) -> Bool[Tensor, " P"]:
        """Certify the pairs that are due; which of all have ended, because they converged or must."""
        ended = torch.zeros_like(due)
        if not bool(due.any()):
            return ended
        certificate = solver.certify(self.manifold, select(state, due))
        rows = active[due]
        self.excess[rows], self.minimum[rows] = certificate.excess, certificate.minimum
        converged = certificate.excess <= tol
        own = state.status[due]
        status = torch.where(own == Status.RUNNING, Status.MAX_STEPS, own)
        status = torch.where(final[due], status, Status.RUNNING)
        self.status[rows] = torch.where(converged, Status.CONVERGED, status)
        ended[due] = converged | final[due]
        return ended

    def _tell(self) -> None:
        self.report(self.step, self.energy, self.status == Status.RUNNING, self.status == Status.CONVERGED)

    def measured(self, tol: float) -> Answer:
        """Everything that the solution says about these paths."""
        manifold, path = self.manifold, self.path
        T = path.shape[1] - 1
        with torch.no_grad():
            speed, weights = spline_speed(manifold, path)
            length = speed @ weights
            coarse_speed, coarse_weights = spline_speed(manifold, refine_path(path, max(T // 2, 2)))
            # As dear as a step: half of the segments will do, unless there are few.
            residual = tangential_acceleration(manifold, path, every=2 if T >= 16 else 1)
            chords = manifold.squared_chords(path)
            # |x_{i+1} - 2 x_i + x_{i-1}|^2 from the chords between next neighbours.
            wide = torch.stack([path[:, :-2], path[:, 2:]], dim=2)
            bend = 2 * (chords[:, 1:] + chords[:, :-1]) - manifold.squared_chords(wide)[..., 0]
            lower_bound = manifold.lower_bound(path[:, 0], path[:, -1])
        energy, gradient = energy_and_gradient(manifold, path)
        # What the spline loses, as if its order were 2, which is what a decoder with kinks leaves of its 4; and what
        # the nodes lose: a tangential acceleration of period 1/T bends the path by a factor (pi T)^2 less.
        error = (length - coarse_speed @ coarse_weights).abs() / 3 / length
        error = error + residual.square().mean(-1) / (2 * math.pi**2 * T**2)
        if T < 4:  # too few nodes to leave out every second one: nothing is known of the spline's error
            error = torch.full_like(error, torch.inf)
        # A decoder that jumps where it is flat has chords that no derivative sees: certify nothing.
        excess = torch.where(length >= chords.sqrt().sum(-1) / 3, self.excess, torch.nan)
        lost = (self.status == Status.CONVERGED) & ~(excess <= tol)
        share = torch.nn.functional.pad((speed * weights).unflatten(-1, (T, -1)).sum(-1).cumsum(-1), (1, 0))
        values = {
            "energy": energy,
            "length": length,
            "relative_excess_energy": excess,
            "gradient_norm": gradient.square().sum((1, 2)).sqrt(),
            "length_error": error,
            "decoder_residual": residual.amax(-1),
            "speed_variation": (speed.amax(-1) - speed.amin(-1)) / length,
            "speed_allowance": (bend.clamp_min(0) / (chords[:, 1:] * chords[:, :-1]).sqrt()).amax(-1),
            # Equal up to rounding on a straight line of a flat manifold.
            "lower_bound": torch.where(lower_bound < (1 + 1e-6) * length, lower_bound.minimum(length), lower_bound),
        }
        # Between equal ends all of these are zero, where a decoder's rounding leaves traces.
        still = constant(path)
        values = {name: torch.where(still, 0, value) for name, value in values.items()}
        converged = (self.status == Status.CONVERGED) & (~lost | still)
        even = torch.linspace(0, 1, T + 1, dtype=path.dtype, device=path.device)
        return values | {
            "path": path,
            "status": torch.where(lost & ~still, Status.STALLED, self.status),
            "converged": converged,
            "minimum": self.minimum,
            "resolved": converged & (values["length_error"] <= _RESOLVED),
            "steps": self.steps,
            "segments": torch.full_like(self.steps, T),
            "arc": torch.where(still[:, None], even, share / share[:, -1:]),
        }


def _of_the_straight_line(manifold: Manifold, start: Tensor, end: Tensor, segments: int) -> Answer:
    path = straight_path(start, end, segments)
    with torch.no_grad():
        energy = path_energy(manifold, path)
        speed, weights = spline_speed(manifold, path)
    values = {"initial_energy": energy, "straight_length": speed @ weights}
    return {name: torch.where(constant(path), 0, value) for name, value in values.items()}


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


def _assembled(
    parts: list[Answer], batch: torch.Size, event: tuple[int, ...], tol: float, solver: str
) -> GeodesicSolution:
    T = max(part["path"].shape[1] for part in parts) - 1
    parts = [_resampled(part, T) for part in parts]
    values = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    path = values.pop("path").reshape(*batch, T + 1, *event)
    values = {name: x.reshape(batch + x.shape[1:]) for name, x in values.items()}
    return GeodesicSolution(path=path, **values, tol=tol, solver=solver)


@dataclass
class _Watch:
    """Turns what a group of pairs reports into a `Progress` of all pairs."""

    callback: Callable[[Progress], None] | None
    batch: torch.Size
    points: Tensor

    def __post_init__(self) -> None:
        N, device = len(self.points), self.points.device
        self.energy = torch.full((N,), torch.nan, dtype=self.points.dtype, device=device)
        self.active = torch.ones(N, dtype=torch.bool, device=device)
        self.converged = torch.zeros_like(self.active)

    def of(self, rows: Tensor) -> Report:
        """The report of a group: its rows among all."""

        def report(step: int, energy: Tensor, active: Tensor, converged: Tensor) -> None:
            if self.callback is None or len(energy) != len(rows):
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
    if not bool(init.isfinite().all()):
        raise InputError("init: expected finite coordinates")
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
    if not isinstance(manifold, Manifold):
        raise InputError(
            f"manifold: expected a Manifold such as PullbackManifold(decoder), got {type(manifold).__name__}"
        )
    event = manifold.latent_shape
    for name, z in (("start", start), ("end", end)):
        if not isinstance(z, Tensor):
            raise InputError(f"{name}: expected a tensor, got {type(z).__name__}; use torch.as_tensor({name})")
        if z.dtype not in (torch.float32, torch.float64):
            raise InputError(f"{name}: expected floating point, float32 or float64, got {z.dtype}; use {name}.double()")
        if z.dim() == 0 or z.numel() == 0:
            raise InputError(f"{name}: expected points of shape (*batch, d), got {tuple(z.shape)}")
        if event is not None and z.shape[-len(event) :] != event:
            raise InputError(
                f"{name}: expected points of the manifold's latent_shape, (*batch, {', '.join(map(str, event))}), "
                f"got {tuple(z.shape)}"
            )
    if points is not None and not (isinstance(points, Tensor) and points.dim() == 1 + len(event or (0,))):
        got = tuple(points.shape) if isinstance(points, Tensor) else type(points).__name__
        raise InputError(f"points: expected a tensor of latent points, (N, d) or (N, *latent_shape), got {got}")
    for what in ("shape", "dtype", "device"):
        a, b = getattr(start, what), getattr(end, what)
        if a != b:
            a, b = (tuple(x) if what == "shape" else x for x in (a, b))
            raise InputError(f"end: expected the {what} of start, {a}, got {b}")
    for name, z in (("start", start), ("end", end)):
        if not z.isfinite().all():
            where = (~z.isfinite()).nonzero()[0].tolist()
            raise InputError(f"{name}: expected finite coordinates, got {z[tuple(where)].item()} at {where}")
    for name, value, least in (("segments", segments, 2), ("max_steps", max_steps, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name}: expected an integer of at least {least}, got {value!r}")
    if isinstance(tol, int | float) and tol >= 1:
        raise InputError(f"tol: expected a part of the energy, below 1, got {tol!r}")
    for name, value in (("tol", tol), ("memory", memory), ("length_rtol", 1.0 if length_rtol is None else length_rtol)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not (0 < value < math.inf):
            raise InputError(f"{name}: expected a positive number, got {value!r}")
