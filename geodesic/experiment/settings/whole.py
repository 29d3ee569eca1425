"""All settings of one experiment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt

from geodesic.data.source import DATA_SETS, DataSource
from geodesic.experiment.pairs import PAIRS, PairChoice, RandomPairs
from geodesic.experiment.settings.distances import DistancesSettings
from geodesic.experiment.settings.geodesics import GeodesicSettings
from geodesic.experiment.settings.kinds import Kinds, Record
from geodesic.experiment.settings.model import ModelSettings, VAESettings
from geodesic.experiment.settings.section import DEVICE, NAME, Section
from geodesic.experiment.settings.studies import AnalogySettings, CovSettings, CurvatureSettings, MeanSettings
from geodesic.experiment.settings.training import TrainingSettings

__all__ = ["Settings"]


class Settings(Section):
    """One experiment. `load_settings` reads it from YAML.

    Example:
        >>> from geodesic.experiment import Settings
        >>> settings = Settings.model_validate({"name": "first", "data": {"kind": "digits"}})
        >>> settings.model.latent_size, settings.geodesic.segments
        (2, None)
    """

    name: str = Field(pattern=NAME, description="the run folder is runs/NAME")
    seed: NonNegativeInt = 0
    device: str = Field("auto", pattern=DEVICE)
    dtype: Literal["float32", "float64"] = Field("float64", description="precision of geodesics")
    data: Annotated[DataSource | None, Kinds(DATA_SETS, optional=True)] = None
    model: ModelSettings = VAESettings()
    training: Annotated[TrainingSettings, Record(TrainingSettings)] = TrainingSettings()
    pairs: Annotated[PairChoice, Kinds(PAIRS)] = RandomPairs()
    geodesic: GeodesicSettings = GeodesicSettings()
    cov: CovSettings = CovSettings()
    curvature: CurvatureSettings = CurvatureSettings()
    mean: MeanSettings = MeanSettings()
    analogy: AnalogySettings = AnalogySettings()
    distances: DistancesSettings = DistancesSettings()
