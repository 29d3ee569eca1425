"""YAML to frozen settings that refuse unknown keys and wrong types. Imports no torch."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PlainSerializer,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationError,
    WrapValidator,
    field_validator,
    model_validator,
)

from geodesic.errors import SettingsError

__all__ = [
    "AnalogySettings",
    "ArrayData",
    "AutoSettings",
    "BernoulliSettings",
    "BlendSettings",
    "CategoricalSettings",
    "ContinuousBernoulliSettings",
    "CovSettings",
    "CurvatureSettings",
    "DataSettings",
    "DensitySettings",
    "DigitsData",
    "DiscretisedSettings",
    "EuclideanSettings",
    "ExpectedSettings",
    "FeaturesSettings",
    "FisherRaoSettings",
    "GaussianSettings",
    "GeodesicSettings",
    "GeometrySettings",
    "GradientDescentSettings",
    "IdxData",
    "ImageFolderData",
    "ImportedModelSettings",
    "LBFGSSettings",
    "LikelihoodSettings",
    "LocalVarianceSettings",
    "MeanSettings",
    "ModelSettings",
    "NegativeBinomialSettings",
    "NewtonKrylovSettings",
    "NewtonSettings",
    "PairSettings",
    "PoissonSettings",
    "RBFSettings",
    "Settings",
    "SolverSettings",
    "TorchvisionData",
    "TrainingSettings",
    "UncertaintySettings",
    "VAESettings",
    "load_settings",
    "settings_to_yaml",
]


_NAME = r"^[A-Za-z0-9][\w.-]*$"
_LABEL = r"^[\w-]+$"
_DEVICE = r"^(auto|cpu|cuda(:\d+)?)$"
_FUNCTION = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _kind_alone(value: Any) -> Any:
    """`poisson` to `{kind: poisson}`; mappings as they are."""
    if isinstance(value, str):
        return {"kind": value}
    if isinstance(value, dict | _Section):
        return value
    raise ValueError("expected a kind in one word, or a mapping of settings with `kind` among them")


def _shortest(section: Any) -> Any:
    """The other way round: a section that has no settings but its kind as that word alone."""
    if section is None:
        return None
    fields = section.model_dump(mode="json")
    return fields if len(fields) > 1 else section.kind


# --- data -------------------------------------------------------------------------------------


class _Data(_Section):
    seed: NonNegativeInt = Field(0, description="seed of the split, for data without one of its own")
    limit: PositiveInt | None = Field(None, description="keep only the first so many training rows")


class DigitsData(_Data):
    """scikit-learn's 1,797 handwritten digits, 8 x 8, bundled."""

    kind: Literal["digits"]
    test_fraction: float = Field(0.2, gt=0, lt=1)


class TorchvisionData(_Data):
    """MNIST or Fashion-MNIST through torchvision, downloaded at first use."""

    kind: Literal["mnist", "fashion_mnist"]
    path: str = Field("data", description="folder for the downloaded files")
    download: bool = True


class ArrayData(_Data):
    """A .npy of images or vectors, or an .npz with `values` and, if there are any, `labels`."""

    kind: Literal["array"]
    path: str
    test_fraction: float = Field(0.2, gt=0, lt=1)


class IdxData(_Data):
    """A folder of IDX files, as MNIST is distributed; `path` may use environment variables."""

    kind: Literal["idx"]
    path: str
    train: PositiveInt | None = Field(
        None, description="first so many images train, where the folder has one pair of files only"
    )
    test: PositiveInt | None = Field(None, description="last so many images are held out")


def _size(value: Any, validate: Callable[[Any], Any]) -> Any:
    """One complaint, where Pydantic has one for each member of the union."""
    try:
        return validate(value)
    except ValidationError:
        raise ValueError("expected the side of a square in pixels, or a list [height, width]") from None


