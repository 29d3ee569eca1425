"""Parallel transport, shooting and analogies: closed forms, orders of accuracy, and what holds for every decoder."""

import inspect
import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, pi

import geodesic
from geodesic import Manifold, MetricFunction, PullbackManifold, Status, parallel_transport
from geodesic.errors import InputError, SingularMetricError
from geodesic.surfaces import Sphere, Torus

pytestmark = pytest.mark.slow  # laws on many surfaces: together they take a while

METHODS = ("connection", "pole_ladder", "schild_ladder", "projection")


def mlp(d: int, activation: type[torch.nn.Module] = torch.nn.Tanh) -> PullbackManifold:
    decoder = torch.nn.Sequential(torch.nn.Linear(d, 16), activation(), torch.nn.Linear(16, 8))
    for parameter in decoder.parameters():
        parameter.data *= 2
    return PullbackManifold(decoder.eval())


def diagonal(second: Callable[[Tensor], Tensor]) -> MetricFunction:
    """The metric diag(1, B(t)) of a surface of revolution, without an embedding."""
    return MetricFunction(lambda z: torch.diag_embed(torch.stack([torch.ones_like(z[..., 0]), second(z[..., 0])], -1)))


SPHERE_METRIC = diagonal(lambda t: t.sin() ** 2)
TORUS_METRIC = diagonal(lambda t: (2 + t.cos()) ** 2)


def curves(T: int, d: int, end: float = 1.0) -> Tensor:
    """Four curves without symmetry, (4, T + 1, d)."""
    t = torch.linspace(0, end, T + 1)[:, None]
    k = torch.arange(d)
    phase = torch.arange(4.0)[:, None, None]
    return 1 + 0.4 * torch.sin((2 + k) * t + 2 * k + phase) + 0.3 * t * (k + 1)


def latitude(colatitude: float, T: int) -> Tensor:
    ends = torch.tensor([[colatitude, 0.0], [colatitude, 2 * pi]])
    return geodesic.straight_path(*ends, T)


def angle(v: Tensor, scale: Tensor | float) -> Tensor:
    """Of vectors (t', phi') in the frame (e_t, e_phi), the length of d/dphi given."""
    return torch.atan2(scale * v[..., 1], v[..., 0])


def wrapped(angle: Tensor | float) -> Tensor:
    return (torch.as_tensor(angle) + pi).remainder(2 * pi) - pi


def inner(manifold: Manifold, z: Tensor, v: Tensor, w: Tensor) -> Tensor:
    return (v * (manifold.metric_tensor(z) @ w[..., None])[..., 0]).sum(-1)


# --- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "T", "error"),
    [("connection", 3, 1e-12), ("pole_ladder", 12, 0.1), ("schild_ladder", 12, 0.1), ("projection", 500, 5e-3)],
)
def test_transport_round_a_latitude_turns_by_minus_two_pi_cos_of_the_colatitude(
    method: str, T: int, error: float
) -> None:
    manifold = SPHERE_METRIC if "ladder" in method else Sphere()
    colatitude = torch.tensor([1.0, 2.0])
    v = torch.stack([torch.full((2,), 0.6), 0.8 / colatitude.sin()], dim=-1)
    answer = parallel_transport(
        manifold, torch.stack([latitude(c, T) for c in colatitude.tolist()]), v, transport=method
    )
    turn = angle(answer.vector, colatitude.sin()) - angle(v, colatitude.sin())
    assert (wrapped(turn + 2 * pi * colatitude.cos()).abs() < error).all()


@pytest.mark.parametrize(
    ("v", "T", "error"),
    [
        ((1.0, 1 / math.sin(1.0)), 50, 1.05e-2),
        ((1.0, 1 / math.sin(1.0)), 800, 6.3e-4),
        ((1.0, 0.0), 50, 2.1e-3),
        ((1.0, 0.0), 800, 1.6e-4),
    ],
)
def test_projection_errs_as_the_published_algorithm_does(v: tuple[float, float], T: int, error: float) -> None:
    answer = parallel_transport(Sphere(), latitude(1.0, T), torch.tensor(v), transport="projection")
    turn = angle(answer.vector, math.sin(1.0)) - angle(torch.tensor(v), math.sin(1.0))
    assert float(wrapped(turn + 2 * pi * math.cos(1.0)).abs()) == pytest.approx(error, rel=0.02)


