"""Laws of the energy, its gradient, the encoder direction, lengths and residuals."""

import inspect

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from torch import nn

import geodesic
from geodesic.geometry.energy import energy_and_gradient
from geodesic.geometry.memory import rows_at_once
from geodesic.geometry.path import spline_through
from geodesic.geometry.points import inverse_at, norms_at
from geodesic.geometry.residual import inverse_norm
from geodesic.solvers.stiffness import inverse_laplacian
from tests import surfaces
from tests.naive import naive_energy_gradient

FLOAT64 = torch.float64


def mlp(d: int, D: int = 12, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(d, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, D))
    return net.to(FLOAT64).requires_grad_(False)


def random_paths(*batch: int, T: int = 8, d: int = 3) -> torch.Tensor:
    return torch.randn(*batch, T + 1, d, dtype=FLOAT64)


@pytest.mark.parametrize("T", [2, 8, 33])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_summed_vjp_equals_the_naive_loop(T: int, d: int) -> None:
    decoder = mlp(d)
    path = random_paths(T=T, d=d)
    expected = naive_energy_gradient(decoder, path)
    actual = geodesic.energy_gradient(geodesic.PullbackManifold(decoder), path)
    assert (actual - expected).abs().max() <= 1e-10 * expected.abs().max()


def test_the_gradient_of_a_batch_is_one_backward_call() -> None:
    calls = []

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            return z * 2

        @staticmethod
        def backward(ctx, v):
            calls.append(v.shape)
            return v * 2

    manifold = geodesic.PullbackManifold(Counted.apply)
    geodesic.energy_gradient(manifold, random_paths(5, T=8, d=2))
    assert calls.count((5 * 9, 2)) == 1


def test_the_gradient_is_the_derivative_of_the_energy() -> None:
    manifold = geodesic.PullbackManifold(mlp(2))
    path, step = random_paths(T=6, d=2), 1e-6
    gradient = geodesic.energy_gradient(manifold, path)
    for i, j in ((1, 0), (3, 1), (5, 0)):
        change = torch.zeros_like(path)
        change[i, j] = step
        slope = geodesic.path_energy(manifold, path + change) - geodesic.path_energy(manifold, path - change)
        assert slope / (2 * step) == pytest.approx(gradient[i - 1, j].item(), rel=1e-7)


def test_energy_and_gradient_are_those_of_the_two_functions() -> None:
    manifold, path = geodesic.PullbackManifold(mlp(3)), random_paths(4)
    energy, gradient = energy_and_gradient(manifold, path)
    assert torch.equal(energy, geodesic.path_energy(manifold, path))
    assert torch.equal(gradient, geodesic.energy_gradient(manifold, path))


def test_batch_axes_are_kept_and_rows_do_not_meet() -> None:
    manifold, path = geodesic.PullbackManifold(mlp(3)), random_paths(2, 3)
    gradient = geodesic.energy_gradient(manifold, path)
    assert gradient.shape == (2, 3, 7, 3)
    alone = geodesic.energy_gradient(manifold, path[1, 2])
    torch.testing.assert_close(gradient[1, 2], alone, rtol=1e-12, atol=1e-12)


def test_event_shapes_of_images_change_nothing() -> None:
    decoder = mlp(2)
    images = geodesic.PullbackManifold(lambda z: decoder(z).reshape(-1, 3, 2, 2))
    vectors, path = geodesic.PullbackManifold(decoder), random_paths(2, d=2)
    torch.testing.assert_close(geodesic.path_energy(images, path), geodesic.path_energy(vectors, path))
    torch.testing.assert_close(images.metric_tensor(path), vectors.metric_tensor(path))
    torch.testing.assert_close(
        geodesic.encoder_direction(images, path, lambda x: x.flatten(1)[:, :2]),
        geodesic.encoder_direction(vectors, path, lambda x: x[:, :2]),
    )


