"""Training: it improves the bound, repeats itself, resumes exactly, and refuses early."""

import csv
import importlib
import logging
import math
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import geodesic
from geodesic import VAE, load_data, train_vae
from geodesic.data import Dataset, Split
from geodesic.errors import (
    CheckpointError,
    DataError,
    InputError,
    MissingExtraError,
    RunFolderError,
    TrainingDiverged,
    TrainingInterrupted,
)
from geodesic.files import locked
from geodesic.installation import hint
from geodesic.models import MLPNetwork, Training, evaluate_elbo, importance_weighted_bound
from geodesic.models.likelihoods import Categorical, Gaussian, Poisson
from geodesic.models.training.batches import Batches
from geodesic.models.training.hardware import Hardware
from geodesic.models.training.module import VAETraining
from geodesic.models.training.processes import Processes
from geodesic.models.training.train import COLLAPSED_KL, TrainingResult, split_rows
from geodesic.models.uncertainty import BlendUncertainty, RBFUncertainty
from tests.parts import LIKELIHOODS as EXAMPLES


def new_vae(event_shape: tuple[int, ...] = (1, 4, 4), seed: int = 0, **parts: Any) -> VAE:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return VAE(event_shape, network=MLPNetwork((16,)), **parts)


def stripes(rows: int = 120, seed: int = 0) -> Dataset:
    """Noisy images of one bright row of pixels: there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(0, 4, (rows,), generator=generator)
    images = torch.full((rows, 1, 4, 4), 0.05, dtype=torch.float32)
    images[torch.arange(rows), 0, which] = 0.95
    images = torch.bernoulli(images, generator=generator)
    cut = rows * 3 // 4
    return Dataset(Split(images[:cut], which[:cut]), Split(images[cut:], which[cut:]))


# Beta grows for two epochs, which a resumed run has to remember.
PLAN: dict[str, Any] = {"epochs": 4, "batch_size": 16, "learning_rate": 0.01, "kl_warmup_epochs": 2}
PLAN |= {"accelerator": "cpu", "importance_samples": 4}


def train(folder: Path, *, seed: int = 0, resume: bool = False, vae: VAE | None = None, **plan: Any) -> TrainingResult:
    training = Training(**PLAN | plan, seed=seed)
    vae = new_vae(seed=max(seed, 0)) if vae is None else vae
    return train_vae(vae, stripes(), training, folder=folder, resume=resume, progress=False)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingResult]:
    """A run of four epochs without interruption, and its folder: to look at, not to write into."""
    folder = tmp_path_factory.mktemp("straight")
    return folder, train(folder)


def metrics(folder: Path, name: str = "metrics.csv") -> list[dict[str, float]]:
    with (folder / name).open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def assert_same_weights(one: VAE, other: VAE) -> None:
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


def interrupt_in_epoch(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    step = VAETraining.training_step

    def interrupted(self: VAETraining, batch: torch.Tensor) -> torch.Tensor:
        if self.epoch == epoch:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(VAETraining, "training_step", interrupted)


@pytest.mark.slow
def test_training_improves_the_bound_and_writes_what_it_promises(tmp_path: Path) -> None:
    vae = new_vae()
    result = train(tmp_path, vae=vae, epochs=30, kl_warmup_epochs=0)
    assert result.vae is vae
    rows = metrics(tmp_path)
    assert [row["epoch"] for row in rows] == list(range(30))
    assert rows[-1]["validation_elbo"] > rows[0]["validation_elbo"] + 1
    # Better than any model whose pixels are independent.
    data = stripes()
    p = data.train.values.mean(0)
    independent = -torch.nn.functional.binary_cross_entropy(p.expand_as(data.test.values), data.test.values) * 16
    assert result.test_elbo > independent
    assert result.test_elbo == evaluate_elbo(VAE.load(tmp_path), data.test.values)
    assert (result.epochs, result.stopped_early) == (30, False)
    assert result.validation_elbo == pytest.approx(rows[-1]["validation_elbo"])
    assert not result.vae.training
    assert_same_weights(VAE.load(tmp_path), result.vae)
    assert result.test_bound == importance_weighted_bound(VAE.load(tmp_path), data.test.values, samples=4)
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "kl.csv",
        "last.ckpt",
        "metrics.csv",
        "model.json",
        "model.safetensors",
        "tensorboard",
    ]
    assert list((tmp_path / "tensorboard").glob("events*"))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    data = load_data("digits", limit=400)
    return Dataset(data.train, data.test.take(slice(100)))


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_likelihood_trains(tmp_path: Path, digits: Dataset, kind: str) -> None:
    likelihood, data = EXAMPLES[kind], digits
    try:
        likelihood.check(data.train.values)
    except DataError:  # no gray values, but counts or classes
        data = Dataset(*(Split((3 * split.values).round()) for split in (digits.train, digits.test)))
    vae = new_vae(data.event_shape, likelihood=likelihood)
    plan = Training(epochs=2, batch_size=16, learning_rate=0.003, accelerator="cpu", importance_samples=0)
    result = train_vae(vae, data, plan, folder=tmp_path, progress=False)
    first, last = (row["validation_elbo"] for row in metrics(tmp_path))
    assert math.isfinite(result.test_elbo)
    assert result.test_bound is None
    assert last > first
    assert result.test_elbo == evaluate_elbo(VAE.load(tmp_path), data.test.values)


@pytest.mark.slow
def test_scales_of_pixels_that_never_vary_stay_above_their_bound(tmp_path: Path, digits: Dataset) -> None:
    data = digits
    vae = new_vae(data.event_shape, likelihood=Gaussian("per_pixel", min_scale=0.05), inputs="none")
    plan = Training(epochs=8, batch_size=16, learning_rate=0.03, accelerator="cpu", importance_samples=0)
    result = train_vae(vae, data, plan, folder=tmp_path, progress=False)
    assert all(math.isfinite(value) for row in metrics(tmp_path) for value in row.values())
    with torch.no_grad():
        scale = result.vae.decode(result.vae.encode(data.test.values))[:, 1].exp()
    constant = data.train.values.std(0) == 0
    assert constant.any()
    assert scale.min() >= 0.05 * (1 - 1e-6)
    assert scale[:, constant].max() < 0.07 < scale[:, ~constant].mean()


def test_rows_that_a_likelihood_has_no_density_for_are_refused_before_anything_is_written(
    tmp_path: Path, digits: Dataset
) -> None:
    for likelihood, match in (
        (Poisson(), r"Poisson likelihood takes the counts.*got 0\.\d+ at .*multiply"),
        (Categorical(3), "categorical likelihood takes the whole numbers 0 to 2"),
    ):
        with pytest.raises(DataError, match=match):
            train_vae(
                new_vae((1, 8, 8), likelihood=likelihood),
                digits,
                folder=tmp_path / "run",
                progress=False,
            )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_training_repeats_itself_and_leaves_the_random_state_alone(
    tmp_path: Path, straight: tuple[Path, TrainingResult]
) -> None:
    _, one = straight
    torch.manual_seed(99)
    state, level = torch.get_rng_state(), logging.getLogger("lightning.pytorch").level
    same = train(tmp_path / "same")
    assert torch.equal(torch.get_rng_state(), state)
    assert logging.getLogger("lightning.pytorch").level == level
    assert_same_weights(one.vae, same.vae)
    assert one.test_elbo == same.test_elbo
    # The order of rows and the noise follow from the seed, the first weights are those that it is given.
    assert one.test_elbo != train(tmp_path / "other", seed=2, vae=new_vae()).test_elbo
    assert one.test_elbo != train(tmp_path / "weights", vae=new_vae(seed=2)).test_elbo


def test_the_metrics_are_those_of_the_weights(straight: tuple[Path, TrainingResult]) -> None:
    folder, _ = straight
    row = metrics(folder)[-1]
    for part in ("train", "validation"):
        assert_close(row[f"{part}_elbo"], row[f"{part}_log_likelihood"] - row[f"{part}_kl"])


def test_each_latent_dimension_has_its_share_of_the_kl(straight: tuple[Path, TrainingResult]) -> None:
    folder, result = straight
    rows, shares = metrics(folder), metrics(folder, "kl.csv")
    assert [list(share) for share in shares] == [["epoch", "kl_0", "kl_1"]] * 4
    for row, share in zip(rows, shares, strict=True):
        assert share["epoch"] == row["epoch"]
        assert_close(share["kl_0"] + share["kl_1"], row["validation_kl"], rtol=1e-6, atol=0)
    _, validation = split_rows(stripes(), 0.1, seed=0, processes=1)
    with torch.no_grad():
        kl = result.vae.encode_distribution(stripes().train.values[validation]).coordinate_kl().mean(0)
    assert_close(torch.tensor(result.validation_kl), kl, check_dtype=False, rtol=1e-6, atol=0)
    assert result.validation_kl == tuple(shares[-1][f"kl_{i}"] for i in range(2))


@pytest.mark.slow
def test_too_heavy_a_kl_term_collapses_every_dimension_and_the_usual_one_none(tmp_path: Path) -> None:
    usual = train(tmp_path / "usual", epochs=10, kl_warmup_epochs=0)
    assert usual.collapsed_dimensions == ()
    assert min(usual.validation_kl) > COLLAPSED_KL
    heavy = train(tmp_path / "heavy", epochs=15, kl_warmup_epochs=0, kl_weight=1000.0)
    assert heavy.collapsed_dimensions == (0, 1)
    assert max(heavy.validation_kl) < COLLAPSED_KL


def test_a_callback_sees_every_epoch_and_training_does_not_feel_it(
    tmp_path: Path, straight: tuple[Path, TrainingResult]
) -> None:
    epochs = []

    def watch(epoch: int, vae: VAE) -> None:
        epochs.append(epoch)
        assert not vae.training
        assert not torch.is_grad_enabled()
        torch.manual_seed(epoch)
        evaluate_elbo(vae, stripes().test.values)

    watched = train_vae(new_vae(), stripes(), Training(**PLAN), folder=tmp_path, progress=False, on_epoch=watch)
    assert epochs == [1, 2, 3, 4]
    assert_same_weights(watched.vae, straight[1].vae)


def test_beta_grows_linearly_from_zero(tmp_path: Path) -> None:
    train(tmp_path, epochs=5, kl_weight=2.0, kl_warmup_epochs=4)
    assert [row["kl_weight"] for row in metrics(tmp_path)] == [0, 0.5, 1.0, 1.5, 2.0]


def test_batches_hold_every_row_once_and_ranks_share_them() -> None:
    values = torch.arange(23.0)[:, None]
    epoch = 0
    batches = Batches(values, 5, 7, lambda: epoch)
    first = list(batches)
    assert [len(batch) for batch in first] == [5, 5, 5, 5, 3]
    assert len(batches) == 5
    assert sorted(torch.cat(first).flatten().tolist()) == list(range(23))
    epoch = 1
    assert not torch.equal(torch.cat(list(batches)), torch.cat(first))
    shares = [torch.cat(list(Batches(values, 5, 7, lambda: 0, rank, 2))) for rank in range(2)]
    assert [len(share) for share in shares] == [11, 11]
    assert torch.cat(shares).unique().numel() == 22
    evaluated = [Batches(values, 5, None, lambda: 0, rank, 2) for rank in range(2)]
    assert [len(share) for share in evaluated] == [len(list(share)) for share in evaluated] == [3, 3]
    assert sorted(torch.cat([batch for share in evaluated for batch in share]).flatten().tolist()) == list(range(23))


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_equals_a_straight_one(tmp_path: Path, straight: tuple[Path, TrainingResult], stop: int) -> None:
    train(tmp_path, epochs=stop)
    # Neither the random state nor the weights of the VAE that is given matter.
    torch.manual_seed(5)
    resumed = train(tmp_path, resume=True, vae=new_vae(seed=5))
    assert_same_weights(straight[1].vae, resumed.vae)
    assert resumed.test_elbo == straight[1].test_elbo
    for name in ("metrics.csv", "kl.csv"):
        assert metrics(tmp_path, name) == metrics(straight[0], name)


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path, straight: tuple[Path, TrainingResult]) -> None:
    shutil.copytree(straight[0], tmp_path / "again")
    again = train(tmp_path / "again", resume=True)
    assert_same_weights(straight[1].vae, again.vae)
    assert (again.epochs, again.test_elbo) == (4, straight[1].test_elbo)


@pytest.mark.parametrize("epoch", [0, 2])
def test_an_interrupted_run_can_be_resumed_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, straight: tuple[Path, TrainingResult], epoch: int
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, epoch)
        with pytest.raises(TrainingInterrupted, match="--resume") as caught:
            train(tmp_path)
    assert "\n" not in str(caught.value)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not (tmp_path / "model.safetensors").exists()
    resumed = train(tmp_path, resume=True)
    assert_same_weights(straight[1].vae, resumed.vae)
    assert metrics(tmp_path) == metrics(straight[0])


class Finalized:
    """Sends Ctrl-C while it is finalized, where Python drops what a handler raises."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def steps_with_an_interrupt(monkeypatch: pytest.MonkeyPatch, presses: int, ended: list[int]) -> None:
    step = VAETraining.training_step

    def interrupted(self: VAETraining, batch: torch.Tensor) -> torch.Tensor:
        Finalized()  # and is gone
        if presses == 2:
            os.kill(os.getpid(), signal.SIGINT)
        ended.append(len(ended))
        return step(self, batch)

    monkeypatch.setattr(VAETraining, "training_step", interrupted)


