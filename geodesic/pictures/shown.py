"""A figure that does without pyplot, and that a notebook shows all the same."""

from __future__ import annotations

import io
import struct
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from geodesic.pictures.style import in_style

__all__ = ["SAVED", "ShownFigure"]

SAVED: dict[str, Any] = {"dpi": 200, "bbox_inches": "tight", "pad_inches": 0.05}
"""How a picture is written, as keywords of `savefig`."""

_PIXELS = 96  # of a browser, an inch


class ShownFigure(Figure):
    """A figure of no global list, for which no display is needed.

    A notebook asks an object for its picture. It knows what to do with a figure of matplotlib only where pyplot was
    imported; this one answers by itself.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        FigureCanvasAgg(self)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The picture, with the size in which it is shown: sharp also where pixels are small."""
        file = io.BytesIO()
        with in_style():
            self.savefig(file, format="png", **SAVED)
        picture = file.getvalue()
        width, height = (size * _PIXELS // SAVED["dpi"] for size in struct.unpack(">II", picture[16:24]))
        return picture, {"width": width, "height": height}
