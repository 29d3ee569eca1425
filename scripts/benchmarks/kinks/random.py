"""Networks of ReLUs with large random weights, beside the same with smooth activations."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import geodesic
from scripts.benchmarks.kinks.measure import LONGER, curve_length, led_on, outcome, polygon_length, solved

__all__ = ["NETWORKS", "rows"]

WEIGHTS = 3.0


class Network(NamedTuple):
    """A decoder of two hidden layers, linear at its end, all of whose weights are three times torch's.

    Args:
        d: Latent coordinates.
        width: Of both hidden layers.
        outputs: D. With few of them kinks are sharp.
        activation: Between them.
    """

    d: int
    width: int
    outputs: int
    activation: type[nn.Module]

    def build(self, seed: int = 0) -> nn.Module:
        """The module, in float64."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sizes = ((self.d, self.width), (self.width, self.width), (self.width, self.outputs))
            layers = [nn.Linear(*size, dtype=torch.float64) for size in sizes]
        with torch.no_grad():
            for layer in layers:
                layer.weight.mul_(WEIGHTS)
        act = self.activation
        return nn.Sequential(layers[0], act(), layers[1], act(), layers[2]).requires_grad_(False)


_KINDS = {"relu": nn.ReLU, "elu": nn.ELU, "softplus": nn.Softplus}
_SHAPES = ((2, 128, 20), (8, 128, 20), (2, 128, 3), (2, 96, 3))
NETWORKS = {
    f"{d}-{width}-{width}-{outputs}-{name}": Network(d, width, outputs, act)
    for d, width, outputs in _SHAPES
    for name, act in _KINDS.items()
}


def ends(d: int, pairs: int) -> tuple[Tensor, Tensor]:
    """Random endpoints, twice as far apart as those of a standard normal distribution."""
    generator = torch.Generator().manual_seed(1)
    start, end = (2 * torch.randn(pairs, 2, d, generator=generator, dtype=torch.float64)).unbind(1)
    return start, end


def rows(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Certificates, and how many curves are longer than the straight line."""
    for name in options.networks:
        network = NETWORKS[name]
        manifold = geodesic.PullbackManifold(network.build())
        start, end = ends(network.d, options.random_pairs)
        solution, seconds = solved(manifold, start, end)
        straight = polygon_length(manifold, torch.stack([start, end], 1))
        longer = curve_length(manifold, solution) > straight * (1 + LONGER)
        said = solution.length > solution.straight_length * (1 + 1e-9)
        counted = {"longer than straight": int(longer.sum()), "by its own word": int(said.sum())}
        yield name, outcome(solution, seconds) | counted | led_on(manifold, solution, options.again)