@pytest.mark.parametrize("half_angle", [0.3, 1.2])
def test_the_holonomy_of_a_cone_is_that_of_the_sector_it_is_unrolled_to(half_angle: float) -> None:
    cone, t = geodesic.surfaces.Cone(half_angle=half_angle), 1.5
    v = torch.tensor([1.0, 0.2])
    answer = parallel_transport(cone, latitude(t, 4), v)
    turn = angle(answer.vector, t * math.sin(half_angle)) - angle(v, t * math.sin(half_angle))
    assert abs(wrapped(turn + 2 * pi * math.sin(half_angle))) < 1e-12


def test_along_a_horocycle_of_the_hyperbolic_plane_vectors_turn_by_its_length() -> None:
    y, across = 0.5, 1.3
    path = geodesic.straight_path(torch.tensor([0.0, y]), torch.tensor([across, y]), 4)
    v = torch.tensor([0.3, 1.0])
    answer = parallel_transport(geodesic.surfaces.HyperbolicPlane(), path, v)
    assert abs(wrapped(angle(answer.vector, 1.0) - angle(v, 1.0) + across / y)) < 1e-12


@pytest.mark.parametrize("method", METHODS)
def test_on_the_flat_torus_transport_is_the_identity(method: str) -> None:
    torus = geodesic.surfaces.FlatTorus(dimension=3)
    v = torch.randn(4, 3)
    answer = parallel_transport(torus, curves(4 if "ladder" in method else 800, 3), v, transport=method)
    error = 2e-2 if method == "projection" else 1e-8  # the outputs turn: the projection is of first order even here
    torch.testing.assert_close(answer.vectors, v[:, None].expand_as(answer.vectors), rtol=0, atol=error)
    assert answer.converged.all()


def test_round_a_geodesic_triangle_of_the_sphere_vectors_turn_by_the_angle_excess() -> None:
    sphere = Sphere()
    corners = torch.tensor([[0.6, 0.0], [1.7, 0.4], [1.2, 1.5]])
    x = sphere.embed(corners)
    T = 64
    v = start = torch.tensor([1.0, 0.5])
    for a, b in itertools.pairwise([0, 1, 2, 0]):
        v = parallel_transport(sphere, great_circle(x[a], x[b], T), v).vector
    a, b, c = x
    # The tangent of half the enclosed area, by van Oosterom and Strackee.
    area = 2 * torch.atan2(torch.linalg.det(x).abs(), 1 + a @ b + b @ c + c @ a)
    turn = angle(v, math.sin(0.6)) - angle(start, math.sin(0.6))
    assert torch.linalg.det(x) > 0  # counterclockwise from outside: turned the same way, by plus the area
    # d/dtheta, d/dphi and the outward normal are right-handed.
    torch.testing.assert_close(wrapped(turn), area, rtol=0, atol=1e-6)


def great_circle(a: Tensor, b: Tensor, T: int) -> Tensor:
    """Nodes (theta, phi) of the short great circle between unit vectors."""
    t = torch.linspace(0, 1, T + 1)[:, None]
    apart = torch.atan2(torch.linalg.cross(a, b).norm(), a @ b)
    x = (a * ((1 - t) * apart).sin() + b * (t * apart).sin()) / apart.sin()
    return torch.stack([torch.atan2(x[:, :2].norm(dim=-1), x[:, 2]), torch.atan2(x[:, 1], x[:, 0])], dim=-1)


# --- orders of accuracy ---------------------------------------------------------------------------

EMBEDDED = {"sphere": (Sphere, 2), "torus": (Torus, 2), "decoder": (lambda: mlp(3), 3)}
WITH_METRIC = {"torus": (lambda: TORUS_METRIC, 2), "decoder": (lambda: mlp(2), 2)}


def fitted_order(manifold: Manifold, d: int, method: str, steps: tuple[int, ...], end: float = 1.0) -> float:
    v = torch.tensor([1.0, -0.5, 0.3])[:d].expand(4, d)
    exact = parallel_transport(manifold, curves(4 * steps[-1], d, end), v).vector
    errors = [
        (parallel_transport(manifold, curves(T, d, end), v, transport=method).vector - exact).norm() for T in steps
    ]
    x, y = torch.tensor([math.log(T) for T in steps]), torch.stack(errors).log()
    return -float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


