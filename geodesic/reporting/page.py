"""A page of sections, as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geodesic.installation import require

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["Picture", "Rows", "Section", "page"]


@dataclass(frozen=True)
class Picture:
    """A figure with its caption."""

    markup: Markup
    caption: str


@dataclass(frozen=True)
class Rows:
    """A table: a heading for each column, and rows of text."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of the page: sentences, then pictures, tables and verbatim text.

    Attributes:
        name: Its anchor.
        title: Its heading.
        text: Paragraphs.
        pictures: Below them.
        tables: Below these.
        verbatim: Lines to copy, or settings, below these.
    """

    name: str
    title: str
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Rows] = ()
    verbatim: Sequence[str] = ()


def page(
    title: str,
    headline: str,
    reasons: Sequence[str],
    figures: Sequence[tuple[str, str]],
    advice: Sequence[str],
    sections: Sequence[Section],
) -> str:
    """The HTML of a page. All text is escaped; pictures are taken as they are.

    Args:
        title: Of the page.
        headline: Its first sentence.
        reasons: The sentences below it.
        figures: Name and value of what counts most.
        advice: What to do.
        sections: All else.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    require("", "jinja2")
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = lambda text: text.replace(" %", "\u00a0%")  # never a line of its own
    return environment.get_template("page.html").render(
        title=title, headline=headline, reasons=reasons, figures=figures, advice=advice, sections=sections
    )
