"""What means pay for their geodesics: looked for once, kept near while the mean moves, certified once."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import geodesic
from geodesic import Search, Stop, frechet_mean, frechet_median, k_means, principal_geodesic_analysis
from geodesic.geometry.path import straight_path
from geodesic.riemannian.maps import log_map as logarithms
from geodesic.riemannian.statistics import pairs
from geodesic.riemannian.statistics.relaxation import Quadratic, affordable, relaxed
from geodesic.solvers.solve import find
from scripts.benchmarks.counting import flops_of

T = 8


def network(d: int) -> geodesic.PullbackManifold:
    torch.manual_seed(2)
    layers = [nn.Linear(d, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 48)]
    return geodesic.PullbackManifold(nn.Sequential(*layers).eval())


def passes(manifold: geodesic.PullbackManifold, call: Any, z: torch.Tensor) -> float:
    """Decoder passes of one point that a call takes."""
    return flops_of(call) / (flops_of(lambda: manifold.embed(z)) / len(z))


def spied(monkeypatch: pytest.MonkeyPatch, module: Any = pairs) -> list[Search]:
    """The searches with which a module calls the solver from now on."""
    asked: list[Search] = []

    def spy(manifold: Any, start: Any, end: Any, search: Search) -> Any:
        asked.append(search)
        return find(manifold, start, end, search)

    monkeypatch.setattr(module, "find", spy)
    return asked


@pytest.mark.slow
def test_the_second_derivative_of_an_energy_in_its_first_end_is_that_of_energies_solved_for() -> None:
    manifold, a, b = network(3), torch.randn(3) / 2, torch.randn(3) / 2
    solution = geodesic.solve(manifold, a, b, segments=T, tol=1e-16)
    bend = Quadratic.at(manifold, solution.path[None]).bend[0]
    h, units = 1e-3, torch.eye(3)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    moves = h * (signs[:, 0, None, None, None] * units[:, None] + signs[:, 1, None, None, None] * units[None])
    E = geodesic.solve(manifold, a + moves, b.expand_as(moves), segments=T, tol=1e-16).energy
    assert_close(bend, (E[0] - E[1] - E[2] + E[3]) / (4 * h**2), rtol=1e-4, atol=1e-4 * float(bend.abs().max()))


@pytest.mark.slow
def test_paths_whose_ends_have_moved_are_near_geodesics_again_after_fewer_steps_with_factors() -> None:
    manifold, a, b = network(4), torch.randn(5, 4), torch.randn(5, 4)
    before = geodesic.solve(manifold, a, b, segments=T, tol=1e-10).path
    fade = torch.linspace(1, 0, T + 1)[:, None]
    moved = before + fade * (0.02 * torch.randn(5, 1, 4))
    tol = torch.full((5,), 1e-12)
    with_factors = relaxed(manifold, moved, Quadratic.at(manifold, before).factors, tol, 50)
    without = relaxed(manifold, moved, None, tol, 50)
    for way in (with_factors, without):
        assert (geodesic.geometry.relative_excess_energy(manifold, way.path) < 1e-11).all()
        assert_close(way.energy, geodesic.path_energy(manifold, way.path))
        assert torch.equal(way.path[:, [0, -1]], moved[:, [0, -1]])
    assert with_factors.steps.sum() < 0.7 * without.steps.sum()


def test_a_path_between_equal_ends_has_no_energy_and_takes_no_step() -> None:
    manifold, z = network(3), torch.randn(1, 3)
    still = straight_path(z, z, T)
    way = relaxed(manifold, still, Quadratic.at(manifold, still).factors, torch.zeros(1), 50)
    assert float(way.energy) == int(way.steps) == 0


def test_a_path_that_is_no_minimum_is_preconditioned_by_the_metric_and_its_bend_is_unknown() -> None:
    hill = geodesic.PullbackManifold(lambda z: torch.cat([z, 3 * (-z.square().sum(1, True)).exp()], dim=1))
    over = straight_path(torch.tensor([[-1.5, 0.0]]), torch.tensor([[1.5, 0.0]]), 32)
    quadratic = Quadratic.at(hill, over)
    assert quadratic.bend.isnan().all()
    assert quadratic.factors.positive.all()


@pytest.mark.slow
def test_a_mean_looks_for_its_geodesics_once_and_certifies_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    manifold, x, asked = network(4), torch.randn(6, 4), spied(monkeypatch)
    for center in (frechet_mean, frechet_median):
        asked.clear()
        answer = center(manifold, x, search=Search(segments=T))
        assert answer.converged
        assert answer.iterations > 2
        assert [isinstance(search.init, str) for search in asked] == [True, False]


@pytest.mark.slow
def test_what_a_mean_says_of_its_geodesics_is_what_the_solver_says() -> None:
    manifold, x = network(4), torch.randn(6, 4)
    mean = frechet_mean(manifold, x, search=Search(segments=T))
    solution = geodesic.solve(manifold, mean.point.expand_as(x), x, segments=T, tol=1e-14)
    assert_close(mean.distances, solution.length, rtol=1e-9, atol=0)
    assert_close(mean.paths, solution.path, rtol=0, atol=1e-6)
    discrete = geodesic.Follow(method="discrete")
    there = geodesic.log_map(manifold, mean.point.expand_as(x), x, follow=discrete, solution=solution)
    pull = there.vector.mean(0)
    assert manifold.squared_norm(mean.point, pull).sqrt() < 2e-6 * mean.variance.sqrt()


@pytest.mark.slow
def test_a_mean_of_ten_points_in_sixteen_coordinates_takes_no_more_than_so_many_passes() -> None:
    manifold, x = network(16), torch.randn(10, 16)
    answers: list[geodesic.riemannian.FrechetMean] = []
    count = passes(manifold, lambda: answers.append(frechet_mean(manifold, x, search=Search(segments=T))), x)
    assert answers[0].converged
    # It takes 66,021; solving all geodesics anew at each step, with a certificate, took 183,026.
    assert count < 75_000


@pytest.mark.slow
def test_principal_geodesics_go_on_with_the_geodesics_of_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    manifold, x, asked = network(4), torch.randn(6, 4), spied(monkeypatch, logarithms)
    answer = principal_geodesic_analysis(manifold, x, search=Search(segments=T))
    assert answer.converged
    (search,) = asked
    assert isinstance(search.init, torch.Tensor)
    assert_close(search.init[:, 0], answer.mean.expand_as(x))


@pytest.mark.slow
def test_clusters_certify_each_geodesic_once(monkeypatch: pytest.MonkeyPatch) -> None:
    manifold, asked = network(2), spied(monkeypatch)
    x = torch.cat([torch.randn(4, 2) / 4 - 1, torch.randn(4, 2) / 4 + 1])
    answer = k_means(manifold, x, 2, stop=Stop(tol=1e-4), search=Search(segments=T))
    assert answer.converged
    assert sum(not isinstance(search.init, str) for search in asked) == 1


def test_many_latent_coordinates_and_factors_that_fill_the_memory_are_kept_near_without_hessians() -> None:
    assert affordable(network(4), torch.zeros(3, T + 1, 4))
    assert not affordable(network(64), torch.zeros(3, T + 1, 64))
    assert not affordable(network(32), torch.zeros(1, 1, 1).expand(10_000_000, T + 1, 32))
