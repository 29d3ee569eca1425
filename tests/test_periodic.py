"""Periodic latent coordinates: points that differ by whole periods are one and the same, to every tool."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic import Manifold, Search
from geodesic.errors import InputError
from geodesic.geometry.copies import nearest_copies
from geodesic.geometry.period import checked_period, gathered, unwrapped

TURN = 2 * math.pi
CIRCLE = geodesic.PullbackManifold(lambda z: torch.cat([z.cos(), z.sin()], dim=-1), period=(TURN,))
CYLINDER = geodesic.PullbackManifold(geodesic.surfaces.Cylinder(radius=2.0).embed, period=(TURN, None))
FLAT = geodesic.PullbackManifold(geodesic.surfaces.FlatTorus(frequency=3.0).embed, period=(TURN / 3, TURN / 3))
COARSE = Search(segments=4)


def torus(major: float, minor: float = 1.0) -> Manifold:
    surface = geodesic.surfaces.Torus(major_radius=major, minor_radius=minor)
    return geodesic.PullbackManifold(surface.embed, period=(TURN, TURN))


class OfAnAngle(nn.Module):
    """A network of an angle and a number."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layers = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 6)).double().requires_grad_(False)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(torch.cat([z[:, :1].cos(), z[:, :1].sin(), z[:, 1:]], dim=1))


def metric(z: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([1.5 + z[..., 0].sin(), 1 + z[..., 1] ** 2], dim=-1))


def bump(angle: float) -> Manifold:
    """A flat cylinder with a hill at a place of height 0, which is easy to go round."""

    def conformal(z: Tensor) -> Tensor:
        square = 4 * ((z[..., 0] - angle) / 2).sin().square() + z[..., 1].square()
        return (1 + 4 * (-square / 0.08).exp())[..., None, None] ** 2 * torch.eye(2, dtype=z.dtype)

    return geodesic.MetricFunction(conformal, period=(TURN, None))


POINTS = torch.tensor([[0.2, 0.1], [1.0, -0.5], [3.0, 0.4], [6.1, 0.0], [5.0, 0.3]], dtype=torch.float64)
ROUND = (TURN, None)
KINDS: dict[str, Callable[[], Manifold]] = {
    "pullback": lambda: geodesic.PullbackManifold(OfAnAngle(0), period=ROUND),
    "distance": lambda: geodesic.PullbackManifold(
        nn.Sequential(OfAnAngle(0), nn.Unflatten(1, (2, 3))), geodesic.outputs.FisherRaoGaussian(), period=ROUND
    ),
    "ensemble": lambda: geodesic.EnsembleManifold([OfAnAngle(0), OfAnAngle(1)], period=ROUND),
    "independent": lambda: geodesic.IndependentEnsembleManifold([OfAnAngle(0), OfAnAngle(1)], period=ROUND),
    "metric": lambda: geodesic.MetricFunction(metric, ROUND),
    "local variance": lambda: geodesic.LocalVarianceManifold(POINTS, 0.7, 0.1, period=ROUND),
    "density": lambda: geodesic.DensityManifold(POINTS, 0.7, period=ROUND),
}


@pytest.mark.parametrize(
    ("manifold", "start", "end", "length"),
    [
        (torus(2.0), (0.3, 0.1), (0.3, TURN - 0.1), 0.5910),
        (torus(3.0), (0.0, 0.1), (0.0, TURN - 0.1), 0.8),
    ],
)
def test_a_torus_is_crossed_over_the_seam(manifold, start, end, length) -> None:
    a, b = torch.tensor(start), torch.tensor(end)
    solution = geodesic.solve(manifold, a, b)
    assert float(solution.length) == pytest.approx(length, abs=5e-5)
    assert bool(solution.resolved)
    assert solution.winding.tolist() == [0, -1]
    assert torch.equal(solution.path[0], a)
    torch.testing.assert_close(solution.path[-1], b - torch.tensor([0.0, TURN]), rtol=0, atol=1e-14)
    assert float(solution.straight_length) == pytest.approx(float(solution.length), rel=1e-3)


def round_the_circle(delta: Tensor, period: float) -> Tensor:
    return (delta + period / 2).remainder(period) - period / 2


