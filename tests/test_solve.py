"""Laws of solve: known geodesics, what converged means, what bad input gets."""

import dataclasses
import inspect

import pytest
import torch
from torch import nn

import geodesic
from geodesic import GradientDescent, Status
from tests import surfaces

FLOAT64 = torch.float64
SOLVERS = {
    "decoder": (GradientDescent(), 2000),
    "decoder-plain": (GradientDescent(preconditioned=False), 4000),
    "decoder-fixed": (GradientDescent(step_size=0.1), 4000),
}


def points(*rows: tuple[float, ...], dtype: torch.dtype = FLOAT64) -> torch.Tensor:
    return torch.tensor(rows[0] if len(rows) == 1 else rows, dtype=dtype)


def network(dtype: torch.dtype = FLOAT64) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 16), nn.ELU(), nn.Linear(16, 16), nn.ELU(), nn.Linear(16, 20))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(2)
    return net.to(dtype).requires_grad_(False)


# Plain descent needs more steps than a test has time for where d is large or the scales of the directions differ, and
# a fixed step that suits these surfaces is too long or too short for others.
WITHIN_REACH_OF_ALL = ("paraboloid", "saddle", "sphere", "cylinder", "flat torus", "hyperbolic plane", "catenoid")


@pytest.mark.parametrize(
    ("name", "solver"),
    [(name, "decoder") for name in surfaces.KNOWN]
    + [(name, solver) for name in WITHIN_REACH_OF_ALL for solver in SOLVERS if solver != "decoder"],
)
def test_the_known_geodesic_is_found(name: str, solver: str) -> None:
    manifold, start, end, length, _ = surfaces.KNOWN[name]
    method, max_steps = SOLVERS[solver]
    solution = geodesic.solve(manifold, points(start), points(end), solver=method, tol=1e-9, max_steps=max_steps)
    assert bool(solution.converged)
    assert float(solution.length) == pytest.approx(length, rel=2e-6)
    if name in surfaces.EMBEDDED:  # elsewhere a chord is an approximation, which may err upward
        # 2 E <= d^2 <= length^2 at a global minimum
        assert float(2 * solution.energy) <= length**2 * (1 + 1e-7)


def test_the_error_of_the_energy_is_of_order_two_in_the_segments() -> None:
    manifold, start, end, length, _ = surfaces.KNOWN["paraboloid"]
    gaps = []
    for T in (16, 32, 64):
        solution = geodesic.solve(manifold, points(start), points(end), segments=T, tol=1e-13)
        gaps.append(length**2 - float(2 * solution.energy))
    slopes = torch.tensor(gaps).log2().diff()
    assert ((slopes > -2.1) & (slopes < -1.9)).all()


def test_the_speed_of_a_geodesic_is_constant() -> None:
    manifold = geodesic.PullbackManifold(network())
    solution = geodesic.solve(manifold, points(-1.0, 0.5), points(1.0, -0.3), tol=1e-12)
    chords = manifold.squared_chords(solution.path).sqrt()
    assert float(chords.std() / chords.mean()) < 2e-3


def test_the_encoder_form_stops_on_the_straight_line_of_the_paraboloid_and_is_not_called_converged() -> None:
    """H = (x_1, x_2) inverts g exactly, yet its direction vanishes on every straight line."""
    manifold, start, end, length, straight = surfaces.KNOWN["paraboloid"]

    def encoder(x: torch.Tensor) -> torch.Tensor:
        return x[:, :2]

    path = geodesic.straight_path(points(start), points(end))
    assert geodesic.encoder_direction(manifold, path, encoder).abs().max() < 1e-13
    for step_size, epsilon, status in (
        (None, None, Status.STALLED),
        (0.1, None, Status.STALLED),
        (0.1, 1e-6, Status.OWN_RULE),
    ):
        solution = geodesic.solve(
            manifold,
            points(start),
            points(end),
            solver=GradientDescent("encoder", encoder, step_size=step_size, epsilon=epsilon),
            init=path,
            max_steps=50,
        )
        assert float(solution.length) == pytest.approx(straight, abs=1e-6)
        assert not bool(solution.converged)
        assert int(solution.status) == status
        assert float(solution.decoder_residual) > 1
    decoder_form = geodesic.solve(manifold, points(start), points(end))
    assert float(decoder_form.decoder_residual) < 2e-2
    assert float(decoder_form.length) == pytest.approx(length, abs=1e-5)


