"""All public tools that take a manifold, each as a function of a manifold, points and vectors."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic import Manifold


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 5)).double().eval()


def named(name: str) -> Callable[..., Any]:
    """A public function, wherever it is."""
    places = (geodesic, geodesic.riemannian, geodesic.geometry, geodesic.solvers)
    found: Callable[..., Any] = next(getattr(place, name) for place in places if hasattr(place, name))
    return found


def path_of(z: Tensor, v: Tensor) -> Tensor:
    return geodesic.straight_path(z, z + v, 2)


def gradient_of_distance(manifold: Manifold, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False), torch.enable_grad():
        start, end = z.detach().clone(), (z + v).detach().requires_grad_()
        length = geodesic.distance(manifold, start, end, search=geodesic.Search(segments=8))
        return length.detach(), torch.autograd.grad(length.sum(), end)[0]


COARSE = geodesic.Stop(tol=1e-1)  # a step is enough: what would change an answer changes it from the first

TOOLS: dict[str, Callable[[Manifold, Tensor, Tensor], object]] = {
    "exp_map": lambda M, z, v: geodesic.exp_map(M, z, v, follow=geodesic.Follow(rtol=1e-3)),
    "exp_map, discrete": lambda M, z, v: geodesic.exp_map(
        M, z, v, follow=geodesic.Follow(method="discrete", segments=4)
    ),
    "log_map": lambda M, z, v: geodesic.log_map(
        M, z, z + v, follow=geodesic.Follow(rtol=1e-3), search=geodesic.Search(segments=8)
    ),
    "log_map, graph": lambda M, z, v: geodesic.log_map(
        M, z, z + v, follow=geodesic.Follow(method="discrete"), search=geodesic.Search(segments=4, init="graph")
    ),
    "shoot": lambda M, z, v: geodesic.shoot(M, z, v, segments=4),
    "solve": lambda M, z, v: geodesic.solve(M, z, z + v, segments=8),
    "solve, in pieces": lambda M, z, v: geodesic.solve(M, z, z + v, segments=8, memory=1e5),
    **{
        f"solve, {type(solver).__name__}": lambda M, z, v, solver=solver: geodesic.solve(
            M, z, z + v, segments=8, solver=solver
        )
        for solver in (geodesic.NewtonKrylov(), geodesic.LBFGS())
    },
    "distance": lambda M, z, v: geodesic.distance(M, z, z + v, search=geodesic.Search(segments=8)),
    "distance, gradient": gradient_of_distance,
    "graph_path": lambda M, z, v: named("graph_path")(M, z, z + v, segments=8),
    "encoder_direction": lambda M, z, v: named("encoder_direction")(M, path_of(z, v), lambda x: x[:, :2]),
    **{
        name: lambda M, z, v, name=name: named(name)(M, path_of(z, v))
        for name in (
            "path_energy",
            "path_length",
            "constant_speed",
            "energy_gradient",
            "relative_excess_energy",
            "decoder_residual",
        )
    },
    "length_ratio": lambda M, z, v: geodesic.riemannian.length_ratio(M, z, z + v, search=geodesic.Search(segments=8)),
    **{
        f"parallel_transport, {method}": lambda M, z, v, method=method: geodesic.parallel_transport(
            M, path_of(z, v), v, transport=method
        )
        for method in ("connection", "pole_ladder", "schild_ladder", "projection")
    },
    "analogy": lambda M, z, v: geodesic.analogy(
        M, z, z + v / 2, z - v / 2, follow=geodesic.Follow(rtol=1e-3), search=geodesic.Search(segments=8)
    ),
    "frechet_mean": lambda M, z, v: geodesic.frechet_mean(M, z, stop=COARSE, search=geodesic.Search(segments=4)),
    "frechet_mean, ode": lambda M, z, v: geodesic.frechet_mean(
        M,
        z,
        0 * z[:, 0] + 1,
        stop=COARSE,
        follow=geodesic.Follow(method="ode", rtol=1e-3),
        search=geodesic.Search(segments=4),
    ),
    "frechet_variance": lambda M, z, v: named("frechet_variance")(
        M, z, stop=COARSE, search=geodesic.Search(segments=4)
    ),
    "frechet_median": lambda M, z, v: geodesic.frechet_median(M, z, stop=COARSE, search=geodesic.Search(segments=4)),
    "k_means": lambda M, z, v: geodesic.k_means(M, z, 2, search=geodesic.Search(segments=4)),
    "k_medoids": lambda M, z, v: geodesic.k_medoids(M, z, 2, search=geodesic.Search(segments=4)),
    "principal_geodesic_analysis": lambda M, z, v: geodesic.principal_geodesic_analysis(
        M, z, mean=z[0], search=geodesic.Search(segments=4)
    ),
    "geodesic_regression": lambda M, z, v: geodesic.geodesic_regression(
        M,
        v[:, 0],
        z,
        stop=geodesic.Stop(tol=1e-2),
        search=geodesic.Search(segments=4),
    ),
    "geodesic_regression, ode": lambda M, z, v: geodesic.geodesic_regression(
        M,
        v[:, 0],
        z,
        stop=geodesic.Stop(tol=1e-2),
        follow=geodesic.Follow(method="ode", rtol=1e-3),
        search=geodesic.Search(segments=4),
    ),
    "riemannian_normal": lambda M, z, v: geodesic.riemannian_normal(
        M, z, 0.1, count=2, burn_in=1, follow=geodesic.Follow(segments=2)
    ),
    "random_walk": lambda M, z, v: geodesic.random_walk(M, z, 0.1, 2, follow=geodesic.Follow(segments=2)),
    "jacobi_field": lambda M, z, v: geodesic.jacobi_field(M, z, v, v, v, follow=geodesic.Follow(rtol=1e-3)),
    "conjugate_points": lambda M, z, v: geodesic.conjugate_points(M, z, v, follow=geodesic.Follow(rtol=1e-3)),
    "is_minimizing": lambda M, z, v: geodesic.is_minimizing(M, geodesic.solve(M, z, z + v, segments=8)),
    **{
        name: lambda M, z, v, name=name: named(name)(M, z)
        for name in ("christoffel_symbols", "riemann_tensor", "ricci_tensor", "scalar_curvature")
    },
    **{
        name: lambda M, z, v, name=name: named(name)(M, z)
        for name in ("magnification_factor", "log_volume", "condition_number", "anisotropy")
    },
    "sectional_curvature": lambda M, z, v: geodesic.sectional_curvature(M, z, v, v[..., [1, 0]]),
}

LONGEST = (
    "analogy",
    "exp_map",
    "frechet_mean, ode",
    "frechet_median",
    "geodesic_regression",
    "geodesic_regression, ode",
    "log_map",
    "log_map, graph",
    "parallel_transport, pole_ladder",
    "parallel_transport, schild_ladder",
)
SLOW = (
    *LONGEST,
    "conjugate_points",
    "frechet_mean",
    "frechet_variance",
    "is_minimizing",
    "jacobi_field",
    "k_means",
    "random_walk",
    "riemannian_normal",
)


def each(names: Iterable[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "tool", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in names]
    )


each_tool = each(TOOLS)
# That each tool looks for arrays is tried by their names: here are those that do not take longest, once each.
QUICK = [name for name in TOOLS if name not in LONGEST and not re.match("(solve|distance|frechet_mean), ", name)]
each_quick_tool = each(QUICK)


def points(device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z, v = torch.randn(2, 4, 2, dtype=torch.float64, generator=generator, device="cpu").to(device)
    return z / 2, v / 3


def parts_of(answer: object, kind: type) -> Iterator[Any]:
    """Whatever of a kind an answer holds, in the order of its fields."""
    if isinstance(answer, kind):
        yield answer
    elif isinstance(answer, tuple):
        for part in answer:
            yield from parts_of(part, kind)
    elif hasattr(answer, "__dataclass_fields__"):
        for name in answer.__dataclass_fields__:
            yield from parts_of(getattr(answer, name), kind)


def tensors_of(answer: object) -> Iterator[Tensor]:
    return parts_of(answer, Tensor)
