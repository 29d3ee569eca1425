"""Laws of solve: where it starts, how far it refines, what it says on the way, what bad input and bad decoders get."""

import inspect
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import geodesic
from geodesic import GradientDescent, Status
from tests import surfaces
from tests.decoders import hill, network, pairs

# --- starts, segments, memory, shapes ---------------------------------------------------------


@pytest.fixture
def untyped_solve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., geodesic.GeodesicSolution]:
    """`solve` without the type checker that watches the tests: a user has none."""
    monkeypatch.setattr(geodesic.Search, "__init__", inspect.unwrap(geodesic.Search.__init__))
    return inspect.unwrap(geodesic.solve)


@pytest.mark.slow
def test_the_best_start_is_no_longer_than_either() -> None:
    manifold = geodesic.PullbackManifold(hill)
    start, end = torch.tensor([[-1.5, 0.0], [-1.0, 0.6]]), torch.tensor([[1.5, 0.0], [1.0, 0.8]])
    lengths = {
        init: geodesic.solve(manifold, start, end, init=init, segments=64).length
        for init in ("straight", "graph", "best")
    }
    assert float(lengths["graph"][0]) < 0.8 * float(lengths["straight"][0])
    torch.testing.assert_close(lengths["best"], torch.minimum(lengths["straight"], lengths["graph"]))


