"""VAEs: closed forms against torch.distributions, and weights that survive the disk bit for bit."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from geodesic import VAE, GeodesicError
from geodesic.errors import CheckpointError, InputError
from geodesic.models import MLPNetwork
from geodesic.models.checkpoint import restore
from geodesic.models.likelihoods import Gaussian, Poisson
from geodesic.models.uncertainty import BlendUncertainty, RBFUncertainty
from geodesic.models.vae import DiagonalGaussian
from tests.parts import LIKELIHOODS, NETWORKS, UNCERTAINTIES

SHAPE = (1, 3, 2)


def small(latent_size: int = 2, **parts: Any) -> VAE:
    return VAE(SHAPE, latent_size, **{"network": MLPNetwork((8, 5)), **parts})


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
        elbo = vae.elbo(x.repeat(2000, 1, 1, 1)).value.reshape(2000, 4).mean(0)
        # The gap is KL(q(z|x) || p(z|x)), by the same rule.
        q = vae.encode_distribution(x)
        log_q = Normal(q.mean, q.log_scale.exp()).log_prob(z[:, 0])
        gap = (log_q.exp() * (log_q - joint + log_marginal[:, None])).sum(1) * (z[1, 0] - z[0, 0])
    assert (elbo < log_marginal).all()
    assert_close(elbo, log_marginal - gap, rtol=0, atol=0.02)


# --- disk ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "parts",
    [
        *({"network": part} for part in NETWORKS.values()),
        *({"likelihood": part} for part in LIKELIHOODS.values()),
        {"decoders": 2},
    ],
    ids=repr,
)
def test_a_saved_vae_comes_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype, parts: dict[str, Any]) -> None:
    vae = small(3, **parts).to(dtype)
    with torch.no_grad():
        for weight in vae.parameters():
            weight.add_(torch.randn(weight.shape))
    assert_comes_back(vae, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


@pytest.mark.parametrize("kind", UNCERTAINTIES)
def test_an_uncertainty_comes_back_before_and_after_it_is_fitted(tmp_path: Path, kind: str) -> None:
    vae = small(uncertainty=UNCERTAINTIES[kind], likelihood=Gaussian())
    assert_comes_back(vae, tmp_path)
    vae.fit_uncertainty(torch.rand(20, *SHAPE))
    assert_comes_back(vae, tmp_path)
    with pytest.raises(InputError, match="fitted before"):
        VAE.load(tmp_path).fit_uncertainty(torch.rand(20, *SHAPE))


def assert_comes_back(vae: VAE, folder: Path) -> None:
    """The same description, weights and results, without a look at the random state."""
    vae.save(folder)
    state = torch.get_rng_state()
    loaded = VAE.load(folder)
    assert torch.equal(torch.get_rng_state(), state)
    assert not loaded.training
    assert loaded.describe() == vae.describe()
    for name, weight in vae.state_dict().items():
        assert loaded.state_dict()[name].dtype == weight.dtype
        assert torch.equal(loaded.state_dict()[name], weight)
    x = torch.rand(4, *SHAPE, dtype=weight.dtype)
    z = vae.encode(x)
    assert torch.equal(loaded.encode(x), z)
    for one, other in zip(loaded.decoders, vae.decoders, strict=True):
        assert torch.equal(one(z), other(z))


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
        restore(module, tmp_path / "model.safetensors")
    assert torch.equal(module.weight, before)


def test_what_models_raise_is_a_geodesic_error() -> None:
    with pytest.raises(GeodesicError):
        small().decode(torch.zeros(1, 1, 1))


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({"latent_size": 0}, "latent_size: expected an integer of at least 1, got 0"),
        ({"decoders": 0}, "decoders: expected an integer of at least 1, got 0"),
        ({"uncertainty": BlendUncertainty(), "decoders": 2}, "an ensemble shows its uncertainty by its members"),
        ({"uncertainty": RBFUncertainty(), "likelihood": Poisson()}, "the likelihood Poisson has none; use blend"),
        ({"uncertainty": RBFUncertainty(), "likelihood": Gaussian("per_pixel")}, "replace the scales that per_pixel"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(parts: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        VAE(SHAPE, **parts)


@pytest.mark.parametrize("shape", [(), (0,), (3, -1), (True, 2)])
def test_an_event_shape_that_is_none_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="event_shape: expected positive integers"):
        VAE(shape)


def test_an_ensemble_decodes_by_its_members_only() -> None:
    vae = VAE(SHAPE, network=MLPNetwork((8,)), decoders=3)
    assert len(vae.decoders) == 3
    z = torch.zeros(2, 2)
    expected = torch.stack([torch.sigmoid(decoder(z)) for decoder in vae.decoders]).mean(0)
    assert_close(vae.mean(z), expected)
    with pytest.raises(InputError, match="this VAE has 3 decoders; take `decoders`"):
        vae.decode(z)
