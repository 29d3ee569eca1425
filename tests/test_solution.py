"""What a solution says about its paths, and what can be done with it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import geodesic
from tests import surfaces
from tests.decoders import network, pairs

# --- certificates -----------------------------------------------------------------------------


def test_too_few_segments_are_not_called_resolved_and_more_are() -> None:
    manifold = geodesic.PullbackManifold(network())
    start, end = pairs(12)
    coarse = geodesic.solve(manifold, 2 * start, 2 * end, segments=6)
    fine = geodesic.solve(manifold, 2 * start, 2 * end, segments=256)
    wrong = (coarse.length / fine.length - 1).abs() > 1e-3
    assert wrong.sum() >= 3
    assert coarse.converged.all()
    assert not coarse.resolved[wrong].any()
    assert "leave segments out" in coarse.summary()
    assert fine.resolved.all()


def test_two_segments_resolve_nothing() -> None:
    wave = geodesic.PullbackManifold(lambda z: torch.cat([z, 0.5 * torch.sin(6 * z)], dim=1))
    solution = geodesic.solve(wave, torch.zeros(1), torch.full((1,), 2 * torch.pi), segments=2)
    assert not bool(solution.resolved)


@pytest.mark.slow
def test_the_length_error_is_of_the_size_of_the_true_one() -> None:
    manifold = geodesic.PullbackManifold(network())
    start, end = pairs(12)
    exact = geodesic.solve(manifold, start, end, segments=512, tol=1e-12).length
    solution = geodesic.solve(manifold, start, end, segments=16, tol=1e-12)
    same = (solution.length / exact - 1).abs() < 0.02  # others ended in another basin
    ratio = solution.error[same] / (solution.length[same] / exact[same] - 1).abs()
    assert same.sum() >= 9
    assert 0.5 < float(ratio.median()) < 50
    assert float(ratio.min()) > 0.05


def test_the_speed_of_a_geodesic_is_constant() -> None:
    manifold = geodesic.PullbackManifold(network())
    solution = geodesic.solve(manifold, torch.tensor([-1.0, 0.5]), torch.tensor([1.0, -0.3]), tol=1e-12)
    chords = manifold.squared_chords(solution.path).sqrt()
    assert float(chords.std() / chords.mean()) < 2e-3


def test_speeds_vary_no_more_than_a_few_times_their_allowance() -> None:
    # With two derivatives alone, as ELU has, the spline's velocity loses an order where the second one jumps.
    manifold = geodesic.PullbackManifold(network(activation=nn.Tanh))
    coarse, fine = (geodesic.solve(manifold, *pairs(6), segments=T, tol=1e-12) for T in (32, 128))
    assert (coarse.speed_variation < 10 * coarse.speed_allowance).all()
    assert (fine.speed_variation < 10 * fine.speed_allowance).all()
    order = (coarse.speed_allowance / fine.speed_allowance).log2() / 2
    assert ((order > 1.7) & (order < 2.3)).all()


def test_lengths_lie_between_their_bounds() -> None:
    manifold = geodesic.PullbackManifold(network())
    solution = geodesic.solve(manifold, *pairs(8))
    chords = manifold.squared_chords(solution.mesh).sqrt().sum(-1)
    assert (solution.lower_bound <= chords * (1 + 1e-12)).all()
    assert (chords**2 <= 2 * solution.energy * (1 + 1e-12)).all()
    assert (2 * solution.energy <= solution.length**2 * (1 + 1e-6)).all()
    assert (solution.length_ratio <= 1 + 1e-9).all()


def test_a_decoder_that_jumps_between_nodes_is_not_certified() -> None:
    manifold = geodesic.PullbackManifold(lambda z: (z > 0).to(z.dtype) + 0 * z)
    solution = geodesic.solve(manifold, -torch.ones(2), torch.ones(2))
    assert float(solution.energy) > 1
    assert not bool(solution.converged)


def test_the_summary_names_a_remedy_for_each_way_of_not_converging() -> None:
    manifold, start, end, *_ = surfaces.KNOWN["paraboloid"]
    solution = geodesic.solve(manifold, torch.tensor(start), torch.tensor(end), tol=1e-12, max_steps=1)
    assert "0 of 1 pairs converged" in solution.summary()
    assert "raise max_steps" in solution.summary()


# --- the solution as a curve ------------------------------------------------------------------


def test_the_curve_goes_through_the_ends_at_constant_speed() -> None:
    manifold = geodesic.PullbackManifold(network())
    solution = geodesic.solve(manifold, *pairs(4), segments=64)
    t = torch.linspace(0, 1, 301)
    curve, velocity = solution(t), solution.velocity(t)
    assert curve.shape == velocity.shape == (4, 301, 2)
    torch.testing.assert_close(curve[:, [0, -1]], solution.path[:, [0, -1]], rtol=0, atol=1e-12)
    speed = manifold.squared_norm(curve, velocity).sqrt()
    assert (speed / solution.length[:, None] - 1).abs().max() < 5e-3
    difference = (solution(t[1:-1] + 1e-5) - solution(t[1:-1] - 1e-5)) / 2e-5
    torch.testing.assert_close(difference, velocity[:, 1:-1], rtol=1e-3, atol=1e-3)
    assert solution(0.5).shape == (4, 2)
    torch.testing.assert_close(solution(t.reshape(7, 43))[:, 3, 5], solution(t[3 * 43 + 5]), rtol=0, atol=1e-14)


def test_a_constant_path_is_a_constant_curve() -> None:
    a = torch.randn(2)
    solution = geodesic.solve(geodesic.PullbackManifold(network()), a, a)
    torch.testing.assert_close(solution(0.3), a, rtol=0, atol=1e-14)
    assert solution.velocity(0.3).abs().max() < 1e-12


@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan")])
def test_times_outside_of_the_curve_are_refused(t: float) -> None:
    solution = geodesic.solve(geodesic.surfaces.Sphere(), torch.ones(2), 2 * torch.ones(2))
    with pytest.raises(geodesic.errors.InputError, match=r"^t: expected times between 0 and 1"):
        solution(t)


# --- fields and rows --------------------------------------------------------------------------


def test_leading_axes_are_kept() -> None:
    manifold = geodesic.PullbackManifold(network())
    start, end = torch.randn(2, 3, 2), torch.randn(2, 3, 2)
    solution = geodesic.solve(manifold, start, end, segments=8)
    assert solution.path.shape == (2, 3, 9, 2)
    for field in dataclasses.fields(solution):
        value = getattr(solution, field.name)
        shaped = ("path", "mesh", "times", "arc", "winding", "tol", "plan")
        assert field.name in shaped or value.shape == (2, 3)


def test_a_saved_solution_comes_back_field_by_field(tmp_path: Path) -> None:
    solution = geodesic.solve(geodesic.PullbackManifold(network()), *pairs(3))
    assert repr(solution).endswith(f"{solution.summary()}>")  # a line or a few, not all numbers
    solution.save(tmp_path / "solution.npz")
    loaded = geodesic.GeodesicSolution.load(tmp_path / "solution.npz")
    for field in dataclasses.fields(solution):
        a, b = getattr(solution, field.name), getattr(loaded, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    np.savez(tmp_path / "other.npz", path=np.zeros(3))
    with pytest.raises(geodesic.errors.DataError, match="expected the fields of a solution; it lacks"):
        geodesic.GeodesicSolution.load(tmp_path / "other.npz")
    with pytest.raises(geodesic.errors.DataError) as error:
        geodesic.GeodesicSolution.load(tmp_path / "missing.npz")
    assert str(error.value) == f"{tmp_path / 'missing.npz'}: no such file; check the path"


def test_the_fields_of_a_solution_may_lie_among_others_under_a_prefix() -> None:
    plane = geodesic.PullbackManifold(lambda z: z)
    one, other = (geodesic.solve(plane, torch.zeros(2), end) for end in torch.eye(2))
    file = {f"{name}/{field}": x for name, s in (("a", one), ("b", other)) for field, x in s.arrays().items()}
    again = geodesic.GeodesicSolution.from_arrays(file, prefix="b/")
    assert torch.equal(again.path, other.path)
    assert (again.tol, again.plan) == (other.tol, other.plan)
    with pytest.raises(geodesic.errors.DataError, match="c/path"):
        geodesic.GeodesicSolution.from_arrays(file, prefix="c/")


@pytest.mark.parametrize("rows", [(1, 0), 1, slice(1, 2), (..., 0), torch.tensor([[True, False], [False, True]])])
def test_rows_of_a_solution_are_the_rows_of_all_its_fields(rows: Any) -> None:
    plane = geodesic.PullbackManifold(lambda z: z)
    solution = geodesic.solve(plane, torch.zeros(2, 2, 3), torch.randn(2, 2, 3), segments=2)
    some, batch = solution[rows], solution.length[rows].shape
    assert torch.equal(some.length, solution.length[rows])
    assert torch.equal(some.path[..., 2, 1], solution.path[..., 2, 1][rows])
    assert some.status.shape == some.arc.shape[:-1] == batch
