"""What derivatives of a decoder do not see is named, and nothing that lies across it is certified."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic import Status
from geodesic.geometry.jumps import along, jumps, unseen
from tests.decoders import network, pairs

_NETWORK, _KINKED = network(activation=nn.Tanh), network(activation=nn.ReLU, width=64)


def _beside(part: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda z: torch.cat([z, part(z)], dim=1)


# Each jumps only where a coordinate passes -1/4, 0, 1/10 or 1/2, or where the two are equal; but for the last.
_JUMPING: dict[str, Callable[[Tensor], Tensor]] = {
    "step": _beside(lambda z: 2 * (z[:, :1] > 0.1).to(z)),
    "round": _beside(lambda z: torch.round(z)),
    "floor": _beside(lambda z: torch.floor(4 * z - 0.4) / 4),
    "ceil": _beside(lambda z: torch.ceil(z)),
    "sign": _beside(lambda z: torch.sign(z - 0.1)),
    "heaviside": _beside(lambda z: torch.heaviside(z.detach() - 0.1, z.new_ones(1))),
    "argmax": _beside(lambda z: nn.functional.one_hot(z.argmax(1), 2).to(z)),
    "quantized": _beside(lambda z: 0.1 * torch.round((z - 0.05) / 0.1)),
    "where": lambda z: torch.where(z[:, :1] > 0.1, _beside(torch.sin)(z) + 0.3, _beside(torch.sin)(z)),
    "mostly round": lambda z: torch.floor(4 * z - 0.4) + 1e-3 * z,
    "staircase after a network": lambda z: torch.floor(4 * _NETWORK(z)) / 4 + _NETWORK(z) / 10,
}
_PAIRS = {"many": ([-1.0, -0.9], [1.0, 0.95]), "one": ([0.02, 0.16], [0.19, 0.17])}


@pytest.mark.parametrize("pair", _PAIRS)
@pytest.mark.parametrize("name", _JUMPING)
def test_nothing_is_certified_below_the_sum_of_its_chords(name: str, pair: str) -> None:
    manifold = geodesic.PullbackManifold(_JUMPING[name])
    solution = geodesic.solve(manifold, *torch.tensor(_PAIRS[pair]), max_steps=50)
    chords = manifold.squared_chords(solution.path).sqrt().sum()
    short = bool(solution.length * (1 + 1e-9) < chords)
    assert short == (Status(int(solution.status)) == Status.JUMP)
    if short:
        assert not (solution.converged | solution.resolved | solution.minimum)
        assert solution.relative_excess_energy.isnan()
        assert "the decoder jumps" in solution.summary()


@pytest.mark.parametrize("name", [name for name in _JUMPING if name != "staircase after a network"])
def test_pairs_on_one_side_of_every_jump_stay_certified(name: str) -> None:
    solution = geodesic.solve(
        geodesic.PullbackManifold(_JUMPING[name]), torch.tensor([0.12, 0.13]), torch.tensor([0.14, 0.145])
    )
    assert bool(solution.converged & solution.resolved & solution.minimum)


def test_a_jump_is_known_by_its_number_in_files() -> None:
    assert Status.JUMP == 14


def test_no_path_across_the_step_is_shorter_than_its_lower_bound_and_certified() -> None:
    manifold = geodesic.PullbackManifold(_JUMPING["step"])
    solution = geodesic.solve(manifold, torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(float(solution.lower_bound), 8.25**0.5)
    assert Status(int(solution.status)) == Status.JUMP
    assert geodesic.geometry.relative_excess_energy(manifold, solution.path).isnan()


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Hardtanh])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("segments", [2, 5, 32])
def test_kinks_and_coarse_paths_are_no_jumps(activation: type[nn.Module], dtype: torch.dtype, segments: int) -> None:
    manifold = geodesic.PullbackManifold(network(activation=activation).to(dtype))
    start, end = (z.to(dtype) for z in pairs(40))
    for share in (1.0, 1e-3):  # ends so near that float32 hardly tells their outputs apart
        path = geodesic.straight_path(start, torch.lerp(start, end, share), segments)
        assert not jumps(manifold, path).any()


def test_a_steep_place_is_no_jump_and_its_length_counts_as_error() -> None:
    # A thousandth wide: quadrature on 8 segments passes over it, bisection does not.
    manifold = geodesic.PullbackManifold(_beside(lambda z: torch.sigmoid(1e4 * (z[:, :1] - 0.123))))
    solution = geodesic.solve(manifold, torch.zeros(2), torch.ones(2), segments=8)
    chords = manifold.squared_chords(solution.path).sqrt().sum()
    assert Status(int(solution.status)) != Status.JUMP
    assert not solution.resolved
    assert solution.length * (1 + solution.error) >= chords * (1 - 1e-9)


def test_a_metric_that_jumps_leaves_curves_their_lengths() -> None:
    class Halves(geodesic.geometry.MetricManifold):
        def metric_tensor(self, z: Tensor) -> Tensor:
            G = torch.eye(2, dtype=z.dtype).expand(*z.shape, 2)
            return torch.where(z[..., :1, None] > 0.1, 4 * G, G + 0 * z[..., None])

    assert not jumps(Halves(), geodesic.straight_path(torch.zeros(1, 2), torch.ones(1, 2)))


def test_what_is_missed_is_the_size_of_the_jumps() -> None:
    manifold = geodesic.PullbackManifold(lambda z: z + (z > 0.33).to(z) + 2 * (z > 0.71).to(z))
    path = geodesic.straight_path(torch.zeros(1, 1), torch.ones(1, 1))
    found = unseen(manifold, path, along(manifold, path))
    torch.testing.assert_close(found.length, torch.tensor([3.0]))
    assert found.jump


# --- what falls with a slope, and what is hidden ---

_A, _B = torch.tensor([0.3, -0.4], dtype=torch.float64), torch.tensor([1.3, 0.1], dtype=torch.float64)
# Each is as long by derivatives as its chords, or longer.
_FALLING: dict[str, Callable[[Tensor], Tensor]] = {
    "saw": _beside(lambda z: torch.remainder(32 * z[:, :1], 1) / 8),
    "saw in place of a coordinate": lambda z: torch.stack([z[:, 0], torch.remainder(40 * z[:, 1], 1)], dim=1),
    "small": _beside(lambda z: 0.2 * z[:, :1] - 0.005 * (z[:, :1] > 0.8).to(z)),
    "beside a slope": _beside(lambda z: 10 * z[:, 1:] - (z[:, :1] > 0.8).to(z)),
    "in a kinked network": _beside(lambda z: _KINKED(z) - 0.1 * (z[:, :1] > 0.8).to(z)),
    "hidden": _beside(lambda z: 2 * (-70 * (z.detach() - (_A + _B).to(z) / 2).square().sum(1, keepdim=True)).exp()),
}
_ASKED: dict[str, Callable[[geodesic.Manifold, Tensor, Tensor], Any]] = {
    "solve": geodesic.solve,
    "log": lambda m, a, b: geodesic.log_map(m, a, b, follow=geodesic.Follow(method="discrete")),
    "exp": lambda m, a, b: geodesic.exp_map(m, a, b - a, follow=geodesic.Follow(method="ode", rtol=1e-4)),
}


@pytest.mark.filterwarnings("ignore::geodesic.errors.GeodesicWarning")
@pytest.mark.slow
@pytest.mark.parametrize("tool", _ASKED)
@pytest.mark.parametrize("name", _FALLING)
def test_a_jump_that_no_chord_shows_is_named(name: str, tool: str) -> None:
    answer = _ASKED[tool](geodesic.PullbackManifold(_FALLING[name]), _A, _B)
    assert Status(int(answer.status)) == Status.JUMP
    assert not answer.converged


@pytest.mark.filterwarnings("ignore::geodesic.errors.GeodesicWarning")
def test_a_mean_across_a_jump_that_no_chord_shows_is_not_converged() -> None:
    manifold = geodesic.PullbackManifold(_FALLING["small"])
    assert Status(int(geodesic.frechet_mean(manifold, torch.stack([_A, _B])).status)) == Status.JUMP


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", [name for name in _FALLING if name != "hidden"])  # which probes would meet here
def test_a_jump_that_no_chord_shows_is_seen_in_any_precision_and_between_any_nodes(
    name: str, dtype: torch.dtype
) -> None:
    def part(z: Tensor) -> Tensor:
        return _FALLING[name](z.double()).to(dtype)

    manifold = geodesic.PullbackManifold(_FALLING[name] if dtype == torch.float64 else part)
    for segments in (7, 32, 33):
        path = geodesic.straight_path(_A, _B, segments)[None].to(dtype)
        assert jumps(manifold, path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("segments", [2, 32])
def test_many_kinks_and_steep_smooth_places_are_no_jumps(segments: int, dtype: torch.dtype) -> None:
    wide = network(activation=nn.ReLU, width=512).to(dtype)
    steep = network(activation=nn.Tanh).to(dtype)
    for decoder in (wide, lambda z: steep(20 * z), _beside(lambda z: torch.sigmoid(300 * (z[:, :1] - 0.123)))):
        path = geodesic.straight_path(*(z.to(dtype) for z in pairs(20)), segments)
        assert not jumps(geodesic.PullbackManifold(decoder), path).any()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::geodesic.errors.GeodesicWarning")
@pytest.mark.parametrize("method", ["ode", "discrete"])
def test_no_logarithm_is_shorter_than_the_way_over_a_cliff_and_converged(method: str) -> None:
    cliff = geodesic.PullbackManifold(_beside(lambda z: torch.sigmoid(1e5 * (z[:, :1] - 0.8))))
    answer = geodesic.log_map(cliff, _A, _B, follow=geodesic.Follow(method=method))
    torch.testing.assert_close(answer.solution.lower_bound, torch.tensor(1.5, dtype=torch.float64))
    assert answer.length < 1.2
    assert Status(int(answer.status)) in (Status.NO_GEODESIC, Status.NOT_RESOLVED, Status.SPEED_CHANGED)
    assert not answer.converged


# --- tools -----------------------------------------------------------------------------------

_AFTER_A_STEP = geodesic.PullbackManifold(_beside(lambda z: torch.cat([z.sin(), 2 * (z[:, :1] > 0.1).to(z)], dim=1)))
_FROM = torch.tensor([[-1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
_TO = torch.tensor([[1.0, 0.5], [-0.2, 0.5]], dtype=torch.float64)  # across the step, and on one side of it
_EQUATION, _ENERGY = geodesic.Follow(method="ode", rtol=1e-5), geodesic.Follow(method="discrete")


def _path() -> Tensor:
    return geodesic.straight_path(_FROM, _TO)


_TOOLS: dict[str, Callable[[], Any]] = {
    "exp, ode": lambda: geodesic.exp_map(_AFTER_A_STEP, _FROM, _TO - _FROM, follow=_EQUATION),
    "exp, discrete": lambda: geodesic.exp_map(_AFTER_A_STEP, _FROM, _TO - _FROM, follow=_ENERGY),
    "exp, one segment": lambda: geodesic.exp_map(
        _AFTER_A_STEP, _FROM, _TO - _FROM, follow=geodesic.Follow(method="ode", segments=1, rtol=1e-5)
    ),
    "log, ode": lambda: geodesic.log_map(_AFTER_A_STEP, _FROM, _TO, follow=_EQUATION),
    "log, discrete": lambda: geodesic.log_map(_AFTER_A_STEP, _FROM, _TO, follow=_ENERGY),
    "shots": lambda: geodesic.shoot(_AFTER_A_STEP, _FROM, _TO - _FROM, segments=64),
    "Jacobi fields": lambda: geodesic.jacobi_field(_AFTER_A_STEP, _FROM, _TO - _FROM, _FROM, _FROM, follow=_EQUATION),
    "conjugate points": lambda: geodesic.conjugate_points(_AFTER_A_STEP, _FROM, _TO - _FROM, follow=_EQUATION),
    "transport": lambda: geodesic.parallel_transport(_AFTER_A_STEP, _path(), _FROM),
    "transport by projection": lambda: geodesic.parallel_transport(
        _AFTER_A_STEP, _path(), _FROM, transport="projection", tol=0.1
    ),
    "analogies": lambda: geodesic.analogy(_AFTER_A_STEP, _FROM, _TO, _FROM + 0.1, follow=_EQUATION),
    "minimality": lambda: geodesic.is_minimizing(_AFTER_A_STEP, geodesic.solve(_AFTER_A_STEP, _FROM, _TO)),
}


@pytest.mark.filterwarnings("ignore::geodesic.errors.GeodesicWarning")  # as it should: paths are coarse here
@pytest.mark.slow
@pytest.mark.parametrize("tool", _TOOLS)
def test_no_tool_calls_what_lies_across_a_jump_converged(tool: str) -> None:
    answer = _TOOLS[tool]()
    assert [Status(int(k)) for k in answer.status] == [Status.JUMP, Status.CONVERGED]
    assert answer.converged.tolist() == [False, True]


@pytest.mark.slow
def test_a_walk_across_a_jump_is_not_converged() -> None:
    start = torch.tensor([0.0, 0.0])
    walks = geodesic.random_walk(_AFTER_A_STEP, start, count=6, steps=10, time=0.2, seed=0)
    crossed = (walks.path[..., 0] > 0.1).any(-1)
    assert crossed.any()
    assert not crossed.all()
    assert (walks.converged == ~crossed).all()
