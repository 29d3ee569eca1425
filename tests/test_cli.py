"""The command line: what it writes, what it refuses and with which exit status, and that it loses nothing."""

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import save_file

import geodesic
from geodesic import Status, console
from geodesic.experiment.folders import trained_with
from geodesic.solvers import Progress
from tests.experiments import METHODS, PICTURES, SMALL, Home, contents, pictures, refused, run


def process(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """`geodesic ARGUMENTS` in a process that hears Ctrl-C, also where these tests run in the background and do not."""
    command = [sys.executable, "-m", "geodesic", *map(str, arguments)]
    # That a signal is ignored is inherited; a handler is not.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def home(small: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the small experiment's folder, which is the current one: trained, solved and drawn."""
    shutil.copytree(small.folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for module in set(sys.modules) - modules:
        if module.startswith("own_"):
            del sys.modules[module]


CONFIGS = Path(__file__).parent.parent / "configs"
ONE_PAIR, ONE_SOLVER = "pairs.count=1", "geodesic.solvers=[{name: auto, kind: auto}]"
QUICK = ["training.importance_samples=0", "training.picture_every=null"]  # neither changes the weights


# --- help and usage ------------------------------------------------------------------------------


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version") == (0, f"geodesic {geodesic.__version__}\n", "")


@pytest.mark.parametrize("command", ["train", "solve", "plot", "report", "demo"])
def test_help_shows_an_example(command: str) -> None:
    done = run(command, "--help")
    assert (done.status, done.err) == (0, "")
    assert f"Example: geodesic {command}" in done.out


def test_help_is_quick_since_it_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, time; began = time.process_time()\n"
        "from geodesic.cli import main\n"
        "for arguments in (['--help'], ['train', '--help'], ['--version']):\n"
        "    sys.argv = ['geodesic', *arguments]\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules or time.process_time() - began > 3)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True).returncode == 0


@pytest.mark.parametrize("arguments", [[], ["nope"], ["train"], ["train", "a.yaml", "--bogus"], ["plot"]])
def test_bad_usage_has_exit_status_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.status == 2
    assert "Usage" in done.out + done.err


# --- settings --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "missing.yaml"], ["missing.yaml", "no such settings file"]),
        (["train", "small.yaml", "training.epoch=3"], ["training.epoch", "'epochs'"]),
        (["solve", "small.yaml", "geodesic.segments=one"], ["geodesic.segments", "'one'"]),
        (["solve", "small.yaml", "segments"], ["key.path=value"]),
        (["solve", "small.yaml", "geodesic.init=curved"], ["geodesic.init", "'graph'"]),
        (["solve", "small.yaml", "geodesic.solvers=[{name: a, kind: adam}]"], ["geodesic.solvers.0.kind", "'lbfgs'"]),
        (["solve", "small.yaml", "geodesic.solvers.0.history=3"], ["geodesic.solvers.0.history", "unknown key"]),
        (["train", "small.yaml", "--resume", "--overwrite"], ["--resume and --overwrite"]),
        (["train", "small.yaml", "data=null", "name=other"], ["training needs data"]),
        (["train", "small.yaml", "model={import: 'a:b', latent_size: 2}"], ["geodesic solve"]),
        (["demo", "training.epoch=3"], ["'epochs'"]),
    ],
)
def test_refused_settings_have_exit_status_2_and_change_nothing(
    home: Path, arguments: list[str], words: list[str]
) -> None:
    before = contents(home)
    refused(run(*arguments), 2, *words)
    assert contents(home) == before


# --- train, solve, plot ------------------------------------------------------------------------------


@pytest.mark.slow
def test_train_solve_plot_fill_the_run_folder(small: Home) -> None:
    trained = {"config.yaml", "record.json", "model.safetensors", "model.json", "metrics.csv", "last.ckpt"}
    assert trained <= contents(small.run).keys()
    assert (small.run / "geodesics.npz").is_file()
    assert (small.run / "geodesics.yaml").read_text() == (small.run / "config.yaml").read_text()
    assert sorted(file.name for file in (small.run / "figures" / "geodesics").iterdir()) == PICTURES
    assert [path.name for path in (small.folder / "runs").iterdir()] == ["small"]  # no lock is left


