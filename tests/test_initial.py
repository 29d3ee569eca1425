"""Laws of initial paths from a neighbor graph."""

import math

import pytest
import torch
from torch import Tensor

import geodesic
from geodesic.errors import GeodesicWarning
from geodesic.solvers import initial

FLOAT64 = torch.float64
SETTINGS = {"neighbors": 8}  # few, so that the tests are quick


def hill(z: Tensor) -> Tensor:
    """The graph of two steep hills in a row, between points to their left and to their right."""
    hills = [3 * (-4 * (z - torch.tensor([x, 0.0]).to(z)).square().sum(1, keepdim=True)).exp() for x in (-0.5, 0.5)]
    return torch.cat([z, sum(hills)], dim=1)


HILLS = geodesic.PullbackManifold(hill)
PLANE = geodesic.PullbackManifold(lambda z: z)
LEFT, RIGHT = torch.tensor([-1.5, 0.05], dtype=FLOAT64), torch.tensor([1.5, 0.0], dtype=FLOAT64)


@pytest.fixture
def always_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """No path of the graph is given up for the straight line."""
    monkeypatch.setattr(initial, "_EXCESS", math.inf)


@pytest.fixture
def never_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every path of the graph with more energy than the straight line is given up for it."""
    monkeypatch.setattr(initial, "_EXCESS", 0.0)


def ends(*batch: int, d: int = 2) -> tuple[Tensor, Tensor]:
    return torch.randn(*batch, d, dtype=FLOAT64), torch.randn(*batch, d, dtype=FLOAT64)


def grid(n: int = 15, width: float = 2.0) -> Tensor:
    x = torch.linspace(-width, width, n, dtype=FLOAT64)
    return torch.cartesian_prod(x, x)


@pytest.mark.parametrize("points", [None, grid()], ids=["drawn", "given"])
def test_the_path_goes_around_hills_that_the_straight_line_climbs(points: Tensor | None) -> None:
    found = geodesic.graph_path(HILLS, LEFT, RIGHT, graph_points=points, **SETTINGS)
    line = geodesic.geometry.constant_speed(HILLS, geodesic.straight_path(LEFT, RIGHT, 256), 32)
    assert not found.straight
    assert geodesic.path_length(HILLS, found.path) < 0.5 * geodesic.path_length(HILLS, line)
    assert found.path[:, 1].abs().max() > 0.5


@pytest.mark.slow
def test_the_path_leads_a_solver_to_a_shorter_geodesic_than_the_straight_line_does() -> None:
    # A wall that is lower in the middle, so that the straight line slides into the gap, and ends at |y| = 1.2.
    def wall(z: Tensor) -> Tensor:
        x, y = z[:, :1], z[:, 1:]
        return torch.cat([z, (-8 * x**2 - (y / 1.2) ** 6).exp() * (5 - 2.5 * (-4 * y**2).exp())], dim=1)

    manifold = geodesic.PullbackManifold(wall)
    through = geodesic.solve(manifold, LEFT, RIGHT)
    around = geodesic.graph_path(manifold, LEFT, RIGHT)
    assert through.converged
    assert not around.straight
    assert geodesic.path_length(manifold, around.path) < 0.9 * through.length


@pytest.mark.usefixtures("always_the_graph")
def test_the_ends_are_kept_bit_for_bit() -> None:
    start, end = ends(6)
    found = geodesic.graph_path(HILLS, start, end, segments=7, **SETTINGS)
    assert found.path.shape == (6, 8, 2)
    assert torch.equal(found.path[:, 0], start)
    assert torch.equal(found.path[:, -1], end)


@pytest.mark.parametrize("points", [None, grid()], ids=["drawn", "given"])
@pytest.mark.usefixtures("always_the_graph")
def test_a_pair_is_found_alike_alone_and_in_a_batch(points: Tensor | None) -> None:
    start, end = ends(2, 3)
    start[0, 1] *= 40  # a pair that needs other drawn points than the rest
    batch = geodesic.graph_path(HILLS, start, end, graph_points=points, **SETTINGS)
    assert batch.path.shape == (2, 3, 33, 2)
    assert batch.connected.shape == batch.straight.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            alone = geodesic.graph_path(HILLS, start[i, j], end[i, j], graph_points=points, **SETTINGS)
            torch.testing.assert_close(batch.path[i, j], alone.path, rtol=1e-9, atol=1e-9)


def test_no_path_leads_through_the_ends_of_another_pair() -> None:
    # Two clusters that only the second pair's ends could bridge.
    x = torch.linspace(0, 1, 6, dtype=FLOAT64)[:, None]
    clusters = torch.cat([torch.cat([x, 0 * x], 1), torch.cat([x + 3, 0 * x], 1)])
    start = torch.tensor([[0.0, 0.1], [1.5, 0.0]], dtype=FLOAT64)
    end = torch.tensor([[4.0, 0.1], [2.5, 0.0]], dtype=FLOAT64)
    found = geodesic.graph_path(PLANE, start, end, graph_points=clusters, neighbors=4)
    assert found.connected.tolist() == [False, False]


@pytest.mark.usefixtures("always_the_graph")
def test_ends_that_the_graph_does_not_join_get_the_straight_line_and_are_named() -> None:
    islands = torch.cat([grid(6, 0.5), grid(6, 0.5) + 20])
    start = torch.tensor([[0.0, 0.0], [-0.4, 0.0]], dtype=FLOAT64)
    end = torch.tensor([[20.0, 20.0], [0.4, 0.3]], dtype=FLOAT64)
    found = geodesic.graph_path(PLANE, start, end, graph_points=islands, neighbors=5)
    assert found.connected.tolist() == [False, True]
    assert found.straight.tolist() == [True, False]
    torch.testing.assert_close(found.path[0], geodesic.straight_path(start[0], end[0]), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("never_worse")
def test_without_excess_no_path_has_more_energy_than_the_straight_line() -> None:
    start, end = ends(40)
    line = geodesic.geometry.constant_speed(HILLS, geodesic.straight_path(start, end))
    E_line = geodesic.path_energy(HILLS, line)
    found = geodesic.graph_path(HILLS, start, end, **SETTINGS)
    assert (geodesic.path_energy(HILLS, found.path) <= E_line * (1 + 1e-12)).all()
    assert 0 < found.straight.sum() < 40
    torch.testing.assert_close(found.path[found.straight], line[found.straight], rtol=1e-12, atol=1e-12)


def far_apart(n: int) -> tuple[Tensor, Tensor]:
    """Ends whose distance is large in units of the points' spacing."""
    start, end = ends(n)
    return start, end + 2 * (end - start) / (end - start).norm(dim=-1, keepdim=True)


