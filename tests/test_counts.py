"""VAEs train on data as they come: counts of any mean, numbers of any scale; and what has learned nothing says so."""

import math
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor
from torch.testing import assert_close

import geodesic
from geodesic import VAE, train_vae
from geodesic.data import Dataset, Split
from geodesic.errors import DataError, InputError, SettingsError, TrainingDiverged
from geodesic.experiment import Settings
from geodesic.experiment.build import check_search
from geodesic.likelihoods import Gaussian, Likelihood, NegativeBinomial, Poisson
from geodesic.models import MLPNetwork, Training
from geodesic.models.networks.rates import LogRates, OverCounts
from tests.parts import LIKELIHOODS

EVENT = (6,)
COUNTS: list[Likelihood] = [
    Poisson(),
    Poisson(library=True),
    NegativeBinomial(3.0),
    NegativeBinomial([1.0, 2.0, 3.0, 4.0, 5.0, 60.0]),
    NegativeBinomial(),
    NegativeBinomial(library=True),
]


def made(likelihood: Likelihood, event: tuple[int, ...] = EVENT, inputs: str = "auto") -> VAE:
    torch.manual_seed(0)
    return VAE(event, network=MLPNetwork((16,), "tanh"), likelihood=likelihood, inputs=inputs)


def silenced(vae: VAE) -> VAE:
    """Its decoder's network returns zeros: nothing is left but what the data say."""
    for layer in vae.decoder.modules():
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    return vae


def counted(rows: int = 200, mean: float = 20.0, depths: bool = False) -> Tensor:
    effects = 0.4 * torch.randn(rows, 2) @ torch.randn(2, *EVENT)
    depth = torch.randn(rows, 1).mul(0.5).exp() if depths else 1.0
    return torch.poisson(mean * depth * effects.exp()).float()


def trained(likelihood: Likelihood, x: Tensor, folder: Path, **plan: object) -> geodesic.models.TrainingResult:
    data = Dataset(Split(x[40:]), Split(x[:40]))
    plan = {"epochs": 20, "batch_size": 40, "importance_samples": 0, "device": "cpu"} | plan
    return train_vae(made(likelihood, x.shape[1:]), data, Training(**plan), folder=folder, progress=False)


def load_settings_of(model: str) -> Settings:
    return Settings.model_validate(
        yaml.safe_load("{name: x, geodesic: {geometry: fisher_rao}}") | yaml.safe_load(model)
    )


# --- where training starts ----------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", [*COUNTS, Gaussian(), Gaussian("per_pixel")], ids=repr)
def test_a_decoder_starts_at_the_constant_model(likelihood: Likelihood) -> None:
    x, vae = counted(depths=True), made(likelihood).double()
    vae.begin(x.double())
    silenced(vae)
    found = vae.log_likelihood(torch.randn(len(x), 2), x.double())
    # A Gaussian's network begins with a log scale of 0 above its lower bound, in units of the data.
    rtol = 0.02 if isinstance(likelihood, Gaussian) else 1e-4
    assert_close(found.mean(), vae.constant_elbo(x, x).mean(), rtol=rtol, atol=0)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_no_other_constant_output_is_likelier(name: str) -> None:
    likelihood = LIKELIHOODS[name]
    vae = made(likelihood, (3,), inputs="none")
    largest = {"categorical": 3, "poisson": 8, "gaussian": 8}.get(name.partition("_")[0], 1)
    x = torch.randint(0, largest + 1, (400, 3)).double() + likelihood.by_row
    vae.begin(x)
    known = vae.likelihood
    if name == "negative_binomial_learned":
        known = known._with(total_count=known._likeliest(x))
    constant = known.constant(x)
    best = vae.constant_elbo(x, x).mean()
    assert_close(known.log_prob(constant.expand(400, *constant.shape[1:]), x).mean(), best)
    for _ in range(5):
        change = 0.3 * torch.randn_like(constant)
        if name == "gaussian":  # whose scale is given
            change[:, 1] = 0
        elif name == "gaussian_learned":  # one for all entries
            change[:, 1] = 0.3
        assert known.log_prob((constant + change).expand(400, *constant.shape[1:]), x).mean() < best


@pytest.mark.parametrize("likelihood", [Poisson(library=True), NegativeBinomial(3.0), Gaussian()], ids=repr)
def test_the_constant_model_beside_an_ensemble_is_that_beside_one_decoder(likelihood: Likelihood) -> None:
    x, found = counted(depths=True), []
    for decoders in (1, 2):
        vae = VAE(EVENT, likelihood=likelihood, decoders=decoders)
        vae.begin(x)
        found.append(vae.constant_elbo(x, x))
    assert_close(*found)


def test_the_likeliest_r_is_that_of_the_counts() -> None:
    r = torch.tensor([0.5, 3.0, 20.0]).double()
    gamma = torch.distributions.Gamma(r, r / 30).sample((20_000,))
    x = torch.poisson(gamma)
    vae = made(NegativeBinomial(), (3,))
    vae.begin(x)
    assert_close(vae.likelihood.total_count.double(), r, rtol=0.06, atol=0)