@pytest.mark.parametrize("name", EMBEDDED)
@pytest.mark.parametrize(("method", "order", "steps"), [("connection", 4, (128, 256)), ("projection", 1, (64, 256))])
def test_the_connection_is_of_order_four_and_the_projection_of_order_one(
    name: str, method: str, order: int, steps: tuple[int, ...]
) -> None:
    make, d = EMBEDDED[name]
    assert fitted_order(make(), d, method, steps) == pytest.approx(order, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_METRIC)
@pytest.mark.parametrize("method", ["pole_ladder", "schild_ladder"])
def test_both_ladders_are_of_order_two_also_along_curves_that_are_no_geodesics(name: str, method: str) -> None:
    make, d = WITH_METRIC[name]
    assert fitted_order(make(), d, method, (3, 6), end=0.3) == pytest.approx(2, abs=0.3)


# --- laws -----------------------------------------------------------------------------------------


def test_the_connection_keeps_norms_and_angles_to_rounding_however_coarse_the_path() -> None:
    manifold, path = mlp(3), curves(3, 3)
    v, w = torch.randn(2, 4, 3)
    there, other = parallel_transport(manifold, path, v), parallel_transport(manifold, path, w)
    for p, q in ((there, there), (there, other), (other, other)):
        products = inner(manifold, path, p.vectors, q.vectors)
        torch.testing.assert_close(products, products[:, :1].expand_as(products), rtol=1e-11, atol=1e-11)
    assert (there.norm_change < 1e-12).all()


def test_transport_there_and_back_is_the_identity(tolerance: Callable[[torch.dtype], dict[str, float]]) -> None:
    manifold, path, v = mlp(3), curves(6, 3), torch.randn(4, 3)
    there = parallel_transport(manifold, path, v)
    back = parallel_transport(manifold, path.flip(1), there.vector)
    torch.testing.assert_close(back.vector, v, **tolerance(v.dtype))
    torch.testing.assert_close(back.vectors.flip(1), there.vectors, **tolerance(v.dtype))


@pytest.mark.parametrize("manifold", [Sphere(), Torus(), geodesic.surfaces.HyperbolicPlane()], ids=repr)
def test_a_geodesic_carries_its_own_velocity(manifold: Manifold) -> None:
    z, v = torch.tensor([[1.2, 0.8], [1.0, 1.0]]), torch.tensor([[0.3, 0.5], [-0.2, 0.4]])
    along = geodesic.exp_map(manifold, z, v, follow=geodesic.Follow(segments=64, rtol=1e-12))
    answer = parallel_transport(manifold, along.path, v)
    torch.testing.assert_close(answer.vectors, along.velocity, rtol=0, atol=1e-6)


def test_transport_is_linear_in_the_vector() -> None:
    manifold, path = mlp(2), curves(8, 2)[0].expand(3, -1, -1)
    v, w = torch.randn(2, 2)
    for method in ("connection", "projection"):
        a, b, both = parallel_transport(manifold, path, torch.stack([v, w, 2 * v + w]), transport=method).vector
        if method == "connection":  # the projection rescales each vector by itself
            torch.testing.assert_close(both, 2 * a + b)
        twice = parallel_transport(manifold, path[0], -3 * v, transport=method).vector
        torch.testing.assert_close(twice, -3 * a)


@pytest.mark.parametrize("surface", [Sphere(), Torus()], ids=repr)
def test_an_embedding_and_its_metric_alone_carry_vectors_alike(surface: geodesic.geometry.EmbeddedManifold) -> None:
    v = torch.randn(4, 2)
    embedded = parallel_transport(surface, curves(16, 2), v)
    metric = parallel_transport(MetricFunction(surface.metric_tensor), curves(16, 2), v)
    torch.testing.assert_close(embedded.vectors, metric.vectors, rtol=1e-9, atol=1e-9)


