"""Models of scvi-tools, pythae and diffusers as decoders, on stand-ins; `make adapters` tests the real ones."""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import geodesic
from geodesic import outputs
from geodesic.adapters import from_diffusers, from_pythae, from_scvi
from geodesic.errors import GeodesicError, MissingExtraError
from tests.foreign import ModelOutput, net, seeded
from tests.foreign_cells import GENES, Scvi

Z = torch.tensor([[0.3, -0.8], [1.1, 0.4], [-0.6, 0.9]], dtype=torch.float32)
BIG = {"rtol": 1e-4, "atol": 1e-6}


# --- scvi-tools ---------------------------------------------------------------------------------


def test_the_mean_of_a_decoder_of_cells_is_what_the_model_generates() -> None:
    model = Scvi()
    decoder = from_scvi(model, batch="second", library=1000)
    torch.testing.assert_close(decoder.mean(Z), model.mu(Z, 1000.0, 1), **BIG)
    assert decoder.names == GENES
    assert decoder.note == "zero inflation left out"
    assert repr(decoder).endswith("zero inflation left out)")
    assert model.module.training, "the model of the user is as it was"


def test_distances_of_cells_are_those_of_negative_binomials_with_the_dispersions_of_the_model() -> None:
    model = Scvi(likelihood="nb")
    decoder = from_scvi(model, batch="first", library=500)
    r = model.module.px_r.exp().detach()
    expected = 2 * r.sqrt() * torch.arcsinh((model.mu(Z, 500.0, 0) / r).sqrt())
    torch.testing.assert_close(decoder.outputs.embed(decoder(Z)), expected, **BIG)
    assert decoder.note == ""


@pytest.mark.slow
def test_pairs_of_cells_converge_and_so_does_one_with_a_batch_for_each() -> None:
    model = Scvi()
    solution = geodesic.solve(from_scvi(model, batch=["first", "second"]).manifold(), Z[:2], Z[1:])
    assert solution.converged.all()
    for k, batch in enumerate(("first", "second")):
        alone = geodesic.solve(from_scvi(model, batch=batch).manifold(), Z[k], Z[k + 1])
        torch.testing.assert_close(solution.length[k], alone.length, rtol=1e-3, atol=0)


def test_rare_genes_in_single_precision_have_finite_distances() -> None:
    model = Scvi()
    with torch.no_grad():
        model.module.decoder.px_scale_decoder[0].bias[0] = -200.0
    decoder = from_scvi(model, batch="first")
    assert decoder(Z).isfinite().all()
    assert geodesic.solve(decoder.manifold(), Z[0], Z[1]).converged


@pytest.mark.parametrize("likelihood", ["poisson", "normal"])
def test_other_likelihoods_have_their_own_geometry(likelihood: str) -> None:
    model = Scvi(likelihood=likelihood)
    decoder, mu = from_scvi(model, batch="first", library=500), model.mu(Z, 500.0, 0)
    torch.testing.assert_close(decoder.mean(Z), mu, **BIG)
    expected = 2 * mu.sqrt() if likelihood == "poisson" else mu / model.module.px_r.exp()
    torch.testing.assert_close(decoder.outputs.embed(decoder(Z)), expected.detach(), **BIG)


def test_a_linear_decoder_and_one_by_size_factors_generate_what_the_model_does() -> None:
    linear, factors = Scvi(linear=True), Scvi(size_factors=True)
    torch.testing.assert_close(from_scvi(linear, batch="first", library=9).mean(Z), linear.mu(Z, 9.0, 0), **BIG)
    by_default = from_scvi(factors, batch="first").mean(Z)  # the median of 1, 4 and 2
    torch.testing.assert_close(by_default, factors.mu(Z, 2.0, 0), **BIG)


def test_the_library_is_the_median_of_the_cells_by_default() -> None:
    rows = np.arange(35.0).reshape(5, 7)
    for counts in (rows, None):  # dense and sparse
        model = Scvi(counts=counts)
        median = float(np.median(rows.sum(1)))
        torch.testing.assert_close(from_scvi(model, batch="first").mean(Z), model.mu(Z, median, 0), **BIG)


@pytest.mark.parametrize("dispersion", ["gene-batch", "gene-label"])
def test_a_dispersion_of_batches_or_labels_is_that_of_the_given_one(dispersion: str) -> None:
    model = Scvi(dispersion, labels=("T", "B", "NK"))
    covariates = {"cell_type": "B"} if dispersion == "gene-label" else None
    decoder = from_scvi(model, batch="second", covariates=covariates)
    torch.testing.assert_close(decoder.outputs.total_count, model.module.px_r.exp()[:, 1].detach(), **BIG)


def test_covariates_go_to_the_decoder_by_their_names() -> None:
    model = Scvi(categories={"sex": ("f", "m"), "site": ("x", "y", "z")}, numbers=("age", "mito"))
    given = {"mito": 0.2, "site": "z", "sex": "m", "age": 40}
    decoder = from_scvi(model, batch="first", library=100, covariates=given)
    numbers, (sex, site) = torch.tensor([[40.0, 0.2]]), (torch.full((3, 1), k) for k in (1, 2))
    expected = model.mu(Z, 100.0, 0, numbers.to(Z), sex, site)
    torch.testing.assert_close(decoder.mean(Z), expected, **BIG)


