"""From settings to models, manifolds and solvers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from geodesic.adapters.imported import import_network, import_object, load_program, with_weights
from geodesic.adapters.wrap import WrappedDecoder, wrap
from geodesic.errors import DecoderError, InputError, SettingsError
from geodesic.experiment.geometries import Context, EuclideanGeometry, FisherRaoGeometry, Geometry
from geodesic.experiment.model import Model, model_of
from geodesic.experiment.settings.geodesics import GeodesicSettings, SolverSettings
from geodesic.experiment.settings.model import ImportedModelSettings, VAESettings
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.outputs import Euclidean
from geodesic.geometry.parameters import TwoWords
from geodesic.models.vae import VAE
from geodesic.solvers.solver import Solver

__all__ = ["check_search", "load_model", "make_manifold", "make_solver", "make_vae", "new_vae"]


def make_vae(settings: VAESettings, event_shape: tuple[int, ...]) -> VAE:
    """A VAE with first weights from torch's random state."""
    return VAE(
        event_shape,
        settings.latent_size,
        network=settings.network,
        likelihood=settings.likelihood,
        decoders=settings.decoders,
        inputs=settings.inputs,
        uncertainty=settings.uncertainty,
    )


def new_vae(settings: VAESettings, event_shape: tuple[int, ...], seed: int) -> VAE:
    """A VAE whose first weights follow from a seed; the random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        # Of the CPU's random state only: torch.manual_seed would reseed the GPUs, which are not forked.
        torch.default_generator.manual_seed(seed)
        return make_vae(settings, event_shape)


def load_model(
    settings: VAESettings | ImportedModelSettings, folder: Path, device: torch.device, dtype: torch.dtype
) -> Model:
    """The model of the settings: the VAE of a run folder, or decoders of the user's own.

    Raises:
        CheckpointError: Weights cannot be read.
        SettingsError: A function cannot be imported or called, or what it makes is no decoder.
    """
    if isinstance(settings, VAESettings):
        return model_of(VAE.load(folder).to(device=device, dtype=dtype))
    decoders = _own_decoders(settings)
    encoder = None
    if settings.encoder is not None:
        encoder = import_network("model.encoder", settings.encoder, settings.encoder_weights, device, dtype)
    mean, size = decoders[0].mean_of, math.prod(decoders[0].latent_shape)
    model = Model(
        tuple(decoders),
        mean if settings.likelihood is None else settings.likelihood.mean,
        encoder,
        size,
        settings.likelihood,
        period=settings.period,
        natural=decoders[0].outputs,
        image_shape=settings.image_shape,
    )
    if settings.image_shape is not None:
        with torch.no_grad():
            event = model.mean(torch.zeros(1, size, dtype=dtype, device=device)).shape[1:]
        if event.numel() != math.prod(settings.image_shape):
            raise SettingsError(
                f"model.image_shape: expected a shape of {event.numel()} numbers, as outputs of shape {tuple(event)} "
                f"have, got {settings.image_shape}"
            )
    return model


def _own_decoders(settings: ImportedModelSettings) -> list[WrappedDecoder]:
    """One decoder for each file of weights, or the one that is made."""
    decoders = []
    for file in settings.weights or (None,):
        if settings.import_ is None:
            made: Any = load_program(str(file))
        else:
            made = import_object("model.import", settings.import_, settings.arguments)
            if settings.method is None and not callable(made):
                raise SettingsError(
                    f"model.import: {settings.import_!r} returned {type(made).__name__}; expected a decoder, or what "
                    "has the `method` that decodes"
                )
            made = made if file is None else with_weights("model.weights", made, file, settings.prefix)
        try:
            decoder = wrap(
                made,
                latent_shape=settings.latent_size,
                output=settings.output,
                method=settings.method,
                condition=settings.condition,
            )
        except (DecoderError, InputError) as error:
            raise SettingsError(_in_settings(error)) from error
        if decoder.pairs is not None:
            raise SettingsError(
                f"model.condition: expected one for all pairs, got {decoder.pairs} rows; give one row, and a run for "
                "each condition"
            )
        if settings.likelihood is not None and not isinstance(decoder.outputs, Euclidean):
            raise SettingsError(f"model.likelihood: {decoder} says what its outputs are; leave likelihood out")
        decoders.append(decoder)
    return decoders


def _in_settings(error: Exception) -> str:
    """What is wrong with a model, with the names that arguments of `wrap` have as settings."""
    said = f"model: {str(error).removeprefix('model: ')}"
    names = {"latent_shape=": "model.latent_size=", "condition=": "model.condition=", "output=": "model.output="}
    for argument, setting in names.items():
        said = said.replace(argument, setting)
    return said


def make_manifold(search: GeodesicSettings, context: Context) -> Manifold:
    """The geometry of the settings on the latent space of a model.

    Raises:
        SettingsError: The model does not have what the geometry needs.
        CheckpointError: The weights of a network of features cannot be read.
    """
    geometry = search.geometry
    return geometry.build(context) if isinstance(geometry, Geometry) else context.pull_back(geometry)


def make_solver(entry: SolverSettings, model: Model, search: GeodesicSettings) -> Solver[Any] | str:
    """What `solve` takes as its solver.

    Raises:
        SettingsError: The solver refuses its settings; or the encoder's direction is asked for, and there is no
            encoder, or the geometry is not that of one decoder's means, which the encoder takes.
    """
    # What settings cannot say comes from the model: the encoder, for those who ask for it.
    more: dict[str, Any] = {}
    if getattr(entry, "direction", None) == "encoder":
        if model.encoder is None:
            raise SettingsError(f"geodesic.solvers ({entry.name}): direction encoder needs model.encoder")
        if not isinstance(search.geometry, EuclideanGeometry) or len(model.decoders) > 1:
            raise SettingsError(
                f"geodesic.solvers ({entry.name}): direction encoder takes the means of one decoder, so it needs "
                "geodesic.geometry: euclidean and no ensemble; leave it out, as "
                "geodesic.solvers='[{name: auto, kind: auto}]' does"
            )
        more = {"encoder": model.encoder}
    try:
        solver: Solver[Any] | str = entry.build(**more)
    except InputError as error:
        raise SettingsError(f"geodesic.solvers ({entry.name}): {error}") from None
    return solver


def check_search(search: GeodesicSettings, settings: VAESettings, event_shape: tuple[int, ...]) -> None:
    """Refuse, before a VAE is trained, geometries and solvers that it will not have what they need for.

    Raises:
        SettingsError: As `make_manifold` and `make_solver` would, once it is trained.
    """
    with torch.device("meta"):  # no weights are looked at
        model = model_of(make_vae(settings, event_shape).eval())
    for entry in search.solvers:
        make_solver(entry, model, search)
    said = search.geometry.parameters if isinstance(search.geometry, FisherRaoGeometry | TwoWords) else None
    if said in ("probabilities", "rates", "scales"):
        raise SettingsError(
            f"geodesic.geometry.parameters: a VAE that is trained here returns logits or logarithms, and no {said}; "
            "leave it out"
        )
    encodings = torch.arange(2.0 * settings.latent_size).reshape(2, -1)  # any two points
    independent = search.members == "independent"
    make_manifold(search, Context(model, torch.device("cpu"), torch.float32, lambda: encodings, independent))
