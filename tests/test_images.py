"""Decoders of pictures: latent points with axes, ensembles, and what is held at once, however many coordinates."""

import itertools
import re
from collections.abc import Callable

import pytest
import torch
from torch import nn

import geodesic
from geodesic.door.door import visit
from geodesic.geometry.costs import Meter
from geodesic.geometry.memory import _Peak
from geodesic.geometry.pieces import InPieces


class Residual(nn.Sequential):
    """x plus what its layers make of x."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + super().forward(x)


def residual(channels: int) -> nn.Module:
    return Residual(nn.GroupNorm(4, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1))


def of_latent_images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1), residual(8), nn.Upsample(scale_factor=2), nn.Conv2d(8, 3, 3, padding=1)
    )


def convolutional(d: int = 8) -> nn.Module:
    return nn.Sequential(
        nn.Linear(d, 8 * 16),
        nn.Unflatten(1, (8, 4, 4)),
        nn.ELU(),
        nn.ConvTranspose2d(8, 4, 4, 2, 1),
        nn.ELU(),
        nn.ConvTranspose2d(4, 3, 4, 2, 1),
    )


def generator(d: int, widths: tuple[int, ...] = (32, 16)) -> nn.Module:
    """As DCGAN's, small, with statistics from noise."""
    layers: list[nn.Module] = [nn.ConvTranspose2d(d, widths[0], 4, bias=False)]
    for before, after in itertools.pairwise((*widths, 3)):
        layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.ConvTranspose2d(before, after, 4, 2, 1)]
    net = nn.Sequential(*layers, nn.Tanh()).requires_grad_(False)
    net(torch.randn(200, d, 1, 1))
    return net


DECODERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutional": (convolutional, (8,)),
    "generator": (lambda: generator(40), (40, 1, 1)),
    "of latent images": (of_latent_images, (4, 3, 3)),
}


def manifold_of(kind: str) -> geodesic.PullbackManifold:
    make, shape = DECODERS[kind]
    torch.manual_seed(1)
    return geodesic.PullbackManifold(make().eval(), latent_shape=shape)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DECODERS)
def test_image_decoders_are_solved_where_a_whole_path_does_not_fit(kind: str) -> None:
    manifold = manifold_of(kind)
    start, end = torch.randn(2, 1, *DECODERS[kind][1])
    free = geodesic.solve(manifold, start, end, segments=6, tol=1e-2)
    needed = InPieces(manifold, 1e9, Meter(manifold, start.reshape(1, -1))).bytes_of("product")
    bounded = geodesic.solve(manifold, start, end, segments=6, tol=1e-2, memory=1.1 * needed)
    assert re.search(r"[56] of 7 nodes at once", bounded.plan.words)
    assert bool(bounded.converged.all())
    torch.testing.assert_close(bounded.length, free.length, rtol=1e-2, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 16, 16)])
def test_latent_images_are_solved_end_to_end(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    manifold = geodesic.PullbackManifold(of_latent_images().eval(), latent_shape=shape)
    start = torch.randn(1, *shape)
    solution = geodesic.solve(manifold, start, start + torch.randn(1, *shape) / 2, segments=8, tol=1e-4)
    assert bool(solution.converged.all())
    assert solution.path.shape == (1, 9, *shape)
    assert (solution.lower_bound <= solution.length).all()
    assert (solution.length <= (1 + 1e-6) * solution.straight_length).all()
    assert solution.plan.certificate == "products"


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", [geodesic.EnsembleManifold, geodesic.IndependentEnsembleManifold])
def test_ensembles_of_convolutional_decoders_are_solved(ensemble: type[geodesic.Manifold]) -> None:
    torch.manual_seed(1)
    manifold = ensemble([convolutional().eval() for _ in range(3)])  # type: ignore[call-arg]
    solution = geodesic.solve(manifold, *torch.randn(2, 2, 8), segments=8, tol=1e-4)
    assert bool(solution.converged.all())
    assert (solution.energy < solution.initial_energy).all()


@pytest.mark.slow
def test_work_by_products_is_held_to_a_few_backward_passes_of_the_paths() -> None:
    torch.manual_seed(1)
    layers = [nn.Conv2d(4, 16, 3, padding=1), residual(16), nn.Upsample(scale_factor=4), residual(16)]
    decoder = nn.Sequential(*layers, nn.Conv2d(16, 3, 3, padding=1)).eval()
    manifold = geodesic.PullbackManifold(decoder, latent_shape=(4, 3, 3))
    start, end = torch.randn(2, 1, 4, 3, 3)
    plan = geodesic.solve(manifold, start, end, segments=8, max_steps=1).plan
    path = geodesic.straight_path(start.flatten(1), end.flatten(1), 8)
    with visit(), _Peak() as backward:
        manifold.chords_and_pullback(path)[1]()
    with _Peak() as whole:
        geodesic.solve(manifold, start, end, segments=8, max_steps=3, tol=1e-3, plan=plan)
    assert whole.peak <= 5 * backward.peak
