"""Laws that every solver keeps on every surface, and what each of them promises besides."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import geodesic
from geodesic import LBFGS, GradientDescent, Newton, NewtonKrylov, Status
from geodesic.geometry.excess import newton_step
from geodesic.numerics.block_tridiagonal import BlockTridiagonal
from tests import surfaces

SOLVERS = {
    "newton": Newton(),
    "newton alone": Newton(warm_up=None),
    "newton-krylov": NewtonKrylov(),
    "newton-krylov alone": NewtonKrylov(warm_up=None),
    "newton-krylov, laplacian": NewtonKrylov(warm_up=None, metric_samples=0),
    "lbfgs": LBFGS(),
    "lbfgs, laplacian": LBFGS(metric_samples=0),
    "gradient descent": GradientDescent(),
}
# The metric of the half plane and of spheres of many dimensions varies too much for the weaker preconditioners to keep
# a test quick.
PATIENT = ("gradient descent", "lbfgs, laplacian")
HARD = ("sphere of dimension 20", "sphere of dimension 50", "sphere of dimension 10")
CASES = [(name, solver) for name in surfaces.KNOWN for solver in SOLVERS if solver not in PATIENT or name not in HARD]
every_solver = pytest.mark.parametrize("solver", SOLVERS)


def network(d: int = 2, width: int = 16, outputs: int = 20, activation: type[nn.Module] = nn.ELU) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(d, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, outputs)]
    net = nn.Sequential(*layers)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(2)
    return net.double().requires_grad_(False)


def pairs(count: int, d: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(count, d), torch.randn(count, d)


# --- laws of all solvers ----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "solver"), CASES)
def test_every_known_length_is_met_to_two_parts_in_a_million_at_the_default_tolerance(name: str, solver: str) -> None:
    manifold, start, end, length, _ = surfaces.KNOWN[name]
    solution = geodesic.solve(manifold, torch.tensor(start), torch.tensor(end), solver=SOLVERS[solver])
    assert bool(solution.converged)
    assert bool(solution.resolved)
    assert bool(solution.minimum)
    assert float(solution.length) == pytest.approx(length, rel=2e-6)
    if name in surfaces.EMBEDDED:  # 2 E <= d^2 <= length^2 at a global minimum
        assert float(2 * solution.energy) <= length**2 * (1 + 1e-5)
        assert float(solution.lower_bound) <= length


@every_solver
def test_all_solvers_agree(solver: str) -> None:
    manifold = geodesic.PullbackManifold(network())
    start, end = pairs(4)
    reference = geodesic.solve(manifold, start, end, tol=1e-13)
    tol = 1e-8 if solver in PATIENT else 1e-10
    solution = geodesic.solve(manifold, start, end, solver=SOLVERS[solver], tol=tol, max_steps=3000)
    assert solution.converged.all()
    torch.testing.assert_close(solution.length, reference.length, rtol=2e-7, atol=0)
    torch.testing.assert_close(solution.path, reference.path, rtol=0, atol=2e-3)


@every_solver
def test_a_pairs_answer_does_not_depend_on_its_batch(solver: str) -> None:
    manifold = geodesic.PullbackManifold(network())
    start, end = pairs(5)
    together = geodesic.solve(manifold, start, end, solver=SOLVERS[solver])
    for i in range(5):
        alone = geodesic.solve(manifold, start[i], end[i], solver=SOLVERS[solver])
        torch.testing.assert_close(together.path[i], alone.path, rtol=0, atol=1e-6)
        assert int(together.status[i]) == int(alone.status)
        assert int(together.steps[i]) == int(alone.steps)


@every_solver
def test_ends_are_untouched_and_the_way_back_is_the_same_way(solver: str) -> None:
    manifold = geodesic.PullbackManifold(network())
    start, end = pairs(3)
    there = geodesic.solve(manifold, start, end, solver=SOLVERS[solver], tol=1e-9, max_steps=3000)
    back = geodesic.solve(manifold, end, start, solver=SOLVERS[solver], tol=1e-9, max_steps=3000)
    assert torch.equal(there.path[:, 0], start)
    assert torch.equal(there.path[:, -1], end)
    torch.testing.assert_close(there.length, back.length, rtol=1e-7, atol=0)
    torch.testing.assert_close(there.path, back.path.flip(-2), rtol=0, atol=1e-3)


@every_solver
def test_rotating_latent_space_rotates_the_geodesic(solver: str) -> None:
    decoder, (start, end) = network(3), pairs(3, 3)
    Q = torch.linalg.qr(torch.randn(3, 3)).Q
    plain, turned = (
        geodesic.solve(geodesic.PullbackManifold(f), a, b, solver=SOLVERS[solver], tol=1e-9, max_steps=3000)
        for f, a, b in ((decoder, start, end), (lambda z: decoder(z @ Q), start @ Q.T, end @ Q.T))
    )
    torch.testing.assert_close(turned.length, plain.length, rtol=1e-7, atol=0)
    torch.testing.assert_close(turned.path, plain.path @ Q.T, rtol=0, atol=1e-3)


@every_solver
def test_no_step_raises_the_energy(solver: str) -> None:
    energies: list[torch.Tensor] = []
    geodesic.solve(
        geodesic.PullbackManifold(network()),
        *pairs(4),
        solver=SOLVERS[solver],
        tol=1e-10,
        callback=lambda p: energies.append(p.energy),
    )
    history = torch.stack(energies)
    assert (history.diff(dim=0) <= 1e-13 * history[0]).all()


@pytest.mark.parametrize("name", ["paraboloid", "torus", "catenoid", "sphere of dimension 3", "hyperbolic plane"])
def test_orders_in_the_segments_are_two_for_energies_and_speeds_and_four_for_lengths(name: str) -> None:
    manifold, start, end, length, _ = surfaces.KNOWN[name]
    counts = np.array([16, 32, 64, 128])
    solutions = [
        geodesic.solve(manifold, torch.tensor(start), torch.tensor(end), segments=int(T), tol=1e-15, max_steps=100)
        for T in counts
    ]

    def slope(errors: list[float]) -> float:
        return np.polyfit(np.log(counts), np.log(np.abs(errors)), 1)[0]

    assert -2.2 < slope([float(2 * s.energy) - length**2 for s in solutions]) < -1.8
    assert slope([float(s.speed_variation) for s in solutions]) < -1.6
    # On constant curvature the order is 6; it ends where the known length has no more digits.
    errors = [max(abs(float(s.length) - length), 1e-11) for s in solutions]
    assert slope(errors[:3] + errors[3:]) < -2.5
    assert np.log2(errors[0] / errors[1]) > 3.3


def test_nodes_converge_with_order_two() -> None:
    manifold, start, end, *_ = surfaces.KNOWN["paraboloid"]
    paths = [
        geodesic.solve(manifold, torch.tensor(start), torch.tensor(end), segments=T, tol=1e-15).path[:: T // 8]
        for T in (16, 32, 64, 256)
    ]
    errors = [float((path - paths[-1]).norm(dim=-1).max()) for path in paths[:-1]]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)
    assert np.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("solver", ["newton", "newton-krylov", "lbfgs"])
def test_both_precisions_converge(solver: str, dtype: torch.dtype) -> None:
    manifold = geodesic.PullbackManifold(network().to(dtype))
    start, end = (z.to(dtype) for z in pairs(8))
    solution = geodesic.solve(manifold, start, end, solver=SOLVERS[solver])
    assert solution.path.dtype == solution.length_error.dtype == dtype
    assert solution.converged.all()


@pytest.mark.cuda
@pytest.mark.parametrize("solver", ["newton", "newton-krylov", "lbfgs"])
def test_cuda_gives_the_answer_of_the_cpu(solver: str) -> None:
    decoder, (start, end) = network(), pairs(4)
    here = geodesic.solve(geodesic.PullbackManifold(decoder), start, end, solver=SOLVERS[solver], tol=1e-10)
    there = geodesic.solve(
        geodesic.PullbackManifold(decoder.cuda()), start.cuda(), end.cuda(), solver=SOLVERS[solver], tol=1e-10
    )
    assert there.path.is_cuda
    torch.testing.assert_close(there.length.cpu(), here.length, rtol=1e-8, atol=0)


# --- Newton -----------------------------------------------------------------------------------


@pytest.mark.parametrize("manifold", [geodesic.PullbackManifold(network()), geodesic.HyperbolicPlane()])
def test_the_hessian_is_the_derivative_of_the_gradient(manifold: geodesic.Manifold) -> None:
    path = torch.stack([torch.linspace(-1, 1, 6), 1.5 + torch.rand(6)], dim=-1)[None]
    hessian = manifold.expansion(path).hessian
    _, gradient, product = manifold.gradient_and_product(path)
    torch.testing.assert_close(gradient, manifold.expansion(path).gradient, rtol=1e-10, atol=1e-12)
    units = torch.eye(8).reshape(8, 4, 2)
    columns = torch.stack([product(unit[None]) for unit in units])[:, 0].reshape(8, 8)
    dense = torch.zeros(8, 8)
    for i in range(4):
        dense[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = hessian.diagonal[0, i]
        if i < 3:
            dense[2 * i : 2 * i + 2, 2 * i + 2 : 2 * i + 4] = hessian.upper[0, i]
            dense[2 * i + 2 : 2 * i + 4, 2 * i : 2 * i + 2] = hessian.upper[0, i].T
    torch.testing.assert_close(columns, dense, rtol=1e-10, atol=1e-10)
    step = 1e-6
    for j in range(8):
        change = torch.nn.functional.pad(step * units[j], (0, 0, 1, 1))
        slope = geodesic.energy_gradient(manifold, path + change) - geodesic.energy_gradient(manifold, path - change)
        torch.testing.assert_close(slope[0].reshape(8) / (2 * step) / 5, dense[:, j], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("manifold", [geodesic.PullbackManifold(network()), geodesic.HyperbolicPlane()])
def test_without_its_negative_part_the_hessian_is_semidefinite_and_with_all_of_it_exact(manifold) -> None:
    path = torch.stack([torch.linspace(-2, 2, 6), 0.3 + 2 * torch.rand(6)], dim=-1)[None]
    expansion, rows = manifold.expansion(path), torch.tensor([0])
    exact = expansion.convexified(rows, 1.0)
    torch.testing.assert_close(exact.diagonal, expansion.hessian.diagonal, rtol=1e-10, atol=1e-10)
    convex = expansion.convexified(rows, 0.0)
    assert bool(convex.damped(1e-12).cholesky().positive)


def test_newton_ends_quadratically() -> None:
    manifold = geodesic.PullbackManifold(network())
    path = geodesic.solve(manifold, *pairs(4), tol=1e-5).path
    solver, excess = Newton(warm_up=None), []
    state = solver.begin(manifold, path)
    for _ in range(4):
        excess.append(state.excess)
        state = solver.step(manifold, state)
    # The excess is quadratic in the distance, which is squared at each step.
    assert (excess[1] < 1e3 * excess[0] ** 1.5).all()
    assert (excess[2] < 1e-15).all()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 31])
@pytest.mark.parametrize("d", [1, 3])
def test_cyclic_reduction_solves_and_tells_definite_matrices_from_others(n: int, d: int) -> None:
    factor = torch.zeros(3, n * d, n * d)
    for i in range(n):
        factor[:, i * d : i * d + d, i * d : i * d + d] = torch.randn(3, d, d).tril() + 3 * torch.eye(d)
        if i:
            factor[:, i * d : i * d + d, i * d - d : i * d] = torch.randn(3, d, d)
    dense = factor @ factor.mT
    dense[1] -= 1.01 * torch.linalg.eigvalsh(dense[1])[0] * torch.eye(n * d)  # just indefinite
    blocks = dense.reshape(3, n, d, n, d).transpose(2, 3)
    diagonal = torch.stack([blocks[:, i, i] for i in range(n)], dim=1)
    upper = torch.stack([blocks[:, i, i + 1] for i in range(n - 1)], dim=1) if n > 1 else torch.zeros(3, 0, d, d)
    right = torch.randn(3, n, d)
    factors = BlockTridiagonal(diagonal, upper).cholesky()
    assert factors.positive.tolist() == [True, False, True]
    expected = torch.linalg.solve(dense, right.reshape(3, -1)).reshape(3, n, d)
    actual = factors.solve(right)
    torch.testing.assert_close(actual[[0, 2]], expected[[0, 2]], rtol=1e-8, atol=1e-10)
    assert actual[1].isnan().all()
    torch.testing.assert_close(factors[torch.tensor([2])].solve(right[[2]]), actual[[2]], rtol=0, atol=0)


def test_work_is_linear_in_the_segments() -> None:
    rows: list[int] = []
    decoder = network()

    def counted(z: torch.Tensor) -> torch.Tensor:
        rows.append(len(z))
        return decoder(z)

    counts, work = [16, 64, 256], []
    for T in counts:
        rows.clear()
        geodesic.solve(geodesic.PullbackManifold(counted), *pairs(2), segments=T)
        work.append(sum(rows))
    assert np.polyfit(np.log(counts), np.log(work), 1)[0] < 1.1


# --- certificates -----------------------------------------------------------------------------


def test_a_saddle_is_called_converged_and_no_minimum() -> None:
    """More than halfway round the inner equator of a torus there are shorter ways beside it."""
    torus = geodesic.Torus()
    start, end = torch.tensor([0.0, 0.0]), torch.tensor([0.0, 6.0])  # the outer equator: past its conjugate point
    solution = geodesic.solve(torus, start, end)
    assert bool(solution.converged)
    assert not bool(solution.minimum)
    assert "no strict minimum" in solution.summary()


def test_too_few_segments_are_not_called_resolved_and_more_are() -> None:
    manifold = geodesic.PullbackManifold(network())
    start, end = pairs(12)
    coarse = geodesic.solve(manifold, 2 * start, 2 * end, segments=6)
    fine = geodesic.solve(manifold, 2 * start, 2 * end, segments=256)
    wrong = (coarse.length / fine.length - 1).abs() > 1e-3
    assert wrong.sum() >= 3
    assert coarse.converged.all()
    assert not coarse.resolved[wrong].any()
    assert "raise segments" in coarse.summary()
    assert fine.resolved.all()


def test_the_length_error_is_of_the_size_of_the_true_one() -> None:
    manifold = geodesic.PullbackManifold(network())
    start, end = pairs(12)
    exact = geodesic.solve(manifold, start, end, segments=512, tol=1e-12).length
    solution = geodesic.solve(manifold, start, end, segments=16, tol=1e-12)
    same = (solution.length / exact - 1).abs() < 0.02  # others ended in another basin
    ratio = solution.length_error[same] / (solution.length[same] / exact[same] - 1).abs()
    assert same.sum() >= 9
    assert 0.5 < float(ratio.median()) < 50
    assert float(ratio.min()) > 0.05


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
    chords = manifold.squared_chords(solution.path).sqrt().sum(-1)
    assert (solution.lower_bound <= chords * (1 + 1e-12)).all()
    assert (chords**2 <= 2 * solution.energy * (1 + 1e-12)).all()
    assert (2 * solution.energy <= solution.length**2 * (1 + 1e-6)).all()
    assert (solution.ratio <= 1 + 1e-9).all()


def test_a_decoder_that_jumps_is_certified_nothing() -> None:
    manifold = geodesic.PullbackManifold(lambda z: (4 * z).round() + 1e-3 * z)
    solution = geodesic.solve(manifold, torch.zeros(2), torch.ones(2))
    assert not bool(solution.converged)
    assert solution.relative_excess_energy.isnan()


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
    solution = geodesic.solve(geodesic.Sphere(), torch.ones(2), 2 * torch.ones(2))
    with pytest.raises(geodesic.InputError, match=r"^t: expected times between 0 and 1"):
        solution(t)


def test_a_saved_solution_comes_back_field_by_field(tmp_path: Path) -> None:
    solution = geodesic.solve(geodesic.PullbackManifold(network()), *pairs(3))
    solution.save(tmp_path / "solution.npz")
    loaded = geodesic.GeodesicSolution.load(tmp_path / "solution.npz")
    for field in dataclasses.fields(solution):
        a, b = getattr(solution, field.name), getattr(loaded, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    np.savez(tmp_path / "other.npz", path=np.zeros(3))
    with pytest.raises(geodesic.DataError, match="expected the fields of a solution; it lacks"):
        geodesic.GeodesicSolution.load(tmp_path / "other.npz")


def test_the_fields_of_a_solution_may_lie_among_others_under_a_prefix() -> None:
    plane = geodesic.PullbackManifold(lambda z: z)
    one, other = (geodesic.solve(plane, torch.zeros(2), end) for end in torch.eye(2))
    file = {f"{name}/{field}": x for name, s in (("a", one), ("b", other)) for field, x in s.arrays().items()}
    again = geodesic.GeodesicSolution.from_arrays(file, prefix="b/")
    assert torch.equal(again.path, other.path)
    assert (again.tol, again.solver) == (other.tol, other.solver)
    with pytest.raises(geodesic.DataError, match="c/path"):
        geodesic.GeodesicSolution.from_arrays(file, prefix="c/")


@pytest.mark.parametrize("rows", [(1, 0), 1, slice(1, 2), (..., 0), torch.tensor([[True, False], [False, True]])])
def test_rows_of_a_solution_are_the_rows_of_all_its_fields(rows: Any) -> None:
    plane = geodesic.PullbackManifold(lambda z: z)
    solution = geodesic.solve(plane, torch.zeros(2, 2, 3), torch.randn(2, 2, 3), segments=2)
    some, batch = solution[rows], solution.length[rows].shape
    assert torch.equal(some.length, solution.length[rows])
    assert torch.equal(some.path[..., 2, 1], solution.path[..., 2, 1][rows])
    assert some.status.shape == some.arc.shape[:-1] == batch


# --- starts, segments, memory, shapes ---------------------------------------------------------


def hill(z: torch.Tensor) -> torch.Tensor:
    """A hill between the ends, which the straight line climbs and a shorter way goes round."""
    return torch.cat([z, 3 * (-4 * z.square().sum(1, keepdim=True)).exp()], dim=1)


def test_the_best_start_is_no_longer_than_either() -> None:
    manifold = geodesic.PullbackManifold(hill)
    start, end = torch.tensor([[-1.5, 0.0], [-1.0, 0.6]]), torch.tensor([[1.5, 0.0], [1.0, 0.8]])
    lengths = {
        init: geodesic.solve(manifold, start, end, init=init, segments=64).length
        for init in ("straight", "graph", "best")
    }
    assert float(lengths["graph"][0]) < 0.8 * float(lengths["straight"][0])
    torch.testing.assert_close(lengths["best"], torch.minimum(lengths["straight"], lengths["graph"]))


def test_a_graph_that_does_not_connect_a_pair_says_so_and_spoils_no_other() -> None:
    points = torch.cat([torch.randn(40, 2), torch.randn(40, 2) + 100])
    start, end = torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [100.0, 100.0]])
    manifold = geodesic.PullbackManifold(lambda z: z.tanh())
    graph = geodesic.solve(manifold, start, end, init="graph", points=points)
    assert graph.status.tolist() == [Status.CONVERGED, Status.NOT_CONNECTED]
    assert "neighbour graph" in graph.summary()
    best = geodesic.solve(manifold, start, end, init="best", points=points)
    assert best.status[0] == Status.CONVERGED
    assert best.status[1] != Status.NOT_CONNECTED


def test_own_paths_are_where_the_search_begins() -> None:
    manifold = geodesic.PullbackManifold(hill)
    a, b = torch.tensor([-1.5, 0.0]), torch.tensor([1.5, 0.0])
    path = geodesic.straight_path(a, b, 40)
    for side in (1, -1):
        bent = path.clone()
        bent[:, 1] += side * torch.sin(torch.linspace(0, torch.pi, 41)) * (torch.arange(41) % 40 != 0)
        solution = geodesic.solve(manifold, a, b, init=bent)
        assert solution.path.shape == (41, 2)
        assert side * float(solution.path[20, 1]) > 0.3


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("curved", "init: expected 'straight', 'graph', 'best' or paths, got 'curved'"),
        (3, "init: expected .* got int"),
        (torch.zeros(9, 3), "init: expected paths of shape"),
        (torch.zeros(2, 2).double(), "init: expected paths of at least 2 segments"),
        (torch.zeros(9, 2).float(), "init: expected paths of torch.float64"),
        (torch.full((9, 2), torch.nan).double(), "init: expected finite"),
        (torch.full((9, 2), 0.5).double(), "init: its paths do not start at the points of `start`"),
    ],
)
def test_bad_starts_are_named(init: object, message: str) -> None:
    with pytest.raises(geodesic.InputError, match=message):
        # Without the type checker that watches the tests: a user has none.
        inspect.unwrap(geodesic.solve)(geodesic.PullbackManifold(lambda z: z), torch.zeros(2), torch.ones(2), init=init)


def test_segments_are_doubled_for_the_pairs_that_need_it() -> None:
    manifold = geodesic.PullbackManifold(network())
    start = torch.tensor([[0.0, 0.0], [-2.5, 2.0]])
    end = torch.tensor([[0.01, 0.0], [2.5, -2.0]])
    solution = geodesic.solve(manifold, start, end, segments=8, length_rtol=1e-6)
    easy, hard = solution.segments.tolist()
    assert easy == 16
    assert hard > 32
    assert solution.path.shape == (2, hard + 1, 2)
    fine = geodesic.solve(manifold, start, end, init=geodesic.refine_path(solution.path, 4 * hard), tol=1e-10)
    torch.testing.assert_close(solution.length, fine.length, rtol=2e-6, atol=0)
    alone = geodesic.solve(manifold, start[0], end[0], segments=8, length_rtol=1e-6)
    torch.testing.assert_close(alone.length, solution.length[0], rtol=1e-12, atol=0)
    assert int(alone.segments) == 16


def test_memory_bounds_the_rows_that_the_decoder_sees_and_changes_no_answer() -> None:
    seen: list[int] = []
    decoder = network(outputs=500)

    def watched(z: torch.Tensor) -> torch.Tensor:
        seen.append(len(z))
        return decoder(z)

    start, end = pairs(40)
    free = geodesic.solve(geodesic.PullbackManifold(watched), start, end)
    most = max(seen)
    seen.clear()
    bounded = geodesic.solve(geodesic.PullbackManifold(watched), start, end, memory=3e7)
    assert max(seen) < most / 3
    torch.testing.assert_close(bounded.path, free.path, rtol=0, atol=1e-6)
    assert torch.equal(bounded.status, free.status)


def test_memory_for_less_than_one_pair_is_refused_with_what_it_takes() -> None:
    with pytest.raises(geodesic.InputError, match=r"one pair of 32 segments takes about [\d.]+ MB, got 0.01 MB"):
        geodesic.solve(geodesic.PullbackManifold(network(outputs=500)), *pairs(2), memory=1e4)


def test_points_may_have_the_shape_that_the_decoder_wants() -> None:
    decoder = network(8)
    images = geodesic.PullbackManifold(lambda z: decoder(z.flatten(1)), latent_shape=(2, 2, 2))
    flat = geodesic.PullbackManifold(decoder)
    start, end = pairs(3, 8)
    shaped = geodesic.solve(images, start.reshape(3, 2, 2, 2), end.reshape(3, 2, 2, 2))
    assert shaped.path.shape == (3, 33, 2, 2, 2)
    assert shaped(0.5).shape == (3, 2, 2, 2)
    torch.testing.assert_close(shaped.path.flatten(2), geodesic.solve(flat, start, end).path, rtol=0, atol=1e-12)
    with pytest.raises(geodesic.InputError, match=r"latent_shape, \(\*batch, 2, 2, 2\), got \(3, 8\)"):
        geodesic.solve(images, start, end)
    with pytest.raises(geodesic.InputError, match="latent_shape: expected positive integers"):
        geodesic.PullbackManifold(decoder, latent_shape=(2, 0))


def test_thousands_of_latent_coordinates_form_no_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("a Jacobian was formed")

    for name in ("jacobian", "metric_tensor", "expansion"):
        monkeypatch.setattr(geodesic.EmbeddedManifold, name, forbidden)
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(2048, 16), nn.Tanh(), nn.Linear(16, 8)).double().requires_grad_(False)
    manifold = geodesic.PullbackManifold(lambda z: torch.cat([decoder(z), z / 10], dim=1))
    solution = geodesic.solve(manifold, *pairs(2, 2048), segments=16)
    assert solution.converged.all()
    assert solution.solver.startswith("NewtonKrylov: d = 2048 is above 32")


@pytest.mark.parametrize(("d", "name"), [(2, "Newton: d = 2"), (40, "NewtonKrylov: d = 40")])
def test_auto_says_which_solver_and_why(d: int, name: str) -> None:
    solution = geodesic.solve(geodesic.PullbackManifold(network(d)), *pairs(2, d))
    assert solution.solver.startswith(name)
    assert solution.converged.all()


# --- what goes wrong --------------------------------------------------------------------------


class Slope(torch.autograd.Function):
    """1, with a derivative that is NaN beyond 5."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return torch.ones_like(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, v):
        return torch.where(ctx.saved_tensors[0] > 5, torch.nan, 0 * v)

    @staticmethod
    def jvp(ctx, u):
        return torch.where(ctx.saved_tensors[0] > 5, torch.nan, 0 * u)


