"""`from_pythae` on models of pythae."""

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest
import torch

import geodesic
from geodesic import outputs
from geodesic.adapters import from_pythae
from geodesic.errors import GeodesicError

models = pytest.importorskip("pythae.models", reason="pythae is not installed: `make adapters` has it")

SHAPE = (1, 8, 8)
KINDS = (
    "AE",
    "Adversarial_AE",
    "BetaTCVAE",
    "BetaVAE",
    "CIWAE",
    "DisentangledBetaVAE",
    "FactorVAE",
    "HVAE",
    "INFOVAE_MMD",
    "IWAE",
    "MIWAE",
    "MSSSIM_VAE",
    "PIWAE",
    "PoincareVAE",
    "RAE_GP",
    "RAE_L2",
    "RHVAE",
    "SVAE",
    "VAE",
    "VAEGAN",
    "VAE_IAF",
    "VAE_LinNF",
    "VAMP",
    "VQVAE",
    "WAE_MMD",
)


@pytest.fixture(autouse=True)
def _default_precision() -> None:
    torch.set_default_dtype(torch.float32)


def configured(kind: str, **options: Any) -> Any:
    names = (f"{kind}Config", f"{kind}_Config")
    config = next(getattr(models, name) for name in names if hasattr(models, name))
    return getattr(models, kind)(config(input_dim=SHAPE, latent_dim=2, **options))


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_of_pythae_comes_to_a_solution_that_has_converged(kind: str) -> None:
    model = configured(kind)
    decoder = from_pythae(model)
    z = torch.tensor([[0.3, -0.4], [-0.5, 0.2]])
    torch.testing.assert_close(decoder(z), model.decoder(z).reconstruction.detach())
    assert geodesic.solve(decoder.manifold(), z[0], z[1]).converged


def test_a_trained_model_from_its_folder_comes_to_geodesics_by_default(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = (torch.rand(200, 2, 1) * torch.rand(2, 64)).sum(1).reshape(-1, *SHAPE) / 2
    model = configured("VAE", reconstruction_loss="bce")
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(200):
        optimizer.zero_grad()
        model({"data": x}).loss.backward()
        optimizer.step()
    with contextlib.redirect_stdout(io.StringIO()):
        model.save(str(tmp_path))
    decoder = from_pythae(tmp_path)
    assert decoder.outputs == outputs.FisherRaoBernoulli("probabilities")
    z = model.encoder(x[:32]).embedding.detach()
    solution = geodesic.solve(decoder.manifold(), z[:16], z[16:])
    assert solution.converged.all(), solution.summary()


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GeodesicError, match=r"could not be loaded .*give pythae\.models\.AutoModel\.load_from_folder"):
        from_pythae(tmp_path)
