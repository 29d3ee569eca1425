"""Settings of `geodesic distances`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from geodesic.distances.methods import METHODS, Exact, Method
from geodesic.experiment.points import POINTS, EncodedPoints, PointChoice
from geodesic.experiment.settings.kinds import Kinds
from geodesic.experiment.settings.section import Section

__all__ = ["DistancesSettings"]


class DistancesSettings(Section):
    """Between which points `geodesic distances` measures, and how: see `distance_matrix`."""

    points: Annotated[PointChoice, Kinds(POINTS, default="encodings")] = EncodedPoints()
    method: Annotated[Method, Kinds(METHODS)] = Exact()
    nearest: PositiveInt = Field(5, description="neighbors that are compared with those in latent coordinates")
    length_rtol: PositiveFloat | None = Field(
        None,
        description="largest estimated error of a resolved length, which takes the place of `geodesic.tol`; null: that "
        "of `geodesic`, or else 1e-3",
    )
    tile: PositiveInt = Field(64, description="points on each side of a tile of --store; so much a crash loses")
    dtype: Literal["auto", "float32", "float64"] = Field(
        "auto", description="auto: float32 for a length_rtol of at least 1e-4 and a decoder without kinks, else float64"
    )
