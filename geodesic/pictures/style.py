"""The style of all pictures: sizes of letters, colors that color-blind readers tell apart, fonts that travel."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

from geodesic.installation import require

__all__ = ["BLUE", "GREEN", "LABEL_COLORS", "LINE_COLORS", "ORANGE", "STYLE", "in_style", "styled"]

P = ParamSpec("P")
R = TypeVar("R")

# Okabe and Ito's colors; markers and dashes carry the rest.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
LINE_COLORS = [BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9"]

# Of classes: Tol's muted scheme, which color-blind readers tell apart, and two grays of other lightness.
LABEL_COLORS = [
    "#332288",
    "#88CCEE",
    "#CC6677",
    "#117733",
    "#DDCC77",
    "#AA4499",
    "#44AA99",
    "#882255",
    "#999933",
    "#555555",
]

STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.linewidth": 0.7,
    "image.interpolation": "nearest",
    "svg.fonttype": "path",  # looks the same where a font is missing
    "svg.hashsalt": "geodesic",  # the same picture is the same file
    "pdf.fonttype": 42,  # letters that other programs can edit
}
"""What differs from matplotlib's own defaults."""


def in_style() -> AbstractContextManager[None]:
    """Within it figures are made and written in our style, whatever the user's settings of matplotlib say."""
    import matplotlib.style
    from cycler import cycler

    colors = {"axes.prop_cycle": cycler(color=LINE_COLORS)}
    return matplotlib.style.context(["default", STYLE | colors])


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorate what draws a picture: in our style, but on `axes` of the user's in theirs."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs.get("axes") is not None:
            return draw(*args, **kwargs)
        require("", "matplotlib")
        with in_style():
            return draw(*args, **kwargs)

    return drawn
