"""The pictures of a run, from its folder."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geodesic.checks import require_choice
from geodesic.drawing.best import BestCurves, best_of
from geodesic.errors import DataError, RunFolderError
from geodesic.experiment.folders import require_name, require_within
from geodesic.experiment.run import Run, open_run
from geodesic.experiment.settings.load import load_settings
from geodesic.files import read_npz
from geodesic.pictures.canvas import FORMATS, save_figures
from geodesic.pictures.movies import KINDS, movie_frames, require_writer, write_movie
from geodesic.pictures.outputs import plot_strip
from geodesic.pictures.paths import named, plot_energy, plot_latent
from geodesic.solvers.solution import GeodesicSolution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_run", "results_in", "solutions_in"]

_FRAMES = 11  # of a strip: every tenth of a curve's length
_TIMES = 26  # of a movie
_SHEET, _MOVIE = 12, 10  # pairs


def plot_run(
    folder: str | Path,
    *,
    name: str = "geodesics",
    overwrite: bool = False,
    kind: str = "png",
    movies: Sequence[str] = (),
) -> list[Path]:
    """Draw the pictures of a run into `figures/NAME/`: latent plane, energies, a strip a pair, and a sheet of strips.

    Args:
        folder: The run folder.
        name: Which results to draw, as given to `solve_pairs`.
        overwrite: Replace pictures that exist.
        kind: Of the files: "png", "pdf" or "svg".
        movies: "gif", "mp4" or both: a movie each of the pairs that differ most.

    Returns:
        The files written.

    Raises:
        RunFolderError: The folder has no results of that name, or has pictures of them already.
        InputError: `name` is no name of results, a kind is unknown, or outputs are no images and movies are asked for.
        MissingExtraError: ffmpeg is not there, which mp4 needs.
    """
    require_choice("--format", kind, FORMATS)
    for movie in movies:
        require_choice("movies", movie, KINDS)
        require_writer(movie)
    folder = Path(folder)
    file = results_in(folder, name, "draw")
    target = folder / "figures" / name
    require_within(folder, target)
    if target.exists() and not overwrite:
        raise RunFolderError(f"{target} exists already; replace it with --overwrite")
    settings = load_settings(folder / f"{name}.yaml")
    with open_run(settings, folder) as run:
        arrays = read_npz(file)
        solutions = solutions_in(arrays, [entry.name for entry in settings.geodesic.solvers], file)
        best = best_of(solutions)
        frames = _movie(run, best) if movies else []  # refused before pictures are replaced
        written = save_figures(target, _figures(run, arrays, solutions, best), kind)
    for movie in movies:
        written.append(target / f"movie.{movie}")
        write_movie(frames, written[-1])
    return written


def results_in(folder: Path, name: str, purpose: str) -> Path:
    """The file of results of that name in a run folder, which has its settings beside it.

    Args:
        folder: The run folder.
        name: Of the results.
        purpose: What is to be done with them, for messages.

    Raises:
        InputError: `name` is no name for a file.
        RunFolderError: There are no such results.
    """
    require_name(name)
    file = folder / f"{name}.npz"
    if not file.is_file() or not (folder / f"{name}.yaml").is_file():
        raise RunFolderError(f"{file}: no results to {purpose}; {_instead(folder, name)}")
    return file


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


def _figures(
    run: Run, arrays: Mapping[str, NDArray], solutions: Mapping[str, GeodesicSolution], best: BestCurves
) -> dict[str, Figure]:
    outputs = _outputs(run, best, slice(None), _FRAMES)
    histories = {method: arrays[f"{method}/energy_history"] for method in solutions}
    steps = {method: arrays[f"{method}/step_history"] for method in solutions}
    name = named("geodesic", best.converged)
    latent = plot_latent({name: best.curve}, arrays.get("encodings"), arrays.get("labels"))
    figures = {"energy": plot_energy(histories, steps), "latent": latent}
    strips = [*outputs, best.straight_length, best.length, best.converged]
    if len(best.curve) > 1:
        pairs = best.most_different(_SHEET)
        figures["sheet"] = plot_strip(*(x[pairs] for x in strips), pairs=pairs.tolist())
    for pair in range(len(best.curve)):
        figures[f"strip_{pair:03d}"] = plot_strip(*(x[pair : pair + 1] for x in strips))
    return figures


def _movie(run: Run, best: BestCurves) -> list[NDArray]:
    """Frames of the pairs that differ most."""
    pairs = best.most_different(_MOVIE)
    ratio = best.ratio[pairs]
    names = [f"{k}: {x:.3f}" if np.isfinite(x) else str(k) for k, x in zip(pairs, ratio, strict=True)]
    straight, geodesic = _outputs(run, best, pairs, _TIMES)
    return movie_frames(straight, geodesic, names)


def _outputs(run: Run, best: BestCurves, pairs: NDArray | slice, count: int) -> list[NDArray]:
    """What the decoder makes of straight lines and of geodesics at so many equal times, (P, count, *event) each."""
    frames = slice(None, None, (best.curve.shape[1] - 1) // (count - 1))
    return [run.decode(curve[pairs][:, frames]) for curve in (best.straight, best.curve)]


def solutions_in(arrays: Mapping[str, NDArray], methods: Sequence[str], file: Path) -> dict[str, GeodesicSolution]:
    """The solutions of each method in a file of results.

    Args:
        arrays: Of the file.
        methods: Their names.
        file: For the message.

    Raises:
        RunFolderError: The file holds no such solutions.
    """
    try:
        return {method: GeodesicSolution.from_arrays(arrays, prefix=f"{method}/") for method in methods}
    except DataError as error:
        raise RunFolderError(
            f"{file}: {error}; expected what `geodesic solve` has written, so run that with another --name (other "
            "commands draw their pictures themselves)"
        ) from None