class ImageFolderData(_Data):
    """A folder of image files; subfolders, if there are any, are classes, numbered in the order of their names."""

    kind: Literal["image_folder"]
    path: str
    size: Annotated[
        PositiveInt | Annotated[tuple[PositiveInt, PositiveInt], Field(strict=False)] | None, WrapValidator(_size)
    ] = Field(
        None,
        description="a number: the shorter side is resized to it and the middle square kept; [height, width]: "
        "stretched to it; null: as they are, all of one size",
    )
    mode: Literal["rgb", "grey"] = "rgb"
    test_fraction: float = Field(0.2, gt=0, lt=1)
    workers: NonNegativeInt = Field(0, description="processes that decode images; 0: this process does")
    corrupt: Literal["refuse", "skip"] = Field(
        "refuse", description="what to do with an image that cannot be read: stop, or leave it out with a warning"
    )


DataSettings = Annotated[
    DigitsData | TorchvisionData | ArrayData | IdxData | ImageFolderData, Field(discriminator="kind")
]


# --- likelihoods ------------------------------------------------------------------------------


class BernoulliSettings(_Section):
    """Pixels in [0, 1], taken as probabilities of being on: see `geodesic.Bernoulli`."""

    kind: Literal["bernoulli"]


class ContinuousBernoulliSettings(_Section):
    """Grey pixels in [0, 1]: see `geodesic.ContinuousBernoulli`."""

    kind: Literal["continuous_bernoulli"]


class GaussianSettings(_Section):
    """Any numbers: see `geodesic.Gaussian`."""

    kind: Literal["gaussian"]
    scale: PositiveFloat | Literal["learned", "per_pixel"] = Field(
        "learned", description="a number; one that is learned; or one for each entry, from the decoder"
    )
    min_scale: PositiveFloat = Field(0.01, description="lower bound of scales that are learned or fitted")


class CategoricalSettings(_Section):
    """Classes 0, 1, ..., K - 1: see `geodesic.Categorical`."""

    kind: Literal["categorical"]
    classes: int = Field(ge=2)


class DiscretisedSettings(_Section):
    """Grey levels 0, 1 / (levels - 1), ..., 1, each with a probability of its own: see `geodesic.Discretised`."""

    kind: Literal["discretised"]
    levels: int = Field(256, ge=2)


class PoissonSettings(_Section):
    """Counts 0, 1, 2, ...: see `geodesic.Poisson`."""

    kind: Literal["poisson"]


class NegativeBinomialSettings(_Section):
    """Counts that vary more than Poisson's: see `geodesic.NegativeBinomial`."""

    kind: Literal["negative_binomial"]
    total_count: PositiveFloat = Field(description="r; the variance is mean + mean^2 / r")


LikelihoodSettings = Annotated[
    Annotated[
        BernoulliSettings
        | ContinuousBernoulliSettings
        | GaussianSettings
        | CategoricalSettings
        | DiscretisedSettings
        | PoissonSettings
        | NegativeBinomialSettings,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_kind_alone),
    PlainSerializer(_shortest),
]


# --- model ------------------------------------------------------------------------------------


_SIZES = {"mlp": ("hidden_sizes", (256, 256)), "conv": ("channels", (32, 64))}


class RBFSettings(_Section):
    """A Gaussian scale that grows away from the encodings: see `geodesic.models.uncertainty.RBFScaleDecoder`."""

    kind: Literal["rbf"]
    centres: int = Field(64, ge=2, description="clusters of the training encodings")
    width: PositiveFloat = Field(1.5, description="of the basis functions, in spreads of the clusters")
    away: PositiveFloat = Field(1.0, description="the scale far from all encodings, in the units of the data")


class BlendSettings(_Section):
    """Parameters that say nothing away from the encodings: see `geodesic.models.uncertainty.BlendedDecoder`."""

    kind: Literal["blend"]
    centres: int = Field(256, ge=2, description="clusters of the training encodings")
    width: PositiveFloat = Field(0.7, description="of the kernels, in spreads of the clusters")


UncertaintySettings = Annotated[
    Annotated[RBFSettings | BlendSettings, Field(discriminator="kind")],
    BeforeValidator(_kind_alone),
    PlainSerializer(_shortest),
]