def test_an_embedded_batch_goes_beside_the_points() -> None:
    model = Scvi(batch_representation="embedding")
    beside = model.module.embedding.weight[1:].detach()
    expected = model.mu(Z, 100.0, 1, beside)
    torch.testing.assert_close(from_scvi(model, batch="second", library=100).mean(Z), expected, **BIG)


def swapped() -> Scvi:
    model = Scvi()
    model.adata.var_names[2:4] = ["gene3", "gene2"]
    return model


def other_genes() -> Scvi:
    model = Scvi()
    model.adata.var_names[0] = "MALAT1"
    return model


def untrained() -> Scvi:
    model = Scvi()
    model.is_trained = False
    return model


def without_cells() -> Scvi:
    model = Scvi()
    model.adata = None
    return model


WITH_COVARIATES = {"categories": {"sex": ("f", "m")}, "numbers": ("age",)}
REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a module": (nn.Linear(2, 3), {}, "model: expected a trained scvi.model.SCVI, .* got .*Linear.*geodesic.wrap"),
    "another family": (SimpleNamespace(module=nn.Linear(2, 3)), {}, "its module is a Linear"),
    "untrained": (untrained, {}, r"model: it was not trained; call model.train\(\)"),
    "a dispersion that varies": (lambda: Scvi("gene-cell"), {}, "varies with z.*train one with dispersion='gene'"),
    "points on a simplex": (lambda: Scvi(latent_distribution="ln"), {}, "'ln': latent points lie on a simplex"),
    "no batch": (Scvi, {}, r"batch: the model knows 2 batches \('first', 'second'\) and none was given; .*'first'"),
    "a wrong batch": (Scvi, {"batch": "secnd"}, "batch: the model knows no 'secnd' .*did you mean 'second'"),
    "no batches": (Scvi, {"batch": []}, "batch: expected one value, or one for each pair, got an empty list"),
    "genes in another order": (
        swapped,
        {"batch": "first"},
        "model: has its genes in another order: gene 2 is 'gene3', and was 'gene2'",
    ),
    "other genes": (other_genes, {"batch": "first"}, "model: has no gene 'gene0', which the model was trained with"),
    "cells with a model": (Scvi, {"batch": "first", "cells": 1}, "cells: they go with a folder"),
    "negative counts": (lambda: Scvi(counts=-np.ones((2, 7))), {"batch": "first"}, "hold -1; it takes counts"),
    "missing counts": (lambda: Scvi(counts=np.full((2, 7), np.nan)), {"batch": "first"}, "hold nan; it takes counts"),
    "no cells": (without_cells, {"batch": "first"}, "library: the model holds no cells .* give one, library=10000"),
    "an empty library": (Scvi, {"batch": "first", "library": 0}, "library: expected positive counts"),
    "a word for a library": (Scvi, {"batch": "first", "library": "big"}, "library: expected a number"),
    "counts that differ": (
        Scvi,
        {"batch": ["first", "second"], "library": [1, 2, 3]},
        "batch: expected one value for all pairs, or one for each, got 2 of batch, 3 of library",
    ),
    "no mapping": (Scvi, {"batch": "first", "covariates": "f"}, "covariates: expected a mapping"),
    "an unknown covariate": (Scvi, {"batch": "first", "covariates": {"age": 3}}, "takes no 'age'; leave covariates"),
    "a missing covariate": (
        lambda: Scvi(**WITH_COVARIATES),
        {"batch": "first", "covariates": {"age": 3}},
        r"covariates: the decoder takes 'sex' too, .* give covariates=\{'sex': 'f', ...\}",
    ),
    "a word for a number": (
        lambda: Scvi(**WITH_COVARIATES),
        {"batch": "first", "covariates": {"age": "old", "sex": "f"}},
        r"covariates\['age'\]: 'age' is a column of numbers, expected finite ones, got 'old'",
    ),
    "a number that is none": (
        lambda: Scvi(**WITH_COVARIATES),
        {"batch": "first", "covariates": {"age": float("nan"), "sex": "f"}},
        r"covariates\['age'\]: .* expected finite ones, got nan",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_decoder_of_cells_can_be_made_of_is_refused_with_the_remedy(case: str) -> None:
    make, options, message = REFUSED[case]
    model = make() if callable(make) and not isinstance(make, nn.Module) else make
    with pytest.raises(GeodesicError, match=message):
        from_scvi(model, **options)


@pytest.mark.parametrize(
    ("adapter", "library"), [(from_scvi, "scvi"), (from_pythae, "pythae"), (from_diffusers, "diffusers")]
)
def test_a_folder_needs_the_library_and_the_error_has_the_line_that_installs_it(
    adapter: Any, library: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=re.escape(geodesic.installation.hint(library))):
        adapter(tmp_path)


# --- pythae -------------------------------------------------------------------------------------


class Pythae(nn.Module):
    """A model of pythae as it is loaded: in training mode, where batch normalization joins the rows."""

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(net(2, 12), nn.BatchNorm1d(12), nn.Sigmoid())

        def forward(self, z: torch.Tensor, output_layer_levels: Any = None) -> ModelOutput:
            return ModelOutput(reconstruction=self.layers(z).reshape(-1, 1, 3, 4))

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.model_name, self.decoder, self.device = "BetaVAE", Pythae.Decoder(), None
        self.model_config = SimpleNamespace(latent_dim=2, input_dim=(1, 3, 4), **config)


class Coding(nn.Module):
    """The encoder of a `VQVAE`, to images of codes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Conv2d(1, 2, (3, 2), (1, 2))

    def forward(self, x: torch.Tensor) -> ModelOutput:
        return ModelOutput(embedding=self.layers(x))


class Codes(nn.Module):
    """Its decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ConvTranspose2d(2, 1, (3, 2), (1, 2))

    def forward(self, z: torch.Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.layers(z))


class VQVAE(Pythae):
    """Codes that are images, which `latent_dim` does not tell."""

    def __init__(self) -> None:
        super().__init__()
        self.model_name, self.encoder, self.decoder, self.quantizer = "VQVAE", Coding(), Codes(), nn.Identity()


@pytest.mark.slow
def test_a_model_of_pythae_has_the_geometry_of_its_loss() -> None:
    assert from_pythae(seeded(Pythae)).outputs == outputs.Euclidean()
    model = seeded(lambda: Pythae(reconstruction_loss="bce"))
    decoder = from_pythae(model)
    assert decoder.outputs == outputs.FisherRaoBernoulli("probabilities")
    assert model.decoder.training
    torch.testing.assert_close(decoder(Z)[:1], decoder(Z[:1]), **BIG)
    assert geodesic.solve(decoder.manifold(), Z[0], Z[1]).converged


def test_codes_of_a_quantized_model_have_the_shape_of_its_encoder() -> None:
    decoder = from_pythae(seeded(VQVAE))
    assert decoder.latent_shape == (2, 1, 2)
    assert decoder.note == "paths go between codes, through points that are none"


def test_what_is_no_model_of_pythae_is_refused() -> None:
    with pytest.raises(GeodesicError, match=r"model: expected a model of pythae, .* got .*Linear.*geodesic\.wrap"):
        from_pythae(nn.Linear(2, 3))


# --- diffusers ----------------------------------------------------------------------------------


class AutoencoderKL(nn.Module):
    """As that of diffusers: two blocks halve once."""

    def __init__(self, quantized: bool = True, **config: Any) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 2, 2)
        self.post_quant_conv = nn.Conv2d(2, 2, 1) if quantized else None
        self.decoder = nn.Sequential(nn.Conv2d(2, 4, 1), nn.SiLU(), nn.ConvTranspose2d(4, 3, 2, 2))
        known = {"latent_channels": 2, "block_out_channels": (4, 4), "scaling_factor": 0.5, "sample_size": 6}
        self.config = SimpleNamespace(**known | config)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return self.decoder(z if self.post_quant_conv is None else self.post_quant_conv(z))


