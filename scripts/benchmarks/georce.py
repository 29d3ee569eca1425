"""GEORCE against the solvers of this library, on manifolds that are given by a metric tensor alone.

    GEORCE        `Georce`, below, with a line search for every pair
    GEORCE, 1/2   the same with the published line search: from a full step on, by halves
    Newton        geodesic.Newton(), which is what `solve` chooses here
    L-BFGS        geodesic.LBFGS()
    L-BFGS, G(z)  geodesic.LBFGS(metric_samples=T): preconditioned by the metric of every segment

All begin at the straight line at constant speed. Excess energies are measured from the minimum that the path itself was
led to, so each method has its own basin. Work is counted in rows of the metric, a backward pass like a forward one and
an expansion as the 2 + 4 d passes that it takes, and in operations. Times are medians; the methods take turns, so that
noise hits all alike.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import geodesic
from geodesic.geometry.chords import MetricManifold
from geodesic.geometry.manifold import Expansion, Manifold
from geodesic.solvers.krylov import certify
from geodesic.solvers.solution import Status
from geodesic.solvers.solver import Certificate, Solver, inner

GEORCE, HALVING, NEWTON, LBFGS, LBFGS_FULL = METHODS = (
    "GEORCE",
    "GEORCE, 1/2",
    "Newton",
    "L-BFGS",
    "L-BFGS, G(z)",
)
TOLERANCES = (1e-6, 1e-10)
LEVELS = (1e-2, 1e-3, 1e-6)  # excess energies to which rows and times are measured
SHARE = 0.9  # of the pairs that have to be there: a pair that never arrives should not hide the others
MARGIN = 0.9  # a ratio above it is a tie

_SUFFICIENT_DECREASE = 1e-4
_SMALLEST = 1e-5


# --- the method -------------------------------------------------------------------------------


class _State(NamedTuple):
    path: Tensor
    energy: Tensor
    excess: Tensor
    status: Tensor
    alpha: Tensor  # (P,), the first step to try
    G: Tensor  # (P, T, d, d), at the midpoints
    w: Tensor  # (P, T, d), gradients of u^T G(m) u in the midpoint m


@dataclass(frozen=True)
class Georce(Solver[_State]):
    """GEORCE, for a batch, by the midpoint rule: geodesics as a problem of optimal control.

    u_t = z_{t+1} - z_t are the controls, G_t the metric at the midpoint m_t of segment t and w_t the gradient of
    u_t^T G(m_t) u_t in m_t. With G and w frozen, the best controls that lead from z_0 to z_T are

    v_t = (w_{t-1} + w_t) / 2,   s_t = v_t + ... + v_{T-1},   s_T = 0
    (sum_t G_t^{-1}) mu = -2 (z_T - z_0) - sum_t G_t^{-1} s_{t+1}
    u_t* = -G_t^{-1} (mu + s_{t+1}) / 2

    and the new controls are (1 - alpha) u + alpha u*, by a line search. One evaluation of G and one backward pass a
    step, one more evaluation for each refused trial, and one d x d system.

    Eliminating mu gives 2 G_{t-1} u*_{t-1} - 2 G_t u*_t + v_t = 0, that is z* = z - S^{-1} g with g the gradient of
    half the squared chords and S the stiffness matrix of the current path: Newton's method without the derivatives
    of G in the Hessian. It converges linearly wherever there is curvature.

    Reference:
        F. M. Rygaard, S. Hauberg, GEORCE: A Fast New Control Algorithm for Computing Geodesics, 2025.

    Args:
        adaptive: Step by the parabola through two energies and a slope, where a step was refused and for the first
            trial of the next step, which may be longer than 1. Otherwise begin at 1 and halve, as published.
    """

    adaptive: bool = True

    check_every: ClassVar[int] = 5  # as for L-BFGS, whose steps cost the same

    def begin(self, manifold: Manifold, path: Tensor) -> _State:
        energy, G, pull = _metric(manifold, path)
        status = torch.zeros(len(path), dtype=torch.int64, device=path.device)
        return _State(path, energy, torch.full_like(energy, torch.inf), status, torch.ones_like(energy), G, pull())

    def step(self, manifold: Manifold, state: _State) -> _State:
        T = state.path.shape[1] - 1
        move = _optimal(state) - state.path
        slope = T * inner(_gradient(state), -move[:, 1:-1])
        new = state._replace(
            path=state.path.clone(),
            energy=state.energy.clone(),
            status=torch.where(state.status == Status.RUNNING, Status.STALLED, state.status),
            alpha=torch.ones_like(state.alpha),
            G=state.G.clone(),
            w=state.w.clone(),
            excess=slope / (2 * state.energy),
        )
        alpha = state.alpha.clone()
        noise = 8 * torch.finfo(slope.dtype).eps * state.energy
        (rows,) = (slope > 0).nonzero(as_tuple=True)
        while len(rows):
            a = alpha[rows]
            trial = torch.cat(
                [
                    state.path[rows, :1],
                    state.path[rows, 1:-1] + a[:, None, None] * move[rows, 1:-1],
                    state.path[rows, -1:],
                ],
                dim=1,
            )
            value, G, pull = _metric(manifold, trial)
            change = value - state.energy[rows]
            good = change <= -_SUFFICIENT_DECREASE * a * slope[rows] + noise[rows]
            best = a**2 * slope[rows] / (2 * (change + a * slope[rows]))  # minimum of the parabola
            if bool(good.any()):
                taken = rows[good]
                new.path[taken], new.energy[taken], new.status[taken] = trial[good], value[good], state.status[taken]
                new.G[taken], new.w[taken] = G[good], pull()[good]
                if self.adaptive:
                    # Where the decrease is rounding, the parabola is too.
                    known = good & best.isfinite() & (best > 0) & (-change > 1e3 * noise[rows])
                    new.alpha[rows[known]] = best[known].clamp(0.5, 2.0)
            if self.adaptive:
                shorter = torch.minimum(torch.maximum(torch.where(best.isfinite(), best, a / 2), a / 10), a / 2)
            else:
                shorter = a / 2
            alpha[rows] = shorter
            rows = rows[~good & (shorter >= _SMALLEST)]
        return new

    def certify(self, manifold: Manifold, state: _State) -> Certificate:
        return certify(manifold, state.path)


def _metric(manifold: Manifold, path: Tensor) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
    """Energies, the metric at the midpoints, and a function that returns w by one backward pass."""
    u = path.diff(dim=1)
    with torch.enable_grad():
        middle = ((path[:, 1:] + path[:, :-1]) / 2).requires_grad_()
        G = manifold.metric_tensor(middle)
        chords = (u * (G @ u[..., None])[..., 0]).sum(-1)
    energy = u.shape[1] / 2 * chords.detach().sum(-1)

    def pull() -> Tensor:
        if not chords.requires_grad:
            return torch.zeros_like(middle)
        return torch.autograd.grad(chords.sum(), middle)[0]

    return energy, G.detach(), pull


def _gradient(state: _State) -> Tensor:
    """That of half the squared chords in the interior nodes, (P, T - 1, d)."""
    Gu = (state.G @ state.path.diff(dim=1)[..., None])[..., 0]
    return Gu[:, :-1] - Gu[:, 1:] + (state.w[:, :-1] + state.w[:, 1:]) / 4


def _optimal(state: _State) -> Tensor:
    """The paths of the optimal controls u*, (P, T + 1, d)."""
    path, w = state.path, state.w
    v = (w[:, :-1] + w[:, 1:]) / 2
    s = torch.nn.functional.pad(v.flip(1).cumsum(1).flip(1), (0, 0, 0, 1))  # s_1 ... s_T
    inverse = torch.linalg.inv_ex(state.G)[0]
    Gs = (inverse @ s[..., None])[..., 0]
    right = 2 * (path[:, -1] - path[:, 0]) + Gs.sum(1)
    mu = torch.linalg.solve_ex(inverse.sum(1), -right)[0]
    u = -(Gs + (inverse @ mu[:, None, :, None])[..., 0]) / 2
    return torch.cat([path[:, :1], path[:, :1] + u.cumsum(1)], dim=1)


# --- manifolds that are only a metric ---------------------------------------------------------


class Metric(MetricManifold):
    """Any function of z as a metric, with a count of the rows that went through it, forwards or backwards."""

    def __init__(self, metric: Callable[[Tensor], Tensor]) -> None:
        self.metric, self.rows = metric, 0

    def metric_tensor(self, z: Tensor) -> Tensor:
        rows = z.shape[:-1].numel()
        self.rows += rows
        G = self.metric(z)
        if G.requires_grad and not torch._C._functorch.is_functorch_wrapped_tensor(G):
            G.register_hook(lambda _: self._count(rows))
        return G

    def expansion(self, path: Tensor) -> Expansion:
        # One forward and one backward pass, and the tangents of both along 2 d directions.
        before, expansion = self.rows, super().expansion(path)
        self.rows = before + (2 + 4 * path.shape[-1]) * len(path) * (path.shape[1] - 1)
        return expansion

    def _count(self, rows: int) -> None:
        self.rows += rows


@dataclass(frozen=True)
class Problem:
    """A metric and the ends of some pairs, (P, d) each."""

    name: str
    metric: Callable[[Tensor], Tensor]
    start: Tensor
    end: Tensor


def scaled_identity(scale: Tensor, d: int) -> Tensor:
    return scale[..., None, None] * torch.eye(d, dtype=scale.dtype, device=scale.device)


def half_plane(z: Tensor) -> Tensor:
    return scaled_identity(torch.where(z[..., 1] > 0, z[..., 1], torch.nan) ** -2, 2)


def normal(z: Tensor) -> Tensor:
    """Fisher and Rao's metric of normal distributions, by mean and standard deviation."""
    inverse = torch.where(z[..., 1] > 0, z[..., 1], torch.nan) ** -2
    return torch.diag_embed(torch.stack([inverse, 2 * inverse], dim=-1))


