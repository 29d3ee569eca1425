"""The commands that show what a run found: pictures, movies and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from geodesic.console import errors
from geodesic.options import Answer, AsJSON, Name, Overwrite, print_answer

__all__ = ["plot", "plot_answer", "report", "report_answer"]

RunFolder = Annotated[Path, typer.Argument(help="Run folder, such as runs/mnist.")]


def plot(
    run: RunFolder,
    name: Name = "geodesics",
    kind: Annotated[str, typer.Option("--format", help="Of the pictures: png, pdf or svg.")] = "png",
    gif: Annotated[bool, typer.Option("--gif", help="A movie of the pairs that differ most, too.")] = False,
    mp4: Annotated[bool, typer.Option("--mp4", help="The same as mp4, which needs ffmpeg.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJSON = False,
) -> None:
    """Draw the pictures of a run into RUN/figures."""
    movies = [word for word, wanted in (("gif", gif), ("mp4", mp4)) if wanted]
    print_answer(plot_answer(run, name, overwrite, kind, movies), as_json)


def plot_answer(folder: Path, name: str, overwrite: bool, kind: str = "png", movies: Sequence[str] = ()) -> Answer:
    """Draw the pictures of a run; which they are."""
    from geodesic.experiment.figures import plot_run

    with errors.status("drawing"):
        written = plot_run(folder, name=name, overwrite=overwrite, kind=kind, movies=movies)
    return Answer({"pictures": written}, (f"wrote {len(written)} pictures to {written[0].parent}",))


def report(
    run: RunFolder,
    name: Name = "geodesics",
    neighbors: Annotated[
        int, typer.Option("--neighbors", help="Encodings whose nearest neighbors are looked for; 0 for none.", min=0)
    ] = 50,
    overwrite: Overwrite = False,
    as_json: AsJSON = False,
) -> None:
    """Write one page that says whether geodesics matter in a run: RUN/NAME.html, a file that needs nothing else."""
    print_answer(report_answer(run, name, neighbors, overwrite), as_json)


def report_answer(folder: Path, name: str, neighbors: int, overwrite: bool) -> Answer:
    """Write the report of a run; what it says first."""
    from geodesic.experiment.report import report_run

    with errors.status("writing the report"):
        found = report_run(folder, name=name, overwrite=overwrite, neighbors=neighbors)
    missing = [f"left out: {part}: {why}" for part, why in found.missing.items()]
    result = {"file": found.file, "verdict": asdict(found.verdict), "missing": found.missing}
    return Answer(result, (found.text, *missing, f"wrote {found.file}"))