def test_counts_that_vary_less_than_poissons_have_the_largest_r() -> None:
    vae = made(NegativeBinomial(), (2,))
    vae.begin(torch.full((50, 2), 7.0))
    assert bool((vae.likelihood.total_count > 5000).all())


# --- units and bounds ---------------------------------------------------------------------------


@pytest.mark.slow
def test_the_scale_of_gaussian_data_makes_no_difference(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    x, scale = torch.randn(200, 2) @ torch.randn(2, 6) + 0.3 * torch.randn(200, 6), 2.0 ** torch.arange(-8.0, 10, 3)
    one = trained(Gaussian(), x, tmp_path / "one", epochs=8)
    other = trained(Gaussian(), x * scale + 16 * scale, tmp_path / "other", epochs=8)
    assert one.failure is None
    shift = scale.log().sum().item()
    assert other.test_elbo + shift == pytest.approx(one.test_elbo, abs=0.02)
    assert other.constant_elbo + shift == pytest.approx(one.constant_elbo, abs=1e-3)


@pytest.mark.parametrize("likelihood", COUNTS, ids=repr)
def test_no_latent_point_has_a_rate_that_overflows(likelihood: Likelihood) -> None:
    vae, x = made(likelihood).float(), counted().float()
    vae.begin(x)
    z = (1e6 * torch.randn(50, 2)).float()
    assert bool(vae.log_likelihood(z, x[:50]).isfinite().all())
    assert bool((vae.mean(z) < 1000 * x.max()).all())


def test_log_scales_of_encodings_are_bounded_and_left_alone_where_they_are_usual() -> None:
    vae = made(Gaussian())
    for given, found in ((-1e9, -20.0), (1e9, 20.0), (-7.0, -7.0), (0.0, 0.0)):
        with torch.no_grad():
            vae.encoder[1].mlp[-1].weight.zero_()
            vae.encoder[1].mlp[-1].bias.fill_(given)
        q = vae.encode_distribution(torch.zeros(1, 6))
        assert_close(q.log_scale, torch.full_like(q.log_scale, found), rtol=0, atol=1e-5)


def test_r_that_is_learned_stays_within_bounds_and_its_slope_is_finite() -> None:
    counts = OverCounts((3,))
    with torch.no_grad():
        counts.free.copy_(torch.tensor([-1e6, 0.0, 1e6]))
    r = counts.total_count()
    assert_close(r, torch.tensor([1e-3, 1.0, 1e5]).to(r), rtol=2e-3, atol=0)
    (slope,) = torch.autograd.grad(r.sum(), counts.free)
    assert bool(slope.isfinite().all())


def test_log_rates_are_those_of_the_network_far_below_their_bound() -> None:
    rates, u = LogRates((2,)), torch.randn(9, 2)
    rates.fit(torch.tensor([0.0, 1.0]), torch.tensor(0.5), torch.tensor(30.0))
    assert_close(rates(u), torch.tensor([0.0, 1.0]) + 0.5 * u, rtol=0, atol=1e-8)


# --- rows of different totals -------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Poisson, NegativeBinomial])
def test_a_row_of_twice_the_total_has_twice_the_rates(kind: type) -> None:
    fields = {} if kind is Poisson else {"total_count": 2.0}
    parameters, x = torch.randn(1, 3), torch.tensor([[4.0, 6.0, 10.0]])
    found = kind(**fields, library=10.0).log_prob(parameters, x)
    assert_close(found, kind(**fields).log_prob(parameters + math.log(2), x))


def test_the_depth_of_a_row_does_not_move_its_encoding() -> None:
    vae, x = made(NegativeBinomial(library=True)), counted(depths=True)
    vae.begin(x)
    assert_close(vae.encode(3 * x), vae.encode(x))
    assert_close(vae.likelihood.library.double(), x.sum(1).mean().double())


def test_a_row_without_counts_is_refused_where_its_total_is_taken() -> None:
    x = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    Poisson().check(x)
    with pytest.raises(DataError, match=r"1 rows have no counts at all, the first is row 1, .* set library to false"):
        Poisson(library=True).check(x)


def test_numbers_that_only_a_trained_vae_has_are_asked_of_it() -> None:
    x = torch.ones(2, 3)
    with pytest.raises(InputError, match=r"library: true .* vae\.likelihood"):
        Poisson(library=True).log_prob(x, x)
    for use in (lambda: NegativeBinomial().log_prob(x, x), NegativeBinomial().fisher_rao):
        with pytest.raises(InputError, match=r"total_count.* learned by a VAE; .* vae\.likelihood"):
            use()
    with pytest.raises(InputError, match=r"one for each entry of a row, \(3,\), got the shape \(2,\)"):
        NegativeBinomial([1.0, 2.0]).log_prob(x, x)
    for wrong in ("learn", [1.0, -1.0], 0):
        with pytest.raises(InputError, match="total_count"):
            NegativeBinomial(wrong)
    with pytest.raises(InputError, match="library: expected"):
        Poisson(library=-1)


def test_an_ensemble_does_not_learn_an_r() -> None:
    with pytest.raises(InputError, match=r"decoders: .* one r, and total_count is learned; give a number"):
        VAE((3,), likelihood=NegativeBinomial(), decoders=2)


def test_the_geometry_of_an_r_to_be_learned_is_checked_before_training() -> None:
    settings = load_settings_of("model: {likelihood: {kind: negative_binomial, library: true}}")
    check_search(settings.geodesic, settings.model, (6,))
    independent = settings.geodesic.model_copy(update={"members": "independent"})
    with pytest.raises(SettingsError, match="this model has one decoder"):
        check_search(independent, settings.model, (6,))


def test_one_r_for_each_entry_comes_back_with_the_weights(tmp_path: Path) -> None:
    vae = VAE((3,), likelihood=NegativeBinomial([1.0, 2.0, 30.0]), decoders=2)
    vae.save(tmp_path)
    assert VAE.load(tmp_path).likelihood == vae.likelihood


# --- what the encoder is given ------------------------------------------------------------------


def test_inputs_are_those_that_suit_the_likelihood() -> None:
    assert [made(likelihood).inputs for likelihood in (Poisson(), Gaussian(), geodesic.likelihoods.Bernoulli())] == [
        "log1p",
        "standardize",
        "none",
    ]


def test_an_entry_that_never_varies_has_the_unit_one() -> None:
    x = torch.stack([torch.full((50,), 0.1), torch.randn(50)], 1)
    vae = made(Gaussian(), (2,))
    vae.begin(x)
    assert_close(vae.encoder[0].scale, torch.tensor([1.0, x[:, 1].std(correction=0)]).to(vae.encoder[0].scale))


def test_the_channels_of_images_have_one_unit_each() -> None:
    x = torch.randn(50, 2, 4, 4) * torch.tensor([1.0, 100.0])[:, None, None]
    vae = made(Gaussian(), (2, 4, 4))
    vae.begin(x)
    assert [len(channel.unique()) for channel in vae.encoder[0].scale] == [1, 1]


def test_logarithms_of_numbers_below_minus_one_are_refused_before_training(tmp_path: Path) -> None:
    vae, x = made(Gaussian(), inputs="log1p"), -2 * torch.ones(60, 6).float()
    with pytest.raises(DataError, match=r"inputs: log1p takes numbers above -1, got -2; say standardize or none"):
        train_vae(vae, Dataset(Split(x), Split(x)), folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


# --- training -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("mean", [1.0, 5000.0])
@pytest.mark.parametrize("likelihood", [Poisson(), NegativeBinomial(), NegativeBinomial(library=True)], ids=repr)
def test_counts_of_any_mean_train_at_the_defaults(tmp_path: Path, likelihood: Likelihood, mean: float) -> None:
    result = trained(likelihood, counted(mean=mean, depths=likelihood.by_row) + likelihood.by_row, tmp_path, epochs=30)
    assert result.failure is None
    assert result.test_elbo > result.constant_elbo


@pytest.mark.slow
def test_what_a_vae_has_learned_of_counts_is_saved_with_it_and_is_its_geometry(tmp_path: Path) -> None:
    x = counted(depths=True)
    vae = trained(NegativeBinomial(library=True), x, tmp_path, epochs=2).vae
    again = VAE.load(tmp_path)
    z = torch.zeros(1, 2).float()
    assert torch.equal(again.decode(z), vae.decode(z))
    assert torch.equal(again.encode(x), vae.encode(x))
    assert torch.equal(again.likelihood.total_count, vae.likelihood.total_count)
    manifold = geodesic.PullbackManifold(again.double().decode, again.likelihood.fisher_rao())
    solution = geodesic.solve(manifold, torch.tensor([[-0.5, 0.0]]).double(), torch.tensor([[0.5, 0.3]]).double())
    assert bool(solution.converged.all())


def test_a_vae_below_the_constant_model_says_what_to_change(tmp_path: Path) -> None:
    result = trained(Poisson(), counted(), tmp_path, epochs=1, learning_rate=3.0)
    assert result.test_elbo < result.constant_elbo
    assert result.failure is not None
    for word in ("below that of a constant model", "training.learning_rate", "training.epochs", "model.likelihood"):
        assert word in result.failure


def test_an_elbo_that_is_not_finite_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodesic.models.training.train.evaluate_elbo", lambda *_, **__: -math.inf)
    with pytest.raises(TrainingDiverged, match=r"held-out ELBO is -inf after epoch 1; .* training\.learning_rate"):
        trained(Poisson(), counted(), tmp_path, epochs=1)
    assert not (tmp_path / "model.safetensors").exists()
