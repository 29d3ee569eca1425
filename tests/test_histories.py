"""Gradients of what is measured on a path are right, or refused: at once, or where they are asked for."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic import Manifold
from geodesic.errors import DecoderError
from tests.decoders import network

_SEEN, _UNSEEN = network(width=12, activation=nn.Tanh).requires_grad_(), network(activation=nn.Tanh)
_PATH = geodesic.straight_path(
    torch.tensor([0.3, -0.4], dtype=torch.float64), torch.tensor([1.3, 0.1], dtype=torch.float64), 4
)


def _in_part(z: Tensor) -> Tensor:
    with torch.no_grad():
        other = _UNSEEN(z)
    return _SEEN(z) + other


def _in_full(z: Tensor) -> Tensor:
    return _SEEN(z) + _UNSEEN(z)


def _conformal(decoder: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def metric(z: Tensor) -> Tensor:
        rows = decoder(z.reshape(-1, 2)).square().sum(-1)
        return (1 + rows.reshape(z.shape[:-1]))[..., None, None] * torch.eye(2)

    return metric


_MADE: dict[str, Callable[[Callable[[Tensor], Tensor]], Manifold]] = {
    "pullback": geodesic.PullbackManifold,
    "ensemble": lambda f: geodesic.EnsembleManifold([f, _SEEN]),
    "independent ensemble": lambda f: geodesic.IndependentEnsembleManifold([f, _SEEN]),
    "metric": lambda f: geodesic.MetricFunction(_conformal(f)),
}
_TOOLS: list[Callable[[Manifold, Tensor], Tensor]] = [geodesic.path_length, geodesic.path_energy]


@pytest.mark.slow
@pytest.mark.parametrize("tool", _TOOLS)
@pytest.mark.parametrize("kind", _MADE)
def test_a_gradient_that_leaves_a_part_out_is_refused_and_the_number_stands(
    kind: str, tool: Callable[[Manifold, Tensor], Tensor]
) -> None:
    manifold, right = _MADE[kind](_in_part), tool(_MADE[kind](_in_full), _PATH)
    number = tool(manifold, _PATH)
    torch.testing.assert_close(number, right)
    with pytest.raises(DecoderError, match=f"hidden from reverse mode.*call {tool.__name__} under torch.no_grad"):
        number.backward()
    with pytest.raises(DecoderError, match="hidden from reverse mode"):
        tool(manifold, _PATH.clone().requires_grad_())
    with torch.no_grad():
        torch.testing.assert_close(tool(manifold, _PATH.clone().requires_grad_()), right)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, slope: Tensor) -> Tensor:
        return slope * ctx.saved_tensors[0].cos()


@pytest.mark.slow
def test_of_what_is_differentiable_once_the_energy_has_a_gradient_and_the_length_refuses_it() -> None:
    scale = torch.ones(2, requires_grad=True)
    once = geodesic.PullbackManifold(lambda z: _Once.apply(scale * z))
    usual = geodesic.PullbackManifold(lambda z: (scale * z).sin())
    slopes = [torch.autograd.grad(geodesic.path_energy(m, _PATH), scale)[0] for m in (once, usual)]
    torch.testing.assert_close(*slopes)
    with pytest.raises(DecoderError, match="differentiated once only"):
        geodesic.path_length(once, _PATH).backward()
    with pytest.raises(DecoderError, match="differentiated once only"):
        geodesic.path_length(once, _PATH.clone().requires_grad_())
