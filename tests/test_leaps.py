"""What refinement meets where no mesh suits: bumps, ridges, folds, tolerances below rounding, little memory."""

import warnings

import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic import Manifold, Status
from geodesic.geometry.memory import _Peak
from tests.decoders import network, pairs
from tests.test_mesh import RIDGE, folded

SPACING = 1 / 96  # of the points at which 32 segments over a length of 1 are looked at, about
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def over_a_bump(width: float, count: int, dtype: torch.dtype = torch.float64) -> tuple[Manifold, Tensor, Tensor]:
    """A line with a bump at 0, and pairs at distance 1 which have it at random places between them."""
    torch.manual_seed(3)
    share = (0.1 + 0.8 * torch.rand(count, 1)).to(dtype)
    bump = geodesic.PullbackManifold(lambda z: torch.cat([z, 0.5 * torch.exp(-(z / width).square())], dim=1))
    return bump, -share, 1 - share


def length_over(width: float) -> float:
    t = torch.linspace(-8, 8, 20001)
    slope = -t / width * torch.exp(-t.square())
    return 1 + width * float(torch.trapezoid((1 + slope.square()).sqrt() - 1, t))


@pytest.mark.slow
def test_a_bump_of_the_width_of_what_is_looked_at_is_resolved_or_not_called_so() -> None:
    true = length_over(4 * SPACING)
    manifold, a, b = over_a_bump(4 * SPACING, 4)
    solution = geodesic.solve(manifold, a, b)
    assert int(solution.resolved.sum()) >= 3
    for lengths in (solution.length, solution.straight_length):
        assert ((lengths / true - 1).abs()[solution.resolved] < 3e-3).all()
    manifold, a, b = over_a_bump(SPACING, 4)
    coarse = geodesic.solve(manifold, a, b, segments=32, max_steps=20)
    assert not (coarse.resolved & ((coarse.length / length_over(SPACING) - 1).abs() > 3e-3)).any()


def gated(z: Tensor) -> Tensor:
    """A plane that is rough for z_2 > 2 alone, down to what no number of nodes resolves; of functions of numbers."""
    k = 2.0 ** torch.arange(1, 13, dtype=z.dtype)
    x, y = z[:, :1], z[:, 1:]
    rough = ((k * x).sin() / k).sum(1, keepdim=True)
    return torch.cat([x, y + 0.3 * x * x, torch.sigmoid(20 * (y - 2)) * rough], dim=1)


@pytest.mark.slow
@DTYPES
def test_a_pair_that_no_mesh_resolves_says_so_and_touches_no_other(dtype: torch.dtype) -> None:
    manifold = geodesic.PullbackManifold(gated)
    good = (
        torch.tensor([[-1.0, -0.5], [-0.8, 0.3], [0.2, 0.1]], dtype=dtype),
        torch.tensor([[1.0, 0.2], [0.9, -0.6], [-0.7, 0.8]], dtype=dtype),
    )
    bad = torch.tensor([[-1.0, 4.0]], dtype=dtype), torch.tensor([[1.0, 3.5]], dtype=dtype)
    a, b = (torch.cat([x[:1], y, x[1:]]) for x, y in zip(good, bad, strict=True))
    settings = {"max_steps": 40}
    mixed, alone = geodesic.solve(manifold, a, b, **settings), geodesic.solve(manifold, *good, **settings)
    assert mixed.resolved.tolist() == [True, False, True, True]
    assert int(mixed.status[1]) != Status.CONVERGED or int(mixed.segments[1]) > 32
    assert bool(mixed.length[1].isfinite())
    assert float(mixed.length[1]) <= float(mixed.straight_length[1]) * 1.01 or int(mixed.status[1]) == Status.JUMP
    assert Status(int(mixed.status[1])).remedy.split(":")[0] in mixed.summary()
    others = mixed[torch.tensor([0, 2, 3])]
    # Bit for bit but for sums over a path, whose products of matrices are rounded as their batch has it.
    rounding = 10 * torch.finfo(dtype).eps
    torch.testing.assert_close(others.path, alone.path, rtol=0, atol=rounding)
    torch.testing.assert_close(others.length, alone.length, rtol=rounding, atol=0)
    torch.testing.assert_close(others.error, alone.error, rtol=1e-2, atol=rounding)
    assert torch.equal(others.iterations, alone.iterations)


@pytest.mark.slow
@DTYPES
def test_errors_below_rounding_end_with_a_status_and_the_best_curve(dtype: torch.dtype) -> None:
    manifold = geodesic.PullbackManifold(network(activation=nn.Tanh).to(dtype))
    start, end = (x.to(dtype) for x in pairs(2))
    usual = geodesic.solve(manifold, start, end)
    solution = geodesic.solve(manifold, start, end, length_rtol=1e-9 if dtype == torch.float32 else 1e-15)
    assert not solution.resolved.any()
    assert (solution.length <= usual.length * (1 + 1e-3)).all()
    assert Status.NOT_SHORTER not in solution.status.tolist()  # by rounding alone
    assert "raise length_rtol" in solution.summary() or "float64 if this was float32" in solution.summary()
    with pytest.raises(geodesic.errors.InputError, match="length_rtol: expected at least"):
        geodesic.solve(manifold, start, end, length_rtol=1e-17)


