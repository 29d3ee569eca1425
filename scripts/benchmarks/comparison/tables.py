"""Tables, and the goals that go into one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

FASTEST = "auto"  # the method that the goals are about: `geodesic.solve` with its defaults


@dataclass(frozen=True)
class Goal:
    """One line of the goals table; `met` is None where a measurement is missing."""

    what: str
    goal: str
    measured: str
    met: bool | None


def make_table(title: str, *headings: str) -> Table:
    """An empty table; numbers stand to the right."""
    table = Table(title=title, title_justify="left")
    for heading in headings:
        words = heading in ("method", "ended", "start", "what", "goal", "measured")
        table.add_column(heading, justify="left" if words else "right")
    return table


def goals_table(goals: Sequence[Goal]) -> Table:
    """What was to be reached, and what was."""
    table = make_table("Goals", "what", "goal", "measured", "met")
    words = {True: "yes", False: "no", None: "open"}
    for goal in goals:
        table.add_row(goal.what, goal.goal, goal.measured, words[goal.met])
    return table


def counts(statuses: Sequence[str]) -> str:
    """How many of each."""
    return ", ".join(f"{n} {status}" for status, n in Counter(statuses).items())