def test_transport_does_not_depend_on_latent_coordinates() -> None:
    manifold, A = mlp(3), torch.randn(3, 3) + 2 * torch.eye(3)
    other = PullbackManifold(lambda z: manifold.decoder(z @ A.mT))
    path, v = curves(64, 3), torch.randn(4, 3)
    for method in ("connection", "projection"):
        expected = parallel_transport(manifold, path @ A.mT, v @ A.mT, transport=method).vector
        actual = parallel_transport(other, path, v, transport=method).vector @ A.mT
        # Frames turn with the coordinates: equal up to the order of the method, and the projection to rounding.
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 if method == "connection" else 1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_carried_as_its_rows_are(method: str) -> None:
    manifold, path, v = Torus() if method == "projection" else TORUS_METRIC, curves(3, 2), torch.randn(4, 2)
    together = parallel_transport(manifold, path.reshape(2, 2, 4, 2), v.reshape(2, 2, 2), transport=method)
    alone = parallel_transport(manifold, path[1], v[1], transport=method)
    torch.testing.assert_close(together.vectors[0, 1], alone.vectors)
    torch.testing.assert_close(together.vector, together.vectors[:, :, -1])
    assert together.status.shape == together.norm_change.shape == (2, 2)


@pytest.mark.parametrize("method", METHODS)
def test_little_memory_changes_nothing(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manifold, path, v = Torus() if method == "projection" else TORUS_METRIC, curves(2, 2), torch.randn(4, 2)
    expected = parallel_transport(manifold, path, v, transport=method)
    monkeypatch.setattr("geodesic.riemannian.transport.parallel.rows_at_once", lambda manifold, z: 3)
    torch.testing.assert_close(parallel_transport(manifold, path, v, transport=method).vectors, expected.vectors)


def test_points_of_any_latent_shape_are_carried_as_rows() -> None:
    rows = mlp(4)
    images = PullbackManifold(lambda z: rows.decoder(z.flatten(1)), latent_shape=(2, 2))
    path, v = curves(5, 4), torch.randn(4, 4)
    for method in ("connection", "projection"):
        expected = parallel_transport(rows, path, v, transport=method)
        answer = parallel_transport(images, path.unflatten(-1, (2, 2)), v.unflatten(-1, (2, 2)), transport=method)
        assert answer.vector.shape == (4, 2, 2)
        torch.testing.assert_close(answer.vectors.flatten(2), expected.vectors)


def test_a_solution_is_a_path() -> None:
    solution = geodesic.solve(Torus(), torch.tensor([0.5, 0.0]), torch.tensor([2.0, 1.5]))
    v = torch.tensor([1.0, 0.0])
    answer = parallel_transport(Torus(), solution, v)
    assert torch.equal(answer.vectors, parallel_transport(Torus(), solution.path, v).vectors)


@pytest.mark.parametrize("method", METHODS)
def test_zero_vectors_and_paths_that_stay_carry_what_they_were_given(method: str) -> None:
    path = torch.stack([curves(2, 2)[0], curves(2, 2)[0, :1].expand(3, 2)])
    v = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    answer = parallel_transport(Sphere(), path, v, transport=method)
    torch.testing.assert_close(answer.vector, v)
    assert answer.converged.all()
    assert (answer.norm_change < 1e-12).all()


def test_single_precision_keeps_norms_to_its_own_rounding() -> None:
    path, v = curves(32, 2).float(), torch.randn(4, 2).float()
    answer = parallel_transport(Torus(), path, v)
    exact = parallel_transport(Torus(), path.double(), v.double())
    assert answer.vector.dtype == torch.float32
    assert (answer.norm_change < 1e-5).all()
    torch.testing.assert_close(answer.vectors.double(), exact.vectors, rtol=0, atol=1e-4)


def test_the_jacobian_of_an_exact_left_inverse_takes_the_last_vector_back_as_the_decoder_does() -> None:
    paraboloid = geodesic.surfaces.Paraboloid()
    images = PullbackManifold(lambda z: paraboloid.embed(z).reshape(-1, 3, 1, 1))
    path, v = curves(32, 2), torch.randn(4, 2)

    def encoder(x: Tensor) -> Tensor:
        assert x.shape[1:] == (3, 1, 1)
        return x[:, :2].flatten(1) + (x[:, 2] - (x[:, :2] ** 2).sum(1)).flatten(1)

    decoded = parallel_transport(images, path, v, transport="projection")
    encoded = parallel_transport(images, path, v, transport="projection", encoder=encoder)
    torch.testing.assert_close(encoded.vectors, decoded.vectors, rtol=1e-9, atol=1e-9)


# --- what went wrong, and what cannot be done -----------------------------------------------------


def test_kinks_of_the_decoder_are_reported_by_the_connection_and_taken_by_the_projection() -> None:
    manifold, path, v = mlp(3, torch.nn.ReLU), curves(64, 3), torch.randn(4, 3)
    assert (parallel_transport(manifold, path, v, transport="connection").status == Status.NOT_RESOLVED).any()
    assert parallel_transport(manifold, path, v, transport="projection").converged.all()


@pytest.mark.parametrize("activation", [torch.nn.Tanh, torch.nn.ELU])
def test_the_connection_does_not_promise_more_than_it_keeps(activation: type[torch.nn.Module]) -> None:
    manifold, v = mlp(3, activation), torch.randn(4, 3)
    path = curves(512, 3)
    exact = parallel_transport(manifold, path, v).vector
    for T in (8, 16, 32, 64):
        answer = parallel_transport(manifold, path[:, :: 512 // T], v)
        error = manifold.squared_norm(path[:, -1], answer.vector - exact).sqrt()
        error /= manifold.squared_norm(path[:, -1], exact).sqrt()
        assert (error < 3 * answer.error).all()
        assert torch.equal(answer.converged, answer.error <= 0.05)


def test_the_projection_knows_its_error() -> None:
    manifold, v = mlp(3), torch.randn(4, 3)
    path = curves(256, 3)
    exact = parallel_transport(manifold, path, v).vector  # by the connection
    for T in (63, 64, 128):
        nodes = curves(T, 3)
        answer = parallel_transport(manifold, nodes, v, transport="projection")
        error = manifold.squared_norm(path[:, -1], answer.vector - exact).sqrt()
        error /= manifold.squared_norm(path[:, -1], exact).sqrt()
        assert ((answer.error > error / 2) & (answer.error < 2 * error)).all()
    strict = parallel_transport(manifold, nodes, v, transport="projection", tol=float(answer.error.min()))
    assert strict.converged.sum() == 1
    assert (strict.status[~strict.converged] == Status.NOT_RESOLVED).all()


def test_an_encoder_that_shrinks_vectors_is_reported() -> None:
    answer = parallel_transport(
        geodesic.surfaces.Paraboloid(),
        curves(32, 2),
        torch.randn(4, 2),
        transport="projection",
        encoder=lambda x: 0.9 * x[:, :2],
    )
    assert (answer.status == Status.NOT_RESOLVED).all()
    assert (answer.norm_change > 0.05).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_singular_metric_at_a_node_is_named(method: str) -> None:
    path = geodesic.straight_path(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 0.5]), 4)
    # Along a coordinate that saturates exactly at zero nothing can be told.
    flat = PullbackManifold(lambda z: torch.stack([z[:, 0] ** 3, z[:, 1], z[:, 1] ** 2], dim=1))
    with pytest.raises(SingularMetricError, match=r"path: the metric is singular at \(0, 0.25\)"):
        parallel_transport(flat, path, torch.ones(2), transport=method)


def test_a_row_that_meets_a_singular_metric_between_the_nodes_is_reported_and_spares_the_others() -> None:
    def narrow(z: Tensor) -> Tensor:  # no width between 0.7 and 0.9
        gap = ((z[..., 0] - 0.8).abs() > 0.1) * (1 + z[..., 0] ** 2)
        return torch.diag_embed(torch.stack([torch.ones_like(gap), gap], dim=-1))

    lines = [geodesic.straight_path(torch.tensor([x, 0.0]), torch.tensor([x + 1.0, 0.5]), 2) for x in (0.0, 2.0)]
    answer = parallel_transport(MetricFunction(narrow), torch.stack(lines), torch.ones(2, 2))
    assert answer.status[0] == Status.CUT_SHORT
    assert answer.vectors[1].isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"v": torch.ones(3)}, r"v: expected a vector for the first node of each path, \(2,\), got \(3,\)"),
        ({"v": torch.ones(5, 2)}, r"v: expected a vector .* got \(5, 2\); expand the path"),
        ({"path": torch.rand(2, 2)}, r"path: expected nodes of shape \(\*batch, T \+ 1, 2\) with T >= 2, got \(2, 2\)"),
        ({"path": torch.ones(2)}, "path: expected nodes"),
        ({"path": torch.full((4, 2), torch.nan)}, "path: expected finite coordinates, got nan"),
        ({"v": torch.ones(2, dtype=torch.float32)}, "v: expected the dtype of path, torch.float64, got torch.float32"),
        ({"transport": "magic"}, "transport: expected one of 'connection', .* got 'magic'"),
        ({"encoder": lambda x: x}, "encoder: used by transport='projection' alone, got transport='connection'"),
        (
            {"encoder": lambda x: x, "transport": "projection"},
            r"encoder: expected 2 latent coordinates for each decoder output, \(1, 2\), got \(1, 3\)",
        ),
        ({"manifold": SPHERE_METRIC, "transport": "projection"}, "manifold: projection needs points of an embedding"),
        (
            {"manifold": geodesic.IndependentEnsembleManifold(2 * [torch.nn.Linear(2, 3).double()])},
            "so it has no parallel transport",
        ),
    ],
)
def test_what_cannot_be_carried_is_refused_by_name(arguments: dict, message: str) -> None:
    usual = {"manifold": Sphere(), "path": curves(4, 2)[0], "v": torch.ones(2)}
    options = usual | arguments
    with pytest.raises(InputError, match=message):
        parallel_transport(options.pop("manifold"), options.pop("path"), options.pop("v"), **options)


