"""The benchmark of dear decoders counts what it says, and measures against the minima that are known."""

import contextlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import geodesic
from scripts.benchmarks.counting import FlopCounter, Recorder
from scripts.benchmarks.heavy import command, rows, runs, shapes
from scripts.benchmarks.heavy.apart import run_apart
from scripts.benchmarks.heavy.networks import SIDE, BatchNormConv, dcgan, take_statistics
from scripts.benchmarks.heavy.references import last_energies, reference_energies
from scripts.benchmarks.heavy.runs import Spec, run, vjp_flops
from scripts.benchmarks.heavy.works import WORKS, work_problem
from scripts.benchmarks.solvers.peers import joint_lbfgs
from scripts.benchmarks.solvers.problems import Problem


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Benchmarks set the number of threads, which the other tests should not feel."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def tiny(pairs: int = 2) -> Problem:
    return work_problem("tiny-40", Path(), pairs, None, torch.float64)


@pytest.mark.slow
def test_a_work_is_measured_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--works", "tiny-40", "--pairs", "2", "--segments", "4", "--iterations", "120", "--here"]
    found = command.main([*asked, "--out", str(tmp_path)])["tiny-40"]
    assert [(row["method"], row["pairs"]) for row in found] == [
        (method, 2) for method in ("ours, 0.0001", "ours, 1e-06", "torch-lbfgs")
    ]
    for row in found:
        costs = [row["vjps"][level] for level in ("0.01", "0.001", "0.0001")]
        assert costs == sorted(costs)
        assert costs[-1] <= row["whole_vjps"]
        assert row["over_minima"] == row["pairs"]
        assert max(row["final_excess"]) <= 1e-4
        if row["method"] == "torch-lbfgs":  # an evaluation is one, also with two pairs
            evaluations = int(re.search(r"(\d+) evaluations", row["remark"])[1])
            assert row["whole_vjps"] == pytest.approx(evaluations, rel=1e-9)
        else:
            assert row["converged"] == row["pairs"]
            assert 0 < row["certificates_vjps"] < row["whole_vjps"]
            # What comes before the first stage is to look at the ends; nothing but that is left out.
            assert sum(row["stages_vjps"].values()) == pytest.approx(row["whole_vjps"], rel=0.05)
    claiming = found[1]
    assert (claiming["claims"], claiming["true_claims"]) == (2, 2)
    written = json.loads((tmp_path / "tiny-40.json").read_text())
    assert written["rows"][0]["vjps"] == found[0]["vjps"]
    printed = capsys.readouterr().out
    assert "tiny-40: d = 40, T = 4, float64" in printed
    assert "ours over torch's L-BFGS" in printed


@pytest.mark.slow
def test_a_run_apart_is_the_same_run_with_its_memory() -> None:
    problem, spec = tiny(), Spec("torch-lbfgs", iterations=5)
    here, apart = run(problem, spec), run_apart(problem, spec)
    torch.testing.assert_close(apart.trace.energies, here.trace.energies)
    assert apart.flops == here.flops
    assert here.peak_bytes is None
    assert 0 < apart.peak_bytes < 1e9


def test_a_run_without_an_answer_says_why_and_has_no_costs() -> None:
    outcome = runs.without_answer(tiny(), "killed")
    row = rows.row_of(Spec("ours"), outcome, 1, torch.full((1, 2), math.nan), torch.ones(2))
    assert (row["message"], row["converged"]) == ("killed", 0)
    assert row["vjps"] == row["seconds"] == {"0.01": None, "0.001": None, "0.0001": None}


def test_the_unit_is_a_forward_and_a_backward_pass_of_one_path() -> None:
    problem = tiny()
    weights = sum(weight.numel() for weight in problem.network.parameters() if weight.dim() == 2)
    assert vjp_flops(problem) == 2 * (2 * weights) * (problem.segments + 1)
    assert run(problem, Spec("backward")).flops == 2 * vjp_flops(problem)


def test_a_run_that_is_stopped_keeps_what_it_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "time_limit", lambda seconds: contextlib.nullcontext())
    outcome = run(tiny(), Spec("ours", tol=1e-4, seconds=0.0))
    assert "no answer in" in outcome.message
    assert bool(outcome.trace.path.isnan().all())
    assert bool(last_energies(outcome).isfinite().all())
    assert not bool(outcome.converged.any())


