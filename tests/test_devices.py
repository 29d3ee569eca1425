"""Every Riemannian tool stays on the device of its input."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic import Manifold


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 5)).double().eval()


def named(name: str) -> Callable[..., object]:
    return getattr(geodesic if hasattr(geodesic, name) else geodesic.riemannian, name)


TOOLS: dict[str, Callable[[Manifold, Tensor, Tensor], object]] = {
    "exp_map": lambda M, z, v: geodesic.exp_map(M, z, v, follow=geodesic.Follow(rtol=1e-3)),
    "exp_map, discrete": lambda M, z, v: geodesic.exp_map(
        M, z, v, follow=geodesic.Follow(method="discrete", segments=4)
    ),
    "log_map": lambda M, z, v: geodesic.log_map(
        M, z, z + v, follow=geodesic.Follow(rtol=1e-3), search=geodesic.Search(segments=8)
    ),
    "log_map, graph": lambda M, z, v: geodesic.log_map(
        M, z, z + v, follow=geodesic.Follow(method="discrete"), search=geodesic.Search(segments=8, init="graph")
    ),
    "shoot": lambda M, z, v: geodesic.shoot(M, z, v, segments=4),
    "distance": lambda M, z, v: (
        geodesic.distance(M, z, (z + v).requires_grad_(), search=geodesic.Search(segments=8)).sum().backward()
    ),
    "length_ratio": lambda M, z, v: geodesic.riemannian.length_ratio(M, z, z + v, search=geodesic.Search(segments=8)),
    **{
        f"parallel_transport, {method}": lambda M, z, v, method=method: geodesic.parallel_transport(
            M, geodesic.straight_path(z, z + v, 4), v, transport=method
        )
        for method in ("connection", "pole_ladder", "schild_ladder", "projection")
    },
    "analogy": lambda M, z, v: geodesic.analogy(
        M, z, z + v / 2, z - v / 2, follow=geodesic.Follow(rtol=1e-3), search=geodesic.Search(segments=8)
    ),
    "frechet_mean": lambda M, z, v: geodesic.frechet_mean(M, z, search=geodesic.Search(segments=4)),
    "frechet_mean, ode": lambda M, z, v: geodesic.frechet_mean(
        M,
        z,
        torch.ones_like(z[:, 0]),
        follow=geodesic.Follow(method="ode"),
        search=geodesic.Search(segments=4),
    ),
    "frechet_median": lambda M, z, v: geodesic.frechet_median(M, z, search=geodesic.Search(segments=4)),
    "k_means": lambda M, z, v: geodesic.k_means(M, z, 2, search=geodesic.Search(segments=4)),
    "k_medoids": lambda M, z, v: geodesic.k_medoids(M, z, 2, search=geodesic.Search(segments=4)),
    "principal_geodesic_analysis": lambda M, z, v: geodesic.principal_geodesic_analysis(
        M,
        z,
        search=geodesic.Search(segments=4),
    ),
    "geodesic_regression": lambda M, z, v: geodesic.geodesic_regression(
        M,
        v[:, 0],
        z,
        search=geodesic.Search(segments=4),
    ),
    "geodesic_regression, ode": lambda M, z, v: geodesic.geodesic_regression(
        M,
        v[:, 0],
        z,
        follow=geodesic.Follow(method="ode"),
        stop=geodesic.Stop(tol=1e-4),
        search=geodesic.Search(segments=4),
    ),
    "riemannian_normal": lambda M, z, v: geodesic.riemannian_normal(
        M, z, 0.1, count=3, burn_in=3, follow=geodesic.Follow(segments=4)
    ),
    "random_walk": lambda M, z, v: geodesic.random_walk(M, z, 0.1, 3, follow=geodesic.Follow(segments=2)),
    "jacobi_field": lambda M, z, v: geodesic.jacobi_field(M, z, v, v, v, follow=geodesic.Follow(rtol=1e-3)),
    "conjugate_points": lambda M, z, v: geodesic.conjugate_points(M, z, v, follow=geodesic.Follow(rtol=1e-3)),
    "is_minimizing": lambda M, z, v: geodesic.is_minimizing(M, geodesic.solve(M, z, z + v, segments=8)),
    **{
        name: lambda M, z, v, name=name: getattr(geodesic if hasattr(geodesic, name) else geodesic.riemannian, name)(
            M, z
        )
        for name in ("christoffel_symbols", "riemann_tensor", "ricci_tensor", "scalar_curvature")
    },
    **{
        name: lambda M, z, v, name=name: getattr(geodesic if hasattr(geodesic, name) else geodesic.riemannian, name)(
            M, z
        )
        for name in ("magnification_factor", "log_volume", "condition_number", "anisotropy")
    },
    "sectional_curvature": lambda M, z, v: geodesic.sectional_curvature(M, z, v, v.flip(-1)),
}


SLOW = ("frechet_mean, ode", "geodesic_regression, ode")
each_tool = pytest.mark.parametrize(
    "tool", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in TOOLS]
)


def points(device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z, v = torch.randn(2, 4, 2, dtype=torch.float64, generator=generator, device="cpu").to(device)
    return z / 2, v / 3


def tensors_of(answer: object) -> Iterator[Tensor]:
    if isinstance(answer, Tensor):
        yield answer
    elif hasattr(answer, "__dataclass_fields__"):
        for name in answer.__dataclass_fields__:
            yield from tensors_of(getattr(answer, name))


@each_tool
def test_nothing_is_made_on_the_default_device(tool: str) -> None:
    manifold, (z, v) = geodesic.PullbackManifold(network()), points("cpu")
    with torch.device("meta"):  # where a tensor has no numbers, so that it cannot meet another by mistake
        answer = TOOLS[tool](manifold, z, v)
    assert all(x.device.type == "cpu" for x in tensors_of(answer))


@pytest.mark.cuda
@each_tool
def test_it_is_the_same_on_cuda(tool: str) -> None:
    decoder = network()
    expected = TOOLS[tool](geodesic.PullbackManifold(decoder), *points("cpu"))
    answer = TOOLS[tool](geodesic.PullbackManifold(decoder.cuda()), *points("cuda"))
    for there, here in zip(tensors_of(answer), tensors_of(expected), strict=True):
        assert there.is_cuda
        if here.is_floating_point():
            torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-5, equal_nan=True)
