"""Metrics that are none in some places, or whose numbers are lost to the dtype: nothing is made of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import geodesic
from geodesic import Status
from geodesic.errors import DecoderError, InputError, SingularMetricError
from tests.decoders import network

_A, _B = torch.tensor([0.3, -0.4], dtype=torch.float64), torch.tensor([1.3, 0.1], dtype=torch.float64)


def _with_a_hole(z: Tensor) -> Tensor:
    factor = 1 - 3 * torch.exp(-20 * (z - (_A + _B).to(z) / 2).square().sum(-1))
    return factor[..., None, None] * torch.eye(2, dtype=z.dtype)


_HOLE = geodesic.MetricFunction(_with_a_hole)
_TOOLS: dict[str, Callable[[], Any]] = {
    "solve": lambda: geodesic.solve(_HOLE, _A, _B),
    "log": lambda: geodesic.log_map(_HOLE, _A, _B),
    "distance": lambda: geodesic.distance(_HOLE, _A, _B),
    "length": lambda: geodesic.path_length(_HOLE, geodesic.straight_path(_A, _B, 8)),
    "energy": lambda: geodesic.path_energy(_HOLE, geodesic.straight_path(_A, _B, 8)),
    "energy of one segment": lambda: geodesic.path_energy(_HOLE, torch.stack([_A, _B])),
}


@pytest.mark.parametrize("tool", _TOOLS)
def test_a_metric_that_is_negative_between_the_ends_is_refused_with_the_place(tool: str) -> None:
    with pytest.raises(InputError, match=r"not positive definite at \(0\.\d+, -0\.\d+\), where its least .* -"):
        _TOOLS[tool]()


def test_a_path_around_such_a_place_has_its_energy() -> None:
    t = torch.linspace(0, 1, 33, dtype=torch.float64)[:, None]
    around = torch.lerp(_A, _B, t) + 2 * t * (1 - t) * torch.tensor([-0.5, 1.0], dtype=torch.float64)
    assert geodesic.path_energy(_HOLE, around) > geodesic.path_length(_HOLE, around) ** 2 / 2 > 0


def test_a_solver_that_starts_in_such_a_place_says_so() -> None:
    solution = geodesic.solve(_HOLE, _A, _B, solver=geodesic.NewtonKrylov())
    assert Status(int(solution.status)) == Status.NOT_FINITE
    assert solution.energy.isnan()
    assert "not positive definite" in solution.summary()


def test_a_metric_whose_rows_are_coupled_answers_no_one() -> None:
    coupled = geodesic.MetricFunction(lambda z: (1 + z.mean() ** 2) * torch.eye(2, dtype=z.dtype).expand(*z.shape, 2))
    with pytest.raises(InputError, match=r"metric_tensor: .*coupled"):
        coupled.metric_tensor(torch.stack([_A, _B]))


def test_squared_lengths_are_nan_where_the_metric_is_negative_and_zero_where_it_is_singular() -> None:
    middle = (_A + _B) / 2
    assert _HOLE.squared_norm(middle, _B - _A).isnan()
    flat = geodesic.MetricFunction(lambda z: torch.diag_embed(torch.stack([1 + 0 * z[..., 0], 0 * z[..., 1]], -1)))
    assert flat.squared_norm(middle, torch.tensor([0.0, 1.0], dtype=torch.float64)) == 0


# --- the range of the dtype ---

_NETWORK = network()
_SINGLE = network().float()
_SCALED: dict[str, Callable[[geodesic.Manifold], Any]] = {
    "solve": lambda m: geodesic.solve(m, _A.float(), _B.float()),
    "mean": lambda m: geodesic.frechet_mean(m, torch.stack([_A, _B]).float()),
    "ratio": lambda m: geodesic.riemannian.length_ratio(m, _A.float(), _B.float()),
}


@pytest.mark.parametrize("scale", [1e-25, 1e-16, 1e25])
@pytest.mark.parametrize("tool", _SCALED)
def test_outputs_whose_squares_are_lost_are_refused(tool: str, scale: float) -> None:
    manifold = geodesic.PullbackManifold(lambda z: scale * _SINGLE(z))
    with pytest.raises((DecoderError, SingularMetricError), match=r"multiply them by a constant, .* use float64"):
        _SCALED[tool](manifold)


@pytest.mark.parametrize("scale", [1e-140, 1e-75, 1e75, 1e140])
def test_curvature_scales_as_it_should_as_far_as_squares_have_their_digits(scale: float) -> None:
    at = torch.stack([_A, _B])
    expected = geodesic.riemannian.scalar_curvature(geodesic.PullbackManifold(_NETWORK), at)
    found = geodesic.riemannian.scalar_curvature(geodesic.PullbackManifold(lambda z: scale * _NETWORK(z)), at)
    torch.testing.assert_close(found * scale * scale, expected)


def test_curvature_of_a_metric_below_the_range_is_refused() -> None:
    tiny = geodesic.PullbackManifold(lambda z: 1e-160 * _NETWORK(z))
    with pytest.raises((DecoderError, SingularMetricError), match="multiply them by a constant"):
        geodesic.riemannian.scalar_curvature(tiny, _A)