@pytest.mark.slow
def test_a_graph_that_does_not_connect_a_pair_says_so_and_spoils_no_other() -> None:
    points = torch.cat([torch.randn(40, 2), torch.randn(40, 2) + 100])
    start, end = torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [100.0, 100.0]])
    manifold = geodesic.PullbackManifold(lambda z: z.tanh())
    graph = geodesic.solve(manifold, start, end, init="graph", graph_points=points)
    assert graph.status.tolist() == [Status.CONVERGED, Status.NOT_CONNECTED]
    assert "neighbor graph" in graph.summary()
    best = geodesic.solve(manifold, start, end, init="best", graph_points=points)
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
def test_bad_starts_are_named(init: object, message: str, untyped_solve) -> None:
    with pytest.raises(geodesic.errors.InputError, match=message):
        untyped_solve(geodesic.PullbackManifold(lambda z: z), torch.zeros(2), torch.ones(2), init=init)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"graph_points": torch.zeros(5, 2)}, "graph_points: no graph is looked at unless init is 'graph' or 'best'"),
        ({"init": torch.zeros(9, 2), "graph_points": torch.zeros(5, 2)}, "graph_points: no graph is looked at"),
        ({"init": torch.zeros(9, 2), "segments": 16}, r"segments: paths of your own .* segments=16 .* shape \(9, 2\)"),
        ({"tol": 1e-32}, "tol: expected at least 5e-32, .* got 1e-32"),
        ({"length_rtol": 1e-17}, "length_rtol: expected at least 2e-16, .* got 1e-17"),
        ({"length_rtol": 1.5}, "length_rtol: expected a number between 0 and 1, got 1.5"),
        ({"length_rtol": 1e-3, "segments": 1024}, "length_rtol: segments are doubled up to 1,024, got segments=1024"),
        ({"memory": 2}, "memory: expected bytes, at least 1,000, got 2; 2 GB are memory=2e9"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_when_the_search_is_made(settings, message: str) -> None:
    with pytest.raises(geodesic.errors.InputError, match=message):
        geodesic.Search(**settings)


def test_segments_that_only_the_batch_has_are_refused_with_the_ends() -> None:
    search = {"init": torch.zeros(17, 9, 2), "segments": 16}
    geodesic.Search(**search)  # the paths of a manifold with a latent_shape of (9, 2) have 16
    with pytest.raises(geodesic.errors.InputError, match="segments: paths of your own have theirs, got segments=16"):
        geodesic.solve(PLANE, torch.zeros(17, 2), torch.zeros(17, 2), **search)


@pytest.mark.parametrize("points", [[[0.0, 1.0]], np.zeros(5), torch.zeros(5), torch.zeros(5, 2, 2)])
def test_points_that_are_no_latent_points_are_refused(points: object, untyped_solve) -> None:
    with pytest.raises(geodesic.errors.InputError, match="points: expected a tensor of latent points"):
        untyped_solve(geodesic.PullbackManifold(hill), *pairs(1), init="graph", graph_points=points)


@pytest.mark.slow
def test_segments_are_doubled_for_the_pairs_that_need_it() -> None:
    manifold = geodesic.PullbackManifold(network())
    start = torch.tensor([[0.0, 0.0], [-2.5, 2.0]])
    end = torch.tensor([[0.01, 0.0], [2.5, -2.0]])
    solution = geodesic.solve(manifold, start, end, segments=8, length_rtol=1e-6)
    easy, hard = solution.segments.tolist()
    assert easy == 8
    assert hard > 32
    assert solution.path.shape == (2, 9, 2)
    assert solution.mesh.shape == (2, hard + 1, 2)
    fine = geodesic.solve(manifold, start, end, segments=1024, tol=1e-12)
    torch.testing.assert_close(solution.length, fine.length, rtol=2e-6, atol=0)
    alone = geodesic.solve(manifold, start[0], end[0], segments=8, length_rtol=1e-6)
    torch.testing.assert_close(alone.length, solution.length[0], rtol=1e-12, atol=0)
    assert int(alone.segments) == 8


def test_lengths_that_are_resolved_are_those_of_geodesics_whatever_the_tolerance() -> None:
    manifold, start, end, length, _ = surfaces.KNOWN["paraboloid"]
    solution = geodesic.solve(manifold, torch.tensor(start), torch.tensor(end), tol=1e-3, length_rtol=1e-8)
    assert float(solution.length) == pytest.approx(length, rel=1e-8)


@pytest.mark.slow
def test_what_no_number_of_segments_resolves_is_not_called_resolved() -> None:
    start, end = (z.float() for z in pairs(1))
    manifold = geodesic.PullbackManifold(network().float())
    solution = geodesic.solve(manifold, start, end, segments=512, length_rtol=1e-12)
    assert not solution.resolved.any()


@pytest.mark.slow
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
    bounded = geodesic.solve(geodesic.PullbackManifold(watched), start, end, memory=2e7)
    assert max(seen) < most / 3
    torch.testing.assert_close(bounded.path, free.path, rtol=0, atol=1e-6)
    assert torch.equal(bounded.status, free.status)


def test_memory_for_less_than_a_gradient_is_refused_with_what_it_takes() -> None:
    with pytest.raises(
        geodesic.errors.InputError, match=r"backward pass take about [\d.]+ MB, got 0.01 MB; raise memory"
    ):
        geodesic.solve(geodesic.PullbackManifold(network(outputs=500)), *pairs(2), memory=1e4)


@pytest.mark.slow
def test_points_may_have_the_shape_that_the_decoder_wants() -> None:
    decoder = network(8)
    images = geodesic.PullbackManifold(lambda z: decoder(z.flatten(1)), latent_shape=(2, 2, 2))
    flat = geodesic.PullbackManifold(decoder)
    start, end = pairs(3, 8)
    solver = geodesic.Newton()  # the clock would choose one for eight coordinates
    shaped = geodesic.solve(images, start.reshape(3, 2, 2, 2), end.reshape(3, 2, 2, 2), solver=solver)
    assert shaped.path.shape == (3, 33, 2, 2, 2)
    assert shaped(0.5).shape == (3, 2, 2, 2)
    torch.testing.assert_close(
        shaped.path.flatten(2), geodesic.solve(flat, start, end, solver=solver).path, rtol=0, atol=1e-12
    )
    with pytest.raises(geodesic.errors.InputError, match=r"latent_shape, \(\*batch, 2, 2, 2\), got \(3, 8\)"):
        geodesic.solve(images, start, end)
    with pytest.raises(geodesic.errors.InputError, match="latent_shape: expected positive integers"):
        geodesic.PullbackManifold(decoder, latent_shape=(2, 0))


def test_the_callback_sees_every_step_and_how_pairs_end() -> None:
    seen: list[geodesic.solvers.Progress] = []
    start, end = torch.randn(5, 2), torch.randn(5, 2)
    solution = geodesic.solve(geodesic.PullbackManifold(network()), start, end, callback=seen.append)
    seen = [p for p in seen if p.stepped]
    assert sorted({p.step for p in seen}) == list(range(int(solution.iterations.max()) + 1))
    assert (seen[0].energy <= solution.initial_energy).all()  # the straight line at constant speed
    torch.testing.assert_close(seen[-1].energy, solution.energy)
    assert torch.equal(seen[-1].converged, solution.converged)
    assert not seen[-1].active.any()


def test_equal_endpoints_give_the_constant_path() -> None:
    a = torch.randn(3, 2)
    b = a.clone()
    b[1] += 1
    solution = geodesic.solve(geodesic.PullbackManifold(network()), a, b)
    assert solution.converged.all()
    assert solution.length[0] == solution.length[2] == 0
    assert (solution.path[0] == a[0]).all()
    assert float(solution.length[1]) > 0


@pytest.mark.parametrize("direction", ["decoder", "encoder"])
def test_a_single_pair_of_equal_endpoints_is_the_constant_path(direction: str) -> None:
    a = torch.randn(2)
    solver = GradientDescent(direction, encoder=lambda x: x[:, :2])
    solution = geodesic.solve(geodesic.PullbackManifold(network()), a, a, solver=solver)
    assert bool(solution.converged)
    assert float(solution.length) == float(solution.energy) == float(solution.decoder_residual) == 0
    assert (solution.path == a).all()


@pytest.mark.parametrize("name", ["paraboloid", "hyperbolic plane"])
def test_inference_mode_changes_nothing(name: str) -> None:
    manifold, start, end, *_ = surfaces.KNOWN[name]
    outside = geodesic.solve(manifold, torch.tensor(start), torch.tensor(end))
    with torch.inference_mode():
        inside = geodesic.solve(manifold, torch.tensor(start), torch.tensor(end))
    assert torch.equal(inside.path, outside.path)
    assert torch.equal(inside.length, outside.length)


def test_inference_mode_takes_a_decoder_as_well() -> None:
    manifold, start, end, length, _ = surfaces.KNOWN["paraboloid"]
    with torch.inference_mode():
        solution = geodesic.solve(geodesic.PullbackManifold(manifold.embed), torch.tensor(start), torch.tensor(end))
    assert float(solution.length) == pytest.approx(length, rel=1e-4)


# --- bad input --------------------------------------------------------------------------------

A, B = torch.zeros(2, dtype=torch.float32), torch.ones(2, dtype=torch.float32)
PLANE = geodesic.PullbackManifold(lambda z: z)


@pytest.mark.parametrize(
    ("start", "end", "settings", "message"),
    [
        (A, torch.ones(3), {}, "end: expected the shape of start"),
        (A, B.double(), {}, "end: expected the dtype of start"),
        (A, B.to("meta"), {}, "end: it is on the meta device"),
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
        (A, B, {"tol": 1.0}, "tol: expected a number between 0 and 1, got 1.0"),
        (A, B, {"tol": 1e6}, "tol: expected a number between 0 and 1, got 1000000.0"),
        (A, B, {"max_steps": 0}, "max_steps: .* got 0"),
        (A, B, {"solver": "newton"}, "solver: "),
        (A, B, {"init": torch.zeros(1, 4, 2)}, r"init: expected paths of shape \(T \+ 1, 2\), got \(1, 4, 2\)$"),
        ("A", B, {}, "start: expected a tensor, got str$"),
    ],
)
def test_bad_arguments_are_named_with_what_was_received(start, end, settings, message: str, untyped_solve) -> None:
    with pytest.raises(geodesic.errors.InputError, match=message):
        untyped_solve(PLANE, start, end, **settings)


# --- what decoders do ---------------------------------------------------------------------------


def decoder_with(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(2, 8), layer, nn.Linear(8, 5)).double()


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(8), nn.Dropout(0.5)])
def test_a_decoder_in_training_mode_is_refused(layer: nn.Module) -> None:
    decoder = decoder_with(layer)
    with pytest.raises(geodesic.errors.DecoderError, match=r"training mode.*decoder.eval\(\)"):
        geodesic.PullbackManifold(decoder)
    with pytest.raises(geodesic.errors.DecoderError, match="training mode"):
        geodesic.PullbackManifold(decoder.forward)
    manifold = geodesic.PullbackManifold(decoder.eval())
    assert geodesic.solve(manifold, torch.zeros(2), torch.ones(2)).converged
    decoder.train()
    with pytest.raises(geodesic.errors.DecoderError, match="training mode"):
        geodesic.solve(manifold, torch.zeros(2), torch.ones(2))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(8), nn.Dropout(0.5)])
