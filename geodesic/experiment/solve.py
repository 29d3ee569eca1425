"""Geodesics between pairs, with the first of the solvers of the settings or with each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodesic.experiment.folders import write_results
from geodesic.experiment.pairs import Pairs
from geodesic.experiment.run import Run, open_results, to_numpy
from geodesic.experiment.settings.whole import Settings
from geodesic.solvers.progress import Progress
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.solver import Solver

__all__ = ["SolveResult", "solve_pairs"]

SolveCallback = Callable[[str, Progress], None]


@dataclass(frozen=True)
class SolveResult:
    """What `solve_pairs` found: a solution for each method, and names for the pairs."""

    solutions: dict[str, GeodesicSolution]
    pair_names: list[str]
    file: Path


def solve_pairs(
    settings: Settings,
    runs: str | Path = "runs",
    *,
    name: str = "geodesics",
    overwrite: bool = False,
    all_methods: bool = False,
    callback: SolveCallback | None = None,
) -> SolveResult:
    """Find geodesics between the pairs that the settings name, with the first of their solvers or with each.

    Writes `NAME.npz` and `NAME.yaml` into the run folder, which `train` has made; for a decoder of the
    user's own the folder is made here.

    Args:
        settings: The experiment.
        runs: Parent of all run folders.
        name: Name of the two files.
        overwrite: Replace them.
        all_methods: Take each of `geodesic.solvers`, to compare them; False: the first alone.
        callback: Called with the method's name and a `Progress` at each step and where a stage begins.

    Returns:
        The solutions.

    Raises:
        RunFolderError: The run folder is missing, was trained with other settings, has the files already, or is in use.
        InputError: `name` is no name for a file, or that of a file which `train` writes.
    """
    if not all_methods:
        first = settings.geodesic.model_copy(update={"solvers": settings.geodesic.solvers[:1]})
        settings = settings.model_copy(update={"geodesic": first})  # written down as what made the results
    with open_results(settings, runs, name, overwrite) as (run, file):
        solvers = run.solvers  # refused before anything is loaded that they need not
        pairs = settings.pairs.choose(run)
        arrays, solutions = pairs.arrays(), {}
        for method, solver in solvers.items():
            solutions[method], found = _solve(run, pairs, solver, _named(callback, method))
            arrays |= {f"{method}/{key}": values for key, values in found.items()}
        if run.test_encodings is not None:
            arrays["encodings"] = to_numpy(run.test_encodings)
            if run.labels is not None:
                arrays["labels"] = run.labels
        write_results(file, arrays, settings)
    return SolveResult(solutions, pairs.names, file)


def _named(callback: SolveCallback | None, method: str) -> Callable[[Progress], None]:
    return (lambda progress: None) if callback is None else (lambda progress: callback(method, progress))


def _solve(
    run: Run, pairs: Pairs, solver: Solver[Any] | str, callback: Callable[[Progress], None]
) -> tuple[GeodesicSolution, dict[str, NDArray]]:
    """A solution, and its arrays with the history of its energies."""
    history: list[tuple[int, Tensor]] = []

    def watch(progress: Progress) -> None:
        if progress.stepped:
            history.append((progress.step, progress.energy.cpu()))
        callback(progress)

    solution = run.solve(pairs.start, pairs.end, solver, watch)
    steps, energies = zip(*history, strict=True)
    arrays = {"step_history": np.array(steps), "energy_history": torch.stack(energies).numpy()}
    return solution, arrays | solution.arrays()
