"""Pictures from Python: what is drawn is what the answers hold."""

import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import geodesic
from geodesic.errors import DecoderError, InputError, MissingExtraError

SPHERE = geodesic.surfaces.Sphere()
A = torch.tensor([[0.8, 0.0], [1.0, 0.2], [1.2, 0.1]], dtype=torch.float64)
B = torch.tensor([[0.8, 2.0], [0.6, 1.5], [1.0, 1.0]], dtype=torch.float64)
TIMES = torch.linspace(0, 1, 101, dtype=torch.float64)
Solution = geodesic.GeodesicSolution


@pytest.fixture(scope="module")
def solution() -> Solution:
    return geodesic.solve(SPHERE, A, B, segments=8)


def line_of(d: int, count: int = 2) -> Solution:
    """Geodesics of a space that is stretched along the way."""
    manifold = geodesic.PullbackManifold(lambda z: z + z.square())
    start = torch.linspace(0, 1, count * d).reshape(count, d)
    return geodesic.solve(manifold, start, start.flip(0) + 1, segments=8)


def lines_of(axes: Axes, dashed: bool) -> list[np.ndarray]:
    """Lines of paths, or the dashed ones, as they are drawn."""
    lines = [line for line in axes.lines if len(line.get_xdata()) and line.get_marker() == "None"]
    return [np.column_stack(line.get_data()) for line in lines if (line.get_linestyle() == "--") == dashed]


def names_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_plane_shows_the_geodesics_solid_and_the_straight_lines_dashed(solution: Solution) -> None:
    figure = geodesic.plot(solution)
    (axes,) = figure.axes
    solid, dashed = lines_of(axes, dashed=False), lines_of(axes, dashed=True)
    np.testing.assert_allclose(np.stack(solid), solution(TIMES))
    np.testing.assert_allclose(np.stack(dashed), torch.stack([A, B], dim=1))
    assert [text.get_text() for text in axes.texts] == ["0", "1", "2"]
    assert names_of(figure) == ["straight", "geodesic"]
    assert axes.get_aspect() == 1
    assert not lines_of(geodesic.plot(solution, straight=False).axes[0], dashed=True)


def test_an_answer_in_arrays_and_nodes_are_drawn_as_an_answer_in_tensors(solution: Solution) -> None:
    known = lines_of(geodesic.plot(solution).axes[0], dashed=False)
    arrays = geodesic.solve(SPHERE, A.numpy(), B.numpy(), segments=8)
    for other in (arrays, solution(TIMES), solution(TIMES).numpy()):
        np.testing.assert_allclose(lines_of(geodesic.plot(other).axes[0], dashed=False), known)
    answer = geodesic.exp_map(SPHERE, A, B - A, follow=geodesic.Follow(method="discrete", segments=8))
    figure = geodesic.plot(answer)
    np.testing.assert_array_equal(np.stack(lines_of(figure.axes[0], dashed=False)), answer.path)
    assert names_of(figure)[-1] == "geodesic"
    assert names_of(geodesic.plot(answer.path))[-1] == "path"


def test_answers_are_compared_in_colors_of_their_own_over_one_set_of_straight_lines(solution: Solution) -> None:
    flat = geodesic.solve(geodesic.PullbackManifold(lambda z: z), A, B)
    figure = geodesic.plot({"sphere": solution, "plane": flat})
    assert names_of(figure) == ["straight", "sphere", "plane"]
    (axes,) = figure.axes
    assert len(lines_of(axes, dashed=True)) == 3
    assert len(lines_of(axes, dashed=False)) == 6
    assert len({line.get_color() for line in axes.lines if line.get_label() in ("sphere", "plane", "straight")}) == 3
    assert len(lines_of(geodesic.plot({"all": solution, "one": solution[0]}).axes[0], dashed=True)) == 4


def test_a_legend_says_how_many_have_converged_where_not_all_have() -> None:
    few = geodesic.solve(SPHERE, A, B, solver=geodesic.LBFGS(), max_steps=1, segments=8)
    assert not few.converged.any()
    assert names_of(geodesic.plot(few))[-1] == "path\n(0 of 3\nconverged)"


def test_data_are_drawn_by_label_with_a_marker_and_a_color_each(solution: Solution) -> None:
    z = torch.randn(30, 2)
    words = ["cat", "dog", "owl"] * 10
    figure = geodesic.plot(solution, z, words)
    assert names_of(figure) == ["cat", "dog", "owl", "straight", "geodesic"]
    clouds = figure.axes[0].collections
    for k, cloud in enumerate(clouds):
        np.testing.assert_allclose(cloud.get_offsets(), z[k::3])
    assert len({tuple(cloud.get_facecolor()[0]) for cloud in clouds}) == 3
    assert names_of(geodesic.plot(solution, z.numpy()))[0] == "data"


