"""All methods: this library's solvers, and the peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import geodesic
from scripts.benchmarks.counting import Recorder
from scripts.benchmarks.solvers.methods import Answer, Budget, Method, Run, statuses
from scripts.benchmarks.solvers.peers import Adam, naive, stochman, torch_lbfgs
from scripts.benchmarks.solvers.problems import Problem
from scripts.benchmarks.solvers.singly import geomstats, latent_geometry


def _ours(make: Callable[[], dict[str, Any]]) -> Run:
    def run(problem: Problem, recorder: Recorder, budget: Budget) -> Answer:
        solution = geodesic.solve(
            problem.manifold,
            problem.start,
            problem.end,
            segments=problem.segments,
            tol=budget.tol,
            max_steps=budget.max_steps,
            memory=budget.memory,
            callback=lambda progress: recorder.energy(progress.energy) if progress.stepped else None,
            **make(),
        )
        return Answer(solution.path, statuses(solution))

    return run


def all_methods() -> list[Method]:
    """Ours, then the peers. Solvers are made when they are run."""
    return [
        Method("auto", _ours(dict), ours=True, together=False),
        Method("Newton", _ours(lambda: {"solver": geodesic.Newton()}), ours=True, together=False),
        Method("LBFGS", _ours(lambda: {"solver": geodesic.LBFGS()}), ours=True, together=False),
        Method("NewtonKrylov", _ours(lambda: {"solver": geodesic.NewtonKrylov()}), ours=True, together=False),
        Method("GradientDescent", _ours(lambda: {"solver": geodesic.GradientDescent()}), ours=True, together=False),
        Method("stochman", stochman(150)),
        Method("stochman-1000", stochman(1000)),
        Method("torch-lbfgs", torch_lbfgs),
        Method("torch-adam", Adam()),
        Method("latent-geometry", latent_geometry, counted=False),
        Method("geomstats-shooting", geomstats("shooting"), counted=False),
        Method("geomstats-straightening", geomstats("straightening"), counted=False),
        Method("naive", naive, counted=False),
    ]
