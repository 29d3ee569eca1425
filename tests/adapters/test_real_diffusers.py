"""`from_diffusers` on an `AutoencoderKL` from a small config."""

from pathlib import Path
from typing import Any

import pytest
import torch

import geodesic
from geodesic.adapters import from_diffusers
from geodesic.errors import GeodesicError

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: `make adapters` has it")

BLOCKS = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}


def small(**config: Any) -> Any:
    """Images of 32 x 32 pixels, latent images of 4 channels and 8 x 8 pixels."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    widths = {"block_out_channels": (8, 16, 16), "norm_num_groups": 4, "sample_size": 32}
    return diffusers.AutoencoderKL(**BLOCKS, **{**widths, **config})


@pytest.fixture
def z() -> torch.Tensor:
    torch.set_default_dtype(torch.float32)
    return torch.randn(2, 4, 8, 8)


def test_a_decoder_is_what_the_model_decodes(z: torch.Tensor) -> None:
    for vae in (small(), small(use_post_quant_conv=False, shift_factor=0.1, mid_block_add_attention=False)):
        decoder = from_diffusers(vae)
        assert decoder.latent_shape == (4, 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(decoder(z), vae.decode(z).sample, rtol=1e-3, atol=1e-5)
            shift = vae.config.shift_factor or 0.0
            expected = vae.decode(z / vae.config.scaling_factor + shift).sample
            torch.testing.assert_close(from_diffusers(vae, scaled=True)(z), expected, rtol=1e-3, atol=1e-5)


def test_tiles_do_not_change_what_is_decoded(z: torch.Tensor) -> None:
    vae = small()
    plain = from_diffusers(vae)(z)
    vae.enable_tiling()
    vae.tile_latent_min_size = 4
    torch.testing.assert_close(from_diffusers(vae)(z), plain)


def test_encodings_of_images_come_to_a_geodesic(tmp_path: Path) -> None:
    vae = small(sample_size=16)
    vae.save_pretrained(tmp_path)
    with torch.no_grad():
        start, end = vae.encode(torch.rand(2, 3, 16, 16)).latent_dist.mode()
    solution = geodesic.solve(from_diffusers(tmp_path).manifold(), start, end)
    assert solution.converged, solution.summary()
    assert solution.path.shape[1:] == (4, 4, 4)


def test_other_autoencoders_and_folders_without_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GeodesicError, match=r"expected a diffusers\.AutoencoderKL, got .*AutoencoderTiny"):
        from_diffusers(diffusers.AutoencoderTiny())
    with pytest.raises(GeodesicError, match="could not be loaded"):
        from_diffusers(tmp_path)