def test_the_squared_norm_is_the_metric_applied_twice() -> None:
    manifold = geodesic.PullbackManifold(mlp(3))
    z, v = torch.randn(7, 3, dtype=FLOAT64), torch.randn(7, 3, dtype=FLOAT64)
    expected = torch.einsum("ni,nij,nj->n", v, manifold.metric_tensor(z), v)
    torch.testing.assert_close(manifold.squared_norm(z, v), expected, rtol=1e-12, atol=1e-12)


def test_chords_are_shorter_than_the_curve() -> None:
    manifold, path = geodesic.PullbackManifold(mlp(2)), random_paths(10, d=2)
    chords = manifold.squared_chords(path).sqrt().sum(-1)
    # (sum of chords)^2 <= 2 E by Cauchy and Schwarz; a curve is no shorter than its chords.
    assert (chords**2 <= 2 * geodesic.path_energy(manifold, path) * (1 + 1e-12)).all()
    assert (chords <= geodesic.path_length(manifold, path)).all()


@pytest.mark.parametrize("method", ["forward", "double_vjp"])
def test_the_encoder_direction_is_the_jacobian_times_the_second_difference(method: str) -> None:
    decoder, encoder = mlp(3), mlp(12, 3, seed=1)
    path = random_paths(2, T=5)
    x = decoder(path.reshape(-1, 3)).reshape(2, 6, 12).detach()
    second = x[:, 2:] - 2 * x[:, 1:-1] + x[:, :-2]
    J = geodesic.autodiff.jacobian(encoder, x[:, 1:-1].reshape(-1, 12))
    expected = -5 * (J @ second.reshape(-1, 12, 1)).reshape(2, 4, 3)
    actual = geodesic.encoder_direction(geodesic.PullbackManifold(decoder), path, encoder, method)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_an_orthogonal_left_inverse_makes_the_encoder_direction_the_natural_gradient() -> None:
    A = torch.randn(6, 2, dtype=FLOAT64)
    manifold = geodesic.PullbackManifold(lambda z: z @ A.T)
    path = random_paths(d=2)
    eta = geodesic.encoder_direction(manifold, path, lambda x: x @ torch.linalg.pinv(A).T)
    natural = geodesic.energy_gradient(manifold, path) @ torch.linalg.inv(A.T @ A)
    torch.testing.assert_close(eta, natural, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", [name for name, known in surfaces.KNOWN.items() if known.straight is not None])
def test_the_straight_line_has_its_known_length(name: str) -> None:
    manifold, start, end, _, straight = surfaces.KNOWN[name]
    path = geodesic.straight_path(torch.tensor(start, dtype=FLOAT64), torch.tensor(end, dtype=FLOAT64))
    length = geodesic.path_length(manifold, path)
    assert float(length) == pytest.approx(straight, abs=1e-7)


def test_the_length_of_a_sampled_curve_converges_with_order_four() -> None:
    manifold = geodesic.surfaces.Paraboloid()
    errors = []
    for T in (32, 64, 128):
        t = torch.linspace(0, 1, T + 1, dtype=FLOAT64)
        path = torch.stack([t.cos(), (2 * t).sin()], dim=-1)
        errors.append(float(geodesic.path_length(manifold, path)) - _fine_length())
    slope = torch.tensor(errors).abs().log2().diff().mean()
    assert -5.5 < slope < -3.5


def _fine_length() -> float:
    """The same curve, differentiated by hand, by a rule that is exact to rounding."""
    t = (torch.arange(20000, dtype=FLOAT64) + 0.5) / 20000
    x, y = t.cos(), (2 * t).sin()
    dx, dy = -t.sin(), 2 * (2 * t).cos()
    speed = (dx**2 + dy**2 + (2 * x * dx + 2 * y * dy) ** 2).sqrt()
    # The midpoint rule's error is h^2/24 times the change of the derivative at the ends: subtract it.
    ends = (speed[-1] - speed[-2] - speed[1] + speed[0]) * 20000
    return float(speed.mean() + ends / 24 / 20000**2)


def test_ends_of_a_straight_path_are_exact_bit_for_bit() -> None:
    start, end = torch.randn(50, 4), torch.randn(50, 4)
    path = geodesic.straight_path(start, end, segments=7)
    assert torch.equal(path[:, 0], start)
    assert torch.equal(path[:, -1], end)


def test_the_residual_is_the_geodesic_curvature_of_the_spline_times_its_length() -> None:
    manifold, path = geodesic.PullbackManifold(mlp(2)), random_paths(T=6, d=2)
    spline = CubicSpline(np.linspace(0, 1, 7), path.numpy(), bc_type="not-a-knot")
    t, h = (np.arange(6) + 0.5) / 6, 1e-4
    before, x, after = (manifold.embed(torch.from_numpy(spline(t + s))) for s in (-h, 0, h))
    Q = torch.linalg.qr(manifold.jacobian(torch.from_numpy(spline(t)))).Q
    acceleration, velocity = (after - 2 * x + before) / h**2, (after - before) / (2 * h)
    tangential = (Q @ (Q.mT @ acceleration[..., None]))[..., 0]
    along = (tangential * velocity).sum(-1, keepdim=True) / velocity.square().sum(-1, keepdim=True)
    curvature = (tangential - along * velocity).norm(dim=-1) / velocity.square().sum(-1)
    expected = curvature.max() * geodesic.path_length(manifold, path)
    torch.testing.assert_close(geodesic.geometry.decoder_residual(manifold, path), expected, rtol=1e-5, atol=0)


def test_the_residual_of_a_geodesic_falls_with_the_square_of_the_segments() -> None:
    manifold = geodesic.PullbackManifold(mlp(2))
    start, end = torch.tensor([-1.0, 0.5], dtype=FLOAT64), torch.tensor([1.0, -0.3], dtype=FLOAT64)
    residuals = [
        float(geodesic.solve(manifold, start, end, segments=T, tol=1e-14).decoder_residual) for T in (16, 32, 64, 128)
    ]
    slope = np.polyfit(np.log([16, 32, 64, 128]), np.log(residuals), 1)[0]
    assert -2.3 < slope < -1.7


def test_conjugate_gradients_find_the_residual_of_many_coordinates_from_below() -> None:
    manifold, path = geodesic.PullbackManifold(mlp(6)), random_paths(3, T=6, d=6)
    middle, velocity, acceleration = spline_through(path)
    u = manifold.lowered_acceleration(middle, velocity, acceleration)
    G = manifold.metric_tensor(middle)
    exact = (u * torch.linalg.solve(G, u[..., None])[..., 0]).sum(-1)
    values = [inverse_norm(manifold, middle, u, steps) for steps in (1, 3, 12)]
    assert (values[0] <= values[1] * (1 + 1e-12)).all()
    assert (values[1] <= exact * (1 + 1e-8)).all()
    torch.testing.assert_close(values[2], exact, rtol=1e-5, atol=0)
    about = inverse_norm(manifold, middle, u, share=0.1)
    assert (about < exact * (1 - 1e-6)).any()
    assert (about > 0.8 * exact).all()


@pytest.mark.parametrize("measure", [geodesic.geometry.decoder_residual, geodesic.geometry.relative_excess_energy])
def test_measures_of_convergence_have_no_scale_and_no_coordinates(measure) -> None:
    decoder, path = mlp(2), random_paths(3, d=2) / 10
    A = torch.tensor([[2.0, 1.0], [0.0, 0.3]], dtype=FLOAT64)
    plain = measure(geodesic.PullbackManifold(decoder), path)
    scaled = measure(geodesic.PullbackManifold(lambda z: 1000 * decoder(z)), path)
    changed = measure(geodesic.PullbackManifold(lambda z: decoder(z @ A)), path @ torch.linalg.inv(A))
    torch.testing.assert_close(scaled, plain, rtol=1e-8, atol=0)
    torch.testing.assert_close(changed, plain, rtol=1e-8, atol=0)


def test_the_relative_excess_energy_is_exact_in_flat_space() -> None:
    A = torch.randn(5, 3, dtype=FLOAT64)
    manifold = geodesic.PullbackManifold(lambda z: z @ A.T)
    path = random_paths(4)
    straight = geodesic.straight_path(path[:, 0], path[:, -1], 8)
    energy, least = (geodesic.path_energy(manifold, p) for p in (path, straight))
    actual = geodesic.geometry.relative_excess_energy(manifold, path)
    torch.testing.assert_close(actual, (energy - least) / energy, rtol=1e-9, atol=0)


def test_the_relative_excess_energy_predicts_what_is_still_to_gain() -> None:
    manifold = geodesic.surfaces.Paraboloid()
    start, end = torch.tensor([1.0, 0.0], dtype=FLOAT64), torch.tensor([-0.5, 1.0], dtype=FLOAT64)
    best = geodesic.solve(manifold, start, end, tol=1e-14)
    near = best.path.clone()
    near[1:-1] += 1e-3 * torch.randn(31, 2, dtype=FLOAT64)
    gain = 1 - best.energy / geodesic.path_energy(manifold, near)
    assert float(geodesic.geometry.relative_excess_energy(manifold, near) / gain) == pytest.approx(1, abs=0.1)


def test_the_inverse_laplacian_undoes_the_laplacian() -> None:
    T = 9
    weights = torch.stack([torch.ones(T, dtype=FLOAT64), 0.1 + torch.rand(T, dtype=FLOAT64)])
    difference = torch.eye(T, T - 1, dtype=FLOAT64) - torch.eye(T, T - 1, dtype=FLOAT64).roll(1, 0)
    K = difference.T @ torch.diag_embed(weights) @ difference  # tridiag(-1, 2, -1) where all weights are 1
    eta = torch.randn(2, T - 1, 2, dtype=FLOAT64)
    torch.testing.assert_close(T * K @ inverse_laplacian(eta, weights), eta, rtol=1e-12, atol=1e-12)


def test_arguments_are_not_written_to() -> None:
    manifold, path = geodesic.PullbackManifold(mlp(3)), random_paths(2)
    before = path.clone()
    geodesic.energy_gradient(manifold, path)
    geodesic.encoder_direction(manifold, path, lambda x: x[:, :3])
    geodesic.geometry.relative_excess_energy(manifold, path)
    assert torch.equal(path, before)
    assert not path.requires_grad


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda m: geodesic.path_energy(m, torch.zeros(1, 2)), "path"),
        (lambda m: geodesic.energy_gradient(m, torch.zeros(2, 2)), "path"),
        (lambda m: geodesic.energy_gradient(m, torch.zeros(4, 2, dtype=torch.int64)), "path"),
        (lambda m: geodesic.path_length(m, torch.zeros(2, 2)), "path"),
        (lambda m: geodesic.straight_path(torch.zeros(2), torch.zeros(3)), "end"),
        (lambda m: geodesic.encoder_direction(m, torch.zeros(4, 2), lambda x: x), "encoder"),
        (lambda m: geodesic.encoder_direction(m, torch.zeros(4, 2), lambda x: x[:, :2], "magic"), "mode"),
    ],
)
def test_bad_arguments_are_named(call, name: str) -> None:
    manifold = geodesic.surfaces.Paraboloid()
    with pytest.raises(geodesic.errors.InputError, match=f"^{name}"):
        call(manifold)