@pytest.mark.parametrize("jvp_method", ["forward", "double_vjp"])
def test_the_encoder_form_finds_geodesics_of_flat_space(jvp_method: str) -> None:
    A = torch.randn(5, 2, dtype=FLOAT64)
    pinv = torch.linalg.pinv(A)
    manifold = geodesic.PullbackManifold(lambda z: z.sinh() @ A.T)
    solver = GradientDescent("encoder", lambda x: (x @ pinv.T).asinh(), jvp_method=jvp_method)
    solution = geodesic.solve(manifold, points(-1.0, 0.5), points(1.0, 1.0), solver=solver, tol=1e-8)
    expected = (A @ (points(1.0, 1.0).sinh() - points(-1.0, 0.5).sinh())).norm()
    assert bool(solution.converged)
    assert float(solution.length) == pytest.approx(float(expected), rel=1e-5)


def test_shaos_rule_stops_a_pair_and_convergence_is_judged_apart_from_it() -> None:
    manifold, start, end, *_ = surfaces.KNOWN["paraboloid"]
    loose, tight = (
        geodesic.solve(
            manifold,
            points(start),
            points(end),
            solver=GradientDescent(epsilon=epsilon),
            tol=tol,
        )
        for epsilon, tol in ((1.0, 1e-9), (1e-6, 1e-3))
    )
    assert int(loose.status) == Status.OWN_RULE
    assert not bool(loose.converged)
    assert bool(tight.converged)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_batch_equals_its_pairs_one_by_one(solver: str) -> None:
    manifold = geodesic.PullbackManifold(network())
    start, end = torch.randn(6, 2, dtype=FLOAT64), torch.randn(6, 2, dtype=FLOAT64)
    method, _ = SOLVERS[solver]
    if method.step_size is not None:
        method = dataclasses.replace(method, step_size=0.01)
    together = geodesic.solve(manifold, start, end, solver=method, max_steps=50)
    for i in range(6):
        alone = geodesic.solve(manifold, start[i], end[i], solver=method, max_steps=50)
        torch.testing.assert_close(together.length[i], alone.length, rtol=1e-6, atol=0)
        assert int(together.status[i]) == int(alone.status)


def test_leading_axes_are_kept() -> None:
    manifold = geodesic.PullbackManifold(network())
    start, end = torch.randn(2, 3, 2, dtype=FLOAT64), torch.randn(2, 3, 2, dtype=FLOAT64)
    solution = geodesic.solve(manifold, start, end, segments=8)
    assert solution.path.shape == (2, 3, 9, 2)
    for field in dataclasses.fields(solution):
        value = getattr(solution, field.name)
        assert field.name in ("path", "arc", "tol", "solver") or value.shape == (2, 3)


def test_ends_are_untouched_bit_for_bit() -> None:
    start, end = torch.randn(5, 2, dtype=FLOAT64), torch.randn(5, 2, dtype=FLOAT64)
    before = start.clone(), end.clone()
    solution = geodesic.solve(geodesic.PullbackManifold(network()), start, end)
    assert torch.equal(solution.path[:, 0], before[0])
    assert torch.equal(solution.path[:, -1], before[1])
    assert torch.equal(start, before[0])


def test_the_way_back_is_the_same_way() -> None:
    manifold = geodesic.PullbackManifold(network())
    start, end = torch.randn(4, 2, dtype=FLOAT64), torch.randn(4, 2, dtype=FLOAT64)
    there = geodesic.solve(manifold, start, end, tol=1e-12)
    back = geodesic.solve(manifold, end, start, tol=1e-12)
    torch.testing.assert_close(there.length, back.length, rtol=1e-8, atol=0)
    torch.testing.assert_close(there.path, back.path.flip(-2), rtol=0, atol=1e-4)


