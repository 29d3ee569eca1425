"""Settings of the model: a VAE that is trained, or a decoder of one's own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, GetCoreSchemaHandler, PositiveFloat, PositiveInt, Strict, field_validator
from pydantic_core import CoreSchema, core_schema

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


class ImportedModelSettings(Section):
    """A decoder of the user's own, made by calling `package.module:function` without arguments."""

    import_: str = Field(alias="import", pattern=FUNCTION)
    weights: str | None = Field(None, description="safetensors file loaded into the decoder")
    latent_size: PositiveInt
    period: Annotated[tuple[PositiveFloat | None, ...], Strict(False)] | None = Field(
        None, description="of each latent coordinate, null for one that has none; null: no coordinate has one"
    )
    encoder: str | None = Field(
        None,
        pattern=FUNCTION,
        description="`package.module:function` that makes the encoder",
    )
    encoder_weights: str | None = None
    output: Literal["identity", "sigmoid"] = Field("identity", description="how the decoder's output becomes a mean")
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
        if likelihood is not None and info.data.get("output") == "sigmoid":
            raise ValueError("the likelihood says how outputs become means; leave out `output`")
        return likelihood


class _EitherModel:
    """Annotates the model: with the key `import` it is one's own, without it a VAE."""

    def section(self, value: Any) -> type[Section] | None:
        if not isinstance(value, dict):
            return None
        return ImportedModelSettings if "import" in value else VAESettings

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
