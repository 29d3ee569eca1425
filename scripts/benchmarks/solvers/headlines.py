"""The few figures that a run is read for, in one table at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from scripts.benchmarks.tables import make_table

DEFAULT = "auto"  # the method that the headlines are about: `geodesic.solve` with its defaults


@dataclass(frozen=True)
class Headline:
    """One line of the table: what was measured, and the figure."""

    what: str
    measured: str


def headlines_table(headlines: Sequence[Headline]) -> Table:
    """What a run is read for."""
    table = make_table("Headlines", "what", "measured")
    for headline in headlines:
        table.add_row(headline.what, headline.measured)
    return table
