"""Networks: of any size, smooth, row by row, and what they refuse."""

import dataclasses
from typing import Any, get_args

import pytest
import torch
from torch.testing import assert_close

from geodesic import VAE, PullbackManifold, solve
from geodesic import autodiff as ad
from geodesic.door.derivatives import FORWARD, REVERSE
from geodesic.errors import InputError
from geodesic.models import ConvNetwork
from geodesic.models.networks import exponentials
from geodesic.models.networks.convolutional import ConvDecoder, ConvEncoder, ResidualBlock
from geodesic.models.networks.mlp import MLP
from geodesic.models.networks.network import ACTIVATIONS, Activation
from tests.parts import NETWORKS

SHAPE = (1, 3, 2)


def small(activation: str = "elu", network: str = "mlp") -> VAE:
    made: Any = dataclasses.replace(NETWORKS[network], activation=activation)  # type: ignore[type-var]
    vae: VAE = with_branches(VAE(SHAPE, network=made))
    return vae


def with_branches(network: Any) -> Any:
    """The network with residual branches that count, as after training."""
    for block in network.modules():
        if isinstance(block, ResidualBlock):
            for parameter in block.parameters():
                torch.nn.init.normal_(parameter, std=0.2)
    return network


def test_every_activation_that_can_be_named_exists() -> None:
    assert set(get_args(Activation)) == set(ACTIVATIONS)


def test_an_mlp_without_hidden_layers_is_affine() -> None:
    mlp = MLP(3, (), 2, "tanh")
    x = torch.randn(4, 3)
    weight, bias = mlp.state_dict().values()
    assert_close(mlp(x), x @ weight.T + bias)


@pytest.mark.parametrize("sizes", [(0, (4,), 2), (2, (4, -1), 2)])
def test_an_mlp_refuses_sizes_that_are_none(sizes: tuple[int, tuple[int, ...], int]) -> None:
    with pytest.raises(InputError, match="positive integers"):
        MLP(*sizes)


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(InputError, match="'sine'"):
        MLP(2, (3,), 2, "sine")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_rows_do_not_see_each_other(activation: str, network: str) -> None:
    vae, x = small(activation, network=network), torch.rand(6, *SHAPE)
    z = vae.encode(x)
    assert_close(z, torch.cat([vae.encode(row[None]) for row in x]))
    assert_close(vae.decode(z), torch.cat([vae.decode(row[None]) for row in z]))


@pytest.mark.parametrize("network", NETWORKS)
def test_wrong_shapes_are_refused_by_name(network: str) -> None:
    vae = small(network=network)
    for x in (torch.zeros(2, 6), torch.zeros(1, 3, 2), torch.zeros(())):
        with pytest.raises(InputError, match="x: expected rows"):
            vae.encode(x)
    for z in (torch.zeros(2), torch.zeros(4, 3)):
        with pytest.raises(InputError, match=r"z: expected latent points \(N, 2\)"):
            vae.decode(z)


IMAGES = [(1, 8, 8), (3, 28, 28), (1, 32, 32), (1, 64, 64), (2, 7, 13), (1, 5, 64), (1, 1, 9), (3, 2, 1)]


@pytest.mark.parametrize("shape", IMAGES, ids=str)
def test_convolutional_networks_fit_images_of_any_size_and_miss_no_pixel(shape: tuple[int, ...]) -> None:
    encoder = with_branches(ConvEncoder(shape, 3, (4, 6, 5), "tanh", hidden_size=16))
    x = torch.rand(2, *shape, requires_grad=True)
    mean, log_scale = encoder(x)
    assert mean.shape == log_scale.shape == (2, 3)
    (gradient,) = torch.autograd.grad((mean + log_scale).sum(), x)
    assert (gradient != 0).all()
    for leading in ((), (2,), (4,)):
        decoder = with_branches(ConvDecoder(3, (*leading, *shape), (5, 6, 4), "tanh", hidden_size=16))
        z = torch.randn(2, 3)
        assert decoder(z).shape == (2, *leading, *shape)
        assert (ad.jvp(decoder, z, torch.ones_like(z)) != 0).all()