@pytest.fixture
def default_answer() -> Iterator[None]:
    """Python's answer to Ctrl-C, which a program that is started in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("presses", "steps"), [(1, 1), (2, 0)], ids=["waits for the batch", "twice does not"])
def test_one_interrupt_is_enough_wherever_it_arrives(
    presses: int, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default_answer: None
) -> None:
    ended: list[int] = []
    with monkeypatch.context() as patch:
        steps_with_an_interrupt(patch, presses, ended)
        with pytest.raises(TrainingInterrupted, match="--resume"):
            train(tmp_path)
    assert len(ended) == steps
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_after_the_last_batch_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, straight: tuple[Path, TrainingResult], default_answer: None
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(VAETraining, "on_train_end", lambda self: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(TrainingInterrupted, match="--resume"):
            train(tmp_path)
    assert_same_weights(straight[1].vae, train(tmp_path, resume=True).vae)


def test_an_interrupt_that_the_caller_has_ignored_stays_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default_answer: None
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ended: list[int] = []
    steps_with_an_interrupt(monkeypatch, 1, ended)
    assert train(tmp_path, epochs=1).epochs == 1
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_training_whose_weights_are_lost_ends_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"not finite after epoch 1, .*lower training.learning_rate"):
        train(tmp_path, learning_rate=1e30)
    assert len(metrics(tmp_path)) == 1
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("model", "rows", "error", "message"),
    [
        ({"uncertainty": BlendUncertainty()}, stripes(), InputError, "got 256 clusters of 90 training rows"),
        (
            {"uncertainty": RBFUncertainty(centers=91), "likelihood": Gaussian()},
            stripes(),
            InputError,
            "got 91 clusters of 90 training rows",
        ),
        (
            {"uncertainty": BlendUncertainty(centers=5), "likelihood": Poisson()},
            Dataset(Split(torch.zeros(9, 2, dtype=torch.float32)), Split(torch.zeros(3, 2, dtype=torch.float32))),
            DataError,
            "all counts are 0",
        ),
    ],
)
def test_uncertainty_that_cannot_be_fitted_is_refused_before_training(
    model: dict[str, Any], rows: Dataset, error: type[Exception], message: str, tmp_path: Path
) -> None:
    vae = new_vae(rows.event_shape, **model)
    with pytest.raises(error, match=message):
        train_vae(vae, rows, Training(epochs=1), folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_patience_keeps_the_best_weights_and_stays_stopped(tmp_path: Path) -> None:
    result = train(tmp_path, epochs=60, learning_rate=0.1, patience=3, kl_warmup_epochs=5)
    rows = metrics(tmp_path)
    assert result.stopped_early
    assert result.epochs == len(rows) < 60
    after = [row["validation_elbo"] for row in rows[5:]]
    assert after.index(max(after)) == len(after) - 1 - 3
    assert result.validation_elbo == max(after)
    assert result.kept_epochs == result.epochs - 3
    kept = metrics(tmp_path, "kl.csv")[result.kept_epochs - 1]
    assert result.validation_kl == (kept["kl_0"], kept["kl_1"])
    again = train(tmp_path, epochs=60, learning_rate=0.1, patience=3, kl_warmup_epochs=5, resume=True)
    assert again.epochs == result.epochs
    assert_same_weights(again.vae, result.vae)


@pytest.mark.slow
def test_an_early_stop_is_the_same_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"epochs": 60, "learning_rate": 0.1, "patience": 3}
    straight = train(tmp_path / "straight", **settings)
    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, straight.epochs - 2)
        with pytest.raises(TrainingInterrupted):
            train(tmp_path / "parts", **settings)
    resumed = train(tmp_path / "parts", resume=True, **settings)
    assert resumed.epochs == straight.epochs
    assert_same_weights(straight.vae, resumed.vae)


def test_the_rows_of_double_precision_train_in_double_precision(tmp_path: Path) -> None:
    result = train(tmp_path / "straight", precision="64-true", epochs=3)
    assert {w.dtype for w in result.vae.parameters()} == {torch.float64}
    train(tmp_path / "parts", precision="64-true", epochs=2)
    assert_same_weights(result.vae, train(tmp_path / "parts", precision="64-true", epochs=3, resume=True).vae)


def test_mixed_precision_is_for_the_networks_alone(tmp_path: Path) -> None:
    full, mixed = (train(tmp_path / name, precision=name) for name in ("32-true", "bf16-mixed"))
    assert {w.dtype for w in mixed.vae.parameters()} == {torch.float32}
    assert abs(mixed.test_elbo - full.test_elbo) < 0.1
    row = metrics(tmp_path / "bf16-mixed")[-1]
    assert_close(mixed.validation_elbo, row["validation_log_likelihood"] - row["validation_kl"], rtol=1e-6, atol=0)


def test_half_precision_on_the_cpu_is_refused_and_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"16-mixed.*use bf16-mixed"):
        train(tmp_path / "run", precision="16-mixed")
    assert not (tmp_path / "run").exists()


def test_an_existing_model_is_not_overwritten(straight: tuple[Path, TrainingResult]) -> None:
    folder, _ = straight
    before = {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()}
    with pytest.raises(RunFolderError, match="resume"):
        train(folder, epochs=2)
    assert {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()} == before


def test_a_folder_that_another_training_writes_into_is_refused(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "last.ckpt"),
        pytest.raises(RunFolderError, match=r"last\.ckpt: another process is using it"),
    ):
        train(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_cannot_be_resumed_is_refused(tmp_path: Path, straight: tuple[Path, TrainingResult]) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(tmp_path / "empty", resume=True)
    assert not (tmp_path / "empty").exists()
    shutil.copy(straight[0] / "last.ckpt", tmp_path)
    for settings, match in (
        ({"learning_rate": 0.5}, "learning_rate was 0.01 and is 0.5"),
        ({"seed": 3}, "seed was 0 and is 3"),
        ({"vae": new_vae(latent_size=3)}, "model.latent_size was 2 and is 3"),
        (
            {"vae": new_vae(likelihood=Gaussian())},
            "model.likelihood was {'kind': 'bernoulli'} and is",
        ),
        ({"epochs": 1}, "at least 4"),
    ):
        with pytest.raises(CheckpointError, match=match):
            train(tmp_path, resume=True, **settings)
    file = tmp_path / "last.ckpt"
    content = file.read_bytes()
    for bad in (b"", content[: len(content) // 2], b"no checkpoint", content[:-10]):
        file.write_bytes(bad)
        with pytest.raises(CheckpointError, match="truncated, or not a checkpoint"):
            train(tmp_path, resume=True)
    foreigns: list[Any] = [{"weights": torch.zeros(3)}, [1, 2], {"geodesic": {}}, {"geodesic": Path("x")}]
    for foreign in foreigns:
        torch.save(foreign, file)
        with pytest.raises(CheckpointError, match="truncated, or not a checkpoint"):
            train(tmp_path, resume=True)


class Trap:
    """What pickle would call when it reads this: the file `sprung` would be made."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.sprung,)


