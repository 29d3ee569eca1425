"""A class that registers itself can be named in YAML, with no other line: its fields are its settings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic import load_settings
from geodesic.checks import require_integer
from geodesic.data import Split
from geodesic.data.dataset import Dataset
from geodesic.data.source import DATA_SETS, DataSource
from geodesic.errors import InputError, SettingsError
from geodesic.experiment.build import make_manifold, make_solver, new_vae
from geodesic.experiment.geometries import GEOMETRIES, Context, Geometry
from geodesic.experiment.model import Model, model_of
from geodesic.experiment.pairs import PAIRS, RowPairs
from geodesic.experiment.settings.load import settings_to_yaml
from geodesic.experiment.settings.whole import Settings
from geodesic.geometry.outputs import OUTPUT_GEOMETRIES, OutputGeometry
from geodesic.models.likelihoods import LIKELIHOODS, Bernoulli
from geodesic.models.networks.network import NETWORKS, Network
from geodesic.models.uncertainty import UNCERTAINTIES, BlendUncertainty
from geodesic.registry import Registry, setting
from geodesic.solvers.gradient_descent import GradientDescent
from geodesic.solvers.solver import SOLVERS

REGISTRIES = (LIKELIHOODS, NETWORKS, UNCERTAINTIES, DATA_SETS, SOLVERS, OUTPUT_GEOMETRIES, GEOMETRIES, PAIRS)

TEXT = """
name: toys
data: {kind: toy_rows, rows: 12}
model:
  network: {kind: toy_affine, flip: true}
  likelihood: {kind: toy_likelihood, levels: [1, 2]}
  uncertainty: toy_blend
pairs: {kind: toy_neighbors, from: 3}
geodesic:
  geometry: {kind: toy_scaled, factor: 3.0}
  solvers: [{name: mine, kind: toy_descent, care: 2, haste: no}]