class VAESettings(_Section):
    """A VAE that the project trains."""

    latent_size: PositiveInt = 2
    network: Literal["mlp", "conv"] = "mlp"
    hidden_sizes: tuple[PositiveInt, ...] | None = Field(
        None, validate_default=True, description="for mlp: lengths of the hidden layers; (256, 256) if not given"
    )
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | None = Field(
        None,
        validate_default=True,
        description="for conv: channels of the stages, each of which halves the image; (32, 64) if not given",
    )
    activation: Literal["elu", "gelu", "relu", "silu", "softplus", "tanh"] = "elu"
    likelihood: LikelihoodSettings = Field(
        BernoulliSettings(kind="bernoulli"), description="its kind alone, or a mapping of `kind` and its settings"
    )
    decoders: PositiveInt = Field(1, description="trained together behind one encoder: an ensemble, if more than one")
    uncertainty: UncertaintySettings | None = Field(
        None, description="rbf or blend, fitted after training: what the decoder says away from the training encodings"
    )

    @field_validator("uncertainty")
    @classmethod
    def _suits_the_model(cls, uncertainty: UncertaintySettings | None, info: Any) -> UncertaintySettings | None:
        likelihood = info.data.get("likelihood")  # absent where it was refused itself
        if uncertainty is None or likelihood is None:
            return uncertainty
        if info.data.get("decoders", 1) > 1:
            raise ValueError("an ensemble shows its uncertainty by its members; use one decoder, or no uncertainty")
        if isinstance(uncertainty, RBFSettings) and not isinstance(likelihood, GaussianSettings):
            raise ValueError(
                f"rbf is a scale, and the likelihood {likelihood.kind} has none; use blend, or likelihood: gaussian"
            )
        if isinstance(uncertainty, RBFSettings) and likelihood.scale == "per_pixel":
            raise ValueError("rbf would replace the scales that per_pixel learns; use scale: learned, or a number")
        return uncertainty

    @field_validator("hidden_sizes", "channels")
    @classmethod
    def _of_its_network(cls, sizes: tuple[int, ...] | None, info: Any) -> tuple[int, ...] | None:
        """The sizes of the network that was asked for; null for the other's, also in YAML that is written."""
        network = info.data.get("network")  # absent where it was refused itself
        if network is None:
            return sizes
        own, default = _SIZES[network]
        if info.field_name == own:
            return default if sizes is None else sizes
        if sizes is not None:
            raise ValueError(f"network: {network} takes {own} instead")
        return None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the layers of the network, from the row to the latent point."""
        return self.hidden_sizes or self.channels or ()


class ImportedModelSettings(_Section):
    """A decoder of the user's own, made by calling `package.module:function` without arguments."""

    import_: str = Field(alias="import", pattern=_FUNCTION)
    weights: str | None = Field(None, description="safetensors file loaded into the decoder")
    latent_size: PositiveInt
    encoder: str | None = Field(
        None,
        pattern=_FUNCTION,
        description="`package.module:function` that makes the encoder",
    )
    encoder_weights: str | None = None
    output: Literal["identity", "sigmoid"] = Field("identity", description="how the decoder's output becomes a mean")
    likelihood: LikelihoodSettings | None = Field(
        None, description="what the decoder's output means, if it is parameters: as for a VAE that is trained here"
    )

    @field_validator("likelihood")
    @classmethod
    def _says_what_the_mean_is(cls, likelihood: LikelihoodSettings | None, info: Any) -> LikelihoodSettings | None:
        if likelihood is not None and info.data.get("output") == "sigmoid":
            raise ValueError("the likelihood says how outputs become means; leave out `output`")
        return likelihood


def _model_tag(value: Any) -> str:
    keys = value if isinstance(value, dict) else dir(value)
    return "imported" if "import" in keys or "import_" in keys else "vae"


ModelSettings = Annotated[
    Annotated[VAESettings, Tag("vae")] | Annotated[ImportedModelSettings, Tag("imported")],
    Discriminator(_model_tag),
]


