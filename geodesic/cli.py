"""The command line. Heavy imports wait until a command runs, so that --help is quick."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import geodesic
from geodesic.commands import with_many
from geodesic.console import complain, console, errors, say_json, solve_progress, warnings_shown
from geodesic.distances_command import DISTANCES, Scheduler, distances, store_at
from geodesic.errors import GeodesicError, RunFolderError, SettingsError, TrainingDiverged
from geodesic.options import (
    AllMethods,
    Answer,
    AsJSON,
    Config,
    Name,
    Overrides,
    Overwrite,
    Runs,
    findings_answer,
    print_answer,
    settings_of,
)
from geodesic.showing import explore, plot, plot_answer, report, report_answer

if TYPE_CHECKING:
    from geodesic.experiment.settings.whole import Settings

__all__ = ["main"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Train variational autoencoders and find geodesics in their latent spaces.",
)


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


@app.command(
    cls=with_many("--weights"),
    epilog="Example: `geodesic init --data digits`\n\n"
    "Of a folder of images: `geodesic init faces.yaml --data ~/pictures/faces --latent-size 16`\n\n"
    "A decoder of your own: `geodesic init mine.yaml --decoder my_model:Decoder --weights decoder.pt`\n\n"
    "An ensemble: `geodesic init mine.yaml --decoder my_model:Decoder --weights a.pt b.pt`",
)
def init(
    config: Annotated[Path, typer.Argument(help="The file to write.")] = Path("experiment.yaml"),
    data: Annotated[str | None, typer.Option("--data", help="digits, mnist, or a file or folder of yours.")] = None,
    decoder: Annotated[
        str | None, typer.Option("--decoder", help="A class or function of yours, package.module:Name.")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option("--weights", help="A file of the decoder's weights; several files are an ensemble."),
    ] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="Of the names of its weights in the files.")] = None,
    latent_size: Annotated[
        int | None,
        typer.Option("--latent-size", help="Latent coordinates; 2, or those that the decoder takes.", min=1),
    ] = None,
    condition: Annotated[
        str | None, typer.Option("--condition", help="What else the decoder takes, one for all pairs: 3, say.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJSON = False,
) -> None:
    """Write a config with comments that runs: for data to train on, or for a decoder of your own."""
    from geodesic.experiment.start import write_config

    commands = write_config(
        config,
        data=data,
        decoder=decoder,
        weights=weights or (),
        prefix=prefix,
        latent_size=latent_size,
        condition=condition,
        overwrite=overwrite,
    )
    said = f"wrote {config}; next: {', then '.join(commands)}"
    print_answer(Answer({"file": config, "next": commands}, (said,)), as_json)


@app.command(epilog="Example: `geodesic train configs/mnist.yaml model.latent_size=16`")
def train(
    config: Config,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJSON = False,
) -> None:
    """Train the VAE of CONFIG into runs/NAME."""
    print_answer(_train(settings_of(config, overrides), runs, resume, overwrite, quiet=as_json), as_json)


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
    as_json: AsJSON = False,
) -> None:
    """Find geodesics between the pairs of CONFIG and write them into runs/NAME."""
    print_answer(_solve(settings_of(config, overrides), runs, name, overwrite, all_methods), as_json)


app.command(epilog="Example: `geodesic plot runs/mnist --gif`\n\nFor a paper: `geodesic plot runs/mnist --format pdf`")(
    plot
)
app.command(epilog="Example: `geodesic report runs/mnist`")(report)
app.command(epilog="Example: `geodesic explore runs/mnist`")(explore)


@app.command("runs", epilog="Example: `geodesic runs`")
def list_runs(runs: Runs = Path("runs"), as_json: AsJSON = False) -> None:
    """List the runs in a folder with their key figures."""
    from geodesic.experiment.listing import run_rows, runs_table

    rows = run_rows(runs)
    shown = runs_table(rows) if rows else f"no runs in {runs}; geodesic train makes one"
    print_answer(Answer({"runs": rows}, (shown,)), as_json)


@app.command(
    epilog="Example: `geodesic cov configs/mnist.yaml cov.seeds=3 cov.decoders='[1, 2]' geodesic.members=independent`"
)
def cov(
    config: Config,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    as_json: AsJSON = False,
) -> None:
    """Train CONFIG from several seeds and report how much distances vary: a table and a picture in runs/NAME-cov.

    The same pairs are measured by plain Adam too, to tell how much of the variation is the solver's. An interrupted run
    goes on where it was when it is started again.
    """
    from geodesic.experiment.rows import variation_rows
    from geodesic.experiment.studies.variation import measure_variation
    from geodesic.experiment.tables import solver_table, variation_table

    def report(name: str, done: int, total: int) -> None:
        if name:
            complain(f"model {done + 1} of {total}: {name}", "")

    progress = console.is_terminal and not as_json
    settings = settings_of(config, overrides)
    who = store_at(runs / f"{settings.name}-cov", scheduler).scheduler
    try:
        found = measure_variation(
            settings, runs, overwrite=overwrite, progress=progress, report=report, scheduler=str(who)
        )
    except KeyboardInterrupt:
        complain("models and pairs that are done stay; the same command goes on from there", "yellow")
        raise
    coefficients, of_solver = found.coefficients(), found.solver_rows()
    rows = variation_rows(found.decoders, coefficients)
    result = {"rows": rows, "solvers": of_solver, "file": found.file, "pictures": [found.figure]}
    tables = [variation_table(found.decoders, coefficients), *([solver_table(of_solver)] if of_solver else [])]
    print_answer(Answer(result, (*tables, f"wrote {found.file} and {found.figure}")), as_json)


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
    as_json: AsJSON = False,
) -> None:
    """Map magnification factor and curvature over the latent plane, or their spread over encodings where d > 2."""
    settings = settings_of(config, overrides)
    from geodesic.experiment.rows import curvature_rows
    from geodesic.experiment.studies.curvature import map_curvature
    from geodesic.experiment.tables import curvature_table

    with errors.status("measuring"):
        found = map_curvature(settings, runs, name=name, overwrite=overwrite)
    print_answer(findings_answer(found, curvature_rows(found.arrays), curvature_table(found.arrays)), as_json)


@app.command(epilog="Example: `geodesic mean configs/mnist.yaml mean.labels='[3, 5, 8]' mean.count=50`")
def mean(
    config: Config,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    name: Name = "mean",
    overwrite: Overwrite = False,
    as_json: AsJSON = False,
) -> None:
    """Find Fréchet means of encoded test rows, one for each label."""
    settings = settings_of(config, overrides)
    from geodesic.experiment.rows import mean_rows
    from geodesic.experiment.studies.means import find_means
    from geodesic.experiment.tables import mean_table

    with errors.status("beginning") as status:

        def report(group: str, done: int, total: int) -> None:
            status.update(f"mean {done + 1} of {total}: {group}")

        found = find_means(settings, runs, name=name, overwrite=overwrite, report=report)
    print_answer(findings_answer(found, mean_rows(found.arrays), mean_table(found.arrays)), as_json)


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
    as_json: AsJSON = False,
) -> None:
    """Answer analogies a : b :: c : ? between encoded test rows by parallel transport."""
    settings = settings_of(config, overrides)
    from geodesic.experiment.rows import analogy_rows
    from geodesic.experiment.studies.analogies import transport_analogies
    from geodesic.experiment.tables import analogy_table

    with errors.status("carrying"):
        found = transport_analogies(settings, runs, name=name, overwrite=overwrite)
    print_answer(findings_answer(found, analogy_rows(found.arrays), analogy_table(found.arrays)), as_json)


app.command(epilog=DISTANCES)(distances)


@app.command(epilog="Example: `geodesic demo`")
def demo(
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    all_methods: AllMethods = False,
    as_json: AsJSON = False,
) -> None:
    """Train on bundled digits, find geodesics, print a table, draw pictures, write a report: runs/demo.

    Weights that were trained with the same settings are used again. Results are replaced.
    """
    from geodesic.experiment.folders import run_folder, trained_with

    settings = settings_of(_bundled_config("demo"), overrides)
    folder = run_folder(settings, runs)
    results: dict[str, Any] = {}

    def done(step: str, answer: Answer) -> None:
        results[step] = answer.result
        if not as_json:
            print_answer(answer, as_json)

    if trained_with(settings, folder):
        said = f"{folder} holds weights trained with these settings: not training again"
        done("train", Answer({"folder": folder}, (said,)))
    else:
        done("train", _train(settings, runs, resume=False, overwrite=True, quiet=as_json))
    done("solve", _solve(settings, runs, "geodesics", overwrite=True, all_methods=all_methods))
    done("plot", plot_answer(folder, "geodesics", overwrite=True))
    done("report", report_answer(folder, "geodesics", 50, overwrite=True))
    if as_json:
        say_json(results)


@app.command(epilog="Example: `geodesic doctor`")
def doctor(as_json: AsJSON = False) -> None:
    """Show versions, devices and missing extras. Exit status 1 where the installation is broken."""
    from geodesic.doctor import examine

    found = examine()
    lines = (f"{name:<16} {text}" for name, text in found.rows())
    print_answer(Answer(vars(found), tuple(lines)), as_json)
    for problem in found.problems:
        complain(problem, "red")
    if found.problems:
        raise typer.Exit(1)


def _train(settings: Settings, runs: Path, resume: bool, overwrite: bool, quiet: bool) -> Answer:
    from geodesic.experiment.folders import run_folder
    from geodesic.experiment.tables import about_collapse
    from geodesic.experiment.train import train as run_training

    progress = console.is_terminal and not quiet
    found = run_training(settings, runs, resume=resume, overwrite=overwrite, progress=progress)
    samples, folder = settings.training.importance_samples, run_folder(settings, runs)
    bound = "" if found.test_bound is None else f", importance-weighted bound {found.test_bound:.2f} (K = {samples})"
    if found.collapsed_dimensions:
        complain("warning: " + about_collapse(found.collapsed_dimensions, found.vae.latent_size), "yellow")
    if found.failure is not None:
        raise TrainingDiverged(f"{found.failure}; {folder} holds what was trained")
    said = f"trained {folder}: {found.epochs} epochs, held-out ELBO {found.test_elbo:.2f} nats per row{bound}"
    names = ("epochs", "test_elbo", "constant_elbo", "test_bound", "collapsed_dimensions")
    return Answer({"folder": folder} | {name: getattr(found, name) for name in names}, (said,))


def _solve(settings: Settings, runs: Path, name: str, overwrite: bool, all_methods: bool) -> Answer:
    from geodesic.experiment.rows import geodesic_rows
    from geodesic.experiment.solve import solve_pairs
    from geodesic.experiment.tables import geodesic_table

    with solve_progress() as callback:
        found = solve_pairs(settings, runs, name=name, overwrite=overwrite, all_methods=all_methods, callback=callback)
    solutions, names = found.solutions, found.pair_names
    others = [solver.name for solver in settings.geodesic.solvers if solver.name not in solutions]
    more = f"; --all-methods solves with {', '.join(others)} as well" if others else ""
    summaries = {method: solution.summary() for method, solution in solutions.items()}
    result = {"rows": geodesic_rows(solutions, names), "summaries": summaries, "file": found.file}
    return Answer(result, (geodesic_table(solutions, names), f"wrote {found.file}{more}"))


def _bundled_config(name: str) -> Path:
    package = Path(geodesic.__file__).parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise RunFolderError(f"configs/{name}.yaml is missing from this installation; install geodesic again")


def main() -> None:
    """Run the command line. Exit status 0, 1 (failed) or 2 (bad usage or settings)."""
    try:
        with warnings_shown():
            app()
    except SettingsError as error:
        _fail(str(error), 2)
    except (GeodesicError, OSError) as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("interrupted", 1)


def _fail(message: str, status: int) -> None:
    complain(message, "red")
    sys.exit(status)
