"""Models of the user's own by the command line: imported by name, with weights of any format, solved and drawn."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import geodesic
from geodesic.errors import SettingsError
from geodesic.experiment.build import load_model
from geodesic.experiment.run import open_run
from geodesic.experiment.settings.load import load_settings
from geodesic.experiment.settings.model import ImportedModelSettings
from tests.experiments import refused, run
from tests.foreign import exported

MODELS = """
import torch
from torch import nn

class VAE(nn.Module):
    def __init__(self, hidden, scale=1.0):
        super().__init__()
        self.encoder, self.scale = nn.Linear(64, 2), scale
        self.decoder = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 64))

    def encode(self, x):
        return self.encoder(x.flatten(1))

    def decode(self, z):
        return self.decoder(self.scale * z).sigmoid()

class Decoder(nn.Module):
    def __init__(self, hidden=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 64))

    def forward(self, z):
        return torch.distributions.Bernoulli(logits=self.layers(z))

def encoder():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a user's module, weights and points."""
    monkeypatch.syspath_prepend(str(tmp_path))
    with contextlib.chdir(tmp_path):
        Path("foreign_models.py").write_text(MODELS)
        import foreign_models

        monkeypatch.delitem(__import__("sys").modules, "foreign_models")
        for k in range(2):
            torch.manual_seed(k)
            torch.save({"state_dict": foreign_models.VAE(8).float().state_dict()}, f"vae{k}.ckpt")
            decoder = {f"model.{name}": x for name, x in foreign_models.Decoder().state_dict().items()}
            torch.save(decoder, f"decoder{k}.pt")
        np.savez("points.npz", start=np.array([[0.0, 0.0]]), end=np.array([[2.0, 0.0]]))
        yield tmp_path


VAE = {"import": "foreign_models:VAE", "arguments": {"hidden": 8}, "weights": "vae0.ckpt"}
DECODER = {"import": "foreign_models:Decoder", "weights": ["decoder0.pt", "decoder1.pt"], "prefix": "model."}


def config(model: dict[str, object], **more: object) -> str:
    settings = {"name": "own", "device": "cpu", "model": model, "pairs": {"kind": "file", "path": "points.npz"}}
    Path("own.yaml").write_text(yaml.safe_dump(settings | {"geodesic": {"segments": 8}} | more))
    return "own.yaml"


@pytest.mark.slow
def test_an_ensemble_of_files_is_solved_and_drawn_in_its_own_geometry(home: Path) -> None:
    file = config(DECODER | {"image_shape": [8, 8]}, geodesic={"segments": 4, "geometry": "natural"})
    for arguments in (("solve", file), ("plot", "runs/own")):
        done = run(*arguments)
        assert (done.status, done.err) == (0, ""), done
    with np.load("runs/own/geodesics.npz") as arrays:
        assert arrays["auto/converged"].all()
    assert Path("runs/own/figures/geodesics/strip_000.png").is_file()
    with open_run(load_settings(file), Path("runs/own")) as opened:
        assert opened.decode(np.zeros((3, 2))).shape == (3, 8, 8)


@pytest.mark.slow
def test_a_program_needs_no_class(home: Path) -> None:
    torch.export.save(exported(), "program.pt2")
    assert run("solve", config({"weights": "program.pt2"})).status == 0
    with np.load("runs/own/geodesics.npz") as arrays:
        assert arrays["auto/converged"].all()


@pytest.mark.slow
def test_studies_take_a_model_of_ones_own_and_draw_its_rows_as_its_means(home: Path) -> None:
    encoded = VAE | {"encoder": "foreign_models:encoder", "image_shape": [1, 8, 8]}
    file = config(encoded, data={"kind": "digits", "limit": 60}, pairs={"kind": "random", "count": 2})
    done = run("mean", file, "mean.count=2", "mean.labels=[1]", "mean.segments=2")
    assert done.status == 0, done
    assert Path("runs/own/figures/mean/means.png").is_file()


def model(home: Path, **settings: object):
    found = ImportedModelSettings.model_validate(settings)
    return load_model(found, home, torch.device("cpu"), torch.float64)


def test_flat_outputs_are_pictured_in_the_shape_of_images(home: Path) -> None:
    made, z = model(home, **VAE, image_shape=[1, 8, 8]), torch.zeros(3, 2)
    assert made.mean(z).shape == (3, 64)
    assert made.pictured(made.mean(z)).shape == (3, 1, 8, 8)
    assert made.pictured(torch.zeros(3, 5)).shape == (3, 5)


def test_several_files_are_an_ensemble_of_what_they_hold(home: Path) -> None:
    made, z = model(home, **DECODER), torch.randn(3, 2)
    assert (len(made.decoders), made.latent_size) == (2, 2)
    import foreign_models

    for decoder, file in zip(made.decoders, DECODER["weights"], strict=True):
        alone = geodesic.load_weights(foreign_models.Decoder(), file)
        assert torch.equal(decoder(z), alone.layers(z).detach())
    assert made.natural == geodesic.outputs.FisherRaoBernoulli("logits")


REFUSED = {
    "no such module": ({"import": "foreign_model:VAE"}, "model.import: 'foreign_model' of .* could not be imported"),
    "no such class": ({"import": "foreign_models:Vae"}, "model.import: .* has no 'Vae'; did you mean 'VAE'"),
    "no arguments": (
        {"import": "foreign_models:VAE"},
        r"could not be called \(without arguments\): .*'hidden'; what it takes goes to `arguments`",
    ),
    "a wrong argument": (VAE | {"arguments": {"hiden": 8}}, r"could not be called \(hiden\)"),
    "no such method": (VAE | {"method": "decod"}, "method: VAE has no method 'decod'; did you mean 'decode'"),
    "another shape of images": (
        VAE | {"image_shape": [1, 28, 28]},
        r"model.image_shape: expected a shape of 64 numbers, as outputs of shape .* have, got \(1, 28, 28\)",
    ),
    "a likelihood of a distribution": (
        DECODER | {"likelihood": "poisson"},
        "model.likelihood: .*Bernoulli distributions.* says what its outputs are; leave likelihood out",
    ),
    "weights without a module": (
        {"import": "math:sqrt", "arguments": {}, "weights": "vae0.ckpt"},
        r"could not be called \(without arguments\)",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_made_is_refused_with_the_key_and_the_way_out(home: Path, what: str) -> None:
    settings, message = REFUSED[what]
    with pytest.raises(SettingsError, match=message):
        model(home, **settings)


@pytest.mark.parametrize(
    ("settings", "status", "words"),
    [
        (VAE | {"weights": "decoder0.pt"}, 1, ["decoder0.pt", "encoder.weight is missing"]),
        (VAE | {"weights": "points.npz"}, 1, ["points.npz", "no file of torch.save"]),
        ({"weights": "missing.pt2"}, 1, ["missing.pt2", "no such file"]),
        ({"weights": "damaged.pt2"}, 1, ["damaged.pt2", "no program of torch.export"]),
    ],
)
def test_the_command_line_says_what_is_wrong_with_a_model(home, settings, status: int, words: list[str]) -> None:
    Path("damaged.pt2").write_bytes(b"damaged")
    refused(run("solve", config(settings)), status, *words)
    assert not Path("runs/own").exists()


def test_natural_is_the_geometry_of_decoders_that_say_what_they_return(home: Path) -> None:
    refused(run("solve", config(VAE | {"likelihood": "bernoulli"}), "geodesic.geometry=natural"), 2, "use fisher_rao")