def test_joint_lbfgs_returns_the_best_that_it_met_wherever_it_is_stopped() -> None:
    class Impatient(Recorder):
        """Time passes with every look at the clock."""

        looks = 0

        def seconds(self) -> float:
            self.looks += 1
            return self.looks

    problem = tiny(1)
    for limit in (0, 6):  # at the first evaluation, and at the fourth, the first that is refused
        recorder = Impatient(problem.manifold)
        answer = joint_lbfgs(problem, recorder, 100, history=3, seconds=limit)
        energies = recorder.trace(answer.path, [], "").energies
        torch.testing.assert_close(geodesic.path_energy(problem.manifold, answer.path), energies[-1])
        assert bool((energies.sum(1).diff() < 0).all())
        evaluations = int(re.search(r"(\d+) evaluations", answer.remark)[1])
        assert evaluations - len(energies) == (limit > 0)


@pytest.mark.slow
def test_certificates_are_counted_wherever_they_are_given_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, counter, certify, spent = tiny(1), FlopCounter(), geodesic.LBFGS.certify, []

    def measured(*args: object) -> object:
        before = counter.flops
        certificate = certify(*args)
        spent.append(counter.flops - before)
        return certificate

    monkeypatch.setattr(geodesic.LBFGS, "certify", measured)
    with counter, runs.certificates(counter) as found:
        geodesic.solve(problem.manifold, problem.start, problem.end, segments=4, solver=geodesic.LBFGS())
    assert found == [sum(spent)]
    assert 0 < sum(spent) < counter.flops
    assert geodesic.LBFGS.certify is measured


def test_excess_is_over_the_highest_certified_minimum_below_the_path() -> None:
    nan = math.nan
    certified = torch.tensor([[1.0, 1.0, nan, 3.0], [2.0, 2.0, nan, nan]])
    energies, found = reference_energies(torch.tensor([2.5, 1.5, 1.5, 2.0]), certified, torch.full((4,), 0.5))
    torch.testing.assert_close(energies, torch.tensor([2.0, 1.0, 0.5, 0.5]))
    assert found.tolist() == [True, True, False, False]


def test_the_first_pair_is_the_same_however_many_there_are() -> None:
    one, many = tiny(1), tiny(16)
    assert torch.equal(one.start[0], many.start[0])
    assert torch.equal(one.end[0], many.end[0])


@pytest.mark.parametrize("name", [pytest.param("dcgan-100", marks=pytest.mark.slow), "transformer-128", "latent-1024"])
def test_decoders_with_random_weights_treat_rows_apart_and_are_the_same_each_time(name: str) -> None:
    problem, again = (work_problem(name, Path(), 2, None, torch.float32) for _ in range(2))
    assert problem.start.shape == (2, int(name.rpartition("-")[2]))
    with torch.no_grad():
        x = problem.network(problem.start)
        torch.testing.assert_close(problem.network(problem.start[:1]), x[:1], rtol=1e-4, atol=1e-5)
        assert torch.equal(again.network(again.start), x)
    assert x[0].numel() in (3 * SIDE * SIDE, 8 * 96)
    assert float((x[0] - x[1]).abs().mean()) > 1e-3


@pytest.mark.slow
def test_statistics_of_one_pass_make_evaluation_what_training_is_on_it() -> None:
    generator, noise = dcgan(latent_size=4, width=2), torch.randn(200, 4)
    take_statistics(generator, noise)
    with torch.no_grad():
        evaluated = generator(noise)
        trained = generator.train()(noise)
    torch.testing.assert_close(evaluated, trained, rtol=0.01, atol=0.01)


def test_pictures_of_shapes_are_pictures_and_their_vae_takes_them() -> None:
    pictures = shapes.draw(5, seed=1)
    assert pictures.shape == (5, 3, SIDE, SIDE)
    assert bool(((pictures >= 0) & (pictures <= 1)).all())
    torch.testing.assert_close(pictures[:, :, 0, 0], pictures[:, :, -1, -1], rtol=0, atol=0.05)  # the ground
    assert bool((pictures.flatten(2).std(-1) > 0.01).any(1).all())  # and something before it
    assert torch.equal(pictures, shapes.draw(5, seed=1))
    vae = geodesic.VAE((3, SIDE, SIDE), 3, network=BatchNormConv((2, 4)))
    assert vae.elbo(pictures.to(torch.float64)).value.shape == (5,)


def test_every_work_but_the_smallest_is_measured_by_default() -> None:
    assert command.parse([]).works == [name for name in WORKS if name != "tiny-40"]


def test_costs_are_compared_where_both_get_there() -> None:
    assert rows.ratio(3.0, 6.0) == "0.50"
    assert rows.ratio(3.0, None) == "only ours"
    assert rows.ratio(None, 3.0) == "not ours"
