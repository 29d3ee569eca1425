"""A report says what the solutions say, needs nothing but itself, and says what it could not find."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

import geodesic
from geodesic.drawing.best import best_of
from geodesic.errors import InputError
from geodesic.files import read_npz, write_npz
from geodesic.reporting.neighbors import neighbors_by
from geodesic.reporting.report import Report
from geodesic.reporting.verdict import verdict_on
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.status import Status
from tests.experiments import refused, run

Solution = geodesic.GeodesicSolution
EVIL = "<script>alert('x')</script> & $x_{ _y"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text; every element that is opened is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def require_lawful(html: str) -> Page:
    """A page that is whole by itself, and can be read without seeing it."""
    page = Page(html)
    tags = [tag for tag, _ in page.elements]
    assert not {"script", "link", "iframe", "object"} & set(tags)
    for tag, attributes in page.elements:
        for name in {"src", "href", "xlink:href", "action"} & attributes.keys():
            assert re.match(r"#|data:image/png;base64,", attributes[name] or ""), (tag, name)
        assert not any(name.startswith("on") for name in attributes)
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", html))
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    used = {attributes["href"] for tag, attributes in page.elements if tag in ("a", "use") and "href" in attributes}
    used |= {attributes["xlink:href"] for _, attributes in page.elements if "xlink:href" in attributes}
    assert {str(target)[1:] for target in used if str(target).startswith("#")} <= set(names)
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'")
    assert tags.count("h1") == 1
    return page


def bowl(z: torch.Tensor) -> torch.Tensor:
    """A decoder of 3 x 3 images that bends, of any number of coordinates."""
    heights = torch.stack([z.square().sum(1) * (k + 1) / 9 for k in range(9 - z.shape[1])], dim=1)
    return torch.cat([z, heights], dim=1).reshape(-1, 3, 3)


def solved(d: int, pairs: int = 3) -> tuple[geodesic.Manifold, Solution]:
    generator = torch.Generator().manual_seed(d)
    start, end = torch.randn(2, pairs, d, generator=generator)
    manifold = geodesic.PullbackManifold(bowl)
    return manifold, geodesic.solve(manifold, start, end, segments=8)


@pytest.fixture(scope="module")
def plane() -> tuple[geodesic.Manifold, Solution]:
    return solved(2)


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_page_is_whole_by_itself_in_every_number_of_coordinates(d: int) -> None:
    manifold, solution = solved(d)
    points = torch.randn(40, d, generator=torch.Generator().manual_seed(0))
    labels = [EVIL if k % 2 else "other" for k in range(40)]
    made = geodesic.report(
        {EVIL: solution}, manifold=manifold, decoder=bowl, points=points, labels=labels, neighbors=10
    )
    page = require_lawful(made.html)
    assert EVIL in page.text
    assert len(re.findall(r"<figure>", made.html)) == (1 + (2 if d == 3 else 1) + len(solution.path))
    if d == 2:
        again = {"points": points, "labels": labels, "neighbors": 10}
        assert geodesic.report({EVIL: solution}, manifold=manifold, decoder=bowl, **again).html == made.html


@pytest.mark.slow
def test_figures_of_a_page_are_those_of_the_solution(plane: tuple[geodesic.Manifold, Solution]) -> None:
    _, solution = plane
    made = geodesic.report(solution)
    ratio = solution.straight_length / solution.length
    assert made.verdict.median == pytest.approx(float(ratio.median()), rel=1e-12)
    assert made.verdict.worst == pytest.approx(float(ratio.max()), rel=1e-12)
    page = require_lawful(made.html)
    for value in (ratio.median(), ratio.max(), torch.quantile(ratio, 0.95)):
        assert f"{value:.3f}" in page.text
    assert solution.summary().splitlines()[0] in page.text
    for missing in ("No data are drawn", "metric is not shown", "not measured", "What the decoder makes"):
        assert missing in page.text


def of_lengths(ratio: list[float], like: Solution, **changes: object) -> Solution:
    """A solution whose straight lines are so many times as long as its geodesics."""
    P = len(ratio)
    rows = like[[0] * P]
    length = torch.ones(P)
    known = {"length": length, "straight_length": torch.tensor(ratio), "error": torch.full((P,), 1e-6)}
    known |= {"lower_bound": torch.full((P,), 0.5), "converged": torch.ones(P, dtype=torch.bool)}
    return replace(rows, **known | {"status": torch.ones(P, dtype=torch.int64)} | changes)


@pytest.mark.parametrize(
    ("ratio", "changes", "answer"),
    [
        ([1.0] * 20, {}, "no"),
        ([1.005] * 20, {}, "no"),
        ([1.2] * 20, {}, "yes"),
        ([1.001] * 18 + [1.3] * 2, {}, "some"),
        ([1.03] * 20, {}, "some"),
        ([1.2] * 20, {"error": torch.full((20,), 0.5)}, "unknown"),
        ([1.2] * 20, {"error": torch.full((20,), torch.inf)}, "unknown"),
        ([1.0] * 20, {"converged": torch.zeros(20, dtype=torch.bool)}, "unknown"),
        ([1.2] * 20, {"converged": torch.zeros(20, dtype=torch.bool)}, "yes"),  # a shorter curve is a shorter curve
        # No path can be shorter than the bound, whatever has not converged.
        ([1.0] * 20, {"converged": torch.zeros(20, dtype=torch.bool), "lower_bound": torch.full((20,), 0.995)}, "no"),
        ([1.2] * 20, {"status": torch.full((20,), int(Status.JUMP))}, "unknown"),
        ([torch.nan] * 20, {}, "unknown"),
    ],
)
def test_a_verdict_is_what_the_lengths_and_their_errors_allow(
    ratio: list[float], changes: dict[str, object], answer: str, plane: tuple[geodesic.Manifold, Solution]
) -> None:
    made = verdict_on(best_of({"auto": of_lengths(ratio, plane[1], **changes)}))
    assert made.answer == answer
    assert made.pairs == 20


def test_of_several_solvers_the_shortest_curve_of_each_pair_counts(plane: tuple[geodesic.Manifold, Solution]) -> None:
    first, second = (of_lengths(ratio, plane[1]) for ratio in ([1.1, 1.5], [1.3, 1.2]))
    first, second = (replace(x, length=1 / x.straight_length, straight_length=torch.ones(2)) for x in (first, second))
    np.testing.assert_allclose(best_of({"first": first, "second": second}).ratio, [1.3, 1.5])


def test_a_stretched_plane_changes_latent_neighbors_and_no_straight_ones() -> None:
    scale = torch.tensor([1.0, 30.0])
    points = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    found = neighbors_by(geodesic.PullbackManifold(lambda z: scale * z), points)
    latent, stretched = (torch.cdist(z, z).fill_diagonal_(torch.inf).argmin(1) for z in (points, scale * points))
    assert found.changed == float((latent != stretched).double().mean()) > 0
    assert (found.points, found.bent, found.surely_bent) == (12, 0.0, 0.0)


@pytest.mark.slow
def test_a_matrix_says_the_same_of_neighbors_and_is_shown() -> None:
    manifold, solution = solved(2)
    points = torch.randn(8, 2, generator=torch.Generator().manual_seed(1))
    matrix = geodesic.distance_matrix(manifold, points)
    shown, sought = (
        geodesic.report(solution, manifold=manifold, points=points, neighbors=given) for given in (matrix, 8)
    )
    assert shown.verdict.neighbors.changed == sought.verdict.neighbors.changed
    assert "Geodesic lengths between 8 points" in require_lawful(shown.html).text
    block = geodesic.distance_matrix(manifold, points, points + 1, method="straight")
    with pytest.raises(InputError, match="from points to others"):
        geodesic.report(solution, manifold=manifold, points=points, neighbors=block)


@pytest.mark.slow
def test_hundreds_of_pairs_and_solvers_make_a_page_that_can_be_sent(plane: tuple[geodesic.Manifold, Solution]) -> None:
    manifold, solution = plane
    many = solution[torch.arange(1000) % 3]
    made = geodesic.report(
        {f"solver {k}": many for k in range(30)},
        manifold=manifold,
        decoder=bowl,
        points=torch.randn(20_000, 2),
        neighbors=0,
    )
    page = require_lawful(made.html)
    assert len(made.html) < 2_000_000
    assert "12 of 30 solvers" in page.text
    assert "20 of 1,000 pairs are drawn" in page.text
    assert made.html.count("<figure>") == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda s: ({},), "solutions: expected at least one"),
        (lambda s: ({"a": s, "b": s[:2]},), "solutions: expected solutions of the same pairs, got 3 pairs"),
    ],
)
def test_what_is_no_set_of_solutions_is_refused(
    arguments: Callable[[Solution], tuple], message: str, plane: tuple[geodesic.Manifold, Solution]
) -> None:
    with pytest.raises(InputError, match=message):
        geodesic.report(*arguments(plane[1]))


def test_a_notebook_shows_a_page_in_a_frame_of_its_own(plane: tuple[geodesic.Manifold, Solution]) -> None:
    (frame,) = Page(geodesic.report(plane[1])._repr_html_()).elements
    assert frame[0] == "iframe"
    assert frame[1]["sandbox"] == ""
    require_lawful(str(frame[1]["srcdoc"]))


# --- of a run --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_report_of_a_run_says_what_its_results_say(runs: Path) -> None:
    folder = runs / "small"
    before = {file for file in runs.rglob("*") if file.is_file()}
    done = run("report", folder, "--neighbors", "10", "--json")
    assert done.status == 0, done
    said, file = json.loads(done.out), folder / "geodesics.html"
    page = require_lawful(file.read_text(encoding="utf-8"))
    assert {file for file in runs.rglob("*") if file.is_file()} - before == {file}
    best = best_of(
        {
            name: GeodesicSolution.from_arrays(read_npz(folder / "geodesics.npz"), f"{name}/")
            for name in ("auto", "plain", "encoder")
        }
    )
    assert said["verdict"]["worst"] == pytest.approx(np.nanmax(best.ratio))
    assert said["verdict"]["neighbors"]["points"] == 10
    record = json.loads((folder / "record.json").read_text())
    assert f"{record['test_elbo']:.2f} nats per row" in page.text
    assert f"geodesic solve {folder}/geodesics.yaml" in page.text
    refused(run("report", folder), 1, "exists already", "--overwrite")
    refused(run("report", folder, "--name", "../small/geodesics"), 1, "--name: got")


@pytest.mark.slow
def test_a_run_that_lacks_parts_has_a_page_that_says_so(runs: Path) -> None:
    folder = runs / "small"
    (folder / "model.safetensors").unlink()
    (folder / "record.json").write_text("no JSON")
    arrays = read_npz(folder / "geodesics.npz")
    write_npz(folder / "geodesics.npz", {k: x for k, x in arrays.items() if k not in ("encodings", "labels", "rows")})
    (folder / "distances.npz").write_bytes(b"no arrays")
    done = run("report", folder, "--neighbors", "0")
    assert done.status == 0, done
    text = require_lawful((folder / "geodesics.html").read_text(encoding="utf-8")).text
    for said in (
        "holds no weights yet",
        "no data, or no encoder",
        "distances.npz is left out",
        "kl.csv or record.json",
    ):
        assert said in text


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])


@pytest.mark.parametrize(
    ("spoil", "status", "words"),
    [
        (lambda folder: (folder / "geodesics.npz").unlink(), 1, ["no results to report on", "geodesic solve"]),
        (lambda folder: _cut(folder / "geodesics.npz"), 1, ["geodesics.npz", "truncated"]),
        (lambda folder: (folder / "geodesics.yaml").write_text("- 1"), 2, ["geodesics.yaml", "YAML mapping"]),
        (lambda folder: write_npz(folder / "geodesics.npz", {"x": np.ones(2)}), 1, ["lacks", "geodesic solve"]),
        (lambda folder: (folder / "geodesics.html").symlink_to("../outside.html"), 1, ["leads out of the run folder"]),
    ],
)
def test_a_run_without_usable_results_is_refused_and_nothing_is_written(
    spoil: Callable[[Path], object], status: int, words: list[str], runs: Path
) -> None:
    spoil(runs / "small")
    before = {file: file.is_file() and file.read_bytes() for file in runs.rglob("*")}
    refused(run("report", runs / "small"), status, *words)
    assert {file: file.is_file() and file.read_bytes() for file in runs.rglob("*")} == before


def test_report_is_a_record_of_its_page(plane: tuple[geodesic.Manifold, Solution], tmp_path: Path) -> None:
    made = geodesic.report(plane[1])
    assert isinstance(made, Report)
    assert made.save(tmp_path / "page.html").read_text(encoding="utf-8") == made.html
    assert repr(made).splitlines()[0] in made.html