@pytest.mark.parametrize(
    ("manifold", "distance"),
    [
        (CIRCLE, lambda delta: round_the_circle(delta, TURN).norm(dim=-1)),
        (FLAT, lambda delta: round_the_circle(delta, TURN / 3).norm(dim=-1)),
        (
            CYLINDER,
            lambda delta: torch.stack([2 * round_the_circle(delta[..., 0], TURN), delta[..., 1]], dim=-1).norm(dim=-1),
        ),
    ],
)
def test_flat_manifolds_have_the_distances_of_their_closed_forms(manifold, distance, tolerance) -> None:
    start, end = 10 * torch.randn(2, 12, len(manifold.period))
    solution = geodesic.solve(manifold, start, end, segments=4)
    torch.testing.assert_close(solution.length, distance(end - start), rtol=1e-8, atol=0)
    assert torch.equal(solution.path[:, 0], start)
    periods = torch.tensor([p or 0.0 for p in manifold.period])
    torch.testing.assert_close(solution.path[:, -1], end + solution.winding * periods, **tolerance(end.dtype))
    torch.testing.assert_close(solution.straight_length, solution.length, rtol=1e-2, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_periods_change_no_answer_and_no_pair_changes_another(kind: str) -> None:
    manifold = KINDS[kind]()
    start, end = torch.tensor([[0.2, 0.1], [0.4, -0.3]]), torch.tensor([[6.0, 0.5], [1.5, 0.2]])
    away, back = TURN * torch.tensor([[1.0, 0.0], [-2.0, 0.0]]), TURN * torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    both = torch.cat([start, start + away]), torch.cat([end, end + back])
    solution = geodesic.solve(manifold, *both, segments=4)
    first, moved = solution[:2], solution[2:]
    assert first.winding[:, 0].tolist() == [-1, 0]
    torch.testing.assert_close(moved.length, first.length, rtol=1e-6, atol=0)
    torch.testing.assert_close(moved.path - away[:, None], first.path, rtol=1e-4, atol=1e-5)
    assert torch.equal(moved.winding, first.winding + ((away - back) / TURN).round().long())
    alone = geodesic.solve(manifold, start[0], end[0], segments=4)
    torch.testing.assert_close(alone.path, first.path[0], rtol=1e-9, atol=1e-10)


def test_without_a_period_nothing_winds() -> None:
    solution = geodesic.solve(geodesic.surfaces.Cylinder(), torch.zeros(3, 2), torch.full((3, 2), 6.0), segments=4)
    assert torch.equal(solution.winding, torch.zeros(3, 2, dtype=torch.long))
    assert solution.length[0] == pytest.approx(72**0.5)


def test_a_point_and_its_copy_are_one_point() -> None:
    for a in (torch.tensor([0.1, 0.3]), torch.tensor([0.7, -2.0])):
        solution = geodesic.solve(CYLINDER, a, a + TURN * torch.tensor([3.0, 0.0]))
        assert float(solution.length) == 0
        assert bool(solution.converged)
        assert solution.winding.tolist() == [-3, 0]
        assert torch.equal(solution.path, a.expand(33, 2))


@pytest.mark.slow
def test_the_best_of_several_copies_may_be_one_with_a_longer_straight_line() -> None:
    a, b = torch.tensor([0.0, 0.0]), torch.tensor([2.4, 0.1])
    hill = bump(1.2)
    direct = geodesic.solve(hill, a, b, segments=8)
    cloud = torch.cartesian_prod(torch.linspace(0, 6, 16), torch.linspace(-0.8, 0.8, 5))
    best = geodesic.solve(hill, a, b, segments=8, init="best", graph_points=cloud)
    assert direct.winding.tolist() == [-1, 0]
    assert float(direct.length) == pytest.approx(math.hypot(TURN - 2.4, 0.1), rel=1e-3)
    assert best.winding.tolist() == [0, 0]
    assert float(best.length) < 3.2


def test_a_graph_leads_over_the_seam() -> None:
    a, b = torch.tensor([math.pi - 0.7, 0.0]), torch.tensor([0.7 - math.pi, 0.05])
    reached = torch.tensor([math.pi + 0.7, 0.05])
    hill = bump(math.pi)  # on the seam of the points that are drawn
    found = geodesic.graph_path(hill, a, b, segments=16)
    assert bool(found.connected)
    assert not bool(found.straight)
    assert torch.equal(found.path[0], a)
    torch.testing.assert_close(found.path[-1], reached, rtol=0, atol=1e-14)
    assert float(geodesic.path_length(hill, found.path)) < 2.4
    cloud = torch.stack([torch.linspace(0.0, 20.0, 200), 0.7 * torch.ones(200)], dim=1)
    given = geodesic.graph_path(hill, a, b, segments=16, graph_points=cloud, neighbors=5)
    torch.testing.assert_close(given.path[-1], reached, rtol=0, atol=1e-14)


def test_own_paths_may_end_at_any_copy() -> None:
    a, b = torch.tensor([0.5, 0.0]), torch.tensor([1.0, 1.0])
    twice = geodesic.straight_path(a, b + TURN * torch.tensor([2.0, 0.0]), 8)
    solution = geodesic.solve(CYLINDER, a, b, init=twice)
    assert solution.winding.tolist() == [2, 0]
    assert float(solution.length) == pytest.approx(math.hypot(2 * (2 * TURN + 0.5), 1), rel=1e-8)
    again = geodesic.solve(CYLINDER, a, b, init=solution.path)
    assert torch.equal(again.path[-1], solution.path[-1])
    with pytest.raises(InputError, match="init: its paths do not end at the points of `end`"):
        geodesic.solve(CYLINDER, a, b, init=twice + torch.linspace(0, 0.1, 9)[:, None])


def test_winding_has_the_shape_of_a_point_and_is_saved(tmp_path) -> None:
    manifold = geodesic.PullbackManifold(
        lambda z: torch.cat([z[:, :, 0].cos(), z[:, :, 0].sin()], dim=1), latent_shape=(2, 1), period=(TURN, TURN)
    )
    solution = geodesic.solve(manifold, torch.zeros(3, 2, 1), torch.full((3, 2, 1), 6.0), segments=4)
    assert torch.equal(solution.winding, torch.full((3, 2, 1), -1))
    solution.save(tmp_path / "solution.npz")
    loaded = geodesic.GeodesicSolution.load(tmp_path / "solution.npz")
    assert torch.equal(loaded[1:].winding, solution.winding[1:])


# --- maps ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ode", "discrete"])
def test_logarithms_lead_the_shorter_way_and_exponentials_run_on(method: str) -> None:
    a, b = torch.tensor([0.1, 0.0]), torch.tensor([TURN - 0.2, 1.0])
    there = geodesic.log_map(CYLINDER, a, b, follow=geodesic.Follow(method=method), search=COARSE)
    torch.testing.assert_close(there.vector, torch.tensor([-0.3, 1.0]), rtol=0, atol=1e-3)
    assert bool(there.converged)
    beyond = geodesic.exp_map(CYLINDER, a, 3 * there.vector, follow=geodesic.Follow(method=method, segments=4))
    torch.testing.assert_close(beyond.point, torch.tensor([-0.8, 3.0]), rtol=0, atol=1e-2)


def test_the_gradient_of_a_distance_is_that_to_the_copy() -> None:
    a, b = torch.tensor([0.1], requires_grad=True), torch.tensor([TURN - 0.1], requires_grad=True)
    length = geodesic.distance(CIRCLE, a, b, search=COARSE)
    length.backward()
    assert float(length.detach()) == pytest.approx(0.2, rel=1e-8)
    assert (float(a.grad), float(b.grad)) == pytest.approx((1.0, -1.0), rel=1e-6)


def test_an_encoder_of_one_turn_does_not_throw_a_shot_back() -> None:
    shot = geodesic.shoot(
        CIRCLE, torch.tensor([3.0]), torch.tensor([0.5]), encoder=lambda x: torch.atan2(x[:, 1:], x[:, :1])
    )
    assert float(shot.point) == pytest.approx(3.5, abs=1e-3)
    assert bool(shot.converged)


@pytest.mark.slow
def test_the_long_way_round_is_not_shortest() -> None:
    a, b = torch.tensor([0.1, 0.0]), torch.tensor([1.1, 0.2])
    long = geodesic.solve(CYLINDER, a, b, init=geodesic.straight_path(a, b - TURN * torch.tensor([1.0, 0.0]), 8))
    verdict = geodesic.is_minimizing(CYLINDER, long, starts=0)
    assert bool(long.minimum)
    assert bool(verdict.local_minimum)
    assert not bool(verdict.minimizing)
    assert float(verdict.competitor_length) == pytest.approx(math.hypot(2.0, 0.2), rel=1e-6)
    assert bool(geodesic.is_minimizing(CYLINDER, geodesic.solve(CYLINDER, a, b, segments=8), starts=0).minimizing)


# --- statistics ------------------------------------------------------------------------------------

NEAR_THE_SEAM = torch.tensor([[0.1, 0.0], [TURN - 0.3, 1.0], [0.2 - TURN, 2.0]], dtype=torch.float64)


@pytest.mark.slow
def test_means_know_the_seam() -> None:
    first = geodesic.frechet_mean(CYLINDER, NEAR_THE_SEAM, search=COARSE)
    assert bool(first.converged)
    assert bool(first.unique)
    torch.testing.assert_close(first.point, torch.tensor([0.0, 1.0]), rtol=0, atol=1e-3)
    assert float(first.variance) == pytest.approx(4 * 0.14 / 3 + 2 / 3, rel=1e-3)
    turns = TURN * torch.tensor([[1.0, 0.0], [0.0, 0.0], [-3.0, 0.0]])
    moved = geodesic.frechet_mean(CYLINDER, NEAR_THE_SEAM + turns, search=COARSE)
    torch.testing.assert_close(moved.distances, first.distances, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(unwrapped(CYLINDER.period, moved.point, first.point), first.point, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_medians_know_the_seam() -> None:
    median = geodesic.frechet_median(CYLINDER, NEAR_THE_SEAM, search=COARSE)
    assert bool(median.converged)
    assert bool(median.unique)
    assert -0.3 < float(median.point[0]) < 0.2
    assert float(median.distances.max()) < 2


def test_no_mean_is_called_unique_across_a_seam() -> None:
    angles = torch.tensor([[0.0], [2.0], [4.0]])
    assert not bool(geodesic.frechet_mean(CIRCLE, angles, search=COARSE).unique)
    assert bool(geodesic.frechet_mean(CIRCLE, angles / 2, search=COARSE).unique)


@pytest.mark.slow
def test_a_search_for_a_mean_changes_to_nearer_copies() -> None:
    """From a start on the other side, where most points lie the other way round."""
    points, start = torch.tensor([[0.0], [0.4], [0.8]]), torch.tensor([3.6])
    mean = geodesic.frechet_mean(CIRCLE, points, initial_point=start, search=COARSE)
    assert float(unwrapped(CIRCLE.period, mean.point, torch.zeros(1))) == pytest.approx(0.4, abs=1e-6)
    assert float(mean.variance) == pytest.approx(0.32 / 3, rel=1e-6)


@pytest.mark.parametrize("cluster", [geodesic.k_means, geodesic.k_medoids])
def test_clusters_reach_over_the_seam(cluster) -> None:
    angles = torch.tensor([0.1, TURN - 0.1, 0.2, 3.0, 3.2, 2.9])
    points = torch.stack([angles, torch.zeros(6)], dim=1)
    answer = cluster(CYLINDER, points, 2, search=COARSE)
    assert len(set(answer.labels[:3].tolist())) == len(set(answer.labels[3:].tolist())) == 1
    assert answer.labels[0] != answer.labels[3]
    assert float(answer.distances.max()) < 0.7


@pytest.mark.slow
def test_principal_geodesics_and_regression_know_the_seam() -> None:
    x = torch.arange(5.0)
    points = torch.stack([(6.0 + 0.2 * x).remainder(TURN), 0.1 * x], dim=1)
    axes = geodesic.principal_geodesic_analysis(CYLINDER, points, search=COARSE)
    assert float(axes.variances[0]) == pytest.approx(2 * (0.4**2 + 0.1**2), rel=1e-2)
    fit = geodesic.geodesic_regression(CYLINDER, x, points, search=COARSE)
    torch.testing.assert_close(fit.velocity, torch.tensor([0.2, 0.1]), rtol=0, atol=1e-3)
    assert float(fit.r_squared) == pytest.approx(1.0, abs=1e-4)


def test_points_are_gathered_in_the_turn_of_the_first() -> None:
    angles = torch.tensor([[[6.2 + 2 * TURN], [0.3], [-0.4], [0.2 - TURN]]])
    found = gathered((TURN,), angles, torch.ones(1, 4))
    torch.testing.assert_close(found[0, :, 0] - 2 * TURN, torch.tensor([6.2, TURN + 0.3, TURN - 0.4, TURN + 0.2]))


def test_many_periodic_coordinates_are_compared_one_by_one() -> None:
    decoder = geodesic.surfaces.FlatTorus(dimension=6).embed
    manifold = geodesic.PullbackManifold(decoder, period=(TURN,) * 6)
    start, end = torch.zeros(2, 6), torch.tensor([[6.0] * 6, [3.0, 3.3, 0.0, 9.0, -4.0, 6.0]])
    first, second = nearest_copies(manifold, start, end, most=2)
    torch.testing.assert_close(first.end, round_the_circle(end, TURN))
    assert not torch.equal(second.end, first.end)


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "said"),
    [
        ((0.0, None), r"period\[0\]: expected a positive number, got 0.0; write None for a coordinate without"),
        ((None, -1.0), r"period\[1\]: expected a positive number, got -1.0"),
        ((math.nan, None), r"period\[0\]: expected a positive number, got nan"),
        ((math.inf, None), r"period\[0\]: expected a positive number, got inf"),
    ],
)
def test_a_period_that_is_none_is_refused(period, said: str) -> None:
    makers = (
        lambda: geodesic.PullbackManifold(OfAnAngle(0), period=period),
        lambda: geodesic.MetricFunction(metric, period=period),
        lambda: geodesic.DensityManifold(POINTS, 1.0, period=period),
        lambda: geodesic.EnsembleManifold([OfAnAngle(0), OfAnAngle(1)], period=period),
    )
    for make in makers:
        with pytest.raises(InputError, match=said):
            make()


def test_what_is_no_list_of_periods_is_refused() -> None:
    with pytest.raises(InputError, match=r"period\[0\]: expected a positive number, got '2 pi'"):
        checked_period(["2 pi", None])
    with pytest.raises(InputError, match=r"period: expected an entry for each latent coordinate, .*, got 6\.28"):
        checked_period(TURN)
    assert checked_period([TURN, None]) == ROUND


TOOLS = {
    "solve": lambda M, z: geodesic.solve(M, z[0], z[1]),
    "distance": lambda M, z: geodesic.distance(M, z[0], z[1]),
    "exp_map": lambda M, z: geodesic.exp_map(M, z[0], z[1]),
    "mean": lambda M, z: geodesic.frechet_mean(M, z),
    "graph_path": lambda M, z: geodesic.graph_path(M, z[0], z[1]),
    "own paths": lambda M, z: geodesic.solve(M, z[0], z[1], init=geodesic.straight_path(z[0], z[1], 4)),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_period_for_other_coordinates_is_refused_by_every_tool(tool: str) -> None:
    with pytest.raises(InputError, match="period: expected an entry for each of the 2 latent coordinates, got 3"):
        TOOLS[tool](geodesic.PullbackManifold(OfAnAngle(0), period=(TURN, None, None)), torch.eye(2))


@pytest.mark.parametrize(
    ("tool", "period"),
    [*((tool, (TURN / 2, None)) for tool in TOOLS), ("solve", (6.283, None)), ("solve", (TURN, 1.0))],
)
def test_a_period_that_the_decoder_has_not_is_refused_by_every_tool(tool: str, period) -> None:
    k = 1 if period[1] else 0
    with pytest.raises(
        InputError, match=rf"period\[{k}\]: expected g\(z \+ .*\) = g\(z\) in coordinate {k}, got values"
    ):
        TOOLS[tool](geodesic.PullbackManifold(OfAnAngle(0), period=period), torch.eye(2))


def test_a_period_that_a_metric_has_not_is_refused_behind_an_offset_too() -> None:
    with pytest.raises(InputError, match=r"period\[0\]: expected"):
        geodesic.solve(geodesic.MetricFunction(metric, period=(TURN / 2, None)), torch.zeros(2), torch.ones(2))
    small = OfAnAngle(0)
    offset = geodesic.PullbackManifold(lambda z: 1e3 + 1e-3 * small(z), period=(TURN / 2, None))
    with pytest.raises(InputError, match=r"period\[0\]: expected"):
        geodesic.solve(offset, torch.zeros(2), torch.ones(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_far_from_the_origin_is_no_other_value(dtype: torch.dtype) -> None:
    manifold = geodesic.PullbackManifold(OfAnAngle(0).to(dtype), period=ROUND)
    start, end = torch.tensor([[50.2, 0.1], [56.0, 0.5]], dtype=dtype)
    assert bool(geodesic.solve(manifold, start, end, segments=8).converged)


def test_the_period_is_part_of_what_a_manifold_says() -> None:
    assert repr(CYLINDER).endswith("period=(6.28319, None))")
    assert "period=(6.28319, None)" in repr(KINDS["ensemble"]())
    assert geodesic.PullbackManifold(OfAnAngle(0), period=(None, None)).period is None
