"""Many latent coordinates: preconditioners, and certificates from products with the Hessian alone."""

import pytest
import torch
from torch import Tensor

import geodesic
from geodesic import LBFGS, NewtonKrylov, Status
from geodesic.geometry.excess import newton_step
from geodesic.solvers.krylov import krylov_step
from geodesic.solvers.preconditioner import precondition, with_metric
from geodesic.solvers.stiffness import separable, stiffness
from tests.decoders import network, pairs


def collapsed(d: int) -> geodesic.PullbackManifold:
    """A decoder to which most latent coordinates hardly matter, as those of trained VAEs of many."""
    scales, net = 10 ** -torch.linspace(0, 3, d), network(d, width=64, outputs=80)
    return geodesic.PullbackManifold(lambda z: net(z * scales))


def counted_products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list to which products with Hessians add how many pairs they were taken for."""
    plain, taken = geodesic.PullbackManifold.gradient_and_product, []

    def counting(self: geodesic.PullbackManifold, path: Tensor, weights: Tensor) -> tuple:
        chords, gradient, product = plain(self, path, weights)

        def counted(u: Tensor) -> Tensor:
            taken.append(len(u))
            return product(u)

        return chords, gradient, counted

    monkeypatch.setattr(geodesic.PullbackManifold, "gradient_and_product", counting)
    return taken


def test_the_metric_beside_the_laplacian_is_the_stiffness_matrix_where_the_metric_is_the_same_everywhere() -> None:
    d, T = 7, 6
    A = torch.randn(10, d)
    manifold = geodesic.PullbackManifold(lambda z: z @ A.T)
    path, weights, right = torch.randn(3, T + 1, d), 0.5 + torch.rand(3, T), torch.randn(3, T - 1, d)
    found = separable(manifold, path, weights, samples=2)
    torch.testing.assert_close(found.solve(right), stiffness(manifold, path, weights, 2).cholesky().solve(right))
    for i in range(3):
        alone = separable(manifold, path[i : i + 1], weights[i : i + 1], samples=2)
        one = right[i : i + 1]
        torch.testing.assert_close(found.solve(right)[i : i + 1], alone.solve(one))
        torch.testing.assert_close(found[torch.tensor([i])].solve(one), alone.solve(one))


def test_its_size_along_a_path_is_that_of_the_metric() -> None:
    # Outputs that grow along the first coordinate, alike in all directions: S = K (x) I with weights times the metric.
    path, T = torch.zeros(1, 65, 5), 64
    path[0, :, 0] = torch.linspace(0, 1, T + 1)
    manifold = geodesic.MetricFunction(lambda z: (1 + z[..., 0]).exp()[..., None, None] * torch.eye(5))
    weights, right = torch.ones(1, T), torch.randn(1, T - 1, 5)
    found = separable(manifold, path, weights, samples=16)
    close = stiffness(manifold, path, weights, samples=16).cholesky().solve(right)
    torch.testing.assert_close(found.solve(right), close, rtol=1e-8, atol=1e-10)


def test_where_the_metric_is_not_a_number_the_identity_takes_its_place_for_that_pair_alone() -> None:
    path, weights, right = torch.randn(2, 9, 20), torch.ones(2, 8), torch.randn(2, 7, 20)
    path[1] += 100
    manifold = geodesic.PullbackManifold(lambda z: torch.where(z.sum(1, keepdim=True) > 1000, torch.nan, 2 * z))
    for found in (separable(manifold, path, weights, 2), with_metric(manifold, path, weights, damping=0.0)):
        assert found.positive.all()
        torch.testing.assert_close(4 * found.solve(right)[0], found.solve(right.flip(0))[1])


@pytest.mark.slow
def test_a_path_that_leads_ever_farther_away_ends_before_its_steps_do() -> None:
    # The farther along w, the nearer the two ends are around the cylinder, and there is no end to it.
    def narrowing(z: Tensor) -> Tensor:
        angle, w = z.unbind(-1)
        radius = 1 + 1 / (torch.e + w.square()).log()
        return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)

    ends = torch.tensor([0.0, 0.5]), torch.tensor([2.5, 0.5])
    solution = geodesic.solve(geodesic.PullbackManifold(narrowing), *ends, solver=LBFGS(), segments=16, tol=1e-8)
    assert int(solution.status) == Status.FAR_AWAY
    assert int(solution.iterations) < 300


@pytest.mark.slow
def test_the_metric_saves_most_products_where_few_coordinates_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    manifold, (start, end) = collapsed(48), pairs(2, 48)
    path, weights, counts = geodesic.straight_path(start, end, 8), torch.ones(2, 8), []
    chords = manifold.squared_chords(path)
    for S in (precondition(manifold, path, weights, chords, 0), with_metric(manifold, path, weights)):
        taken = counted_products(monkeypatch)
        krylov_step(manifold, path, weights, S, torch.zeros(2))
        counts.append(sum(taken))
        monkeypatch.undo()
    assert counts[1] < counts[0] / 1.5, counts


@pytest.mark.slow
def test_blocks_of_their_own_at_each_node_take_fewer_products_than_one_mean_metric(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifold, (start, end) = collapsed(48), pairs(2, 48)
    path, weights, counts = geodesic.solve(manifold, start, end, segments=16, tol=1e-3).path, torch.ones(2, 16), []
    for S in (separable(manifold, path, weights, 2, 1e-4), with_metric(manifold, path, weights)):
        taken = counted_products(monkeypatch)
        krylov_step(manifold, path, weights, S, torch.zeros(2))
        counts.append(len(taken))
        monkeypatch.undo()
    assert counts[1] < counts[0], counts


@pytest.mark.slow
def test_what_is_claimed_holds_by_the_exact_hessian_and_what_fails_fails_by_it() -> None:
    manifold, (start, end) = collapsed(40), pairs(2, 40)
    weights = torch.ones(2, 8)
    for steps in (3, 15):
        solution = geodesic.solve(manifold, start, end, solver=LBFGS(), segments=8, tol=1e-12, max_steps=steps)
        S = with_metric(manifold, solution.path, weights)
        exact = newton_step(manifold.expansion(solution.path, weights))
        for share in (0.2, 0.8, 1.25, 5.0):
            tol = share * exact.excess
            found = krylov_step(manifold, solution.path, weights, S, tol)
            seen = exact.minimum
            assert ((found.excess > tol) == (share < 1))[seen].all()


@pytest.mark.slow
def test_what_is_claimed_before_the_metric_is_known_holds_by_the_exact_hessian() -> None:
    manifold, (start, end) = collapsed(40), pairs(4, 40)
    solution = geodesic.solve(manifold, start, end, segments=8, tol=1e-2)
    exact = newton_step(manifold.expansion(solution.path, torch.ones(4, 8))).excess
    assert solution.converged.all()
    assert (exact <= 1.05 * solution.relative_excess_energy).all()


@pytest.mark.slow
def test_a_certificate_takes_no_more_products_than_steps_were_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    manifold, (start, end) = collapsed(40), pairs(1, 40)
    state, taken = LBFGS().begin(manifold, geodesic.straight_path(start, end, 8), torch.ones(1, 8)), []
    for _ in range(30):
        state = LBFGS().step(manifold, state)
    taken = counted_products(monkeypatch)
    for tol, most in ((1e-9, 30 + 7), (1.0, 30 + 7), (0.0, 100 + 7)):  # and what a saddle is looked for with
        taken.clear()
        LBFGS().certify(manifold, state, torch.full((1,), tol))
        assert len(taken) <= most, tol


@pytest.mark.slow
def test_few_products_tell_that_a_path_is_far_from_a_geodesic(monkeypatch: pytest.MonkeyPatch) -> None:
    manifold, (start, end) = collapsed(40), pairs(1, 40)
    path, weights = geodesic.straight_path(start, end, 8), torch.ones(1, 8)
    S = with_metric(manifold, path, weights)
    taken = counted_products(monkeypatch)
    counts, exact = [], torch.zeros(1)
    for tol in (0.0, 0.01):
        taken.clear()
        found = krylov_step(manifold, path, weights, S, tol * exact)
        counts.append(len(taken))
        exact = exact if tol else found.excess
    assert counts[1] <= 2 < counts[0], counts  # what is known from below is enough


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hundreds_of_latent_coordinates_converge_and_a_pairs_answer_is_its_own(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(256, 32), torch.nn.Tanh(), torch.nn.Linear(32, 40)).to(dtype)
    scales = 10 ** -torch.linspace(-1, 1.5, 256, dtype=dtype)
    manifold = geodesic.PullbackManifold(lambda z: torch.cat([net(z * scales), z * scales / 10], dim=1))
    start, end = (z.to(dtype) for z in pairs(2, 256))
    solution = geodesic.solve(manifold, start, end, segments=8, tol=1e-4)
    assert solution.converged.all()
    if dtype == torch.float64:
        alone = geodesic.solve(manifold, start[1], end[1], segments=8, tol=1e-4)
        assert int(alone.iterations) == int(solution.iterations[1])
        torch.testing.assert_close(alone.length, solution.length[1], rtol=1e-6, atol=0)


def test_a_step_that_fails_is_followed_by_newtons() -> None:
    manifold, (start, end) = collapsed(40), pairs(2, 40)
    solver, path, weights = NewtonKrylov(), geodesic.straight_path(start, end, 6), torch.ones(2, 6)
    begun = solver.begin(manifold, path, weights)
    wrong = begun._replace(direction=begun.direction * torch.tensor([-1.0, 1.0])[:, None, None])
    state = solver.step(manifold, wrong)
    assert (state.status == Status.RUNNING).all()
    assert state.solved.tolist() == [True, False]
    assert state.energy[0] == begun.energy[0]
    after = solver.step(manifold, state)
    assert after.energy[0] < 0.99 * begun.energy[0]
    # A Newton step that fails too ends its pair.
    hopeless = solver.step(manifold, state._replace(direction=-state.direction))
    assert hopeless.status.tolist()[0] == Status.STALLED