def test_a_path_is_refined_without_a_manifold() -> None:
    refine = inspect.unwrap(geodesic.refine_path)  # without the type checker that watches the tests: a user has none
    with pytest.raises(geodesic.errors.InputError, match=r"^path: got a manifold, .* refine_path\(path, segments\)"):
        refine(geodesic.surfaces.Paraboloid(), torch.zeros(4, 2))


def test_refining_a_path_keeps_a_cubic_and_its_ends() -> None:
    t = torch.linspace(0, 1, 9, dtype=FLOAT64)[:, None]
    cubic = torch.cat([t**3 - t, 2 * t**2], dim=1) + 1 / 3
    fine = torch.linspace(0, 1, 33, dtype=FLOAT64)[:, None]
    refined = geodesic.refine_path(cubic, 32)
    torch.testing.assert_close(refined, torch.cat([fine**3 - fine, 2 * fine**2], dim=1) + 1 / 3, rtol=0, atol=1e-14)
    assert torch.equal(refined[[0, -1]], cubic[[0, -1]])


@pytest.mark.parametrize("segments", [None, 50])
def test_constant_speed_keeps_the_curve_and_makes_the_chords_equal(segments: int | None) -> None:
    manifold = geodesic.PullbackManifold(mlp(2))
    start, end = torch.randn(4, 2, dtype=FLOAT64), torch.randn(4, 2, dtype=FLOAT64)
    straight = geodesic.straight_path(start, end, 200)
    moved = geodesic.geometry.constant_speed(manifold, straight, segments)
    assert moved.shape == (4, (segments or 200) + 1, 2)
    chords = manifold.squared_chords(moved).sqrt()
    assert float((chords.amax(-1) / chords.amin(-1)).max()) < 1.02
    # On the straight line still: no component across it.
    along, across = end - start, (moved - start[:, None])
    assert (along[:, None, 0] * across[..., 1] - along[:, None, 1] * across[..., 0]).abs().max() < 1e-14
    assert torch.equal(moved[:, 0], start)
    assert torch.equal(moved[:, -1], end)


