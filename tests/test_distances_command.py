"""`geodesic distances`: what it writes is what the library computes, and what bad input gets."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import geodesic
from geodesic.data import Split
from geodesic.distances import DistanceMatrix, DistanceProgress, Graph
from geodesic.distances.key_figures import distance_rows
from geodesic.distances.neighborhoods import in_common, label_hits, nearest_others, spread_of_mean
from geodesic.errors import DataError, RunFolderError, SettingsError
from geodesic.experiment import Settings
from geodesic.experiment.pairs import Encoded
from geodesic.experiment.points import EncodedPoints, FilePoints
from geodesic.experiment.settings.load import settings_to_yaml
from geodesic.experiment.studies.distances import measure_distances
from geodesic.files import read_npz
from geodesic.pictures.distances import cluster_order
from tests import experiments
from tests.experiments import Home, refused, run

N = 17  # more points than the first stage has, after which it is interrupted
GEODESIC = {"segments": 8, "length_rtol": None, "tol": 1e-9}  # which is for `solve`, and out of reach of float32


def settings(**changes: object) -> Settings:
    return experiments.settings(
        geodesic=GEODESIC, distances={"points": {"kind": "encodings", "count": N}, "nearest": 3} | changes
    )


@pytest.fixture(scope="module")
def measured(small: Home, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Runs with distances, and what the command said of them as JSON."""
    home = tmp_path_factory.mktemp("distances")
    runs = Path(shutil.copytree(small.folder / "runs", home / "runs"))
    (home / "small.yaml").write_text(settings_to_yaml(settings()))
    done = run("distances", home / "small.yaml", "--runs", runs, "--json")
    assert done.status == 0, done
    return runs, done.out


@pytest.mark.slow
def test_the_file_holds_what_the_library_measures(measured: tuple[Path, str]) -> None:
    runs, _ = measured
    file = runs / "small" / "distances.npz"
    matrix, arrays = DistanceMatrix.load(file), read_npz(file)
    vae = geodesic.VAE.load(runs / "small").double().requires_grad_(False)
    manifold = geodesic.PullbackManifold(vae.decode, geodesic.outputs.Euclidean(mean=torch.sigmoid))
    z = torch.as_tensor(arrays["points"])
    assert z.dtype == torch.float32  # which is enough for the default length_rtol
    assert matrix.tol == matrix.length_rtol == 1e-3
    exact = geodesic.distance_matrix(manifold, z.double(), search=geodesic.Search(segments=8))
    torch.testing.assert_close(matrix.length.double(), exact.length, rtol=1e-3, atol=1e-6)
    assert bool((matrix.lower.double() <= exact.length).all())
    np.testing.assert_allclose(arrays["latent_distance"], torch.cdist(z, z).numpy(), rtol=1e-3, atol=1e-3)
    assert arrays["labels"].shape == arrays["rows"].shape == (N,)
    assert sorted(arrays["order"].tolist()) == list(range(N))


