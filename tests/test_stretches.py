"""Polygons through many faces: cut into stretches, made taut piece by piece."""

import pytest
import torch
from torch import nn

import geodesic
from geodesic.geometry.stretches import Stretches
from geodesic.geometry.strips import Strips


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


@pytest.mark.slow
@pytest.mark.parametrize(("d", "width", "outputs"), [(2, 96, 3), (8, 64, 6)])
def test_paths_through_many_faces_are_certified(d, width, outputs):
    manifold = geodesic.PullbackManifold(network(d, width, outputs))
    generator = torch.Generator().manual_seed(1)
    a, b = (2 * torch.randn(2, 2, d, generator=generator, dtype=torch.float64)).unbind(1)
    solution = geodesic.solve(manifold, a, b)
    assert solution.polygon.all()
    assert (solution.segments > 40).any()
    assert solution.resolved.all()
    assert (solution.length <= solution.straight_length).all()
    if d == 2:
        exact = geodesic.solve(manifold, a, b, init=solution.path, length_rtol=1e-4)
        assert (exact.length / solution.length - 1).abs().max() <= 1e-3