def test_output_to_a_file_holds_no_bars_and_no_escape_codes(small: Home) -> None:
    for done in (small.train, small.solve, small.plot):
        assert (done.status, done.err) == (0, "")
        assert "\x1b" not in done.out
        assert "\r" not in done.out
    assert re.fullmatch(
        r"trained runs/small: 2 epochs, held-out ELBO -\d+\.\d\d nats per row, "
        r"importance-weighted bound -\d+\.\d\d \(K = 64\)\n",
        small.train.out,
    )
    assert small.plot.out == f"wrote {len(PICTURES)} pictures to runs/small/figures/geodesics\n"
    assert "step" not in small.solve.out.replace("steps", "").replace("step along", "").replace("step limit", "")


def test_the_table_has_a_line_for_each_pair_and_method(small: Home) -> None:
    lines = small.solve.out.splitlines()
    with np.load(small.run / "geodesics.npz") as arrays:
        rows, labels, lengths = arrays["rows"], arrays["labels"], [arrays[f"{method}/length"] for method in METHODS]
    for pair, (i, j) in enumerate(rows):
        name = f"{i} to {j} ({labels[i]} to {labels[j]})"
        for method, length in zip(METHODS, lengths, strict=True):
            (line,) = [line for line in lines if name in line and f" {method} " in line]
            assert f"{length[pair]:.4f}" in line
    assert "runs/small/geodesics.npz" in small.solve.out


@pytest.mark.slow
def test_the_table_says_converged_and_resolved_in_lines_of_at_most_140_characters(home: Path) -> None:
    own_decoder()
    np.savez("points.npz", start=np.array([[0.1, 0.0], [6.0, 0.0]]), end=np.array([[0.0, 0.1], [0.0, 6.0]]))
    solvers = "[{name: a, kind: auto}, {name: b, kind: gradient_descent, step_size: 1.0e-9}]"
    options = ["geodesic.segments=4", f"geodesic.solvers={solvers}", "geodesic.max_steps=50"]
    out = run("solve", "own.yaml", *options, "--all-methods").out
    table, *_ = out.partition("wrote ")
    assert max(map(len, table.splitlines())) <= 140
    assert re.search(r"converged +resolved", table)
    said = {
        method: re.findall(rf"^ *\d +{method} .* (yes|NO|NO \([a-z ]+\)) +(yes|NO) *$", table, flags=re.M)
        for method in "ab"
    }
    # Four segments are enough for a short way, not for a long one, whatever the solver.
    with np.load("runs/own/geodesics.npz") as arrays:
        assert arrays["a/resolved"].tolist() == [True, False]
        ended = [Status(status).name.lower().replace("_", " ") for status in arrays["b/status"]]
    assert "converged" not in ended
    assert said["a"] == [("yes", "yes"), ("yes", "NO")]
    assert said["b"] == [(f"NO ({ended[0]})", "NO"), (f"NO ({ended[1]})", "NO")]
    assert "a: 2 of 2 pairs converged (tol 1e-06), 1 resolved" in table
    assert "1 converged but not resolved: leave segments out, or set length_rtol" in table
    assert "resolved: it is, and its length error is at most length_rtol" in table
    assert "by Newton: d = 2 is at most 4" in table
    assert "by GradientDescent, as asked for" in table


def test_memory_too_small_for_one_pair_is_refused_and_leaves_no_results(home: Path) -> None:
    before = contents(home)
    refused(run("solve", "small.yaml", "geodesic.memory=1 kB", "--name", "other"), 1, "memory", "raise memory")
    assert contents(home) == before


def tell(ended: int, left: float | None) -> Progress:
    active = torch.arange(3) >= ended
    return Progress(7, torch.zeros(3), active, ~active, True, "Newton", 64, ended, 3, 100.0, left)


