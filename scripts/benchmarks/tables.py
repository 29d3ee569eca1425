"""Tables of what was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.table import Table

__all__ = ["counts", "make_table", "rows_table", "shown"]

_WORDS = ("method", "metric", "ended", "start", "what", "measured")


def make_table(title: str, *headings: str, words: Sequence[str] = _WORDS) -> Table:
    """An empty table; columns of words stand to the left, numbers to the right."""
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in words else "right")
    return table


def rows_table(title: str, first: str, rows: Mapping[str, Mapping[str, object]]) -> Table:
    """A line for each row, headed by its name; the columns are those of the first row."""
    columns = list(next(iter(rows.values())))
    table = make_table(title, first, *columns, words=(first,))
    for name, row in rows.items():
        table.add_row(name, *(shown(row.get(column)) for column in columns))
    return table


def shown(value: object) -> str:
    """A value in a cell: four digits of a number, "a to b" for an interval."""
    if isinstance(value, list):
        return " to ".join(map(shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def counts(statuses: Sequence[str]) -> str:
    """How many of each."""
    return ", ".join(f"{n} {status}" for status, n in Counter(statuses).items())
