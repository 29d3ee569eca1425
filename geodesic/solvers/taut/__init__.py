"""Taut strings: shortest polygons through the faces of a decoder with kinks."""

from geodesic.solvers.taut.polygons import Polygons
from geodesic.solvers.taut.tightening import Effort, Taut, crossing, tighten

__all__ = ["Effort", "Polygons", "Taut", "crossing", "tighten"]