def paraboloid(z: Tensor) -> Tensor:
    return torch.eye(2, dtype=z.dtype, device=z.device) + 4 * z[..., :, None] * z[..., None, :]


def torus(z: Tensor) -> Tensor:
    t = z[..., 0]
    return torch.diag_embed(torch.stack([torch.ones_like(t), (2 + t.cos()) ** 2], dim=-1))


def sphere(z: Tensor) -> Tensor:
    return scaled_identity(4 / (1 + z.square().sum(-1)) ** 2, z.shape[-1])


def bump(z: Tensor) -> Tensor:
    return scaled_identity(1 + 50 * (-2 * z.square().sum(-1)).exp(), z.shape[-1])


def inverse_density(centres: Tensor, width: float, floor: float) -> Callable[[Tensor], Tensor]:
    """I / (p(z) + floor), p a mixture of equal normal distributions without its factor."""

    def metric(z: Tensor) -> Tensor:
        square = (z[..., None, :] - centres).square().sum(-1)
        return scaled_identity(1 / ((-square / (2 * width**2)).exp().mean(-1) + floor), z.shape[-1])

    return metric


def local_variance(data: Tensor, width: float, floor: float) -> Callable[[Tensor], Tensor]:
    """The metric of locally adaptive normal distributions: one over the local variance of each coordinate.

    Reference:
        G. Arvanitidis, L. K. Hansen, S. Hauberg, A Locally Adaptive Normal Distribution, 2016.
    """

    def metric(z: Tensor) -> Tensor:
        square = (data - z[..., None, :]) ** 2
        weight = (-square.sum(-1, keepdim=True) / (2 * width**2)).exp()
        return torch.diag_embed(1 / ((weight * square).sum(-2) + floor))

    return metric


