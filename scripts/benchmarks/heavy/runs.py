"""One run of a method on the pairs of a work, counted and timed."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from unittest import mock

import torch
from torch import Tensor, nn

import geodesic
from geodesic.solvers.progress import Progress
from geodesic.solvers.solver import SOLVERS
from scripts.benchmarks.counting import FlopCounter, Recorder, Trace, flops_of
from scripts.benchmarks.solvers.methods import between, explain, statuses
from scripts.benchmarks.solvers.peers import bare_energy, joint_lbfgs
from scripts.benchmarks.solvers.problems import Problem
from scripts.benchmarks.solvers.singly import OutOfTimeError, time_limit

HISTORY = 20  # corrections that torch's L-BFGS keeps
POLISHED = 1e-9  # tol of the paths that excess is measured against


@dataclass(frozen=True)
class Spec:
    """What is to be run.

    Args:
        method: "ours", "polish", "torch-lbfgs", or "backward", one pass of the energy of all pairs and back.
        tol: Of ours.
        seconds: After which the method is stopped.
        iterations: Most iterations of torch's L-BFGS.
        init: Where "polish" begins, (P, T + 1, d).
    """

    method: str
    tol: float = math.nan
    seconds: float = math.inf
    iterations: int = 500
    init: Tensor | None = None

    @property
    def name(self) -> str:
        """In tables."""
        return f"ours, {self.tol:g}" if self.method == "ours" else self.method


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Args:
        trace: The notes along it; its path is NaN where the method was stopped without one.
        flops: Operations of the whole run.
        converged: Which pairs the method says have converged, (P,); none where it says nothing.
        certificates: Operations of certificates, apart from steps.
        stages: Operations of each stage of ours.
        peak_bytes: Memory at its highest beyond what there was before; None where it was not measured.
        message: Why it was stopped or failed; empty where it ended by itself.
    """

    trace: Trace
    flops: int
    converged: Tensor
    certificates: int = 0
    stages: dict[str, int] = field(default_factory=dict)
    peak_bytes: int | None = None
    message: str = ""


def run(problem: Problem, spec: Spec) -> Outcome:
    """Run a method, in this process."""
    counter = FlopCounter()
    recorder = Recorder(problem.manifold, counter, time.process_time)
    with counter:
        outcome = METHODS[spec.method](problem, recorder, spec)
    return replace(outcome, flops=counter.flops)


def warm_up() -> None:
    """A small solve: the first one of a process also pays for what torch imports on the way."""
    plane, ends = geodesic.PullbackManifold(nn.Linear(40, 40).requires_grad_(False)), torch.randn(2, 1, 40)
    geodesic.solve(plane, *ends, segments=4)


def vjp_flops(problem: Problem) -> int:
    """Operations of one forward and backward pass of the energy of one pair's path: the unit of all tables."""
    return flops_of(lambda: _energy_and_back(problem.only(slice(1))))


def _backward(problem: Problem, recorder: Recorder, spec: Spec) -> Outcome:
    recorder.energy(_energy_and_back(problem))
    return _outcome(recorder, problem.straight(), "one pass")


def _energy_and_back(problem: Problem) -> Tensor:
    path = problem.straight().requires_grad_()
    energy = bare_energy(problem, path)
    energy.sum().backward()
    return energy.detach()


def _torch_lbfgs(problem: Problem, recorder: Recorder, spec: Spec) -> Outcome:
    answer = joint_lbfgs(problem, recorder, spec.iterations, history=HISTORY, seconds=spec.seconds)
    return _outcome(recorder, answer.path, answer.remark)


def _ours(problem: Problem, recorder: Recorder, spec: Spec) -> Outcome:
    counter, stages, told = recorder.counter, _Stages(recorder), []

    def tell(progress: Progress) -> None:
        stages.at(progress.stage)
        if progress.stepped:
            told.append(progress.converged)
            recorder.energy(progress.energy)
        if recorder.seconds() > spec.seconds:  # where an alarm was taken for a failure of the decoder
            raise OutOfTimeError(f"no answer in {spec.seconds:.0f} s")

    settings = {"segments": problem.segments, "tol": spec.tol, "callback": tell}
    if spec.init is not None:
        settings |= {"init": between(problem, spec.init)}
    with certificates(counter) as spent:
        try:
            with time_limit(min(spec.seconds, 1e6)):
                solution = geodesic.solve(problem.manifold, problem.start, problem.end, **settings)
        except Exception as error:  # its message is the row
            if not told:
                recorder.path(problem.straight())
            nowhere = torch.full_like(problem.straight(), math.nan)
            converged = told[-1] if told else torch.zeros(len(nowhere), dtype=torch.bool)
            message = str(error) if isinstance(error, OutOfTimeError) else explain(error)
            outcome = replace(_outcome(recorder, nowhere, message), converged=converged, message=message)
        else:
            recorder.energy(solution.energy)
            outcome = replace(_outcome(recorder, solution.path, solution.plan.words), converged=solution.converged)
            outcome = replace(outcome, trace=replace(outcome.trace, statuses=statuses(solution)))
    stages.at("")
    return replace(outcome, certificates=spent[0], stages=stages.flops)


def _polish(problem: Problem, recorder: Recorder, spec: Spec) -> Outcome:
    return _ours(problem, recorder, replace(spec, tol=POLISHED))


METHODS: dict[str, Callable[[Problem, Recorder, Spec], Outcome]] = {
    "ours": _ours,
    "polish": _polish,
    "torch-lbfgs": _torch_lbfgs,
    "backward": _backward,
}


def _outcome(recorder: Recorder, path: Tensor, remark: str) -> Outcome:
    trace = recorder.trace(path, ["-"] * len(path), remark)
    return Outcome(trace, 0, torch.zeros(len(path), dtype=torch.bool))


def without_answer(problem: Problem, message: str) -> Outcome:
    """The outcome of a run that failed before it could say anything."""
    nowhere, pairs = torch.full_like(problem.straight(), math.nan), len(problem.start)
    energies = torch.full((1, pairs), math.nan, dtype=torch.float64)
    trace = Trace([math.nan], None, energies, math.nan, nowhere, ["-"] * pairs, "")
    return Outcome(trace, 0, torch.zeros(pairs, dtype=torch.bool), message=message)


class _Stages:
    """Operations by stage."""

    def __init__(self, recorder: Recorder) -> None:
        self.flops: dict[str, int] = {}
        self._counter, self._stage, self._since = recorder.counter, "", 0

    def at(self, stage: str) -> None:
        """What is being done now."""
        if stage == self._stage:
            return
        if self._stage:
            self.flops[self._stage] = self.flops.get(self._stage, 0) + self._counter.flops - self._since
        self._stage, self._since = stage, self._counter.flops


@contextmanager
def certificates(counter: FlopCounter) -> Iterator[list[int]]:
    """Adds up the operations of the certificates that solvers give in here, in a list of one number."""
    spent = [0]

    def watched(certify: Callable) -> Callable:
        @functools.wraps(certify)
        def call(*args: object, **kwargs: object) -> object:
            before = counter.flops
            try:
                return certify(*args, **kwargs)
            finally:
                spent[0] += counter.flops - before

        return call

    with ExitStack() as stack:
        for solver in (SOLVERS[kind] for kind in SOLVERS):
            if "certify" in vars(solver):  # what is inherited is watched where it is defined
                stack.enter_context(mock.patch.object(solver, "certify", watched(solver.certify)))
        yield spent
