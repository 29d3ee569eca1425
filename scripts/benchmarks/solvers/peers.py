"""Peers that take all pairs at once: torch.optim, stochman, and the naive loop over points.

Each is called as its own documentation says, with its own defaults. What it reports of itself is not used: its path, at
T + 1 equally spaced times, is measured by our energy in float64.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import geodesic
from scripts.benchmarks.counting import Recorder, flops_of
from scripts.benchmarks.energy_gradient import naive_loop
from scripts.benchmarks.solvers.methods import Answer, Budget, Run, between, statuses
from scripts.benchmarks.solvers.problems import Problem
from scripts.benchmarks.solvers.singly import OutOfTimeError

RATES = (1e-3, 1e-2, 1e-1)  # learning rates that Adam is given to choose from


def _interior(problem: Problem) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The interior nodes of the straight lines as parameters, and what makes paths of them."""
    nodes = problem.straight()[:, 1:-1].clone().requires_grad_()
    start, end = problem.start[:, None], problem.end[:, None]
    return nodes, lambda nodes: torch.cat([start, nodes, end], dim=1)


def bare_energy(problem: Problem, path: Tensor) -> Tensor:
    """Energies of paths, (P,), by the network and nothing else: peers do not pay for looking at a decoder."""
    x = problem.network(path.flatten(0, 1)).unflatten(0, path.shape[:2]).flatten(2)
    return problem.segments / 2 * x.diff(dim=1).square().sum((1, 2))


def torch_lbfgs(problem: Problem, recorder: Recorder, budget: Budget) -> Answer:
    return joint_lbfgs(problem, recorder, budget.lbfgs_iterations)


def joint_lbfgs(
    problem: Problem, recorder: Recorder, iterations: int, history: int = 100, seconds: float = math.inf
) -> Answer:
    """L-BFGS of torch on the interior nodes of all paths at once; its answer are the best nodes that it met.

    Args:
        problem: The pairs.
        recorder: Takes notes wherever the sum of all energies is the least so far.
        iterations: Most of them.
        history: Corrections that are kept, by default as many as torch keeps.
        seconds: It is stopped at the first evaluation that ends later.
    """
    nodes, path = _interior(problem)
    # Tolerances of zero: it is to use its iterations, and the evaluations that they need.
    optimizer = torch.optim.LBFGS(
        [nodes],
        max_iter=iterations,
        max_eval=20 * iterations,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        history_size=history,
        line_search_fn="strong_wolfe",
    )
    best, kept, evaluations = torch.inf, nodes.detach(), 0

    def closure() -> Tensor:
        nonlocal best, kept, evaluations
        optimizer.zero_grad()
        energy = bare_energy(problem, path(nodes))
        total = energy.sum()
        total.backward()
        evaluations += 1
        # Trial points of the line search count as answers too, if they are the best so far.
        if (value := float(total.detach())) < best:
            best, kept = value, nodes.detach().clone()
            recorder.energy(energy)
        if recorder.seconds() > seconds:
            raise OutOfTimeError
        return total

    with contextlib.suppress(OutOfTimeError):
        optimizer.step(closure)
    done = optimizer.state[nodes].get("n_iter", 0)
    return Answer(path(kept), ["-"] * len(nodes), f"{done} iterations, {evaluations} evaluations")


