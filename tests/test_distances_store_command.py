"""`geodesic distances --store`: the same figures as in memory, by parts too, and what an interrupted call says."""

import json
import shutil
from pathlib import Path

import pytest

import geodesic
from geodesic.distances import DistanceProgress, Store, key_figures
from geodesic.errors import DataError, SettingsError
from geodesic.experiment import Settings
from geodesic.experiment.settings.load import settings_to_yaml
from geodesic.experiment.studies import distances as study
from geodesic.experiment.studies.distances import Distances, measure_distances
from geodesic.files import read_npz
from tests import experiments
from tests.experiments import Home, refused, run

pytest.importorskip("zarr", reason="needs zarr, of the extra scale")

N = 13


def settings(**changes: object) -> Settings:
    choice = {"points": {"kind": "encodings", "count": N}, "nearest": 3, "method": "straight", "tile": 5}
    return experiments.settings(geodesic={"segments": 8, "length_rtol": None}, distances=choice | changes)


@pytest.fixture(scope="module")
def runs(small: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(small.folder / "runs", tmp_path_factory.mktemp("stored") / "runs"))


@pytest.fixture(scope="module")
def memory(runs: Path) -> Distances:
    """Without a store."""
    return measure_distances(settings(), runs, name="memory")


@pytest.mark.slow
def test_the_command_says_with_a_store_what_it_says_without(runs: Path, memory: Distances) -> None:
    config = runs.parent / "small.yaml"
    config.write_text(settings_to_yaml(settings()))
    store = runs.parent / "store"
    done = run("distances", config, "--runs", runs, "--name", "stored", "--store", store, "--json")
    assert done.status == 0, done
    said = json.loads(done.out)
    assert [row["value"] for row in said["rows"]] == pytest.approx([row["value"] for row in memory.rows], rel=1e-5)
    assert (runs / "small" / "stored.csv").is_file()
    assert geodesic.open_distances(store).tile == 5


@pytest.mark.slow
def test_a_matrix_that_is_too_large_is_read_in_parts(
    runs: Path, memory: Distances, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "_TOGETHER", N - 1)
    monkeypatch.setattr(study, "_DRAWN", 6)
    found = measure_distances(settings(), runs, name="parts", store=Store(runs.parent / "parts"))
    assert [row["value"] for row in found.rows] == pytest.approx([row["value"] for row in memory.rows], rel=1e-5)
    assert [row["of"] for row in found.rows] == [row["of"] for row in memory.rows]
    arrays = read_npz(found.file)
    assert "length" not in arrays
    assert geodesic.open_distances(str(arrays["store"])).missing == []
    assert sorted(arrays["order"].tolist()) == list(range(6))
    assert found.tables == []


def test_quantiles_of_some_ratios_say_of_how_many(memory: Distances, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_figures, "_KEPT", 20)
    arrays = read_npz(memory.file) | {"status": read_npz(memory.file)["status"] * 0 + 1}
    rows = {row["quantity"]: row for row in key_figures.distance_rows(arrays, 3)}
    assert rows["straight over geodesic length, median"]["of"] == f"20 of {N * (N - 1) // 2} pairs"
    assert rows["straight over geodesic length, largest"]["of"] == f"{N * (N - 1) // 2} pairs"


@pytest.mark.slow
def test_an_interrupted_call_says_how_to_go_on(runs: Path, memory: Distances) -> None:
    def end(_: DistanceProgress) -> None:
        raise KeyboardInterrupt

    store, said = Store(runs.parent / "interrupted"), []
    with pytest.raises(KeyboardInterrupt):
        measure_distances(settings(), runs, name="interrupted", store=store, callback=end, report=said.append)
    assert "lacks 5 tiles; the same command computes these alone" in said[-1]
    found = measure_distances(settings(), runs, name="interrupted", store=store)
    assert found.rows[-1] == memory.rows[-1]
    with pytest.raises(DataError, match="made otherwise: tile"):
        measure_distances(settings(tile=4), runs, name="other", store=store)


def test_what_a_store_cannot_take_is_refused_before_work(runs: Path) -> None:
    with pytest.raises(SettingsError, match=r"distances\.method: got 'landmarks'.*--store takes"):
        measure_distances(settings(method="landmarks"), runs.parent / "nowhere", store=Store(runs.parent / "no"))
    config = runs.parent / "small.yaml"
    config.write_text(settings_to_yaml(settings()))
    refused(run("distances", config, "--scheduler", "processes:2"), 2, "--scheduler: got", "without --store")
    refused(
        run("distances", config, "--store", runs.parent / "no", "--scheduler", "two"),
        2,
        "--scheduler: expected",
        "'two'",
    )
    assert not (runs.parent / "no").exists()