def test_on_a_terminal_a_line_for_each_method_says_what_ended_and_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(console, "errors", terminal)
    with console.solve_progress() as callback:
        callback("first", tell(0, None))
        callback("first", tell(1, 130.0))
        callback("second", tell(0, None))
    drawn = [line for line in terminal.file.getvalue().splitlines() if " pairs ended" in line]
    assert "first: 1 of 3 pairs ended, about 2 min left: Newton, 64 segments, step 7" in drawn[-2]
    assert "second: 0 of 3 pairs ended: Newton, 64 segments, step 7" in drawn[-1]


def test_without_a_terminal_progress_is_a_line_of_the_log_at_most_every_half_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, log = io.StringIO(), io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=out))
    monkeypatch.setattr(console, "errors", Console(file=log))
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    with console.solve_progress() as callback:
        for second in range(70):
            clock[0] = float(second)
            callback("auto", tell(second // 30, 130.0))
    assert log.getvalue().splitlines() == [
        f"geodesic: auto: {ended} of 3 pairs ended, about 2 min left: Newton, 64 segments, step 7" for ended in (1, 2)
    ]
    assert not out.getvalue()


def test_a_folder_that_cannot_be_made_has_exit_status_1(home: Path) -> None:
    before = contents(home)
    refused(run("train", "small.yaml", "--runs", "small.yaml"), 1, "small.yaml")
    assert contents(home) == before


@pytest.mark.slow
def test_the_first_solver_answers_and_the_others_are_named(home: Path) -> None:
    done = run("solve", "small.yaml", ONE_PAIR, "--name", "one")
    assert done.out.rstrip().endswith("--all-methods solves with plain, encoder as well")
    with np.load("runs/small/one.npz") as arrays:
        assert {name.partition("/")[0] for name in arrays.files if "/" in name} == {"auto"}
    assert [solver.name for solver in geodesic.load_settings("runs/small/one.yaml").geodesic.solvers] == ["auto"]
    assert run("plot", "runs/small", "--name", "one").status == 0


@pytest.mark.slow
def test_results_of_another_name_stand_beside_the_first(home: Path) -> None:
    first = contents(home)
    assert run("solve", "small.yaml", ONE_PAIR, ONE_SOLVER, "--name", "one").status == 0
    assert run("plot", "runs/small", "--name", "one").status == 0
    after = contents(home)
    assert first.items() <= after.items()
    new = {"runs/small/one.npz", "runs/small/one.yaml"}
    assert {name for name in after.keys() - first.keys() if "figures" not in name} == new
    assert sorted(file.name for file in (home / "runs/small/figures/one").iterdir()) == pictures(1)


@pytest.mark.parametrize("name", ["config", "../up", "a/b", ""])
def test_results_cannot_take_the_name_of_the_training_or_leave_the_folder(home: Path, name: str) -> None:
    before = contents(home)
    refused(run("solve", "small.yaml", "--overwrite", "--name", name), 1, "--name")
    assert contents(home) == before


# --- what exists is kept -------------------------------------------------------------------------


def test_an_existing_run_is_kept_unless_one_asks_otherwise(home: Path) -> None:
    before = contents(home)
    refused(run("train", "small.yaml"), 1, "runs/small", "--resume", "--overwrite")
    assert contents(home) == before


@pytest.mark.slow
def test_existing_results_and_pictures_are_kept_unless_one_asks_otherwise(home: Path) -> None:
    before = contents(home)
    refused(run("solve", "small.yaml", "pairs.seed=5"), 1, "--name", "--overwrite")
    refused(run("plot", "runs/small"), 1, "--overwrite")
    assert contents(home) == before
    assert run("solve", "small.yaml", ONE_PAIR, ONE_SOLVER, "--overwrite").status == 0
    assert run("plot", "runs/small", "--overwrite").status == 0
    assert sorted(file.name for file in (home / "runs/small/figures/geodesics").iterdir()) == pictures(1)


def test_a_run_is_replaced_when_asked(home: Path) -> None:
    assert run("train", "small.yaml", "training.epochs=1", *QUICK, "--overwrite").status == 0
    assert not (home / "runs/small/geodesics.npz").exists()
    assert yaml.safe_load((home / "runs/small/config.yaml").read_text())["training"]["epochs"] == 1


def test_a_folder_that_is_no_run_is_not_removed(home: Path) -> None:
    (home / "small").mkdir()
    (home / "small" / "thesis.tex").write_text("years of work")
    before = contents(home)
    refused(run("train", "small.yaml", "--runs", ".", "--overwrite"), 1, "no config.yaml")
    assert contents(home) == before


def test_data_that_cannot_be_loaded_leave_the_run_that_was_to_be_replaced(home: Path) -> None:
    before = contents(home)
    data = "data={kind: array, path: missing.npy}"
    refused(run("train", "small.yaml", data, "--overwrite"), 1, "missing.npy")
    refused(run("train", "small.yaml", data, "name=other"), 1, "missing.npy")
    assert contents(home) == before
    assert not (home / "runs" / "other").exists()


# --- solving needs the right run -------------------------------------------------------------------


def test_solving_before_training_says_what_to_do(home: Path) -> None:
    refused(run("solve", "small.yaml", "name=other"), 1, "runs/other", "geodesic train")
    assert not (home / "runs" / "other").exists()


def test_plotting_before_solving_says_what_to_do(home: Path) -> None:
    refused(run("plot", "runs/small", "--name", "other"), 1, "other.npz", "geodesic solve")


def test_plotting_something_else_than_a_run_names_the_run(home: Path) -> None:
    refused(run("plot", "small.yaml"), 1, "give the folder of its run, runs/small")
    refused(run("plot", "runs/smal"), 1, "did you mean runs/small?")
    refused(run("plot", "small"), 1, "did you mean runs/small?")


@pytest.mark.parametrize(
    ("change", "trained"),
    [
        ("model.latent_size=3", "model.latent_size=2,"),
        ("seed=1", "seed=0,"),
        ("data.limit=100", "data.limit=null,"),
        ("training.epochs=3", "training.epochs=2,"),
        ("model.network.hidden_sizes=[8]", "model.network.hidden_sizes='[16]',"),
    ],
)
def test_a_run_trained_with_other_settings_is_refused_and_these_are_named(
    home: Path, change: str, trained: str
) -> None:
    before = contents(home)
    refused(
        run("solve", "small.yaml", change, "--name", "other"), 1, "runs/small", f"those, {trained}", "geodesic train"
    )
    assert contents(home) == before


def test_truncated_weights_are_refused(home: Path) -> None:
    file = home / "runs/small/model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refused(run("solve", "small.yaml", "--name", "other"), 1, "model.safetensors", "truncated", "train again")
    assert not (home / "runs/small/other.npz").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("command", ["train", "solve"])
def test_cuda_that_is_not_there_is_refused_with_a_remedy(home: Path, command: str) -> None:
    before = contents(home)
    name = "name=other" if command == "train" else "name=small"
    more = ["--name", "other"] if command == "solve" else []
    refused(run(command, "small.yaml", "device=cuda", name, *more), 1, "device=cpu", "device=auto")
    assert contents(home) == before
    assert not (home / "runs" / "other").exists()


# --- pairs -----------------------------------------------------------------------------------------


def test_pairs_by_label_connect_these_labels(home: Path) -> None:
    pairs = "pairs={kind: label, from: 3, to: 8, count: 2}"
    assert run("solve", "small.yaml", pairs, ONE_SOLVER, "--name", "other").status == 0
    with np.load("runs/small/other.npz") as arrays:
        assert arrays["labels"][arrays["rows"]].tolist() == [[3, 8], [3, 8]]
        np.testing.assert_array_equal(arrays["encodings"][arrays["rows"][:, 0]], arrays["start"])


def test_pairs_by_index_connect_these_rows(home: Path) -> None:
    pairs = "pairs={kind: index, indices: [[5, 6], [7, 5]]}"
    done = run("solve", "small.yaml", pairs, ONE_SOLVER, "--name", "other")
    assert "5 to 6 (" in done.out
    with np.load("runs/small/other.npz") as arrays:
        assert arrays["rows"].tolist() == [[5, 6], [7, 5]]


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ("{kind: index, indices: [[0, 1], [5, 9999]]}", ["pairs.indices.1", "[5, 9999]", "0 to 358"]),
        ("{kind: label, from: 3, to: 12}", ["pairs.to", "12", "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"]),
    ],
)
def test_rows_and_labels_that_do_not_exist_are_refused(home: Path, pairs: str, words: list[str]) -> None:
    refused(run("solve", "small.yaml", f"pairs={pairs}", "--name", "other"), 2, *words)