def test_twenty_labels_are_told_apart_by_color_and_marker_together(solution: Solution) -> None:
    clouds = geodesic.plot(solution, torch.randn(40, 2), torch.arange(40) % 20).axes[0].collections
    looks = {(tuple(cloud.get_facecolor()[0]), cloud.get_paths()[0].vertices.tobytes()) for cloud in clouds}
    assert len(looks) == 20


def test_one_coordinate_is_drawn_against_time() -> None:
    solution = line_of(1)
    figure = geodesic.plot(solution, torch.tensor([[0.5], [1.0]]))
    (axes,) = figure.axes
    for i, line in enumerate(lines_of(axes, dashed=False)):
        np.testing.assert_allclose(line[:, 0], TIMES)
        np.testing.assert_allclose(line[:, 1], solution(TIMES)[i, :, 0])
    ends = np.stack(lines_of(axes, dashed=True))
    np.testing.assert_allclose(ends[:, :, 0], [[0, 1], [0, 1]])
    np.testing.assert_allclose(axes.collections[0].get_offsets()[:, 1], [0.5, 1.0])
    assert axes.get_xlabel() == "time $t$ along the path"


def test_many_coordinates_are_seen_in_the_plane_where_the_paths_extend_most() -> None:
    t = np.linspace(0, 1, 9)
    frame, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 2)))
    flat = np.stack([3 * t, np.sin(3 * t)], axis=-1)
    axes = geodesic.plot(2 + flat @ frame.T).axes[0]
    (drawn,) = lines_of(axes, dashed=False)
    np.testing.assert_allclose(np.linalg.norm(drawn - drawn[0], axis=1), np.linalg.norm(flat - flat[0], axis=1))
    names = [axes.get_xlabel(), axes.get_ylabel()]
    shares = [int(name.partition("(")[2].partition(" ")[0]) for name in names]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == 100
    assert all(name.startswith(f"principal direction {k} of the paths") for k, name in enumerate(names, 1))


def test_pictures_are_drawn_on_axes_that_are_given(solution: Solution) -> None:
    figure = Figure()
    left, middle, right = figure.subplots(1, 3)
    decoder = lambda z: SPHERE.embed(z).repeat(1, 4)  # noqa: E731
    bounds = ((0.2, 1.4), (0, 2))
    assert geodesic.plot(solution, ax=left) is figure
    assert geodesic.plot_strip(solution, decoder, image_shape=(3, 4), ax=middle) is figure
    assert geodesic.plot_map(SPHERE, bounds, solution, resolution=5, ax=right) is figure
    assert len(figure.axes) == 4  # that of the color bar
    assert all(axes.has_data() for axes in (left, middle, right))
    assert not figure.legends
    geodesic.plot(solution, torch.randn(5, 2), ax=right)
    assert (right.get_xlim(), right.get_ylim()) == bounds


def test_a_notebook_shows_a_figure_without_pyplot(solution: Solution) -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    data, about = formatters.DisplayFormatter().format(geodesic.plot(solution))
    assert data["image/png"].startswith(b"\x89PNG")
    assert 300 < about["image/png"]["width"] < 700


def images_of(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for image in figure.axes[0].images]


def test_a_strip_shows_outputs_at_equal_times_of_the_line_above_those_of_its_geodesic(solution: Solution) -> None:
    def decoder(z: Tensor) -> Tensor:
        return SPHERE.embed(z).repeat(1, 4).square() / 2

    figure = geodesic.plot_strip(solution[:2], decoder, image_shape=(3, 4), columns=5)
    t = torch.linspace(0, 1, 5)
    curves = solution(t)
    for i in range(2):
        line = torch.lerp(A[i], B[i], t[:, None])
        for row, z in zip(images_of(figure)[2 * i :][:2], (line, curves[i]), strict=True):
            frames = np.stack(np.split(row, 5, axis=1))
            np.testing.assert_allclose(frames, decoder(z).reshape(5, 3, 4))
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    lengths = [x for i in range(2) for x in (solution.straight_length[i], solution.length[i])]
    kinds = ["0: straight", "0: geodesic", "1: straight", "1: geodesic"]
    assert names == [f"{kind}\nlength {length:.3f}" for kind, length in zip(kinds, lengths, strict=True)]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0", "0.25", "0.5", "0.75", "1"]


