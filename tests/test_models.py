"""VAEs: closed forms against torch.distributions, and weights that survive the disk bit for bit."""

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from geodesic import VAE, CheckpointError, ConvNetwork, GeodesicError, InputError, MLPNetwork, PullbackManifold, solve
from geodesic import autodiff as ad
from geodesic.models.checkpoint import load_weights, write_file
from geodesic.models.likelihoods import Gaussian
from geodesic.models.networks.convolutional import ConvDecoder, ConvEncoder, ResidualBlock
from geodesic.models.networks.mlp import MLP
from geodesic.models.networks.network import ACTIVATIONS, NETWORKS, Activation
from geodesic.models.vae import DiagonalGaussian

SHAPE = (1, 3, 2)
SIZES: dict[str, Any] = {"mlp": {"hidden_sizes": (8, 5)}, "conv": {"channels": (3, 4)}}


def small(activation: str = "elu", latent_size: int = 2, network: str = "mlp") -> VAE:
    vae: VAE = with_branches(
        VAE(SHAPE, latent_size, network=NETWORKS.make(network, activation=activation, **SIZES[network]))
    )
    return vae


def with_branches(network: Any) -> Any:
    """The network with residual branches that count, as after training."""
    for block in network.modules():
        if isinstance(block, ResidualBlock):
            for parameter in block.parameters():
                torch.nn.init.normal_(parameter, std=0.2)
    return network


