"""Settings to objects: models, geometries, solvers. The only module that knows models and geometry both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import BaseModel
from torch import Tensor

from geodesic.adapters.imported import import_network
from geodesic.data.dataset import Dataset
from geodesic.data.load import load_data
from geodesic.errors import InputError, SettingsError
from geodesic.experiment.settings import (
    AutoSettings,
    DataSettings,
    DensitySettings,
    EuclideanSettings,
    ExpectedSettings,
    FeaturesSettings,
    FisherRaoSettings,
    GeodesicSettings,
    GeometrySettings,
    ImportedModelSettings,
    LBFGSSettings,
    LocalVarianceSettings,
    NewtonKrylovSettings,
    NewtonSettings,
    Settings,
    SolverSettings,
    TrainingSettings,
    VAESettings,
)
from geodesic.geometry.ensembles import EnsembleManifold, IndependentEnsembleManifold
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.metrics import DensityManifold, LocalVarianceManifold
from geodesic.geometry.outputs import (
    DistanceGeometry,
    Euclidean,
    ExpectedGaussian,
    Features,
    OutputGeometry,
)
from geodesic.geometry.pullback import PullbackManifold
from geodesic.models.likelihoods import LIKELIHOODS, Gaussian, Likelihood
from geodesic.models.networks.network import NETWORKS, Network
from geodesic.models.training.plan import Training
from geodesic.models.uncertainty import UNCERTAINTIES
from geodesic.models.vae import VAE
from geodesic.solvers.gradient_descent import GradientDescent
from geodesic.solvers.lbfgs import LBFGS
from geodesic.solvers.newton import Newton
from geodesic.solvers.newton_krylov import NewtonKrylov
from geodesic.solvers.solver import Solver

__all__ = [
    "Model",
    "check_search",
    "load_model",
    "make_data",
    "make_manifold",
    "make_solver",
    "make_training",
    "make_vae",
    "new_vae",
]


@dataclass(frozen=True)
class Model:
    """Decoders with what is needed around them, whether the project trained them or not.

    Args:
        decoders: From latent points (N, d) to parameters, each; more than one for an ensemble.
        output_mean: How a decoder's output becomes a mean.
        encoder: From rows to latent points, if there is one.
        latent_size: d.
        likelihood: What the parameters mean, if that is known.
        varying_scale: Whether the scale of a Gaussian likelihood depends on z.
    """

    decoders: tuple[Callable[[Tensor], Tensor], ...]
    output_mean: Callable[[Tensor], Tensor]
    encoder: Callable[[Tensor], Tensor] | None
    latent_size: int
    likelihood: Likelihood | None = None
    varying_scale: bool = True

    def mean(self, z: Float[Tensor, "N d"]) -> Tensor:
        """Expected rows at latent points, (N, *event): averaged over the members of an ensemble."""
        return torch.stack([self.output_mean(decoder(z)) for decoder in self.decoders]).mean(0)


def make_data(settings: DataSettings) -> Dataset:
    """The data set of the settings.

    Raises:
        DataError: The data are absent, truncated or of a kind that cannot be used.
    """
    return load_data(**_fields(settings))


def make_training(settings: TrainingSettings) -> Training:
    """How long and how to train."""
    return Training(**settings.model_dump(exclude={"picture_every"}))


def make_vae(settings: VAESettings, event_shape: tuple[int, ...]) -> VAE:
    """A VAE with first weights from torch's random state."""
    uncertainty = settings.uncertainty
    return VAE(
        event_shape,
        settings.latent_size,
        network=_network(settings),
        likelihood=LIKELIHOODS.make(**_fields(settings.likelihood)),
        decoders=settings.decoders,
        uncertainty=None if uncertainty is None else UNCERTAINTIES.make(**_fields(uncertainty)),
    )


def new_vae(settings: Settings, event_shape: tuple[int, ...]) -> VAE:
    """A VAE whose first weights follow from the seed of the settings; the random state is left alone."""
    assert isinstance(settings.model, VAESettings)
    with torch.random.fork_rng(devices=[]):
        # Of the CPU's random state only: torch.manual_seed would reseed the GPUs, which are not forked.
        torch.default_generator.manual_seed(settings.seed)
        return make_vae(settings.model, event_shape)


