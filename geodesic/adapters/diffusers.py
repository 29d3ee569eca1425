"""`AutoencoderKL` of diffusers as a decoder from latent images to images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from geodesic.adapters.loading import loaded
from geodesic.adapters.wrap import Said, WrappedDecoder, wrapped
from geodesic.checks import require_flag
from geodesic.errors import DecoderError
from geodesic.geometry.refusals import described

__all__ = ["from_diffusers"]


def from_diffusers(model: Any, *, scaled: bool = False, latent_shape: tuple[int, ...] | None = None) -> WrappedDecoder:
    """The decoder of an `AutoencoderKL`, from latent images (C, H, W) to images; distances are Euclidean.

        z = (encoding - shift_factor) * scaling_factor    where `scaled`

    Weights in half precision are computed with in the precision of the points.

    Args:
        model: The `AutoencoderKL`, or the folder that it was saved in.
        scaled: Whether points are those that a diffusion model works with. By default they are encodings,
            `model.encode(x).latent_dist.mode()`.
        latent_shape: (C, H, W) of a latent point; by default that of images of the config's `sample_size`.

    Returns:
        The decoder, as from `geodesic.wrap`. Paths of its manifold have the shape (P, N + 1, C, H, W).

    Raises:
        DecoderError: It is no `AutoencoderKL`.
        CheckpointError: The folder has no model.
        MissingExtraError: A folder is given, and diffusers is not installed.

    Reference:
        R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer, High-Resolution Image Synthesis with Latent Diffusion
        Models, 2022.

    Example:
        >>> import geodesic
        >>> try:
        ...     geodesic.adapters.from_diffusers("no/such/folder")
        ... except geodesic.GeodesicError as error:
        ...     print(error)
        model: no/such/folder: no such folder; give the model, or the folder that it was saved in
    """
    require_flag("scaled", scaled)
    model = loaded(model, "diffusers", _load, "diffusers.AutoencoderKL.from_pretrained({})")
    config: Any = getattr(model, "config", None)
    parts = ("latent_channels", "block_out_channels", "scaling_factor", "sample_size")
    if not isinstance(getattr(model, "decoder", None), nn.Module) or any(not hasattr(config, x) for x in parts):
        raise DecoderError(
            f"model: expected a diffusers.AutoencoderKL, got {described(model)}; give its decoder to geodesic.wrap, "
            "with latent_shape="
        )
    if latent_shape is None:
        latent_shape = (config.latent_channels, *_sides(config))
    note = f"points are encodings times {config.scaling_factor:g}" if scaled else ""
    decoder = _Images(model, scaled)
    return wrapped(decoder, type(model).__name__, latent_shape=latent_shape, said=Said(note))


class _Images(nn.Module):
    """What decodes in an `AutoencoderKL`, without its encoder, and never by tiles, which change what is decoded."""

    def __init__(self, model: Any, scaled: bool) -> None:
        super().__init__()
        self.before = model.post_quant_conv or nn.Identity()
        self.decoder = model.decoder
        # No buffers: weights in half precision would round them.
        self.scale, self.shift = _scale_and_shift(model.config) if scaled else (torch.ones(()), torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.decoder(self.before(z / self.scale.to(z) + self.shift.to(z)))
        return images


def _scale_and_shift(config: Any) -> tuple[Tensor, Tensor]:
    """By what pipelines divide before they decode, and what they add; for some models a number for each channel."""
    scale = torch.tensor(config.scaling_factor, dtype=torch.float64)
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and std is not None:
        by_channel = torch.tensor([mean, std], dtype=torch.float64).reshape(2, 1, -1, 1, 1)
        return scale / by_channel[1], by_channel[0]
    return scale, torch.tensor(getattr(config, "shift_factor", None) or 0.0, dtype=torch.float64)


def _sides(config: Any) -> tuple[int, int]:
    """Height and width of the latent image of an image of the size that the model was made for."""
    size = config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    halved = 2 ** (len(config.block_out_channels) - 1)
    return height // halved, width // halved


def _load(folder: str) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(folder, local_files_only=True)