class TrainingSettings(_Section):
    """How long and how a VAE is trained. The loss is -E log p(x|z) + beta KL, in nats per image."""

    epochs: PositiveInt = 50
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 1e-3
    kl_weight: NonNegativeFloat = 1.0
    kl_warmup_epochs: NonNegativeInt = Field(0, description="beta grows linearly from 0 over so many epochs")
    patience: PositiveInt | None = Field(None, description="stop after so many epochs without a better validation ELBO")
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="part of the training rows held back")
    accelerator: str = "auto"
    devices: PositiveInt | Literal["auto"] = Field(
        "auto", description="a process for each, with batches of its own; auto: one"
    )
    precision: Literal["32-true", "64-true", "16-mixed", "bf16-mixed"] = "32-true"
    importance_samples: NonNegativeInt = Field(
        64, description="latent points a row of the importance-weighted bound of the test rows; 0: none"
    )
    picture_every: PositiveInt | None = Field(
        10, description="draw reconstructions and samples every so many epochs and at the end; null: never"
    )


# --- pairs ------------------------------------------------------------------------------------


class RandomPairs(_Section):
    """Pairs drawn at random among the encodings of the test rows."""

    kind: Literal["random"]
    count: PositiveInt = 8
    seed: NonNegativeInt = 0


class IndexPairs(_Section):
    """Pairs of test rows by index."""

    kind: Literal["index"]
    indices: tuple[tuple[NonNegativeInt, NonNegativeInt], ...] = Field(min_length=1)


class LabelPairs(_Section):
    """Pairs from test rows of one label to test rows of another."""

    kind: Literal["label"]
    from_: NonNegativeInt = Field(alias="from")
    to: NonNegativeInt
    count: PositiveInt = 8
    seed: NonNegativeInt = 0


class FilePairs(_Section):
    """Latent points from an .npz with `start` and `end`, both (N, latent_size)."""

    kind: Literal["file"]
    path: str


PairSettings = Annotated[RandomPairs | IndexPairs | LabelPairs | FilePairs, Field(discriminator="kind")]


# --- geodesics --------------------------------------------------------------------------------


class _Solver(_Section):
    """One line of the table of geodesics."""

    name: str = Field(pattern=_LABEL, description="label in tables, figures and file names")


class AutoSettings(_Solver):
    """The solver that suits the latent size and the outputs: see `geodesic.choose_solver`."""

    kind: Literal["auto"]


class NewtonSettings(_Solver):
    """See `geodesic.Newton`."""

    kind: Literal["newton"]
    warm_up: bool = Field(True, description="whether L-BFGS goes first")


class NewtonKrylovSettings(_Solver):
    """See `geodesic.NewtonKrylov`."""

    kind: Literal["newton_krylov"]
    warm_up: bool = Field(True, description="whether L-BFGS goes first")
    metric_samples: NonNegativeInt = Field(4, description="points at which the preconditioner takes the metric")


class LBFGSSettings(_Solver):
    """See `geodesic.LBFGS`."""

    kind: Literal["lbfgs"]
    history: PositiveInt = Field(20, description="number of corrections that are kept")
    metric_samples: NonNegativeInt = Field(4, description="points at which the preconditioner takes the metric")


class GradientDescentSettings(_Solver):
    """See `geodesic.GradientDescent`."""

    kind: Literal["gradient_descent"]
    direction: Literal["decoder", "encoder"] = "decoder"
    preconditioned: bool = True
    step_size: PositiveFloat | None = Field(None, description="fixed step; null: backtracking per path")
    epsilon: PositiveFloat | None = Field(None, description="stop when sum |eta_i|^2 <= epsilon")
    jvp_method: Literal["forward", "double_vjp"] = "forward"


SolverSettings = Annotated[
    AutoSettings | NewtonSettings | NewtonKrylovSettings | LBFGSSettings | GradientDescentSettings,
    Field(discriminator="kind"),
]

_UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def _bytes(value: Any) -> Any:
    """2 GB to 2e9; anything but text as it is."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(.*?)\s*([KMGT]iB|[kMGT]?B|)\s*", value)
    if found is None or not _is_number(found[1]):
        raise ValueError("expected a number of bytes, or one with a unit such as 500 MB or 2 GiB")
    return float(found[1]) * _UNITS.get(found[2], 1)


class EuclideanSettings(_Section):
    """Distance between means: see `geodesic.Euclidean`."""

    kind: Literal["euclidean"]


class ExpectedSettings(_Section):
    """The expected metric of random outputs, for a Gaussian likelihood: see `geodesic.ExpectedGaussian`."""

    kind: Literal["expected"]


class FisherRaoSettings(_Section):
    """Fisher-Rao distance between the distributions of outputs, whichever suits the likelihood."""

    kind: Literal["fisher_rao"]


class FeaturesSettings(_Section):
    """Distance between a network's features of the means: see `geodesic.Features`."""

    kind: Literal["features"]
    network: str = Field(pattern=_FUNCTION, description="`package.module:function` that makes the network")
    weights: str | None = Field(None, description="safetensors file loaded into the network")


class LocalVarianceSettings(_Section):
    """A diagonal metric of the training encodings: see `geodesic.LocalVarianceManifold`."""

    kind: Literal["local_variance"]
    bandwidth: PositiveFloat | None = Field(None, description="null: Scott's rule")
    rho: PositiveFloat = 1e-3
    points: int = Field(1000, ge=2, description="first so many training rows")


class DensitySettings(_Section):
    """A conformal metric of the density of the training encodings: see `geodesic.DensityManifold`."""

    kind: Literal["density"]
    bandwidth: PositiveFloat | None = Field(None, description="null: Scott's rule")
    floor: PositiveFloat = 1e-2
    points: int = Field(1000, ge=2, description="first so many training rows")


GeometrySettings = Annotated[
    Annotated[
        EuclideanSettings
        | ExpectedSettings
        | FisherRaoSettings
        | FeaturesSettings
        | LocalVarianceSettings
        | DensitySettings,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_kind_alone),
    PlainSerializer(_shortest),
]


class GeodesicSettings(_Section):
    """Which geometry, which discretisation, which solvers: see `geodesic.solve`."""

    geometry: GeometrySettings = EuclideanSettings(kind="euclidean")
    members: Literal["same", "independent"] = Field(
        "same", description="of an ensemble of decoders, which stand at the two ends of a segment"
    )
    segments: int = Field(32, ge=2)
    length_rtol: PositiveFloat | None = Field(
        None, description="double the segments until two lengths agree to this; null: `segments` as they are"
    )
    init: Literal["straight", "graph", "best"] = Field(
        "straight", description="where to start; the graph is one over the encodings of the training rows"
    )
    tol: PositiveFloat = 1e-6
    max_steps: PositiveInt = 1000
    memory: Annotated[PositiveFloat, BeforeValidator(_bytes)] = Field(
        1e9, description="bytes that the work may take, or text with a unit, such as 2 GB"
    )
    solvers: tuple[SolverSettings, ...] = Field((AutoSettings(name="auto", kind="auto"),), min_length=1)

    @model_validator(mode="after")
    def _names_are_unique(self) -> GeodesicSettings:
        names = [solver.name for solver in self.solvers]
        if len(set(names)) < len(names):
            raise ValueError(f"solver names must differ, got {names}")
        return self


class CovSettings(_Section):
    """How many models `geodesic cov` trains: see `geodesic.experiment.studies.variation.measure_variation`."""

    seeds: int = Field(5, ge=2, description="models of each kind; they begin with `seed`")
    decoders: tuple[PositiveInt, ...] = Field(
        (1, 2, 3), min_length=1, description="sizes of ensembles; 1 is no ensemble"
    )


