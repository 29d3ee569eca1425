"""Places at which several faces meet: what is said of ways past them, against ways that are measured."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import geodesic
from geodesic.door.faces import faces_of
from geodesic.geometry.calibrations import Ways, ways_of
from geodesic.geometry.corners import sides_of
from geodesic.solvers import kinks
from geodesic.solvers.search import Search
from geodesic.solvers.shakes import SHAKES, with_shakes
from geodesic.solvers.taut import Effort, Polygons, tighten


def ridges(height: float):
    """Faces where coordinates are zero, and over each of them a roof."""
    return lambda z: torch.cat([z, height * z.abs().sum(1, keepdim=True)], dim=1)


def over_the_top(decoder, before: list[float], after: list[float]) -> tuple[torch.Tensor, Ways]:
    """The path over the place where all faces meet, and ways past it."""
    path = torch.tensor([before, [0.0] * len(before), after])
    units = torch.arange(len(before))[None]
    ways = ways_of(geodesic.PullbackManifold(decoder), faces_of(decoder, path), path[None], units, torch.ones(1, 2))
    return path, ways


def measured(decoder, path: torch.Tensor) -> float:
    """By how much the shortest way past a corner is shorter than the way through it."""
    x = decoder(path)
    length, best = x.diff(dim=0).norm(dim=1).sum(), torch.tensor(torch.inf)
    for aside in 0.3 * torch.randn(20, path.shape[1]):
        begun = Polygons(
            torch.stack([path[0], path[1] + aside, path[2]]), torch.zeros(3, dtype=torch.long), torch.zeros(3) > 0
        )
        found = tighten(geodesic.PullbackManifold(decoder), faces_of(decoder, path), begun, Effort(1e-9), curved=False)
        best = best.minimum(found.length[0])
    return float(length - best)


def test_a_path_is_calibrated_where_its_surroundings_are_as_flat_as_its_space():
    fold = lambda z: torch.cat([z, z.abs()], dim=1)  # noqa: E731
    _, ways = over_the_top(fold, [-1.0, -1.1, -0.9], [1.0, 1.1, 0.9])
    assert ways.near.tolist() == [0.0]
    _, ways = over_the_top(fold, [-1.0, -1.1, -0.9], [1.0, 1.1, 0.7])
    assert ways.near > 0


@pytest.mark.parametrize("height", [0.03, 0.1, 0.3])
def test_where_two_faces_meet_ways_gain_what_angles_say(height):
    decoder = ridges(height)
    path, ways = over_the_top(decoder, [-1.0, -0.6], [0.7, 0.42])
    sides = sides_of(decoder, faces_of(decoder, path), path[None], torch.tensor([[0, 1]]), torch.eye(2)[None])
    assert sides.gain > 0
    torch.testing.assert_close(ways.near, sides.gain, rtol=10 * height**2, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("height", [0.1, 0.3])
def test_where_three_faces_meet_no_way_gains_more_than_is_said(height):
    decoder = ridges(height)
    path, ways = over_the_top(decoder, [-1.0, -0.6, -0.8], [0.7, 0.42, 0.56])
    gained = measured(decoder, path)
    assert gained > 0
    assert gained <= float(ways.near) * (1 + height**2)
    assert float(ways.near) <= 4 * gained


@pytest.mark.parametrize("side", [-0.3, 0.3])
def test_a_path_that_comes_to_a_face_for_nothing_and_turns_back_is_not_calibrated(side):
    decoder = lambda z: torch.cat([z, z.abs()[:, :2], 5 * z[:, 2:].relu()], dim=1)  # noqa: E731
    _, ways = over_the_top(decoder, [-1.0, -1.0, side], [1.0, 1.0, side])
    assert ways.near.isnan()  # straight on, beside the face, it is shorter at once


def network(d: int, width: int, outputs: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Linear(d, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    )
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.mul_(3.0)
    return layers.requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize(("d", "width", "outputs", "seed", "pair"), [(3, 16, 8, 3, 0)])
def test_what_is_certified_where_many_faces_meet_is_no_longer_than_what_lies_beside_it(d, width, outputs, seed, pair):
    manifold = geodesic.PullbackManifold(network(d, width, outputs, seed))
    solution = geodesic.solve(manifold, *(1.5 * torch.randn(2, 8, d))[:, pair])
    path = solution.mesh[: int(solution.segments) + 1]
    t = torch.linspace(0, 1, len(path))[:, None]
    moved = path + 1e-5 * (torch.pi * t).sin() * torch.randn(3, len(path), d)
    number = torch.arange(3).repeat_interleave(len(path))
    begun = Polygons(moved.flatten(0, 1), number, number < 0)
    found = tighten(manifold, faces_of(manifold.embed, path), begun, Effort(1e-5), curved=False)
    assert solution.converged
    assert (found.length >= float(solution.length) * (1 - float(solution.error) - 1e-6)).all()


@pytest.mark.slow
def test_paths_across_corners_of_many_faces_are_certified():
    manifold = geodesic.PullbackManifold(network(8, 48, 20, 0))
    assert geodesic.solve(manifold, *(1.5 * torch.randn(2, 8, 8))[:, [1, 3]]).converged.all()


def test_shakes_leave_ends_and_what_fills_up_a_path():
    path = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.5, 0.0], [2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]])
    (moved,) = with_shakes(path, SHAKES)
    assert moved[:, [0, 2, 3]].equal(path[0, [0, 2, 3]].expand(len(SHAKES), -1, -1))
    assert (moved[:, 1] - path[0, 1]).norm(dim=1).sign().tolist() == [1.0] * len(SHAKES)


def claimed_over_a_top() -> tuple[kinks.Kinks, geodesic.GeodesicSolution, torch.Tensor]:
    """A path over a place where three roofs meet, with a certificate that it does not deserve; the shortest length."""
    manifold = geodesic.PullbackManifold(ridges(0.5))
    a, b = torch.tensor([[-1.0, -0.6, -0.8]]), torch.tensor([[0.7, 0.42, 0.56]])
    solution = geodesic.solve(manifold, a, b)
    over = torch.stack([a, torch.zeros_like(a), b], dim=1)
    found = kinks.kinks_of(manifold, a, b, Search())
    length = manifold.embed(over[0]).diff(dim=0).norm(dim=1).sum()[None]
    times = torch.tensor([[0.0, 0.5, 1.0]])
    claimed = replace(solution, path=over, mesh=over, times=times, arc=times, length=length, segments=torch.tensor([2]))
    return found, claimed, solution.length


def test_a_certificate_beside_which_shorter_paths_lie_is_not_kept():
    tightened, claimed, shortest = claimed_over_a_top()
    assert claimed.converged
    assert claimed.length > 1.001 * shortest
    confirmed = tightened.confirmed(claimed)
    assert confirmed.converged
    torch.testing.assert_close(confirmed.length, shortest, rtol=1e-6, atol=0)


def test_what_shakes_always_lead_on_is_not_certified(monkeypatch):
    tightened, claimed, _ = claimed_over_a_top()
    monkeypatch.setattr(kinks, "_CONFIRMATIONS", 1)
    confirmed = tightened.confirmed(claimed)
    assert not (confirmed.converged | confirmed.resolved | confirmed.minimum)
    assert confirmed.status == geodesic.Status.STALLED
    assert confirmed.length < claimed.length


def test_where_no_polygon_is_certified_none_is_tried():
    folded = geodesic.PullbackManifold(lambda z: torch.cat([z, 2 * z.relu()], dim=1))
    start = torch.tensor([[-1.0, -0.7, 0.2]])
    same = geodesic.solve(folded, start, start)
    assert same.converged
    assert same.length == 0


def test_shakes_move_every_node_between_the_ends_and_do_not_depend_on_what_is_filled_up_behind():
    path = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.6, 0.4, 0.5], [1.0, 1.0, 1.0]]])
    filled = torch.cat([path, path[:, -1:].expand(1, 3, 3)], dim=1)
    one, other = (with_shakes(x, SHAKES) for x in (path, filled))
    assert torch.equal(other[:, :, :4], one)
    assert torch.equal((one != path[:, None]).any(3), torch.tensor([False, True, True, False]).expand(1, 3, 4))
    assert torch.equal(other[:, :, 4:], filled[:, None, 4:].expand(1, 3, 3, 3))


@pytest.mark.slow
def test_corners_beside_segments_that_single_precision_does_not_tell_from_nothing_are_bounded():
    torch.manual_seed(3)
    first, second, last = (nn.Linear(*size, dtype=torch.float32) for size in ((6, 40), (40, 40), (40, 20)))
    start, end = 1.5 * torch.randn(2, 2, 6, dtype=torch.float32)[:, 0]
    manifold = geodesic.PullbackManifold(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last))
    solution = geodesic.solve(manifold, start, end)  # ended in an error
    assert solution.length <= solution.straight_length
    assert solution.length >= solution.lower_bound
