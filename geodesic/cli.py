"""The command line. Heavy imports wait until a command runs, so that --help is quick."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

import geodesic
from geodesic.errors import GeodesicError, GeodesicWarning, RunFolderError, SettingsError

if TYPE_CHECKING:
    from rich.table import Table

    from geodesic.experiment.settings.whole import Settings
    from geodesic.experiment.studies.study import Findings
    from geodesic.solvers.progress import Progress

__all__ = ["main"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Train variational autoencoders and find geodesics in their latent spaces.",
)
console = Console()
errors = Console(stderr=True)
_LOG_EVERY = 30  # seconds between lines of progress where there is no terminal

Config = Annotated[Path, typer.Argument(help="YAML file with the settings of the experiment.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings to change, such as training.epochs=5.", metavar="KEY=VALUE"),
]
Runs = Annotated[Path, typer.Option("--runs", help="Folder that holds the run folders.")]
Name = Annotated[str, typer.Option("--name", help="Name of the results inside the run folder.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")]
AllMethods = Annotated[
    bool, typer.Option("--all-methods", help="Solve with each entry of geodesic.solvers, not with the first alone.")
]


def _version(asked: bool) -> bool:
    if asked:
        console.print(f"geodesic {geodesic.__version__}", highlight=False)
        raise typer.Exit
    return asked


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: `geodesic train configs/mnist.yaml model.latent_size=16`")
def train(
    config: Config,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train the VAE of CONFIG into runs/NAME."""
    _train(_settings(config, overrides), runs, resume, overwrite)


@app.command(
    epilog="Example: `geodesic solve configs/mnist.yaml pairs.count=20 --name twenty`\n\n"
    "From two starts, with lengths to a ten thousandth: "
    "`geodesic solve configs/mnist.yaml geodesic.init=best geodesic.length_rtol=1e-4 --name fine`\n\n"
    "With one solver: `geodesic solve configs/mnist.yaml geodesic.solvers='[{name: newton, kind: newton}]' --name one`"
)
def solve(
    config: Config,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    name: Name = "geodesics",
    overwrite: Overwrite = False,
    all_methods: AllMethods = False,
) -> None:
    """Find geodesics between the pairs of CONFIG and write them into runs/NAME."""
    _solve(_settings(config, overrides), runs, name, overwrite, all_methods)


@app.command(epilog="Example: `geodesic plot runs/mnist`")
def plot(
    run: Annotated[Path, typer.Argument(help="Run folder, such as runs/mnist.")],
    name: Name = "geodesics",
    overwrite: Overwrite = False,
) -> None:
    """Draw the pictures of a run into RUN/figures."""
    _plot(run, name, overwrite)


@app.command(
    epilog="Example: `geodesic cov configs/mnist.yaml cov.seeds=3 cov.decoders='[1, 2]' geodesic.members=independent`"
)
def cov(config: Config, overrides: Overrides = None, runs: Runs = Path("runs"), overwrite: Overwrite = False) -> None:
    """Train CONFIG from several seeds and report how much distances vary: a table and a picture in runs/NAME-cov.

    An interrupted run goes on where it was when it is started again.
    """
    from geodesic.experiment.studies.variation import measure_variation
    from geodesic.experiment.tables import variation_table

    def report(name: str, done: int, total: int) -> None:
        if name:
            _say(f"model {done + 1} of {total}: {name}")

    settings = _settings(config, overrides)
    found = measure_variation(settings, runs, overwrite=overwrite, progress=console.is_terminal, report=report)
    console.print(variation_table(found.decoders, found.coefficients()))
    _say(f"wrote {found.file} and {found.figure}")


@app.command(
    epilog="Example: `geodesic curvature configs/mnist.yaml curvature.grid=100`\n\n"
    "Of another geometry: `geodesic curvature configs/mnist.yaml geodesic.geometry=fisher_rao --name fisher`"
)
def curvature(
    config: Config,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    name: Name = "curvature",
    overwrite: Overwrite = False,
) -> None:
    """Map magnification factor and curvature over the latent plane, or their spread over encodings where d > 2."""
    settings = _settings(config, overrides)
    from geodesic.experiment.studies.curvature import map_curvature
    from geodesic.experiment.tables import curvature_table

    with console.status("measuring"):
        found = map_curvature(settings, runs, name=name, overwrite=overwrite)
    _show(curvature_table(found.arrays), found)


