"""Kinds of decoder times tools: each cell a value, against differences of the decoder's values, or a refusal.

`docs/decoders.md` shows the table; `python -m scripts.benchmarks decoders` prints it from what the tools do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import geodesic
from geodesic.door.derivatives import FORWARD_ONLY
from geodesic.errors import DecoderError, GeodesicError
from tests import differences
from tests.kinds import KINDS, TOOLS, Kind, table

# Kinds of which it takes long to find out how they are differentiated, by whatever tool.
SEARCHED = ("compiled, inductor", "straight-through", "Function, once", "no_grad branch", "detached branch")


def slow(kind: Kind, tool: str) -> bool:
    """Whether a cell takes long; refusals are found out anew by each tool, and most of one of them are quick."""
    return tool in ("log", "exp", "mean") or bool(kind.lost) or (tool != "metric" and "*" in kind.refused)


WHAT = [
    pytest.param(name, tool, marks=pytest.mark.slow if name in SEARCHED or slow(kind, tool) else ())
    for name, kind in KINDS.items()
    for tool in TOOLS
]

A, B = torch.tensor([-0.3, -0.15]).double(), torch.tensor([0.4, 0.25]).double()
POINTS = torch.tensor([[0.31, -0.42], [-0.73, 0.17], [0.52, 0.66]]).double()
V, W = torch.tensor([0.4, -0.25]).double(), torch.tensor([-0.2, 0.5]).double()


Answer = TypeVar("Answer")


class NotConverged(Exception):
    """An answer says so."""


def converged(answer: Answer) -> Answer:
    if not bool(answer.converged.all()):
        raise NotConverged
    return answer


class Case:
    """A kind of decoder with what its cells share."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.manifold = geodesic.PullbackManifold(kind.make())
        self.values = (kind.values or kind.make)()
        self.single = kind.dtype == torch.float32
        self.rough = kind.kinked or kind.creased
        exact = geodesic.Follow(method="ode", rtol=1e-4) if kind.seen == 2 else geodesic.Follow()
        self.follow = geodesic.Follow(method="discrete") if self.rough else exact

    def give(self, *points: Tensor) -> list[Tensor]:
        return [x.to(self.kind.dtype) for x in points]

    def restricted(self, z: Tensor) -> Tensor:
        """The decoder as a function of the coordinates that it sees."""
        return self.values(torch.nn.functional.pad(z, (0, 2 - z.shape[1])))

    @functools.cached_property
    def solution(self) -> geodesic.GeodesicSolution:
        return geodesic.solve(self.manifold, *self.give(A, B))

    @functools.cached_property
    def dense(self) -> tuple[Tensor, Tensor]:
        """The solution's path with many nodes, and the arc lengths there, by chords."""
        nodes = self.solution.arc[: int(self.solution.segments) + 1]
        times = torch.cat([torch.linspace(0, 1, 2001).to(nodes), nodes]).unique()  # a polygon has corners at its nodes
        path = self.solution(times).double()
        chords = self.values(path).flatten(1).diff(dim=0).norm(dim=1)
        return path, torch.nn.functional.pad(chords.cumsum(0), (1, 0))

    def near(self, found: Tensor, expected: Tensor, smooth: float, rough: float, single: float = 2e-2) -> None:
        tolerance = single if self.single else rough if self.rough else smooth
        scale = float(expected.abs().amax())
        assert_close(found.detach().double(), expected, rtol=0, atol=tolerance * max(scale, 1e-3))


def metric(case: Case) -> None:
    found = case.manifold.metric_tensor(*case.give(POINTS))
    case.near(found, differences.metric(case.values, POINTS), 1e-8, 1e-8, single=1e-4)


def solve(case: Case) -> None:
    solution = converged(case.solution)
    even = solution if int(solution.segments) == 32 else geodesic.solve(case.manifold, *case.give(A, B), segments=32)
    _require_stationary(case, converged(even).path.double())
    _, arc = case.dense
    assert abs(float(solution.length) / float(arc[-1]) - 1) < 1e-5 + 4 * float(solution.error)
    assert bool(solution.resolved) or case.kind.creased


def _require_stationary(case: Case, path: Tensor) -> None:
    """No smooth change of a path changes its energy, as far as values show."""
    waves = _waves(path)
    slopes = differences.energy_slope(case.values, path, waves)
    case.near(slopes / differences.energy(case.values, path), torch.zeros(len(waves)), 50, 50, single=50)


def _waves(path: Tensor) -> Tensor:
    t = torch.linspace(0, 1, len(path))[:, None]
    return torch.stack([torch.sin(torch.pi * k * t) * e for k in (1, 2, 3) for e in torch.eye(2)])


