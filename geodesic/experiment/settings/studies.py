"""Settings of the studies: `geodesic cov`, `curvature`, `mean` and `transport`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, field_validator, model_validator

from geodesic.experiment.settings.section import Section

__all__ = ["AnalogySettings", "CovSettings", "CurvatureSettings", "MeanSettings"]


class CovSettings(Section):
    """How many models `geodesic cov` trains: see `measure_variation`."""

    seeds: int = Field(5, ge=2, description="models of each kind; they begin with `seed`")
    decoders: tuple[PositiveInt, ...] = Field(
        (1, 2, 3), min_length=1, description="sizes of ensembles; 1 is no ensemble"
    )
    adam_steps: tuple[PositiveInt, ...] = Field(
        (150, 500), description="after which splines by Adam are compared with geodesics; [] without"
    )
    tile: PositiveInt = Field(16, description="pairs that are measured together; so many a crash loses")

    @field_validator("adam_steps")
    @classmethod
    def _steps_increase(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if list(steps) != sorted(set(steps)):
            raise ValueError("expected numbers that increase")
        return steps


class CurvatureSettings(Section):
    """Where `geodesic curvature` looks at the metric: see `map_curvature`."""

    grid: int = Field(60, ge=2, description="points a side of the map of a latent plane")
    margin: NonNegativeFloat = Field(0.1, description="of the map around most encodings, in parts of their extent")
    points: PositiveInt | None = Field(
        None,
        description="test rows at whose encodings the metric is looked at; null: 200, or all where there are fewer",
    )
    planes: PositiveInt = Field(4, description="random planes at each of them, where there is more than one")
    seed: NonNegativeInt = 0


class MeanSettings(Section):
    """Of what `geodesic mean` takes the Fréchet mean: see `find_means`."""

    per_label: bool = Field(True, description="one mean for each label, if there are labels; otherwise one of all")
    labels: tuple[int, ...] | None = Field(None, min_length=1, description="only these; null: all")
    count: int | None = Field(
        None, ge=2, description="test rows behind a mean, drawn at random; null: 20, or all where there are fewer"
    )
    method: Literal["discrete", "ode"] | None = None
    segments: int = Field(16, ge=2)
    seed: NonNegativeInt = 0

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if labels is not None and len(set(labels)) < len(labels):
            raise ValueError("expected each label once")
        return labels


class AnalogySettings(Section):
    """Which analogies a : b :: c : ? `geodesic transport` solves."""

    triples: tuple[tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt], ...] | None = Field(
        None, min_length=1, description="test rows [a, b, c]; null: `count` are drawn"
    )
    count: PositiveInt = 4
    seed: NonNegativeInt = 0
    from_: int | None = Field(None, alias="from", description="label of a; null for all three: rows of any label")
    to: int | None = Field(None, description="label of b")
    target: int | None = Field(None, description="label of c")
    method: Literal["discrete", "ode"] | None = None
    transport: Literal["connection", "pole_ladder", "schild_ladder", "projection", "refraction"] | None = None
    segments: int = Field(128, ge=2)

    @model_validator(mode="after")
    def _rows_or_labels(self) -> AnalogySettings:
        given = {"from": self.from_, "to": self.to, "target": self.target}
        known = [name for name, label in given.items() if label is not None]
        if known and len(known) < len(given):
            raise ValueError(f"got {', '.join(known)} alone; expected labels from, to and target, or none of them")
        if known and self.triples is not None:
            raise ValueError("triples name rows; leave out from, to and target, or leave out triples")
        return self