def _network(settings: VAESettings) -> Network:
    sizes = {"hidden_sizes": settings.hidden_sizes, "channels": settings.channels}
    given = {name: value for name, value in sizes.items() if value is not None}
    return NETWORKS.make(settings.network, activation=settings.activation, **given)


def _fields(section: BaseModel) -> dict[str, Any]:
    """The kind of a section and its settings, one level deep: the arguments of `Registry.make`."""
    return {name: getattr(section, name) for name in type(section).model_fields}


def load_model(
    settings: VAESettings | ImportedModelSettings, folder: Path, device: torch.device, dtype: torch.dtype
) -> Model:
    """The model of the settings: the VAE of a run folder, or a decoder of the user's own.

    Raises:
        CheckpointError: Weights cannot be read.
        SettingsError: A function cannot be imported or called.
    """
    if isinstance(settings, ImportedModelSettings):
        return _imported(settings, device, dtype)
    return _trained(VAE.load(folder).to(device=device, dtype=dtype))


def _trained(vae: VAE) -> Model:
    likelihood = vae.likelihood
    varying = vae.uncertainty is not None or (isinstance(likelihood, Gaussian) and likelihood.scale == "per_pixel")
    return Model(vae.decoders, likelihood.mean, vae.encode, vae.latent_size, likelihood, varying)


def _imported(own: ImportedModelSettings, device: torch.device, dtype: torch.dtype) -> Model:
    decoder = import_network("model.import", own.import_, own.weights, device, dtype)
    encoder = None
    if own.encoder is not None:
        encoder = import_network("model.encoder", own.encoder, own.encoder_weights, device, dtype)
    if own.likelihood is not None:
        likelihood = LIKELIHOODS.make(**_fields(own.likelihood))
        return Model((decoder,), likelihood.mean, encoder, own.latent_size, likelihood)
    mean = torch.sigmoid if own.output == "sigmoid" else Euclidean().mean
    return Model((decoder,), mean, encoder, own.latent_size)


# --- geometries -------------------------------------------------------------------------------


def check_search(search: GeodesicSettings, settings: VAESettings, event_shape: tuple[int, ...]) -> None:
    """Refuse, before a VAE is trained, geometries and solvers that it will not have what they need for.

    Raises:
        SettingsError: As `make_manifold` and `make_solver` would, once it is trained.
    """
    with torch.device("meta"):  # no weights are looked at
        model = _trained(make_vae(settings, event_shape).eval())
    for entry in search.solvers:
        make_solver(entry, model, search.geometry)
    encodings = torch.arange(2.0 * settings.latent_size).reshape(2, -1)  # any two points
    make_manifold(search, model, torch.device("cpu"), torch.float32, encodings)


def make_manifold(
    search: GeodesicSettings,
    model: Model,
    device: torch.device,
    dtype: torch.dtype,
    encodings: Float[Tensor, "N d"] | None = None,
) -> Manifold:
    """The geometry of the settings on the latent space of the model.

    Args:
        search: Its `geometry` and `members`.
        model: What the geometry comes from.
        device: Where a network of features goes.
        dtype: What its weights become.
        encodings: Of the training rows; only geometries of the data need them.

    Raises:
        SettingsError: The model does not have what the geometry needs.
        CheckpointError: The weights of a network of features cannot be read.
    """
    geometry, ensemble = search.geometry, len(model.decoders) > 1
    if search.members == "independent" and not ensemble:
        raise SettingsError(
            "geodesic.members: 'independent' is about the members of an ensemble, and this model has one decoder; "
            "train one with model.decoders=4, or leave members at 'same'"
        )
    if isinstance(geometry, LocalVarianceSettings | DensitySettings):
        if search.members == "independent":
            raise SettingsError(
                f"geodesic.members: the geometry {geometry.kind} looks at no decoder; leave it at 'same'"
            )
        return _metric_of_data(geometry, encodings)
    outputs = _outputs(geometry, model, device, dtype)
    if not ensemble:
        return PullbackManifold(model.decoders[0], outputs)
    if isinstance(outputs, DistanceGeometry):
        raise SettingsError(
            "geodesic.geometry: fisher_rao of a Gaussian likelihood has no embedding, which the geometry of an "
            "ensemble is made from; use euclidean, or expected where the scale varies"
        )
    kind = IndependentEnsembleManifold if search.members == "independent" else EnsembleManifold
    return kind(model.decoders, outputs)