def _adam_with(rate: float, problem: Problem, recorder: Recorder, steps: int) -> Tensor:
    nodes, path = _interior(problem)
    optimizer = torch.optim.Adam([nodes], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        energy = bare_energy(problem, path(nodes))
        energy.sum().backward()
        recorder.energy(energy)
        optimizer.step()
    recorder.path(path(nodes))
    return path(nodes.detach())


class Adam:
    """Adam at the learning rate that ends lowest on this problem; what the choice costs is not charged to it."""

    def __init__(self) -> None:
        self.rates: dict[str, float] = {}

    def __call__(self, problem: Problem, recorder: Recorder, budget: Budget) -> Answer:
        if problem.name not in self.rates:
            with recorder.aside():
                self.rates[problem.name] = min(RATES, key=lambda rate: self._final_energy(rate, problem, budget))
        rate = self.rates[problem.name]
        path = _adam_with(rate, problem, recorder, budget.adam_steps)
        return Answer(path, ["-"] * len(path), f"lr {rate:g}")

    def _final_energy(self, rate: float, problem: Problem, budget: Budget) -> float:
        path = _adam_with(rate, problem, Recorder(problem.manifold), budget.adam_steps)
        with torch.no_grad():
            return float(geodesic.path_energy(problem.manifold, path).nan_to_num(torch.inf).sum())


def stochman(max_iter: int) -> Run:
    """The cubic spline of stochman with its Adam: `manifold.connecting_geodesic`, which takes 150 steps."""

    def run(problem: Problem, recorder: Recorder, budget: Budget) -> Answer:
        with recorder.aside():
            from stochman import CubicSpline
            from stochman.geodesic import geodesic_minimizing_energy
            from stochman.manifold import EmbeddedManifold

        class Decoded(EmbeddedManifold):
            def embed(self, points: Tensor, jacobian: bool = False) -> Tensor:
                return problem.network(points.reshape(-1, points.shape[-1])).reshape(*points.shape[:-1], -1)

        # Copies: stochman changes the shape of the caller's tensors.
        curve = CubicSpline(problem.start.clone(), problem.end.clone())
        t = torch.linspace(0, 1, problem.segments + 1, dtype=problem.start.dtype)

        def path() -> Tensor:
            return between(problem, curve(t).detach().reshape(*problem.straight().shape))

        class Noting(torch.optim.Adam):
            def step(self, closure: Any = None) -> Any:
                loss = super().step(closure)
                with recorder.aside():
                    nodes = path()
                recorder.path(nodes)
                return loss

        recorder.path(problem.straight())
        # The body of connecting_geodesic, which takes neither an optimizer nor a number of steps.
        success = geodesic_minimizing_energy(curve, Decoded(), optimizer=Noting, max_iter=max_iter)
        return Answer(path(), ["-"] * len(problem.start), f"{max_iter} steps, its own verdict: {bool(success)}")

    return run


def naive(problem: Problem, recorder: Recorder, budget: Budget) -> Answer:
    """Three backward calls a point: one step is timed, and plain gradient descent says how many are needed."""
    one = problem.straight()[:1]
    step_flops = flops_of(lambda: naive_loop(problem.network, one))
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        naive_loop(problem.network, one)
        times.append(time.perf_counter() - begin)
    pairs, step_seconds = len(problem.start), statistics.median(times)
    history: list[Tensor] = []

    def descend(step_size: float, steps: int) -> geodesic.GeodesicSolution:
        history.clear()
        return geodesic.solve(
            problem.manifold,
            problem.start,
            problem.end,
            solver=geodesic.GradientDescent(preconditioned=False, step_size=step_size),
            segments=problem.segments,
            tol=budget.tol,
            max_steps=steps,
            callback=lambda progress: history.append(progress.energy) if progress.stepped else None,
        )

    alpha = _largest_step(problem, descend, history)
    solution = descend(alpha, budget.plain_steps)
    for k, energy in enumerate(history):
        recorder.extrapolated(energy, k * pairs * step_seconds, k * pairs * step_flops)
    remark = f"extrapolated: {1e3 * step_seconds:.1f} ms a step, {len(history) - 1} steps of {alpha:.1e}"
    return Answer(solution.path, statuses(solution), remark)


def _largest_step(problem: Problem, descend: Callable[[float, int], Any], history: list[Tensor]) -> float:
    """The largest of 4, 2, 1, 1/2, ... times 1 / (4 T max G) by which all energies have fallen after 30 steps."""
    G = problem.manifold.metric_tensor(problem.straight())
    alpha = 4 / float(4 * problem.segments * torch.linalg.eigvalsh(G).max())
    for _ in range(10):
        descend(alpha, 30)
        if bool((history[-1] <= history[0]).all()) and bool((history[-1] <= history[len(history) // 2]).all()):
            break
        alpha /= 2
    return alpha
