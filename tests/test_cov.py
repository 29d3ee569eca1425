"""`geodesic cov`: distances over seeds, resumable, and compared."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import geodesic
from geodesic.distances import DistanceProgress
from geodesic.errors import CheckpointError, RunFolderError, SettingsError
from geodesic.experiment import Settings
from geodesic.experiment.studies.solver_share import coefficient_of_variation, solver_rows
from geodesic.experiment.studies.spline_adam import adam_lengths
from geodesic.experiment.studies.variation import measure_variation
from geodesic.files import read_npz


def settings(**changes) -> Settings:
    small = {
        "name": "variation",
        "device": "cpu",
        "data": {"kind": "digits", "limit": 200},
        "model": {"network": {"hidden_sizes": [16]}},
        "training": {"epochs": 2, "importance_samples": 0, "picture_every": None},
        "pairs": {"kind": "random", "count": 3},
        "geodesic": {"segments": 8},
        "cov": {"seeds": 2, "decoders": [1, 2], "adam_steps": [20]},
    }
    return Settings.model_validate_json(json.dumps(small | changes))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    names: list[str] = []
    found = measure_variation(settings(), runs, progress=False, report=lambda name, done, total: names.append(name))
    return runs, found, names


def test_the_coefficient_is_standard_deviation_over_mean() -> None:
    distances = np.random.default_rng(0).gamma(3.0, size=(2, 5, 7))
    expected = distances.std(1, ddof=1) / distances.mean(1)
    np.testing.assert_allclose(coefficient_of_variation(distances), expected, rtol=1e-12)
    # Scaling a latent space changes nothing.
    np.testing.assert_allclose(coefficient_of_variation(1e6 * distances), expected, rtol=1e-12)


def test_what_is_not_known_is_left_out_of_the_coefficient() -> None:
    distances = np.array([[1.0, np.nan, np.nan], [3.0, 2.0, np.nan], [np.nan, 4.0, 5.0]])
    np.testing.assert_allclose(coefficient_of_variation(distances), [0.5**0.5, 2**0.5 / 3, np.nan])


@pytest.mark.slow
def test_every_size_and_seed_is_trained_and_measured_on_the_same_rows(measured) -> None:
    runs, found, names = measured
    expected = [f"decoders-{K}-seed-{seed}" for K in (1, 2) for seed in (0, 1)]
    assert names == [*expected, ""]
    assert sorted(p.name for p in (runs / "variation-cov" / "models").iterdir()) == expected
    assert found.euclidean.shape == found.geodesic.shape == (2, 2, 3)
    arrays = read_npz(found.file)
    for k, name in enumerate(expected):
        vae = geodesic.VAE.load(runs / "variation-cov" / "models" / name).double()
        test = settings().data.load().test.values.double()
        with torch.no_grad():
            start, end = (vae.encode(test[rows]) for rows in arrays["rows"].T)
        np.testing.assert_allclose(found.euclidean[k // 2, k % 2], (end - start).norm(dim=1).numpy(), rtol=1e-10)


@pytest.mark.slow
def test_the_geodesic_distances_are_those_of_the_members(measured) -> None:
    runs, found, _ = measured
    vae = geodesic.VAE.load(runs / "variation-cov" / "models" / "decoders-2-seed-1").double().requires_grad_(False)
    test = settings().data.load().test.values.double()
    start, end = (vae.encode(test[rows]) for rows in read_npz(found.file)["rows"].T)
    manifold = geodesic.EnsembleManifold(vae.decoders, geodesic.outputs.Euclidean(mean=torch.sigmoid))
    length = geodesic.solve(manifold, start, end, segments=8).length
    np.testing.assert_allclose(found.geodesic[1, 1], length.numpy(), rtol=1e-6)


def test_splines_by_adam_are_measured_in_the_same_models(measured) -> None:
    _, found, _ = measured
    np.testing.assert_array_equal(read_npz(found.file)["adam_20"], found.adam[20])
    assert bool((found.adam[20] > found.geodesic * (1 - 1e-3)).all())
    rows = {(row["figure"], row["decoders"]) for row in found.solver_rows()}
    assert rows == {("excess", "1"), ("excess", "2"), ("share", "1"), ("share", "2"), ("effect", "1 to 2")}
    assert set(found.coefficients()) == {"euclidean", "geodesic", "Adam, 20 steps"}


@pytest.mark.slow
def test_more_steps_of_adam_are_no_worse_on_a_sphere_than_fewer() -> None:
    a, b = torch.tensor([[0.1, 0.0], [1.0, 0.3]]), torch.tensor([[1.2, 0.9], [-0.5, 0.4]])
    sphere = geodesic.surfaces.StereographicSphere()
    exact = geodesic.solve(sphere, a, b).length
    excess = adam_lengths(sphere, a, b, (1, 150, 500)) / exact[:, None] - 1
    assert bool((excess[:, 1:] < 2e-3).all())
    assert bool((excess > -1e-5).all())


def test_the_share_of_a_solver_is_that_of_the_noise_it_adds() -> None:
    """Independent noise adds its squared coefficient to that of exact lengths."""
    random = np.random.default_rng(0)
    spread = np.array([0.2, 0.1])[:, None, None]  # more decoders, less variation
    exact = 5 * (1 + spread * random.standard_normal((2, 400, 60)))
    noisy = exact * (1 + 0.1 * random.standard_normal(exact.shape))
    rows = {(row["figure"], row["decoders"]): row for row in solver_rows([1, 4], exact, {"noisy": noisy})}
    for decoders, share in (("1", 0.2), ("4", 0.5)):
        row = rows["share", decoders]
        assert row["low"] < share < row["high"]
        assert row["value"] == pytest.approx(share, abs=0.02)
    kept = (0.2 - 0.1) / (0.05**0.5 - 0.02**0.5)
    assert rows["effect", "1 to 4"]["value"] == pytest.approx(1 - kept, abs=0.05)
    exact[0, 3, 7] = np.nan  # is left out of both
    assert np.isfinite(solver_rows([1, 4], exact, {"noisy": noisy})[0]["value"])


@pytest.mark.slow
def test_an_interrupted_study_measures_only_the_pairs_that_are_missing(measured, tmp_path: Path) -> None:
    shutil.copytree(measured[0], tmp_path / "runs")
    chosen = settings(cov={"seeds": 2, "decoders": [1], "tile": 1, "adam_steps": []})

    def end(progress: DistanceProgress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_variation(chosen, tmp_path / "runs", overwrite=True, progress=False, callback=end)
    told: list[DistanceProgress] = []
    found = measure_variation(chosen, tmp_path / "runs", overwrite=True, progress=False, callback=told.append)
    assert [progress.done for progress in told] == [3, 1, 2, 3]
    np.testing.assert_allclose(found.geodesic[0], measured[1].geodesic[0], rtol=1e-6)


@pytest.mark.slow
def test_workers_train_and_measure_what_one_process_does(measured, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs dask and distributed, of the extra scale")
    chosen = settings(cov={"seeds": 2, "decoders": [1], "adam_steps": []})
    names: list[str] = []
    # In this process, over TCP: processes of their own are started in test_scale.py.
    kind = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "protocol": "tcp://"}
    with distributed.LocalCluster(**kind, dashboard_address="127.0.0.1:0") as cluster:
        found = measure_variation(
            chosen,
            tmp_path,
            progress=False,
            scheduler=cluster.scheduler_address,
            report=lambda name, *_: names.append(name),
        )
    assert sorted(names) == ["", "decoders-1-seed-0", "decoders-1-seed-1"]
    np.testing.assert_allclose(found.geodesic[0], measured[1].geodesic[0], rtol=1e-4)


def test_the_picture_is_there(measured) -> None:
    assert measured[1].figure.stat().st_size > 10_000


def test_a_second_run_trains_nothing_again(measured) -> None:
    runs, found, _ = measured
    weights = sorted((runs / "variation-cov" / "models").glob("*/model.safetensors"))
    before = [file.stat().st_mtime_ns for file in weights]
    with pytest.raises(RunFolderError, match="exists already"):
        measure_variation(settings(), runs, progress=False)
    again = measure_variation(settings(), runs, overwrite=True, progress=False)
    assert [file.stat().st_mtime_ns for file in weights] == before
    np.testing.assert_array_equal(again.geodesic, found.geodesic)


@pytest.mark.slow
def test_more_seeds_use_the_models_that_are_there(measured, tmp_path: Path) -> None:
    runs, found, _ = measured
    shutil.copytree(runs, tmp_path / "runs")
    more = settings(cov={"seeds": 3, "decoders": [1]})
    grown = measure_variation(more, tmp_path / "runs", overwrite=True, progress=False)
    np.testing.assert_array_equal(grown.geodesic[0, :2], found.geodesic[0])


@pytest.mark.slow
def test_other_pairs_are_measured_anew_and_trained_no_more(measured, tmp_path: Path) -> None:
    runs = measured[0]
    shutil.copytree(runs, tmp_path / "runs")
    other = settings(pairs={"kind": "index", "indices": [[0, 1]]}, cov={"seeds": 2, "decoders": [1]})
    weights = sorted((tmp_path / "runs").glob("*/models/*/model.safetensors"))
    before = [file.stat().st_mtime_ns for file in weights]
    again = measure_variation(other, tmp_path / "runs", overwrite=True, progress=False)
    assert again.geodesic.shape == (1, 2, 1)
    assert [file.stat().st_mtime_ns for file in weights] == before


@pytest.mark.slow
def test_models_that_are_trained_further_are_measured_again(measured, tmp_path: Path) -> None:
    runs, found, _ = measured
    shutil.copytree(runs, tmp_path / "runs")
    longer = {"cov": {"seeds": 2, "decoders": [1]}, "training": {"epochs": 3, "importance_samples": 0}}
    again = measure_variation(settings(**longer), tmp_path / "runs", overwrite=True, progress=False)
    assert not np.isclose(again.geodesic[0], found.geodesic[0]).any()
    for store in (tmp_path / "runs").glob("*/models/*/*lengths-*"):
        shutil.rmtree(store)
    anew = measure_variation(settings(**longer), tmp_path / "runs", overwrite=True, progress=False)
    np.testing.assert_array_equal(again.geodesic, anew.geodesic)


@pytest.mark.slow
def test_distances_of_another_precision_are_measured_again(measured, tmp_path: Path) -> None:
    runs, found, _ = measured
    shutil.copytree(runs, tmp_path / "runs")
    chosen = settings(dtype="float32", cov={"seeds": 2, "decoders": [2]})
    single = measure_variation(chosen, tmp_path / "runs", overwrite=True, progress=False)
    assert single.geodesic.dtype == np.float32
    np.testing.assert_allclose(single.geodesic, found.geodesic[1:], rtol=1e-3)


def test_models_that_cannot_be_trained_further_are_told_apart(measured, tmp_path: Path) -> None:
    shutil.copytree(measured[0], tmp_path / "runs")
    other = settings(training={"epochs": 2, "importance_samples": 0, "learning_rate": 0.01})
    with pytest.raises(
        CheckpointError, match=r"learning_rate was 0.001 and is 0.01.*; or remove .*models to train all"
    ):
        measure_variation(other, tmp_path / "runs", overwrite=True, progress=False)


def test_what_cannot_be_compared_is_refused_before_any_training(tmp_path: Path) -> None:
    for changes, message in (
        ({"pairs": {"kind": "file", "path": "points.npz"}}, "something else in each model"),
        ({"data": None}, "needs data and a VAE"),
        ({"model": {"import": "torch.nn:Identity", "latent_size": 2}}, "needs data and a VAE"),
        (
            {"model": {"likelihood": "gaussian"}, "geodesic": {"geometry": "fisher_rao"}},
            "has no embedding, which the geometry of an ensemble is made from",
        ),
        ({"model": {"uncertainty": "blend"}}, "cov.decoders: got 2; .*an ensemble shows its uncertainty"),
    ):
        with pytest.raises(SettingsError, match=message):
            measure_variation(settings(**changes), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cov", [{"seeds": 1}, {"decoders": []}, {"decoders": [0]}])
def test_too_few_models_are_refused(cov) -> None:
    with pytest.raises(ValueError, match="cov"):
        settings(cov=cov)
