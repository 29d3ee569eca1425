"""From settings to a run folder: the schema of the results, their laws, and that failures leave nothing."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch.testing import assert_close

import geodesic
from geodesic import (
    DataError,
    Euclidean,
    GeodesicSolution,
    Progress,
    PullbackManifold,
    RunFolderError,
    Settings,
    SettingsError,
    Split,
    Status,
    TrainingInterrupted,
    constant_speed,
    load_settings,
    path_energy,
)
from geodesic.experiment.figures import plot_run
from geodesic.experiment.folders import run_folder, trained_with
from geodesic.experiment.pairs import IndexPairs, LabelPairs, RandomPairs
from geodesic.experiment.solve import SolveResult, solve_pairs
from geodesic.experiment.train import train
from geodesic.files import read_npz, replacing, write_npz, write_text
from geodesic.geometry.path import straight_path
from geodesic.models.vae import VAE
from geodesic.pictures.outputs import plot_reconstructions, plot_samples, plot_strip
from geodesic.pictures.paths import plot_energy, plot_latent

METHODS = ("auto", "plain", "encoder")
HISTORIES = ("energy_history", "step_history")
FIELDS = [field.name for field in dataclasses.fields(GeodesicSolution)]
P, T, D = 3, 8, 2

Arrays = dict[str, np.ndarray]


def settings(**changes: object) -> Settings:
    tree = {
        "name": "run",
        "device": "cpu",
        "data": {"kind": "digits", "limit": 200},
        "model": {"latent_size": D, "network": {"hidden_sizes": (16,)}},
        "training": {"epochs": 2, "batch_size": 50, "learning_rate": 0.01},
        "pairs": {"kind": "random", "count": P},
        "geodesic": {
            "segments": T,
            "max_steps": 30,
            "solvers": (
                {"name": "auto", "kind": "auto"},
                {"name": "plain", "kind": "gradient_descent", "preconditioned": False},
                {"name": "encoder", "kind": "gradient_descent", "direction": "encoder"},
            ),
        },
    }
    return Settings.model_validate(tree | changes)


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with one, trained and solved; not to be changed."""
    runs = tmp_path_factory.mktemp("runs")
    train(settings(), runs, progress=False)
    solve_pairs(settings(), runs)
    return runs


@pytest.fixture
def runs(solved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(solved, tmp_path / "runs"))


