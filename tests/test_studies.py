"""`geodesic curvature`, `mean` and `transport`: what they write is what the library computes, on the same points."""

import json
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import geodesic
from geodesic.errors import GeodesicWarning, RunFolderError, SettingsError
from geodesic.experiment import Settings
from geodesic.experiment.pairs import FilePairs
from geodesic.experiment.settings.load import settings_to_yaml
from geodesic.experiment.studies.analogies import transport_analogies
from geodesic.experiment.studies.curvature import map_curvature
from geodesic.experiment.studies.means import find_means
from geodesic.experiment.train import train
from geodesic.files import read_npz
from tests import experiments
from tests.experiments import Done, Home, refused, run

SMALL = experiments.SMALL | {
    "pairs": {"kind": "random", "count": 2},
    "geodesic": {"segments": 8},
    "curvature": {"grid": 6, "points": 5, "planes": 2},
    "mean": {"labels": [3, 5], "count": 3, "segments": 4},
    "analogy": {"triples": [[0, 1, 2], [3, 4, 5]], "segments": 8},
}
STUDIES = {"curvature": map_curvature, "mean": find_means, "transport": transport_analogies}


def settings(**changes) -> Settings:
    return Settings.model_validate_json(json.dumps(SMALL | changes))


@pytest.fixture(scope="module")
def trained(small: Home, tmp_path_factory) -> Path:
    """Runs of two VAEs, d = 2 and d = 3."""
    runs = Path(shutil.copytree(small.folder / "runs", tmp_path_factory.mktemp("studies") / "runs"))
    train(solid(), runs, progress=False)
    return runs


@pytest.fixture(scope="module")
def said(trained, tmp_path_factory) -> dict[str, Done]:
    """What each command says of the first."""
    file = tmp_path_factory.mktemp("config") / "small.yaml"
    file.write_text(json.dumps(SMALL))
    return {name: run(name, file, "--runs", trained) for name in STUDIES}


@pytest.fixture
def runs(trained, said) -> Path:
    """The same runs, with a study of each kind of the first."""
    assert [done.status for done in said.values()] == [0, 0, 0], said
    return trained


def solid(**changes) -> Settings:
    training = SMALL["training"] | {"importance_samples": 0, "picture_every": None}
    return settings(name="solid", model=SMALL["model"] | {"latent_size": 3}, training=training, **changes)


@pytest.fixture
def manifold(runs):
    vae = geodesic.VAE.load(runs / "small").double().requires_grad_(False)
    return geodesic.PullbackManifold(vae.decode, geodesic.outputs.Euclidean(mean=torch.sigmoid))


def arrays(runs: Path, name: str) -> dict[str, torch.Tensor]:
    return {
        key: torch.as_tensor(a) if a.dtype.kind in "fib" else a for key, a in read_npz(runs / f"{name}.npz").items()
    }


@pytest.fixture
def linear(tmp_path, monkeypatch):
    """Settings of a linear decoder of one's own, on two coordinates, whose encoder is exact on its image."""
    (tmp_path / "own_linear.py").write_text(
        "import torch\n"
        "torch.manual_seed(0)\n"
        "basis = torch.linalg.qr(torch.randn(64, 2, dtype=torch.float64)).Q * torch.tensor([3.0, 0.5])\n"
        "class Linear(torch.nn.Module):\n"
        "    def __init__(self, matrix):\n"
        "        super().__init__()\n"
        "        self.register_buffer('matrix', matrix)\n"
        "    def forward(self, x):\n"
        "        return x.flatten(1) @ self.matrix.to(x)\n"
        "def decoder():\n"
        "    return Linear(basis.mT)\n"
        "def encoder():\n"
        "    return Linear(torch.linalg.pinv(basis).mT)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield settings(
        name="linear", model={"import": "own_linear:decoder", "encoder": "own_linear:encoder", "latent_size": 2}
    )
    sys.modules.pop("own_linear", None)