def test_training_mode_behind_a_closure_is_noticed_by_its_effect(layer: nn.Module) -> None:
    decoder = decoder_with(layer)
    manifold = geodesic.PullbackManifold(lambda z: decoder(z))
    with pytest.raises(geodesic.errors.DecoderError, match="decoder"):
        geodesic.solve(manifold, torch.zeros(2), torch.ones(2))


def test_coupled_rows_are_refused() -> None:
    manifold = geodesic.PullbackManifold(lambda z: z - z.mean(0))
    with pytest.raises(geodesic.errors.DecoderError, match="rows are coupled"):
        geodesic.solve(manifold, torch.zeros(2), torch.ones(2))


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (nn.Linear(3, 5).double(), "latent size is 2"),
        (nn.Linear(2, 5).float(), "dtype"),
        (lambda z: z.sum(0, keepdim=True), "one row for each"),
        (lambda z: z / 0, "not finite"),
        (lambda z: torch.where(z.sum(1, True).abs() < 0.9, z, z * torch.nan), "not finite"),
    ],
)
def test_unusable_decoders_are_refused(decoder, message: str) -> None:
    manifold = geodesic.PullbackManifold(decoder)
    with pytest.raises(geodesic.errors.DecoderError, match=message):
        geodesic.solve(manifold, torch.zeros(2), torch.ones(2))


