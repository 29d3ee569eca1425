"""What was to be reached, and what was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from scripts.benchmarks.tables import make_table

FASTEST = "auto"  # the method that the goals are about: `geodesic.solve` with its defaults


@dataclass(frozen=True)
class Goal:
    """One line of the goals table; `met` is None where a measurement is missing."""

    what: str
    goal: str
    measured: str
    met: bool | None


def goals_table(goals: Sequence[Goal]) -> Table:
    """What was to be reached, and what was."""
    table = make_table("Goals", "what", "goal", "measured", "met")
    words = {True: "yes", False: "no", None: "open"}
    for goal in goals:
        table.add_row(goal.what, goal.goal, goal.measured, words[goal.met])
    return table