def log(case: Case) -> None:
    most = 2 if "log" in case.kind.lost else 8
    found = converged(
        geodesic.log_map(
            case.manifold, *case.give(A, B), follow=case.follow, solution=case.solution, max_iterations=most
        )
    )
    if case.rough:
        path, _ = case.dense
        expected = _at_unit_speed(case, path[0], path[1] - path[0])[0] * case.dense[1][-1]
    else:
        n, vector = case.kind.seen, found.vector.detach().double()
        end = differences.follow(case.restricted, A[None, :n], vector[None, :n])
        case.near(end[0], B[:n], 5e-3, 0)
        return
    case.near(found.vector, expected, 0, 0.1 if case.kind.creased else 3e-2)


def _at_unit_speed(case: Case, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """V / |v| at z, and its gradient G v / |v|."""
    G = differences.metric(case.values, z[None])[0]
    unit = v / (v @ G @ v).sqrt()
    return unit, G @ unit


def curvature(case: Case) -> None:
    found = geodesic.riemannian.scalar_curvature(case.manifold, *case.give(POINTS))
    plane = case.kind.seen == 2  # a line has none
    case.near(found, differences.scalar_curvature(case.values, POINTS) if plane else 0 * POINTS[:, 0], 1e-5, 1e-5)


def exp(case: Case) -> None:
    follow = geodesic.Follow(segments=512) if case.kind.affine else case.follow
    found = converged(geodesic.exp_map(case.manifold, *case.give(A, V), follow=follow))
    if case.rough:
        path = found.path.double()
        if case.kind.affine:  # nodes do not lie on the creases: there is no derivative to vanish
            near = torch.stack([path + sign * 0.03 * wave for wave in _waves(path) for sign in (-1, 1)])
            assert (differences.energy(case.values, near) > differences.energy(case.values, path)).all()
        else:
            _require_stationary(case, path)
        G = differences.metric(case.values, path[[0, -1]])
        v = found.velocity.double()[[0, -1]]
        speeds = (v[:, None] @ G @ v[..., None]).flatten().sqrt()
        case.near(speeds[1:], speeds[:1], 0, 3e-2)
        return
    n = case.kind.seen
    end = differences.follow(case.restricted, A[None, :n], V[None, :n])
    case.near(found.point[:n], end[0], 2e-3, 0)


def transport(case: Case) -> None:
    path, _ = case.dense
    way = None if case.kind.affine else "projection" if case.rough else "connection"
    found = converged(
        geodesic.parallel_transport(case.manifold, converged(case.solution), *case.give(W), transport=way)
    )
    # In a plane a vector is carried with its length and its angle to the geodesic.
    ends = [_at_unit_speed(case, path[i], path[j] - path[k])[1] for i, j, k in ((0, 1, 0), (-1, -1, -2))]
    G = differences.metric(case.values, path[[0, -1]])
    w = torch.stack([W, found.vector.double()])
    along = torch.stack([w[i] @ ends[i] for i in (0, 1)])
    size = (w[:, None] @ G @ w[..., None]).flatten().sqrt()
    if not case.kind.creased:  # where the angle is carried by the creases alone
        assert_close(along[1] / size[0], along[0] / size[0], rtol=0, atol=5e-2 if case.rough or case.single else 1e-2)
    case.near(size[1:], size[:1], 1e-3, 5e-2)


def mean(case: Case) -> None:
    points = torch.stack(case.give(A, B))
    stop = geodesic.Stop(tol=1e-3, max_iterations=4 if "mean" in case.kind.lost else 30)
    # On a crease the gradient jumps, and one start may end there.
    start, search = None if case.kind.creased else points.mean(0), geodesic.Search(segments=16)
    found = converged(geodesic.frechet_mean(case.manifold, points, initial_point=start, stop=stop, search=search))
    path, arc = case.dense
    middle = path[int((arc < arc[-1] / 2).sum())]
    n, atol = case.kind.seen, 0.1 if case.kind.creased else 2e-2 if case.rough or case.single else 2e-3
    assert_close(found.point.double()[:n], middle[:n], rtol=0, atol=atol)


def gradient(case: Case) -> None:
    converged(case.solution)
    ends = [x.clone().requires_grad_() for x in case.give(A, B)]
    found = torch.autograd.grad(geodesic.distance(case.manifold, *ends), ends)
    path, _ = case.dense
    slopes = [_at_unit_speed(case, path[i], path[j] - path[k])[1] for i, j, k in ((0, 0, 1), (-1, -1, -2))]
    case.near(torch.cat(found), torch.cat(slopes), 5e-3, 0.3 if case.kind.creased else 5e-2)


CELLS: dict[str, Callable[[Case], None]] = {
    "metric": metric,
    "solve": solve,
    "log": log,
    "curvature": curvature,
    "exp": exp,
    "transport": transport,
    "mean": mean,
    "gradient": gradient,
}


# --- the table --------------------------------------------------------------------------------


@functools.cache
def case_of(name: str) -> Case:
    return Case(KINDS[name])


@pytest.mark.filterwarnings("ignore::geodesic.errors.GeodesicWarning")  # of what has not converged: cells look at that
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # of reentrant checkpoints
@pytest.mark.parametrize(("name", "tool"), WHAT)
def test_every_tool_is_right_for_every_kind_or_says_why_not(name: str, tool: str) -> None:
    kind = KINDS[name]
    if tool in kind.lost:
        with pytest.raises(NotConverged):
            CELLS[tool](case_of(name))
    elif (pattern := kind.reason(tool)) is not None:
        with pytest.raises(GeodesicError, match=pattern):
            CELLS[tool](case_of(name))
    else:
        CELLS[tool](case_of(name))


def test_the_table_in_the_docs_is_that_of_these_cells() -> None:
    page = (Path(__file__).parent.parent / "docs" / "decoders.md").read_text(encoding="utf-8")
    assert "\n".join(table()) in page


# --- known answers ----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_branch_under_no_grad_counts() -> None:
    manifold = geodesic.PullbackManifold(KINDS["no_grad branch"].make())
    start, end = torch.tensor([0.3, -0.4]), torch.tensor([1.3, 0.1])
    for method in ("ode", "discrete"):
        found = geodesic.log_map(manifold, start, end, follow=geodesic.Follow(method=method, segments=64))
        assert found.vector.tolist() == pytest.approx([0.8532, 0.4368], abs=1e-4 if method == "ode" else 2e-3)
    assert float(geodesic.riemannian.scalar_curvature(manifold, start)) == pytest.approx(-0.02774, abs=1e-5)
    with pytest.raises(DecoderError, match=r"as under torch\.no_grad"):
        geodesic.distance(manifold, start.clone().requires_grad_(), end)
    with torch.no_grad():
        length = geodesic.distance(manifold, start.clone().requires_grad_(), end)
    assert float(length) == pytest.approx(float(found.length), rel=1e-4)


def test_a_branch_under_no_grad_counts_for_distances_of_distributions_too() -> None:
    kind = KINDS["no_grad branch"]

    def gaussian(f: Callable[[Tensor], Tensor]) -> geodesic.PullbackManifold:
        return geodesic.PullbackManifold(lambda z: f(z).unflatten(1, (2, 10)), geodesic.outputs.FisherRaoGaussian())

    one, other = gaussian(kind.make()), gaussian(kind.values())
    path, direction = torch.randn(2, 6, 2), torch.randn(2, 4, 2)
    parts = [m.gradient_and_product(path) for m in (one, other)]
    assert one.way(path) is FORWARD_ONLY
    for found, expected in zip(*((c, g, product(direction)) for c, g, product in parts), strict=True):
        assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["cdist", "scaled_dot_product_attention"])
