"""The house itself, measured on one or several checkouts: a column each.

    python -m scripts.benchmarks structure --root OLDER_CHECKOUT .

Import order is that of structure/layers.py, which the tests enforce. Lines are those of the folder geodesic/. Seconds
are of a whole process, so a Python that does nothing is in them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from scripts.benchmarks.options import make_parser, positive
from scripts.benchmarks.records import write_json
from scripts.benchmarks.structure.measure import measure
from scripts.benchmarks.tables import make_table, shown

ROOT = Path(__file__).resolve().parents[3]


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, int | float | str]]:
    """Measure, print the table and return its columns."""
    parser = make_parser("structure", __doc__)
    parser.add_argument("--root", type=Path, nargs="+", default=[ROOT], help="checkouts, each holding geodesic/")
    parser.add_argument("--repeats", type=positive, default=5, help="timed processes for each median")
    parser.add_argument("--out", type=Path, help="a .json to write")
    options = parser.parse_args(arguments)
    for root in options.root:
        if not (root / "geodesic" / "__init__.py").is_file():
            parser.error(f"--root {root}: there is no geodesic/ in it; give the root of a checkout")
    columns = {str(root): measure(root.resolve(), options.repeats) for root in options.root}
    table = make_table("structure", "what", *columns)
    for what in next(iter(columns.values())):
        table.add_row(what, *(shown(column[what]) for column in columns.values()))
    Console(width=None if Console().is_terminal else 140).print(table)
    if options.out is not None:
        write_json(options.out, columns)
    return columns
