"""Settings of the model: a VAE that is trained, or a decoder of one's own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Strict,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from geodesic.adapters.imported import PROGRAM
from geodesic.adapters.meaning import PAIRS, SINGLE
from geodesic.errors import InputError
from geodesic.experiment.settings.kinds import Kinds
from geodesic.experiment.settings.section import FUNCTION, Section
from geodesic.models.likelihoods import LIKELIHOODS, Bernoulli, Likelihood
from geodesic.models.networks.mlp import MLPNetwork
from geodesic.models.networks.network import NETWORKS, Network
from geodesic.models.uncertainty import UNCERTAINTIES, Uncertainty, check_uncertainty

__all__ = ["ImportedModelSettings", "ModelSettings", "VAESettings"]


class VAESettings(Section):
    """A VAE that the project trains."""

    latent_size: PositiveInt = 2
    network: Annotated[Network, Kinds(NETWORKS, default="mlp")] = Field(
        MLPNetwork(), description="its kind alone, or a mapping of `kind`, mlp if it is left out, and its settings"
    )
    likelihood: Annotated[Likelihood, Kinds(LIKELIHOODS)] = Field(
        Bernoulli(), description="its kind alone, or a mapping of `kind` and its settings"
    )
    decoders: PositiveInt = Field(1, description="trained together behind one encoder: an ensemble, if more than one")
    inputs: Literal["auto", "log1p", "standardize", "none"] = Field(
        "auto", description="what the encoder is given; auto: log1p for counts, standardize for a Gaussian, else none"
    )
    uncertainty: Annotated[Uncertainty | None, Kinds(UNCERTAINTIES, optional=True)] = Field(
        None, description="rbf or blend, fitted after training: what the decoder says away from the training encodings"
    )

    @field_validator("uncertainty")
    @classmethod
    def _suits_the_model(cls, uncertainty: Uncertainty | None, info: Any) -> Uncertainty | None:
        likelihood = info.data.get("likelihood")  # absent where it was refused itself
        try:
            if likelihood is not None:
                check_uncertainty(uncertainty, likelihood, info.data.get("decoders", 1))
        except InputError as error:
            raise ValueError(str(error).removeprefix("uncertainty: ")) from None
        return uncertainty


def _files(value: Any) -> Any:
    """One file as a list of one, a list as what settings hold."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple) or not all(isinstance(file, str) for file in value):
        raise ValueError("expected a file, or a list of files, one for each member of an ensemble")
    return tuple(value)


class ImportedModelSettings(Section):
    """A decoder of the user's own: what `package.module:name` makes, or a program of torch.export."""

    import_: str | None = Field(
        None, alias="import", pattern=FUNCTION, description="left out for programs, `.pt2` files under weights"
    )
    arguments: dict[str, Any] = Field({}, description="of the call of what is imported, by name")
    weights: Annotated[tuple[str, ...], BeforeValidator(_files)] = Field(
        (), description="files loaded into the decoder, as by `geodesic.load_weights`; several are an ensemble"
    )
    prefix: str | None = Field(None, description="of the decoder's names in the files; null: found")
    method: str | None = Field(None, description="of what is made, which decodes; null: itself, or `decode`")
    latent_size: PositiveInt | None = Field(None, description="null: found from the decoder's layers")
    output: str | NonNegativeInt | None = Field(
        None, description="what of its output counts, and what it is, as for `geodesic.wrap`; null: found"
    )
    condition: Any = Field(
        None,
        description="what else the decoder takes, one for all pairs, as for `geodesic.wrap`: a number, a row as "
        "[[0, 0, 1]], or a mapping by name",
    )
    image_shape: Annotated[tuple[PositiveInt, ...] | None, Strict(False)] = Field(
        None, min_length=2, max_length=3, description="in which flat outputs are drawn: [1, 28, 28]"
    )
    period: Annotated[tuple[PositiveFloat | None, ...], Strict(False)] | None = Field(
        None, description="of each latent coordinate, null for one that has none; null: no coordinate has one"
    )
    encoder: str | None = Field(
        None,
        pattern=FUNCTION,
        description="`package.module:function` that makes the encoder",
    )
    encoder_weights: str | None = None
    likelihood: Annotated[Likelihood | None, Kinds(LIKELIHOODS, optional=True)] = Field(
        None, description="what the decoder's output means, if it is parameters: as for a VAE that is trained here"
    )

    @field_validator("period")
    @classmethod
    def _has_an_entry_for_each_coordinate(cls, period: Any, info: Any) -> Any:
        d = info.data.get("latent_size")  # absent where it was refused itself
        if period is not None and d is not None and len(period) != d:
            raise ValueError(f"expected {d} entries, one for each latent coordinate, null for one that has none")
        return period

    @field_validator("likelihood")
    @classmethod
    def _says_what_the_mean_is(cls, likelihood: Likelihood | None, info: Any) -> Likelihood | None:
        if likelihood is not None and info.data.get("output") in (*SINGLE, *PAIRS):
            raise ValueError("the likelihood says what outputs are; leave out `output`, or name a part in it")
        return likelihood

    @model_validator(mode="after")
    def _has_a_decoder(self) -> ImportedModelSettings:
        programs = [file for file in self.weights if file.endswith(PROGRAM)]
        if self.import_ is None and len(programs) < max(1, len(self.weights)):
            raise ValueError(f"expected `import`, which says what to load weights into, or {PROGRAM} files alone")
        if self.import_ is not None and programs:
            raise ValueError(f"{programs[0]} is a program, which needs no class; leave out `import`")
        return self


class _EitherModel:
    """Annotates the model: with the key `import` or `weights` it is one's own, without it a VAE."""

    def section(self, value: Any) -> type[Section] | None:
        if not isinstance(value, dict):
            return None
        return ImportedModelSettings if value.keys() & {"import", "weights"} else VAESettings

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any) -> Any:
            if isinstance(value, VAESettings | ImportedModelSettings):
                return value
            section = self.section(value)
            if section is None:
                raise ValueError("expected a mapping of settings")
            return section.model_validate(value)

        def write(value: Any) -> Any:
            return value.model_dump(mode="json", by_alias=True)

        return core_schema.no_info_plain_validator_function(
            read, serialization=core_schema.plain_serializer_function_ser_schema(write)
        )


ModelSettings = Annotated[VAESettings | ImportedModelSettings, _EitherModel()]
