"""`from_scvi` on models that scvi-tools trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import geodesic
from geodesic.adapters import from_scvi
from geodesic.errors import GeodesicError
from tests.adapters.cells import branching

scvi = pytest.importorskip("scvi", reason="scvi-tools is not installed: `make adapters` has it")


@pytest.fixture(autouse=True)
def _default_precision() -> None:
    torch.set_default_dtype(torch.float32)  # scvi-tools makes its models in the default one


def trained(kind: Any, adata: Any, epochs: int = 1, setup: dict[str, Any] | None = None, **options: Any) -> Any:
    kind.setup_anndata(adata, **{"batch_key": "donor", **(setup or {})})
    scvi.settings.seed = 0
    model = kind(adata, **options)
    model.train(max_epochs=epochs, accelerator="cpu", enable_progress_bar=False, logger=False)
    return model


@pytest.fixture(scope="module")
def model() -> Any:
    torch.set_default_dtype(torch.float32)
    return trained(scvi.model.SCVI, branching(), epochs=100)


FAMILIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "zero-inflated": ("SCVI", {}, {}),
    "negative binomial": ("SCVI", {}, {"gene_likelihood": "nb", "n_layers": 2}),
    "Poisson": ("SCVI", {}, {"gene_likelihood": "poisson"}),
    "normal": ("SCVI", {}, {"gene_likelihood": "normal"}),
    "a dispersion for each batch": ("SCVI", {}, {"dispersion": "gene-batch"}),
    "a dispersion for each label": ("SCVI", {"labels_key": "branch"}, {"dispersion": "gene-label"}),
    "a latent library": ("SCVI", {}, {"use_observed_lib_size": False}),
    "size factors": ("SCVI", {"size_factor_key": "size"}, {}),
    "embedded batches": ("SCVI", {}, {"batch_representation": "embedding"}),
    "layer normalization": ("SCVI", {}, {"use_layer_norm": "both", "use_batch_norm": "none"}),
    "covariates": ("SCVI", {"categorical_covariate_keys": ["sex"], "continuous_covariate_keys": ["age"]}, {}),
    "linear": ("LinearSCVI", {}, {"n_latent": 3}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_decoder_generates_what_the_model_does(family: str) -> None:
    kind, setup, options = FAMILIES[family]
    made = trained(getattr(scvi.model, kind), branching(60, 12), setup=setup, **options)
    given: dict[str, Any] = {"a dispersion for each label": {"branch": "right"}, "covariates": {"sex": "m", "age": 0.3}}
    decoder = from_scvi(made, batch="ben", library=700, covariates=given.get(family))
    z = torch.randn(5, made.module.n_latent)
    ones = torch.ones(5, 1)
    conditions = {"library": (700 * ones).log(), "batch_index": ones.long(), "y": ones.long()}
    if family == "covariates":
        conditions |= {"cont_covs": 0.3 * ones, "cat_covs": ones.long()}
    if family == "size factors":
        conditions["size_factor"] = conditions["library"]
    made.module.eval()
    with torch.no_grad():
        px = made.module.generative(z, **conditions)["px"]
    mu = px.rate if family == "Poisson" else px.loc if family == "normal" else px.mu
    torch.testing.assert_close(decoder.mean(z), mu, rtol=1e-4, atol=1e-5)
    if family not in ("Poisson", "normal"):
        r = px.theta.expand_as(mu)
        torch.testing.assert_close(
            decoder.outputs.embed(decoder(z)), 2 * r.sqrt() * torch.arcsinh((mu / r).sqrt()), rtol=1e-4, atol=1e-5
        )


def test_scanvi_is_a_model_of_cells_too() -> None:
    kind = scvi.model.SCANVI
    kind.setup_anndata(adata := branching(60, 12), labels_key="branch", unlabeled_category="?", batch_key="donor")
    made = kind(adata)
    made.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False, logger=False)
    assert from_scvi(made, batch="anna").names == tuple(adata.var_names)


def test_pairs_of_cells_converge_by_default(model: Any) -> None:
    z = model.get_latent_representation()
    solution = geodesic.solve(from_scvi(model, batch="anna").manifold(), z[:32], z[32:64])
    assert solution.converged.all(), solution.summary()
    assert solution.resolved.all(), solution.summary()
    assert (solution.length < solution.straight_length).all()


def test_a_folder_with_its_cells_gives_the_same_decoder(model: Any, tmp_path: Path) -> None:
    z = torch.as_tensor(model.get_latent_representation()[:3])
    model.save(str(tmp_path / "with"), save_anndata=True)
    again = from_scvi(str(tmp_path / "with"), batch="ben")
    torch.testing.assert_close(again(z), from_scvi(model, batch="ben")(z))
    model.save(str(tmp_path / "without"))
    with pytest.raises(GeodesicError, match="library: the model holds no cells"):
        from_scvi(tmp_path / "without", batch="ben")
    library = float(np.median(np.asarray(model.adata.X).sum(axis=1)))
    torch.testing.assert_close(from_scvi(tmp_path / "without", batch="ben", library=library)(z), again(z))
    torch.testing.assert_close(from_scvi(tmp_path / "without", batch="ben", cells=branching())(z), again(z))
    with pytest.raises(GeodesicError, match=r"could not be loaded .*give scvi\.model\.SCVI\.load\(.*, adata\)"):
        from_scvi(tmp_path, batch="ben")


def test_cells_with_genes_in_another_order_are_refused(model: Any, tmp_path: Path) -> None:
    model.save(str(tmp_path / "saved"))
    order = np.random.default_rng(0).permutation(200)
    with pytest.raises(
        GeodesicError, match=r"cells: their genes are not .* or in another order; give adata\[:, genes\]"
    ):
        from_scvi(tmp_path / "saved", batch="ben", cells=branching()[:, order].copy())


def test_models_of_other_families_and_without_training_are_refused() -> None:
    adata = branching(60, 12)
    scvi.model.SCVI.setup_anndata(adata, batch_key="donor")
    with pytest.raises(GeodesicError, match="it was not trained"):
        from_scvi(scvi.model.SCVI(adata), batch="ben")
    scvi.model.PEAKVI.setup_anndata(adata, batch_key="donor")
    with pytest.raises(GeodesicError, match=r"expected a trained scvi\.model\.SCVI.* its module is a PEAKVAE"):
        from_scvi(scvi.model.PEAKVI(adata), batch="ben")
    with pytest.raises(GeodesicError, match="varies with z"):
        from_scvi(trained(scvi.model.SCVI, adata, dispersion="gene-cell"), batch="ben")
    with pytest.raises(GeodesicError, match=r"batch: the model knows no 'bem' .*did you mean 'ben'"):
        from_scvi(trained(scvi.model.SCVI, adata), batch="bem")