def test_a_path_without_length_keeps_its_parametrization() -> None:
    path = torch.full((2, 5, 3), 0.7, dtype=FLOAT64)
    assert torch.equal(geodesic.geometry.constant_speed(geodesic.PullbackManifold(mlp(3)), path), path)


# --- memory -------------------------------------------------------------------------------------


def wide(width: int) -> geodesic.PullbackManifold:
    return geodesic.PullbackManifold(nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 3)).eval())


def test_fewer_rows_are_taken_at_once_where_hidden_layers_are_wider_and_for_second_derivatives() -> None:
    z = torch.randn(5, 2)
    few, many = (rows_at_once(wide(width), z) for width in (2000, 20))
    assert 50 < many / few < 200  # outputs are as small
    manifold = wide(20)
    assert rows_at_once(manifold, z, order=1) > rows_at_once(manifold, z)
    flat = geodesic.MetricFunction(manifold.metric_tensor)
    assert rows_at_once(flat, z) < rows_at_once(flat, z, order=1) / 6  # second derivatives of the metric itself


def test_points_beyond_the_memory_are_taken_in_groups_and_the_answers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    manifold, (z, v) = wide(20), torch.randn(2, 3, 4, 2)
    inverse, norms = inverse_at(manifold, z), norms_at(manifold, z, v)
    monkeypatch.setattr("geodesic.geometry.memory.BUDGET", 1.0)
    sizes = []
    metric = type(manifold).metric_tensor

    def counted(self: geodesic.PullbackManifold, z: torch.Tensor) -> torch.Tensor:
        sizes.append(len(z))
        return metric(self, z)

    monkeypatch.setattr(type(manifold), "metric_tensor", counted)
    torch.testing.assert_close(inverse_at(manifold, z).factor, inverse.factor)
    assert sizes == [1] * 12
    torch.testing.assert_close(norms_at(manifold, z, v), norms)
    torch.testing.assert_close(norms, (v * (metric(manifold, z) @ v[..., None])[..., 0]).sum(-1).sqrt())


def test_arcs_from_values_and_velocities_at_nodes_are_of_fourth_order() -> None:
    sphere, errors = geodesic.surfaces.Sphere(), []
    for T in (8, 16):
        t = torch.linspace(0, 1, T + 1)
        path = torch.stack([torch.pi / 2 * torch.ones_like(t), 2 * t + 0.5 * t**2], dim=-1)[None]  # along the equator
        velocity = torch.stack([torch.zeros_like(t), (2 + t) / T], dim=-1)[None]
        squared, lengths = sphere.arcs(path, velocity)
        torch.testing.assert_close(squared, sphere.squared_chords(path))
        errors.append(float((lengths.sum() - 2.5).abs()))
    assert errors[0] < 1e-4
    assert 12 < errors[0] / errors[1] < 20
