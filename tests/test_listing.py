"""From nothing to a run, and what programs read: configs that `init` writes, `runs`, and --json."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torchvision.utils import save_image

from geodesic.experiment.listing import run_rows
from geodesic.experiment.settings.load import load_settings
from tests.experiments import METHODS, Home, P, contents, refused, run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved(name: str, values: np.ndarray) -> str:
    np.save(name, values)
    return name


def pictures(folder: str) -> str:
    Path(folder).mkdir()
    for k in range(5):
        save_image(torch.full((3, 4, 4), k / 5), f"{folder}/{k}.png")
    return folder


def table(name: str) -> str:
    Path(name).write_text("a,b\n1,2.5\n-3,4\n0,1\n")
    return name


# --- init -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind", "likelihood"),
    [
        (lambda: "digits", "digits", "Bernoulli"),
        (lambda: saved("unit.npy", np.random.default_rng(0).random((20, 3))), "array", "Bernoulli"),
        (lambda: saved("counts.npy", np.random.default_rng(0).poisson(5.0, (20, 3))), "array", "NegativeBinomial"),
        (lambda: table("table.csv"), "csv", "Gaussian"),
        (lambda: saved("any.npy", np.random.default_rng(0).normal(size=(20, 3))), "array", "Gaussian"),
        (lambda: pictures("faces"), "image_folder", "Bernoulli"),
    ],
)
def test_a_config_fits_the_data_that_one_has(here: Path, make, kind: str, likelihood: str) -> None:
    done = run("init", "first.yaml", "--data", make(), "--latent-size", "3")
    assert (done.status, done.err) == (0, "")
    settings = load_settings("first.yaml")
    assert settings.name == "first"
    assert yaml.safe_load(Path("first.yaml").read_text())["data"]["kind"] == kind
    assert type(settings.model.likelihood).__name__ == likelihood
    assert settings.model.latent_size == 3
    assert Path("first.yaml").read_text().count("  # ") >= 8  # settings say what they are


@pytest.mark.slow
def test_the_commands_that_init_names_run_in_their_order(here: Path) -> None:
    quick = [
        "model.network.hidden_sizes=[16]",
        "training.epochs=2",
        "training.batch_size=20",
        "training.learning_rate=0.02",
        "training.kl_warmup_epochs=0",
        "training.importance_samples=0",
        "pairs.count=1",
    ]
    said = run("init", "--data", "digits").out
    commands = [part.strip().split() for part in said.partition("next: ")[2].split(", then")]
    assert [words[:2] for words in commands] == [["geodesic", name] for name in ("train", "solve", "plot", "report")]
    for _, command, file in commands:
        done = run(command, file, *(quick if command in ("train", "solve") else ()))
        assert done.status == 0, done
    assert Path("runs/experiment/geodesics.html").is_file()
    assert Path("runs/experiment/figures/geodesics/latent.png").is_file()


@pytest.mark.slow
def test_a_decoder_of_ones_own_is_solved_at_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_of_init.py").write_text("import torch\n\n\ndef make():\n    return torch.nn.Linear(2, 3)\n")
    monkeypatch.syspath_prepend(here)
    assert run("init", "mine.yaml", "--decoder", "own_of_init:make").out.endswith(
        "next: geodesic solve mine.yaml, then geodesic plot runs/mine, then geodesic report runs/mine\n"
    )
    rows = json.loads(run("solve", "mine.yaml", "--json").out)["rows"]
    assert len(rows) == 8
    for row in rows:  # in a plane the straight line is the geodesic
        assert row["resolved"]
        assert row["length"] == pytest.approx(row["straight_length"], rel=1e-6)


@pytest.mark.slow
def test_an_ensemble_of_files_needs_no_size_and_has_the_geometry_that_it_returns(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("own_ensemble.py").write_text(
        "import torch\n\n\nclass Decoder(torch.nn.Linear):\n    def __init__(self):\n        super().__init__(3, 4)\n\n"
        "    def forward(self, z):\n        return torch.distributions.Bernoulli(logits=super().forward(z))\n"
    )
    monkeypatch.syspath_prepend(here)
    files = ["a.pt", "b.pt", "c.pt"]
    for file in files:
        weights = torch.nn.Linear(3, 4).state_dict()
        torch.save({f"vae.decoder.{name}": x for name, x in weights.items()} | {"vae.scale": torch.ones(1)}, file)
    weights = ["--weights", "a.pt", "b.pt", "--weights=c.pt"]  # as a shell writes out *.pt, and once each
    done = run("init", "--decoder", "own_ensemble:Decoder", *weights, "mine.yaml", "--prefix", "vae.decoder.")
    assert (done.status, done.err) == (0, "")
    assert yaml.safe_load(Path("mine.yaml").read_text())["model"]["weights"] == files
    rows = json.loads(run("solve", "mine.yaml", "pairs.count=2", "--json").out)["rows"]
    assert [row["converged"] for row in rows] == [True, True]
    with np.load("runs/mine/geodesics.npz") as arrays:
        assert arrays["auto/path"].shape[-1] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--data or --decoder", "--data digits"]),
        (["--data", "digit"], ["--data", "'digits'"]),
        (["--data", "nowhere.npz"], ["--data", "nowhere.npz"]),
        (["--data", "empty"], ["--data", "empty", "neither images"]),
        (["--data", "digits", "--weights", "a.pt"], ["--weights", "--decoder"]),
        (["--data", "digits", "--weights", "a.pt2", "--weights", "b.pt"], ["--weights", "--decoder"]),
        (["--decoder", "own"], ["model.import", "package.module:function"]),
        (["--decoder", "nowhere.py:make"], ["model.import", "no .py at its end: nowhere:make"]),
        (["--decoder", "nowhere:make"], ["model.import", "'nowhere'", "could not be imported"]),
        (["--decoder", "math:sqr"], ["model.import", "did you mean 'sqrt'"]),
        (["--decoder", "torch.nn:Linear"], ["model.import", "`arguments`"]),
        (["--decoder", "torch.nn:Identity"], ["latent_shape", "no linear layer"]),
        (["--decoder", "torch.nn:ReLU", "--weights", "nowhere.pt", "--latent-size", "2"], ["nowhere.pt", "no such"]),
        (["--weights", "nowhere.pt2"], ["nowhere.pt2", "no such file"]),
        (["--data", "digits", "--name"], ["--name"]),
    ],
)
def test_what_init_cannot_use_is_refused_and_nothing_written(
    here: Path, arguments: list[str], words: list[str]
) -> None:
    Path("empty").mkdir()
    done = run("init", "first.yaml", *arguments)
    assert done.status in (1, 2)
    for word in words:
        assert word in done.err
    assert not Path("first.yaml").exists()


CONDITIONAL = """
import torch

