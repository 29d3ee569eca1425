"""Laws that every solver keeps on every surface."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import geodesic
from geodesic import LBFGS, GradientDescent, Newton, NewtonKrylov, Status
from geodesic.geometry.excess import NewtonStep
from geodesic.numerics.masks import divided
from geodesic.solvers.solver import SOLVERS as KINDS
from geodesic.solvers.solver import Solver
from tests import surfaces
from tests.decoders import network, pairs

pytestmark = pytest.mark.slow  # laws on many surfaces: together they take a while

SOLVERS = {
    "newton": Newton(),
    "newton alone": Newton(warm_up=None),
    "newton-krylov": NewtonKrylov(),
    "newton-krylov, laplacian": NewtonKrylov(metric_samples=0),
    "lbfgs": LBFGS(),
    "lbfgs, laplacian": LBFGS(metric_samples=0),
    "gradient descent": GradientDescent(),
}
# Whose steps grow with T^2, so that they are tried with few segments.
SLOW = {
    "gradient descent, plain": GradientDescent(preconditioned=False),
    "gradient descent, fixed": GradientDescent(step_size=0.1),
}
# The metric of the half plane and of spheres of many dimensions varies too much for the weaker preconditioners to keep
# a test quick.
PATIENT = ("gradient descent", "lbfgs, laplacian")
HARD = ("sphere of dimension 20", "sphere of dimension 50", "sphere of dimension 10")
CASES = [(name, solver) for name in surfaces.KNOWN for solver in SOLVERS if solver not in PATIENT or name not in HARD]
# A fixed step that suits these surfaces is too long or too short for others.
WITHIN_REACH_OF_ALL = ("paraboloid", "saddle", "sphere", "cylinder", "flat torus", "hyperbolic plane", "catenoid")
every_solver = pytest.mark.parametrize("solver", SOLVERS)


def test_every_registered_solver_is_tried_here() -> None:
    assert {type(solver) for solver in SOLVERS.values()} == set(KINDS.values())


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


@pytest.mark.parametrize("name", WITHIN_REACH_OF_ALL)
@pytest.mark.parametrize("solver", SLOW)
def test_slow_solvers_find_the_geodesic_of_newton_with_as_many_segments(name: str, solver: str) -> None:
    manifold, start, end, *_ = surfaces.KNOWN[name]
    ends = torch.tensor(start), torch.tensor(end)
    solution = geodesic.solve(manifold, *ends, solver=SLOW[solver], segments=4, tol=1e-10, max_steps=2000)
    reference = geodesic.solve(manifold, *ends, segments=4, tol=1e-13)
    assert bool(solution.converged)
    torch.testing.assert_close(solution.length, reference.length, rtol=1e-6, atol=0)
    torch.testing.assert_close(solution.path, reference.path, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "name", ["sphere of dimension 10", pytest.param("sphere of dimension 20", marks=pytest.mark.slow)]
)
def test_gradient_descent_meets_the_known_length_in_many_dimensions_too(name: str) -> None:
    manifold, start, end, length, _ = surfaces.KNOWN[name]
    ends = torch.tensor(start), torch.tensor(end)
    solution = geodesic.solve(manifold, *ends, solver=GradientDescent(), tol=1e-8, max_steps=2000)
    assert bool(solution.converged)
    assert float(solution.length) == pytest.approx(length, rel=2e-6)
    assert float(2 * solution.energy) <= length**2 * (1 + 1e-7)


@pytest.mark.slow
def test_gradient_descent_is_certified_by_products_in_more_dimensions_than_jacobians_are_formed_for() -> None:
    manifold, start, end, *_ = surfaces.KNOWN["sphere of dimension 50"]
    ends = torch.tensor(start), torch.tensor(end)
    solution = geodesic.solve(manifold, *ends, solver=GradientDescent(), segments=8, tol=1e-8, max_steps=2000)
    reference = geodesic.solve(manifold, *ends, segments=8, tol=1e-13)
    assert bool(solution.converged)
    torch.testing.assert_close(solution.length, reference.length, rtol=2e-5, atol=0)


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


@pytest.mark.parametrize("solver", SOLVERS | SLOW)
def test_a_pairs_answer_does_not_depend_on_its_batch(solver: str) -> None:
    manifold = geodesic.PullbackManifold(network())
    start, end = pairs(3)
    method = GradientDescent(step_size=0.01) if solver == "gradient descent, fixed" else (SOLVERS | SLOW)[solver]
    together = geodesic.solve(manifold, start, end, solver=method, segments=16, max_steps=30)
    for i in range(3):
        alone = geodesic.solve(manifold, start[i], end[i], solver=method, segments=16, max_steps=30)
        torch.testing.assert_close(together.length[i], alone.length, rtol=1e-6, atol=0)
        torch.testing.assert_close(together.path[i], alone.path, rtol=0, atol=1e-4 if solver in SLOW else 1e-6)
        assert int(together.status[i]) == int(alone.status)
        assert int(together.iterations[i]) == int(alone.iterations)


@every_solver
def test_ends_are_untouched_and_the_way_back_is_the_same_way(solver: str) -> None:
    manifold = geodesic.PullbackManifold(network())
    start, end = pairs(3)
    before = start.clone(), end.clone()
    there = geodesic.solve(manifold, start, end, solver=SOLVERS[solver], tol=1e-9, max_steps=3000)
    back = geodesic.solve(manifold, end, start, solver=SOLVERS[solver], tol=1e-9, max_steps=3000)
    assert torch.equal(there.path[:, 0], start)
    assert torch.equal(there.path[:, -1], end)
    assert torch.equal(start, before[0])
    assert torch.equal(end, before[1])
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
        callback=lambda p: energies.append(p.energy) if p.stepped else None,
    )
    history = torch.stack(energies)
    assert (history.diff(dim=0) <= 1e-13 * history[0]).all()


@pytest.mark.parametrize("solver", ["newton", "newton-krylov", "lbfgs", "gradient descent", "gradient descent, plain"])
def test_scaling_all_outputs_changes_no_answer(solver: str) -> None:
    decoder, ends = network(), pairs(4)
    settings = {"solver": (SOLVERS | SLOW)[solver], "max_steps": 25, "segments": 8}
    plain = geodesic.solve(geodesic.PullbackManifold(decoder), *ends, **settings)
    for scale in (2.0**-10, 2.0**10):  # powers of two: not even rounding differs
        scaled = geodesic.solve(geodesic.PullbackManifold(lambda z, s=scale: s * decoder(z)), *ends, **settings)
        assert torch.equal(plain.converged, scaled.converged)
        assert torch.equal(plain.iterations, scaled.iterations)
        torch.testing.assert_close(scaled.path, plain.path, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(scaled.length, scale * plain.length, rtol=1e-8, atol=0)


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

    gaps = [float(2 * s.energy) - length**2 for s in solutions]
    assert -2.2 < slope(gaps) < -1.8
    if name == "paraboloid":
        assert np.diff(np.log2(np.abs(gaps[:3]))) == pytest.approx([-2, -2], abs=0.1)
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
    assert solution.path.dtype == solution.error.dtype == dtype
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


@pytest.mark.parametrize("scale", [1e-4, 1e6])
def test_latent_coordinates_of_any_scale_are_converged_for_in_single_precision(scale: float) -> None:
    decoder, (start, end) = network(), pairs(4)
    exact = geodesic.solve(geodesic.PullbackManifold(decoder), start, end, tol=1e-13)
    factors, single = torch.tensor([1.0, scale], dtype=torch.float32), network().float()
    scaled = geodesic.PullbackManifold(lambda z: single(z * factors))
    solution = geodesic.solve(scaled, start.float() / factors, end.float() / factors)
    assert solution.converged.all()
    assert (solution.energy.double() / exact.energy - 1).abs().max() < 3e-6


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LBFGS(history=0), "history: "),
        (lambda: LBFGS(metric_samples=-1), "metric_samples: "),
        (lambda: NewtonKrylov(metric_samples=-1), "metric_samples: "),
        (lambda: NewtonKrylov(history=0), "history: "),
        (lambda: GradientDescent(direction="sideways"), "direction: .*'sideways'"),
        (lambda: GradientDescent(direction="encoder"), "encoder: .*pass encoder=vae.encode"),
        (lambda: GradientDescent(step_size=0.0), "step_size: "),
        (lambda: GradientDescent(epsilon=-1.0), "epsilon: "),
        (lambda: GradientDescent(mode="magic"), "mode: "),
    ],
)
def test_bad_settings_of_solvers_are_named(make, message: str) -> None:
    with pytest.raises(geodesic.errors.InputError, match=message):
        make()


class Waits(TorchDispatchMode):
    """Counts how often the host asks a device for a number, as it must to branch or to index by a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation._overloadpacket.__name__
        masks = args[1] if name in ("index", "index_put", "index_put_") else ()
        self.count += name in ("_local_scalar_dense", "nonzero", "equal", "masked_select")
        self.count += any(isinstance(i, torch.Tensor) and i.dtype == torch.bool for i in masks)
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize(("solver", "most"), [(geodesic.LBFGS(), 1), (Newton(warm_up=None), 2)])
def test_the_host_waits_for_the_device_once_in_a_step_and_once_to_look_at_it(solver, most: int) -> None:
    manifold = geodesic.PullbackManifold(network())
    path = geodesic.solve(manifold, *pairs(4), tol=1e-4, segments=32).path
    state = solver.begin(manifold, path, torch.ones_like(path[:, 1:, 0]))
    with Waits() as waits:
        after = solver.step(manifold, state)
    assert (after.energy < state.energy).all()
    assert waits.count == most  # and the driver's one, for how many have ended
    with Waits() as waits:
        divided(after.excess < 1)
    assert waits.count == 1


