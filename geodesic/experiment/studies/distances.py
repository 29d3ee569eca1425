"""All distances between points of a run, with bounds: arrays, tables and a picture in the run folder."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodesic.distances.key_figures import distance_rows, rows_of_parts
from geodesic.distances.matrix import distance_matrix
from geodesic.distances.record import DistanceMatrix
from geodesic.distances.store.settings import Store
from geodesic.distances.store.stored import StoredDistances
from geodesic.distances.told import DistanceProgress
from geodesic.distances.tolerance import precision
from geodesic.errors import DataError, RunFolderError, SettingsError
from geodesic.experiment.folders import write_results
from geodesic.experiment.points import Points
from geodesic.experiment.rows import Row
from geodesic.experiment.run import Run, to_numpy
from geodesic.experiment.settings.whole import Settings
from geodesic.experiment.studies.stored_distances import filled, rows_of, suits_store
from geodesic.experiment.studies.study import figures_of, open_pictured
from geodesic.files import replacing
from geodesic.pictures.canvas import save_figures
from geodesic.pictures.distances import cluster_order, plot_distances
from geodesic.reporting.neighbors import latent_distances
from geodesic.solvers.search import Search

__all__ = ["Distances", "measure_distances"]

_TOGETHER = 2000  # points whose matrix is read from a store into memory
_DRAWN = 1000  # points of the picture of a larger one
_LINES = 2**16  # of a table, written at once


@dataclass(frozen=True)
class Distances:
    """What `measure_distances` found and where it is.

    Args:
        matrix: The distances; those of a store where there are more than 2,000 points in it.
        rows: What they come to, of `distance_rows`.
        said: Their summary, and the precision.
        file: The .npz.
        tables: The same as CSV, and as Parquet where pyarrow is installed; none of more than 2,000 points in a store.
        pictures: The pictures.
    """

    matrix: DistanceMatrix | StoredDistances
    rows: list[Row]
    said: str
    file: Path
    tables: list[Path]
    pictures: list[Path]


def measure_distances(
    settings: Settings,
    runs: str | Path = "runs",
    *,
    name: str = "distances",
    overwrite: bool = False,
    store: Store | None = None,
    callback: Callable[[DistanceProgress], None] | None = None,
    report: Callable[[str], None] | None = None,
) -> Distances:
    """Measure all distances between the points that the settings name, and compare neighbors with latent ones.

    Writes `NAME.npz`, `NAME.yaml`, `NAME.csv`, a picture, and `NAME.parquet` where pyarrow is installed. What an
    interrupted call found stays in `NAME.unfinished`, and the next one goes on from there.

    With a `store` tiles are computed that it lacks, and stay there. Of more than 2,000 points it is read in parts: the
    .npz has the points and where the store is, and the picture 1,000 of them.

    Args:
        settings: The experiment; its `distances` says between what, and how.
        runs: Parent of all run folders.
        name: Of the results.
        overwrite: Replace them.
        store: Where distances are kept, and who finds them; its tiles are of `distances.tile` points.
        callback: Called with a `DistanceProgress` after each group of pairs.
        report: Told what there is to say beside the results.

    Returns:
        The distances, and what they come to.

    Raises:
        SettingsError: There are no lengths of curves, no such points, fewer of them than `distances.nearest`, or the
            method takes no store.
        DataError: A file of points, or the store, cannot be used.
        RunFolderError: As from `open_results`; or an interrupted call left distances of other settings.
    """
    search = _search(settings)
    dtype, why = settings.distances.dtype, ""
    within = settings.model_copy(update={"dtype": "float32" if dtype == "auto" else dtype})
    if store is not None:
        method = suits_store(settings.distances.method, report)
        within = within.model_copy(update={"distances": settings.distances.model_copy(update={"method": method})})
    with open_pictured(within, runs, name, overwrite, "distance") as (run, file):
        points = settings.distances.points.choose(run)
        if dtype == "auto":
            dtype, why = precision(run.manifold, search, points.points)
            why = f", {why} (distances.dtype)"
            if dtype != run.settings.dtype:
                run = replace(run, settings=run.settings.model_copy(update={"dtype": dtype}))
                points = settings.distances.points.choose(run)
        if settings.distances.nearest >= len(points.points):
            raise SettingsError(
                f"distances.nearest: got {settings.distances.nearest}; each of {len(points.points)} points has "
                f"{len(points.points) - 1} others; take fewer neighbors, or more points"
            )
        solver = next(iter(run.solvers.values()))
        # Lengths alone are asked for: how exactly geodesics are looked for follows from their tolerance.
        how = replace(run.search, length_rtol=search.length_rtol, tol=None, solver=solver)
        if store is None:
            unfinished = file.with_name(f"{name}.unfinished")
            matrix = _measured(run, points, how, unfinished, overwrite, callback, report)
            found = _whole(run, points, matrix, file, settings, report)
            unfinished.unlink(missing_ok=True)
        else:
            stored = filled(run, points, how, store, callback, report)
            if len(points.points) <= _TOGETHER:
                found = _whole(run, points, stored.load(), file, settings, report)
            else:
                found = _in_parts(run, points, stored, file, settings)
    return replace(found, said=f"{found.said}\ncomputed in {dtype}{why}")


def _whole(
    run: Run,
    points: Points,
    matrix: DistanceMatrix,
    file: Path,
    settings: Settings,
    report: Callable[[str], None] | None,
) -> Distances:
    """All files of a matrix in memory."""
    arrays = matrix.arrays() | _of_points(points) | {"latent_distance": latent_distances(run.manifold, points.points)}
    arrays |= {"order": cluster_order(arrays["length"])}
    tables = _write(file, arrays, settings, report)
    figures = {"distances": plot_distances(arrays["length"], arrays["order"], points.labels)}
    pictures = save_figures(figures_of(file), figures)
    rows = distance_rows(arrays, settings.distances.nearest)
    return Distances(matrix, rows, matrix.summary(), file, tables, pictures)


def _in_parts(run: Run, points: Points, stored: StoredDistances, file: Path, settings: Settings) -> Distances:
    """The files of a matrix that stays on disk, which is read some rows at a time."""
    N = len(points.points)
    rows = rows_of_parts(rows_of(run, points, stored), N, settings.distances.nearest, points.labels)
    drawn = np.sort(np.random.default_rng(0).permutation(N)[:_DRAWN])
    length = to_numpy(stored.load(drawn, drawn).length)
    order = cluster_order(length)
    arrays = _of_points(points) | {"store": np.array(str(stored.path)), "drawn": drawn, "order": order}
    _remove_tables(file)
    write_results(file, arrays, settings)
    labels = None if points.labels is None else points.labels[drawn]
    pictures = save_figures(figures_of(file), {"distances": plot_distances(length, order, labels)})
    where = f"the distances are in {stored.path}: geodesic.open_distances reads them"
    return Distances(stored, rows, f"{stored.summary()}\n{where}", file, [], pictures)


def _of_points(points: Points) -> dict[str, NDArray]:
    more = {"labels": points.labels, "rows": points.rows}
    return {"points": to_numpy(points.points)} | {key: values for key, values in more.items() if values is not None}


def _search(settings: Settings) -> Search:
    """How long lengths may be off, as the settings say."""
    rtol = settings.distances.length_rtol
    return Search(
        segments=settings.geodesic.segments, length_rtol=settings.geodesic.length_rtol if rtol is None else rtol
    )


def _measured(
    run: Run,
    points: Points,
    search: Search,
    unfinished: Path,
    overwrite: bool,
    callback: Callable[[DistanceProgress], None] | None,
    report: Callable[[str], None] | None,
) -> DistanceMatrix:
    """The distances, from where an interrupted call ended."""

    def measured() -> DistanceMatrix:
        return distance_matrix(
            run.manifold,
            points.points,
            method=run.settings.distances.method,
            search=search,
            callback=callback,
            resume=unfinished,
        )

    try:
        return measured()
    except DataError as error:
        if not str(error).startswith("resume: "):
            raise
        if not overwrite:
            raise RunFolderError(
                f"{unfinished}: an interrupted call left distances that do not suit this one ({error}); "
                "--overwrite begins anew, and another --name keeps them"
            ) from None
        unfinished.unlink()
        return measured()
    except KeyboardInterrupt:
        if report is not None and unfinished.exists():
            report(f"what was found is in {unfinished}; the same command goes on from there")
        raise


def _write(
    file: Path, arrays: dict[str, NDArray], settings: Settings, report: Callable[[str], None] | None
) -> list[Path]:
    """All files of results, or none; those beside the .npz."""
    columns = _columns(arrays)
    kinds = {".csv": _write_csv} | ({".parquet": _write_parquet} if _has_pyarrow() else {})
    tables = {file.with_suffix(kind): write for kind, write in kinds.items()}
    with contextlib.ExitStack() as stack:
        for table, write in tables.items():
            write(stack.enter_context(replacing(table)), columns)
        write_results(file, arrays, settings)
    if len(tables) < 2:
        file.with_suffix(".parquet").unlink(missing_ok=True)  # of other results
        if report is not None:
            report("no Parquet file beside the CSV: pyarrow is not installed; pip install pyarrow")
    return list(tables)


def _remove_tables(file: Path) -> None:
    """Of other results."""
    for kind in (".csv", ".parquet"):
        file.with_suffix(kind).unlink(missing_ok=True)


def _columns(arrays: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """A line for each pair, by columns."""
    i, j = np.triu_indices(len(arrays["length"]), k=1)
    columns = {"i": i, "j": j}
    if "labels" in arrays:
        columns |= {"label_i": arrays["labels"][i], "label_j": arrays["labels"][j]}
    columns |= {key: arrays[key][i, j] for key in ("length", "lower", "upper", "straight_length")}
    return columns | {"status": arrays["status_name"][i, j]}


def _write_csv(file: Path, columns: Mapping[str, NDArray]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for first in range(0, len(columns["i"]), _LINES):
            some = (values[first : first + _LINES].tolist() for values in columns.values())
            writer.writerows(zip(*some, strict=True))


def _write_parquet(file: Path, columns: Mapping[str, NDArray]) -> None:
    import pyarrow
    from pyarrow import parquet

    table: Any = pyarrow.table({name: pyarrow.array(values) for name, values in columns.items()})
    parquet.write_table(table, file)


def _has_pyarrow() -> bool:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        return False
    return True
