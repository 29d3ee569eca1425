"""`geodesic distances`: in memory, or in a store that many workers can fill."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geodesic.console import complain, pairs_progress
from geodesic.errors import InputError, SettingsError
from geodesic.options import Answer, AsJSON, Config, Name, Overrides, Overwrite, Runs, print_answer, settings_of

if TYPE_CHECKING:
    from geodesic.distances.store.settings import Store

__all__ = ["DISTANCES", "Scheduler", "distances", "store_at"]

DISTANCES = (
    "Example: `geodesic distances configs/mnist.yaml distances.points.count=500`\n\n"
    "Quickly, by a graph: `geodesic distances configs/mnist.yaml distances.method=graph --name quick`\n\n"
    "Of points of yours: `geodesic distances mine.yaml distances.points='{kind: file, path: points.npz}'`\n\n"
    "On disk, by four processes: "
    "`geodesic distances configs/mnist.yaml --store /data/mnist-distances --scheduler processes:4`"
)
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        help="Who computes: local, processes:N, the address tcp://HOST:PORT of a scheduler of Dask, or its file.",
    ),
]


def store_at(path: Path, scheduler: str | None) -> Store:
    """Where results are kept and who finds them, as the command line says it."""
    from geodesic.distances.store.settings import Store

    try:
        return Store(path, scheduler=scheduler or "local")
    except InputError as error:
        raise SettingsError(f"--{error}") from None


def distances(
    config: Config,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    name: Name = "distances",
    store: Annotated[
        Path | None, typer.Option("--store", help="A folder where distances are kept, tile by tile, and stay.")
    ] = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    as_json: AsJSON = False,
) -> None:
    """Measure all distances between points, with bounds, and how neighbors differ from those in latent coordinates.

    An interrupted call goes on where it was when it is started again; with --store also one that was killed.
    """
    if store is None and scheduler is not None:
        raise SettingsError(f"--scheduler: got {scheduler!r} without --store, which workers write to; give a folder")
    kept = None if store is None else store_at(store, scheduler)
    settings = settings_of(config, overrides)
    from geodesic.experiment.studies.distances import measure_distances
    from geodesic.experiment.tables import distance_table

    with pairs_progress("distances") as callback:
        found = measure_distances(
            settings, runs, name=name, overwrite=overwrite, store=kept, callback=callback, report=_beside
        )
    files = [found.file, *found.tables]
    result = {"rows": found.rows, "summary": found.said, "files": files, "pictures": found.pictures}
    said = f"wrote {', '.join(map(str, files))} and {', '.join(map(str, found.pictures))}"
    print_answer(Answer(result, (distance_table(found.rows, found.said), said)), as_json)


def _beside(message: str) -> None:
    complain(message, "yellow")