class Rough(torch.autograd.Function):
    """x, with derivative 1 and a second derivative that is NaN beyond 5."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, v):
        return v * Slope.apply(ctx.saved_tensors[0])

    @staticmethod
    def jvp(ctx, u):
        return u * Slope.apply(ctx.saved_tensors[0])


@pytest.mark.parametrize("solver", [Newton(), Newton(warm_up=None)])
def test_second_derivatives_that_are_not_finite_end_their_pair_alone(solver: Newton) -> None:
    manifold = geodesic.PullbackManifold(lambda z: torch.cat([Rough.apply(z), z.square()], dim=1))
    start, end = torch.tensor([[0.0, 1.0], [8.0, 0.0]]), torch.tensor([[1.0, 2.0], [9.0, 1.0]])
    solution = geodesic.solve(manifold, start, end, solver=solver)
    assert solution.status.tolist() == [Status.CONVERGED, Status.NOT_FINITE]
    assert not bool(solution.converged[1])
    assert "its derivatives are not finite" in solution.summary()


def test_a_kink_at_the_minimum_stalls_and_says_so() -> None:
    manifold = geodesic.PullbackManifold(lambda z: torch.cat([z, 3 * z[:, 1:].relu()], dim=1))
    path = geodesic.straight_path(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))
    bent = path + 0.3 * torch.stack([torch.zeros(33), torch.linspace(0, 1, 33) * torch.linspace(1, 0, 33)], dim=-1)
    solution = geodesic.solve(manifold, path[0], path[-1], init=bent, max_steps=300)
    assert int(solution.steps) < 300
    assert float(solution.length) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LBFGS(history=0), "history: "),
        (lambda: LBFGS(metric_samples=-1), "metric_samples: "),
        (lambda: NewtonKrylov(metric_samples=-1), "metric_samples: "),
    ],
)
def test_bad_settings_of_solvers_are_named(make, message: str) -> None:
    with pytest.raises(geodesic.InputError, match=message):
        make()


def test_a_step_of_the_quadratic_model_is_a_direction_of_descent_wherever_it_is_finite() -> None:
    manifold = geodesic.PullbackManifold(network())
    paths = torch.randn(20, 9, 2)  # far from geodesics, where most Hessians are indefinite
    step = newton_step(manifold.expansion(paths))
    assert not step.minimum.all()
    assert (step.excess > 0).all()
    slope = (geodesic.energy_gradient(manifold, paths) * step.direction).sum((1, 2))
    assert (slope > 0).all()


@pytest.mark.parametrize("scale", [1e-4, 1e6])
def test_latent_coordinates_of_any_scale_are_converged_for_in_single_precision(scale: float) -> None:
    decoder, (start, end) = network(), pairs(4)
    exact = geodesic.solve(geodesic.PullbackManifold(decoder), start, end, tol=1e-13)
    factors, single = torch.tensor([1.0, scale], dtype=torch.float32), network().float()
    scaled = geodesic.PullbackManifold(lambda z: single(z * factors))
    solution = geodesic.solve(scaled, start.float() / factors, end.float() / factors)
    assert solution.converged.all()
    assert (solution.energy.double() / exact.energy - 1).abs().max() < 3e-6


def test_a_singular_hessian_is_no_strict_minimum() -> None:
    A = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    solution = geodesic.solve(geodesic.PullbackManifold(lambda z: z @ A), *pairs(3))
    assert solution.converged.all()
    assert not solution.minimum.any()


def test_products_alone_tell_a_saddle_from_a_minimum() -> None:
    def hilly(z: torch.Tensor) -> torch.Tensor:
        return torch.cat([z, 3 * (-z.square().sum(1, keepdim=True)).exp()], dim=1)

    end = torch.zeros(34)
    end[0] = 1.5
    over = geodesic.solve(geodesic.PullbackManifold(hilly), -end, end)
    aside = geodesic.solve(geodesic.PullbackManifold(hilly), -end, end + 0.1)
    assert bool(over.converged)
    assert not bool(over.minimum)
    assert bool(aside.minimum)
    assert float(aside.length) < float(over.length)


@pytest.mark.parametrize("d", [2, 34])
@pytest.mark.parametrize("activation", [nn.SiLU])
def test_backward_passes_without_forward_mode_rules_will_do(activation: type[nn.Module], d: int) -> None:
    solution = geodesic.solve(geodesic.PullbackManifold(network(d, activation=activation)), *pairs(2, d), segments=16)
    assert solution.converged.all()
    assert solution.decoder_residual.isfinite().all()


@pytest.mark.parametrize("solver", ["newton", "newton-krylov", "lbfgs", "gradient descent"])
def test_a_pair_through_a_region_without_numbers_says_so_and_spoils_no_other(solver: str) -> None:
    def holed(z: torch.Tensor) -> torch.Tensor:
        r = z.square().sum(1, keepdim=True)
        return torch.cat([z, torch.where(r < 0.04, torch.nan, r)], dim=1)

    start, end = torch.tensor([[1.0, 0.0], [-1.0, -0.01]]), torch.tensor([[-0.5, 1.0], [1.0, 0.01]])
    manifold = geodesic.PullbackManifold(holed)
    solution = geodesic.solve(manifold, start, end, solver=SOLVERS[solver])
    assert solution.status.tolist() == [Status.CONVERGED, Status.NOT_FINITE]
    alone = geodesic.solve(manifold, start[0], end[0], solver=SOLVERS[solver])
    torch.testing.assert_close(solution.path[0], alone.path, rtol=0, atol=1e-9)
    path = geodesic.straight_path(start, end)
    around = 0.6 * torch.sin(torch.linspace(0, torch.pi, 33)) * (torch.arange(33) % 32 != 0)
    path[1, :, 1] += around
    assert geodesic.solve(manifold, start, end, solver=SOLVERS[solver], init=path).converged.all()


def test_lengths_that_agree_are_those_of_geodesics_and_not_of_one_curve_twice() -> None:
    manifold, start, end, length, _ = surfaces.KNOWN["paraboloid"]
    solution = geodesic.solve(manifold, torch.tensor(start), torch.tensor(end), tol=1e-3, length_rtol=1e-8)
    assert float(solution.length) == pytest.approx(length, rel=1e-8)


def test_two_segments_resolve_nothing() -> None:
    wave = geodesic.PullbackManifold(lambda z: torch.cat([z, 0.5 * torch.sin(6 * z)], dim=1))
    solution = geodesic.solve(wave, torch.zeros(1), torch.full((1,), 2 * torch.pi), segments=2)
    assert not bool(solution.resolved)


def test_steps_that_the_warm_up_leaves_are_the_solvers() -> None:
    manifold, start, end, *_ = surfaces.KNOWN["paraboloid"]
    solution = geodesic.solve(
        manifold, torch.tensor(start), torch.tensor(end), solver=NewtonKrylov(), max_steps=100, tol=1e-30
    )
    assert int(solution.status) != Status.MAX_STEPS


@pytest.mark.parametrize("points", [[[0.0, 1.0]], np.zeros((5, 2)), torch.zeros(5), torch.zeros(5, 2, 2)])
def test_points_that_are_no_latent_points_are_refused(points: object) -> None:
    with pytest.raises(geodesic.InputError, match="points: expected a tensor of latent points"):
        inspect.unwrap(geodesic.solve)(geodesic.PullbackManifold(hill), *pairs(1), init="graph", points=points)


def test_lengths_that_never_agree_are_not_called_resolved() -> None:
    start, end = (z.float() for z in pairs(1))
    manifold = geodesic.PullbackManifold(network().float())
    solution = geodesic.solve(manifold, start, end, segments=512, length_rtol=1e-12)
    assert not solution.resolved.any()


@pytest.mark.parametrize("tol", [1.0, 1e6])
def test_a_tolerance_that_nothing_fails_is_refused(tol: float) -> None:
    with pytest.raises(geodesic.InputError, match="tol: expected a number between 0 and 1"):
        geodesic.solve(geodesic.PullbackManifold(network()), *pairs(1), tol=tol)
