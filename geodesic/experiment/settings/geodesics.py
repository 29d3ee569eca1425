"""Settings of geodesics: the geometry, the discretization and the solvers."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from geodesic.experiment.geometries import GEOMETRIES, EuclideanGeometry, Geometry
from geodesic.experiment.settings.derived import DerivedSection
from geodesic.experiment.settings.kinds import Kinds
from geodesic.experiment.settings.section import LABEL, Section, reads_as_number
from geodesic.geometry.outputs import OUTPUT_GEOMETRIES, DistanceGeometry, OutputGeometry
from geodesic.solvers.solver import SOLVERS

__all__ = ["AutoSettings", "GeodesicSettings", "SolverSettings"]

_UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def _bytes(value: Any) -> Any:
    """2 GB to 2e9; anything but text as it is."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(.*?)\s*([KMGT]iB|[kMGT]?B|)\s*", value)
    if found is None or not reads_as_number(found[1]):
        raise ValueError("expected a number of bytes, or one with a unit such as 500 MB or 2 GiB")
    return float(found[1]) * _UNITS.get(found[2], 1)


class SolverSettings(DerivedSection):
    """One line of the table of geodesics: a solver with a name."""

    name: str = Field(pattern=LABEL, description="label in tables, figures and file names")


class AutoSettings(SolverSettings):
    """The solver that suits the latent size and the outputs: see `geodesic.solvers.Plan`."""

    kind: Literal["auto"]

    def build(self, **more: Any) -> str:
        """The word that `solve` takes."""
        return "auto"


class GeodesicSettings(Section):
    """Which geometry, which discretization, which solvers: see `geodesic.solve`."""

    geometry: Annotated[Geometry | OutputGeometry | DistanceGeometry, Kinds(GEOMETRIES, OUTPUT_GEOMETRIES)] = (
        EuclideanGeometry()
    )
    members: Literal["same", "independent"] = Field(
        "same", description="of an ensemble of decoders, which stand at the two ends of a segment"
    )
    segments: int | None = Field(
        None, ge=2, description="a fixed number; null: as many as each pair needs, from 32 on, where the outputs bend"
    )
    length_rtol: PositiveFloat | None = Field(
        None,
        description="largest estimated error of a resolved length; null: 1e-3, with `segments` as they are where given",
    )
    init: Literal["straight", "graph", "best"] = Field(
        "straight", description="where to start; the graph is one over the encodings of the training rows"
    )
    tol: PositiveFloat | None = Field(
        None, description="largest relative excess energy of a pair that counts as converged; null: by the dtype"
    )
    max_steps: PositiveInt = 1000
    memory: Annotated[PositiveFloat | None, BeforeValidator(_bytes)] = Field(
        None, description="bytes that the work may take, or text with a unit, such as 2 GB; null: half of what is free"
    )
    solvers: tuple[Annotated[SolverSettings, Kinds(SOLVERS, base=SolverSettings, more={"auto": AutoSettings})], ...] = (
        Field((AutoSettings(name="auto", kind="auto"),), min_length=1)
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> GeodesicSettings:
        names = [solver.name for solver in self.solvers]
        if len(set(names)) < len(names):
            raise ValueError(f"solver names must differ, got {names}")
        return self
