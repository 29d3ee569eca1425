"""Taut strings: shortest polygons through the faces of a decoder with kinks."""

from geodesic.solvers.taut.polygons import Polygons
from geodesic.solvers.taut.tightening import Taut, crossing, tighten

__all__ = ["Polygons", "Taut", "crossing", "tighten"]