@pytest.mark.usefixtures("never_worse")
def test_the_plane_has_no_better_path_than_the_straight_line() -> None:
    assert geodesic.graph_path(PLANE, *far_apart(10), **SETTINGS).straight.all()


@pytest.mark.usefixtures("always_the_graph")
def test_in_the_plane_the_path_of_the_graph_is_hardly_longer_than_the_straight_line() -> None:
    start, end = far_apart(10)
    graph = geodesic.graph_path(PLANE, start, end, neighbors=20).path
    ratio = geodesic.path_length(PLANE, graph) / (end - start).norm(dim=-1)
    assert (ratio > 1).all()
    assert ratio.mean() < 1.02


def test_the_speed_is_about_constant() -> None:
    # The hills are three times as high as a segment is long at T = 32; at 128 the chords see them.
    found = geodesic.graph_path(HILLS, LEFT, RIGHT, segments=128)
    chords = HILLS.squared_chords(found.path).sqrt()
    assert chords.max() < 1.1 * chords.min()


@pytest.mark.usefixtures("always_the_graph")
def test_equal_ends_give_the_constant_path() -> None:
    found = geodesic.graph_path(HILLS, LEFT, LEFT.clone(), **SETTINGS)
    assert torch.equal(found.path, LEFT.expand(33, 2))
    assert found.straight
    assert found.connected


@pytest.mark.usefixtures("always_the_graph")
def test_the_seed_decides_and_the_global_generators_are_left_alone() -> None:
    start, end = ends(5)
    state = torch.get_rng_state()
    first, again, other = (geodesic.graph_path(HILLS, start, end, seed=seed, **SETTINGS).path for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("most", [100, 1000])
@pytest.mark.usefixtures("always_the_graph")
def test_neither_the_order_of_points_nor_copies_of_them_matter(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initial, "_MOST_POINTS", most)
    start, end = ends(5)
    points = grid()
    shuffled = points[torch.randperm(len(points))].repeat(30, 1)
    one, two = (geodesic.graph_path(HILLS, start, end, graph_points=x, neighbors=8) for x in (points, shuffled))
    assert torch.equal(one.path, two.path)
    assert two.connected.all()


@pytest.mark.usefixtures("always_the_graph")
def test_ends_may_be_among_the_points() -> None:
    points = grid()
    found = geodesic.graph_path(HILLS, points[:4], points[-4:], graph_points=points)
    assert found.connected.all()
    assert found.path.isfinite().all()


def test_places_without_a_finite_metric_are_avoided() -> None:
    def lake(z: Tensor) -> Tensor:  # not a number where |z| < 1/2
        return torch.cat([z, 0.1 * (z.square().sum(1, keepdim=True) - 0.25).log()], dim=1)

    manifold = geodesic.PullbackManifold(lake)
    found = geodesic.graph_path(manifold, LEFT, RIGHT, graph_points=grid())
    assert found.connected
    assert not found.straight
    assert geodesic.path_energy(manifold, found.path).isfinite()


@pytest.mark.usefixtures("always_the_graph")
def test_points_are_converted_to_the_dtype_of_the_ends() -> None:
    start, end = ends(3)
    for dtype, other in ((torch.float32, FLOAT64), (FLOAT64, torch.float32)):
        found = geodesic.graph_path(HILLS, start.to(dtype), end.to(dtype), graph_points=grid().to(other))
        assert found.path.dtype == dtype
        assert torch.equal(found.path[:, 0], start.to(dtype))


def test_single_precision_finds_about_the_same_path() -> None:
    double, single = (
        geodesic.graph_path(HILLS, LEFT.to(dtype), RIGHT.to(dtype)).path for dtype in (FLOAT64, torch.float32)
    )
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-3)