def test_operators_that_are_written_out_have_the_values_of_plain_ones(name: str) -> None:
    kind = KINDS[name]
    one, other = (geodesic.PullbackManifold(f()) for f in (kind.make, kind.values))
    close = functools.partial(assert_close, rtol=1e-12, atol=1e-12)
    close(one.metric_tensor(POINTS), other.metric_tensor(POINTS))
    close(geodesic.solve(one, A, B).length, geodesic.solve(other, A, B).length)
    curvature = geodesic.riemannian.scalar_curvature
    assert_close(curvature(one, POINTS), curvature(other, POINTS), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["LayerNorm", "InstanceNorm2d"])
def test_second_derivatives_of_normalizations_are_not_those_that_torch_takes(name: str) -> None:
    net = KINDS[name].make()
    manifold = geodesic.PullbackManifold(net)
    z, v = POINTS, V.expand_as(POINTS)
    bent = manifold.way(z).second(manifold.door, z, v, v).flatten(1)
    expected = differences.bend(net, z, v, v)
    assert_close(bent, expected, rtol=1e-5, atol=1e-6)
    jvp = geodesic.autodiff.jvp
    wrong = jvp(lambda z: jvp(net, z, v), z, v).flatten(1)
    assert float((wrong - expected).abs().amax()) > 1e-2  # or torch has mended it, and we need not write it out


@pytest.mark.slow
def test_a_compiled_decoder_is_compiled_for_its_own_calls_alone() -> None:
    calls = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        calls.append(graph)
        return graph.forward

    net = torch.compile(KINDS["Tanh"].make(), backend=backend)
    manifold = geodesic.PullbackManifold(net)
    geodesic.solve(manifold, A, B)
    manifold.metric_tensor(POINTS)
    assert not calls
    net(POINTS)
    assert len(calls) == 1
