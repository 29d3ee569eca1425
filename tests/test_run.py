"""Run folders: what a training leaves, that failures leave nothing, and which weights belong to which settings."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch.testing import assert_close

import geodesic
from geodesic import load_settings
from geodesic.errors import DataError, RunFolderError, SettingsError, TrainingInterrupted
from geodesic.experiment.figures import plot_run
from geodesic.experiment.folders import run_folder, trained_with
from geodesic.experiment.run import open_run
from geodesic.experiment.solve import solve_pairs
from geodesic.experiment.train import train
from geodesic.files import locked
from geodesic.models.vae import VAE
from tests.experiments import Home, contents, settings


def test_a_geometry_that_the_model_will_not_suit_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"needs model\.likelihood: gaussian"):
        train(settings(geodesic={"geometry": "expected"}), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_record_of_a_training_holds_its_measures_and_is_documented(small: Home) -> None:
    record = json.loads((small.run / "record.json").read_text())
    vae, test = VAE.load(small.run), settings().data.load().test.values
    assert (record["epochs"], record["kept_epochs"], record["seed"]) == (2, 2, 0)
    assert record["test_elbo"] == pytest.approx(geodesic.models.evaluate_elbo(vae, test), rel=1e-6)
    assert record["importance_samples"] == 64
    assert record["test_bound"] == pytest.approx(
        geodesic.models.importance_weighted_bound(vae, test, samples=64), rel=1e-6
    )
    assert record["test_bound"] > record["test_elbo"]
    last = (small.run / "kl.csv").read_text().splitlines()[-1].split(",")
    assert record["collapsed_dimensions"] == [k for k, kl in enumerate(last[1:]) if float(kl) < 0.01]
    text = (Path(__file__).parent.parent / "docs" / "run-folder.md").read_text(encoding="utf-8")
    assert {name for name in record if f"`{name}`" not in text} == set()
    for file in small.run.iterdir():
        assert f"`{file.name}`" in text or f"`{file.name}/" in text, file.name


@pytest.mark.slow
def test_pictures_are_drawn_every_so_many_epochs_and_at_the_end_and_change_nothing(tmp_path: Path) -> None:
    training = {"epochs": 5, "batch_size": 50, "learning_rate": 0.01}
    drawn = train(settings(training=training | {"picture_every": 2}), tmp_path / "drawn", progress=False)
    bare = train(settings(training=training | {"picture_every": None}), tmp_path / "bare", progress=False)
    for name, weight in drawn.vae.state_dict().items():
        assert torch.equal(weight, bare.vae.state_dict()[name])
    assert not (tmp_path / "bare" / "small" / "pictures").exists()
    folder = tmp_path / "drawn" / "small" / "pictures"
    kinds = ("reconstructions", "samples")
    assert sorted(file.name for file in folder.iterdir()) == [f"{k}_{n:04d}.png" for k in kinds for n in (2, 4, 5)]
    for kind in kinds:
        early, late = (imread(folder / f"{kind}_{n:04d}.png")[..., :3] for n in (2, 5))
        assert min(early.var(), late.var()) > 1e-3
        assert (early != late).any()


@pytest.mark.slow
def test_a_resumed_training_draws_the_same_rows_and_the_same_noise(tmp_path: Path) -> None:
    one, two = ({"epochs": n, "batch_size": 50, "picture_every": 1} for n in (1, 2))
    train(settings(training=two), tmp_path / "straight", progress=False)
    train(settings(training=one), tmp_path / "parts", progress=False)
    train(settings(training=two), tmp_path / "parts", resume=True, progress=False)
    straight, parts = (contents(tmp_path / name / "small" / "pictures") for name in ("straight", "parts"))
    assert len(straight) == 4
    assert straight == parts


@pytest.mark.slow
def test_with_patience_the_last_pictures_are_those_of_the_weights_that_are_kept(tmp_path: Path) -> None:
    training = {"epochs": 60, "batch_size": 16, "learning_rate": 0.1, "patience": 2, "picture_every": 1000}
    result = train(settings(training=training), tmp_path, progress=False)
    assert result.kept_epochs == result.epochs - 2
    names = sorted(file.name for file in (tmp_path / "small" / "pictures").iterdir())
    assert names == [f"{kind}_{result.kept_epochs:04d}.png" for kind in ("reconstructions", "samples")]


def test_vectors_have_no_pictures(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).random((40, 6)))
    train(settings(data={"kind": "array", "path": str(tmp_path / "rows.npy")}), tmp_path, progress=False)
    assert not (tmp_path / "small" / "pictures").exists()


def test_neither_pictures_nor_measures_make_it_another_training(runs: Path) -> None:
    training = settings().model_dump(mode="json")["training"]
    watched = settings(training=training | {"picture_every": None, "importance_samples": 5})
    assert trained_with(watched, runs / "small")
    assert not trained_with(settings(training=training | {"batch_size": 49}), runs / "small")


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
    before = contents(runs)
    search = {"segments": 4, "solvers": [{"name": "auto", "kind": "auto"}]}
    one = settings(pairs={"kind": "random", "count": 1}, geodesic=search)
    with pytest.raises(OSError, match="no space"):
        solve_pairs(one, runs, name=name, overwrite=True)
    assert contents(runs) == before


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
    assert not (tmp_path / "runs" / "small").exists()


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
    np.save(tmp_path / "gray.npy", np.full((20, 4), 1.5))
    before = everything(runs)
    changed = settings(data={"kind": "array", "path": str(tmp_path / "gray.npy")})
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
    assert set(everything(runs)) == {"small", "small/config.yaml", "small/metrics.csv", "small/last.ckpt"}
    assert load_settings(runs / "small" / "config.yaml").seed == 1


@pytest.mark.slow
def test_a_replacement_that_succeeds_leaves_nothing_of_the_old_run(runs: Path) -> None:
    train(settings(seed=1), runs, overwrite=True, progress=False)
    assert [folder.name for folder in runs.iterdir()] == ["small"]
    assert not (runs / "small" / "geodesics.npz").exists()
    assert trained_with(settings(seed=1), runs / "small")


@pytest.mark.parametrize("folder", ["missing", "without a checkpoint"])
def test_a_run_set_aside_by_a_killed_process_comes_back_as_if_that_had_failed(
    runs: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    from geodesic.experiment import train as experiment

    before = everything(runs)
    (runs / "small").rename(runs / ".small.replaced")
    if folder != "missing":
        (runs / "small").mkdir()
        (runs / "small" / "config.yaml").write_text("name: small")
    monkeypatch.setattr(experiment, "train_vae", failing(ValueError("refused"), checkpoint=False))
    with pytest.raises(ValueError, match="refused"):
        train(settings(), runs, overwrite=True, progress=False)
    assert everything(runs) == before


def test_a_run_left_aside_gives_way_to_the_trained_one_in_its_place(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geodesic.experiment import train as experiment

    before = everything(runs)
    shutil.copytree(runs / "small", runs / ".small.replaced")
    (runs / ".small.replaced" / "older").touch()
    monkeypatch.setattr(experiment, "train_vae", failing(ValueError("refused"), checkpoint=False))
    with pytest.raises(ValueError, match="refused"):
        train(settings(), runs, overwrite=True, progress=False)
    assert everything(runs) == before


def test_a_run_folder_that_is_a_link_is_not_replaced(runs: Path, tmp_path: Path) -> None:
    (runs / "small").rename(tmp_path / "elsewhere")
    (runs / "small").symlink_to(tmp_path / "elsewhere")
    before = everything(tmp_path)
    with pytest.raises(RunFolderError, match="is a link"):
        train(settings(), runs, overwrite=True, progress=False)
    assert everything(tmp_path) == before


# --- one process at a time -----------------------------------------------------------------------------


def test_a_run_that_is_being_trained_is_refused_to_others(runs: Path) -> None:
    before = everything(runs)
    with locked(runs / "small"):  # as another process would hold it
        for use in (
            lambda: train(settings(), runs, overwrite=True, progress=False),
            lambda: train(settings(), runs, resume=True, progress=False),
            lambda: solve_pairs(settings(), runs, name="other"),
            lambda: plot_run(runs / "small", overwrite=True),
        ):
            with pytest.raises(RunFolderError, match=r"small: another process is (writing|using) it"):
                use()
    assert everything(runs) == before


def test_a_run_in_use_is_not_trained_anew_and_others_may_read_it(runs: Path) -> None:
    with open_run(settings(), runs / "small") as run, open_run(settings(), runs / "small") as other:
        with pytest.raises(RunFolderError, match="another process is using it"):
            train(settings(), runs, overwrite=True, progress=False)
        assert torch.equal(run.test_encodings, other.test_encodings)


def test_results_of_one_name_are_made_by_one_process(runs: Path) -> None:
    with locked(runs / "small" / "other.npz"), pytest.raises(RunFolderError, match=r"other\.npz: another process"):
        solve_pairs(settings(), runs, name="other")


def test_an_opened_run_makes_what_is_asked_for_and_no_more(small: Home) -> None:
    data = settings().data
    with open_run(settings(), small.run) as run:
        assert run.latent_size == 2
        assert "dataset" not in vars(run)
        encodings = VAE.load(small.run).double().encode(data.load().test.values.double())
        assert_close(run.test_encodings, encodings.detach())
        assert "train_encodings" not in vars(run)  # the geometry takes none
        assert run.manifold is run.manifold
        assert "train_encodings" not in vars(run)
        assert run.decode(run.test_encodings[:3]).shape == (3, 1, 8, 8)


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
def test_weights_belong_to_the_settings_that_change_them(small: Home, change: dict[str, object], same: bool) -> None:
    assert trained_with(settings(**change), small.run) is same


@pytest.mark.parametrize("key", ["geodesic", "pairs"])
def test_weights_are_used_again_though_another_version_wrote_the_other_settings(runs: Path, key: str) -> None:
    file = runs / "small" / "config.yaml"
    file.write_text(file.read_text().replace(f"{key}:", f"{key}:\n  of_another_version: true"))
    with pytest.raises(SettingsError, match="of_another_version"):
        load_settings(file)
    assert trained_with(settings(), runs / "small")


def test_a_folder_without_weights_was_not_trained(runs: Path) -> None:
    (runs / "small" / "model.safetensors").unlink()
    assert not trained_with(settings(), runs / "small")
    assert not trained_with(settings(), runs / "missing")