def write_points(kind: str) -> None:
    points = np.zeros((3, 2))
    match kind:
        case "foreign":
            np.savez("points.npz", begin=points, finish=points)
        case "one array":
            with Path("points.npz").open("wb") as stream:
                np.save(stream, points)
        case "objects":
            np.savez("points.npz", start=np.array([{}]), end=points)
        case "wide":
            np.savez("points.npz", start=np.zeros((3, 5)), end=np.zeros((3, 5)))
        case "integers":
            np.savez("points.npz", start=points.astype(int), end=points)
        case "uneven":
            np.savez("points.npz", start=points, end=points[:2])
        case "nan":
            np.savez("points.npz", start=points, end=points * np.nan)
        case "text":
            Path("points.npz").write_text("0, 0\n1, 1\n")
        case "truncated":
            np.savez("points.npz", start=points, end=points)
            Path("points.npz").write_bytes(Path("points.npz").read_bytes()[:100])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", ["no such file"]),
        ("foreign", ["`start` and `end`", "'begin'"]),
        ("one array", ["numpy.savez"]),
        ("objects", ["plain arrays"]),
        ("wide", ["`start` of shape (P, 2)", "(3, 5)"]),
        ("integers", ["floating point", "int64"]),
        ("uneven", ["3 and 2"]),
        ("text", ["numpy.savez"]),
        ("truncated", ["truncated"]),
    ],
)
def test_a_file_of_points_that_cannot_be_used_is_refused(home: Path, kind: str, words: list[str]) -> None:
    write_points(kind)
    before = contents(home)
    refused(
        run("solve", "small.yaml", "pairs={kind: file, path: points.npz}", "--name", "other"), 1, "points.npz", *words
    )
    assert contents(home) == before