@app.command(epilog="Example: `geodesic mean configs/mnist.yaml mean.labels='[3, 5, 8]' mean.count=50`")
def mean(
    config: Config,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    name: Name = "mean",
    overwrite: Overwrite = False,
) -> None:
    """Find Fréchet means of encoded test rows, one for each label."""
    settings = _settings(config, overrides)
    from geodesic.experiment.studies.means import find_means
    from geodesic.experiment.tables import mean_table

    with console.status("beginning") as status:

        def report(group: str, done: int, total: int) -> None:
            status.update(f"mean {done + 1} of {total}: {group}")

        found = find_means(settings, runs, name=name, overwrite=overwrite, report=report)
    _show(mean_table(found.arrays), found)


@app.command(
    epilog="Example: `geodesic transport configs/mnist.yaml analogy.from=3 analogy.to=8 analogy.target=5`\n\n"
    "Between chosen test rows: `geodesic transport configs/mnist.yaml analogy.triples='[[0, 1, 2]]' --name one`"
)
def transport(
    config: Config,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    name: Name = "transport",
    overwrite: Overwrite = False,
) -> None:
    """Answer analogies a : b :: c : ? between encoded test rows by parallel transport."""
    settings = _settings(config, overrides)
    from geodesic.experiment.studies.analogies import transport_analogies
    from geodesic.experiment.tables import analogy_table

    with console.status("carrying"):
        found = transport_analogies(settings, runs, name=name, overwrite=overwrite)
    _show(analogy_table(found.arrays), found)


@app.command(epilog="Example: `geodesic demo`")
def demo(overrides: Overrides = None, runs: Runs = Path("runs"), all_methods: AllMethods = False) -> None:
    """Train on bundled digits, find geodesics, print a table, draw pictures: runs/demo.

    Weights that were trained with the same settings are used again. Results are replaced.
    """
    from geodesic.experiment.folders import run_folder, trained_with

    settings = _settings(_bundled_config("demo"), overrides)
    folder = run_folder(settings, runs)
    if trained_with(settings, folder):
        _say(f"{folder} holds weights trained with these settings: not training again")
    else:
        _train(settings, runs, resume=False, overwrite=True)
    _solve(settings, runs, "geodesics", overwrite=True, all_methods=all_methods)
    _plot(folder, "geodesics", overwrite=True)


@app.command(epilog="Example: `geodesic doctor`")
def doctor() -> None:
    """Show versions, devices and missing extras. Exit status 1 where the installation is broken."""
    from geodesic.doctor import examine

    found = examine()
    for name, text in found.rows():
        _say(f"{name:<16} {text}")
    for problem in found.problems:
        _complain(problem, "red")
    if found.problems:
        raise typer.Exit(1)


def _settings(config: Path, overrides: list[str] | None) -> Settings:
    from geodesic.experiment.settings.load import load_settings

    return load_settings(config, overrides or ())


def _train(settings: Settings, runs: Path, resume: bool, overwrite: bool) -> None:
    from geodesic.experiment.folders import run_folder
    from geodesic.experiment.train import train as run_training

    result = run_training(settings, runs, resume=resume, overwrite=overwrite, progress=console.is_terminal)
    samples = settings.training.importance_samples
    bound = "" if result.test_bound is None else f", importance-weighted bound {result.test_bound:.2f} (K = {samples})"
    _say(
        f"trained {run_folder(settings, runs)}: {result.epochs} epochs, held-out ELBO "
        f"{result.test_elbo:.2f} nats per row{bound}"
    )
    if result.collapsed_dimensions:
        _complain("warning: " + _about_collapse(result.collapsed_dimensions, result.vae.latent_size), "yellow")