def test_outputs_that_are_no_images_are_columns_of_colors(solution: Solution) -> None:
    figure = geodesic.plot_strip(solution[0], SPHERE.embed, columns=4)
    straight, best = images_of(figure)
    np.testing.assert_allclose(best, SPHERE.embed(solution(torch.linspace(0, 1, 4))[0]).T)
    assert straight.shape == (3, 4)
    (one, _) = images_of(geodesic.plot_strip(solution[0], lambda z: z[:, 0], columns=4))
    assert one.shape == (1, 4)


def test_a_strip_of_a_wrapped_decoder_shows_its_means_each_pair_under_its_own_condition() -> None:
    def model(z: Tensor, scale: Tensor) -> torch.distributions.Normal:
        return torch.distributions.Normal(scale[:, None] * z, 1 + z.square())

    decoder = geodesic.wrap(model, latent_shape=2, condition=torch.tensor([1.0, 3.0]))
    solution = geodesic.solve(decoder.manifold(), torch.zeros(2, 2), torch.ones(2, 2), segments=4)
    for given in (decoder, decoder.mean):
        ends = [image[:, -1] for image in images_of(geodesic.plot_strip(solution, given))]
        np.testing.assert_allclose(ends, [[1, 1], [1, 1], [3, 3], [3, 3]])
    with pytest.raises(InputError, match="each of 2 pairs, and the solution has 1"):
        geodesic.plot_strip(solution[:1], decoder)


def test_a_strip_of_latent_images_hands_them_over_as_such() -> None:
    manifold = geodesic.PullbackManifold(lambda z: z.square().flatten(1), latent_shape=(1, 2, 2))
    solution = geodesic.solve(manifold, torch.zeros(1, 2, 2), torch.ones(1, 2, 2), segments=4)
    _, best = images_of(geodesic.plot_strip(solution, lambda z: z[:, 0], columns=3))
    np.testing.assert_allclose(best[:, -2:], np.ones((2, 2)))


@pytest.mark.parametrize("quantity", ["magnification", "curvature"])
def test_a_map_shows_the_quantity_at_its_points_with_paths_on_top(quantity: str, solution: Solution) -> None:
    saddle = geodesic.surfaces.Saddle()
    figure = geodesic.plot_map(saddle, ((-1, 1), (-2, 0.5)), solution, quantity=quantity, resolution=7)
    axes, bar = figure.axes
    shown = axes.collections[0].get_array().reshape(7, 7)
    z = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 7), torch.linspace(-2, 0.5, 7), indexing="xy"), dim=-1)
    if quantity == "curvature":
        e1, e2 = torch.eye(2)[:, None, None].expand(2, 7, 7, 2)
        expected = geodesic.sectional_curvature(saddle, z, e1, e2)
    else:
        expected = geodesic.magnification_factor(saddle, z).log10()
    np.testing.assert_allclose(shown, expected, rtol=1e-8)
    np.testing.assert_allclose(np.stack(lines_of(axes, dashed=False)), solution(TIMES))
    assert quantity in bar.get_ylabel()


def test_a_map_is_measured_in_the_precision_of_its_bounds_or_of_its_solution() -> None:
    seen = []

    def decoder(z: Tensor) -> Tensor:
        seen.append(z.dtype)
        return z.square()

    manifold, bounds = geodesic.PullbackManifold(decoder), np.array([[0.5, 1], [0.5, 1]])
    single = torch.ones(2, dtype=torch.float32), torch.full((2,), 0.5, dtype=torch.float32)
    solution = geodesic.solve(manifold, *single, segments=4)
    for given, dtype in (
        ((bounds,), torch.float64),
        ((torch.as_tensor(bounds).float(),), torch.float32),
        ((bounds.tolist(), solution), torch.float32),
        ((bounds.tolist(),), torch.get_default_dtype()),
    ):
        seen.clear()
        geodesic.plot_map(manifold, *given, resolution=3)
        assert set(seen) == {dtype}


