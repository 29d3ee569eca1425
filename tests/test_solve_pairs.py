"""Geodesics between pairs: the schema of the results and their laws."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import geodesic
from geodesic import GeodesicSolution, Manifold, PullbackManifold, Status, path_energy
from geodesic.experiment.solve import solve_pairs
from geodesic.files import read_npz
from geodesic.geometry import constant_speed
from geodesic.geometry.path import straight_path
from geodesic.models.vae import VAE
from geodesic.outputs import Euclidean
from geodesic.solvers import Plan, Progress
from geodesic.solvers.solve import find
from tests.experiments import METHODS, D, Home, P, T, settings

HISTORIES = ("energy_history", "step_history")
FIELDS = [field.name for field in dataclasses.fields(GeodesicSolution)]


Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def arrays(small: Home) -> Arrays:
    return read_npz(small.run / "geodesics.npz")


@pytest.mark.slow
def test_the_results_hold_the_documented_arrays_and_no_others(arrays: Arrays) -> None:
    common = {"start", "end", "rows", "encodings", "labels"}
    assert set(arrays) == common | {
        f"{method}/{key}" for method in METHODS for key in [*FIELDS, *HISTORIES, "status_name"]
    }


def test_every_array_of_the_results_is_explained_in_the_documentation(arrays: Arrays) -> None:
    text = (Path(__file__).parent.parent / "docs" / "run-folder.md").read_text(encoding="utf-8")
    names = {re.sub(rf"^({'|'.join(METHODS)})/", "M/", key) for key in arrays}
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_the_shapes_and_types_of_the_results_agree(arrays: Arrays) -> None:
    assert arrays["start"].shape == arrays["end"].shape == (P, D)
    assert arrays["rows"].shape == (P, 2)
    assert arrays["encodings"].shape == (len(arrays["labels"]), D)
    for method in METHODS:
        names = [Status(number).name for number in arrays[f"{method}/status"]]
        assert arrays[f"{method}/status_name"].tolist() == names
        shapes = {key: arrays[f"{method}/{key}"].shape for key in FIELDS}
        assert shapes.pop("path") == shapes.pop("mesh") == (P, T + 1, D)
        assert shapes.pop("arc") == shapes.pop("times") == (P, T + 1)
        assert shapes.pop("tol") == shapes.pop("plan") == ()
        assert shapes.pop("winding") == (P, D)
        assert set(shapes.values()) == {(P,)}
        assert arrays[f"{method}/path"].dtype == np.float64
        assert arrays[f"{method}/converged"].dtype == np.bool_
        steps = arrays[f"{method}/step_history"]
        assert steps.max() >= arrays[f"{method}/iterations"].max()
        assert arrays[f"{method}/energy_history"].shape == (len(steps), P)


def test_single_precision_is_kept_from_the_pairs_to_the_paths(runs: Path) -> None:
    search = {"segments": T, "solvers": ({"name": "auto", "kind": "auto"},)}
    result = solve_pairs(settings(dtype="float32", geodesic=search), runs, name="single")
    stored = read_npz(result.file)
    assert {stored[key].dtype for key in ("start", "encodings", "auto/path")} == {np.dtype(np.float32)}


def test_each_path_starts_and_ends_exactly_at_its_pair(arrays: Arrays) -> None:
    for method in METHODS:
        path = arrays[f"{method}/path"]
        np.testing.assert_array_equal(path[:, 0], arrays["start"])
        np.testing.assert_array_equal(path[:, -1], arrays["end"])


def test_the_pairs_are_the_encodings_of_their_rows(arrays: Arrays, small: Home) -> None:
    encodings, rows = arrays["encodings"], arrays["rows"]
    np.testing.assert_array_equal(encodings[rows[:, 0]], arrays["start"])
    np.testing.assert_array_equal(encodings[rows[:, 1]], arrays["end"])


def test_the_energy_history_runs_down_from_the_straight_line_to_the_answer(arrays: Arrays, small: Home) -> None:
    vae = VAE.load(small.run).double()
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


def test_the_stored_energy_is_that_of_the_stored_path_under_the_stored_decoder(arrays: Arrays, small: Home) -> None:
    vae = VAE.load(small.run).double()
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
        fine = arrays[f"{method}/error"] <= 1e-3
        np.testing.assert_array_equal(arrays[f"{method}/resolved"], converged & fine)
    assert arrays["auto/converged"].all()


@pytest.mark.slow
def test_the_same_settings_give_the_same_results_and_the_callback_sees_every_step(runs: Path, arrays: Arrays) -> None:
    seen: dict[str, list[int]] = {}

    def watch(method: str, progress: Progress) -> None:
        if progress.stepped:
            seen.setdefault(method, []).append(progress.step)

    result = solve_pairs(settings(), runs, name="again", all_methods=True, callback=watch)
    again = read_npz(result.file)
    assert again.keys() == arrays.keys()
    for key, value in again.items():
        if key.endswith("/plan"):  # says how much memory was free
            continue
        np.testing.assert_array_equal(value, arrays[key], err_msg=key)
    assert seen == {method: arrays[f"{method}/step_history"].tolist() for method in METHODS}
    labels = arrays["labels"]
    assert result.pair_names == [f"{i} to {j} ({labels[i]} to {labels[j]})" for i, j in arrays["rows"]]


SOLVERS = {
    "auto": ({}, "Newton("),
    "newton": ({"warm_up": False}, "Newton(warm_up=None)"),
    "newton_krylov": ({"history": 5, "metric_samples": 2}, "NewtonKrylov(history=5, metric_samples=2)"),
    "lbfgs": ({"history": 3}, "LBFGS(history=3, metric_samples=4)"),
    "gradient_descent": ({"step_size": 0.25}, "GradientDescent(direction='decoder', step_size=0.25"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOLVERS)
def test_each_kind_of_solver_is_made_with_its_options(runs: Path, kind: str) -> None:
    options, made = SOLVERS[kind]
    search = {"segments": T, "max_steps": 30, "solvers": ({"name": "one", "kind": kind} | options,)}
    one = settings(geodesic=search, pairs={"kind": "random", "count": 1})
    stored = read_npz(solve_pairs(one, runs, name="one").file)
    assert str(Plan.from_json(str(stored["one/plan"])).solver).startswith(made)
    assert stored["one/converged"].all() or kind == "gradient_descent"


def test_what_a_search_asks_for_reaches_solve_and_the_graph_gets_the_encodings_of_the_training_rows(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geodesic.experiment import run

    asked: list[geodesic.Search] = []

    def spy(
        manifold: Manifold, start: Tensor, end: Tensor, search: geodesic.Search, callback: object
    ) -> GeodesicSolution:
        asked.append(search)
        return find(manifold, start, end, search, callback)

    monkeypatch.setattr(run, "find", spy)
    search = {"segments": 4, "init": "best", "length_rtol": 0.5, "memory": 1e8, "tol": 1e-3, "max_steps": 7}
    solve_pairs(settings(geodesic=search, pairs={"kind": "random", "count": 1}), runs, name="best")
    (found,) = asked
    assert {name: getattr(found, name) for name in search} == search
    vae = VAE.load(runs / "small").double()
    rows = settings().data.load().train.values.double()
    with torch.no_grad():
        assert_close(found.graph_points, vae.encode(rows))


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