class CurvatureSettings(_Section):
    """Where `geodesic curvature` looks at the metric: see `geodesic.experiment.studies.map_curvature`."""

    grid: int = Field(60, ge=2, description="points a side of the map of a latent plane")
    margin: NonNegativeFloat = Field(0.1, description="of the map around most encodings, in parts of their extent")
    points: PositiveInt = Field(200, description="test rows at whose encodings the metric is looked at")
    planes: PositiveInt = Field(4, description="random planes at each of them, where there is more than one")
    seed: NonNegativeInt = 0


class MeanSettings(_Section):
    """Of what `geodesic mean` takes the Fréchet mean: see `geodesic.experiment.studies.find_means`."""

    per_label: bool = Field(True, description="one mean for each label, if there are labels; otherwise one of all")
    labels: tuple[int, ...] | None = Field(None, min_length=1, description="only these; null: all")
    count: int = Field(20, ge=2, description="test rows behind a mean, drawn at random")
    method: Literal["discrete", "ode"] = "discrete"
    segments: int = Field(16, ge=2)
    seed: NonNegativeInt = 0

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if labels is not None and len(set(labels)) < len(labels):
            raise ValueError("expected each label once")
        return labels


class AnalogySettings(_Section):
    """Which analogies a : b :: c : ? `geodesic transport` solves."""

    triples: tuple[tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt], ...] | None = Field(
        None, min_length=1, description="test rows [a, b, c]; null: `count` are drawn"
    )
    count: PositiveInt = 4
    seed: NonNegativeInt = 0
    from_: int | None = Field(None, alias="from", description="label of a; null for all three: rows of any label")
    to: int | None = Field(None, description="label of b")
    target: int | None = Field(None, description="label of c")
    method: Literal["discrete", "ode"] = "discrete"
    transport: Literal["connection", "pole_ladder", "schild_ladder", "projection"] = "connection"
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


class Settings(_Section):
    """One experiment. `load_settings` reads it from YAML.

    Example:
        >>> from geodesic import Settings
        >>> settings = Settings.model_validate({"name": "first", "data": {"kind": "digits"}})
        >>> settings.model.latent_size, settings.geodesic.segments
        (2, 32)
    """

    name: str = Field(pattern=_NAME, description="the run folder is runs/NAME")
    seed: NonNegativeInt = 0
    device: str = Field("auto", pattern=_DEVICE)
    dtype: Literal["float32", "float64"] = Field("float64", description="precision of geodesics")
    data: DataSettings | None = None
    model: ModelSettings = VAESettings()
    training: TrainingSettings = TrainingSettings()
    pairs: PairSettings = RandomPairs(kind="random")
    geodesic: GeodesicSettings = GeodesicSettings()
    cov: CovSettings = CovSettings()
    curvature: CurvatureSettings = CurvatureSettings()
    mean: MeanSettings = MeanSettings()
    analogy: AnalogySettings = AnalogySettings()


def load_settings(path: str | Path, overrides: Sequence[str] = ()) -> Settings:
    r"""Read settings from a YAML file, then apply overrides such as `training.epochs=5`.

    Args:
        path: The YAML file.
        overrides: `key.path=value` strings; the value is read as YAML, so `null`, lists and numbers work.

    Returns:
        Frozen settings.

    Raises:
        SettingsError: The file is missing or is no YAML mapping, or a key or value is refused. The message
            names the key's path, the value and what was allowed.

    Example:
        >>> import pathlib, tempfile
        >>> from geodesic import load_settings
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "first.yaml"
        >>> _ = file.write_text("name: first\ndata: {kind: digits}\n")
        >>> load_settings(file, ["training.epochs=5"]).training.epochs
        5
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such settings file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot read the settings file ({error}); check the path") from None
    try:
        tree = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: this is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise SettingsError(f"{path}: expected a YAML mapping of settings, got {type(tree).__name__}")
    for override in overrides:
        _apply(tree, override)
    try:
        # JSON is where strict types still let a list become a tuple.
        return Settings.model_validate_json(json.dumps(tree, default=str))
    except ValidationError as error:
        lines = _explain(error)
        raise SettingsError(f"{path}: {lines[0]}" if len(lines) == 1 else "\n  ".join([f"{path}:", *lines])) from None
    except (TypeError, ValueError, RecursionError):
        # A key that is a list, or an alias that holds itself: YAML has them, settings do not.
        raise SettingsError(f"{path}: expected nested mappings with plain keys, and no anchor inside itself") from None


def settings_to_yaml(settings: Settings) -> str:
    """The settings as YAML that `load_settings` reads back to the same settings."""
    return yaml.safe_dump(settings.model_dump(mode="json", by_alias=True), sort_keys=False)


class _Loader(yaml.SafeLoader):
    """YAML whose mappings have no key twice: of two values PyYAML drops the first without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Before merge keys (`<<`) are resolved: what they bring in may be overridden.
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise yaml.YAMLError(
                    f"the key {key.value!r} is given in line {lines[key.value]} and again in line {line}; remove one"
                )
            lines[key.value] = line
        return node