def test_points_that_are_not_finite_are_refused(home: Path) -> None:
    write_points("nan")
    refused(run("solve", "small.yaml", "pairs={kind: file, path: points.npz}", "--name", "other"), 1, "end", "finite")


@pytest.mark.slow
def test_points_of_single_precision_are_solved_and_drawn_in_double(home: Path) -> None:
    start, end = np.array([[0.1, 0.2]], dtype=np.float32), np.array([[-0.3, 0.4]], dtype=np.float32)
    np.savez("points.npz", start=start, end=end)
    pairs = "pairs={kind: file, path: points.npz}"
    assert run("solve", "small.yaml", pairs, ONE_SOLVER, "--name", "other").status == 0
    assert run("plot", "runs/small", "--name", "other").status == 0
    with np.load("runs/small/other.npz") as arrays:
        assert {arrays[key].dtype for key in ("start", "end", "auto/path")} == {np.dtype(np.float64)}
        np.testing.assert_array_equal(arrays["start"], start)


# --- data and decoders of one's own ------------------------------------------------------------------


@pytest.mark.slow
def test_images_of_ones_own_can_be_trained_on_solved_and_drawn(home: Path) -> None:
    rng = np.random.default_rng(0)
    brightness = rng.uniform(0, 250, (120, 1, 1))
    np.save("images.npy", (brightness + rng.uniform(0, 5, (120, 6, 5))).astype(np.uint8))
    data = {"kind": "array", "path": "images.npy", "test_fraction": 0.25}
    Path("own.yaml").write_text(
        yaml.safe_dump(SMALL | {"name": "own", "data": data, "pairs": {"kind": "random", "count": 1}})
    )
    for arguments in (("train", "own.yaml", *QUICK), ("solve", "own.yaml", *QUICK, ONE_SOLVER), ("plot", "runs/own")):
        done = run(*arguments)
        assert (done.status, done.err) == (0, ""), arguments
    with np.load("runs/own/geodesics.npz") as arrays:
        assert len(arrays["encodings"]) == 30
        assert "labels" not in arrays
    refused(run("solve", "own.yaml", *QUICK, "pairs={kind: label, from: 1, to: 2}", "--overwrite"), 2, "labels")


