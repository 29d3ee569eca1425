"""What the command line prints: results on standard output, all else on standard error."""

from __future__ import annotations

import contextlib
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console

from geodesic.errors import GeodesicWarning

if TYPE_CHECKING:
    from rich.table import Table

    from geodesic.solvers.progress import Progress

__all__ = [
    "complain",
    "console",
    "errors",
    "pairs_progress",
    "say",
    "say_json",
    "show",
    "solve_progress",
    "warnings_shown",
]

console = Console()
errors = Console(stderr=True)
_WIDTH = 140  # of a table where there is no terminal
_LOG_EVERY = 30  # seconds between lines of progress where there is no terminal


def say(text: str) -> None:
    """A line of a result."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def say_json(result: Any) -> None:
    """A result as one JSON document. What is not a finite number is null, since JSON has no other word for it."""
    say(json.dumps(_plain(result), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(x) for x in value]
    if hasattr(value, "tolist"):  # of NumPy
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def show(table: Table) -> None:
    """A table: where there is no terminal wide enough for all of it, whoever reads it."""
    (console if console.is_terminal else Console(width=_WIDTH)).print(table)


def complain(message: str, style: str) -> None:
    """A message for the user, beside the results."""
    errors.print(
        f"geodesic: {message}",
        style=style if errors.is_terminal else None,
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@contextlib.contextmanager
def warnings_shown() -> Iterator[None]:
    """What answers warn of, in a line for the user; warnings of other packages as ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", GeodesicWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, GeodesicWarning):
                complain(f"warning: {message}", "yellow")
            else:
                others(message, category, *where, **more)

        warnings.showwarning = show
        yield


@contextlib.contextmanager
def solve_progress() -> Iterator[Callable[[str, Progress], None]]:
    """A line for each method on a terminal: pairs ended, time left, what is being done. Elsewhere one now and then."""
    if not errors.is_terminal:
        yield _lines_now_and_then()
        return
    from rich.progress import Progress as Bars
    from rich.progress import TaskID, TextColumn, TimeElapsedColumn

    columns = (
        TimeElapsedColumn(),
        TextColumn("{task.description}: {task.fields[now]}", markup=False),
    )
    with Bars(*columns, console=errors, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def callback(method: str, progress: Progress) -> None:
            if method not in tasks:
                tasks[method] = bars.add_task(method, total=progress.pairs, now="")
            bars.update(tasks[method], completed=progress.ended, now=progress)

        yield callback


@contextlib.contextmanager
def pairs_progress(what: str) -> Iterator[Callable[[object], None]]:
    """One line on a terminal that says how many pairs are done; elsewhere one now and then."""
    if not errors.is_terminal:
        seldom = _lines_now_and_then()
        yield lambda progress: seldom(what, progress)
        return
    with errors.status(f"{what}: beginning") as status:
        yield lambda progress: status.update(f"{what}: {progress}")


def _lines_now_and_then() -> Callable[[str, object], None]:
    """What goes into a log: seldom."""
    last = time.monotonic()

    def callback(method: str, progress: object) -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_EVERY:
            last = time.monotonic()
            complain(f"{method}: {progress}", "")

    return callback
