"""Every tool that builds on geodesics says once, and with their number, which of them cannot be relied on."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import geodesic
from geodesic import Manifold, Search
from geodesic.errors import GeodesicWarning
from geodesic.solvers.status import Status

SOON = geodesic.Stop(tol=0.3)  # doubts are counted for the answer, however many steps led there
TOOLS: dict[str, Callable[[Manifold, Tensor, Search], object]] = {
    "distance": lambda M, x, search: geodesic.distance(M, x[:1], x[1:], search=search),
    "length_ratio": lambda M, x, search: geodesic.riemannian.length_ratio(M, x[:1], x[1:], search=search),
    "Fréchet mean": lambda M, x, search: geodesic.frechet_mean(M, x, stop=SOON, search=search),
    "geometric median": lambda M, x, search: geodesic.frechet_median(M, x, stop=SOON, search=search),
    "k-means": lambda M, x, search: geodesic.k_means(M, x, 1, search=search),
    "k-medoids": lambda M, x, search: geodesic.k_medoids(M, x, 1, search=search),
    "principal geodesic analysis": lambda M, x, search: geodesic.principal_geodesic_analysis(
        M, x, mean=x[0], search=search
    ),
    "geodesic regression": lambda M, x, search: geodesic.geodesic_regression(
        M, torch.arange(len(x)).to(x), x, stop=SOON, search=search
    ),
    "analogy": lambda M, x, search: geodesic.analogy(
        M, x[0], x[1], x[2], follow=geodesic.Follow(method="discrete"), search=search
    ),
    "parallel transport": lambda M, x, search: geodesic.parallel_transport(
        M, geodesic.solve(M, x[:1], x[1:2], segments=search.segments), x[:1], transport="pole_ladder"
    ),
    "is_minimizing": lambda M, x, search: geodesic.is_minimizing(
        M, geodesic.solve(M, x[:1], x[1:], segments=search.segments), search=search, starts=0
    ),
}
each_tool = pytest.mark.parametrize("tool", TOOLS)


def stairs(z: Tensor) -> Tensor:
    return torch.cat([z, 2 * (z[:, :1] > 0.1).to(z)], dim=1)


def bowl(z: Tensor) -> Tensor:
    return torch.cat([z, 2 * z.square().sum(1, keepdim=True)], dim=1)


POINTS = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [-0.7, 0.8], [0.9, -0.4]])


def said(tool: str, decoder: Callable[[Tensor], Tensor], segments: int) -> tuple[list[str], object]:
    manifold = geodesic.PullbackManifold(decoder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GeodesicWarning)
        answer = TOOLS[tool](manifold, POINTS.to(torch.get_default_dtype()), Search(segments=segments))
    texts = [str(w.message) for w in caught if issubclass(w.category, GeodesicWarning)]
    return [text for text in texts if "may not be unique" not in text], answer


@pytest.mark.slow
@each_tool
def test_geodesics_across_a_jump_are_said_to_be_such(tool: str) -> None:
    texts, answer = said(tool, stairs, 8)
    assert len(texts) == 1
    assert texts[0].startswith(f"{tool}: of ")
    assert " jump)" in texts[0]
    assert "look for round, sign, argmax" in texts[0]
    status = getattr(answer, "status", None)
    if status is not None:
        assert bool((status == Status.JUMP).any())


@pytest.mark.slow
@each_tool
def test_geodesics_that_are_not_resolved_are_counted(tool: str) -> None:
    texts, _ = said(tool, bowl, 4)
    assert len(texts) == 1
    assert texts[0].startswith(f"{tool}: of ")
    assert "not resolved" in texts[0]
    assert "raise them in search=Search(segments=...)" in texts[0]


@pytest.mark.slow
def test_nothing_is_said_of_geodesics_that_can_be_relied_on() -> None:
    assert said("distance", bowl, 64)[0] == []
