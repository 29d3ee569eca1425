"""Encoders are looked at before they are used, by every tool that takes one: a right value, or a refusal."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic.errors import DecoderError, InputError
from tests.decoders import network

_MANIFOLD = geodesic.PullbackManifold(network(activation=nn.Tanh))
_A, _B = torch.tensor([0.3, -0.4], dtype=torch.float64), torch.tensor([0.5, -0.3], dtype=torch.float64)
_PATH = geodesic.straight_path(_A, _B, 4)
_WEIGHTS = torch.linalg.pinv(_MANIFOLD.jacobian(_A))


def _mean(x: Tensor) -> Tensor:
    return _A + (x - _MANIFOLD.embed(_A)).sinh() @ _WEIGHTS.T


def _under_no_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        return _mean(x)


def _descent(encoder: Callable[[Tensor], Any]) -> Tensor:
    solver = geodesic.GradientDescent(direction="encoder", encoder=encoder)
    return geodesic.solve(_MANIFOLD, _A, _B, solver=solver, segments=4, max_steps=2).path


_TOOLS: dict[str, Callable[[Callable[[Tensor], Any]], Tensor]] = {
    "direction": lambda h: geodesic.encoder_direction(_MANIFOLD, _PATH, h),
    "shoot": lambda h: geodesic.shoot(_MANIFOLD, _A, _B - _A, encoder=h, segments=4).path,
    "descent": _descent,
    "transport": lambda h: (
        geodesic.parallel_transport(_MANIFOLD, _PATH, _B - _A, encoder=h, transport="projection", tol=1.0).vector
    ),
}
_REFUSED: dict[str, tuple[Callable[[Tensor], Any], type[Exception], str]] = {
    "hidden": (lambda x: _mean(x.detach()), DecoderError, "encoder: its output does not depend on z"),
    "hidden in part": (lambda x: _mean(x) + 0.1 * _mean(x.detach()), DecoderError, "encoder: .* hidden from autograd"),
    "random": (lambda x: _mean(x) + torch.randn(len(x), 2), DecoderError, "encoder: .*random"),
    "coupled": (lambda x: _mean(x - x.mean(0)), DecoderError, "encoder: .*coupled"),
    "a tuple": (lambda x: (_mean(x), _mean(x)), InputError, r"encoder: expected 2 .* got a tuple.*encoder\(x\)\[0\]"),
    "too many": (lambda x: x, InputError, "encoder: expected 2 latent coordinates"),
    "in training mode": (nn.Sequential(nn.Linear(20, 2), nn.Dropout()).double(), DecoderError, "encoder: .*training"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", _REFUSED)
@pytest.mark.parametrize("tool", _TOOLS)
def test_an_encoder_that_cannot_be_relied_on_is_refused(tool: str, kind: str) -> None:
    encoder, error, said = _REFUSED[kind]
    if tool == "shoot" and kind.startswith("hidden"):
        return  # which asks for values alone
    with pytest.raises(error, match=said):
        _TOOLS[tool](encoder)


def test_shots_ask_for_values_of_an_encoder_alone() -> None:
    torch.testing.assert_close(_TOOLS["shoot"](lambda x: _mean(x.detach())), _TOOLS["shoot"](_mean))


@pytest.mark.slow
@pytest.mark.parametrize("tool", _TOOLS)
def test_what_only_forward_mode_sees_of_an_encoder_is_seen(tool: str) -> None:
    torch.testing.assert_close(_TOOLS[tool](_under_no_grad), _TOOLS[tool](_mean))


@pytest.mark.parametrize("mode", ["forward", "double_vjp"])
def test_an_encoder_without_forward_mode_has_the_same_direction(mode: str) -> None:
    centers = torch.randn(6, 20, dtype=torch.float64)

    def by_distance(x: Tensor) -> Tensor:
        return torch.cdist(x, centers)[:, :2]

    def by_differences(x: Tensor) -> Tensor:
        return (x[:, None] - centers).norm(dim=2)[:, :2]

    one, other = (geodesic.encoder_direction(_MANIFOLD, _PATH, h, mode) for h in (by_distance, by_differences))
    torch.testing.assert_close(one, other)