@pytest.mark.parametrize("solver", ["decoder", "decoder-plain"])
@pytest.mark.parametrize("scale", [2.0**-10, 2.0**10])  # powers of two: not even rounding differs
def test_scaling_all_outputs_changes_no_answer(solver: str, scale: float) -> None:
    decoder = network()
    start, end = torch.randn(4, 2, dtype=FLOAT64), torch.randn(4, 2, dtype=FLOAT64)
    method, _ = SOLVERS[solver]
    plain, scaled = (
        geodesic.solve(geodesic.PullbackManifold(f), start, end, solver=method, max_steps=100)
        for f in (decoder, lambda z: scale * decoder(z))
    )
    assert torch.equal(plain.converged, scaled.converged)
    assert torch.equal(plain.steps, scaled.steps)
    torch.testing.assert_close(scaled.path, plain.path, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(scaled.length, scale * plain.length, rtol=1e-8, atol=0)


def test_preconditioning_takes_away_the_growth_of_steps_with_the_segments() -> None:
    manifold, start, end, *_ = surfaces.KNOWN["paraboloid"]

    def steps(preconditioned: bool, T: int) -> int:
        solver = GradientDescent(preconditioned=preconditioned)
        solution = geodesic.solve(manifold, points(start), points(end), solver=solver, segments=T, max_steps=20000)
        assert bool(solution.converged)
        return int(solution.steps)

    assert steps(True, 32) <= steps(True, 8) + 10
    assert steps(False, 32) >= 8 * steps(True, 32)


def test_backtracking_never_raises_the_energy() -> None:
    energies = []
    start, end = torch.randn(5, 2, dtype=FLOAT64), torch.randn(5, 2, dtype=FLOAT64)
    manifold = geodesic.PullbackManifold(network())
    geodesic.solve(manifold, start, end, tol=1e-10, callback=lambda p: energies.append(p.energy))
    history = torch.stack(energies)
    assert len(history) > 5
    assert (history.diff(dim=0) <= 1e-14 * history[0]).all()


def test_the_callback_sees_every_step_and_how_pairs_end() -> None:
    seen: list[geodesic.Progress] = []
    start, end = torch.randn(5, 2, dtype=FLOAT64), torch.randn(5, 2, dtype=FLOAT64)
    solution = geodesic.solve(geodesic.PullbackManifold(network()), start, end, callback=seen.append)
    assert sorted({p.step for p in seen}) == list(range(int(solution.steps.max()) + 1))
    assert (seen[0].energy <= solution.initial_energy).all()  # the straight line at constant speed
    torch.testing.assert_close(seen[-1].energy, solution.energy)
    assert torch.equal(seen[-1].converged, solution.converged)
    assert not seen[-1].active.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_follows_the_endpoints(dtype: torch.dtype) -> None:
    start, end = torch.randn(4, 2, dtype=dtype), torch.randn(4, 2, dtype=dtype)
    solution = geodesic.solve(geodesic.PullbackManifold(network(dtype)), start, end)
    assert solution.path.dtype == solution.length.dtype == dtype
    assert solution.converged.all()


@pytest.mark.cuda
def test_cuda_gives_the_answer_of_the_cpu() -> None:
    start, end = torch.randn(4, 2, dtype=FLOAT64), torch.randn(4, 2, dtype=FLOAT64)
    decoder = network()
    here = geodesic.solve(geodesic.PullbackManifold(decoder), start, end, tol=1e-10)
    there = geodesic.solve(geodesic.PullbackManifold(decoder.cuda()), start.cuda(), end.cuda(), tol=1e-10)
    assert there.path.is_cuda
    torch.testing.assert_close(there.length.cpu(), here.length, rtol=1e-8, atol=0)


def test_equal_endpoints_give_the_constant_path() -> None:
    a = torch.randn(3, 2, dtype=FLOAT64)
    b = a.clone()
    b[1] += 1
    solution = geodesic.solve(geodesic.PullbackManifold(network()), a, b)
    assert solution.converged.all()
    assert solution.length[0] == solution.length[2] == 0
    assert (solution.path[0] == a[0]).all()
    assert float(solution.length[1]) > 0


@pytest.mark.parametrize("direction", ["decoder", "encoder"])
def test_a_single_pair_of_equal_endpoints_is_the_constant_path(direction: str) -> None:
    a = torch.randn(2, dtype=FLOAT64)
    solver = GradientDescent(direction, encoder=lambda x: x[:, :2])
    solution = geodesic.solve(geodesic.PullbackManifold(network()), a, a, solver=solver)
    assert bool(solution.converged)
    assert float(solution.length) == float(solution.energy) == float(solution.decoder_residual) == 0
    assert (solution.path == a).all()


def test_a_fixed_step_that_is_too_long_is_said_to_diverge_and_leaves_a_finite_path() -> None:
    manifold, start, end, *_ = surfaces.KNOWN["paraboloid"]
    solution = geodesic.solve(manifold, points(start), points(end), solver=GradientDescent(step_size=1e3))
    assert int(solution.status) == Status.DIVERGED
    assert solution.path.isfinite().all()
    assert "lower step_size" in solution.summary()


def test_the_summary_names_a_remedy_for_each_way_of_not_converging() -> None:
    manifold, start, end, *_ = surfaces.KNOWN["paraboloid"]
    solution = geodesic.solve(manifold, points(start), points(end), tol=1e-12, max_steps=1)
    assert "0 of 1 pairs converged" in solution.summary()
    assert "raise max_steps" in solution.summary()


# --- bad input --------------------------------------------------------------------------------

A, B = torch.zeros(2, dtype=torch.float32), torch.ones(2, dtype=torch.float32)
PLANE = geodesic.PullbackManifold(lambda z: z)


@pytest.mark.parametrize(
    ("start", "end", "settings", "message"),
    [
        (A, torch.ones(3), {}, "end: expected the shape of start"),
        (A, B.double(), {}, "end: expected the dtype of start"),
        (A, B.to("meta"), {}, "end: expected the device of start"),
        (A.long(), B.long(), {}, "start: expected floating point"),
        (A, B.long(), {}, "end: expected floating point"),
        ([0.0, 0.0], B, {}, "start: expected a tensor, got list"),
        (torch.tensor(1.0), torch.tensor(2.0), {}, "start: expected shape"),
        (torch.zeros(0, 2), torch.zeros(0, 2), {}, "start: expected shape .* at least one point"),
        (torch.tensor([0.0, torch.nan]), B, {}, "start: expected finite coordinates, got nan at"),
        (A, torch.tensor([torch.inf, 0.0]), {}, "end: expected finite coordinates, got inf at"),
        (A, B, {"segments": 1}, "segments: .* got 1"),
        (A, B, {"segments": 8.0}, "segments: .* got 8.0"),
        (A, B, {"tol": 0.0}, "tol: .* got 0.0"),
        (A, B, {"tol": -1.0}, "tol: .* got -1.0"),
        (A, B, {"tol": float("nan")}, "tol: .* got nan"),
        (A, B, {"max_steps": 0}, "max_steps: .* got 0"),
        (A, B, {"solver": "newton"}, "solver: "),
    ],
)
def test_bad_arguments_are_named_with_what_was_received(start, end, settings, message: str) -> None:
    with pytest.raises(geodesic.InputError, match=message):
        # Without the type checker that watches the tests: a user has none.
        inspect.unwrap(geodesic.solve)(PLANE, start, end, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"direction": "sideways"}, "direction: .*'sideways'"),
        ({"direction": "encoder"}, "encoder: .*pass encoder=vae.encode"),
        ({"step_size": 0.0}, "step_size: "),
        ({"epsilon": -1.0}, "epsilon: "),
        ({"jvp_method": "magic"}, "jvp_method: "),
    ],
)
def test_bad_solver_settings_are_named(settings, message: str) -> None:
    with pytest.raises(geodesic.InputError, match=message):
        GradientDescent(**settings)


