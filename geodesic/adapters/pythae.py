"""Models of pythae as decoders, with the geometry of the loss that they were trained with."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from geodesic.adapters.frozen import Frozen
from geodesic.adapters.loading import loaded
from geodesic.adapters.wrap import Said, WrappedDecoder, wrapped
from geodesic.errors import DecoderError
from geodesic.geometry.refusals import described

__all__ = ["from_pythae"]

# Of models whose latent points are more than coordinates.
_NOTES = {
    "SVAE": "its latent space is a sphere, and paths go through the coordinates around it",
    "VQVAE": "paths go between codes, through points that are none",
}


def from_pythae(model: Any, *, latent_shape: int | tuple[int, ...] | None = None) -> WrappedDecoder:
    """The decoder of a model of pythae: its distances are those of the loss that it was trained with.

    | `reconstruction_loss` | geometry |
    |---|---|
    | "bce" | Fisher-Rao, of Bernoulli distributions |
    | "mse", or none | Euclidean |

    Args:
        model: A model of pythae, or the folder that it was saved in. Models are loaded in training mode: the decoder is
            a copy in evaluation mode.
        latent_shape: The shape of a latent point. By default (latent_dim,), and of `VQVAE` that of its encoder's.

    Returns:
        The decoder, as from `geodesic.wrap`.

    Raises:
        DecoderError: It is no model of pythae.
        CheckpointError: The folder has no model.
        MissingExtraError: A folder is given, and pythae is not installed.

    Reference:
        C. Chadebec, L. J. Vincent, S. Allassonnière, Pythae: Unifying Generative Autoencoders in Python, 2022.

    Example:
        >>> import geodesic
        >>> try:
        ...     geodesic.adapters.from_pythae("no/such/folder")
        ... except geodesic.GeodesicError as error:
        ...     print(error)
        model: no/such/folder: no such folder; give the model, or the folder that it was saved in
    """
    model = loaded(model, "pythae", _load, "pythae.models.AutoModel.load_from_folder({})")
    config: Any = getattr(model, "model_config", None)
    decoder = getattr(model, "decoder", None)
    if not isinstance(decoder, nn.Module) or not hasattr(config, "latent_dim"):
        raise DecoderError(
            f"model: expected a model of pythae, with a decoder and a model_config, got {described(model)}; give "
            "another model's decoder to geodesic.wrap"
        )
    kind = str(getattr(model, "model_name", type(model).__name__))
    if latent_shape is None:
        latent_shape = _shape_of_codes(model) if hasattr(model, "quantizer") else int(config.latent_dim)
    output = "probabilities" if getattr(config, "reconstruction_loss", None) == "bce" else None
    said = Said(_NOTES.get(type(model).__name__, ""))
    return wrapped(decoder, kind, latent_shape=latent_shape, output=output, said=said)


def _load(folder: str) -> Any:
    from pythae.models import AutoModel

    return AutoModel.load_from_folder(folder)


def _shape_of_codes(model: Any) -> tuple[int, ...]:
    """The shape of what the encoder returns for one row of data."""
    row = torch.zeros(1, *model.model_config.input_dim)
    with torch.no_grad():
        return tuple(Frozen(model.encoder)(row).embedding.shape[1:])