@pytest.fixture(scope="module")
def arrays(solved: Path) -> Arrays:
    with np.load(solved / "run" / "geodesics.npz", allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# --- the results -----------------------------------------------------------------------------------


def test_the_results_hold_the_documented_arrays_and_no_others(arrays: Arrays) -> None:
    common = {"start", "end", "rows", "encodings", "labels"}
    assert set(arrays) == common | {f"{method}/{key}" for method in METHODS for key in [*FIELDS, *HISTORIES]}


def test_every_array_of_the_results_is_explained_in_the_documentation(arrays: Arrays) -> None:
    text = (Path(__file__).parent.parent / "docs" / "run-folder.md").read_text(encoding="utf-8")
    names = {re.sub(rf"^({'|'.join(METHODS)})/", "M/", key) for key in arrays}
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_the_shapes_and_types_of_the_results_agree(arrays: Arrays) -> None:
    assert arrays["start"].shape == arrays["end"].shape == (P, D)
    assert arrays["rows"].shape == (P, 2)
    assert arrays["encodings"].shape == (len(arrays["labels"]), D)
    for method in METHODS:
        shapes = {key: arrays[f"{method}/{key}"].shape for key in FIELDS}
        assert shapes.pop("path") == (P, T + 1, D)
        assert shapes.pop("arc") == (P, T + 1)
        assert shapes.pop("tol") == shapes.pop("solver") == ()
        assert set(shapes.values()) == {(P,)}
        assert arrays[f"{method}/path"].dtype == np.float64
        assert arrays[f"{method}/converged"].dtype == np.bool_
        steps = arrays[f"{method}/step_history"]
        assert steps.max() >= arrays[f"{method}/steps"].max()
        assert arrays[f"{method}/energy_history"].shape == (len(steps), P)


def test_single_precision_is_kept_from_the_pairs_to_the_paths(runs: Path) -> None:
    result = solve_pairs(settings(dtype="float32"), runs, name="single")
    stored = read_npz(result.file)
    assert {stored[key].dtype for key in ("start", "encodings", "auto/path")} == {np.dtype(np.float32)}


def test_each_path_starts_and_ends_exactly_at_its_pair(arrays: Arrays) -> None:
    for method in METHODS:
        path = arrays[f"{method}/path"]
        np.testing.assert_array_equal(path[:, 0], arrays["start"])
        np.testing.assert_array_equal(path[:, -1], arrays["end"])


def test_the_pairs_are_the_encodings_of_their_rows(arrays: Arrays, solved: Path) -> None:
    encodings, rows = arrays["encodings"], arrays["rows"]
    np.testing.assert_array_equal(encodings[rows[:, 0]], arrays["start"])
    np.testing.assert_array_equal(encodings[rows[:, 1]], arrays["end"])


def test_the_energy_history_runs_down_from_the_straight_line_to_the_answer(arrays: Arrays, solved: Path) -> None:
    vae = VAE.load(solved / "run").double()
    manifold = PullbackManifold(vae.decode, Euclidean(mean=torch.sigmoid))
    line = straight_path(torch.as_tensor(arrays["start"]), torch.as_tensor(arrays["end"]), T)
    begin = path_energy(manifold, constant_speed(manifold, line)).detach().numpy()
    for method in METHODS:
        history = arrays[f"{method}/energy_history"]
        np.testing.assert_allclose(history[0], begin, rtol=1e-10)
        np.testing.assert_allclose(history[-1], arrays[f"{method}/energy"], rtol=1e-10)
        # Backtracking lowers the energy at each step, and an ended pair stays where it is.
        assert (np.diff(history, axis=0) <= 1e-12 * history[0]).all()


def test_the_steps_of_the_history_go_up_one_by_one_and_repeat_where_a_warm_up_ends(arrays: Arrays) -> None:
    repeats = {method: int((np.diff(arrays[f"{method}/step_history"]) == 0).sum()) for method in METHODS}
    assert repeats == {"auto": 1, "plain": 0, "encoder": 0}
    for method in METHODS:
        steps = arrays[f"{method}/step_history"]
        np.testing.assert_array_equal(np.unique(steps), np.arange(steps[-1] + 1))
        assert (np.diff(steps) >= 0).all()


def test_the_stored_energy_is_that_of_the_stored_path_under_the_stored_decoder(arrays: Arrays, solved: Path) -> None:
    vae = VAE.load(solved / "run").double()
    for method in METHODS:
        path = torch.as_tensor(arrays[f"{method}/path"])
        with torch.no_grad():
            x = vae.decode(path.reshape(-1, D)).sigmoid().reshape(P, T + 1, -1)
        energy = T / 2 * x.diff(dim=1).square().sum((1, 2))
        assert_close(energy, torch.as_tensor(arrays[f"{method}/energy"]), rtol=1e-9, atol=0)


def test_what_converged_did_so_by_its_own_measure(arrays: Arrays) -> None:
    for method in METHODS:
        converged = arrays[f"{method}/converged"]
        np.testing.assert_array_equal(converged, arrays[f"{method}/status"] == Status.CONVERGED)
        assert (arrays[f"{method}/relative_excess_energy"][converged] <= arrays[f"{method}/tol"]).all()
        fine = arrays[f"{method}/length_error"] <= 1e-3
        np.testing.assert_array_equal(arrays[f"{method}/resolved"], converged & fine)
    assert arrays["auto/converged"].all()


def test_the_same_settings_give_the_same_results_bit_for_bit(runs: Path, arrays: Arrays) -> None:
    again = read_npz(solve_pairs(settings(), runs, name="again").file)
    assert again.keys() == arrays.keys()
    for key, value in again.items():
        np.testing.assert_array_equal(value, arrays[key], err_msg=key)


def test_the_callback_sees_every_step_of_every_method(runs: Path) -> None:
    seen: dict[str, list[int]] = {}

    def watch(method: str, progress: Progress) -> None:
        seen.setdefault(method, []).append(progress.step)

    result = solve_pairs(settings(), runs, name="watched", callback=watch)
    assert isinstance(result, SolveResult)
    stored = read_npz(result.file)
    assert seen == {method: stored[f"{method}/step_history"].tolist() for method in METHODS}


SOLVERS = {
    "auto": ({}, "Newton: d = 2"),
    "newton": ({"warm_up": False}, "Newton(warm_up=None)"),
    "newton_krylov": ({"warm_up": False, "metric_samples": 2}, "NewtonKrylov(warm_up=None, metric_samples=2)"),
    "lbfgs": ({"history": 3}, "LBFGS(history=3, metric_samples=4)"),
    "gradient_descent": ({"step_size": 0.25}, "GradientDescent(direction='decoder', step_size=0.25"),
}


@pytest.mark.parametrize("kind", SOLVERS)
def test_each_kind_of_solver_is_made_with_its_options(runs: Path, kind: str) -> None:
    options, made = SOLVERS[kind]
    search = {"segments": T, "max_steps": 30, "solvers": ({"name": "one", "kind": kind} | options,)}
    stored = read_npz(solve_pairs(settings(geodesic=search), runs, name="one").file)
    assert str(stored["one/solver"]).startswith(made)
    assert stored["one/converged"].all() or kind == "gradient_descent"


def test_what_a_search_asks_for_reaches_solve_and_the_graph_gets_the_encodings_of_the_training_rows(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geodesic.experiment import run

    asked: list[dict[str, object]] = []

    def spy(*arguments: object, **keywords: object) -> GeodesicSolution:
        asked.append(keywords)
        return geodesic.solve(*arguments, **keywords)

    monkeypatch.setattr(run, "solve", spy)
    search = {"segments": 4, "init": "best", "length_rtol": 0.5, "memory": 1e8, "tol": 1e-3, "max_steps": 7}
    solve_pairs(settings(geodesic=search), runs, name="best")
    (keywords,) = asked
    assert {name: keywords[name] for name in search} == search
    vae = VAE.load(runs / "run").double()
    rows = settings().data.load().train.values.double()
    with torch.no_grad():
        assert_close(keywords["points"], vae.encode(rows))


def test_a_graph_without_data_is_one_over_points_that_are_drawn(tmp_path: Path) -> None:
    np.savez(tmp_path / "points.npz", start=np.zeros((1, 2)), end=np.ones((1, 2)))
    own = settings(
        data=None,
        model={"import": "torch.nn:Identity", "latent_size": 2},
        pairs={"kind": "file", "path": str(tmp_path / "points.npz")},
        geodesic={"segments": 4, "init": "graph"},
    )
    (solution,) = solve_pairs(own, tmp_path / "runs").solutions.values()
    assert solution.converged.all()
    np.testing.assert_allclose(solution.length, 2**0.5)


def test_names_of_pairs_tell_rows_and_labels(runs: Path, arrays: Arrays) -> None:
    names = solve_pairs(settings(), runs, name="named").pair_names
    labels = arrays["labels"]
    assert names == [f"{i} to {j} ({labels[i]} to {labels[j]})" for i, j in arrays["rows"]]


# --- pairs -------------------------------------------------------------------------------------------


def rows_with_labels(labels: list[int] | None, count: int = 30) -> Split:
    return Split(torch.zeros(count, 2, dtype=torch.float32), None if labels is None else torch.tensor(labels))


def test_random_pairs_repeat_with_the_seed_and_share_no_row() -> None:
    test = rows_with_labels(None)
    one, same, other = (RandomPairs(count=15, seed=seed).rows(test) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert sorted(one.ravel()) == list(range(30))


def test_more_random_pairs_than_disjoint_ones_still_connect_different_rows() -> None:
    rows = RandomPairs(count=100).rows(rows_with_labels(None, count=3))
    assert rows.shape == (100, 2)
    assert (rows[:, 0] != rows[:, 1]).all()
    assert set(rows.ravel()) == {0, 1, 2}


def test_one_row_makes_no_pair() -> None:
    with pytest.raises(SettingsError, match="only 1 row"):
        RandomPairs(count=2).rows(rows_with_labels(None, count=1))


@pytest.mark.parametrize(("from_", "to"), [(0, 1), (1, 1)])
@pytest.mark.parametrize("count", [2, 40])
def test_pairs_by_label_have_these_labels_and_different_ends(from_: int, to: int, count: int) -> None:
    labels = np.array([0, 1] * 15)
    pairs = LabelPairs(from_, to, count)
    rows = pairs.rows(rows_with_labels(labels.tolist()))
    assert labels[rows].tolist() == [[from_, to]] * count
    assert (rows[:, 0] != rows[:, 1]).all()


def test_pairs_by_index_are_taken_as_they_are() -> None:
    indices = ((3, 4), (4, 3), (0, 29))
    rows = IndexPairs(indices).rows(rows_with_labels(None))
    assert rows.tolist() == [list(pair) for pair in indices]
    with pytest.raises(SettingsError, match=r"pairs\.indices\.1: got \[0, 30\]; the test set has rows 0 to 29"):
        IndexPairs(((0, 1), (0, 30))).rows(rows_with_labels(None))


def test_pairs_by_label_need_labels() -> None:
    pairs = LabelPairs(0, 1)
    with pytest.raises(SettingsError, match="needs data with labels"):
        pairs.rows(rows_with_labels(None))


# --- training ----------------------------------------------------------------------------------------


def test_a_geometry_that_the_model_will_not_suit_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"needs model\.likelihood: gaussian"):
        train(settings(geodesic={"geometry": "expected"}), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_the_record_of_a_training_holds_its_measures_and_is_documented(tmp_path: Path) -> None:
    result = train(settings(), tmp_path, progress=False)
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert (record["epochs"], record["kept_epochs"]) == (2, 2)
    assert (record["test_elbo"], record["test_bound"]) == (result.test_elbo, result.test_bound)
    assert record["test_bound"] > record["test_elbo"]
    assert record["importance_samples"] == 64
    assert record["collapsed_dimensions"] == list(result.collapsed_dimensions)
    text = (Path(__file__).parent.parent / "docs" / "run-folder.md").read_text(encoding="utf-8")
    assert {name for name in record if f"`{name}`" not in text} == set()
    for file in (tmp_path / "run").iterdir():
        assert f"`{file.name}`" in text or f"`{file.name}/" in text, file.name


def test_pictures_are_drawn_every_so_many_epochs_and_at_the_end_and_change_nothing(tmp_path: Path) -> None:
    training = {"epochs": 5, "batch_size": 50, "learning_rate": 0.01}
    drawn = train(settings(training=training | {"picture_every": 2}), tmp_path / "drawn", progress=False)
    bare = train(settings(training=training | {"picture_every": None}), tmp_path / "bare", progress=False)
    for name, weight in drawn.vae.state_dict().items():
        assert torch.equal(weight, bare.vae.state_dict()[name])
    assert not (tmp_path / "bare" / "run" / "pictures").exists()
    folder = tmp_path / "drawn" / "run" / "pictures"
    kinds = ("reconstructions", "samples")
    assert sorted(file.name for file in folder.iterdir()) == [f"{k}_{n:04d}.png" for k in kinds for n in (2, 4, 5)]
    for kind in kinds:
        early, late = (imread(folder / f"{kind}_{n:04d}.png")[..., :3] for n in (2, 5))
        assert min(early.var(), late.var()) > 1e-3
        assert (early != late).any()


def test_a_resumed_training_draws_the_same_rows_and_the_same_noise(tmp_path: Path) -> None:
    one, two = ({"epochs": n, "batch_size": 50, "picture_every": 1} for n in (1, 2))
    train(settings(training=two), tmp_path / "straight", progress=False)
    train(settings(training=one), tmp_path / "parts", progress=False)
    train(settings(training=two), tmp_path / "parts", resume=True, progress=False)
    straight, parts = (files(tmp_path / name / "run" / "pictures") for name in ("straight", "parts"))
    assert len(straight) == 4
    assert straight == parts


def test_with_patience_the_last_pictures_are_those_of_the_weights_that_are_kept(tmp_path: Path) -> None:
    training = {"epochs": 60, "batch_size": 16, "learning_rate": 0.1, "patience": 2, "picture_every": 1000}
    result = train(settings(training=training), tmp_path, progress=False)
    assert result.kept_epochs == result.epochs - 2
    names = sorted(file.name for file in (tmp_path / "run" / "pictures").iterdir())
    assert names == [f"{kind}_{result.kept_epochs:04d}.png" for kind in ("reconstructions", "samples")]


def test_vectors_have_no_pictures(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).random((40, 6)))
    train(settings(data={"kind": "array", "path": str(tmp_path / "rows.npy")}), tmp_path, progress=False)
    assert not (tmp_path / "run" / "pictures").exists()


def test_neither_pictures_nor_measures_make_it_another_training(runs: Path) -> None:
    training = dataclasses.asdict(settings().training)
    watched = settings(training=training | {"picture_every": None, "importance_samples": 5})
    assert trained_with(watched, runs / "run")
    assert not trained_with(settings(training=training | {"batch_size": 49}), runs / "run")


@pytest.mark.parametrize("channels", [1, 3])
def test_grids_of_images_show_every_image(channels: int) -> None:
    images = np.linspace(0, 1, 10)[:, None, None, None] * np.ones((10, channels, 4, 5))
    for figure, rows in ((plot_samples(images), 2), (plot_reconstructions(images, 1 - images), 4)):
        (shown,) = figure.axes[0].images
        canvas = shown.get_array()
        assert canvas.shape[:2] == (rows * 5 - 1, 8 * 6 - 1)
        assert_close(canvas[:4, 6:11].mean(), images[1].mean())
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["original", "decoded"] * 2
    assert_close(canvas[5:9, 6:11].mean(), 1 - images[1].mean())


# --- pictures ------------------------------------------------------------------------------------------


def test_the_pictures_are_pngs_and_not_blank(runs: Path) -> None:
    written = plot_run(runs / "run")
    names = ["energy.png", "latent.png", *(f"strip_{pair:03d}.png" for pair in range(P))]
    assert sorted(file.name for file in written) == names
    assert sorted((runs / "run" / "figures" / "geodesics").iterdir()) == sorted(written)
    for file in written:
        assert file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        pixels = imread(file)[..., :3]
        assert pixels.var() > 1e-3, file.name
        # Something in each third from left to right.
        assert all(part.var() > 0 for part in np.array_split(pixels, 3, axis=1)), file.name


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_strips_and_grids_tell_counts_apart_whatever_the_channels(channels: int) -> None:
    counts = np.linspace(0, 16, 5)[:, None, None, None] * np.ones((5, channels, 4, 4))
    strip = plot_strip(counts, counts, 1.0, 1.0).axes[0].images[0].get_array()
    shades = [np.unique(part) for part in np.split(np.asarray(strip), 5, axis=1)]
    np.testing.assert_allclose(np.concatenate(shades), np.linspace(0, 1, 5))
    assert len(np.unique(plot_samples(counts).axes[0].images[0].get_array())) >= 5
    assert len(np.unique(plot_reconstructions(counts, counts / 2).axes[0].images[0].get_array())) >= 8


def test_ten_labels_have_ten_colours() -> None:
    path = np.zeros((1, 2, 2))
    figure = plot_latent(np.random.default_rng(0).normal(size=(50, 2)), np.arange(50) % 10, path, path)
    colours = [tuple(points.get_facecolor()[0]) for points in figure.axes[0].collections]
    assert len(set(colours)) == len(colours) == 10


@pytest.mark.parametrize("size", [1, 3])
def test_latent_spaces_that_are_no_plane_have_pictures_too(tmp_path: Path, size: int) -> None:
    model = {"latent_size": size, "network": {"hidden_sizes": (8,)}}
    changed = settings(model=model, pairs={"kind": "random", "count": 1})
    train(changed, tmp_path, progress=False)
    solve_pairs(changed, tmp_path)
    names = {file.name for file in plot_run(tmp_path / "run")}
    assert names == {"energy.png", "strip_000.png"} | ({"latent.png"} if size > 1 else set())


def strips(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, float, bool]]:
    """Outputs, length and convergence of each geodesic that `plot_run` draws."""
    from geodesic.experiment import figures

    drawn: list[tuple[np.ndarray, float, bool]] = []
    plot_strip: Callable[..., object] = figures.plot_strip

    def spy(
        straight: np.ndarray, path: np.ndarray, straight_length: float, length: float, *, converged: bool
    ) -> object:
        drawn.append((path, length, converged))
        return plot_strip(straight, path, straight_length, length, converged=converged)

    monkeypatch.setattr(figures, "plot_strip", spy)
    return drawn


def test_the_path_drawn_is_the_shortest_that_converged(
    runs: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = straight_path(torch.as_tensor(arrays["start"]), torch.as_tensor(arrays["end"]), T).numpy()
    lengths = {"auto": [3.0, 1.0, 2.0], "plain": [2.0, 3.0, np.nan], "encoder": [1.0, 2.0, 3.0]}
    converged = {"auto": [1, 0, 0], "plain": [1, 0, 0], "encoder": [0, 1, 0]}
    changed = arrays | {f"{m}/length": np.array(x) for m, x in lengths.items()}
    changed |= {f"{m}/converged": np.array(x, dtype=bool) for m, x in converged.items()}
    bent = {
        method: straight + 0.1 * k * np.sin(np.linspace(0, np.pi, T + 1))[:, None] for k, method in enumerate(METHODS)
    }
    write_npz(runs / "run" / "geodesics.npz", changed | {f"{m}/path": path for m, path in bent.items()})

    drawn = strips(monkeypatch)
    plot_run(runs / "run")
    # Shorter but not converged loses; where nothing converged the shortest finite one is drawn.
    best = ["plain", "encoder", "auto"]
    assert [length for _, length, _ in drawn] == [lengths[method][pair] for pair, method in enumerate(best)]
    assert [converged for *_, converged in drawn] == [True, True, False]
    vae = VAE.load(runs / "run").double()
    for pair, (method, (outputs, *_)) in enumerate(zip(best, drawn, strict=True)):
        ends = torch.as_tensor(bent[method][pair][[0, -1]])
        with torch.no_grad():
            np.testing.assert_allclose(outputs[[0, -1]], vae.decode(ends).sigmoid().numpy(), rtol=1e-12)
        # In the middle of a bent path its nodes are, and so are the frames, those of that method.
        others = [vae.decode(torch.as_tensor(bent[m][pair][T // 2 : T // 2 + 1])).sigmoid().detach() for m in METHODS]
        nearest = np.argmin([np.linalg.norm(outputs[5] - other.numpy()) for other in others])
        assert METHODS[nearest] == method


def test_the_frames_of_a_strip_are_evenly_spaced_along_the_geodesic(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = {"segments": T, "solvers": ({"name": "auto", "kind": "auto"},)}
    solution = solve_pairs(settings(geodesic=search), runs, name="one").solutions["auto"]
    drawn = strips(monkeypatch)
    plot_run(runs / "run", name="one")
    vae = VAE.load(runs / "run").double()
    with torch.no_grad():
        expected = vae.decode(solution(torch.linspace(0, 1, 11)).reshape(-1, D)).sigmoid().reshape(P, 11, 1, 8, 8)
    np.testing.assert_allclose(np.stack([outputs for outputs, *_ in drawn]), expected.numpy(), rtol=1e-12)


def test_methods_that_took_different_numbers_of_segments_are_drawn_together(runs: Path) -> None:
    solvers = tuple({"name": kind, "kind": kind} for kind in ("auto", "lbfgs"))
    changed = settings(geodesic={"segments": 4, "solvers": solvers, "length_rtol": 1e-2})
    file = solve_pairs(changed, runs, name="refined").file
    stored = read_npz(file)
    start, end = (torch.as_tensor(stored[key]) for key in ("start", "end"))
    other = geodesic.solve(PullbackManifold(lambda z: z), start, end, segments=16).arrays()
    write_npz(file, stored | {f"lbfgs/{key}": value for key, value in other.items()})
    assert len(plot_run(runs / "run", name="refined")) == P + 2


def test_a_line_of_energies_ends_where_its_pair_does_and_has_a_gap_where_steps_begin_anew() -> None:
    nan = np.nan
    # Pair 0: a warm-up to step 1, a wait, a step, then a second start; pair 1: in the second group; pair 2: equal ends.
    steps = np.array([0, 1, 1, 2, 0, 1, 2])
    energy = np.array(
        [[9.0, nan, 0.0], [5, nan, 0], [5, nan, 0], [4, nan, 0], [8, 6, 0], [2, 3, 0], [2, 3, 0]],
    )
    lines = plot_energy({"a": energy}, {"a": steps}).axes[0].lines
    assert len(lines) == 3
    np.testing.assert_array_equal(lines[0].get_xdata(), [1, 2, 2, 3, nan, 1, 2])
    np.testing.assert_allclose(lines[0].get_ydata(), [3.5, 1.5, 1.5, 1, nan, 3, 0], atol=1e-11)
    np.testing.assert_array_equal(lines[1].get_xdata(), [1, 2])
    np.testing.assert_allclose(lines[1].get_ydata(), [1, 0], atol=1e-11)
    assert len(lines[2].get_xdata()) == 0


def test_results_that_lack_a_method_are_refused_before_drawing(runs: Path, arrays: Arrays) -> None:
    kept = {key: value for key, value in arrays.items() if not key.startswith("plain/")}
    write_npz(runs / "run" / "geodesics.npz", kept)
    with pytest.raises(RunFolderError, match="plain/"):
        plot_run(runs / "run")
    assert not (runs / "run" / "figures").exists()


# --- failures leave nothing behind ---------------------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fail(stream: object, **arrays: np.ndarray) -> None:
        stream.write(b"half")  # type: ignore[attr-defined]
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", fail)
        yield


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("name", ["geodesics", "other"])
def test_results_that_cannot_be_written_leave_the_folder_as_it_was(runs: Path, name: str) -> None:
    before = files(runs)
    with pytest.raises(OSError, match="no space"):
        solve_pairs(settings(pairs={"kind": "random", "count": 1}), runs, name=name, overwrite=True)
    assert files(runs) == before


@pytest.mark.usefixtures("full_disk")
def test_results_that_cannot_be_written_leave_no_new_folder(tmp_path: Path) -> None:
    np.savez(tmp_path / "points.npz", start=np.zeros((1, 2)), end=np.ones((1, 2)))
    own = settings(
        data=None,
        model={"import": "torch.nn:Identity", "latent_size": 2},
        pairs={"kind": "file", "path": str(tmp_path / "points.npz")},
        geodesic={"segments": 2},
    )
    with pytest.raises(OSError, match="no space"):
        solve_pairs(own, tmp_path / "runs")
    assert not (tmp_path / "runs" / "run").exists()


def test_a_training_that_fails_at_once_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodesic.experiment import train as experiment

    def fail(*_: object, **__: object) -> None:
        raise ValueError("at once")

    monkeypatch.setattr(experiment, "train_vae", fail)
    with pytest.raises(ValueError, match="at once"):
        train(settings(), tmp_path, progress=False)
    assert not run_folder(settings(), tmp_path).exists()


def everything(folder: Path) -> dict[str, bytes | None]:
    """Files with their contents, and folders."""
    return {str(file.relative_to(folder)): file.read_bytes() if file.is_file() else None for file in folder.rglob("*")}


def failing(error: BaseException, checkpoint: bool) -> Callable[..., None]:
    def train_vae(*_: object, folder: Path, **__: object) -> None:
        (folder / "metrics.csv").write_text("epoch")
        if checkpoint:
            (folder / "last.ckpt").write_bytes(b"new")
        raise error

    return train_vae


@pytest.mark.parametrize("error", [ValueError("refused"), KeyboardInterrupt()], ids=["refused", "interrupted"])
def test_a_replacement_that_fails_before_a_checkpoint_brings_the_old_run_back(
    runs: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    from geodesic.experiment import train as experiment

    before = everything(runs)
    monkeypatch.setattr(experiment, "train_vae", failing(error, checkpoint=False))
    with pytest.raises(type(error)):
        train(settings(seed=1), runs, overwrite=True, progress=False)
    assert everything(runs) == before


def test_data_that_the_model_refuses_leave_the_run_that_was_to_be_replaced(runs: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "grey.npy", np.full((20, 4), 1.5))
    before = everything(runs)
    changed = settings(data={"kind": "array", "path": str(tmp_path / "grey.npy")})
    with pytest.raises(DataError, match=r"1\.5"):
        train(changed, runs, overwrite=True, progress=False)
    assert everything(runs) == before


@pytest.mark.parametrize("error", [TrainingInterrupted("go on"), KeyboardInterrupt(), RuntimeError("memory")], ids=type)
def test_a_replacement_that_ends_after_a_checkpoint_is_kept_to_be_resumed(
    runs: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    from geodesic.experiment import train as experiment

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "train_vae", failing(error, checkpoint=True))
        with pytest.raises(type(error)):
            train(settings(seed=1), runs, overwrite=True, progress=False)
    assert set(everything(runs)) == {"run", "run/config.yaml", "run/metrics.csv", "run/last.ckpt"}
    assert load_settings(runs / "run" / "config.yaml").seed == 1


def test_a_replacement_that_succeeds_leaves_nothing_of_the_old_run(runs: Path) -> None:
    train(settings(seed=1), runs, overwrite=True, progress=False)
    assert [folder.name for folder in runs.iterdir()] == ["run"]
    assert not (runs / "run" / "geodesics.npz").exists()
    assert trained_with(settings(seed=1), runs / "run")


@pytest.mark.parametrize("folder", ["missing", "without a checkpoint"])
def test_a_run_set_aside_by_a_killed_process_comes_back_as_if_that_had_failed(
    runs: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    from geodesic.experiment import train as experiment

    before = everything(runs)
    (runs / "run").rename(runs / ".run.replaced")
    if folder != "missing":
        (runs / "run").mkdir()
        (runs / "run" / "config.yaml").write_text("name: run")
    monkeypatch.setattr(experiment, "train_vae", failing(ValueError("refused"), checkpoint=False))
    with pytest.raises(ValueError, match="refused"):
        train(settings(), runs, overwrite=True, progress=False)
    assert everything(runs) == before


def test_a_run_left_aside_gives_way_to_the_trained_one_in_its_place(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geodesic.experiment import train as experiment

    before = everything(runs)
    shutil.copytree(runs / "run", runs / ".run.replaced")
    (runs / ".run.replaced" / "older").touch()
    monkeypatch.setattr(experiment, "train_vae", failing(ValueError("refused"), checkpoint=False))
    with pytest.raises(ValueError, match="refused"):
        train(settings(), runs, overwrite=True, progress=False)
    assert everything(runs) == before


def test_a_run_folder_that_is_a_link_is_not_replaced(runs: Path, tmp_path: Path) -> None:
    (runs / "run").rename(tmp_path / "elsewhere")
    (runs / "run").symlink_to(tmp_path / "elsewhere")
    before = everything(tmp_path)
    with pytest.raises(RunFolderError, match="is a link"):
        train(settings(), runs, overwrite=True, progress=False)
    assert everything(tmp_path) == before


def test_a_file_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "text"
    write_text(file, "first")

    def interrupted() -> None:
        with replacing(file) as temporary:
            temporary.write_text("sec")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert files(tmp_path) == {"text": b"first"}
    with replacing(file) as temporary:
        temporary.write_text("second")
        assert file.read_text() == "first"
    assert files(tmp_path) == {"text": b"second"}


def test_arrays_read_back_as_they_were_written(tmp_path: Path) -> None:
    written = {"a/b": np.arange(6.0).reshape(2, 3), "c": np.array([True, False]), "d": np.float32(3)}
    write_npz(tmp_path / "a.npz", {key: np.asarray(value) for key, value in written.items()})
    read = read_npz(tmp_path / "a.npz")
    assert read.keys() == written.keys()
    for key, value in written.items():
        np.testing.assert_array_equal(read[key], value)
        assert read[key].dtype == np.asarray(value).dtype


# --- which weights belong to which settings -------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"pairs": {"kind": "random", "count": 1}}, True),
        ({"geodesic": {"segments": 3}}, True),
        ({"dtype": "float32"}, True),
        ({"seed": 1}, False),
        ({"data": {"kind": "digits", "limit": 199}}, False),
        ({"model": {"latent_size": 3, "network": {"hidden_sizes": (16,)}}}, False),
        ({"training": {"epochs": 3}}, False),
    ],
)
def test_weights_belong_to_the_settings_that_change_them(solved: Path, change: dict[str, object], same: bool) -> None:
    assert trained_with(settings(**change), solved / "run") is same


@pytest.mark.parametrize("key", ["geodesic", "pairs"])
def test_weights_are_used_again_though_another_version_wrote_the_other_settings(runs: Path, key: str) -> None:
    file = runs / "run" / "config.yaml"
    file.write_text(file.read_text().replace(f"{key}:", f"{key}:\n  of_another_version: true"))
    with pytest.raises(SettingsError, match="of_another_version"):
        load_settings(file)
    assert trained_with(settings(), runs / "run")


def test_a_folder_without_weights_was_not_trained(runs: Path) -> None:
    (runs / "run" / "model.safetensors").unlink()
    assert not trained_with(settings(), runs / "run")
    assert not trained_with(settings(), runs / "missing")