def test_a_path_and_a_vector_in_the_wrong_order_are_refused_with_the_right_one() -> None:
    start, end = torch.tensor([[1.0, 0.0], [1.2, 0.5]])
    solution = geodesic.solve(Sphere(), start, end, segments=4)
    # Without the type checker that watches the tests: a user has none.
    with pytest.raises(InputError, match=r"^v: got the answer of `solve`; .* parallel_transport\(manifold, path, v\)"):
        inspect.unwrap(parallel_transport)(Sphere(), start, solution)


# --- shooting -------------------------------------------------------------------------------------


def order_of_shooting(manifold: Manifold, encoder: Callable[[Tensor], Tensor] | None = None) -> float:
    z, v = torch.tensor([[1.0, 0.2], [0.6, 0.5]]), torch.tensor([[0.3, 0.9], [0.4, -0.5]])
    exact, errors = geodesic.exp_map(manifold, z, v, follow=geodesic.Follow(rtol=1e-6)), []
    for T in (20, 40):
        answer = geodesic.shoot(manifold, z, v, segments=T, encoder=encoder)
        assert (answer.time == 1).all()
        errors.append((answer.point - exact.point).norm() + (answer.velocity[:, -1] - exact.velocity[:, -1]).norm())
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize("name", ["paraboloid", "torus", "decoder"])
def test_shooting_is_of_first_order(name: str) -> None:
    manifold = {"paraboloid": geodesic.surfaces.Paraboloid(), "torus": Torus(), "decoder": mlp(2)}[name]
    assert order_of_shooting(manifold) == pytest.approx(1, abs=0.2)


