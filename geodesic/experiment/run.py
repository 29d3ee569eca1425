"""From settings to a run folder: training, and geodesics between pairs."""

from __future__ import annotations

import contextlib
import json
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import geodesic
from geodesic.data import Dataset, Split, load_data
from geodesic.errors import (
    DecoderError,
    InputError,
    RunFolderError,
    SettingsError,
)
from geodesic.experiment.build import Model, check_search, load_model, make_manifold, make_solver
from geodesic.experiment.pairs import choose_rows, read_points
from geodesic.experiment.settings import (
    DensitySettings,
    FilePairs,
    GeodesicSettings,
    LocalVarianceSettings,
    Settings,
    VAESettings,
    load_settings,
    settings_to_yaml,
)
from geodesic.files import replacing, write_npz, write_text
from geodesic.geometry.manifold import Manifold
from geodesic.models.training import TrainingResult, train_vae
from geodesic.models.vae import VAE
from geodesic.pictures.canvas import save_figure
from geodesic.pictures.outputs import plot_reconstructions, plot_samples
from geodesic.solvers.solution import GeodesicSolution, Progress
from geodesic.solvers.solve import solve
from geodesic.solvers.solver import Solver

__all__ = [
    "SolveResult",
    "choose_pairs",
    "decode",
    "encode",
    "resolve_device",
    "results_file",
    "run_folder",
    "solve_as_set",
    "solve_pairs",
    "to_numpy",
    "train",
    "trained_model",
    "trained_with",
    "write_results",
]

_BESIDE = ("geodesic", "cov", "curvature", "mean", "analogy")  # sections that training does not look at

SolveCallback = Callable[[str, Progress], None]


@dataclass(frozen=True)
class SolveResult:
    """What `solve_pairs` found: a solution for each method, and names for the pairs."""

    solutions: dict[str, GeodesicSolution]
    pair_names: list[str]
    file: Path


# --- run folders ------------------------------------------------------------------------------


def run_folder(settings: Settings, runs: str | Path = "runs") -> Path:
    """The folder of a run: `runs/NAME`."""
    return Path(runs) / settings.name


def trained_with(settings: Settings, folder: Path) -> bool:
    """Whether the folder holds weights trained with the same seed, data, model and training settings."""
    if not (folder / "model.safetensors").is_file() or not (folder / "config.yaml").is_file():
        return False
    return _same_training(settings, _settings_of_training(folder))