"""


@dataclass(frozen=True)
class ToyLikelihood(Bernoulli):
    levels: tuple[int, ...] = field(default=(), metadata=setting("of nothing"))

    def __post_init__(self) -> None:
        for level in self.levels:
            require_integer("levels", level, least=1)


@dataclass(frozen=True)
class ToyNetwork(Network):
    flip: bool = field(default=False, metadata=setting("whether signs change"))

    def encoder(self, event_shape: tuple[int, ...], latent_size: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(event_shape).numel(), 2 * latent_size))

    def decoder(self, latent_size: int, shape: tuple[int, ...]) -> nn.Module:
        affine = nn.Linear(latent_size, torch.Size(shape).numel())
        with torch.no_grad():
            affine.weight.mul_(-1 if self.flip else 1)
        return nn.Sequential(affine, nn.Unflatten(1, tuple(shape)))


@dataclass(frozen=True)
class ToyBlend(BlendUncertainty):
    pass


@dataclass(frozen=True)
class ToyRows(DataSource):
    rows: int = field(metadata=setting("how many", ge=2))

    def read(self) -> Dataset:
        values = torch.linspace(0, 1, 6 * self.rows, dtype=torch.float32).reshape(self.rows, 6)
        return Dataset(Split(values[2:], None), Split(values[:2], None))


@dataclass(frozen=True)
class ToyDescent(GradientDescent):
    care: int = field(default=1, metadata=setting("how careful", gt=0))
    haste: float | None = field(default=0.5, metadata=setting("whether in a hurry", words={True: 0.5, False: None}))


@dataclass(frozen=True)
class ToyScaled(OutputGeometry):
    factor: float = field(default=1.0, metadata=setting("of all lengths", gt=0))

    def embed(self, parameters: Tensor) -> Tensor:
        return self.factor * parameters.flatten(1)


@dataclass(frozen=True)
class ToyOwn(Geometry):
    """A geometry of the latent space itself."""

    def build(self, context: Context) -> geodesic.Manifold:
        return geodesic.PullbackManifold(lambda z: 2 * z)


@dataclass(frozen=True)
class ToyNeighbors(RowPairs):
    from_: int = field(metadata=setting("the first row", ge=0, alias="from"))

    def rows(self, test: Split) -> Sequence[Sequence[int]]:
        raise NotImplementedError


TOYS: dict[str, tuple[Registry, type]] = {
    "toy_likelihood": (LIKELIHOODS, ToyLikelihood),
    "toy_affine": (NETWORKS, ToyNetwork),
    "toy_blend": (UNCERTAINTIES, ToyBlend),
    "toy_rows": (DATA_SETS, ToyRows),
    "toy_descent": (SOLVERS, ToyDescent),
    "toy_scaled": (OUTPUT_GEOMETRIES, ToyScaled),
    "toy_own": (GEOMETRIES, ToyOwn),
    "toy_neighbors": (PAIRS, ToyNeighbors),
}


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toys are registered for one test only: what is said here is all that it takes."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    for kind, (registry, cls) in TOYS.items():
        registry.register(kind)(cls)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "toys.yaml"
    file.write_text(TEXT)
    return file


@pytest.fixture
def settings(file: Path) -> Settings:
    return load_settings(file)


def test_settings_hold_the_objects_that_they_name(settings: Settings) -> None:
    assert settings.data == ToyRows(rows=12)
    assert settings.model.network == ToyNetwork(flip=True)
    assert settings.model.likelihood == ToyLikelihood((1, 2))
    assert settings.model.uncertainty == ToyBlend()
    assert settings.pairs == ToyNeighbors(3)
    assert settings.geodesic.geometry == ToyScaled(3.0)


def test_yaml_written_from_them_reads_back_the_same(settings: Settings, file: Path) -> None:
    text = settings_to_yaml(settings)
    file.write_text(text)
    assert load_settings(file) == settings
    assert "from: 3\n" in text
    assert "haste: false\n" in text


def test_a_model_a_manifold_and_a_solver_come_of_them(settings: Settings, tmp_path: Path) -> None:
    assert settings.data is not None
    dataset = settings.data.load()
    vae = new_vae(settings.model, dataset.event_shape, settings.seed)
    assert isinstance(vae.likelihood, ToyLikelihood)
    vae.save(tmp_path)
    assert geodesic.VAE.load(tmp_path).network == ToyNetwork(flip=True)
    model = model_of(vae.double().requires_grad_(False))
    manifold = make_manifold(settings.geodesic, Context(model, torch.device("cpu"), torch.float64, lambda: None))
    solver = make_solver(settings.geodesic.solvers[0], model, settings.geodesic)
    assert (solver.care, solver.haste) == (2, None)
    # The decoder is affine: lengths are those of the straight line, three times.
    z = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    solution = geodesic.solve(manifold, z[0], z[1], solver=solver, segments=4)
    torch.testing.assert_close(solution.length, 3 * vae.decode(z).flatten(1).diff(dim=0).norm(dim=1).squeeze(0))


def test_a_geometry_that_is_no_geometry_of_outputs_can_be_named_too(file: Path) -> None:
    search = load_settings(file, ["geodesic.geometry=toy_own"]).geodesic
    model = Model((torch.sin,), torch.sigmoid, None, 2)  # it looks at none
    context = Context(model, torch.device("cpu"), torch.float64, lambda: None)
    assert search.geometry.build(context).metric_tensor(torch.zeros(1, 2)).tolist() == [[[4.0, 0.0], [0.0, 4.0]]]


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("data.rows=1", "data.rows: got 1; expected a number greater than or equal to 2"),
        ("data.row=3", "data.row: unknown key (value 3); did you mean 'rows'? allowed: kind, limit, rows, seed"),
        ("data={kind: toy_rows}", "data.rows: this key is required and was not given"),
        ("data.kind=toy_row", "did you mean 'toy_rows'?"),
        ("model.network.flip=1", "model.network.flip: got 1; expected true or false"),
        ("model.likelihood.levels=[1, two]", "model.likelihood.levels.1: got 'two'; expected an integer"),
        # Refused by the class itself, at its key.
        ("model.likelihood.levels=[1, 0]", "model.likelihood.levels: expected an integer of at least 1, got 0"),
        ("geodesic.solvers.0.haste=0.5", "geodesic.solvers.0.haste: got 0.5; expected true or false"),
        ("geodesic.solvers.0.care=0", "geodesic.solvers.0.care: got 0; expected a number greater than 0"),
        ("geodesic.geometry.factor=0", "geodesic.geometry.factor: got 0; expected a number greater than 0"),
        ("pairs={kind: toy_neighbors, from_: 3}", "pairs.from: this key is required and was not given"),
    ],
)
def test_what_is_refused_is_told_as_for_any_other_setting(file: Path, override: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(file, [override])
    assert complaint in str(caught.value)


def test_a_word_is_taken_once(file: Path) -> None:
    with pytest.raises(InputError, match="is taken by ToyRows"):
        DATA_SETS.register("toy_rows")(ToyBlend)