@pytest.mark.parametrize(
    ("side", "smallest"),
    [((28, 28), (2, 2)), ((64, 64), (4, 4)), ((8, 9), (2, 2)), ((3, 64), (2, 4)), ((1, 5), (1, 2)), ((2, 2), (2, 2))],
)
def test_sides_are_halved_down_to_two(side: tuple[int, int], smallest: tuple[int, int]) -> None:
    encoder = ConvEncoder((1, *side), 2, (2, 2, 2, 2))
    assert encoder.stages[:-1](torch.zeros(1, 1, *side)).shape == (1, 2, *smallest)


def test_an_untrained_residual_block_is_the_identity_that_can_be_trained() -> None:
    block, x = ResidualBlock(3), torch.randn(2, 3, 4, 5)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    *_, last = block.branch
    assert last.weight.grad.norm() > 0


@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - {"silu"}))  # whose own backward has no such rules
def test_a_convolutional_decoder_is_expanded_in_forward_mode(activation: str) -> None:
    decoder = with_branches(ConvDecoder(3, (2, 7, 6), (4, 3), activation, hidden_size=8))
    z = torch.randn(4, 3)
    expected = REVERSE.expand(decoder, z, torch.sin)
    for found, other in zip(ad.expand(decoder, z, torch.sin), expected, strict=True):
        assert_close(found, other)


def test_geodesics_of_a_convolutional_decoder_converge() -> None:
    decoder = with_branches(ConvDecoder(2, (1, 9, 8), (4, 3), "softplus", hidden_size=16))
    solution = solve(PullbackManifold(decoder), torch.randn(2, 2), torch.randn(2, 2), segments=8, tol=1e-9)
    assert solution.converged.all()
    assert solution.minimum.all()
    assert (solution.length <= solution.straight_length).all()


def test_a_convolutional_network_for_rows_that_are_no_images_is_refused() -> None:
    for shape in ((6,), (3, 4), (2, 1, 3, 4)):
        with pytest.raises(InputError, match=rf"network: 'conv' needs images.*got rows of shape \({shape[0]},"):
            VAE(shape, network=ConvNetwork())
    with pytest.raises(InputError, match=r"event_shape: expected that of an image.*got \(2, 1, 3, 4\)"):
        ConvEncoder((2, 1, 3, 4), 2)
    with pytest.raises(InputError, match=r"output_shape: expected that of an image.*got \(3, 4\)"):
        ConvDecoder(2, (3, 4))


@pytest.mark.parametrize(("channels", "match"), [((), "at least one stage"), ((4, 0), r"channels: .*\(4, 0\)")])
def test_channels_that_are_none_are_refused(channels: tuple[int, ...], match: str) -> None:
    with pytest.raises(InputError, match=match):
        ConvEncoder((1, 8, 8), 2, channels)
    with pytest.raises(InputError, match=match):
        ConvDecoder(2, (1, 8, 8), channels)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - {"relu", "elu"}))
def test_encoder_and_decoder_differentiate_twice(activation: str, network: str) -> None:
    vae = small(activation, network=network)
    z, x = torch.randn(2, 2, requires_grad=True), torch.rand(2, *SHAPE, requires_grad=True)
    for function, at in ((vae.decode, z), (vae.encode, x)):
        assert torch.autograd.gradcheck(function, at)
        assert torch.autograd.gradgradcheck(function, at)


@pytest.mark.parametrize("activation", ["elu", "softplus"])
def test_activations_that_are_taken_in_double_have_the_derivatives_of_torchs_own(
    monkeypatch: pytest.MonkeyPatch, activation: str
) -> None:
    monkeypatch.setattr(exponentials, "_has_avx512", lambda: True)
    fast, own = (MLP(2, (7, 6), 5, activation).to(dtype).eval() for dtype in (torch.float32, torch.float64))
    own.load_state_dict(fast.state_dict())
    z, v = torch.randn(2, 4, 2).float().double()
    plain = fast(z.float())
    monkeypatch.setattr(exponentials, "_MANY", 1)
    assert_close(fast(z.float()), plain)
    assert "ToCopy" in fast[1](torch.zeros(1, 2).float().requires_grad_()).grad_fn.name()
    for name, more in (("expand", (torch.sin,)), ("bend", (v,)), ("turn", (own(z), v))):
        exact = getattr(FORWARD, name)(own, z, *more)
        found = getattr(FORWARD, name)(
            fast, z.float(), *(m.float() if isinstance(m, torch.Tensor) else m for m in more)
        )
        for x, y in zip(found, exact, strict=True):
            assert_close(x.double(), y, rtol=1e-4, atol=1e-6)