def test_a_checkpoint_that_was_made_to_run_code_does_not_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, straight: tuple[Path, TrainingResult]
) -> None:
    good = torch.load(straight[0] / "last.ckpt", map_location="cpu", weights_only=True)
    file, sprung = tmp_path / "last.ckpt", tmp_path / "sprung"
    (tmp_path / "trap_of_the_test.py").write_text(
        f"import pathlib\npathlib.Path({str(sprung)!r}).touch()\n\n\ndef make(cls, init):\n    return cls(**init)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    trap = Trap(sprung)
    by_pickle: list[Any] = [trap, good | {"callbacks": trap}, good | {"geodesic": good["geodesic"] | {"best": trap}}]
    by_name = {"_instantiator": "trap_of_the_test.make", "_class_path": "trap_of_the_test.make"}
    for zipped in (True, False):
        for content in by_pickle:
            torch.save(content, file, _use_new_zipfile_serialization=zipped)
            with pytest.raises(CheckpointError, match="not a checkpoint of this project"):
                train(tmp_path, resume=True)
    file.write_bytes(pickle.dumps(trap))
    with pytest.raises(CheckpointError, match="not a checkpoint of this project"):
        train(tmp_path, resume=True)
    for key in ("hyper_parameters", "datamodule_hyper_parameters"):
        torch.save(good | {key: by_name}, file)
        with pytest.raises(CheckpointError, match=f"holds {key}, .* do not trust it"):
            train(tmp_path, resume=True)
    assert not sprung.exists()
    assert not (tmp_path / "model.safetensors").exists()
    assert "trap_of_the_test" not in sys.modules
    # The traps are armed: without our care they spring.
    pickle.loads(pickle.dumps(trap))
    assert sprung.exists()


def test_lightning_is_imported_where_training_begins_and_nowhere_else() -> None:
    package = Path(geodesic.__file__).parent
    sources = {file.relative_to(package).as_posix(): file.read_text() for file in package.rglob("*.py")}
    by_name = re.compile(r"^\s*(import|from) (lightning|tensorboard)", re.M)
    needing = {name for name, text in sources.items() if by_name.search(text)}
    assert needing == {f"models/training/{name}.py" for name in ("interruption", "module", "processes", "trainer")}
    at_the_top = re.compile(r"^(import|from) geodesic\.models\.training\.(interruption|module|processes|trainer)", re.M)
    assert {name for name, text in sources.items() if at_the_top.search(text)} <= needing


def test_training_needs_lightning_and_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("lightning", "tensorboard"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(
                MissingExtraError, match=rf"{module} is not installed.*pip install .*\[train\]'"
            ) as caught:
                train(tmp_path / "run")
        assert hint("train") in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_vae_for_other_rows_or_trained_to_the_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rows have the shape \(1, 4, 4\), and the VAE is made for .*\(6,\)"):
        train(tmp_path / "run", vae=new_vae((6,)))
    fitted = new_vae(uncertainty=BlendUncertainty(centers=4))
    fitted.fit_uncertainty(stripes().train.values)
    with pytest.raises(InputError, match="fitted before; train a new VAE"):
        train(tmp_path / "run", vae=fitted)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, value) for name in ("epochs", "batch_size", "patience", "devices") for value in (0, True)),
        *((name, value) for name in ("kl_warmup_epochs", "importance_samples") for value in (-1, True)),
        *(("learning_rate", value) for value in (0.0, -1.0, math.nan, math.inf)),
        *(("kl_weight", value) for value in (-1.0, math.nan, math.inf)),
        *(("validation_fraction", value) for value in (0.0, 1.0)),
    ],
)
def test_a_plan_refuses_what_cannot_be_done_by_name(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{field}: expected .*, got {value}"):
        Training(**{field: value})


def test_values_out_of_range_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    good = stripes()
    bad = good.train.values.clone()
    bad[3, 0, 1, 1] = 1.5
    for dataset in (Dataset(Split(bad), good.test), Dataset(good.test, Split(bad))):
        with pytest.raises(DataError, match=r"0 to 1\.5"):
            train_vae(new_vae(), dataset, folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rows", [1, 2])
def test_two_rows_are_the_least(tmp_path: Path, rows: int) -> None:
    data = stripes()
    few = Dataset(Split(data.train.values[:rows]), data.test)
    if rows == 1:
        with pytest.raises(DataError, match="at least 2"):
            train_vae(new_vae(), few, folder=tmp_path / "run", progress=False)
        assert not (tmp_path / "run").exists()
    else:
        settings = Training(epochs=1, accelerator="cpu")
        result = train_vae(new_vae(), few, settings, folder=tmp_path, progress=False)
        assert math.isfinite(result.test_elbo)


def test_each_process_needs_a_row_to_train_on_and_one_to_validate_on(tmp_path: Path) -> None:
    data = stripes()
    few = Dataset(Split(data.train.values[:3]), data.test)
    with pytest.raises(DataError, match=r"2 device\(s\) needs at least 4"):
        train_vae(new_vae(), few, Training(devices=2, accelerator="cpu"), folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


TWO_PROCESSES = """
import sys
from pathlib import Path

import torch

import geodesic
from geodesic.models.training.module import VAETraining


def keep(module):
    weights = {"last": module.vae.state_dict(), "best": module.best_weights, "best_epoch": module.best_epoch}
    torch.save(weights, module.task.folder / f"rank_{module.global_rank}.pt")


def note(epochs, vae):
    with open(folder / "epochs.txt", "a") as file:
        print(epochs, file=file)


VAETraining.on_train_end = keep  # also in the processes that train, which import this file
folder = Path(sys.argv[1])

if __name__ == "__main__":
    rows = torch.rand(101, 1, 4, 4, generator=torch.Generator().manual_seed(0)).round()
    torch.save(rows[80:], folder.with_suffix(".test"))
    data = geodesic.data.Dataset(geodesic.data.Split(rows[:80]), geodesic.data.Split(rows[80:]))
    sys.ps1 = ">>> "  # as in a notebook, where processes are forked, which is quick besides
    for epochs in (2, 3):
        settings = geodesic.models.Training(
            epochs=epochs, batch_size=8, learning_rate=0.01, patience=9, accelerator="cpu", devices=2
        )
        torch.manual_seed(0)
        vae = geodesic.VAE(data.event_shape, network=geodesic.models.MLPNetwork((16,)))
        result = geodesic.train_vae(
            vae, data, settings, folder=folder, resume=epochs == 3, progress=False,
            on_epoch=note,
        )
    print(result.epochs, result.kept_epochs, result.test_elbo)
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="two processes need gloo, which torch lacks here")
def test_two_processes_train_the_same_weights_write_once_and_resume(tmp_path: Path) -> None:
    script, folder = tmp_path / "two.py", tmp_path / "run"
    script.write_text(TWO_PROCESSES)
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    epochs, kept_epochs, test_elbo = done.stdout.split()
    vae = VAE.load(folder)
    assert epochs == "3"
    assert float(test_elbo) == evaluate_elbo(vae, torch.load(folder.with_suffix(".test"), weights_only=True))
    one, other = (torch.load(folder / f"rank_{rank}.pt", weights_only=True) for rank in range(2))
    assert one["best_epoch"] == other["best_epoch"] == int(kept_epochs) - 1
    for which in ("last", "best"):
        assert one[which].keys() == vae.state_dict().keys()
        for name, weight in one[which].items():
            assert torch.equal(weight, other[which][name]), (which, name)
    for name, weight in vae.state_dict().items():
        assert torch.equal(weight, one["best"][name]), name
    assert [row["epoch"] for row in metrics(folder)] == [0, 1, 2]
    assert (folder / "epochs.txt").read_text().split() == ["1", "2", "3"]
    assert not [file.name for file in folder.iterdir() if file.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="two processes need gloo, which torch lacks here")
def test_processes_that_start_afresh_are_the_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = tmp_path / "epochs.txt"
    (tmp_path / "notes_of_the_test.py").write_text(
        f"def note(epochs, vae):\n    with open({str(notes)!r}, 'a') as file:\n        print(epochs, file=file)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    note = importlib.import_module("notes_of_the_test").note
    # As if there were several: one takes half the time, and has to be told as much.
    monkeypatch.setattr(Hardware, "processes", 2)
    vae, plan = new_vae(), Training(**PLAN | {"epochs": 1})
    result = train_vae(vae, stripes(), plan, folder=tmp_path / "run", progress=False, on_epoch=note)
    assert result.epochs == 1
    assert notes.read_text() == "1\n"
    with pytest.raises(AssertionError):
        assert_same_weights(vae, new_vae().float())
    assert_same_weights(VAE.load(tmp_path / "run"), vae)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert (Processes()._start_method, "MASTER_PORT" in os.environ) == ("fork", False)


def test_devices_that_do_not_exist_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device, settings, match in (
        ("cuda", {}, "device=cpu"),
        ("cuda:1", {}, "asks for 2 CUDA"),
        ("auto", {"accelerator": "gpu"}, "PyTorch finds 0"),
        ("tpu", {}, "expected auto, cpu, cuda or cuda:N"),
        ("cpu:1", {}, "expected auto"),
        ("auto", {"accelerator": "abacus"}, "'abacus'"),
    ):
        with pytest.raises(InputError, match=match):
            train_vae(
                new_vae(),
                stripes(),
                Training(**settings, device=device),
                folder=tmp_path / "run",
                progress=False,
            )
    with pytest.raises(InputError, match="seed"):
        train(tmp_path / "run", seed=-1)
    assert not (tmp_path / "run").exists()


@pytest.mark.cuda
def test_training_runs_on_cuda(tmp_path: Path) -> None:
    result = train_vae(new_vae(), stripes(), Training(epochs=3, device="cuda"), folder=tmp_path, progress=False)
    assert next(result.vae.parameters()).device.type == "cpu"
    assert math.isfinite(result.test_elbo)


def test_nothing_is_printed_without_progress(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, epochs=2)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_progress_shows_the_epochs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train_vae(new_vae(), stripes(), Training(epochs=2, accelerator="cpu"), folder=tmp_path, progress=True)
    assert "Epoch" in capfd.readouterr().out
