"""Figures, drawn without a display and without pyplot's state."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BLUE", "GREEN", "VERMILION", "make_figure"]

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"  # told apart by everybody


def make_figure(width: float, height: float, dpi: int = 150) -> Figure:
    """An empty figure of that many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="compressed", dpi=dpi)
    FigureCanvasAgg(figure)
    return figure
