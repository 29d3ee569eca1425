"""Figures as parts of a page: drawings as SVG, pictures of many points as PNG."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING

from geodesic.pictures.shown import SAVED
from geodesic.pictures.style import in_style

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

__all__ = ["as_drawing", "as_picture"]

_LARGEST = 150_000  # bytes of a drawing: what is larger has many points, and is smaller as pixels
_DPI = 150  # of pictures, in which letters are sharp on a phone


def as_drawing(figure: Figure, name: str, text: str) -> Markup:
    """A figure as inline SVG, or as PNG where it is made of many points.

    Args:
        figure: The figure.
        name: Of letters and digits, another one for each figure of a page.
        text: What it shows, for readers that do not see it.
    """
    from markupsafe import Markup, escape

    stream = io.StringIO()
    with in_style():
        figure.savefig(stream, **(SAVED | {"format": "svg", "metadata": {"Date": None}}))
    drawn = stream.getvalue()
    if len(drawn) > _LARGEST:
        return as_picture(figure, text)
    drawn = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", "", drawn, flags=re.S)
    # All figures of a page share one space of names.
    drawn = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", drawn)
    drawn = drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(text)}" ', 1)
    return Markup(re.sub(r"\s*\n\s*", "\n", drawn).strip())  # what matplotlib wrote: it escapes names


def as_picture(figure: Figure, text: str) -> Markup:
    """A figure as PNG within the page.

    Args:
        figure: The figure.
        text: What it shows, for readers that do not see it.
    """
    from markupsafe import Markup

    stream = io.BytesIO()
    with in_style():
        figure.savefig(stream, **(SAVED | {"format": "png", "dpi": _DPI, "metadata": {"Software": None}}))
    data = base64.b64encode(_fewer_colors(stream.getvalue())).decode()
    return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(data, text)


def _fewer_colors(picture: bytes) -> bytes:
    """The same PNG with 256 colors, a third of the size; grays stay apart, since there are 256 of them."""
    from PIL import Image

    stream = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(stream, "png", optimize=True)
    return stream.getvalue()
