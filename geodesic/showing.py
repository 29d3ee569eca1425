"""The commands that show what a run found: pictures, movies, the report and the explorer."""

from __future__ import annotations

import contextlib
import threading
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from geodesic.console import errors, say
from geodesic.options import Answer, AsJSON, Name, Overrides, Overwrite, print_answer

__all__ = ["explore", "plot", "plot_answer", "report", "report_answer"]

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


def explore(
    run: RunFolder,
    overrides: Overrides = None,
    name: Name = "geodesics",
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 127.0.0.1: for this machine alone.")] = (
        "127.0.0.1"
    ),
    port: Annotated[
        int | None, typer.Option("--port", help="0: any that is free. By default 8765, or the next.", min=0, max=65535)
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page where there is one.")] = True,
) -> None:
    """Drag two ends in the latent space of a run, in the browser, and see the geodesic follow.

    The page is served until Ctrl-C. Nothing is written.
    """
    from geodesic.experiment.explore import scene_of_run
    from geodesic.explorer.serve import serve
    from geodesic.installation import require

    require("explore", "starlette", "uvicorn")
    with errors.status(f"opening {run}"):
        scene = scene_of_run(run, name=name, overrides=tuple(overrides or ()))

    def ready(address: str) -> None:
        say(f"exploring {run} at {address}; Ctrl-C ends it")
        window = _browser() if browser else None
        if window is not None:  # some wait for seconds
            threading.Thread(target=window.open, args=(address,), daemon=True).start()

    with contextlib.suppress(KeyboardInterrupt):
        serve(scene, host, port, ready)


def _browser() -> webbrowser.BaseBrowser | None:
    """A browser with windows, if there is one: those of a terminal would take the terminal."""
    try:
        found = webbrowser.get()
    except webbrowser.Error:
        return None
    in_terminal = type(found) is webbrowser.GenericBrowser or isinstance(found, webbrowser.Elinks)
    return None if in_terminal else found
