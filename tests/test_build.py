"""From settings to geometries: what suits which model, and what makes no sense."""

import pytest
import torch
from torch import nn

import geodesic
from geodesic.errors import SettingsError
from geodesic.experiment.build import check_search, load_model, make_manifold, make_solver
from geodesic.experiment.geometries import Context
from geodesic.experiment.model import Model
from geodesic.experiment.settings.geodesics import GeodesicSettings
from geodesic.experiment.settings.model import ImportedModelSettings, VAESettings
from geodesic.models.likelihoods import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Discretized,
    Gaussian,
    NegativeBinomial,
    Poisson,
)

CPU = torch.device("cpu")


def search(**settings) -> GeodesicSettings:
    return GeodesicSettings.model_validate(settings)


def model(likelihood=None, decoders: int = 1, **changes) -> Model:
    shape = (6,) if likelihood is None else likelihood.parameter_shape((6,))
    members = tuple(
        nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, torch.Size(shape).numel()), nn.Unflatten(1, shape))
        .double()
        .requires_grad_(False)
        for _ in range(decoders)
    )
    mean = torch.sigmoid if likelihood is None else likelihood.mean
    return Model(members, mean, None, 2, likelihood, **changes)


def manifold(likelihood=None, decoders: int = 1, encodings=None, varying_scale: bool = True, **settings):
    made, found = model(likelihood, decoders, varying_scale=varying_scale), search(**settings)
    independent = found.members == "independent"
    return make_manifold(found, Context(made, CPU, torch.float64, lambda: encodings, independent))


FISHER_RAO = [
    (Bernoulli(), geodesic.outputs.FisherRaoBernoulli()),
    (Categorical(3), geodesic.outputs.FisherRaoCategorical()),
    (Discretized(4), geodesic.outputs.FisherRaoCategorical()),
    (Poisson(), geodesic.outputs.FisherRaoPoisson()),
    (NegativeBinomial(2.5), geodesic.outputs.FisherRaoNegativeBinomial(2.5)),
    (Gaussian(), geodesic.outputs.FisherRaoGaussian()),
]


@pytest.mark.parametrize(("likelihood", "outputs"), FISHER_RAO)
def test_fisher_rao_is_that_of_the_likelihood(likelihood, outputs) -> None:
    found = manifold(likelihood, geometry="fisher_rao")
    assert found.outputs == outputs
    assert geodesic.solve(found, torch.zeros(2), torch.ones(2)).converged


@pytest.mark.parametrize(
    ("likelihood", "word", "outputs"),
    [
        (Bernoulli(), "probabilities", geodesic.outputs.FisherRaoBernoulli("probabilities")),
        (Discretized(4), "probabilities", geodesic.outputs.FisherRaoCategorical("probabilities")),
        (Poisson(), "rates", geodesic.outputs.FisherRaoPoisson("rates")),
        (Gaussian(), "scales", geodesic.outputs.FisherRaoGaussian("scales")),
    ],
)
def test_settings_say_which_parameters_a_decoder_returns(likelihood, word, outputs) -> None:
    assert manifold(likelihood, geometry={"kind": "fisher_rao", "parameters": word}).outputs == outputs
    kind = geodesic.outputs.OUTPUT_GEOMETRIES.kind_of(outputs)
    assert manifold(likelihood, geometry={"kind": kind, "parameters": word}).outputs == outputs


def test_a_likelihood_takes_its_own_words_alone() -> None:
    for likelihood, choice in ((Bernoulli(), "logits or probabilities"), (NegativeBinomial(2.5), "null")):
        with pytest.raises(SettingsError, match=f"geometry.parameters: expected {choice} for .*, got rates"):
            manifold(likelihood, geometry={"kind": "fisher_rao", "parameters": "rates"})
    with pytest.raises(ValueError, match="probabilities"):
        search(geometry={"kind": "fisher_rao_bernoulli", "parameters": "rates"})


@pytest.mark.parametrize("geometry", ["euclidean", "fisher_rao", "fisher_rao_bernoulli"])
def test_a_decoder_of_probabilities_is_not_taken_for_one_of_logits(geometry: str) -> None:
    found = model(Bernoulli())
    imported = Model((nn.Sequential(found.decoders[0], nn.Sigmoid()),), Bernoulli().mean, None, 2, Bernoulli())
    context = Context(imported, CPU, torch.float64, lambda: None)
    with pytest.raises(geodesic.errors.DecoderError, match="its outputs look like probabilities"):
        geodesic.solve(make_manifold(search(geometry=geometry), context), torch.zeros(2), torch.ones(2))


@pytest.mark.parametrize("likelihood", [Bernoulli(), ContinuousBernoulli(), Gaussian(), Categorical(3), Poisson()])
def test_euclidean_is_the_distance_of_means(likelihood) -> None:
    found, z = manifold(likelihood, geometry="euclidean"), torch.randn(4, 2)
    torch.testing.assert_close(found.embed(z), likelihood.mean(found.decoder(z)))


def test_the_expected_metric_is_that_of_a_gaussian() -> None:
    assert manifold(Gaussian(), geometry="expected").outputs == geodesic.outputs.ExpectedGaussian()


def test_features_are_those_of_a_network_by_name() -> None:
    found = manifold(Bernoulli(), geometry={"kind": "features", "network": "torch.nn:Flatten"})
    assert found.embed(torch.zeros(3, 2)).shape == (3, 6)