def test_many_dimensions_and_few_points_are_no_obstacle() -> None:
    start, end = ends(4, d=64)
    found = geodesic.graph_path(PLANE, start, end, graph_points=torch.randn(5, 64))
    assert found.connected.all()
    assert found.straight.all()


def test_metrics_without_an_embedding_have_graphs_too() -> None:
    manifold = geodesic.surfaces.HyperbolicPlane()
    start, end = torch.tensor([-1.0, 0.5], dtype=FLOAT64), torch.tensor([1.0, 0.5], dtype=FLOAT64)
    points = grid(21) * 0.75 + torch.tensor([0.0, 1.75])
    found = geodesic.graph_path(manifold, start, end, graph_points=points)
    distance = manifold.distance(start, end)
    assert distance * (1 - 1e-6) < geodesic.path_length(manifold, found.path) < 1.05 * distance


def test_no_pairs_give_no_paths() -> None:
    found = geodesic.graph_path(HILLS, torch.zeros(0, 2), torch.zeros(0, 2), **SETTINGS)
    assert found.path.shape == (0, 33, 2)


def test_nothing_is_recorded_and_no_argument_is_changed() -> None:
    start, end = (x.requires_grad_() for x in ends(3))
    points = grid().flip(0)
    copy = points.clone()
    with pytest.warns(GeodesicWarning, match="graph_path: start, end require gradients"):
        assert not geodesic.graph_path(HILLS, start, end, graph_points=points).path.requires_grad
    assert torch.equal(points, copy)


@pytest.mark.cuda
@pytest.mark.usefixtures("always_the_graph")
def test_a_device_finds_what_the_processor_finds() -> None:
    manifold = geodesic.PullbackManifold(lambda z: hill(z))
    start, end = ends(3)
    here = geodesic.graph_path(manifold, start, end, **SETTINGS)
    there = geodesic.graph_path(manifold, start.cuda(), end.cuda(), **SETTINGS)
    assert there.path.is_cuda
    assert there.connected.is_cuda
    torch.testing.assert_close(there.path.cpu(), here.path, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"graph_points": torch.zeros(5, 3)}, r"graph_points: expected latent points of shape \(N, 2\).*got \(5, 3\)"),
        ({"graph_points": torch.zeros(2)}, r"graph_points: expected latent points of shape \(N, 2\).*got \(2,\)"),
        (
            {"graph_points": torch.zeros(5, 2, dtype=torch.int64)},
            "graph_points: expected floating point, .* got torch.int64",
        ),
        (
            {"graph_points": torch.tensor([[0.0, 1.0], [0.0, math.nan]])},
            r"graph_points: expected finite.*\(0, nan\) in row 1",
        ),
        ({"graph_points": torch.ones(5, 2)}, "graph_points: expected at least 2 different ones, got 1"),
        ({"graph_points": torch.ones(0, 2)}, r"graph_points: expected latent points of shape \(N, 2\).*got \(0, 2\)"),
        ({"neighbors": 0}, "neighbors: expected an integer of at least 1, got 0"),
        ({"neighbors": True}, "neighbors: expected an integer of at least 1, got True"),
        ({"seed": -1}, "seed: expected an integer of at least 0, got -1"),
        ({"segments": 0}, "segments: expected an integer of at least 1, got 0"),
        ({"start": torch.zeros(3)}, r"end: expected the shape of start, \(3,\), got \(2,\)"),
        ({"end": torch.tensor([math.inf, 0.0], dtype=torch.float64)}, "end: expected finite coordinates, got inf"),
        (
            {"end": torch.zeros(2, dtype=torch.float32)},
            "end: expected the dtype of start, .* got torch.float32",
        ),
    ],
)
def test_what_cannot_be_used_is_named(arguments: dict[str, object], message: str) -> None:
    call = {"manifold": PLANE, "start": torch.zeros(2), "end": torch.ones(2), "segments": 4} | arguments
    with pytest.raises(geodesic.errors.InputError, match=message):
        geodesic.graph_path(**call)