def test_a_decoder_that_is_no_function_is_refused() -> None:
    with pytest.raises(geodesic.errors.DecoderError, match="got int"):
        inspect.unwrap(geodesic.PullbackManifold.__init__)(object.__new__(geodesic.PullbackManifold), 3)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda x: x, "got function; an encoder goes to `shoot` or `GradientDescent`$"),
        (nn.Linear(3, 2), "got Linear; an encoder goes to `shoot` or `GradientDescent`$"),
        (geodesic.outputs.Euclidean, "got the class Euclidean itself$"),
        ((28, 28), "got tuple$"),
    ],
)
def test_what_is_no_output_geometry_is_refused(outputs, message: str) -> None:
    init = inspect.unwrap(geodesic.PullbackManifold.__init__)
    with pytest.raises(geodesic.errors.InputError, match=f"^outputs: expected an output geometry .*{message}"):
        init(object.__new__(geodesic.PullbackManifold), hill, outputs)


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (lambda z: z.detach() * 2, "does not depend on z"),
        (lambda z: (z, z), r"got a tuple \(0: a tensor .*lambda z: decoder\(z\)\[0\]"),
        (lambda z: z.float(), "the same dtype"),
        (lambda z: z[:, :0], "at least one number"),
        (lambda z: {}["missing"], "missing"),
    ],
)
def test_what_a_decoder_returns_is_checked(decoder, message: str) -> None:
    with pytest.raises(geodesic.errors.DecoderError, match=message):
        geodesic.solve(geodesic.PullbackManifold(decoder), torch.zeros(2), torch.ones(2))


def test_a_decoder_that_begins_in_place_leaves_the_callers_tensors_alone() -> None:
    decoder = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(2, 4)).double().eval()
    manifold, path = geodesic.PullbackManifold(decoder), torch.randn(9, 2)
    before = path.clone()
    with torch.no_grad():
        geodesic.path_energy(manifold, path)
    manifold.metric_tensor(path)
    geodesic.energy_gradient(manifold, path)
    assert torch.equal(path, before)


def test_a_decoder_may_return_one_number_a_row() -> None:
    manifold = geodesic.PullbackManifold(lambda z: z[:, 0] ** 3)
    solution = geodesic.solve(manifold, torch.ones(1), 2 * torch.ones(1), tol=1e-10)
    assert bool(solution.converged)
    assert float(solution.length) == pytest.approx(7, rel=1e-9)


def test_a_first_point_that_decodes_to_zero_is_no_sign_of_coupled_rows() -> None:
    net = nn.Linear(16, 16).double().requires_grad_(False)
    zero = torch.linalg.solve(net.weight, -net.bias)
    end = torch.randn(3, 16)
    assert geodesic.solve(geodesic.PullbackManifold(net), zero.expand(3, 16), end).converged.all()


def test_a_kink_at_the_minimum_stalls_and_says_so() -> None:
    manifold = geodesic.PullbackManifold(lambda z: torch.cat([z, 3 * z[:, 1:].relu()], dim=1))
    path = geodesic.straight_path(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))
    bent = path + 0.3 * torch.stack([torch.zeros(33), torch.linspace(0, 1, 33) * torch.linspace(1, 0, 33)], dim=-1)
    solution = geodesic.solve(manifold, path[0], path[-1], init=bent, max_steps=300)
    assert int(solution.iterations) < 300
    assert float(solution.length) == pytest.approx(1, abs=1e-4)
