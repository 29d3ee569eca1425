"""Kinds of decoder times tools: runs the cells of the table in docs/decoders.md and prints what they do.

The cells are those of tests/test_kinds.py: "wrong" is an answer that differs from its reference.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Console

from geodesic.errors import GeodesicError
from scripts.benchmarks.options import make_parser
from scripts.benchmarks.tables import rows_table


def outcome(cell: Callable[[Any], None], case: Any, says_no: type[Exception]) -> str:
    """What a tool does with a kind of decoder, in a word."""
    try:
        cell(case)
    except says_no:
        return "says no"
    except GeodesicError:
        return "refused"
    except AssertionError:
        return "wrong"
    return "right"


def main(arguments: Sequence[str]) -> dict[str, dict[str, str]]:
    """Run the cells of the kinds asked for."""
    parser = make_parser("decoders", __doc__)
    parser.add_argument("--family", default="all", help="one heading of the table, such as Activations")
    options = parser.parse_args(arguments)
    from tests import test_kinds as table  # the tests need pytest, and the help does not

    torch.set_default_dtype(torch.float64)
    rows = {}
    for name, kind in table.KINDS.items():
        if options.family in ("all", kind.family):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pairs that did not converge: the cells say so
                case = table.Case(kind)
                rows[name] = {tool: outcome(cell, case, table.NotConverged) for tool, cell in table.CELLS.items()}
    Console().print(rows_table("What decoders do", "decoder", rows))
    return rows