class PacedState(NamedTuple):
    path: torch.Tensor
    weights: torch.Tensor
    energy: torch.Tensor
    gradient: torch.Tensor
    excess: torch.Tensor
    status: torch.Tensor


class Paced(Solver[PacedState]):
    """Takes a fixed part of the first energy from each pair at every step, and claims the same excess throughout."""

    def __init__(self, *paces: float, excess: float) -> None:
        self.paces, self.excess = torch.tensor(paces), excess

    def begin(self, manifold, path, weights):
        ones = torch.ones_like(path[:, 0, 0])
        return PacedState(path, weights, ones, path[:, 1:-1], self.excess * ones, torch.zeros(len(path), dtype=int))

    def step(self, manifold, state):
        return state._replace(energy=state.energy - self.paces[state.path[:, 0, 0].long()])

    def certify(self, manifold, state, tol):
        return NewtonStep(state.gradient, state.excess, torch.ones_like(state.status, dtype=torch.bool))


def test_a_pair_stalls_that_at_its_pace_cannot_gain_what_is_left_within_the_steps_there_are() -> None:
    # A tenth of the energy is left, and there are 200 steps: half of a thousandth a step would do.
    solver = Paced(0.9 * 0.1 / 200, 1.2 * 0.1 / 200, excess=0.1)
    start = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    plane = geodesic.PullbackManifold(lambda z: z)
    solution = geodesic.solve(plane, start, start + 1, solver=solver, segments=4, max_steps=200)
    assert solution.status.tolist() == [Status.STALLED, Status.MAX_STEPS]
    assert solution.iterations.tolist() == [20, 200]