def _metric_of_data(
    geometry: LocalVarianceSettings | DensitySettings, encodings: Float[Tensor, "N d"] | None
) -> Manifold:
    if encodings is None:
        raise SettingsError(
            f"geodesic.geometry: {geometry.kind} is made from encodings of the training rows, so it needs data and an "
            "encoder"
        )
    points = encodings[: geometry.points]
    bandwidth = geometry.bandwidth or _scott(points)
    if isinstance(geometry, DensitySettings):
        return DensityManifold(points, bandwidth, geometry.floor)
    return LocalVarianceManifold(points, bandwidth, geometry.rho)


def _scott(points: Float[Tensor, "N d"]) -> float:
    """Scott's rule of thumb: the root mean variance, times N^(-1 / (d + 4))."""
    N, d = points.shape
    return float(points.var(0).mean().sqrt()) * N ** (-1 / (d + 4))


def _outputs(
    geometry: EuclideanSettings | ExpectedSettings | FisherRaoSettings | FeaturesSettings,
    model: Model,
    device: torch.device,
    dtype: torch.dtype,
) -> OutputGeometry | DistanceGeometry:
    match geometry:
        case EuclideanSettings():
            return Euclidean(mean=model.output_mean)
        case FeaturesSettings():
            network = import_network("geodesic.geometry.network", geometry.network, geometry.weights, device, dtype)
            return Features(network, mean=model.output_mean)
        case ExpectedSettings():
            return _expected(model)
    return _fisher_rao(model.likelihood)


def _expected(model: Model) -> OutputGeometry:
    if not isinstance(model.likelihood, Gaussian):
        raise SettingsError(
            "geodesic.geometry: expected is the metric of outputs with a mean and a scale, so it needs "
            f"model.likelihood: gaussian, got {_kind(model.likelihood)}"
        )
    if not model.varying_scale:
        raise SettingsError(
            "geodesic.geometry: with a scale that is the same everywhere, expected is the metric euclidean; set "
            "model.uncertainty: rbf or model.likelihood.scale: per_pixel, or use euclidean"
        )
    return ExpectedGaussian()


def _fisher_rao(likelihood: Likelihood | None) -> OutputGeometry | DistanceGeometry:
    if likelihood is None:
        raise SettingsError(
            "geodesic.geometry: fisher_rao needs to know what the decoder's outputs mean; set model.likelihood, such "
            "as bernoulli for logits"
        )
    try:
        return likelihood.fisher_rao()
    except InputError as error:
        raise SettingsError(f"geodesic.geometry: {error}") from None


def _kind(likelihood: Likelihood | None) -> str:
    return "a decoder without a likelihood" if likelihood is None else type(likelihood).__name__


# --- solvers ----------------------------------------------------------------------------------


def make_solver(entry: SolverSettings, model: Model, geometry: GeometrySettings) -> Solver[Any] | str:
    """What `solve` takes as its solver.

    Raises:
        SettingsError: The encoder's direction is asked for, and there is no encoder, or the geometry is not that of one
            decoder's means, which the encoder takes.
    """
    match entry:
        case AutoSettings():
            return "auto"
        case NewtonSettings():
            return Newton() if entry.warm_up else Newton(warm_up=None)
        case NewtonKrylovSettings():
            samples = entry.metric_samples
            return NewtonKrylov(metric_samples=samples) if entry.warm_up else NewtonKrylov(None, samples)
        case LBFGSSettings():
            return LBFGS(history=entry.history, metric_samples=entry.metric_samples)
    if entry.direction == "encoder" and model.encoder is None:
        raise SettingsError(f"geodesic.solvers ({entry.name}): direction encoder needs model.encoder")
    if entry.direction == "encoder" and (geometry.kind != "euclidean" or len(model.decoders) > 1):
        raise SettingsError(
            f"geodesic.solvers ({entry.name}): direction encoder takes the means of one decoder, so it needs "
            "geodesic.geometry: euclidean and no ensemble; leave it out, as "
            "geodesic.solvers='[{name: auto, kind: auto}]' does"
        )
    return GradientDescent(
        direction=entry.direction,
        encoder=model.encoder if entry.direction == "encoder" else None,
        step_size=entry.step_size,
        preconditioned=entry.preconditioned,
        epsilon=entry.epsilon,
        jvp_method=entry.jvp_method,
    )