def test_shooting_with_an_exact_left_inverse_is_of_first_order() -> None:
    assert order_of_shooting(geodesic.surfaces.Paraboloid(), lambda x: x[:, :2]) == pytest.approx(1, abs=0.2)


def test_shooting_on_the_sphere_follows_great_circles() -> None:
    sphere, z, v = Sphere(), torch.tensor([1.0, 0.2]), torch.tensor([0.3, 0.9])
    u = geodesic.autodiff.jvp(sphere.embed, z[None], v[None])[0]
    x, t = sphere.embed(z), torch.linspace(0, 2, 81)[:, None] * u.norm()
    answer = geodesic.shoot(sphere, z, v, t=2.0, segments=80)
    torch.testing.assert_close(sphere.embed(answer.path), x * t.cos() + u / u.norm() * t.sin(), rtol=0, atol=1e-3)


def test_a_bias_of_the_encoder_is_paid_at_every_step() -> None:
    def end(T: int) -> Tensor:
        biased = geodesic.shoot(geodesic.surfaces.Paraboloid(), z, v, segments=T, encoder=lambda x: x[:, :2] + 1e-3)
        return (biased.point - exact).norm()

    z, v = torch.tensor([0.2, 0.1]), torch.tensor([0.5, 0.3])
    exact = geodesic.exp_map(geodesic.surfaces.Paraboloid(), z, v, follow=geodesic.Follow(rtol=1e-6)).point
    assert end(80) > 1.5 * end(40) > 0.03


