"""What a method is: it finds paths for all pairs and takes notes on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import geodesic
from scripts.benchmarks.counting import FlopCounter, Recorder, Trace, counting
from scripts.benchmarks.solvers.problems import Problem


@dataclass(frozen=True)
class Budget:
    """How long a method may go on.

    Args:
        tol: `tol` of our solvers.
        max_steps: Most steps of our solvers.
        memory: `memory` of them, in bytes.
        adam_steps: Steps of Adam.
        lbfgs_iterations: Iterations of torch's L-BFGS.
        plain_steps: Steps of plain gradient descent, on which the naive loop is extrapolated.
        peer_seconds: For all pairs together, of a peer that takes one pair after the other.
    """

    tol: float = 1e-8
    max_steps: int = 1000
    memory: float = 1e9
    adam_steps: int = 1000
    lbfgs_iterations: int = 500
    plain_steps: int = 1000
    peer_seconds: float = 300.0


@dataclass(frozen=True)
class Answer:
    """What a method returns.

    Args:
        path: (P, T + 1, d).
        statuses: Why each pair ended.
        remark: What the reader of the table should know.
    """

    path: Tensor
    statuses: list[str]
    remark: str = ""


Run = Callable[[Problem, Recorder, Budget], Answer]


@dataclass(frozen=True)
class Method:
    """A way to find geodesics.

    Args:
        name: In tables, and after `--methods`.
        run: Finds the paths.
        ours: Whether it is one of this library's solvers.
        together: Whether the pairs share one optimization: its work is then that of the batch over the pairs.
            Otherwise the work of a pair is counted with the pair alone.
        counted: Whether its work is counted.
    """

    name: str
    run: Run
    ours: bool = False
    together: bool = True
    counted: bool = True

    def trace(self, problem: Problem, budget: Budget, counter: FlopCounter | None = None) -> Trace:
        """Run it on all pairs of the problem."""
        recorder = Recorder(problem.manifold, counter)
        with counting(counter):
            answer = self.run(problem, recorder, budget)
            return recorder.trace(answer.path, answer.statuses, answer.remark)


def between(problem: Problem, path: Tensor) -> Tensor:
    """The path with the ends that were asked for, bit for bit."""
    return torch.cat([problem.start[:, None], path[:, 1:-1], problem.end[:, None]], dim=1)


def explain(error: Exception) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def statuses(solution: geodesic.GeodesicSolution) -> list[str]:
    """The pairs' statuses by name."""
    return [geodesic.Status(int(status)).name.lower() for status in solution.status]