def decoder_with(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(2, 8), layer, nn.Linear(8, 5)).to(FLOAT64)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(8), nn.Dropout(0.5)])
def test_a_decoder_in_training_mode_is_refused(layer: nn.Module) -> None:
    decoder = decoder_with(layer)
    with pytest.raises(geodesic.DecoderError, match=r"training mode.*decoder.eval\(\)"):
        geodesic.PullbackManifold(decoder)
    with pytest.raises(geodesic.DecoderError, match="training mode"):
        geodesic.PullbackManifold(decoder.forward)
    manifold = geodesic.PullbackManifold(decoder.eval())
    assert geodesic.solve(manifold, torch.zeros(2), torch.ones(2)).converged
    decoder.train()
    with pytest.raises(geodesic.DecoderError, match="training mode"):
        geodesic.solve(manifold, torch.zeros(2), torch.ones(2))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(8), nn.Dropout(0.5)])
def test_training_mode_behind_a_closure_is_noticed_by_its_effect(layer: nn.Module) -> None:
    decoder = decoder_with(layer)
    manifold = geodesic.PullbackManifold(lambda z: decoder(z))
    with pytest.raises(geodesic.DecoderError, match="decoder"):
        geodesic.solve(manifold, points(0.0, 0.0), points(1.0, 1.0))


def test_coupled_rows_are_refused() -> None:
    manifold = geodesic.PullbackManifold(lambda z: z - z.mean(0))
    with pytest.raises(geodesic.DecoderError, match="rows are coupled"):
        geodesic.solve(manifold, torch.zeros(2), torch.ones(2))


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (nn.Linear(3, 5).to(FLOAT64), "latent size is 2"),
        (nn.Linear(2, 5).float(), "dtype"),
        (lambda z: z.sum(0, keepdim=True), "one row for each"),
        (lambda z: z / 0, "not finite"),
        (lambda z: torch.where(z.sum(1, True).abs() < 0.9, z, z * torch.nan), "not finite"),
    ],
)
def test_unusable_decoders_are_refused(decoder, message: str) -> None:
    manifold = geodesic.PullbackManifold(decoder)
    with pytest.raises(geodesic.DecoderError, match=message):
        geodesic.solve(manifold, torch.zeros(2), torch.ones(2))


