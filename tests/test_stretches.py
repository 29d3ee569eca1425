"""Polygons through many faces: cut into stretches, made taut piece by piece."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import geodesic
from geodesic.door.faces import Faces, faces_of
from geodesic.geometry.stretches import Stretches
from geodesic.geometry.strips import Strips
from geodesic.solvers.taut import Effort, Polygons, crossing, tighten, tightening
from geodesic.solvers.taut.polygons import Found, Pieces
from geodesic.solvers.taut.steps import Steps


def network(d: int, width: int, outputs: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Linear(d, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    )
    with torch.no_grad():
        for layer in layers[::2]:
            layer.weight.mul_(2.0)
    return layers.double().requires_grad_(False)


def polygons() -> Strips:
    """Two polygons, of 7 and of 3 nodes, some of them on faces."""
    nodes = torch.arange(20.0, dtype=torch.float64).reshape(10, 2)
    pair = torch.tensor([0] * 7 + [1] * 3)
    units = torch.tensor([[-1], [4], [-1], [2], [3], [-1], [-1], [-1], [8], [-1]])
    return Strips(nodes, pair, units)


@pytest.mark.parametrize("shift", [1, 2])
def test_stretches_that_are_joined_again_are_the_polygons(shift):
    strips = polygons()
    parts = Stretches.of(strips, 2, shift)
    nodes, pair, within = parts.joined(parts.strips)
    assert torch.equal(nodes, strips.nodes)
    assert torch.equal(pair, strips.pair)
    assert torch.equal(within, strips.within)
    assert parts.strips.pair.bincount().tolist() == ([2, 3, 3, 2, 2, 2] if shift == 1 else [3, 3, 3, 3])
    assert parts.owner.tolist() == ([0, 0, 0, 0, 1, 1] if shift == 1 else [0, 0, 0, 1])


def through_many_faces() -> tuple[geodesic.PullbackManifold, Faces, Polygons]:
    """A straight line through more than a hundred faces."""
    manifold = geodesic.PullbackManifold(network(2, 96, 3))
    line = torch.tensor([[-3.0, 1.0], [3.0, -2.0]], dtype=torch.float64)
    faces = faces_of(manifold.embed, line)
    polygons = Polygons(line, torch.zeros(2, dtype=torch.long), torch.zeros(2, dtype=torch.bool))
    strips, _ = crossing(manifold, faces, polygons, curved=False)
    assert len(strips.nodes) > 100
    return manifold, faces, Polygons(strips.nodes, strips.pair, strips.within)


@pytest.mark.slow
def test_what_the_last_of_too_many_steps_gained_counts_as_left(monkeypatch):
    manifold, faces, polygons = through_many_faces()
    better, lengths = tightening._Tightening.better, []

    def promising_nothing(self, strips, length, blocks, shift=None):
        ends, found = better(self, strips, length, blocks, shift)
        if len(length) > 1:  # stretches
            return ends, found
        lengths.append(length.clone())
        return replace(ends, excess=torch.zeros_like(ends.excess)), found

    monkeypatch.setattr(tightening._Tightening, "better", promising_nothing)
    found = tighten(manifold, faces, polygons, Effort(1e-3, most=6), curved=False, many=True)
    assert found.steps == len(lengths) == 12  # in two stages
    torch.testing.assert_close(found.excess, 2 * (lengths[10] / found.length - 1))
    assert found.excess > 1e-3


def test_stretches_go_on_where_the_whole_polygon_does_not_move(monkeypatch):
    manifold, faces, polygons = through_many_faces()
    best = Steps.best

    def of_short_ones(self, length, model, loose, long):
        if len(self.strips.nodes) > 2 * len(self.strips.pair.unique()) * tightening._SIZE:
            return Found(self.strips, length), torch.full_like(length, torch.nan)
        return best(self, length, model, loose, long)

    monkeypatch.setattr(Steps, "best", of_short_ones)
    monkeypatch.setattr(tightening, "_SHIFTS", (8, 16))
    begun = crossing(manifold, faces, polygons, curved=False)[1]
    assert tighten(manifold, faces, polygons, Effort(1e-3, most=3), curved=False, many=True).length < 0.99 * begun


def test_no_step_moves_a_node_farther_than_its_polygon_is_long():
    manifold, faces, polygons = through_many_faces()
    pieces = Pieces.around(polygons, manifold, faces, curved=False)
    strips = pieces.crossed(polygons)
    step = torch.randn(1, len(strips.nodes) - 2, 2, dtype=torch.float64)
    length = strips.nodes.diff(dim=0).norm(dim=1).sum()
    steps = Steps(pieces, strips)
    assert steps.limited(1e9 * step).norm(dim=2).max() == pytest.approx(float(length))
    assert torch.equal(steps.limited(1e-3 * step), 1e-3 * step)


@pytest.mark.slow
@pytest.mark.parametrize(("d", "width", "outputs", "seed"), [(2, 96, 3, 1), (8, 64, 20, 3)])
def test_paths_through_many_faces_are_certified(d, width, outputs, seed):
    manifold = geodesic.PullbackManifold(network(d, width, outputs))
    generator = torch.Generator().manual_seed(seed)
    a, b = (2 * torch.randn(2, 2, d, generator=generator, dtype=torch.float64)).unbind(1)
    solution = geodesic.solve(manifold, a, b)
    assert solution.polygon.all()
    assert (solution.segments > 40).any()
    assert solution.resolved.any()  # in many dimensions paths end where many faces meet, which not always shows
    assert (solution.length <= solution.straight_length).all()
    if d == 2:
        assert solution.resolved.all()
        exact = geodesic.solve(manifold, a, b, init=solution.path, length_rtol=1e-4)
        assert (exact.length / solution.length - 1).abs().max() <= 1e-3


@pytest.mark.slow
def test_paths_through_many_faces_are_certified_in_float32():
    decoder = nn.Sequential(network(2, 64, 50), nn.Sigmoid()).float()  # its pieces are curved
    generator = torch.Generator().manual_seed(1)
    a, b = (2 * torch.randn(8, 2, 2, generator=generator, dtype=torch.float32)).unbind(1)
    solution = geodesic.solve(geodesic.PullbackManifold(decoder), a, b)
    assert solution.polygon.all()
    assert solution.resolved.all()