def _about_collapse(collapsed: tuple[int, ...], latent_size: int) -> str:
    from geodesic.models.training.train import COLLAPSED_KL

    named = ", ".join(map(str, collapsed[:10])) + (" and more" if len(collapsed) > 10 else "")
    return (
        f"{len(collapsed)} of {latent_size} latent dimensions have collapsed ({named}): their KL on the validation "
        f"rows is below {COLLAPSED_KL} nats, so they say nothing about the data; lower training.kl_weight, raise "
        "training.kl_warmup_epochs, train for longer, or take a smaller model.latent_size"
    )


def _solve(settings: Settings, runs: Path, name: str, overwrite: bool, all_methods: bool) -> None:
    from geodesic.experiment.solve import solve_pairs
    from geodesic.experiment.tables import geodesic_table

    with _solve_progress() as callback:
        result = solve_pairs(settings, runs, name=name, overwrite=overwrite, all_methods=all_methods, callback=callback)
    # Not a terminal: wide enough for the whole table, whoever reads it.
    out = console if console.is_terminal else Console(width=140)
    out.print(geodesic_table(result.solutions, result.pair_names))
    others = [solver.name for solver in settings.geodesic.solvers if solver.name not in result.solutions]
    more = f"; --all-methods solves with {', '.join(others)} as well" if others else ""
    _say(f"wrote {result.file}{more}")


def _show(table: Table, found: Findings) -> None:
    out = console if console.is_terminal else Console(width=140)
    out.print(table)
    _say(f"wrote {found.file} and {len(found.pictures)} pictures to {found.pictures[0].parent}")


def _plot(folder: Path, name: str, overwrite: bool) -> None:
    from geodesic.experiment.figures import plot_run

    with console.status("drawing"):
        written = plot_run(folder, name=name, overwrite=overwrite)
    _say(f"wrote {len(written)} pictures to {written[0].parent}")


@contextlib.contextmanager
def _solve_progress() -> Iterator[Callable[[str, Progress], None]]:
    """A line for each method on a terminal: pairs ended, time left, what is being done. Elsewhere one now and then."""
    if not console.is_terminal:
        yield _lines_now_and_then()
        return
    from rich.progress import Progress as Bars
    from rich.progress import TaskID, TextColumn, TimeElapsedColumn

    columns = (
        TimeElapsedColumn(),
        TextColumn("{task.description}: {task.fields[now]}", markup=False),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def callback(method: str, progress: Progress) -> None:
            if method not in tasks:
                tasks[method] = bars.add_task(method, total=progress.pairs, now="")
            bars.update(tasks[method], completed=progress.ended, now=progress)

        yield callback


def _lines_now_and_then() -> Callable[[str, Progress], None]:
    """What goes into a log: beside the results, and seldom."""
    last = time.monotonic()

    def callback(method: str, progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_EVERY:
            last = time.monotonic()
            errors.print(f"geodesic: {method}: {progress}", highlight=False, soft_wrap=True, markup=False)

    return callback


def _bundled_config(name: str) -> Path:
    package = Path(geodesic.__file__).parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise RunFolderError(f"configs/{name}.yaml is missing from this installation; install geodesic again")


def _say(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def main() -> None:
    """Run the command line. Exit status 0, 1 (failed) or 2 (bad usage or settings)."""
    try:
        with _warnings_shown():
            app()
    except SettingsError as error:
        _fail(str(error), 2)
    except (GeodesicError, OSError) as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("interrupted", 1)


@contextlib.contextmanager
def _warnings_shown() -> Iterator[None]:
    """What answers warn of, in a line for the user; warnings of other packages as ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", GeodesicWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, GeodesicWarning):
                _complain(f"warning: {message}", "yellow")
            else:
                others(message, category, *where, **more)

        warnings.showwarning = show
        yield


def _fail(message: str, status: int) -> None:
    _complain(message, "red")
    sys.exit(status)


def _complain(message: str, style: str) -> None:
    errors.print(
        f"geodesic: {message}",
        style=style if errors.is_terminal else None,
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