def test_a_decoder_that_is_no_function_is_refused() -> None:
    with pytest.raises(geodesic.DecoderError, match="got int"):
        inspect.unwrap(geodesic.PullbackManifold.__init__)(object.__new__(geodesic.PullbackManifold), 3)


# --- what decoders do ---------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-12, 1e-8, 1e8, 1e12])
@pytest.mark.parametrize("preconditioned", [True, False])
def test_single_precision_converges_whatever_the_scale_of_the_outputs(scale: float, preconditioned: bool) -> None:
    start, end = points(1.0, 0.0, dtype=torch.float32), points(-0.5, 1.0, dtype=torch.float32)
    manifold = geodesic.PullbackManifold(lambda z: scale * geodesic.Paraboloid().embed(z))
    # Plain descent needs steps whose gain is lost in the rounding of float32 before it comes nearer.
    solver, tol = GradientDescent(preconditioned=preconditioned), 1e-5 if preconditioned else 1e-3
    solution = geodesic.solve(manifold, start, end, solver=solver, tol=tol)
    assert bool(solution.converged)
    assert float(solution.length) / scale == pytest.approx(2.0993679, rel=tol)


def test_a_decoder_that_jumps_between_nodes_is_not_certified() -> None:
    manifold = geodesic.PullbackManifold(lambda z: (z > 0).to(z.dtype) + 0 * z)
    solution = geodesic.solve(manifold, points(-1.0, -1.0), points(1.0, 1.0))
    assert float(solution.energy) > 1
    assert not bool(solution.converged)


def test_a_decoder_that_begins_in_place_leaves_the_callers_tensors_alone() -> None:
    decoder = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(2, 4)).to(FLOAT64).eval()
    manifold, path = geodesic.PullbackManifold(decoder), torch.randn(9, 2, dtype=FLOAT64)
    before = path.clone()
    with torch.no_grad():
        geodesic.path_energy(manifold, path)
    manifold.metric_tensor(path)
    geodesic.energy_gradient(manifold, path)
    assert torch.equal(path, before)


@pytest.mark.parametrize("name", ["paraboloid", "hyperbolic plane"])
def test_inference_mode_changes_nothing(name: str) -> None:
    manifold, start, end, *_ = surfaces.KNOWN[name]
    outside = geodesic.solve(manifold, points(start), points(end))
    with torch.inference_mode():
        inside = geodesic.solve(manifold, points(start), points(end))
    assert torch.equal(inside.path, outside.path)
    assert torch.equal(inside.length, outside.length)


def test_inference_mode_takes_a_decoder_as_well() -> None:
    manifold, start, end, length, _ = surfaces.KNOWN["paraboloid"]
    with torch.inference_mode():
        solution = geodesic.solve(geodesic.PullbackManifold(manifold.embed), points(start), points(end))
    assert float(solution.length) == pytest.approx(length, rel=1e-4)


def test_a_decoder_may_return_one_number_a_row() -> None:
    manifold = geodesic.PullbackManifold(lambda z: z[:, 0] ** 3)
    solution = geodesic.solve(manifold, torch.ones(1), 2 * torch.ones(1), tol=1e-10)
    assert bool(solution.converged)
    assert float(solution.length) == pytest.approx(7, rel=1e-9)


def test_a_first_point_that_decodes_to_zero_is_no_sign_of_coupled_rows() -> None:
    net = nn.Linear(16, 16).to(FLOAT64).requires_grad_(False)
    zero = torch.linalg.solve(net.weight, -net.bias)
    end = torch.randn(3, 16, dtype=FLOAT64)
    assert geodesic.solve(geodesic.PullbackManifold(net), zero.expand(3, 16), end).converged.all()


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (lambda z: z.detach() * 2, "does not depend on z"),
        (lambda z: (z, z), "got tuple"),
        (lambda z: z.float(), "the same dtype"),
        (lambda z: z[:, :0], "at least one number"),
        (lambda z: {}["missing"], "missing"),
    ],
)
def test_what_a_decoder_returns_is_checked(decoder, message: str) -> None:
    with pytest.raises(geodesic.DecoderError, match=message):
        geodesic.solve(geodesic.PullbackManifold(decoder), points(0.0, 0.0), points(1.0, 1.0))