def test_where_the_metric_is_singular_a_map_has_no_value_and_says_so() -> None:
    figure = geodesic.plot_map(geodesic.PullbackManifold(lambda z: z**2), ((0, 1), (0, 1)), resolution=3)
    assert np.ma.getmaskarray(figure.axes[0].collections[0].get_array()).sum() == 5
    assert names_of(figure) == ["singular"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None,), "solution: expected the answer of solve, another answer with a path, or nodes .* got NoneType"),
        ((torch.zeros(3),), r"solution: expected the answer .* got shape \(3,\)"),
        ((torch.zeros(0, 3, 2),), r"solution: expected at least one path of two nodes, got shape \(0, 3, 2\)"),
        (({},), "solution: expected at least one, got an empty dictionary"),
        (({"a": torch.zeros(3, 2), "b": torch.zeros(3, 4)},), "solution: .* one latent space, got 2 and 4 coordinates"),
        ((A, torch.zeros(5, 3)), r"points: expected latent points of shape \(N, 2\), as the paths have, got \(5, 3\)"),
        ((A, np.array([["a", "b"]])), "points: expected latent points"),
        ((A, torch.zeros(5, 2), [1, 2]), r"labels: expected one for each of the 5 points, got shape \(2,\)"),
        ((A, None, [1, 2]), "labels: there are no points that they could belong to; give points too"),
        ((A, None, None, {"ax": [1]}), "ax: expected the axes of a matplotlib figure, got list; give one of them"),
    ],
)
def test_what_cannot_be_plotted_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    *given, keywords = arguments if isinstance(arguments[-1], dict) and len(arguments) > 1 else (*arguments, {})
    with pytest.raises(InputError, match=f"^{message}"):
        inspect.unwrap(geodesic.plot)(*given, **keywords)


@pytest.mark.parametrize(
    ("decoder", "settings", "error", "message"),
    [
        (SPHERE.embed, {"image_shape": (2, 2)}, InputError, r"image_shape: \(2, 2\) are 4 numbers, .* has 3, of"),
        (SPHERE.embed, {"image_shape": (3, 0)}, InputError, "image_shape: expected positive integers"),
        (SPHERE.embed, {"columns": 1}, InputError, "columns: expected an integer of at least 2, got 1"),
        (lambda z: z[:, None, None, None], {}, InputError, r"image_shape: an output .* shape \(1, 1, 1, 2\)"),
        (lambda z: (z, z), {}, DecoderError, "decoder: expected a tensor .* got a tuple"),
        (SPHERE, {}, DecoderError, "decoder: expected a function from"),
    ],
)
def test_what_makes_no_strip_is_refused(
    decoder: Any, settings: dict[str, Any], error: type[Exception], message: str, solution: Solution
) -> None:
    with pytest.raises(error, match=f"^{message}"):
        inspect.unwrap(geodesic.plot_strip)(solution, decoder, **settings)


def test_a_strip_holds_so_many_pairs(solution: Solution) -> None:
    many = solution[torch.arange(3).repeat(5)]
    with pytest.raises(
        InputError, match=r"^solution: expected 1 to 12 pairs in a picture, got 15; give solution\[:12\]"
    ):
        geodesic.plot_strip(many, SPHERE.embed)
    with pytest.raises(InputError, match=r"^solution: expected the answer of solve, got Tensor"):
        inspect.unwrap(geodesic.plot_strip)(A, SPHERE.embed)


@pytest.mark.parametrize("bounds", [((0, 1),), ((1, 0), (0, 1)), ((0, np.nan), (0, 1)), "all", None, ((0, 1), (0,))])
def test_bounds_that_hold_no_plane_are_refused(bounds: Any) -> None:
    with pytest.raises(InputError, match=r"^bounds: expected the least and the largest of two coordinates"):
        geodesic.plot_map(SPHERE, bounds)


def test_a_map_of_a_space_that_is_no_plane_is_refused() -> None:
    with pytest.raises(DecoderError, match="latent size is 2"):
        geodesic.plot_map(geodesic.PullbackManifold(torch.nn.Linear(3, 5)), ((0, 1), (0, 1)))
    with pytest.raises(InputError, match=r"^solution: a map has two coordinates, and these paths have 3"):
        geodesic.plot_map(SPHERE, ((0, 1), (0, 1)), torch.zeros(4, 3))


def test_without_matplotlib_the_error_has_the_line_that_installs_it(
    solution: Solution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        MissingExtraError, match=r"^matplotlib is not installed; it comes with geodesic-vae: pip install"
    ):
        geodesic.plot(solution)


def test_a_figure_is_written_as_any_other(solution: Solution, tmp_path: Path) -> None:
    geodesic.plot(solution).savefig(tmp_path / "paths.png")
    assert (tmp_path / "paths.png").read_bytes().startswith(b"\x89PNG")
