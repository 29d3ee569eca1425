"""Pictures: they are there, and they show what they say."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch.testing import assert_close

import geodesic
from geodesic import PullbackManifold
from geodesic.errors import RunFolderError
from geodesic.experiment.figures import plot_run
from geodesic.experiment.solve import solve_pairs
from geodesic.experiment.train import train
from geodesic.files import read_npz, write_npz
from geodesic.geometry.path import straight_path
from geodesic.models.vae import VAE
from geodesic.pictures.outputs import plot_reconstructions, plot_samples, plot_strip
from geodesic.pictures.paths import plot_energy, plot_latent
from tests.experiments import METHODS, PICTURES, SMALL, D, Home, T, settings

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def arrays(small: Home) -> Arrays:
    return read_npz(small.run / "geodesics.npz")


def test_the_pictures_are_pngs_and_not_blank(small: Home) -> None:
    for name in PICTURES:
        file = small.run / "figures" / "geodesics" / name
        assert file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        pixels = imread(file)[..., :3]
        assert pixels.var() > 1e-3, name
        # Something in each third from left to right.
        assert all(part.var() > 0 for part in np.array_split(pixels, 3, axis=1)), name


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_strips_and_grids_tell_counts_apart_whatever_the_channels(channels: int) -> None:
    counts = np.linspace(0, 16, 5)[:, None, None, None] * np.ones((5, channels, 4, 4))
    strip = plot_strip(counts[None], counts[None], np.ones(1), np.ones(1)).axes[0].images[0].get_array()
    shades = [np.unique(part) for part in np.split(np.asarray(strip), 5, axis=1)]
    np.testing.assert_allclose(np.concatenate(shades), np.linspace(0, 1, 5))
    assert len(np.unique(plot_samples(counts).axes[0].images[0].get_array())) >= 5
    assert len(np.unique(plot_reconstructions(counts, counts / 2).axes[0].images[0].get_array())) >= 8


def test_ten_labels_have_ten_colors() -> None:
    path = np.zeros((1, 2, 2))
    figure = plot_latent({"geodesic": path}, np.random.default_rng(0).normal(size=(50, 2)), np.arange(50) % 10)
    colors = [tuple(points.get_facecolor()[0]) for points in figure.axes[0].collections]
    assert len(set(colors)) == len(colors) == 10


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3])
def test_latent_spaces_that_are_no_plane_have_pictures_too(tmp_path: Path, size: int) -> None:
    model = {"latent_size": size, "network": {"hidden_sizes": (8,)}}
    training = SMALL["training"] | {"importance_samples": 0, "picture_every": None}
    search = {"segments": 4, "solvers": ({"name": "auto", "kind": "auto"},)}
    changed = settings(model=model, training=training, geodesic=search, pairs={"kind": "random", "count": 1})
    train(changed, tmp_path, progress=False)
    solve_pairs(changed, tmp_path)
    names = {file.name for file in plot_run(tmp_path / "small")}
    assert names == {"energy.png", "latent.png", "strip_000.png"}


def strips(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, float, bool]]:
    """Outputs, length and convergence of each geodesic that `plot_run` draws."""
    from geodesic.experiment import figures

    drawn: list[tuple[np.ndarray, float, bool]] = []
    plot_strip: Callable[..., object] = figures.plot_strip

    def spy(straight: np.ndarray, path: np.ndarray, *measured: np.ndarray, **sheet: object) -> object:
        if sheet:
            return plot_strip(straight, path, *measured, **sheet)
        _, (length,), (converged,) = measured
        drawn.append((path[0], length, bool(converged)))
        return plot_strip(straight, path, *measured)

    monkeypatch.setattr(figures, "plot_strip", spy)
    return drawn


@pytest.mark.slow
def test_the_path_drawn_is_the_shortest_that_converged(
    runs: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = straight_path(torch.as_tensor(arrays["start"]), torch.as_tensor(arrays["end"]), T).numpy()
    lengths = {"auto": [3.0, 1.0, 2.0], "plain": [2.0, 3.0, np.nan], "encoder": [1.0, 2.0, 3.0]}
    converged = {"auto": [1, 0, 0], "plain": [1, 0, 0], "encoder": [0, 1, 0]}
    changed = arrays | {f"{m}/length": np.array(x) for m, x in lengths.items()}
    changed |= {f"{m}/converged": np.array(x, dtype=bool) for m, x in converged.items()}
    bent = {
        method: straight + 0.1 * k * np.sin(np.linspace(0, np.pi, T + 1))[:, None] for k, method in enumerate(METHODS)
    }
    write_npz(
        runs / "small" / "geodesics.npz",
        changed | {f"{m}/{name}": path for m, path in bent.items() for name in ("path", "mesh")},
    )

    drawn = strips(monkeypatch)
    written = plot_run(runs / "small", overwrite=True)
    assert sorted(file.name for file in written) == PICTURES
    assert sorted((runs / "small" / "figures" / "geodesics").iterdir()) == sorted(written)
    # Shorter but not converged loses; where nothing converged the shortest finite one is drawn.
    best = ["plain", "encoder", "auto"]
    assert [length for _, length, _ in drawn] == [lengths[method][pair] for pair, method in enumerate(best)]
    assert [converged for *_, converged in drawn] == [True, True, False]
    vae = VAE.load(runs / "small").double()
    for pair, (method, (outputs, *_)) in enumerate(zip(best, drawn, strict=True)):
        ends = torch.as_tensor(bent[method][pair][[0, -1]])
        with torch.no_grad():
            np.testing.assert_allclose(outputs[[0, -1]], vae.decode(ends).sigmoid().numpy(), rtol=1e-12)
        # In the middle of a bent path its nodes are, and so are the frames, those of that method.
        others = [vae.decode(torch.as_tensor(bent[m][pair][T // 2 : T // 2 + 1])).sigmoid().detach() for m in METHODS]
        nearest = np.argmin([np.linalg.norm(outputs[5] - other.numpy()) for other in others])
        assert METHODS[nearest] == method


@pytest.mark.slow
def test_the_frames_of_a_strip_are_evenly_spaced_along_the_geodesic(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = {"segments": T, "solvers": ({"name": "auto", "kind": "auto"},)}
    one = settings(geodesic=search, pairs={"kind": "random", "count": 1})
    solution = solve_pairs(one, runs, name="one").solutions["auto"]
    drawn = strips(monkeypatch)
    plot_run(runs / "small", name="one")
    vae = VAE.load(runs / "small").double()
    with torch.no_grad():
        expected = vae.decode(solution(torch.linspace(0, 1, 11)).reshape(-1, D)).sigmoid().reshape(1, 11, 1, 8, 8)
    np.testing.assert_allclose(np.stack([outputs for outputs, *_ in drawn]), expected.numpy(), rtol=1e-12)


@pytest.mark.slow
def test_methods_that_took_different_numbers_of_segments_are_drawn_together(runs: Path) -> None:
    solvers = tuple({"name": kind, "kind": kind} for kind in ("auto", "lbfgs"))
    search = {"segments": 4, "solvers": solvers, "length_rtol": 1e-2}
    changed = settings(geodesic=search, pairs={"kind": "random", "count": 1})
    file = solve_pairs(changed, runs, name="refined", all_methods=True).file
    stored = read_npz(file)
    start, end = (torch.as_tensor(stored[key]) for key in ("start", "end"))
    other = geodesic.solve(PullbackManifold(lambda z: z), start, end, segments=16).arrays()
    write_npz(file, stored | {f"lbfgs/{key}": value for key, value in other.items()})
    assert len(plot_run(runs / "small", name="refined")) == 3


def test_a_line_of_energies_ends_where_its_pair_does_and_has_a_gap_where_steps_begin_anew() -> None:
    nan = np.nan
    # Pair 0: a warm-up to step 1, a wait, a step, then a second start; pair 1: in the second group; pair 2: equal ends.
    steps = np.array([0, 1, 1, 2, 0, 1, 2])
    energy = np.array(
        [[9.0, nan, 0.0], [5, nan, 0], [5, nan, 0], [4, nan, 0], [8, 6, 0], [2, 3, 0], [2, 3, 0]],
    )
    lines = plot_energy({"a": energy}, {"a": steps}).axes[0].lines
    assert len(lines) == 3
    np.testing.assert_array_equal(lines[0].get_xdata(), [1, 2, 2, 3, nan, 1, 2])
    np.testing.assert_allclose(lines[0].get_ydata(), [3.5, 1.5, 1.5, 1, nan, 3, 0], atol=1e-11)
    np.testing.assert_array_equal(lines[1].get_xdata(), [1, 2])
    np.testing.assert_allclose(lines[1].get_ydata(), [1, 0], atol=1e-11)
    assert len(lines[2].get_xdata()) == 0


def test_results_that_lack_a_method_are_refused_before_drawing(runs: Path, arrays: Arrays) -> None:
    kept = {key: value for key, value in arrays.items() if not key.startswith("plain/")}
    write_npz(runs / "small" / "geodesics.npz", kept)
    shutil.rmtree(runs / "small" / "figures")
    with pytest.raises(RunFolderError, match="plain/"):
        plot_run(runs / "small")
    assert not (runs / "small" / "figures").exists()


@pytest.mark.parametrize("channels", [1, 3])
def test_grids_of_images_show_every_image(channels: int) -> None:
    images = np.linspace(0, 1, 10)[:, None, None, None] * np.ones((10, channels, 4, 5))
    for figure, rows in ((plot_samples(images), 2), (plot_reconstructions(images, 1 - images), 4)):
        (shown,) = figure.axes[0].images
        canvas = shown.get_array()
        assert canvas.shape[:2] == (rows * 5 - 1, 8 * 6 - 1)
        assert_close(canvas[:4, 6:11].mean(), images[1].mean())
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["original", "decoded"] * 2
    assert_close(canvas[5:9, 6:11].mean(), 1 - images[1].mean())
