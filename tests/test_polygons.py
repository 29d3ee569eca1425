"""On decoders with kinks: taut polygons through the faces of their pieces, beside exact shortest paths."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import geodesic
from geodesic.door.faces import faces_of
from geodesic.solvers.taut import Effort, Polygons, tighten
from tests import windows
from tests.polyhedral import Polyhedron
from tests.test_taut_strings import network

ENDS = torch.tensor([[-1.0, -0.3], [1.0, 0.5]], dtype=torch.float64)


def tent(slope: float = 1.0) -> geodesic.PullbackManifold:
    """The plane, folded along z_1 = 0: isometric to a plane whose first coordinate is stretched on both sides."""
    return geodesic.PullbackManifold(lambda z: torch.cat([z, slope * z[:, :1].abs()], dim=1))


@pytest.mark.parametrize("seed", range(3))
def test_taut_polygons_are_shortest_paths_in_their_strips(seed):
    decoder = network(seed)
    surface, manifold = Polyhedron(decoder), geodesic.PullbackManifold(decoder)
    solution = geodesic.solve(manifold, ENDS[0], ENDS[1], tol=1e-12)
    assert bool(solution.polygon & solution.converged & solution.resolved & solution.minimum)
    nodes = solution.mesh[: int(solution.segments) + 1].numpy()
    shortest = windows.distance(surface, ENDS[0].numpy(), ENDS[1].numpy())
    assert float(solution.length) >= shortest * (1 - 1e-9)
    if not any((np.abs(surface.points - z).max(1) < 1e-7).any() for z in nodes[1:-1]):  # or the strip is not one
        taut, _ = surface.taut_string(ENDS[0].numpy(), ENDS[1].numpy(), surface.strip(nodes))
        assert float(solution.length) == pytest.approx(taut, rel=1e-9)


def test_a_folded_plane_unfolds():
    a, b = torch.tensor([-1.0, 0.0]).double(), torch.tensor([0.5, 2.0]).double()
    solution = geodesic.solve(tent(), a, b)
    assert solution.length.item() == pytest.approx(math.hypot(math.sqrt(2) * 1.5, 2.0), rel=1e-9)
    crossing = solution.mesh[1]  # where the straight line of the unfolded plane crosses
    assert crossing.tolist() == pytest.approx([0.0, 4 / 3], abs=1e-9)
    assert solution.segments == 2
    assert solution(torch.tensor([2 / 3])).squeeze().tolist() == pytest.approx([0.0, 4 / 3], abs=1e-9)


def test_lengths_have_derivatives_in_the_ends():
    a, b = torch.tensor([-1.0, 0.0]).double().requires_grad_(), torch.tensor([0.5, 2.0]).double()
    geodesic.distance(tent(), a, b).backward()
    length = math.hypot(math.sqrt(2) * 1.5, 2.0)
    assert a.grad.tolist() == pytest.approx([-3.0 / length, -2.0 / length], rel=1e-6)


def test_a_path_bends_around_a_corner():
    # A pyramid: over its top is no shortest path, and none of the two ways around it is left for the top.
    heights = lambda z: torch.cat([z, 2 * (1 - z.abs().sum(1, keepdim=True)).relu()], dim=1)  # noqa: E731
    a, b = torch.tensor([-1.5, 0.0]).double(), torch.tensor([1.5, 0.0]).double()
    over = torch.stack([a, torch.zeros(2).double(), b])
    faces = faces_of(heights, over)
    found = tighten(
        geodesic.PullbackManifold(heights),
        faces,
        Polygons(over, torch.zeros(3, dtype=torch.long), torch.zeros(3, dtype=torch.bool)),
        Effort(1e-9),
        curved=False,
    )
    assert float(found.length) < 3.7  # over the top: 1 + 2 sqrt(5) = 5.5
    assert float(found.excess) <= 1e-9


@pytest.mark.parametrize(
    "activation", [nn.ReLU(), nn.LeakyReLU(0.2), nn.Hardtanh(), nn.ReLU6(), nn.Hardswish(), nn.Softshrink(), nn.PReLU()]
)
def test_faces_are_where_activations_bend(activation):
    z = torch.linspace(-8, 8, 200, dtype=torch.float64)[:, None]
    faces = faces_of(activation.double(), z)
    signs = faces.heights(z) > 0
    x, step = activation(z).detach(), z[1, 0] - z[0, 0]
    bend = (x[2:] - 2 * x[1:-1] + x[:-2])[:, 0].abs() / step  # of the slope: of order 1 at kinks
    kinks = (bend > 0.2).nonzero()[:, 0] + 1
    changes = (signs[1:] != signs[:-1]).any(1).nonzero()[:, 0]
    assert len(kinks)
    assert all(min(abs(int(k) - int(c)) for c in changes) <= 1 for k in kinks)


@pytest.mark.parametrize(
    "pick",
    [
        lambda x: x.amax(-1),
        lambda x: x.amin(dim=1),
        lambda x: x.max(dim=1).values,
        lambda x: torch.min(x[:, 0], x[:, 1]),
        lambda x: x.median(1).values,
        lambda x: x.topk(2, dim=1).values,
        lambda x: x.kthvalue(2, 1).values,
        lambda x: x.sort(1).values,
        lambda x: x.cummax(1).values,
    ],
)
def test_faces_are_where_another_number_is_picked(pick):
    z = torch.linspace(-3, 3, 301, dtype=torch.float64)[:, None]
    function = lambda z: pick(torch.cat([z, 0.3 - z, 2 * z + 1.1], dim=1))  # noqa: E731
    signs = faces_of(function, z).heights(z) > 0
    x, step = function(z).reshape(len(z), -1), z[1, 0] - z[0, 0]
    bend = (x[2:] - 2 * x[1:-1] + x[:-2]).abs().amax(1) / step
    kinks = (bend > 0.2).nonzero()[:, 0] + 1
    changes = (signs[1:] != signs[:-1]).any(1).nonzero()[:, 0]
    assert len(kinks)
    assert all(min(abs(int(k) - int(c)) for c in changes) <= 1 for k in kinks)


def test_what_bends_out_of_sight_shows_no_faces():
    wide = torch.randn(2, 9, dtype=torch.float64)
    assert faces_of(lambda z: (z @ wide).cummax(1).values, ENDS) is None  # of so many numbers
    assert faces_of(lambda z: z.relu() + z.amax(0), ENDS) is None  # over the rows
    assert faces_of(lambda z: z.relu() + z.max(), ENDS) is None
    assert faces_of(torch.tanh, ENDS) is None


def test_the_way_around_a_pit_whose_depth_is_a_largest_coordinate():
    # Through (-s, s) and (s, s) it is 2 sqrt(5 (1 - s)^2 + s^2) + 2 s, least at s = 2/3; through the bottom 2 sqrt(5).
    pit = geodesic.PullbackManifold(lambda z: torch.cat([z, 2 * z.abs().amax(1, keepdim=True)], dim=1))
    a, b = torch.tensor([-1.0, 0.0]).double(), torch.tensor([1.0, 0.0]).double()
    solution = geodesic.solve(pit, a, b)
    assert bool(solution.resolved & solution.minimum)
    assert float(solution.length) == pytest.approx(10 / 3, rel=1e-9)


def test_constants_of_a_decoder_are_no_units():
    weights = torch.randn(2, 6, dtype=torch.float64)
    faces = faces_of(lambda z: (z @ weights.clamp(-1, 1)).relu() * weights.abs().sum(), ENDS)
    assert faces.heights(ENDS[:1].expand(5, 2)).shape == (5, 6)


def test_a_decoder_that_is_called_for_a_few_rows_at_once_shows_no_faces():
    def in_groups(z: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.cat([some, some.relu()], dim=1) for some in z.split(100)])

    assert faces_of(in_groups, ENDS) is None


def test_points_are_looked_at_in_groups():
    faces = faces_of(lambda z: z.abs(), ENDS)
    z = torch.randn(3000, 2, dtype=torch.float64)
    assert torch.equal(faces.heights(z), z)
    assert torch.equal(faces.normals(z, torch.arange(3000) % 2), torch.eye(2, dtype=torch.float64).repeat(1500, 1))


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool1d(3, 1, 1),
        nn.MaxPool1d(2, ceil_mode=True),
        nn.MaxPool1d(2, 1, dilation=2),
        nn.MaxPool2d((1, 2), (1, 1), (0, 1)),
    ],
)
def test_faces_of_a_pooling_are_where_its_largest_numbers_change(pool):
    torch.manual_seed(0)
    weights = torch.randn(2, 5, dtype=torch.float64)
    shape = (1, 5) if isinstance(pool, nn.MaxPool1d) else (1, 1, 5)

    def decoder(z: torch.Tensor) -> torch.Tensor:
        return pool((z @ weights).unflatten(1, shape)).flatten(1)

    path = geodesic.straight_path(ENDS[:1], ENDS[1:], 999)[0]
    faces = faces_of(decoder, path)
    signs = faces.heights(path).sign()
    assert bool((signs != 0).any(0).all())  # no unit is zero everywhere
    bends = (decoder(path).diff(n=2, dim=0).abs() > 1e-9).any(1)
    changes = (signs[1:] != signs[:-1]).any(1)
    assert bool(bends.any())
    assert bool((~bends | changes[1:] | changes[:-1]).all())


def test_what_is_zero_all_around_is_no_face():
    decoder = lambda z: torch.cat([z, (z[:, :1] + 5).abs(), (z[:, :1] - 5).relu().relu()], dim=1)  # noqa: E731
    solution = geodesic.solve(geodesic.PullbackManifold(decoder), ENDS[0], ENDS[1])
    assert bool(solution.converged & solution.resolved)
    expected = math.hypot(2 * math.sqrt(2), 0.8)
    assert solution.length.item() == pytest.approx(expected, rel=1e-9)
    pooled = nn.Sequential(nn.Linear(2, 12), nn.ReLU(), nn.Unflatten(1, (1, 12)), nn.MaxPool1d(2), nn.Flatten())
    torch.manual_seed(2)
    for parameter in pooled.parameters():
        nn.init.normal_(parameter)
    decoder = nn.Sequential(pooled, nn.Linear(6, 5)).double()
    solution = geodesic.solve(geodesic.PullbackManifold(decoder), ENDS[0], ENDS[1])
    assert bool(solution.polygon & solution.converged)