def _apply(tree: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise SettingsError(f"override {override!r}: expected key.path=value, such as training.epochs=5")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise SettingsError(f"override {override!r}: the value is not valid YAML: {error}") from None
    if isinstance(value, str) and _is_number(text):
        value = float(value)  # YAML 1.1 reads 1e-3 as a string; in quotes it is meant to be one
    node: Any = tree
    for position, key in enumerate(keys):
        last = position == len(keys) - 1
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                raise SettingsError(
                    f"override {override!r}: {'.'.join(keys[:position])} is a list of {len(node)}; "
                    f"expected an index below that, got {key!r}"
                )
            index: Any = int(key)
        else:
            index = key
            if not last and not isinstance(node.get(key), dict | list):
                alone = keys[: position + 1] in _KIND_ALONE and isinstance(node.get(key), str)
                node[key] = _kind_alone(node[key]) if alone else {}
        if last:
            node[index] = value
        else:
            node = node[index]
            if not isinstance(node, dict | list):
                raise SettingsError(
                    f"override {override!r}: {'.'.join(keys[: position + 1])} is a value, not a section"
                )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


# Where settings have a `kind`, or the model one of its two sorts.
_UNIONS = (
    ("data",),
    ("model",),
    ("model", "vae", "likelihood"),
    ("model", "vae", "uncertainty"),
    ("model", "imported", "likelihood"),
    ("pairs",),
    ("geodesic", "geometry"),
    ("geodesic", "solvers", int),
)
_KIND_ALONE = (["model", "likelihood"], ["model", "uncertainty"], ["geodesic", "geometry"])  # where one word will do
_NUMBER_OR_WORD: tuple[list[int | str], ...] = (["training", "devices"], ["model", "likelihood", "scale"])
_PATTERNS = {
    _NAME: "letters, digits, '.', '_' and '-', starting with a letter or digit",
    _LABEL: "letters, digits, '_' and '-'",
    _DEVICE: "auto, cpu, cuda or cuda:N",
    _FUNCTION: "package.module:function",
}
_TYPES = {
    "int_type": "an integer",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a mapping of settings",
    "model_attributes_type": "a mapping of settings",
    "dict_type": "a mapping of settings",
}


def _explain(error: ValidationError) -> list[str]:
    """One line for each refused key: its path, the value, what is allowed."""
    items = error.errors()
    refused = [item["loc"] for item in items]
    lines: dict[str, list[str]] = {}
    for item in items:
        loc, value = item["loc"], item["input"]
        if item["type"] == "too_short" and any(r[: len(loc)] == loc != r for r in refused):
            continue  # Pydantic counts only the entries that passed; the others have a line of their own.
        # Pydantic puts the tag of a union into the location; the YAML has no such key.
        location = [part for i, part in enumerate(loc) if not _is_union(loc[:i])]
        if item["type"] in ("union_tag_not_found", "union_tag_invalid"):
            location.append("kind")
            value = value.get("kind") if isinstance(value, dict) else value
        for mixed in _NUMBER_OR_WORD:
            if location[: len(mixed)] == mixed:
                location = mixed  # Pydantic has an error for each
        key = ".".join(str(part) for part in location)
        if item["type"] == "extra_forbidden":
            allowed = _allowed_keys(loc[:-1])
            close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            line = f"{key}: unknown key (value {value!r}); {hint}allowed: {', '.join(allowed)}"
        elif item["type"] == "missing":
            line = f"{key}: this key is required and was not given"
        elif item["type"] == "union_tag_not_found":
            line = f"{key}: this key is required and was not given; expected one of {_tags(loc)}"
        else:
            expected = _expected(item["type"], item["msg"], item.get("ctx", {}))
            line = f"{key}: got {value!r}; {expected}{_hint(item['type'], key, value)}"
        lines.setdefault(key, []).append(line)
    return [_merged(group) for group in lines.values()]


def _expected(kind: str, message: str, context: dict[str, Any]) -> str:
    if kind in _TYPES:
        return f"expected {_TYPES[kind]}"
    if kind == "string_pattern_mismatch":
        return f"expected {_PATTERNS[context['pattern']]}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "union_tag_invalid":
        return f"expected one of {context['expected_tags']}"
    if kind == "too_short":
        return f"expected a list of at least {context['min_length']}"
    if kind == "too_long":
        return f"expected a list of at most {context['max_length']}"
    return message.replace("Input should be ", "expected " + ("a number " if "than" in kind else ""))


def _merged(lines: list[str]) -> str:
    """Lines about one key, as one: `key: got value; expected this, or that`."""
    first, *others = lines
    return ", or ".join([first, *(other.rpartition("; expected ")[2] for other in others)])


def _hint(kind: str, key: str, value: Any) -> str:
    if kind == "string_type" and isinstance(value, bool | int | float):
        read = "true or false" if isinstance(value, bool) else "a number"
        return f" (without quotes YAML reads this as {read}: quote it, on the command line as '{key}=\"...\"')"
    if not isinstance(value, str) or not _is_number(value):
        return ""
    if kind == "float_type" and "e" in value.lower():
        return " (YAML reads 1e-3 as a string: write 1.0e-3)"
    return " (without quotes)" if kind in ("int_type", "float_type") else ""


def _is_union(location: tuple[int | str, ...]) -> bool:
    def matches(union: tuple[Any, ...]) -> bool:
        return len(location) == len(union) and all(
            key == part or key is type(part) for key, part in zip(union, location, strict=True)
        )

    return any(map(matches, _UNIONS))


def _tags(location: tuple[int | str, ...]) -> str:
    _, node = _node(location)
    choices = [node, *node.get("anyOf", [])]
    (mapping,) = (choice["discriminator"]["mapping"] for choice in choices if "discriminator" in choice)
    return ", ".join(repr(tag) for tag in mapping)


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    schema, node = _node(location)
    return sorted(_resolve(schema, node).get("properties", {}))


def _node(location: tuple[int | str, ...]) -> tuple[Any, Any]:
    """The JSON schema of all settings, and in it that of one place."""
    schema: Any = Settings.model_json_schema()
    node = schema
    for part in location:
        node = _resolve(schema, node)
        if isinstance(part, int):
            node = node.get("items", {})
        elif part in node.get("properties", {}):
            node = node["properties"][part]
        else:
            node = _variant(schema, node, part)
    return schema, node


def _resolve(schema: Any, node: Any) -> Any:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node


def _variant(schema: Any, node: Any, tag: int | str) -> Any:
    """The member of a union that goes by `tag`, which is a `kind` or one of the two sorts of model."""
    choices = [node, *node.get("anyOf", []), *node.get("oneOf", [])]
    choices += [inner for choice in choices for inner in _resolve(schema, choice).get("oneOf", [])]
    for choice in choices:
        resolved = _resolve(schema, choice)
        properties = resolved.get("properties", {})
        kind = properties.get("kind", {})
        if tag in (kind.get("const"), *kind.get("enum", ())):
            return resolved
        if tag == "imported" and "import" in properties:
            return resolved
        if tag == "vae" and "hidden_sizes" in properties:
            return resolved
    return {}