def test_the_tables_have_a_line_for_each_pair(measured: tuple[Path, str]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    runs, _ = measured
    arrays = read_npz(runs / "small" / "distances.npz")
    with (runs / "small" / "distances.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == N * (N - 1) // 2
    for line in lines[:: len(lines) // 7]:
        i, j = int(line["i"]), int(line["j"])
        for key in ("length", "lower", "upper", "straight_length"):
            assert np.float32(line[key]) == arrays[key][i, j]
        assert (int(line["label_i"]), int(line["label_j"])) == (arrays["labels"][i], arrays["labels"][j])
        assert line["status"] == arrays["status_name"][i, j]
    table = parquet.read_table(runs / "small" / "distances.parquet")
    assert table.column_names == list(lines[0])
    assert table["length"].to_pylist() == [float(line["length"]) for line in lines]
    assert (runs / "small" / "figures" / "distances" / "distances.png").is_file()
    assert not (runs / "small" / "distances.unfinished").exists()


def test_json_has_the_rows_that_the_arrays_give(measured: tuple[Path, str]) -> None:
    runs, out = measured
    said = json.loads(out)
    rows = distance_rows(read_npz(runs / "small" / "distances.npz"), 3)
    assert [row["value"] for row in said["rows"]] == [row["value"] for row in rows]
    assert "computed in float32" in said["summary"]
    assert {row["quantity"] for row in rows} >= {"pairs not resolved", "their difference"}


@pytest.mark.slow
def test_an_interrupted_call_goes_on_and_comes_to_the_same(measured: tuple[Path, str]) -> None:
    runs, _ = measured

    def stop(progress: DistanceProgress) -> None:
        raise KeyboardInterrupt

    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        measure_distances(settings(), runs, name="again", callback=stop, report=said.append)
    unfinished = runs / "small" / "again.unfinished"
    assert unfinished.is_file()
    assert str(unfinished) in said[0]
    assert not (runs / "small" / "again.npz").exists()
    with pytest.raises(RunFolderError, match=r"again\.unfinished.*--overwrite"):
        measure_distances(settings(method="straight"), runs, name="again")
    seen: list[DistanceProgress] = []
    found = measure_distances(settings(), runs, name="again", callback=seen.append)
    assert seen[0].done > 64  # those of the first call among them
    first = DistanceMatrix.load(runs / "small" / "distances.npz")
    torch.testing.assert_close(found.matrix.length, first.length, rtol=1e-4, atol=1e-6)
    assert not unfinished.exists()


@pytest.mark.slow
def test_every_method_and_precision_can_be_asked_for(measured: tuple[Path, str]) -> None:
    runs, _ = measured
    choice = settings(method={"kind": "graph", "neighbors": 4, "sample": 2}, dtype="float64")
    assert isinstance(choice.distances.method, Graph)
    found = measure_distances(choice, runs, name="graph")
    assert found.matrix.length.dtype == torch.float64
    assert "computed in float64" in found.said
    with pytest.raises(RunFolderError, match="exists already"):
        measure_distances(choice, runs, name="graph")
    fine = measure_distances(settings(length_rtol=1e-5, method="straight"), runs, name="graph", overwrite=True)
    assert fine.matrix.length.dtype == torch.float64
    assert "computed in float64, which a length_rtol of 1e-05 needs" in fine.said


def test_without_pyarrow_there_is_no_parquet_and_that_is_said(
    measured: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, _ = measured
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    said: list[str] = []
    found = measure_distances(settings(method="straight"), runs, name="csv", report=said.append)
    assert [file.suffix for file in found.tables] == [".csv"]
    assert "pip install pyarrow" in said[0]


def test_a_decoder_of_ones_own_is_measured_between_drawn_points(tmp_path: Path) -> None:
    own = Settings.model_validate_json(
        json.dumps(
            {
                "name": "own",
                "device": "cpu",
                "model": {"import": "tests.decoders:network", "latent_size": 2},
                "distances": {"points": {"kind": "prior", "count": 5}, "nearest": 2, "method": "straight"},
            }
        )
    )
    with pytest.raises(SettingsError, match="kind: prior"):
        measure_distances(own.model_copy(update={"distances": settings().distances}), tmp_path)
    found = measure_distances(own, tmp_path)
    arrays = read_npz(found.file)
    assert arrays["points"].shape == (5, 2)
    assert "labels" not in arrays
    assert not any("label" in row["quantity"] for row in found.rows)


BAD = {
    "other dimensions": ({"points": np.zeros((4, 3))}, r"shape \(N, 2\).*got shape \(4, 3\)"),
    "not a number": ({"points": np.array([[0.0, 1], [np.nan, 1], [2, 2]])}, "finite numbers, got .*row 1"),
    "one point": ({"points": np.zeros((1, 2))}, "at least two points"),
    "labels of another length": ({"points": np.eye(2), "labels": np.arange(3)}, r"`labels` of shape \(2,\)"),
    "integers": ({"points": np.eye(2, dtype=int)}, "floating point"),
    "other names": ({"z": np.eye(2)}, "expected an array `points`"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_used_is_refused_before_work(
    case: str, measured: tuple[Path, str], tmp_path: Path
) -> None:
    runs, _ = measured
    arrays, why = BAD[case]
    np.savez(tmp_path / "points.npz", **arrays)
    with pytest.raises(DataError, match=why):
        measure_distances(settings(points={"kind": "file", "path": str(tmp_path / "points.npz")}), runs, name="bad")


@pytest.mark.slow
def test_points_and_labels_come_from_a_file(measured: tuple[Path, str], tmp_path: Path) -> None:
    runs, _ = measured
    z = np.random.default_rng(0).standard_normal((4, 2))
    np.savez(tmp_path / "points.npz", points=z, labels=np.array(["a", "b", "a", "b"]))
    np.save(tmp_path / "points.npy", z)
    for suffix in ("npz", "npy"):
        choice = {"kind": "file", "path": str(tmp_path / f"points.{suffix}")}
        found = measure_distances(settings(points=choice, method="straight"), runs, name=suffix)
        np.testing.assert_allclose(read_npz(found.file)["points"], z, rtol=1e-6)
    assert read_npz(runs / "small" / "npz.npz")["labels"].tolist() == ["a", "b", "a", "b"]
    assert isinstance(settings(points=choice).distances.points, FilePoints)


class Forty(Encoded):
    """Forty test rows."""

    device, dtype, latent_size = torch.device("cpu"), torch.float64, 2
    test, test_encodings = Split(torch.zeros(40, 3)), torch.zeros(40, 2)


def test_more_encodings_than_there_are_test_rows_are_refused_where_a_number_was_given() -> None:
    with pytest.raises(SettingsError, match=r"points\.count: got 41, and there are 40 rows"):
        EncodedPoints(count=41).choose(Forty())
    assert sorted(EncodedPoints(count=40).choose(Forty()).rows) == list(range(40))
    assert sorted(EncodedPoints().choose(Forty()).rows) == list(range(40))


def test_more_neighbors_than_points_are_refused_on_the_command_line(measured: tuple[Path, str]) -> None:
    runs, _ = measured
    done = run("distances", runs.parent / "small.yaml", f"distances.nearest={N}", "--runs", runs, "--name", "k")
    refused(done, 2, "distances.nearest", f"{N - 1} others")
    done = run("distances", runs.parent / "small.yaml", "distances.method=graphs", "--runs", runs)
    refused(done, 2, "did you mean 'graph'")


def test_neighbors_labels_and_orders_are_those_of_a_line_of_points() -> None:
    x = np.array([0.0, 5.0, 0.1, 5.2, 0.3])
    D = abs(x[:, None] - x)
    near = nearest_others(D, 2)
    assert near.tolist() == [[2, 4], [3, 4], [0, 4], [1, 4], [2, 0]]
    assert label_hits(near, np.array([0, 1, 0, 0, 0])).tolist() == [1, 0, 1, 0, 1]
    assert in_common(near, near[:, ::-1]).tolist() == [1.0] * 5
    D[0, 1:] = np.nan  # nothing is known of a point: itself is its neighbor all the same never
    assert 0 not in nearest_others(D, 2)[0]
    assert {frozenset(cluster_order(abs(x[:, None] - x)).tolist()[:2])} <= {frozenset((1, 3))} | {
        frozenset(pair) for pair in ((0, 2), (2, 4), (0, 4))
    }


def test_the_interval_of_a_difference_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).standard_normal(400)
    low, high = spread_of_mean(values)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)