@pytest.mark.slow
def test_a_straight_line_is_not_longer_than_itself_by_rounding() -> None:
    start, end = torch.tensor([-2.0, 0.5]), torch.tensor([-1.5, 0.4])
    assert int(geodesic.solve(RIDGE, start, end, length_rtol=1e-15).status) != Status.NOT_SHORTER


@pytest.mark.slow
@pytest.mark.parametrize("activation", [nn.ELU, nn.Tanh, nn.LeakyReLU])
def test_both_precisions_find_the_same(activation: type[nn.Module]) -> None:
    net, (a, b) = network(activation=activation), pairs(6)
    double = geodesic.solve(geodesic.PullbackManifold(net), a, b, tol=1e-4)
    single = geodesic.solve(geodesic.PullbackManifold(net.float()), a.float(), b.float(), tol=1e-4)
    both = double.resolved & single.resolved
    assert int(both.sum()) >= 3
    assert bool((double.polygon == single.polygon)[both].all())
    ratio = (double.segments / single.segments)[both & ~double.polygon]  # polygons have a node on each face
    assert ((ratio >= 0.5) & (ratio <= 2)).all()
    torch.testing.assert_close(single.length[both].double(), double.length[both], rtol=2e-3, atol=0)


@pytest.mark.slow
def test_what_1024_segments_hold_at_once_stays_within_memory() -> None:
    torch.manual_seed(1)
    manifold = geodesic.PullbackManifold(nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2000)).double().eval())
    start, end = torch.randn(2, 3, 2)
    memory = 3e7  # of which the matrices of the spline, that no plan knows of, take 25 MB

    def solved() -> geodesic.GeodesicSolution:
        return geodesic.solve(
            manifold, start, end, segments=512, length_rtol=1e-13, tol=1e-4, memory=memory, max_steps=3
        )

    solved()
    with _Peak() as watched:
        solution = solved()
    assert watched.peak < memory
    assert solution.plan.bytes <= memory


@pytest.mark.slow
@pytest.mark.parametrize(("d", "activation"), [(1, nn.ELU), (1, nn.ReLU), (2, nn.Tanh), (4, nn.Softplus), (8, nn.ELU)])
def test_no_answer_is_longer_than_what_is_known(d: int, activation: type[nn.Module]) -> None:
    manifold, (a, b) = geodesic.PullbackManifold(network(d, activation=activation)), pairs(2, d)
    own = geodesic.straight_path(a, b, 24)
    own = own + 0.2 * torch.sin(torch.pi * torch.linspace(0, 1, 25))[:, None]
    own[:, 0], own[:, -1] = a, b
    for settings in ({}, {"init": own}, {"init": own, "length_rtol": 1e-4}, {"init": "best"}):
        solution = geodesic.solve(manifold, a, b, **settings)
        known = geodesic.path_length(manifold, geodesic.straight_path(a, b, 512))
        if "init" in settings and isinstance(settings["init"], Tensor):
            known = known.minimum(geodesic.path_length(manifold, geodesic.refine_path(own, 512)))
        assert (solution.length <= known * (1 + 1e-3 + 3 * solution.error)).all()
        if d == 1:
            assert (solution.length / known >= 1 - 1e-3 - 3 * solution.error).all()


def test_what_is_said_of_unresolved_pairs_is_what_helps() -> None:
    start, end = torch.tensor([[-2.0, -1.0]]), torch.tensor([[2.0, 1.0]])
    near = torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.5], [0.9, -0.4]])
    bowl = geodesic.PullbackManifold(lambda z: torch.cat([z, 2 * z.square().sum(1, keepdim=True)], dim=1))
    assert ": leave segments out, or set length_rtol" in geodesic.solve(bowl, *near, segments=4).summary()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        geodesic.distance(RIDGE, start, end, search=geodesic.Search(length_rtol=1e-14, segments=512, max_steps=30))
    (text,) = [str(w.message) for w in caught if "distance:" in str(w.message)]
    assert "raise length_rtol" in text or "did not converge" in text
    assert "segments=..." not in text


@pytest.mark.slow
def test_a_decoder_that_is_nearly_discontinuous_ends_with_a_status_after_few_tries() -> None:
    torch.manual_seed(0)
    manifold = geodesic.PullbackManifold(lambda z: nn.functional.group_norm(z, 1))
    a, b = torch.randn(2, 1, 2)
    segments: list[int] = []
    solution = geodesic.solve(
        manifold, a, b, solver=geodesic.Newton(), callback=lambda told: segments.append(told.segments)
    )
    # Outputs between (1, -1) and (-1, 1) belong to a tiny strip, over which the nodes leap.
    assert solution.status.tolist() == [Status.NOT_SHORTER]
    assert max(segments) <= 128


@pytest.mark.slow
def test_the_remedy_of_a_fold_helps() -> None:
    manifold, a, b = folded()
    straight = geodesic.solve(manifold, a, b, segments=64)
    assert int(straight.status) == Status.NOT_SHORTER
    assert float(geodesic.solve(manifold, a, b, segments=64, init="best").length) < 0.75 * float(straight.length)
