"""The pictures of a run, from its folder."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from geodesic.errors import DataError, RunFolderError
from geodesic.experiment.run import Run, open_run
from geodesic.experiment.settings.load import load_settings
from geodesic.files import read_npz
from geodesic.geometry.path import straight_path
from geodesic.pictures.canvas import save_figures
from geodesic.pictures.outputs import plot_strip
from geodesic.pictures.paths import named, plot_energy, plot_latent
from geodesic.solvers.solution import GeodesicSolution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_run"]

_CURVE = 100  # segments of a drawn curve
_FRAMES = 11  # of a strip: every tenth of a curve's length


def plot_run(folder: str | Path, *, name: str = "geodesics", overwrite: bool = False) -> list[Path]:
    """Draw the pictures of a run into `figures/NAME/`: latent plane, energies, one strip of outputs a pair.

    Args:
        folder: The run folder.
        name: Which results to draw, as given to `solve_pairs`.
        overwrite: Replace pictures that exist.

    Returns:
        The files written.

    Raises:
        RunFolderError: The folder has no results of that name, or has pictures of them already.
    """
    folder = Path(folder)
    file = folder / f"{name}.npz"
    if not file.is_file() or not (folder / f"{name}.yaml").is_file():
        raise RunFolderError(f"{file}: no results to draw; {_instead(folder, name)}")
    target = folder / "figures" / name
    if target.exists() and not overwrite:
        raise RunFolderError(f"{target} exists already; replace it with --overwrite")
    settings = load_settings(folder / f"{name}.yaml")
    with open_run(settings, folder) as run:
        return save_figures(target, _figures(run, file))


def _instead(folder: Path, name: str) -> str:
    """What to do where a folder has no results: name the folder that has some, if it can be told."""
    if folder.is_file():
        return f"{folder} is a file; give the folder of its run, runs/{load_settings(folder).name}"
    if not folder.exists():
        found = [file.parent for parent in (Path("runs"), folder.parent) for file in parent.glob(f"*/{name}.npz")]
        runs = {run.name: run for run in found}
        close = difflib.get_close_matches(folder.name, runs, n=1)
        return f"did you mean {runs[close[0]]}?" if close else "give the folder of a run; `geodesic runs` lists them"
    return "run `geodesic solve` first"


def _figures(run: Run, file: Path) -> dict[str, Figure]:
    arrays = read_npz(file)
    methods = [entry.name for entry in run.settings.geodesic.solvers]
    best = _best_curves(arrays, methods, file)
    start, end = (torch.as_tensor(best["curve"][:, at]) for at in (0, -1))  # which may be a copy of the end given
    straight = straight_path(start, end, _CURVE).numpy()
    frames = slice(None, None, _CURVE // (_FRAMES - 1))
    outputs = [run.decode(curve[:, frames]) for curve in (straight, best["curve"])]

    histories = {method: arrays[f"{method}/energy_history"] for method in methods}
    steps = {method: arrays[f"{method}/step_history"] for method in methods}
    name = named("geodesic", best["converged"])
    latent = plot_latent({name: best["curve"]}, arrays.get("encodings"), arrays.get("labels"))
    figures = {"energy.png": plot_energy(histories, steps), "latent.png": latent}
    measured = [arrays[f"{methods[0]}/straight_length"], best["length"], best["converged"]]
    for pair in range(len(straight)):
        figures[f"strip_{pair:03d}.png"] = plot_strip(*(x[pair : pair + 1] for x in (*outputs, *measured)))
    return figures


def _best_curves(arrays: dict[str, NDArray], methods: list[str], file: Path) -> dict[str, NDArray]:
    """For each pair the shortest converged curve, or the shortest of all where none converged, at constant speed."""
    try:
        solutions = [GeodesicSolution.from_arrays(arrays, prefix=f"{method}/") for method in methods]
    except DataError as error:
        raise RunFolderError(
            f"{file}: {error}; `geodesic plot` draws what `geodesic solve` has written, so run that with another "
            "--name (other commands draw their pictures themselves)"
        ) from None
    lengths = np.stack([solution.length.numpy() for solution in solutions])
    converged = np.stack([solution.converged.numpy() for solution in solutions])
    penalized = np.where(np.isfinite(lengths) & (converged | ~converged.any(0)), lengths, np.inf)
    chosen = penalized.argmin(0)
    pair = np.arange(len(chosen))
    # Not the nodes: with `length_rtol` methods differ in how many they have.
    curves = np.stack([solution(torch.linspace(0, 1, _CURVE + 1)).numpy() for solution in solutions])
    return {"curve": curves[chosen, pair], "length": lengths[chosen, pair], "converged": converged[chosen, pair]}
