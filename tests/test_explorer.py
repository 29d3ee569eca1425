"""The explorer's answers: what the page is told is what the library says."""

import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import geodesic
from geodesic.errors import InputError
from geodesic.explorer.explore import scene_of
from geodesic.explorer.messages import Reply
from geodesic.explorer.planes import latent, off_plane, plane_of
from geodesic.explorer.scene import pictured_rows
from geodesic.explorer.session import Session
from geodesic.explorer.shading import shading
from geodesic.explorer.worker import Overtaken, Worker
from tests.explorers import asked, grid, hill, pictures, scene

ENDS = [[-1.6, 0.1], [1.6, -0.2]]


@pytest.fixture
def session() -> Session:
    return Session(scene())


def follow(session: Session, stage: str, ends: Any = ENDS, **more: Any) -> Reply:
    return session.answer(asked("follow", stage=stage, ends=ends, **more))


def test_the_final_answer_is_that_of_solve(session: Session) -> None:
    reply = follow(session, "final")
    start, end = torch.tensor(ENDS)
    solution = geodesic.solve(geodesic.PullbackManifold(hill), start, end)
    assert reply.fields["length"] == pytest.approx(float(solution.length), rel=1e-12)
    assert reply.fields["converged"]
    assert reply.fields["resolved"]
    assert reply.fields["minimum"]
    torch.testing.assert_close(
        torch.as_tensor(reply.arrays["path"]).double(), solution(torch.linspace(0, 1, 65)), rtol=1e-6, atol=1e-6
    )


@pytest.mark.slow
def test_a_path_that_follows_is_near_the_answer_and_its_certificate_is_one(session: Session) -> None:
    for step in range(12):
        moving = follow(session, "moving", [[-1.6, 1.0], [1.6, 0.5 + 0.05 * step]])
    resting, final = (follow(session, stage, [[-1.6, 1.0], [1.6, 1.05]]) for stage in ("resting", "final"))
    assert resting.fields["converged"]
    assert resting.fields["minimum"]
    assert moving.fields["length"] == pytest.approx(final.fields["length"], rel=0.01)
    assert resting.fields["length"] == pytest.approx(final.fields["length"], rel=1e-3)


@pytest.mark.slow
def test_a_path_that_was_led_around_the_hill_is_kept_where_it_is_shorter_than_what_the_line_leads_to() -> None:
    session = Session(scene())
    straight = Session(scene())
    for height in np.linspace(1.5, 0.0, 16):  # past the hill, then behind it
        follow(session, "moving", [[-1.6, height], [1.6, height]])
    across = follow(straight, "final", [[-1.6, 0.0], [1.6, 0.0]]).fields
    around, final = (follow(session, stage, [[-1.6, 0.0], [1.6, 0.0]]).fields for stage in ("resolved", "final"))
    assert final["length"] == around["length"]
    assert around["converged"]
    assert around["length"] < 0.97 * across["length"]


def test_strips_are_what_the_decoder_makes_of_both_paths(session: Session) -> None:
    reply = follow(session, "final")
    t = torch.linspace(0, 1, 11)[:, None]
    straight = torch.lerp(*torch.tensor(ENDS)[:, None], t)
    assert np.array_equal(reply.arrays["straight"], pictured_rows(pictures(straight).numpy()))
    assert reply.arrays["geodesic"].shape == (11, 3, 4)
    assert (reply.arrays["geodesic"][[0, -1]] == reply.arrays["straight"][[0, -1]]).all()


def test_a_place_where_the_decoder_fails_is_said_and_the_next_one_is_answered(session: Session) -> None:
    assert "out of bounds" in follow(session, "moving", [ENDS[0], [3.5, 0.0]]).fields["error"]
    assert follow(session, "final").fields["converged"]


def test_outputs_that_cannot_be_drawn_leave_the_path(session: Session) -> None:
    def fails(z: torch.Tensor) -> Any:
        raise geodesic.errors.DecoderError("nothing to be seen here")

    reply = follow(Session(scene().__class__(**vars(session.scene) | {"decode": fails})), "final")
    assert reply.fields["trouble"] == "nothing to be seen here"
    assert reply.fields["converged"]
    assert "straight" not in reply.arrays