def test_an_autoencoder_of_diffusers_decodes_encodings_and_what_a_diffusion_model_makes_of_them() -> None:
    z = torch.randn(2, 2, 3, 3, dtype=torch.float32)
    for config, to_encoding in (
        ({}, lambda x: x / 0.5),
        ({"shift_factor": 0.3, "quantized": False}, lambda x: x / 0.5 + 0.3),
        (
            {"latents_mean": [1.0, 2.0], "latents_std": [0.5, 4.0]},
            lambda x: (
                x * torch.tensor([1.0, 8.0]).reshape(2, 1, 1).to(x) + torch.tensor([1.0, 2.0]).reshape(2, 1, 1).to(x)
            ),
        ),
    ):
        model = seeded(lambda config=config: AutoencoderKL(**config))
        assert from_diffusers(model).latent_shape == (2, 3, 3)
        torch.testing.assert_close(from_diffusers(model)(z), model.decode(z).detach(), **BIG)
        scaled = from_diffusers(model, scaled=True)
        torch.testing.assert_close(scaled(z), model.decode(to_encoding(z)).detach(), **BIG)
        assert scaled.note == "points are encodings times 0.5"


def test_latent_images_keep_their_shape_and_half_precision_is_widened() -> None:
    model = seeded(AutoencoderKL).half()
    manifold = from_diffusers(model, latent_shape=(2, 2, 4)).manifold()
    start, end = torch.randn(2, 2, 2, 4, dtype=torch.float32)
    solution = geodesic.solve(manifold, start, end, segments=4)
    assert solution.converged
    assert solution.path.shape == (5, 2, 2, 4)
    assert model.decoder[0].weight.dtype == torch.float16


def test_what_is_no_autoencoder_of_diffusers_is_refused() -> None:
    with pytest.raises(GeodesicError, match=r"expected a diffusers\.AutoencoderKL, got .*Linear"):
        from_diffusers(nn.Linear(2, 3))
