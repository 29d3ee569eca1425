"""Laws of what `solve` tells on the way."""

from functools import cache
from itertools import groupby, pairwise
from typing import Any

import pytest
import torch
from torch import nn

import geodesic
from geodesic.solvers import Progress
from geodesic.solvers import progress as module
from geodesic.solvers.progress import Watch
from tests.decoders import network, pairs

CALLS: dict[str, dict[str, Any]] = {
    "refined": {"length_rtol": 1e-7},
    "fixed": {"segments": 16},
    "limited": {"segments": 16, "max_steps": 1},
    "both starts": {"init": "best", "length_rtol": 1e-2},
    "in groups": {"memory": 1e6, "length_rtol": 1e-2},
    "both starts, fixed": {"segments": 16, "init": "best"},
    "descent": {"segments": 8, "solver": geodesic.GradientDescent(), "max_steps": 3},
    "fixed, in groups": {"memory": 1e5, "segments": 16},
}


def ends() -> tuple[torch.Tensor, torch.Tensor]:
    start, end = pairs(4)
    end[3] = start[3]
    return start, end


@cache
def told(call: str) -> tuple[list[Progress], geodesic.GeodesicSolution]:
    seen: list[Progress] = []
    manifold = geodesic.PullbackManifold(network(activation=nn.ELU if call == "refined" else nn.ReLU))
    return seen, geodesic.solve(manifold, *ends(), callback=seen.append, **CALLS[call])


def stages(seen: list[Progress]) -> list[tuple[str, int]]:
    return [stage for stage, _ in groupby((p.stage, p.segments) for p in seen)]


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_pairs_that_ended_never_fall_and_are_all_at_last(call: str) -> None:
    seen, _ = told(call)
    first, last = seen[0], seen[-1]
    assert (first.stage, first.ended, first.seconds_left, first.stepped) == ("first paths", 0, None, False)
    assert (last.stage, last.ended, last.seconds_left, last.pairs) == ("done", 4, 0, 4)
    for before, after in pairwise(seen):
        assert before.ended <= after.ended
        assert before.seconds <= after.seconds
    assert all(p.seconds_left is None or p.seconds_left >= 0 for p in seen)
    assert all(p.ended + int(p.active.sum()) <= p.pairs for p in seen)  # none has ended that is worked on


@pytest.mark.slow
def test_a_pair_that_is_refined_has_not_ended_until_its_last_mesh() -> None:
    seen, solution = told("refined")
    finest = int(solution.segments.max())
    assert finest > 64
    assert {p.ended for p in seen if p.segments == 32 and p.stage != "done"} == {0}
    for T in range(6, finest.bit_length() - 1):
        (ended,) = {p.ended for p in seen if p.segments == 2**T}
        assert ended <= int((solution.segments < 2**T).sum())
    assert all(p.ended < p.pairs for p in seen[:-1])


@pytest.mark.slow
def test_with_fixed_segments_pairs_end_where_the_solver_ends_and_both_starts_count_once() -> None:
    seen, _ = told("fixed")
    assert all(p.ended == int((~p.active).sum()) for p in seen if p.stepped)
    assert {p.ended for p in seen if p.stage == "Newton"} >= {1, 4}
    seen, _ = told("both starts, fixed")
    starts = [i for i, p in enumerate(seen) if p.stage == "warm-up by LBFGS" and not p.stepped]
    assert len(starts) == 2
    assert {p.ended for p in seen[: starts[1] + 1]} == {0}


@pytest.mark.slow
def test_stages_come_in_order_and_name_the_solvers() -> None:
    seen, solution = told("refined")
    expected = [("first paths", 32)]
    for T in (32, 64, 128, 256, 512, 1024):
        expected += [(f"refining to {T} segments", T)] * (T > 32)
        expected += [("warm-up by LBFGS", T), ("Newton", T), ("measuring", T)]
    found = stages(seen)
    assert found[:-1] == expected[: len(found) - 1]
    assert found[-1] == ("done", found[-2][1])
    assert found[-2][1] >= int(solution.segments.max())
    assert stages(told("descent")[0]) == [("first paths", 8), ("GradientDescent", 8), ("measuring", 8), ("done", 8)]


def test_the_time_left_is_that_of_the_pairs_left_at_the_pace_of_those_that_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    seen: list[Progress] = []
    watch = Watch(seen.append, torch.Size([20]), torch.zeros(20, 2))
    watch.start(0, fixed=False)

    def left_at(second: float) -> float | None:
        clock[0] = second
        watch.stage("Newton", 64)
        return seen[-1].seconds_left

    assert left_at(50.0) is None
    clock[0] = 60.0
    watch.refine(torch.arange(19), 64)
    assert seen[-1].seconds_left is None  # fewer than one in ten
    clock[0] = 100.0
    watch.refine(torch.arange(15), 128)
    assert seen[-1].seconds_left == 300.0  # 20 s a pair
    assert left_at(150.0) == 250.0
    assert left_at(401.0) is None  # the estimate was wrong
    clock[0] = 480.0
    watch.refine(torch.arange(5), 256)
    assert seen[-1].seconds_left == 160.0
    watch.done()
    assert seen[-1].seconds_left == 0.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.0, ""),
        (3.0, ", a few seconds left"),
        (42.0, ", about 40 s left"),
        (94.0, ", about 90 s left"),
        (130.0, ", about 2 min left"),
        (5400.0, ", about 1.5 h left"),
        (40000.0, ", about 11 h left"),
    ],
)
def test_progress_reads_as_a_line(seconds: float | None, words: str) -> None:
    x = torch.zeros(3)
    progress = Progress(7, x, x == 0, x > 0, True, "Newton", 64, 1, 3, 1.0, seconds)
    assert str(progress) == f"1 of 3 pairs ended{words}: Newton, 64 segments, step 7"


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["first paths", "warm-up by LBFGS", "Newton", "measuring", "done"])
def test_a_callback_that_raises_stops_the_call_and_nothing_else(stage: str) -> None:
    class Enough(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.stage == stage:
            raise Enough

    manifold = geodesic.PullbackManifold(network())
    before = geodesic.solve(manifold, *ends(), segments=8)
    with pytest.raises(Enough):
        geodesic.solve(manifold, *ends(), segments=8, callback=stop)
    assert torch.equal(geodesic.solve(manifold, *ends(), segments=8).path, before.path)


@pytest.mark.slow
def test_watching_changes_no_answer() -> None:
    _, watched = told("fixed")
    alone = geodesic.solve(geodesic.PullbackManifold(network(activation=nn.ReLU)), *ends(), **CALLS["fixed"])
    assert torch.equal(alone.path, watched.path)