def test_the_shading_of_a_row_is_the_magnification_in_the_middle_of_its_cells(session: Session) -> None:
    reply = session.answer(asked("shade", quantity="magnification", size=4, row=3, bounds=[[-2, 2], [-1, 1]]))
    z = torch.stack([torch.tensor([-1.5, -0.5, 0.5, 1.5]), torch.full((4,), 0.75)], dim=1)
    expected = geodesic.magnification_factor(geodesic.PullbackManifold(hill), z).log10()
    torch.testing.assert_close(torch.as_tensor(reply.arrays["values"][0]).double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("quantity", ["magnification", "curvature"])
def test_the_shading_of_a_plane_of_many_coordinates_is_that_of_the_surface_over_it(quantity: str) -> None:
    """A surface in three coordinates that do not see each other: its curvature is that of the metric, none here."""
    flat = geodesic.PullbackManifold(lambda z: torch.cat([z, z.sin()], dim=1))
    directions = torch.linalg.qr(torch.randn(3, 2)).Q.T
    z = torch.randn(5, 3)
    found = torch.as_tensor(shading(flat, z, directions, quantity)).double()
    G = directions @ flat.metric_tensor(z) @ directions.T
    expected = torch.linalg.det(G).log10() / 2 if quantity == "magnification" else torch.zeros(5)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_plane_through_three_points_holds_them_and_is_spanned_by_unit_vectors() -> None:
    points = grid(5).numpy()
    view = plane_of(points, [3, 14, 15])
    three = points[[3, 14, 15]]
    assert off_plane(view, three) < 1e-12
    assert np.allclose(view.directions @ view.directions.T, np.eye(2))
    assert np.allclose(latent(view, view.points(three)), three)


def test_without_three_points_the_plane_is_that_of_the_leading_directions_at_the_mean() -> None:
    points = grid(4).numpy() * [1, 5, 1, 9]
    view = plane_of(points)
    assert np.allclose(view.origin, points.mean(0))
    assert np.abs(view.directions).argmax(1).tolist() == [3, 1]


def test_three_points_on_a_line_are_no_plane() -> None:
    with pytest.raises(InputError, match="points 0, 1, 2 lie on one line; choose others"):
        plane_of(np.outer(np.arange(5.0), [1, 2, 3]), [0, 1, 2])


def test_in_many_coordinates_ends_lie_in_the_plane_and_the_path_says_how_far_it_leaves_it() -> None:
    session = Session(scene(4))
    shown = session.answer(asked("scene", plane=[0, 1, 2]))
    reply = follow(session, "final", shown.fields["ends"], plane=[0, 1, 2])
    assert np.allclose(reply.arrays["path"][[0, -1]], shown.fields["ends"], atol=1e-5)
    assert 0 < reply.fields["off_plane"] < 1


def test_all_pairs_of_an_answer_are_found_again() -> None:
    torus = geodesic.surfaces.Torus()
    solution = geodesic.solve(torus, grid()[:6], grid()[6:12])
    session = Session(scene_of(torus, solution))
    parts = [session.answer(asked("pairs", first=first, geometry="Torus")) for first in (0, 4)]
    assert [len(part.fields["figures"]) for part in parts] == [4, 2]
    lengths = [one["length"] for part in parts for one in part.fields["figures"]]
    assert lengths == pytest.approx(solution.length.tolist(), rel=1e-4)


def test_of_an_answer_alone_the_pair_is_shown_whose_ends_are_nearest() -> None:
    solution = geodesic.solve(geodesic.surfaces.Torus(), grid()[:6].reshape(2, 3, 2), grid()[6:12].reshape(2, 3, 2))
    session = Session(scene_of(solution))
    shown = session.answer(asked("scene")).fields
    assert (shown["fixed"], shown["pairs"], shown["shadings"]) == (True, 6, ())
    near = torch.stack([grid()[4] + 0.01, grid()[10] - 0.01]).tolist()
    reply = session.answer(asked("follow", stage="final", ends=near))
    assert reply.fields["length"] == float(solution.length[1, 1])
    assert np.allclose(reply.fields["ends"], torch.stack([grid()[4], grid()[10]]))
    assert len(session.answer(asked("pairs", first=4)).fields["figures"]) == 2


def test_an_exported_answer_is_a_solution_that_can_be_loaded(session: Session, tmp_path: Path) -> None:
    length = follow(session, "final").fields["length"]
    file = tmp_path / "found.npz"
    file.write_bytes(session.answer(asked("export", format="npz")).arrays["file"].tobytes())
    assert float(geodesic.GeodesicSolution.load(file).length) == length


@pytest.mark.slow
def test_an_exported_movie_has_frames_there_and_back(session: Session) -> None:
    from PIL import Image

    follow(session, "final")
    content = session.answer(asked("export", format="gif")).arrays["file"].tobytes()
    assert Image.open(io.BytesIO(content)).n_frames > 40


def test_while_an_end_moves_there_is_nothing_to_export(session: Session) -> None:
    follow(session, "moving")
    assert "no certified answer yet" in session.answer(asked("export", format="npz")).fields["error"]


def test_two_tabs_have_paths_of_their_own(session: Session) -> None:
    one = follow(session, "final")
    follow(session, "final", [[0.5, 1.5], [1.5, 0.5]], tab="two")
    assert follow(session, "final").fields["length"] == one.fields["length"]
    assert len(session._followers) == 2


def test_only_so_many_tabs_are_remembered(session: Session) -> None:
    for k in range(20):
        session.answer(asked("export", format="npz", tab=str(k)))
    assert len(session._followers) == 16


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ("no mapping", "expected a request, got str"),
        (asked("fly"), "kind: expected one of 'scene'"),
        (asked("follow", stage="final", ends=[[0, 0], [0, "x"]]), "ends: expected finite numbers of shape (2, 2)"),
        (asked("follow", stage="final", ends=[[0, 0], [0, float("inf")]]), "ends: expected finite numbers"),
        (asked("follow", stage="soon", ends=ENDS), "stage: expected one of 'moving'"),
        (asked("follow", stage="final", ends=ENDS, geometry="flat"), "geometry: expected one of 'PullbackManifold'"),
        (asked("follow", stage="final", ends=ENDS, tab=None), "tab: expected a short text"),
        (asked("shade", quantity="magnification", size=10**9, row=0, bounds=ENDS), "size: expected an integer from 2"),
        (asked("look", row=60), "row: expected an integer from 0 to 59"),
        (asked("scene", plane=[0, 1]), "plane: expected the numbers of three of 60 points"),
        (asked("pairs", first=0), "pairs: there are none here"),
        (asked("export", format="exe"), "format: expected one of 'npz', 'gif'"),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_in_words(session: Session, request_: Any, words: str) -> None:
    assert words in session.answer(request_).fields["error"]


def test_a_reply_can_be_read_from_its_header() -> None:
    body = Reply({"length": np.inf, "d": 2}, {"path": np.eye(2, dtype=np.float32)}).body
    length = int.from_bytes(body[:4], "little")
    assert json.loads(body[4 : 4 + length]) == {"length": None, "d": 2, "arrays": [["path", "float32", [2, 2]]]}
    assert np.frombuffer(body[4 + length :], "<f4").tolist() == [1, 0, 0, 1]


def test_of_paths_that_wait_only_the_newest_is_found_and_what_has_time_gives_way() -> None:
    worker, begun, gate = Worker(), threading.Event(), threading.Event()

    def slow(overtaken: Any) -> str:
        begun.set()
        gate.wait(5)
        if overtaken():
            raise Overtaken
        return "slow"

    background = worker.submit(None, slow)
    assert begun.wait(5)
    waiting = [worker.submit("path", lambda overtaken, k=k: k) for k in range(3)]
    gate.set()
    assert waiting[2].result(5) == 2
    for job in (*waiting[:2], background):
        assert isinstance(job.exception(5), Overtaken)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (torch.zeros(5, 1), "has 1 coordinate"),
        (torch.zeros(2, 2), "expected at least 3 latent points"),
        (torch.zeros(5), "points: expected latent points, (N, d), or the answer of solve, got shape (5,)"),
        ("all", "points: expected latent points, (N, d), or the answer of solve, got str"),
    ],
)
def test_what_is_no_cloud_of_points_is_refused(points: Any, words: str) -> None:
    with pytest.raises(InputError) as refused:
        geodesic.explore(geodesic.surfaces.Torus(), points)
    assert words in str(refused.value)
