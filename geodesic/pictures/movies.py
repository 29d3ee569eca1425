"""Movies of what a decoder makes of paths: straight lines above geodesics, run through at the same time."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geodesic.errors import InputError, MissingExtraError
from geodesic.files import replacing, write_bytes
from geodesic.pictures.canvas import new_figure
from geodesic.pictures.outputs import shown_images
from geodesic.pictures.style import in_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["KINDS", "as_gif", "movie_frames", "require_writer", "write_movie"]

KINDS = ("gif", "mp4")
_RATE = 12  # frames a second
_HELD = 6  # frames that the ends are held
_WIDE = 5  # pairs beside each other
_CELL = 1.1  # inches of an image


def require_writer(kind: str) -> None:
    """Refuse a kind of movie that cannot be written here, before any work.

    Args:
        kind: One of `KINDS`.

    Raises:
        MissingExtraError: ffmpeg is not there, which mp4 needs.
    """
    if kind == "mp4" and shutil.which("ffmpeg") is None:
        raise MissingExtraError(
            "--mp4: the program ffmpeg, which writes it, is not on the PATH; install it (apt-get install ffmpeg, brew "
            "install ffmpeg), or take --gif, which needs nothing"
        )


def movie_frames(straight: NDArray, geodesic: NDArray, names: Sequence[str]) -> list[NDArray]:
    """Frames there and back, each (height, width, 3) of bytes: of every pair the straight line above the geodesic.

    Args:
        straight: Images along P straight lines at K times, (P, K, C, H, W) or (P, K, H, W).
        geodesic: The same along the geodesics.
        names: Of the pairs, P.

    Raises:
        InputError: Outputs are no images.
    """
    if straight.ndim not in (4, 5):
        raise InputError(
            f"movies show images, and outputs of the decoder have shape {straight.shape[2:]}; say which images they "
            "are (model.image_shape), or leave --gif and --mp4 out"
        )
    straight, geodesic = shown_images(straight, geodesic)
    layout = _Layout(len(straight), *straight.shape[2:4])
    figure, canvas = _stage(layout, straight[:, 0], names)
    frames = []
    for k in range(straight.shape[1]):
        canvas.images[0].set_data(layout.filled(straight[:, k], geodesic[:, k]))
        canvas.set_title(f"$t$ = {k / (straight.shape[1] - 1):.2f}", fontsize=10)
        frames.append(_drawn(figure))
    there = [*frames, *[frames[-1]] * _HELD]
    return [*there, *frames[-2:0:-1], *[frames[0]] * _HELD]


def write_movie(frames: Sequence[NDArray], file: Path) -> None:
    """Write frames as a movie, whole or not at all, of the kind that the suffix says.

    Args:
        frames: Of one size, (height, width, 3), bytes.
        file: Ends with .gif or .mp4.

    Raises:
        MissingExtraError: ffmpeg is not there, which mp4 needs.
        InputError: ffmpeg cannot write it.
    """
    kind = file.suffix.removeprefix(".")
    require_writer(kind)
    if kind == "gif":
        write_bytes(file, as_gif(frames))
        return
    height, width = (size - size % 2 for size in frames[0].shape[:2])  # as the usual encoders ask for
    size, rate = f"{width}x{height}", str(_RATE)
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", rate, "-i", "-"]
    with replacing(file) as temporary:
        target = ["-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4", str(temporary)]
        content = b"".join(frame[:height, :width].tobytes() for frame in frames)
        done = subprocess.run(["ffmpeg", "-v", "error", "-y", *source, *target], input=content, capture_output=True)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise InputError(f"--mp4: ffmpeg failed ({said[-1] if said else done.returncode}); take --gif")


def as_gif(frames: Sequence[NDArray]) -> bytes:
    """Frames as the content of a GIF.

    Args:
        frames: Of one size, (height, width, 3), bytes.

    Example:
        >>> import numpy as np
        >>> from geodesic.pictures.movies import as_gif
        >>> as_gif([np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)])[:6]
        b'GIF89a'
    """
    from PIL import Image

    # One palette for all frames: a palette of each would flicker.
    palette = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // 8)])).quantize(256)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    stream = io.BytesIO()
    images[0].save(stream, "gif", save_all=True, append_images=images[1:], duration=1000 // _RATE, loop=0)
    return stream.getvalue()


@dataclass(frozen=True)
class _Layout:
    """Where images are on a canvas, in pixels of theirs: pairs beside each other, in blocks, with room for names."""

    pairs: int
    height: int
    width: int

    @property
    def columns(self) -> int:
        return min(self.pairs, _WIDE)

    @property
    def blocks(self) -> int:
        return -(-self.pairs // _WIDE)

    @property
    def gap(self) -> int:
        return max(1, self.height // 10)

    @property
    def block(self) -> int:
        """From a pair to that below it."""
        return 2 * self.height + self.gap + max(2, self.height // 4)

    def corner(self, pair: int, side: int) -> tuple[int, int]:
        """Top and left of an image: of the straight line, 0, or of the geodesic, 1."""
        return (pair // _WIDE) * self.block + side * (self.height + self.gap), pair % _WIDE * (self.width + self.gap)

    def filled(self, straight: NDArray, geodesic: NDArray) -> NDArray:
        """One picture of all images: (P, H, W) or (P, H, W, 3) each."""
        colors = straight.shape[3:]
        size = (self.blocks * self.block, self.columns * (self.width + self.gap) - self.gap)
        canvas = np.full((*size, *colors), 1.0 if colors else 0.0)
        for pair in range(self.pairs):
            for side, images in enumerate((straight, geodesic)):
                top, left = self.corner(pair, side)
                canvas[top : top + self.height, left : left + self.width] = images[pair]
        return canvas


def _stage(layout: _Layout, images: NDArray, names: Sequence[str]) -> tuple[Figure, Any]:
    """A figure with the place of all images, named."""
    first = layout.filled(images, images)
    inch = _CELL / layout.width  # of a pixel of the images
    figure, (ax,) = new_figure(1, width=first.shape[1] * inch + 0.9, height=first.shape[0] * inch + 0.4)
    ax.imshow(first, cmap="gray_r", vmin=0, vmax=1)
    for pair, name in enumerate(names):
        top, left = layout.corner(pair, 1)
        ax.text(left + layout.width / 2 - 0.5, top + layout.height, name, fontsize=8, ha="center", va="top")
    middles = [
        layout.corner(block * _WIDE, side)[0] + layout.height / 2 - 0.5
        for block in range(layout.blocks)
        for side in (0, 1)
    ]
    ax.set_yticks(middles, ["straight", "geodesic"] * layout.blocks)
    ax.set_xticks([])
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return figure, ax


def _drawn(figure: Figure) -> NDArray:
    with in_style():
        figure.canvas.draw()
    pixels: NDArray = np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
    return np.ascontiguousarray(pixels)