DECODER = """
import torch

class Paraboloid(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.height = torch.nn.Parameter(torch.zeros(()))

    def forward(self, z):
        return torch.cat([z, self.height * z.square().sum(1, keepdim=True)], dim=1)

def number():
    return 3

def encoder():
    return torch.nn.Linear(64, 2)
"""


def own_decoder(**model: object) -> None:
    Path("own_decoder.py").write_text(DECODER)
    save_file({"height": torch.tensor(0.5)}, "own.safetensors")
    np.savez("points.npz", start=np.array([[0.0, 0.0], [1.0, 0.0]]), end=np.array([[2.0, 0.0], [0.0, 1.0]]))
    given = {"import": "own_decoder:Paraboloid", "weights": "own.safetensors", "latent_size": 2}
    settings = {
        "name": "own",
        "device": "cpu",
        "model": given | model,
        "pairs": {"kind": "file", "path": "points.npz"},
        "geodesic": {"segments": 64},
    }
    Path("own.yaml").write_text(yaml.safe_dump(settings))


@pytest.mark.slow
def test_a_decoder_of_ones_own_needs_no_data_and_no_training(home: Path) -> None:
    own_decoder()
    solved = run("solve", "own.yaml")
    assert (solved.status, solved.err) == (0, "")
    with np.load("runs/own/geodesics.npz") as arrays:
        length, converged = arrays["auto/length"], arrays["auto/converged"]
        assert not {"rows", "encodings", "labels"} & set(arrays)
    assert converged.all()
    # The meridian of z = r^2 / 2 from r = 0 to 2: the integral of sqrt(1 + r^2).
    assert length[0] == pytest.approx(np.sqrt(5) + np.arcsinh(2) / 2, rel=1e-3)
    plotted = run("plot", "runs/own")
    assert (plotted.status, plotted.err) == (0, "")
    assert sorted(file.name for file in (home / "runs/own/figures/geodesics").iterdir()) == pictures(2)


@pytest.mark.parametrize(
    ("model", "status", "words"),
    [
        ({"import": "own_decoder:Missing"}, 2, ["model.import", "own_decoder:Missing"]),
        ({"import": "own_nothing:decoder"}, 2, ["model.import", "own_nothing"]),
        ({"import": "own_decoder:number"}, 2, ["model.import", "returned int"]),
        ({"weights": "missing.safetensors"}, 1, ["missing.safetensors", "no such file"]),
        ({"import": "own_decoder:encoder"}, 1, ["own.safetensors", "another model"]),
        ({"latent_size": 3}, 1, ["points.npz", "(P, 3)"]),
    ],
)
def test_a_decoder_of_ones_own_that_cannot_be_used_is_refused(
    home: Path, model: dict[str, object], status: int, words: list[str]
) -> None:
    own_decoder(**model)
    refused(run("solve", "own.yaml"), status, *words)
    assert not (home / "runs" / "own").exists()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("pairs={kind: random}", "kind: file"),
        ("geodesic.solvers=[{name: e, kind: gradient_descent, direction: encoder}]", "model.encoder"),
    ],
)
def test_what_needs_an_encoder_is_refused_without_one(home: Path, change: str, word: str) -> None:
    own_decoder()
    refused(run("solve", "own.yaml", change), 2, word)