def train(
    settings: Settings,
    runs: str | Path = "runs",
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> TrainingResult:
    """Train the VAE that the settings describe into its run folder.

    Args:
        settings: The experiment.
        runs: Parent of all run folders.
        resume: Go on from the folder's last checkpoint.
        overwrite: Replace the folder. What it held comes back if training fails before its first checkpoint.
        progress: Show a progress bar.

    Returns:
        The trained VAE with its held-out ELBO.

    Raises:
        RunFolderError: The folder exists and neither `resume` nor `overwrite` was asked for, or there is
            nothing to resume.
        SettingsError: The settings name no data, or a model of the user's own, which is not trained; or `solve` would
            refuse their geometry or solvers.
    """
    if not isinstance(settings.model, VAESettings):
        raise SettingsError("model.import: a model of your own is not trained here; use `geodesic solve`")
    if settings.data is None:
        raise SettingsError("data: training needs data; add, for example, data: {kind: digits}")
    if resume and overwrite:
        raise SettingsError("--resume and --overwrite exclude each other; choose one")
    device = resolve_device(settings.device)
    folder = run_folder(settings, runs)
    if resume:
        _require_resumable(settings, folder)
    elif folder.exists():
        _require_replaceable(folder, overwrite)
    dataset = load_data(settings.data)
    check_search(settings.geodesic, settings.model, dataset.event_shape)
    started = time.monotonic()
    with _set_aside(folder) if overwrite else contextlib.nullcontext(), _new_folder(folder):
        if not resume:
            write_text(folder / "config.yaml", settings_to_yaml(settings))
        pictures = _pictures(settings, dataset, folder)
        result = train_vae(
            dataset,
            settings.model,
            settings.training,
            folder=folder,
            seed=settings.seed,
            device=str(device),
            resume=resume,
            progress=progress,
            on_epoch=pictures,
        )
        if pictures is not None:
            pictures.draw(result.kept_epochs, result.vae)
        if resume:
            # Not before: weights that are there while training goes on are those of the settings before.
            write_text(folder / "config.yaml", settings_to_yaml(settings))
        record = _record(settings) | {
            "epochs": result.epochs,
            "kept_epochs": result.kept_epochs,
            "test_elbo": result.test_elbo,
            "test_bound": result.test_bound,
            "importance_samples": settings.training.importance_samples,
            "collapsed_dimensions": result.collapsed_dimensions,
            "seconds": round(time.monotonic() - started, 1),
        }
        write_text(folder / "record.json", json.dumps(record, indent=2) + "\n")
    return result


def solve_pairs(
    settings: Settings,
    runs: str | Path = "runs",
    *,
    name: str = "geodesics",
    overwrite: bool = False,
    callback: SolveCallback | None = None,
) -> SolveResult:
    """Find geodesics between the pairs that the settings name, with each of their solvers.

    Writes `NAME.npz` and `NAME.yaml` into the run folder, which `train` has made; for a decoder of the
    user's own the folder is made here.

    Args:
        settings: The experiment.
        runs: Parent of all run folders.
        name: Name of the two files.
        overwrite: Replace them.
        callback: Called with the method's name and a `Progress` at each step.

    Returns:
        The solutions.

    Raises:
        RunFolderError: The run folder is missing, was trained with other settings, or has the files already.
        InputError: `name` is no name for a file, or that of a file which `train` writes.
    """
    folder, file = run_folder(settings, runs), results_file(settings, runs, name, overwrite)
    device, dtype = resolve_device(settings.device), getattr(torch, settings.dtype)
    model = trained_model(settings, folder, device, dtype)
    search = settings.geodesic
    solvers = {entry.name: make_solver(entry, model, search.geometry) for entry in search.solvers}
    dataset = None if settings.data is None else load_data(settings.data)
    start, end, arrays, pair_names = choose_pairs(settings, dataset, model, device, dtype)
    encodings = None
    of_data = isinstance(search.geometry, LocalVarianceSettings | DensitySettings)
    if (search.init != "straight" or of_data) and dataset is not None and model.encoder is not None:
        encodings = encode(model, dataset.train, device, dtype)
    manifold = make_manifold(search, model, device, dtype, encodings)

    solutions: dict[str, GeodesicSolution] = {}
    for method, solver in solvers.items():
        history: list[tuple[int, Tensor]] = []

        def watch(p: Progress, name: str = method, history: list[tuple[int, Tensor]] = history) -> None:
            history.append((p.step, p.energy.cpu()))
            if callback is not None:
                callback(name, p)

        solution = solve_as_set(search, manifold, solver, start, end, encodings, watch)
        solutions[method] = solution
        steps, energies = zip(*history, strict=True)
        arrays[f"{method}/step_history"] = np.array(steps)
        arrays[f"{method}/energy_history"] = torch.stack(energies).numpy()
        arrays |= {f"{method}/{field}": value for field, value in solution.arrays().items()}
    if dataset is not None and model.encoder is not None:
        arrays["encodings"] = to_numpy(encode(model, dataset.test, device, dtype))
        if dataset.test.labels is not None:
            arrays["labels"] = to_numpy(dataset.test.labels)

    write_results(file, arrays, settings)
    return SolveResult(solutions, pair_names, file)


def solve_as_set(
    search: GeodesicSettings,
    manifold: Manifold,
    solver: Solver[Any] | str,
    start: Tensor,
    end: Tensor,
    points: Tensor | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> GeodesicSolution:
    """`solve` with the numbers of the settings; `points` are those that a graph goes through."""
    return solve(
        manifold,
        start,
        end,
        solver=solver,
        init=search.init,
        points=points,
        segments=search.segments,
        length_rtol=search.length_rtol,
        tol=search.tol,
        max_steps=search.max_steps,
        memory=search.memory,
        callback=callback,
    )


@dataclass(frozen=True)
class _Pictures:
    """Draws what a VAE makes of the same rows and the same noise, every so many epochs, into pictures/."""

    folder: Path
    every: int
    rows: Tensor
    noise: Tensor

    def __call__(self, epochs: int, vae: VAE) -> None:
        if epochs % self.every == 0:
            self.draw(epochs, vae)

    def draw(self, epochs: int, vae: VAE) -> None:
        weight = next(vae.parameters())
        with torch.no_grad():
            encodings = vae.encode(self.rows.to(weight))
            decoded, samples = vae.mean(encodings), vae.mean(self.noise.to(weight))
        self.folder.mkdir(exist_ok=True)
        reconstructions = plot_reconstructions(to_numpy(self.rows), to_numpy(decoded))
        save_figure(reconstructions, self.folder / f"reconstructions_{epochs:04d}.png")
        save_figure(plot_samples(to_numpy(samples)), self.folder / f"samples_{epochs:04d}.png")


def _pictures(settings: Settings, dataset: Dataset, folder: Path) -> _Pictures | None:
    """None where no pictures are asked for, and for rows that are no images."""
    every, shape = settings.training.picture_every, dataset.event_shape
    assert isinstance(settings.model, VAESettings)
    if every is None or len(shape) != 3 or shape[0] not in (1, 3):
        return None
    generator = torch.Generator().manual_seed(settings.seed)
    noise = torch.randn(64, settings.model.latent_size, generator=generator, dtype=torch.float32, device="cpu")
    return _Pictures(folder / "pictures", every, dataset.test.values[:16], noise)


# --- from settings ----------------------------------------------------------------------------


def resolve_device(name: str) -> torch.device:
    """`auto` to CUDA where there is one, else the CPU; refuses CUDA where there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device: {name!r} was asked for and {torch.cuda.device_count()} CUDA devices were found; "
            "use device=cpu or device=auto"
        )
    return device


def trained_model(settings: Settings, folder: Path, device: torch.device, dtype: torch.dtype) -> Model:
    """The model of the settings, after a look at what the run folder was trained with.

    Raises:
        RunFolderError: The folder is missing or was trained with other settings.
        CheckpointError: Its weights cannot be read.
    """
    if isinstance(settings.model, VAESettings):
        if not folder.is_dir():
            raise RunFolderError(f"{folder} does not exist; run `geodesic train` with this configuration first")
        if not trained_with(settings, folder):
            raise RunFolderError(
                f"{folder} holds no weights trained with these settings (seed, data, model, training); run "
                "`geodesic train` with --resume or --overwrite, or give the run another name"
            )
    return load_model(settings.model, folder, device, dtype)


def encode(model: Model, split: Split, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Latent points of the rows, (N, d), by the model's encoder."""
    assert model.encoder is not None
    with torch.no_grad():
        rows = split.values.to(dtype).split(1000)
        encodings = torch.cat([model.encoder(part.to(device)) for part in rows])
    if encodings.shape != (len(split), model.latent_size):
        raise DecoderError(
            f"encoder: expected latent points of shape {(len(split), model.latent_size)}, got "
            f"{tuple(encodings.shape)}; check model.latent_size"
        )
    return encodings


def decode(model: Model, z: Tensor) -> NDArray:
    """Expected rows at latent points, (*batch, d) to (*batch, *event)."""
    with torch.no_grad():
        x = model.mean(z.reshape(-1, z.shape[-1]))
    return to_numpy(x.reshape(*z.shape[:-1], *x.shape[1:]))


def choose_pairs(
    settings: Settings, dataset: Dataset | None, model: Model, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, dict[str, NDArray], list[str]]:
    """Latent points to connect, (P, d) twice, what to store of them, and names.

    Raises:
        SettingsError: Rows of test data are asked for, and there are no data or no encoder, or no such rows.
        DataError: A file of points cannot be used.
    """
    pairs = settings.pairs
    if isinstance(pairs, FilePairs):
        first, second = read_points(pairs, model.latent_size)
        start, end = (torch.as_tensor(points).to(device, dtype) for points in (first, second))
        names = [str(i) for i in range(len(start))]
        return start, end, {"start": to_numpy(start), "end": to_numpy(end)}, names

    if dataset is None or model.encoder is None:
        raise SettingsError(
            f"pairs.kind: {pairs.kind!r} picks rows of the test data and encodes them, so it needs data and "
            "an encoder; use pairs: {kind: file, path: points.npz} to give latent points"
        )
    rows = choose_rows(pairs, dataset.test)
    encodings = encode(model, dataset.test, device, dtype)
    start, end = encodings[rows[:, 0]], encodings[rows[:, 1]]
    labels = dataset.test.labels
    names = [f"{i} to {j}" for i, j in rows]
    if labels is not None:
        names = [f"{n} ({labels[i]} to {labels[j]})" for n, (i, j) in zip(names, rows, strict=True)]
    return start, end, {"start": to_numpy(start), "end": to_numpy(end), "rows": rows}, names


# --- files ------------------------------------------------------------------------------------


def results_file(settings: Settings, runs: str | Path, name: str, overwrite: bool) -> Path:
    """Where results of that name go, `NAME.npz` in the run folder, if they may.

    Raises:
        InputError: `name` is no name for a file, or that of a file which `train` writes.
        RunFolderError: The file is there, and is not to be replaced.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or name == "config":
        raise InputError(
            f"--name: got {name!r}; expected letters, digits, '.', '_' and '-', starting with a letter or "
            "digit, and another name than 'config', whose file holds the settings of the training"
        )
    file = run_folder(settings, runs) / f"{name}.npz"
    if file.exists() and not overwrite:
        raise RunFolderError(f"{file} exists already; choose another --name, or replace it with --overwrite")
    return file


def write_results(file: Path, arrays: Mapping[str, NDArray], settings: Settings) -> None:
    """Write results and, beside them, the settings that made them into a run folder."""
    # Both or neither: results with the settings of other results would mislead.
    with _new_folder(file.parent), replacing(file.with_name(f"{file.stem}.yaml")) as settings_file:
        settings_file.write_text(settings_to_yaml(settings), encoding="utf-8")
        write_npz(file, arrays)


def _settings_of_training(folder: Path) -> Settings:
    # How it was trained, and no more: what another version wrote for other commands spoils no weights.
    return load_settings(folder / "config.yaml", [f"{key}={{}}" for key in _BESIDE] + ["pairs={kind: random}"])


def _same_training(a: Settings, b: Settings) -> bool:
    a, b = (
        # Neither pictures nor measures change the weights.
        s.model_copy(
            update={"training": s.training.model_copy(update={"picture_every": None, "importance_samples": 0})}
        )
        for s in (a, b)
    )
    return all(getattr(a, key) == getattr(b, key) for key in ("seed", "data", "model", "training"))


def _require_replaceable(folder: Path, overwrite: bool) -> None:
    if not overwrite:
        raise RunFolderError(f"{folder} exists already; go on with --resume, or replace it with --overwrite")
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / "config.yaml").is_file()):
        raise RunFolderError(
            f"{folder} has no config.yaml, so it may be something else than a run; remove it yourself, or "
            "choose another name"
        )
    if folder.is_symlink():
        raise RunFolderError(f"{folder} is a link, which --overwrite does not follow; remove it yourself")


def _require_resumable(settings: Settings, folder: Path) -> None:
    if not (folder / "config.yaml").is_file() or not (folder / "last.ckpt").is_file():
        raise RunFolderError(f"{folder}: nothing to resume; train without --resume")
    before = _settings_of_training(folder)
    for key in ("seed", "data", "model"):
        if getattr(settings, key) != getattr(before, key):
            raise RunFolderError(
                f"{folder} was begun with other settings of `{key}`; resume with {folder / 'config.yaml'}, "
                "or start anew with --overwrite"
            )


def _record(settings: Settings) -> dict[str, Any]:
    return {
        "geodesic": geodesic.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "seed": settings.seed,
    }


def to_numpy(x: Any) -> NDArray:
    """A tensor or a number as an array on the CPU."""
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[None]:
    """Leave nothing behind where the work failed before there was a checkpoint to go on from."""
    existed = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if not existed and not _holds_training(folder):
            shutil.rmtree(folder)
        raise


@contextlib.contextmanager
def _set_aside(folder: Path) -> Iterator[None]:
    """Keep what the folder held until the block ends, and bring it back if there is no checkpoint by then."""
    aside = folder.with_name(f".{folder.name}.replaced")
    if aside.exists() and not _holds_training(folder):
        # The process was killed in here before it had a checkpoint: the run aside is still the last good one.
        _remove(folder)
    elif folder.exists():
        _remove(aside)
        folder.rename(aside)
    try:
        yield
    except BaseException:
        if _holds_training(folder):
            _remove(aside)
        elif aside.exists():
            aside.rename(folder)
        raise
    _remove(aside)


def _holds_training(folder: Path) -> bool:
    return (folder / "last.ckpt").exists() or (folder / "model.safetensors").exists()


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