@pytest.mark.parametrize(
    ("kind", "made"), [("density", geodesic.DensityManifold), ("local_variance", geodesic.LocalVarianceManifold)]
)
def test_metrics_of_data_take_the_encodings(kind: str, made) -> None:
    points = torch.randn(50, 2)
    found = manifold(geometry={"kind": kind, "points": 40}, encodings=points)
    assert isinstance(found, made)
    assert torch.equal(found.points, points[:40])
    # Scott's rule.
    assert found.bandwidth == pytest.approx(float(points[:40].var(0).mean().sqrt()) * 40 ** (-1 / 6))
    assert manifold(geometry={"kind": kind, "bandwidth": 0.3}, encodings=points).bandwidth == 0.3


def test_an_ensemble_has_two_readings() -> None:
    assert isinstance(manifold(Bernoulli(), 3), geodesic.EnsembleManifold)
    assert isinstance(manifold(Bernoulli(), 3, members="independent"), geodesic.IndependentEnsembleManifold)
    assert manifold(Bernoulli(), 3, geometry="fisher_rao").outputs == geodesic.outputs.FisherRaoBernoulli()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: manifold(geometry="fisher_rao"), "set model.likelihood"),
        (lambda: manifold(ContinuousBernoulli(), geometry="fisher_rao"), "without a closed form"),
        (lambda: manifold(Bernoulli(), geometry="expected"), "needs model.likelihood: gaussian, got Bernoulli"),
        (lambda: manifold(geometry="expected"), "got a decoder without a likelihood"),
        (lambda: manifold(Gaussian(), varying_scale=False, geometry="expected"), "model.uncertainty: rbf"),
        (lambda: manifold(Gaussian(), 3, geometry="fisher_rao"), "has no embedding"),
        (lambda: manifold(Bernoulli(), members="independent"), "this model has one decoder"),
        (lambda: manifold(Bernoulli(), geometry="density"), "needs data and an encoder"),
        (
            lambda: manifold(Bernoulli(), 3, torch.zeros(3, 2), geometry="density", members="independent"),
            "looks at no decoder",
        ),
        (
            lambda: manifold(Bernoulli(), geometry={"kind": "features", "network": "torch.nn:Nothing"}),
            "geodesic.geometry.network",
        ),
    ],
)
def test_a_geometry_that_makes_no_sense_is_refused_with_the_reason(made, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        made()


@pytest.mark.parametrize(
    ("vae", "wanted", "message"),
    [
        ({}, {"geometry": "expected"}, "needs model.likelihood: gaussian, got Bernoulli"),
        ({}, {"members": "independent"}, "this model has one decoder"),
        ({"likelihood": "gaussian", "decoders": 2}, {"geometry": "fisher_rao"}, "has no embedding"),
        ({}, {"geometry": {"kind": "fisher_rao", "parameters": "probabilities"}}, "returns logits or logarithms"),
        ({}, {"geometry": {"kind": "fisher_rao_poisson", "parameters": "rates"}}, "and no rates; leave it out"),
        (
            {"decoders": 2},
            {"solvers": ({"name": "shao", "kind": "gradient_descent", "direction": "encoder"},)},
            "takes the means of one decoder",
        ),
    ],
)
def test_a_search_is_refused_before_its_model_is_trained(vae, wanted, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_search(search(**wanted), VAESettings.model_validate(vae), (1, 8, 8))


@pytest.mark.parametrize("geometry", ["euclidean", "expected", "fisher_rao", "density", "local_variance"])
@pytest.mark.parametrize("latent_size", [1, 3])
def test_a_search_that_suits_its_model_passes_and_draws_no_random_number(geometry: str, latent_size: int) -> None:
    vae = VAESettings(latent_size=latent_size, likelihood={"kind": "gaussian", "scale": "per_pixel"})
    state = torch.get_rng_state()
    check_search(search(geometry=geometry), vae, (6,))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("decoders", "geometry"), [(3, "euclidean"), (1, "fisher_rao")])
def test_the_encoders_direction_needs_the_means_of_one_decoder(decoders: int, geometry: str) -> None:
    settings = search(
        geometry=geometry, solvers=({"name": "shao", "kind": "gradient_descent", "direction": "encoder"},)
    )
    made = model(Bernoulli(), decoders)
    encoded = Model(made.decoders, made.output_mean, lambda x: x[:, :2], 2, made.likelihood)
    with pytest.raises(SettingsError, match="takes the means of one decoder"):
        make_solver(settings.solvers[0], encoded, settings)


def test_the_mean_of_an_ensemble_is_that_of_its_members() -> None:
    made, z = model(Bernoulli(), 3), torch.randn(4, 2)
    torch.testing.assert_close(made.mean(z), torch.stack([g(z).sigmoid() for g in made.decoders]).mean(0))


@pytest.mark.parametrize("geometry", ["euclidean", "fisher_rao", "density", "local_variance"])
def test_a_decoder_of_ones_own_has_the_period_of_the_settings(geometry: str) -> None:
    period = (2.5, None)
    made, found = model(Poisson(), period=period), search(geometry=geometry)
    context = Context(made, CPU, torch.float64, lambda: torch.randn(20, 2))
    assert make_manifold(found, context).period == period


def test_the_period_of_a_model_is_that_of_its_settings(tmp_path) -> None:
    given = {"import": "torch.nn:Identity", "latent_size": 2, "period": (2.0, None)}
    settings = ImportedModelSettings.model_validate(given)
    assert load_model(settings, tmp_path, CPU, torch.float64).period == (2.0, None)