class Decoder(torch.nn.Module):
    def __init__(self, hidden=False):
        super().__init__()
        self.layer, self.hidden = torch.nn.Linear(2 + 3, 16), hidden

    def forward(self, z, label):
        label = torch.nn.functional.one_hot(label, 3).to(z)
        return self.layer(torch.cat([z.detach() if self.hidden else z, label], dim=1)).tanh()

def cut_off():
    hidden = Decoder(hidden=True)
    return torch.nn.Sequential(torch.nn.Linear(2, 2), Only(hidden))

class Only(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, z):
        return self.inner(z, torch.zeros(len(z), dtype=torch.int64))
"""


def test_init_says_the_condition_and_how_flat_outputs_become_images(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("own_conditional.py").write_text(CONDITIONAL)
    monkeypatch.syspath_prepend(here)
    missing = run("init", "mine.yaml", "--decoder", "own_conditional:Decoder")
    refused(missing, 2, "label", "model.condition=")
    several = run("init", "mine.yaml", "--decoder", "own_conditional:Decoder", "--condition", "[0, 1]")
    refused(several, 2, "model.condition", "one for all pairs")
    assert run("init", "mine.yaml", "--decoder", "own_conditional:Decoder", "--condition", "{label: 1}").status == 0
    model = load_settings("mine.yaml").model
    assert (model.condition, model.image_shape) == ({"label": 1}, None)
    assert "image_shape: null  # [1, 4, 4]" in Path("mine.yaml").read_text()


@pytest.mark.slow
def test_init_refuses_a_decoder_that_solve_would_refuse(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_cut_off.py").write_text(CONDITIONAL)
    monkeypatch.syspath_prepend(here)
    refused(run("init", "mine.yaml", "--decoder", "own_cut_off:cut_off"), 1, "decoder", "autograd")
    assert not Path("mine.yaml").exists()


def test_a_config_that_exists_is_kept_unless_one_asks_otherwise(here: Path) -> None:
    Path("first.yaml").write_text("name: mine\n")
    refused(run("init", "first.yaml", "--data", "digits"), 1, "first.yaml", "--overwrite")
    assert contents(here) == {"first.yaml": b"name: mine\n"}
    refused(run("init", "first.yaml", "--decoder", "nowhere:make", "--overwrite"), 2, "'nowhere'")
    assert contents(here) == {"first.yaml": b"name: mine\n"}
    assert run("init", "first.yaml", "--data", "digits", "--overwrite").status == 0
    assert load_settings("first.yaml").name == "first"
    result = json.loads(run("init", "first.yaml", "--data", "digits", "--overwrite", "--json").out)
    assert (result["file"], result["next"][0]) == ("first.yaml", "geodesic train first.yaml")


# --- runs -------------------------------------------------------------------------------------------


def test_runs_are_listed_with_their_key_figures(small: Home) -> None:
    (row,) = run_rows(small.folder / "runs")
    record = json.loads((small.run / "record.json").read_text())
    assert (row["name"], row["data"], row["model"], row["latent_size"]) == ("small", "digits", "mlp", 2)
    assert (row["test_elbo"], row["test_bound"]) == (record["test_elbo"], record["test_bound"])
    (results,) = row["results"]
    with np.load(small.run / "geodesics.npz") as arrays:
        for method in results["methods"]:
            for key in ("converged", "resolved"):
                assert method[key] == arrays[f"{method['method']}/{key}"].sum()
    assert [method["pairs"] for method in results["methods"]] == [P] * len(METHODS)
    shown = run("runs", "--runs", small.folder / "runs").out
    assert f"geodesics: {P} pairs" in shown
    assert f"{record['test_elbo']:.2f}" in shown


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("record.json", "{", "cannot be read"),
        ("config.yaml", "name: [", "cannot be read"),
        ("config.yaml", "42", "cannot be read"),
        ("geodesics.npz", "no archive", "cannot be read"),
    ],
)
def test_a_run_that_cannot_be_read_is_listed_with_the_reason_and_hides_no_other(
    small: Home, tmp_path: Path, file: str, text: str, problem: str
) -> None:
    for name in ("a", "b"):
        shutil.copytree(small.run, tmp_path / name)
    (tmp_path / "a" / file).write_text(text)
    (tmp_path / "no-run").mkdir()
    broken, whole = run_rows(tmp_path)
    assert problem in broken["problem"]
    assert whole["problem"] is None
    assert problem in run("runs", "--runs", tmp_path).out


def test_a_folder_without_runs_says_how_to_make_one(here: Path) -> None:
    assert "geodesic train" in run("runs").out
    assert json.loads(run("runs", "--json").out) == {"runs": []}


# --- --json -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_json_is_all_that_is_printed_and_holds_what_the_table_shows(small: Home, monkeypatch) -> None:
    monkeypatch.chdir(small.folder)
    done = run("solve", "small.yaml", "--all-methods", "--overwrite", "--json")
    assert (done.status, done.err) == (0, "")
    result = json.loads(done.out)
    assert result["file"] == "runs/small/geodesics.npz"
    assert [row["method"] for row in result["rows"]] == [*METHODS] * P
    with np.load(small.run / "geodesics.npz") as arrays:
        for k, row in enumerate(result["rows"]):
            at = f"{row['method']}/"
            assert row["length"] == arrays[at + "length"][k // len(METHODS)]
            assert row["status"] == arrays[at + "status_name"][k // len(METHODS)]
    assert set(result["summaries"]) == set(METHODS)


def test_what_is_no_number_is_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    from geodesic.console import say_json

    say_json({"a": float("nan"), "b": np.float32(0.5), "c": (Path("x"), np.arange(2)), "d": [float("inf"), True, None]})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": 0.5, "c": ["x", [0, 1]], "d": [None, True, None]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["doctor"], ["mean", "small.yaml"], ["curvature", "small.yaml", "curvature.grid=4"]]
)
def test_other_commands_speak_json_too(small: Home, tmp_path: Path, monkeypatch, command: list[str]) -> None:
    shutil.copytree(small.folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    result = json.loads(run(*command, "--json").out)
    assert result["rows" if command != ["doctor"] else "versions"]


def test_completion_is_offered_for_the_shell() -> None:
    assert "--install-completion" in run("--help").out
