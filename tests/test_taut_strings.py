"""Decoders of flat pieces, whose shortest paths are known exactly: the oracle itself, and `solve` beside it."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import geodesic
from scripts.benchmarks.kinks import oracle
from tests import windows
from tests.polyhedral import Polyhedron

START, END = np.array([-1.0, -0.3]), np.array([1.0, 0.5])


def network(seed: int) -> nn.Sequential:
    """A random decoder 2-8-8-4 with kinks, of rank 2 on each piece."""
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.1), nn.Linear(8, 8), nn.LeakyReLU(0.1), nn.Linear(8, 4))
    with torch.no_grad():
        for layer in layers[::2]:
            layer.weight.mul_(2.0)
    return layers.double()


def curves() -> nn.Sequential:
    """The decoder z -> (f(z_1), g(z_2)), two curves of straight pieces: f bends at -0.3 and 0, g at 0 and 0.2."""
    layers = nn.Sequential(nn.Linear(2, 4), nn.LeakyReLU(0.5), nn.Linear(4, 4)).double()
    with torch.no_grad():
        layers[0].weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        layers[0].bias.copy_(torch.tensor([0.0, -0.3, 0.0, 0.2]))
        layers[2].weight.copy_(torch.diag(torch.tensor([2.0, 1.0, 1.0, 3.0])))
        layers[2].bias.zero_()
    return layers


def chords(decoder: nn.Module, path: np.ndarray, fine: int = 400) -> float:
    """The length of a polygon in latent space, by the chords of many points."""
    times = np.linspace(0, len(path) - 1, fine * (len(path) - 1) + 1)
    points = np.stack([np.interp(times, np.arange(len(path)), path[:, k]) for k in range(path.shape[1])], 1)
    with torch.no_grad():
        return float(decoder(torch.from_numpy(points)).diff(dim=0).norm(dim=1).sum())


def test_windows_find_the_way_over_a_cube():
    corners = {k: np.array([(k >> axis) & 1 for axis in range(3)], dtype=float) for k in range(8)}
    names = {0: -1, 7: -2}
    faces, lengths = {}, {}
    for a, b, c, d in [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]:
        for triangle in ((a, b, c), (a, c, d)):
            for k in range(3):
                u, v, w = (triangle[(k + i) % 3] for i in range(3))
                faces[names.get(u, u), names.get(v, v)] = names.get(w, w)
                edge = sorted((names.get(u, u), names.get(v, v)))
                lengths[edge[0], edge[1]] = float(np.linalg.norm(corners[u] - corners[v]))
    assert windows.Front(faces, lengths).distance() == pytest.approx(math.sqrt(5))


@pytest.mark.slow
def test_flat_pieces_unfold_to_a_straight_line():
    decoder = curves()
    surface = Polyhedron(decoder)
    first = chords(decoder, np.array([[-1.0, 0.1], [-0.3, 0.1], [0.0, 0.1], [1.0, 0.1]]), fine=1)
    second = chords(decoder, np.array([[0.5, -0.3], [0.5, 0.0], [0.5, 0.2], [0.5, 0.5]]), fine=1)
    path = START + (END - START) * np.linspace(0, 1, 5)[:, None]
    length, corners = surface.taut_string(START, END, surface.strip(path))
    expected = math.hypot(first, second)
    assert windows.distance(surface, START, END) == pytest.approx(expected)
    solution = geodesic.solve(geodesic.PullbackManifold(decoder), torch.from_numpy(START), torch.from_numpy(END))
    assert solution.length.item() == pytest.approx(expected, rel=1e-3)
    assert length >= expected * (1 - 1e-12)
    assert bool(corners) == (length > expected * (1 + 1e-9))  # this strip passes the crossing on one side


@pytest.mark.parametrize("seed", range(4))
def test_taut_strings_lie_between_the_chord_and_the_path(seed):
    decoder = network(seed)
    surface = Polyhedron(decoder)
    path = np.stack([START, [0.2, -0.9], [0.3, 0.8], END])
    length, _ = surface.taut_string(START, END, surface.strip(path))
    shortest = windows.distance(surface, START, END)
    chord = np.linalg.norm(np.subtract(*decoder(torch.from_numpy(np.stack([START, END]))).detach().numpy()))
    assert chord <= shortest * (1 + 1e-12)
    assert shortest <= length * (1 + 1e-12)
    assert length <= chords(decoder, path)


def test_the_shortest_distance_is_symmetric():
    surface = Polyhedron(network(0))
    assert windows.distance(surface, START, END) == pytest.approx(windows.distance(surface, END, START), rel=1e-10)


@pytest.mark.slow
def test_no_resolved_length_across_kinks_is_below_the_shortest_path():
    generator = torch.Generator().manual_seed(0)
    for seed in range(2):
        decoder = network(seed)
        surface = Polyhedron(decoder)
        start, end = (2 * torch.rand(2, 2, generator=generator, dtype=torch.float64) - 1 for _ in range(2))
        solution = geodesic.solve(geodesic.PullbackManifold(decoder), start, end)
        shortest = [windows.distance(surface, a.numpy(), b.numpy()) for a, b in zip(start, end, strict=True)]
        resolved = solution.resolved
        assert resolved.any()
        ratio = solution.length / torch.tensor(shortest, dtype=torch.float64)
        assert bool((ratio >= 1 - 3 * solution.error)[resolved].all())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "ends"),
    [
        (535, [[-0.51263938, -0.86309112], [1.26666454, -0.12913031]]),  # a face ends just beside the corner
        (789, [[0.04435415, -0.06431445], [-0.36223613, 1.38017413]]),  # the next face is near, the next corner far
    ],
)
def test_corners_that_a_short_segment_hides_are_passed_on_the_shorter_side(seed, ends):
    decoder = oracle.network(seed)
    ends = torch.tensor(ends)
    solution = geodesic.solve(geodesic.PullbackManifold(decoder), ends[:1], ends[1:])
    case = oracle.Small(decoder, ends)
    _, local = case.local(solution.mesh[0].numpy())
    assert bool(solution.converged & solution.resolved)
    assert float(solution.length) <= local * (1 + max(3 * float(solution.error), 1e-6))


@pytest.mark.slow
def test_the_best_of_many_starts_lies_on_the_other_side_of_corners():
    decoder, ends = oracle.network(544), torch.tensor([[-0.07920417, -1.29128202], [0.25754853, -1.49869806]])
    manifold, points = geodesic.PullbackManifold(decoder), 1.5 * torch.randn(50, 2)
    solution = geodesic.solve(manifold, *ends, init="best", graph_points=points)
    both = [geodesic.solve(manifold, *ends), geodesic.solve(manifold, *ends, init="graph", graph_points=points)]
    assert bool(solution.converged & solution.resolved)
    assert float(solution.length) == pytest.approx(windows.distance(Polyhedron(decoder), *ends.numpy()), rel=1e-6)
    assert float(solution.length) < 0.999 * min(float(one.length) for one in both)