# --- networks -----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_rows_do_not_see_each_other(activation: str, network: str) -> None:
    vae, x = small(activation, network=network), torch.rand(6, *SHAPE)
    z = vae.encode(x)
    assert_close(z, torch.cat([vae.encode(row[None]) for row in x]))
    assert_close(vae.decode(z), torch.cat([vae.decode(row[None]) for row in z]))


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_wrong_shapes_are_refused_by_name(network: str) -> None:
    vae = small(network=network)
    for x in (torch.zeros(2, 6), torch.zeros(1, 3, 2), torch.zeros(())):
        with pytest.raises(InputError, match="x: expected rows"):
            vae.encode(x)
    for z in (torch.zeros(2), torch.zeros(4, 3)):
        with pytest.raises(InputError, match=r"z: expected latent points \(N, 2\)"):
            vae.decode(z)
    with pytest.raises(InputError, match="event_shape"):
        VAE(())


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
def test_a_convolutional_decoder_is_expanded_in_forward_mode(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = with_branches(ConvDecoder(3, (2, 7, 6), (4, 3), activation, hidden_size=8))
    z = torch.randn(4, 3)
    expected = ad._expand_in_reverse(decoder, z, torch.sin)

    def fail(*_: object) -> None:
        raise AssertionError("an operation without forward-mode rules")

    monkeypatch.setattr(ad, "_expand_in_reverse", fail)
    for found, other in zip(ad.expand(decoder, z, torch.sin), expected, strict=True):
        assert_close(found, other)


def test_geodesics_of_a_convolutional_decoder_converge() -> None:
    decoder = with_branches(ConvDecoder(2, (1, 9, 8), (4, 3), "softplus", hidden_size=16))
    solution = solve(PullbackManifold(decoder), torch.randn(3, 2), torch.randn(3, 2), segments=16, tol=1e-9)
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


# --- ELBO ---------------------------------------------------------------------------------------


def test_kl_is_that_of_torch() -> None:
    mean, log_scale = torch.randn(9, 4), torch.randn(9, 4)
    expected = kl_divergence(Normal(mean, log_scale.exp()), Normal(0.0, 1.0)).sum(1)
    assert_close(DiagonalGaussian(mean, log_scale).kl(), expected)


def test_kl_is_zero_at_the_prior_and_quadratic_near_it() -> None:
    tiny = 1e-6
    assert DiagonalGaussian(torch.zeros(1, 3), torch.zeros(1, 3)).kl().item() == 0
    near = DiagonalGaussian(torch.zeros(1, 1), torch.full((1, 1), tiny)).kl()
    assert_close(near, torch.tensor([tiny**2]), rtol=1e-3, atol=0)


def test_samples_have_the_moments_of_the_gaussian() -> None:
    rows = 40_000
    q = DiagonalGaussian(torch.tensor([[1.0, -2.0]]).expand(rows, 2), torch.tensor([[0.5, -1.0]]).expand(rows, 2))
    z = q.sample(torch.Generator().manual_seed(0))
    assert_close(z.mean(0), q.mean[0], rtol=0, atol=5 * 1.7 / rows**0.5)
    assert_close(z.std(0), q.log_scale[0].exp(), rtol=0.02, atol=0)


def test_the_elbo_is_its_terms_and_follows_the_generator() -> None:
    vae, x = small(), torch.rand(5, *SHAPE)
    terms, same = (vae.elbo(x, 0.5, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(terms.value, same.value)
    assert_close(terms.value, terms.log_likelihood - 0.5 * terms.kl)
    z = vae.encode_distribution(x).sample(torch.Generator().manual_seed(4))
    assert_close(terms.log_likelihood, vae.likelihood.log_prob(vae.decode(z), x))
    assert_close(terms.kl, vae.encode_distribution(x).kl())
    with pytest.raises(InputError, match="kl_weight"):
        vae.elbo(x, -1.0)


def test_the_elbo_is_below_the_log_marginal() -> None:
    vae = small(latent_size=1)
    x = torch.randint(0, 2, (4, *SHAPE)).double()
    # log p(x) to many digits: the trapezoidal rule over the one latent coordinate.
    z = torch.linspace(-9, 9, 2001)[:, None]
    with torch.no_grad():
        logits = vae.decode(z)
        joint = torch.stack([vae.likelihood.log_prob(logits, row.expand_as(logits)) for row in x])
        joint = joint + Normal(0.0, 1.0).log_prob(z[:, 0])
        log_marginal = torch.logsumexp(joint, 1) + torch.log(z[1, 0] - z[0, 0])
        elbo = torch.stack([vae.elbo(x).value for _ in range(2000)]).mean(0)
        # The gap is KL(q(z|x) || p(z|x)), by the same rule.
        q = vae.encode_distribution(x)
        log_q = Normal(q.mean, q.log_scale.exp()).log_prob(z[:, 0])
        gap = (log_q.exp() * (log_q - joint + log_marginal[:, None])).sum(1) * (z[1, 0] - z[0, 0])
    assert (elbo < log_marginal).all()
    assert_close(elbo, log_marginal - gap, rtol=0, atol=0.02)


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - {"relu", "elu"}))
def test_encoder_and_decoder_differentiate_twice(activation: str, network: str) -> None:
    vae = small(activation, network=network)
    z, x = torch.randn(2, 2, requires_grad=True), torch.rand(2, *SHAPE, requires_grad=True)
    for function, at in ((vae.decode, z), (vae.encode, x)):
        assert torch.autograd.gradcheck(function, at)
        assert torch.autograd.gradgradcheck(function, at)


# --- disk ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_saved_vae_comes_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype, network: str) -> None:
    vae = small("silu", latent_size=3, network=network).to(dtype)
    vae.save(tmp_path)
    state = torch.get_rng_state()
    loaded = VAE.load(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert not loaded.training
    assert loaded.describe() == vae.describe()
    for name, weight in vae.state_dict().items():
        assert loaded.state_dict()[name].dtype == dtype
        assert torch.equal(loaded.state_dict()[name], weight)
    x = torch.rand(4, *SHAPE, dtype=dtype)
    assert torch.equal(loaded.decode(loaded.encode(x)), vae.decode(vae.encode(x)))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


@pytest.mark.parametrize("scale", [0.1, "learned", "per_pixel"])
def test_a_saved_gaussian_vae_has_its_scales_back(tmp_path: Path, scale: Any) -> None:
    vae = VAE(SHAPE, network=MLPNetwork((8,)), likelihood=Gaussian(scale, min_scale=0.02))
    with torch.no_grad():
        for weight in vae.parameters():
            weight.add_(torch.randn(weight.shape))
    vae.save(tmp_path)
    loaded, z = VAE.load(tmp_path), torch.randn(4, 2)
    assert loaded.describe() == vae.describe()
    assert torch.equal(loaded.decode(z), vae.decode(z))


def test_broken_checkpoints_are_refused_with_a_remedy(tmp_path: Path) -> None:
    good = tmp_path / "good"
    small().save(good)
    other = tmp_path / "other"
    small(latent_size=5).save(other)
    weights = (good / "model.safetensors").read_bytes()

    def changed(**entries: Any) -> bytes:
        return json.dumps(json.loads((good / "model.json").read_text()) | entries).encode()

    cases: list[tuple[str, bytes | None, str]] = [
        ("model.json", None, "train a model"),
        ("model.json", b"{", "not readable as JSON"),
        ("model.json", b"[]", "JSON mapping"),
        ("model.json", b"{}", "not the record of a VAE"),
        ("model.json", changed(event_shape=[0]), "not the record of a VAE"),
        ("model.json", changed(latent_size=None), "not the record of a VAE"),
        ("model.json", changed(network="mlp"), "not the record of a VAE"),
        ("model.json", changed(network={"kind": "mpl"}), r"not the record of a VAE.*one of 'mlp', 'conv', got 'mpl'"),
        ("model.json", changed(network={"kind": "mlp", "hidden": [3]}), "not the record of a VAE.*hidden"),
        ("model.json", changed(likelihood={"scale": 1}), "not the record of a VAE"),
        ("model.safetensors", None, "no such file"),
        ("model.safetensors", weights[:-1], "truncated"),
        ("model.safetensors", weights[:5], "truncated"),
        ("model.safetensors", b"", "truncated"),
        ("model.safetensors", b"PK" + bytes(100), "not a safetensors file"),
        ("model.safetensors", (other / "model.safetensors").read_bytes(), "made for another model"),
    ]
    for number, (name, content, match) in enumerate(cases):
        folder = tmp_path / str(number)
        shutil.copytree(good, folder)
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=match) as caught:
            VAE.load(folder)
        assert str(folder / name) in str(caught.value)


def test_weights_of_other_names_are_listed_and_change_nothing(tmp_path: Path) -> None:
    vae = small()
    vae.save(tmp_path)
    module = torch.nn.Linear(2, 3)
    before = module.weight.clone()
    with pytest.raises(CheckpointError, match="weight is missing; bias is missing"):
        load_weights(module, tmp_path / "model.safetensors")
    assert torch.equal(module.weight, before)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    write_file(file, b"old")

    def full(self: Path, content: bytes) -> int:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="disk full"):
        write_file(file, b"new")
    assert file.read_bytes() == b"old"
    assert [f.name for f in tmp_path.iterdir()] == ["a"]


def test_what_models_raise_is_a_geodesic_error() -> None:
    with pytest.raises(GeodesicError):
        small().decode(torch.zeros(1, 1, 1))


def test_an_ensemble_decodes_by_its_members_only() -> None:
    vae = VAE(SHAPE, network=MLPNetwork((8,)), decoders=3)
    assert len(vae.decoders) == 3
    z = torch.zeros(2, 2)
    expected = torch.stack([torch.sigmoid(decoder(z)) for decoder in vae.decoders]).mean(0)
    assert_close(vae.mean(z), expected)
    with pytest.raises(InputError, match="this VAE has 3 decoders; take `decoders`"):
        vae.decode(z)
