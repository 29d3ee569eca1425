"""What the commands of the command line share: their arguments and options, and how an answer is printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from geodesic.console import say, say_json, show

if TYPE_CHECKING:
    from rich.table import Table

    from geodesic.experiment.rows import Row
    from geodesic.experiment.settings.whole import Settings
    from geodesic.experiment.studies.study import Findings

__all__ = [
    "AllMethods",
    "Answer",
    "AsJSON",
    "Config",
    "Name",
    "Overrides",
    "Overwrite",
    "Runs",
    "findings_answer",
    "print_answer",
    "settings_of",
]

Config = Annotated[Path, typer.Argument(help="YAML file with the settings of the experiment.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings to change, such as training.epochs=5.", metavar="KEY=VALUE"),
]
Runs = Annotated[Path, typer.Option("--runs", help="Folder that holds the run folders.")]
Name = Annotated[str, typer.Option("--name", help="Name of the results inside the run folder.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")]
AsJSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for other programs.")]
AllMethods = Annotated[
    bool, typer.Option("--all-methods", help="Solve with each entry of geodesic.solvers, not with the first alone.")
]


class Answer(NamedTuple):
    """What a command has to say: a result for programs, and tables and lines for people."""

    result: dict[str, Any]
    shown: tuple[Table | str, ...]


def print_answer(answer: Answer, as_json: bool) -> None:
    """Print what a command has to say, for programs or for people."""
    if as_json:
        say_json(answer.result)
        return
    for part in answer.shown:
        say(part) if isinstance(part, str) else show(part)


def settings_of(config: Path, overrides: list[str] | None) -> Settings:
    """The settings of a file, with what was changed on the command line."""
    from geodesic.experiment.settings.load import load_settings

    return load_settings(config, overrides or ())


def findings_answer(found: Findings, rows: list[Row], table: Table) -> Answer:
    """What a study says."""
    said = f"wrote {found.file} and {len(found.pictures)} pictures to {found.pictures[0].parent}"
    return Answer({"rows": rows, "file": found.file, "pictures": found.pictures}, (table, said))
