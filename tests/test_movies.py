"""Movies show straight lines above geodesics at the same times, there and back; pictures have the format asked for."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rc_context
from PIL import Image

from geodesic.errors import InputError, MissingExtraError
from geodesic.pictures.canvas import FORMATS, save_figures
from geodesic.pictures.movies import movie_frames, write_movie
from geodesic.pictures.worth import plot_ratios
from tests.experiments import refused, run

rng = np.random.default_rng(0)
STRAIGHT, GEODESIC = rng.uniform(size=(2, 7, 5, 1, 6, 4))
NAMES = [f"pair {k}" for k in range(7)]


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return movie_frames(STRAIGHT, GEODESIC, NAMES)


def test_a_movie_goes_there_and_back_and_holds_its_ends(frames: list[np.ndarray]) -> None:
    assert len({frame.shape for frame in frames}) == 1
    assert all(frame.dtype == np.uint8 and frame.shape[-1] == 3 for frame in frames)
    times = [next(k for k in range(5) if np.array_equal(frame, frames[k])) for frame in frames]
    assert times == [0, 1, 2, 3, 4, *[4] * 6, 3, 2, 1, *[0] * 6]


def test_the_straight_line_is_above_the_geodesic() -> None:
    white, black = np.zeros((1, 3, 8, 8)), np.ones((1, 3, 8, 8))
    frame = movie_frames(white, black, [""])[0].mean(-1)
    center = frame[:, int(0.75 * frame.shape[1])]  # right of the words
    rows = np.flatnonzero(center < 50)
    assert rows.min() > 0.4 * len(center)
    assert len(rows) > 0.3 * len(center)


@pytest.mark.slow
def test_a_gif_plays_all_frames_for_ever(frames: list[np.ndarray], tmp_path: Path) -> None:
    write_movie(frames, tmp_path / "movie.gif")
    with Image.open(tmp_path / "movie.gif") as movie:
        assert movie.size == frames[0].shape[1::-1]
        assert movie.info["loop"] == 0
        shown = [np.asarray(movie.convert("RGB"), dtype=float) for k in range(movie.n_frames) if movie.seek(k) is None]
    assert len(shown) == 9  # those that are held are one frame that lasts
    assert abs(shown[2] - frames[2]).mean() < 4


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_an_mp4_plays_all_frames(frames: list[np.ndarray], tmp_path: Path) -> None:
    write_movie(frames, tmp_path / "movie.mp4")
    read = ["ffmpeg", "-v", "error", "-i", tmp_path / "movie.mp4", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pixels = subprocess.run(read, capture_output=True, check=True).stdout
    height, width = (size - size % 2 for size in frames[0].shape[:2])
    assert len(pixels) == len(frames) * height * width * 3


def test_an_mp4_without_ffmpeg_is_refused_before_any_work(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    before = sorted(runs.rglob("*"))
    refused(run("plot", runs / "small", "--mp4", "--overwrite"), 1, "ffmpeg", "apt-get install ffmpeg", "--gif")
    assert sorted(runs.rglob("*")) == before
    with pytest.raises(MissingExtraError, match="ffmpeg"):
        write_movie([np.zeros((4, 4, 3), np.uint8)], runs / "movie.mp4")
    assert not (runs / "movie.mp4").exists()


def test_a_movie_of_what_is_no_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"outputs of the decoder have shape \(6,\); say which images they are"):
        movie_frames(np.zeros((2, 5, 6)), np.zeros((2, 5, 6)), ["a", "b"])


@pytest.mark.slow
def test_pictures_have_the_format_that_is_asked_for_and_no_other(runs: Path) -> None:
    done = run("plot", runs / "small", "--format", "svg", "--gif", "--overwrite")
    assert done.status == 0, done
    files = sorted((runs / "small" / "figures" / "geodesics").iterdir())
    assert {file.suffix for file in files} == {".svg", ".gif"}
    assert all(file.read_bytes().startswith(b"<?xml") for file in files if file.suffix == ".svg")


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_picture_is_the_same_file_whatever_the_settings_of_matplotlib(kind: str, tmp_path: Path) -> None:
    def drawn(name: str) -> bytes:
        (file,) = save_figures(tmp_path / name, {"ratios": plot_ratios(np.array([1.0, 1.2]), (1.1,))}, kind)
        return file.read_bytes()

    once = drawn("once")
    with rc_context({"font.size": 30, "lines.linewidth": 9, "savefig.dpi": 20, "svg.hashsalt": None}):
        assert drawn("again") == once


def test_a_format_that_is_unknown_is_refused_with_those_there_are(runs: Path) -> None:
    refused(run("plot", runs / "small", "--format", "jpg", "--overwrite"), 1, "--format", "'jpg'", "'svg'")


def test_pictures_that_would_leave_the_run_by_a_link_are_refused(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    kept = tmp_path / "elsewhere" / "kept.png"
    kept.touch()
    shutil.rmtree(runs / "small" / "figures" / "geodesics")
    (runs / "small" / "figures" / "geodesics").symlink_to(tmp_path / "elsewhere")
    refused(run("plot", runs / "small", "--overwrite"), 1, "leads out of the run folder")
    assert kept.exists()