# --- curvature ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_map_is_that_of_the_library(runs, manifold, tolerance) -> None:
    found = arrays(runs / "small", "curvature")
    z = found["grid"]
    assert z.shape == (6, 6, 2)
    e1, e2 = torch.eye(2).expand(6, 6, 2, 2).unbind(2)
    expected = geodesic.sectional_curvature(manifold, z, e1, e2)
    torch.testing.assert_close(found["grid_curvature"], expected, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(
        found["grid_log_volume"], geodesic.riemannian.log_volume(manifold, z), **tolerance(z.dtype)
    )


@pytest.mark.slow
def test_the_map_covers_most_encodings_and_the_margin(runs) -> None:
    found = arrays(runs / "small", "curvature")
    low, high = np.quantile(found["encodings"].numpy(), [0.01, 0.99], axis=0)
    np.testing.assert_allclose(found["grid"][0, 0], low - 0.1 * (high - low), rtol=1e-12)
    np.testing.assert_allclose(found["grid"][-1, -1], high + 0.1 * (high - low), rtol=1e-12)


@pytest.mark.slow
def test_what_is_measured_at_encodings_is_that_of_the_library(runs, manifold, tolerance) -> None:
    found = arrays(runs / "small", "curvature")
    z = found["points"]
    torch.testing.assert_close(z, found["encodings"][found["rows"]])
    close = tolerance(z.dtype)
    for name in ("log_volume", "condition_number", "anisotropy"):
        torch.testing.assert_close(
            found[name],
            getattr(geodesic if hasattr(geodesic, name) else geodesic.riemannian, name)(manifold, z),
            **close,
        )
    u, v = found["planes"][:, 0].unbind(1)
    assert found["curvature"].shape == (5, 1)
    expected = geodesic.sectional_curvature(manifold, z, u, v)
    torch.testing.assert_close(found["curvature"][:, 0], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
def test_planes_are_spanned_by_vectors_that_the_metric_calls_orthonormal(runs) -> None:
    found = map_curvature(solid(), runs, name="planes").arrays
    vae = geodesic.VAE.load(runs / "solid").double().requires_grad_(False)
    manifold = geodesic.PullbackManifold(vae.decode, geodesic.outputs.Euclidean(mean=torch.sigmoid))
    planes, z = torch.as_tensor(found["planes"]), torch.as_tensor(found["points"])
    assert planes.shape == (5, 2, 2, 3)
    gram = planes @ manifold.metric_tensor(z)[:, None] @ planes.mT
    torch.testing.assert_close(gram, torch.eye(2).expand_as(gram), rtol=0, atol=1e-9)
    u, v = planes.unbind(2)
    expected = geodesic.sectional_curvature(manifold, z[:, None].expand_as(u).contiguous(), u, v)
    np.testing.assert_allclose(found["curvature"], expected, rtol=1e-8)


@pytest.mark.slow
def test_more_dimensions_have_histograms_and_no_map(runs) -> None:
    found = map_curvature(solid(), runs)
    assert [file.name for file in found.pictures] == ["histograms.png"]
    assert found.pictures[0].stat().st_size > 10_000
    assert not {"grid", "grid_curvature", "paths"} & found.arrays.keys()


@pytest.mark.slow
def test_the_geodesics_on_the_map_are_those_of_the_pairs(runs, manifold) -> None:
    found = arrays(runs / "small", "curvature")
    assert found["paths"].shape == (2, 101, 2)
    assert found["converged"].all()
    start, end = found["paths"][:, 0], found["paths"][:, -1]
    length = geodesic.solve(manifold, start, end, segments=8).length
    torch.testing.assert_close(geodesic.path_length(manifold, found["paths"]), length, rtol=1e-4, atol=0)


@pytest.mark.slow
def test_a_linear_decoder_is_flat_and_it_is_said(linear, tmp_path) -> None:
    with pytest.warns(GeodesicWarning, match="all curvatures are exactly 0"):
        found = map_curvature(linear, tmp_path)
    assert not found.arrays["curvature"].any()
    assert not found.arrays["grid_curvature"].any()
    np.testing.assert_allclose(found.arrays["grid_log_volume"], np.log(1.5))
    np.testing.assert_allclose(found.arrays["condition_number"], 36)


@pytest.mark.slow
def test_points_with_a_singular_metric_are_left_out_and_counted(linear, tmp_path) -> None:
    source = tmp_path / "own_linear.py"
    # Constant where z_1 < 0.
    clamped = "return torch.cat([x[:, :1].clamp_min(0) ** 3, x[:, 1:]], 1) @ self.matrix.to(x)"
    source.write_text(source.read_text() + f"class Clamped(Linear):\n    def forward(self, x):\n        {clamped}\n")
    source.write_text(source.read_text() + "def clamped():\n    return Clamped(basis.mT)\n")
    model = {"import": "own_linear:clamped", "encoder": "own_linear:encoder", "latent_size": 2}
    chosen = settings(name="clamped", model=model, curvature=SMALL["curvature"] | {"grid": 8, "margin": 1.0})
    points = tmp_path / "points.npz"
    np.savez(points, start=np.array([[1.0, 0.0]]), end=np.array([[2.0, 1.0]]))
    chosen = chosen.model_copy(update={"pairs": FilePairs(str(points))})
    with pytest.warns(GeodesicWarning) as caught:
        found = map_curvature(chosen, tmp_path).arrays
    singular = found["grid"][..., 0] <= 0
    assert singular.any()
    assert not singular.all()
    np.testing.assert_array_equal(np.isnan(found["grid_curvature"]), singular)
    np.testing.assert_array_equal(np.isnan(found["grid_log_volume"]), singular)
    messages = [str(warning.message) for warning in caught]
    assert any(f"at {singular.sum()} of 64 points of the map the metric is singular" in text for text in messages)


# --- means --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_means_are_those_of_the_library_and_have_no_gradient_left(runs, manifold) -> None:
    found = arrays(runs / "small", "mean")
    assert found["names"].tolist() == ["3", "5"]
    assert found["converged"].all()
    assert (found["error"] < 1e-6).all()
    for k, label in enumerate((3, 5)):
        rows = found["rows"][found["group"] == k]
        assert (found["labels"][rows] == label).all()
        points = found["encodings"][rows]
        torch.testing.assert_close(found["euclidean"][k], points.mean(0))
        if label == 5:
            continue  # one is enough
        mean = geodesic.frechet_mean(manifold, points, search=geodesic.Search(segments=4))
        torch.testing.assert_close(found["point"][k], mean.point)
        torch.testing.assert_close(found["variance"][k], mean.variance)
        apart = geodesic.distance(manifold, mean.point, points.mean(0), search=geodesic.Search(segments=4))
        torch.testing.assert_close(found["apart"][k], apart)


@pytest.mark.slow
def test_without_labels_asked_for_there_is_one_mean(runs) -> None:
    found = find_means(settings(mean={"per_label": False, "count": 2, "segments": 8}), runs, name="one").arrays
    assert found["names"].tolist() == ["all"]
    assert found["point"].shape == (1, 2)
    assert found["rows"].shape == (2,)


@pytest.mark.slow
def test_the_mean_of_a_linear_decoder_is_the_latent_mean(linear, tmp_path) -> None:
    found = find_means(linear, tmp_path).arrays
    np.testing.assert_allclose(found["point"], found["euclidean"], atol=1e-6)


# --- transport ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_answers_are_those_of_the_library(runs, manifold) -> None:
    found = arrays(runs / "small", "transport")
    a, b, c = found["encodings"][torch.tensor(SMALL["analogy"]["triples"]).T]
    torch.testing.assert_close(torch.stack([found["a"], found["b"], found["c"]]), torch.stack([a, b, c]))
    answer = geodesic.analogy(manifold, a, b, c, search=geodesic.Search(segments=8))
    for name in ("point", "vector", "transported", "path", "carried"):
        torch.testing.assert_close(found[name], getattr(answer, name))
    torch.testing.assert_close(found["along"], answer.along.path)
    torch.testing.assert_close(found["across"], answer.across.path)
    torch.testing.assert_close(found["linear"], c + b - a)
    torch.testing.assert_close(found["carried"][:, -1], answer.transported)
    # As far from c as b is from a: transport keeps lengths.
    torch.testing.assert_close(found["path_length"], found["length"], rtol=1e-2, atol=0)


@pytest.mark.slow
def test_the_analogy_of_a_linear_decoder_is_c_plus_b_minus_a(linear, tmp_path) -> None:
    found = transport_analogies(linear, tmp_path).arrays
    assert found["converged"].all()
    np.testing.assert_allclose(found["point"], found["c"] + found["b"] - found["a"], atol=1e-8)
    np.testing.assert_allclose(found["apart"], 0, atol=1e-7)


@pytest.mark.slow
def test_analogies_by_label_draw_rows_of_these_labels_that_differ(runs) -> None:
    analogy = {"from": 3, "to": 3, "target": 8, "count": 2, "segments": 4}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeodesicWarning)  # four segments are few
        found = transport_analogies(settings(analogy=analogy), runs, name="labels").arrays
    assert found["labels"][found["rows"]].tolist() == [[3, 3, 8]] * 2
    assert all(len(set(row)) == 3 for row in found["rows"].tolist())


# --- files --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_study_leaves_results_settings_and_pictures(runs) -> None:
    folder = runs / "small"
    pictures = {
        "curvature": {"curvature.png", "histograms.png", "magnification.png"},
        "mean": {"latent.png", "means.png"},
        "transport": {"answers.png"} | {f"{name}_{k:03d}.png" for name in ("latent", "strip") for k in (0, 1)},
    }
    for name, expected in pictures.items():
        assert geodesic.load_settings(folder / f"{name}.yaml") == settings()
        files = list((folder / "figures" / name).iterdir())
        assert {file.name for file in files} == expected
        assert min(file.stat().st_size for file in files) > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_results_and_pictures_are_kept_unless_one_asks_otherwise(runs, name: str) -> None:
    file = runs / "small" / f"{name}.npz"
    before = file.read_bytes()
    with pytest.raises(RunFolderError, match="--overwrite"):
        STUDIES[name](settings(), runs)
    aside = file.rename(file.with_suffix(".aside"))
    with pytest.raises(RunFolderError, match=f"figures/{name} exists already"):
        STUDIES[name](settings(), runs)
    aside.rename(file)
    assert file.read_bytes() == before


@pytest.mark.slow
def test_results_are_replaced_when_asked_and_old_pictures_go(runs) -> None:
    pictures = runs / "solid" / "figures" / "again"
    pictures.mkdir(parents=True)
    (pictures / "old.png").touch()
    (runs / "solid" / "again.npz").touch()
    found = map_curvature(solid(), runs, name="again", overwrite=True)
    assert len(read_npz(found.file)["rows"]) == 5
    assert [file.name for file in pictures.iterdir()] == ["histograms.png"]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("study", "changes", "message"),
    [
        ("mean", {"mean": {"labels": [3, 12]}}, r"mean.labels: no test row has label 12; present: \[0, 1"),
        ("mean", {"mean": {"count": 360}}, r"mean.count \(label 0\): got 360, and there are \d+ rows; take as many"),
        ("curvature", {"curvature": {"points": 360}}, "curvature.points: got 360, and there are 359 rows"),
        ("transport", {"analogy": {"triples": [[0, 1, 360]]}}, r"analogy.triples.0: got \[0, 1, 360\]; .* 0 to 358"),
        ("transport", {"analogy": {"from": 1, "to": 2, "target": 12}}, "analogy.target: no test row has label 12"),
        *(
            (study, {"geodesic": {"members": "independent"}}, "geodesic.members: got 'independent'; .* no length")
            for study in STUDIES
        ),
    ],
)
def test_what_cannot_be_studied_is_refused_with_the_key(trained, study: str, changes: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        STUDIES[study](settings(**changes), trained, name="refused")
    assert not list((trained / "small").glob("refused*"))


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_needs_an_encoder(linear, tmp_path, study: str) -> None:
    model = linear.model.model_copy(update={"encoder": None})
    with pytest.raises(SettingsError, match=r"model\.encoder: none is given"):
        STUDIES[study](linear.model_copy(update={"model": model}), tmp_path)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"curvature": {"grid": 1}}, "grid"),
        ({"curvature": {"margin": -0.1}}, "margin"),
        ({"mean": {"count": 1}}, "count"),
        ({"mean": {"labels": [1, 1]}}, "each label once"),
        ({"mean": {"method": "exact"}}, "method"),
        ({"analogy": {"triples": []}}, "triples"),
        ({"analogy": {"triples": [[0, 1]]}}, "triples"),
        ({"analogy": {"from": 3}}, "got from alone; expected labels from, to and target"),
        ({"analogy": {"from": 1, "to": 2, "target": 3, "triples": [[0, 1, 2]]}}, "leave out from, to and target"),
        ({"analogy": {"transport": "ladder"}}, "transport"),
    ],
)
def test_settings_out_of_range_are_refused(section: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**section)


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_tables_say_what_was_found(runs, said) -> None:
    assert [done.err for done in said.values()] == ["", "", ""]
    median = np.median(read_npz(runs / "small" / "curvature.npz")["grid_curvature"])
    (line,) = [line for line in said["curvature"].out.splitlines() if "Gaussian curvature" in line]
    assert f"{median:.4g}" in line
    variances = read_npz(runs / "small" / "mean.npz")["variance"]
    assert all(f"{variance:.4f}" in said["mean"].out for variance in variances)
    assert "3 : 4 : 5" in said["transport"].out
    for name, done in said.items():
        assert f"wrote {runs}/small/{name}.npz and " in done.out


@pytest.mark.slow
def test_warnings_are_lines_on_stderr(linear, tmp_path) -> None:
    (tmp_path / "linear.yaml").write_text(settings_to_yaml(linear))
    done = run("curvature", tmp_path / "linear.yaml", "--runs", tmp_path / "runs")
    assert done.status == 0
    assert done.err.startswith("geodesic: warning: curvature: all curvatures are exactly 0")
    assert len(done.err.splitlines()) == 1


@pytest.mark.slow
def test_the_command_line_refuses_with_one_message(runs, tmp_path) -> None:
    (tmp_path / "small.yaml").write_text(json.dumps(SMALL))
    given = [tmp_path / "small.yaml", "--runs", runs]
    refused(run("curvature", *given), 1, "exists already", "--overwrite")
    refused(run("mean", *given, "mean.label=3"), 2, "mean.label", "did you mean 'labels'?")
    refused(run("transport", *given, "analogy.to=3"), 2, "got to alone")
    refused(run("curvature", *given, "name=other"), 1, "geodesic train")


@pytest.mark.parametrize("command", STUDIES)
def test_help_shows_an_example(command: str) -> None:
    assert f"Example: geodesic {command}" in run(command, "--help").out