def network(d: int, hidden: int = 20, outputs: int = 30) -> Callable[[Tensor], Tensor]:
    """J^T J of a decoder d-20-20-30 with tanh, as a metric and nothing else."""
    A, B, C = (torch.randn(m, n) * (2 / n) ** 0.5 for n, m in ((d, hidden), (hidden, hidden), (hidden, outputs)))

    def metric(z: Tensor) -> Tensor:
        h = (z @ A.mT).tanh()
        k = (h @ B.mT).tanh()
        J = C @ ((1 - k**2)[..., None] * (B @ ((1 - h**2)[..., None] * A)))
        return J.mT @ J

    return metric


def problems(pairs: int, seed: int) -> list[Problem]:
    """All of them, in float64."""
    torch.manual_seed(seed)

    def uniform(low: Sequence[float], high: Sequence[float]) -> tuple[Tensor, Tensor]:
        a, b = (torch.tensor(x) for x in (low, high))
        z = a + (b - a) * torch.rand(2, pairs, len(low))
        return z[0], z[1]

    def gaussian(d: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        z = scale * torch.randn(2, pairs, d)
        return z[0], z[1]

    def among(data: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.stack([torch.randperm(len(data))[:2] for _ in range(pairs)])
        return data[rows[:, 0]], data[rows[:, 1]]

    def arc(d: int) -> Tensor:
        """Fifty noisy points on a half circle."""
        phi = math.pi * torch.rand(50)
        circle = torch.stack([phi.cos(), phi.sin()], dim=-1)
        return torch.nn.functional.pad(circle, (0, d - 2)) + 0.1 * torch.randn(50, d)

    centres = torch.tensor([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.5, 1.0]])
    land = {d: arc(d) for d in (2, 10)}
    return [
        Problem("half plane", half_plane, *uniform([-1, 0.2], [1, 2])),
        Problem("normal", normal, *uniform([-2, 0.2], [2, 2])),
        Problem("paraboloid", paraboloid, *uniform([-1.5, -1.5], [1.5, 1.5])),
        Problem("torus", torus, *uniform([-2, -1], [2, 1])),
        *(Problem(f"sphere, d = {d}", sphere, *gaussian(d, 0.5 * d**-0.5)) for d in (2, 5, 10)),
        Problem("bump", bump, *gaussian(2)),
        Problem("1 / density", inverse_density(centres, 0.4, 0.01), *uniform([-1.3, -0.3], [1.8, 1.3])),
        *(
            Problem(f"local variance, d = {d}", local_variance(land[d], width, 0.01), *among(land[d]))
            for d, width in ((2, 0.15), (10, 0.5))
        ),
        *(Problem(f"network, d = {d}", network(d), *gaussian(d)) for d in (2, 8)),
    ]


# --- measurements -----------------------------------------------------------------------------


class Operations(TorchDispatchMode):
    """Counts operations: products as multiplications and additions, factorisations likewise, others an entry each."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        packet = func._overloadpacket
        if packet in flop_registry:
            self.total += flop_registry[packet](*args, **kwargs, out_val=result)
        elif not func.is_view:
            outputs = [x for x in (result if isinstance(result, tuple | list) else (result,)) if isinstance(x, Tensor)]
            entries = sum(x.numel() for x in outputs)
            name = func.__name__.split(".")[0]
            if name.startswith(("linalg_", "_linalg_", "cholesky_")) and outputs[0].dim() > 1:
                entries = outputs[0].numel() * outputs[0].shape[-2]
            self.total += entries
        return result


@dataclass(frozen=True)
class Row:
    """One method on one problem.

    Args:
        problem: Its name.
        segments: T.
        method: One of `METHODS`.
        converged: Pairs that converged, for each of `TOLERANCES`.
        steps: Median steps of a pair to the last tolerance.
        rows: Rows of the metric a pair and segment: to each of `LEVELS`, then of the whole solve for each tolerance.
        operations: Operations of the whole solve to the last tolerance, in evaluations of the metric on one row, a
            pair and segment.
        milliseconds: Median times: to each of `LEVELS`, then of the whole solve for each tolerance.
        length: Mean final length.
        shortest: Pairs whose length is within 1e-4 of the shortest that any method found.
    """

    problem: str
    segments: int
    method: str
    converged: tuple[int, ...]
    steps: float
    rows: tuple[float, ...]
    operations: float
    milliseconds: tuple[float, ...]
    length: float
    shortest: int


def solvers(segments: int) -> dict[str, Solver[Any]]:
    return {
        GEORCE: Georce(),
        HALVING: Georce(adaptive=False),
        NEWTON: geodesic.Newton(),
        LBFGS: geodesic.LBFGS(),
        LBFGS_FULL: geodesic.LBFGS(metric_samples=segments),
    }


class _Run(NamedTuple):
    solution: geodesic.GeodesicSolution
    seconds: float
    rows: int
    trace: list[tuple[Tensor, float, int]]  # energies, seconds, rows


def run(problem: Problem, solver: Solver[Any], init: Tensor, tol: float) -> _Run:
    """One solve, and what it took until each step."""
    manifold, trace = Metric(problem.metric), []
    begin = time.perf_counter()

    def callback(progress: geodesic.Progress) -> None:
        trace.append((progress.energy, time.perf_counter() - begin, manifold.rows))

    solution = geodesic.solve(
        manifold,
        problem.start,
        problem.end,
        solver=solver,
        init=init,
        tol=tol,
        memory=1e12,  # all pairs at once, so that the levels mean the same for all methods
        callback=callback,
    )
    return _Run(solution, time.perf_counter() - begin, manifold.rows, trace)


def reached(one: _Run, best: Tensor) -> tuple[list[float], list[float]]:
    """Seconds and rows until most pairs were within each level of their best energy; infinite where they never were."""
    seconds, rows = [], []
    for level in LEVELS:
        there = (entry for entry in one.trace if float((entry[0] <= (1 + level) * best).double().mean()) >= SHARE)
        _, s, r = next(there, (None, math.inf, math.inf))
        seconds.append(s)
        rows.append(r)
    return seconds, rows


def measure(problem: Problem, segments: int, repeats: int) -> list[Row]:
    """Every method on one problem."""
    methods, unit = solvers(segments), len(problem.start) * segments
    with Operations() as one:
        problem.metric(problem.start)
    init = geodesic.constant_speed(Metric(problem.metric), geodesic.straight_path(problem.start, problem.end, segments))
    price = one.total / len(problem.start)
    operations: dict[str, float] = {}
    for name, solver in methods.items():
        with Operations() as counted:
            run(problem, solver, init, TOLERANCES[-1])
        operations[name] = counted.total / price / unit
    runs: dict[str, list[list[_Run]]] = {name: [] for name in methods}
    for _ in range(repeats):
        for name, solver in methods.items():
            runs[name].append([run(problem, solver, init, tol) for tol in TOLERANCES])

    lengths = {name: runs[name][0][-1].solution.length for name in methods}
    shortest = torch.stack(list(lengths.values())).amin(0)
    rows = []
    for name in methods:
        loose, tight = runs[name][0]
        found = tight.solution
        best = found.energy * torch.where(found.converged, 1 - found.relative_excess_energy, 1)
        times = [reached(repeat[-1], best)[0] + [each.seconds for each in repeat] for repeat in runs[name]]
        rows.append(
            Row(
                problem.name,
                segments,
                name,
                tuple(int(each.solution.converged.sum()) for each in (loose, tight)),
                float(tight.solution.steps.double().median()),
                tuple(r / unit for r in (*reached(tight, best)[1], loose.rows, tight.rows)),
                operations[name],
                tuple(1e3 * statistics.median(column) for column in zip(*times, strict=True)),
                float(lengths[name].mean()),
                int((lengths[name] <= shortest * (1 + 1e-4)).sum()),
            )
        )
    return rows


# --- the table and the verdict ----------------------------------------------------------------


def table(rows: Sequence[Row], pairs: int) -> Table:
    """The rows as a table, a section for each problem and T."""
    shown = Table(title=f"{pairs} pairs, float64", title_justify="left")
    headings = [
        "metric",
        "T",
        "method",
        *(f"conv. {tol:.0e}" for tol in TOLERANCES),
        "steps",
        *(f"rows to {level:.0e}" for level in LEVELS),
        "rows, all",
        "ops, all",
        *(f"ms to {level:.0e}" for level in LEVELS),
        *(f"ms, tol {tol:.0e}" for tol in TOLERANCES),
        "length",
        "shortest",
    ]
    for heading in headings:
        shown.add_column(heading, justify="left" if heading in ("metric", "method") else "right")
    for row in rows:
        first = row.method == METHODS[0]
        shown.add_row(
            row.problem if first else "",
            str(row.segments) if first else "",
            row.method,
            *(str(n) for n in row.converged),
            f"{row.steps:.0f}",
            *(f"{r:.0f}" for r in (*row.rows[: len(LEVELS)], row.rows[-1])),
            f"{row.operations:.0f}",
            *(f"{ms:.0f}" for ms in row.milliseconds),
            f"{row.length:.5f}",
            str(row.shortest),
            end_section=row.method == METHODS[-1],
        )
    return shown


def verdict(rows: Sequence[Row]) -> list[str]:
    """Where GEORCE needs less than Newton, and than the best of this library, to each level and in all."""
    cases: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        cases.setdefault((row.problem, row.segments), {})[row.method] = row
    goals = [f"to {level:.0e}" for level in LEVELS] + [f"of a solve at tol {tol:.0e}" for tol in TOLERANCES]
    lines = []
    for rival, rivals in (("Newton", (NEWTON,)), ("the best of ours", METHODS[2:])):
        for i, goal in enumerate(goals):
            for what in ("rows", "milliseconds"):
                ratios = {}
                for case, by_method in cases.items():
                    if i >= len(LEVELS):  # who gave up early was not fast
                        most = max(row.converged[i - len(LEVELS)] for row in by_method.values())
                        by_method = {k: row for k, row in by_method.items() if row.converged[i - len(LEVELS)] == most}
                    theirs = getattr(by_method[GEORCE], what)[i] if GEORCE in by_method else math.inf
                    ours = min((getattr(by_method[k], what)[i] for k in rivals if k in by_method), default=math.inf)
                    ratios[case] = 1.0 if theirs == ours == math.inf else theirs / ours
                less = [f"{name}, T = {T} ({ratios[name, T]:.2f})" for name, T in ratios if ratios[name, T] < MARGIN]
                lines.append(
                    f"{what} {goal}, GEORCE over {rival}: median {statistics.median(ratios.values()):.2f}, below "
                    f"{MARGIN} in {len(less)} of {len(ratios)}" + (": " + "; ".join(less) if less else "")
                )
    return lines


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, nargs="+", default=[32, 128], metavar="T")
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--problems", nargs="+", metavar="NAME", help="those whose names begin so; all by default")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Measure, print the table and the verdict, and return the rows."""
    options = parse(arguments)
    torch.set_num_threads(1)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        chosen = [
            problem
            for problem in problems(options.pairs, options.seed)
            if not options.problems or problem.name.startswith(tuple(options.problems))
        ]
        rows = [row for problem in chosen for T in options.segments for row in measure(problem, T, options.repeats)]
    finally:
        torch.set_default_dtype(before)
    console = Console(width=260)
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} thread", highlight=False)
    console.print(table(rows, options.pairs))
    console.print(
        "rows: of the metric, forwards or backwards, a pair and segment; ops: all operations in evaluations of the "
        f"metric, a pair and segment; to a level: until {SHARE:.0%} of the pairs are within it of their own minimum; "
        "shortest: pairs within 1e-4 of the shortest length of all methods"
    )
    for line in verdict(rows):
        console.print(line, highlight=False)
    return rows


if __name__ == "__main__":
    main()