def test_an_encoder_that_does_not_undo_the_decoder_is_reported() -> None:
    z, v = torch.tensor([0.2, 0.1]), torch.tensor([0.5, 0.3])
    answer = geodesic.shoot(geodesic.surfaces.Paraboloid(), z, v, segments=100, encoder=lambda x: x[:, :2] + 1e-3)
    assert answer.status == Status.SPEED_CHANGED


def test_shooting_crosses_a_fold_as_on_the_unfolded_sheet_up_to_the_square_of_the_angle() -> None:
    slope = 0.1
    fold = PullbackManifold(lambda z: torch.stack([z[:, 0], z[:, 1], slope * z[:, 0].clamp(min=0)], dim=1))
    answer = geodesic.shoot(fold, torch.tensor([-0.5, 0.0]), torch.tensor([1.0, 0.3]), segments=30)
    beyond = 0.5 / math.sqrt(1 + slope**2)
    torch.testing.assert_close(answer.point, torch.tensor([beyond, 0.3]), rtol=0, atol=slope**2 / 4)
    assert answer.converged


def test_shooting_a_batch_is_shooting_its_rows_and_times_scale_velocities() -> None:
    manifold = mlp(3)
    z, v, t = torch.randn(2, 3) / 2, torch.randn(2, 3), torch.tensor([0.5, -0.3])
    together = geodesic.shoot(manifold, z, v, t, segments=20)
    for i in range(2):
        alone = geodesic.shoot(manifold, z[i], v[i] * t[i], segments=20)
        torch.testing.assert_close(together.path[i], alone.path)
        torch.testing.assert_close(together.velocity[i] * t[i], alone.velocity)
    torch.testing.assert_close(together.time, t)
    assert (together.iterations == 20).all()


def test_what_does_not_move_stays() -> None:
    z = torch.tensor([[1.0, 0.2], [1.0, 0.3]])
    answer = geodesic.shoot(Torus(), z, torch.tensor([[0.0, 0.0], [1.0, 2.0]]), torch.tensor([1.0, 0.0]), segments=3)
    torch.testing.assert_close(answer.point, z)
    torch.testing.assert_close(answer.velocity[1], torch.tensor([1.0, 2.0]).expand(4, 2))
    assert answer.converged.all()


def test_a_shot_takes_points_of_any_latent_shape() -> None:
    rows = mlp(4)
    images = PullbackManifold(lambda z: rows.decoder(z.flatten(1)), latent_shape=(2, 2))
    z, v = torch.randn(2, 3, 4) / 2
    expected = geodesic.shoot(rows, z, v, segments=5)
    answer = geodesic.shoot(images, z.reshape(3, 2, 2), v.reshape(3, 2, 2), segments=5)
    torch.testing.assert_close(answer.path.flatten(2), expected.path)


def test_a_shot_that_leaves_the_numbers_says_how_far_it_came() -> None:
    answer = geodesic.shoot(
        geodesic.surfaces.Paraboloid(),
        torch.tensor([0.0, 0.0]),
        torch.tensor([1.0, 0.0]),
        segments=10,
        encoder=lambda x: torch.where(x[:, :1] < 0.55, x[:, :2], torch.nan),
    )
    assert answer.status == Status.CUT_SHORT
    assert 0 < float(answer.time) < 1
    assert answer.path.isfinite().all()
    assert torch.equal(answer.point, answer.path[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"manifold": SPHERE_METRIC}, "manifold: shooting steps through an embedding, and MetricFunction has none"),
        ({"v": torch.ones(3)}, r"v: expected the shape of z, \(2,\), got \(3,\)"),
        ({"segments": 0}, "segments: expected an integer of at least 1, got 0"),
        ({"t": math.inf}, "t: expected a finite time, a number or of shape .*, got inf"),
        ({"encoder": lambda x: x}, r"encoder: expected 2 latent coordinates"),
    ],
)
def test_what_cannot_be_shot_is_refused_by_name(arguments: dict, message: str) -> None:
    options = {"manifold": Sphere(), "z": torch.ones(2), "v": torch.ones(2)} | arguments
    with pytest.raises(InputError, match=message):
        geodesic.shoot(**options)