@pytest.mark.slow
def test_a_collapsed_latent_space_is_warned_of(home: Path) -> None:
    settings = [
        "training.kl_weight=1000",
        "training.learning_rate=0.05",
        "training.epochs=20",
        "training.batch_size=25",
        "data.limit=100",
    ]
    done = run("train", "small.yaml", "name=collapsed", *QUICK, *settings)
    assert done.status == 1
    assert done.err.startswith("geodesic: warning: 2 of 2 latent dimensions have collapsed (0, 1)")
    assert "below that of a constant model" in done.err.partition("training.kl_weight")[2]
    assert done.out == ""
    record = json.loads((home / "runs" / "collapsed" / "record.json").read_text())
    assert record["collapsed_dimensions"] == [0, 1]
    assert (record["test_bound"], record["importance_samples"]) == (None, 0)


# --- interruption and resumption ---------------------------------------------------------------------


@pytest.mark.slow
def test_an_interrupted_training_says_how_to_go_on_and_goes_on(home: Path) -> None:
    long = ["train", "small.yaml", "name=long", ONE_SOLVER, ONE_PAIR, *QUICK, "training.epochs=100000"]
    folder = home / "runs" / "long"
    running = process(*long, cwd=home)
    try:
        deadline = time.monotonic() + 60
        while not (folder / "metrics.csv").exists() and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        # Meanwhile the folder is that process's alone.
        refused(run(*long, "--overwrite"), 1, "runs/long: another process is using it")
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == 1
    assert out == ""
    assert err.startswith("geodesic: training interrupted")
    assert "--resume" in err
    assert len(err.splitlines()) == 1
    assert (folder / "last.ckpt").is_file()
    refused(run("solve", *long[1:]), 1, "geodesic train", "--resume")

    before = len((folder / "metrics.csv").read_text().splitlines()) - 1
    epochs = before + 3
    resumed = run(*long[:-1], f"training.epochs={epochs}", "--resume")
    assert resumed.status == 0
    assert f"{epochs} epochs" in resumed.out
    assert len((folder / "metrics.csv").read_text().splitlines()) - 1 == epochs
    assert run("solve", *long[1:-1], f"training.epochs={epochs}").status == 0


def test_a_resumption_that_fails_leaves_weights_with_the_settings_that_made_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geodesic.models.training.module import VAETraining

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(VAETraining, "training_step", interrupted)
        refused(run("train", "small.yaml", "training.epochs=9", "--resume"), 1, "--resume")
    refused(run("solve", "small.yaml", "training.epochs=9", "--name", "other"), 1, "geodesic train")
    assert run("solve", "small.yaml", ONE_PAIR, ONE_SOLVER, "--name", "other").status == 0


def test_nothing_to_resume_is_refused(home: Path) -> None:
    refused(run("train", "small.yaml", "name=other", "--resume"), 1, "runs/other", "without --resume")
    refused(run("train", "small.yaml", "model.latent_size=3", "--resume"), 1, "`model`", "--overwrite")
    assert not (home / "runs" / "other").exists()


# --- demo ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_demo_trains_once(home: Path) -> None:
    demo = ["demo", "training.epochs=2", "training.batch_size=20", "training.learning_rate=0.02"]
    demo += ["training.kl_warmup_epochs=0", "model.network.hidden_sizes=[16]", *QUICK, ONE_SOLVER]
    demo += ["pairs.count=2", "geodesic.segments=4", "geodesic.max_steps=10"]
    first = run(*demo)
    assert first.status == 0, first.err
    assert first.out.startswith("trained runs/demo: 2 epochs")
    weights = home / "runs/demo/model.safetensors"
    written = weights.stat().st_mtime_ns
    again = run(*demo, "pairs.count=1")
    assert (again.status, again.err) == (0, "")
    assert "not training again" in again.out
    assert weights.stat().st_mtime_ns == written
    assert sorted(file.name for file in (home / "runs/demo/figures/geodesics").iterdir()) == pictures(1)
    settings = geodesic.load_settings(CONFIGS / "demo.yaml", [*demo[1:], "training.epochs=1"])
    assert not trained_with(settings, home / "runs/demo")
