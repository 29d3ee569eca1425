"""GEORCE, the method that the benchmark compares with, is a sound one."""

import pytest
import torch

import geodesic
from scripts.benchmarks.georce import command, measure, method, metrics

pytestmark = pytest.mark.slow  # laws on many surfaces: together they take a while


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    start = torch.tensor([[-1.0, 0.5], [0.0, 1.0], [0.3, 2.0]], dtype=torch.float64)
    end = torch.tensor([[1.0, 1.0], [0.0, 0.2], [-1.0, 0.4]], dtype=torch.float64)
    return start, end


@pytest.mark.parametrize("adaptive", [True, False])
def test_it_finds_the_known_distances_of_the_hyperbolic_plane(adaptive):
    plane, (start, end) = geodesic.surfaces.HyperbolicPlane(), pairs()
    solution = geodesic.solve(plane, start, end, solver=method.Georce(adaptive), segments=64, tol=1e-10)
    assert solution.converged.all()
    assert solution.minimum.all()
    torch.testing.assert_close(solution.length, plane.distance(start, end), rtol=1e-5, atol=0)


def test_a_batch_equals_its_pairs():
    plane, (start, end) = geodesic.surfaces.HyperbolicPlane(), pairs()
    together = geodesic.solve(plane, start, end, solver=method.Georce(), tol=1e-10)
    for i in range(3):
        alone = geodesic.solve(plane, start[i], end[i], solver=method.Georce(), tol=1e-10)
        assert int(alone.iterations) == int(together.iterations[i])
        torch.testing.assert_close(alone.path, together.path[i], rtol=0, atol=1e-12)


def test_the_optimal_controls_are_a_step_of_gauss_and_newton():
    d, T = 3, 8
    manifold = metrics.Metric(metrics.sphere)
    path = torch.randn(4, T + 1, d, dtype=torch.float64)
    state = method.Georce().begin(manifold, path, torch.ones(4, T, dtype=torch.float64))
    gradient = state.gradient
    torch.testing.assert_close(gradient, geodesic.energy_gradient(manifold, path) / T)
    S = torch.zeros(4, T - 1, d, T - 1, d, dtype=torch.float64)
    for i in range(T - 1):
        S[:, i, :, i] = state.G[:, i] + state.G[:, i + 1]
        if i:
            S[:, i, :, i - 1] = S[:, i - 1, :, i] = -state.G[:, i]
    n = (T - 1) * d
    step = torch.linalg.solve(S.reshape(4, n, n), gradient.reshape(4, n)).reshape(4, T - 1, d)
    torch.testing.assert_close(method._optimal(state)[:, 1:-1], path[:, 1:-1] - step)
    torch.testing.assert_close(method._optimal(state)[:, -1], path[:, -1])


def test_full_steps_converge_linearly_on_a_paraboloid():
    start, end = torch.tensor([[1.0, 0.0], [-0.5, 1.0]], dtype=torch.float64)
    manifold, excess = metrics.Metric(metrics.paraboloid), []
    best = geodesic.solve(manifold, start, end, tol=1e-14).energy
    geodesic.solve(
        manifold,
        start,
        end,
        solver=method.Georce(adaptive=False),
        tol=1e-10,
        callback=lambda progress: excess.append(float(progress.energy - best)) if progress.stepped else None,
    )
    assert (excess[20] / excess[10]) ** (1 / 20) == pytest.approx(0.785, abs=0.01)  # of the paths: the root


@pytest.mark.slow
def test_the_comparison_runs(capsys):
    threads = torch.get_num_threads()
    try:
        rows = command.main(["--segments", "4", "--pairs", "2", "--repeats", "1", "--problems", "torus"])
    finally:
        torch.set_num_threads(threads)
    assert [row.method for row in rows] == list(measure.METHODS)
    assert all(row.converged == (2, 2) for row in rows)
    assert all(max(row.rows) < float("inf") for row in rows)
    assert "GEORCE over the best of ours" in capsys.readouterr().out