def test_a_shot_from_a_singular_point_is_refused() -> None:
    with pytest.raises(SingularMetricError, match=r"z: the metric is singular at \(0, 1\)"):
        geodesic.shoot(Sphere(), torch.tensor([0.0, 1.0]), torch.ones(2))


# --- analogies ------------------------------------------------------------------------------------


def test_an_analogy_in_a_flat_space_is_a_parallelogram() -> None:
    a, b, c = torch.rand(3, 2, 3)
    flat, search = geodesic.surfaces.FlatTorus(dimension=3), geodesic.Search(segments=8)
    answer = geodesic.analogy(flat, a, b, c, search=search)
    torch.testing.assert_close(answer.point, c + b - a, rtol=0, atol=1e-6)
    torch.testing.assert_close(answer.path[:, 0], c)
    assert answer.converged.all()


@pytest.mark.parametrize(("method", "error"), [("connection", 1e-5), ("projection", 3e-3)])
def test_an_analogy_on_the_sphere_is_the_rotation_that_takes_a_to_c(method: str, error: float) -> None:
    sphere = Sphere()
    a, b, c = torch.tensor([[1.0, 0.0], [1.3, 0.5], [0.8, -0.4]])
    answer = geodesic.analogy(
        sphere,
        a,
        b,
        c,
        transport=method,
        follow=geodesic.Follow(rtol=1e-6),
        search=geodesic.Search(segments=64, tol=1e-12),
    )
    xa, xb, xc = sphere.embed(torch.stack([a, b, c]))
    axis = torch.linalg.cross(xa, xc)
    sin, cos = axis.norm(), xa @ xc
    k = axis / sin
    turned = xb * cos + torch.linalg.cross(k, xb) * sin + k * (k @ xb) * (1 - cos)
    torch.testing.assert_close(sphere.embed(answer.point), turned, rtol=0, atol=error)
    assert answer.converged


def test_an_analogy_of_equal_points_adds_nothing() -> None:
    a, b, c = torch.tensor([[1.0, 0.0], [1.3, 0.5], [0.8, -0.4]])
    points = torch.stack([a, a]), torch.stack([a, b]), torch.stack([c, a])
    answer = geodesic.analogy(Torus(), *points, follow=geodesic.Follow(rtol=1e-6), search=geodesic.Search(segments=32))
    torch.testing.assert_close(answer.point, torch.stack([c, b]), rtol=0, atol=2e-4)
    torch.testing.assert_close(answer.transported[1], answer.vector[1])
    assert answer.converged.all()


def test_analogies_of_a_batch_of_shaped_points_are_those_of_its_rows() -> None:
    rows = mlp(4)
    images = PullbackManifold(lambda z: rows.decoder(z.flatten(1)), latent_shape=(2, 2))
    points = torch.randn(3, 2, 4) / 8
    answer = geodesic.analogy(
        images, *points.reshape(3, 2, 2, 2), follow=geodesic.Follow(rtol=1e-3), search=geodesic.Search(segments=8)
    )
    alone = geodesic.analogy(rows, *points[:, 0], follow=geodesic.Follow(rtol=1e-3), search=geodesic.Search(segments=8))
    torch.testing.assert_close(answer.point[0].flatten(), alone.point, rtol=1e-6, atol=1e-6)
    assert answer.path.shape == answer.carried.shape == answer.across.path.shape == (2, 9, 2, 2)


def test_an_analogy_of_points_of_other_shapes_is_refused() -> None:
    with pytest.raises(InputError, match=r"c: expected the shape of a, \(2,\), got \(3, 2\)"):
        geodesic.analogy(Torus(), torch.ones(2), torch.zeros(2), torch.ones(3, 2))
