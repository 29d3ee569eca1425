"""Peers that take one pair after the other: latent-geometry and geomstats."""

from __future__ import annotations

import copy
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

import geodesic
from scripts.benchmarks.counting import Recorder
from scripts.benchmarks.solvers.methods import Answer, Budget, Run, between, explain
from scripts.benchmarks.solvers.problems import Problem


class OutOfTimeError(Exception):
    """A peer was stopped."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Stop what runs in here by an `OutOfTimeError`."""

    def stop(*_: object) -> None:
        raise OutOfTimeError(f"no answer in {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _one_by_one(problem: Problem, recorder: Recorder, budget: Budget, find: Callable[[Tensor, Tensor], Any]) -> Answer:
    """Call a peer that takes one pair, until its time is up. Where a pair fails, its status is the error."""
    path, ended = problem.straight(), []
    found = torch.zeros(len(path), dtype=torch.bool)
    for p, (a, b) in enumerate(zip(problem.start, problem.end, strict=True)):
        left = budget.peer_seconds - recorder.seconds()
        if left <= 0:
            ended.append("not tried: out of time")
            continue
        try:
            with time_limit(left):
                path[p] = torch.as_tensor(find(a, b), dtype=path.dtype)
            found[p] = True
            ended.append("found")
        except Exception as error:  # whatever the peer raises is its entry in the table
            ended.append(explain(error))
    path = between(problem, path)
    with torch.no_grad():
        energy = geodesic.path_energy(problem.manifold, path)
    recorder.energy(torch.where(found, energy, torch.nan))
    others = Counter(status for status in ended if status != "found")
    remark = "; ".join([f"{int(found.sum())} of {len(path)} pairs found", *(f"{n} x {s}" for s, n in others.items())])
    return Answer(path, ended, remark)


def latent_geometry(problem: Problem, recorder: Recorder, budget: Budget) -> Answer:
    """SciPy's boundary value solver on the geodesic equation."""
    with recorder.aside():
        from latent_geometry.manifold import LatentManifold
        from latent_geometry.mapping import TorchModelMapping
        from latent_geometry.metric import EuclideanMetric

    # It turns every input into float32, and fails on a decoder in float64.
    network = copy.deepcopy(problem.network).float()
    d = problem.start.shape[-1]
    outputs = problem.network(problem.start[:1]).shape[1:]
    mapping = TorchModelMapping(network, in_shape=(d,), out_shape=tuple(outputs))
    manifold = LatentManifold(mapping, EuclideanMetric())

    def find(a: Tensor, b: Tensor) -> Tensor:
        curve = manifold.shortest_path(a.numpy(), b.numpy())
        return torch.stack([torch.as_tensor(curve(float(t))) for t in torch.linspace(0, 1, problem.segments + 1)])

    return _one_by_one(problem, recorder, budget, find)


def geomstats(solver: str) -> Run:
    """The pullback metric of geomstats, by `shooting` (its default) or by `straightening` the path."""

    def run(problem: Problem, recorder: Recorder, budget: Budget) -> Answer:
        os.environ.setdefault("GEOMSTATS_BACKEND", "pytorch")  # read at import; the others have no autodiff
        with _default_dtype(torch.float64):  # geomstats sets it at import, for everybody
            with recorder.aside():
                import geomstats.backend  # noqa: F401
                from geomstats.geometry.base import ImmersedSet
                from geomstats.geometry.euclidean import Euclidean
                from geomstats.numerics.geodesic import PathStraightening

            outputs = problem.network(problem.start[:1]).shape[-1]

            class Decoded(ImmersedSet):
                def _define_embedding_space(self) -> Any:
                    return Euclidean(outputs)

                def immersion(self, point: Tensor) -> Tensor:
                    return problem.network(point.reshape(-1, point.shape[-1])).reshape(*point.shape[:-1], outputs)

            space = Decoded(dim=problem.start.shape[-1])
            t = torch.linspace(0, 1, problem.segments + 1)

            def find(a: Tensor, b: Tensor) -> Any:
                if solver == "shooting":
                    return space.metric.geodesic(initial_point=a, end_point=b)(t)
                return PathStraightening(space, n_nodes=problem.segments + 1).discrete_geodesic_bvp(b, a)

            return _one_by_one(problem, recorder, budget, find)

    return run


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
