"""Curvature, the metric at a point, Jacobi fields and conjugate points: known answers and laws."""

import inspect
from math import inf, pi, sin

import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic import (
    Follow,
    IndependentEnsembleManifold,
    Manifold,
    MetricFunction,
    PullbackManifold,
    Status,
    christoffel_symbols,
    conjugate_points,
    exp_map,
    jacobi_field,
    magnification_factor,
    sectional_curvature,
)
from geodesic.outputs import FisherRaoGaussian
from geodesic.riemannian import anisotropy, condition_number, log_volume, ricci_tensor, riemann_tensor, scalar_curvature
from geodesic.surfaces import (
    Cone,
    FlatTorus,
    HyperbolicPlane,
    Pseudosphere,
    Saddle,
    Sphere,
    StereographicSphere,
    Surface,
    Torus,
)
from tests.test_surfaces import MANIFOLDS, drawn, named

pytestmark = pytest.mark.slow  # laws on many surfaces: together they take a while

OF_A_POINT = [
    anisotropy,
    christoffel_symbols,
    condition_number,
    log_volume,
    magnification_factor,
    ricci_tensor,
    riemann_tensor,
    scalar_curvature,
]
OF_SECOND_DERIVATIVES = [christoffel_symbols, ricci_tensor, riemann_tensor, scalar_curvature]


def decoder(d: int = 3, activation: type[nn.Module] = nn.Tanh) -> nn.Module:
    return nn.Sequential(nn.Linear(d, 16), activation(), nn.Linear(16, 12))


def section(manifold: Manifold, z: Tensor) -> Tensor:
    """Sectional curvature of random planes."""
    return sectional_curvature(manifold, z, torch.randn_like(z), torch.randn_like(z))


# --- known curvatures ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", named(Surface))
@pytest.mark.parametrize("given_by", ["itself", "metric"])
def test_every_surface_has_its_gaussian_curvature(name: str, given_by: str, tolerance) -> None:
    surface, z = MANIFOLDS[name][0], drawn(name, 20)
    manifold = surface if given_by == "itself" else MetricFunction(surface.metric_tensor)
    K, near = surface.gaussian_curvature(z), tolerance(z.dtype)
    torch.testing.assert_close(section(manifold, z), K, **near)
    torch.testing.assert_close(scalar_curvature(manifold, z), 2 * K, **near)
    torch.testing.assert_close(ricci_tensor(manifold, z), K[:, None, None] * surface.metric_tensor(z), **near)
    area = torch.linalg.det(surface.metric_tensor(z))
    torch.testing.assert_close(riemann_tensor(manifold, z)[:, 0, 1, 1, 0], K * area, **near)


def test_the_symbols_of_the_sphere_are_those_in_closed_form(tolerance) -> None:
    theta, phi = torch.rand(10) * 2 + 0.5, torch.rand(10)
    expected = torch.zeros(10, 2, 2, 2)
    expected[:, 0, 1, 1] = -theta.sin() * theta.cos()
    expected[:, 1, 0, 1] = expected[:, 1, 1, 0] = 1 / theta.tan()
    z = torch.stack([theta, phi], dim=-1)
    torch.testing.assert_close(christoffel_symbols(Sphere(radius=3.0), z), expected, **tolerance(z.dtype))


def test_the_symbols_of_the_hyperbolic_plane_are_those_in_closed_form(tolerance) -> None:
    x, y = torch.randn(10), torch.rand(10) + 0.2
    expected = torch.zeros(10, 2, 2, 2)
    expected[:, 0, 0, 1] = expected[:, 0, 1, 0] = expected[:, 1, 1, 1] = -1 / y
    expected[:, 1, 0, 0] = 1 / y
    z = torch.stack([x, y], dim=-1)
    torch.testing.assert_close(christoffel_symbols(HyperbolicPlane(), z), expected, **tolerance(z.dtype))


def test_normal_distributions_have_curvature_minus_one_half(tolerance) -> None:
    def one_normal(z: Tensor) -> Tensor:
        return torch.stack([z[:, :1], z[:, 1:].log()], dim=1)

    plane = PullbackManifold(one_normal, FisherRaoGaussian())
    z = torch.rand(10, 2) + 0.3
    torch.testing.assert_close(section(plane, z), torch.full((10,), -0.5), **tolerance(z.dtype))


@pytest.mark.parametrize("n", [3, 4])
@pytest.mark.parametrize("given_by", ["embedding", "metric"])
def test_spheres_have_constant_curvature_in_every_sense(n: int, given_by: str, tolerance) -> None:
    sphere, z = StereographicSphere(dimension=n), torch.randn(5, n)
    manifold = sphere if given_by == "embedding" else MetricFunction(sphere.metric_tensor)
    G, near = sphere.metric_tensor(z), tolerance(z.dtype)
    torch.testing.assert_close(section(manifold, z), torch.ones(5), **near)
    torch.testing.assert_close(ricci_tensor(manifold, z), (n - 1) * G, **near)
    torch.testing.assert_close(scalar_curvature(manifold, z), torch.full((5,), n * (n - 1.0)), **near)
    R = torch.einsum("njk,nil->nijkl", G, G) - torch.einsum("nik,njl->nijkl", G, G)
    torch.testing.assert_close(riemann_tensor(manifold, z), R, **near)


def test_a_line_has_no_curvature() -> None:
    line, z = PullbackManifold(decoder(1)), torch.randn(4, 1)
    assert scalar_curvature(line, z).abs().max() < 1e-12
    with pytest.raises(geodesic.errors.InputError, match="are parallel"):
        sectional_curvature(line, z, z, z + 1)


def test_the_angle_of_a_small_triangle_exceeds_pi_by_the_curvature_inside() -> None:
    """Gauss and Bonnet, with the corners' angles from geodesics between them."""
    surface = Torus()
    corners = torch.tensor([[0.8, 0.1], [1.2, 0.15], [1.0, 0.5]])
    others = torch.stack([corners.roll(-1, 0), corners.roll(1, 0)], dim=1)
    velocity = solved_velocity(surface, corners[:, None].expand(3, 2, 2), others)
    G = surface.metric_tensor(corners)
    products = torch.einsum("nai,nij,nbj->nab", velocity, G, velocity)
    cosine = products[:, 0, 1] / (products[:, 0, 0] * products[:, 1, 1]).sqrt()
    excess = float(cosine.acos().sum()) - pi
    assert excess == pytest.approx(integral_of_curvature(surface, corners, velocity[:, 0]), rel=1e-5)


def solved_velocity(manifold: Manifold, a: Tensor, b: Tensor) -> Tensor:
    """Initial velocities of the geodesics from a to b, by Newton's method on the exponential map."""
    v = b - a
    for _ in range(3):
        flat, start = v.reshape(-1, 2), a.reshape(-1, 2)
        moved = torch.stack([flat, flat + torch.tensor([1e-5, 0.0]), flat + torch.tensor([0.0, 1e-5])])
        ends = exp_map(manifold, start.expand(3, -1, 2), moved, follow=Follow(segments=1, rtol=1e-8)).point
        slope = torch.stack([ends[1] - ends[0], ends[2] - ends[0]], dim=-1) / 1e-5
        v = (flat - torch.linalg.solve(slope, ends[0] - b.reshape(-1, 2))).reshape(v.shape)
    return v


def integral_of_curvature(surface: Surface, corners: Tensor, v: Tensor, n: int = 64) -> float:
    """Of K dA over the geodesic triangle: by Green's formula round its sides.

    Both metrics are diag(r^2, B(t)^2), with K dA = -(B'/r)' dt dphi, so it is the integral of -B'/r dphi along the
    boundary, up to the direction: B' = d sqrt(G_11) / dt.
    """
    answer = exp_map(surface, corners, v, follow=Follow(segments=n, rtol=1e-8))
    t = answer.path[..., 0].clone().requires_grad_()
    z = torch.stack([t, answer.path[..., 1].detach()], dim=-1)
    (slope,) = torch.autograd.grad(surface.metric_tensor(z)[..., 1, 1].sqrt().sum(), t)
    r = surface.metric_tensor(z.detach())[..., 0, 0].sqrt()
    integrand = -slope / r * answer.velocity[..., 1]
    weights = torch.ones(n + 1)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    return abs(float((integrand * weights).sum() / (3 * n)))


# --- laws of curvature --------------------------------------------------------------------------


@pytest.mark.parametrize("given_by", ["embedding", "metric"])
def test_the_riemann_tensor_has_its_symmetries(given_by: str) -> None:
    manifold: Manifold = PullbackManifold(decoder())
    if given_by == "metric":
        manifold = MetricFunction(manifold.metric_tensor)
    R = riemann_tensor(manifold, torch.randn(5, 3))
    assert R.abs().max() > 1e-2
    laws = [
        R + R.transpose(1, 2),
        R + R.transpose(3, 4),
        R - R.permute(0, 3, 4, 1, 2),
        R + R.permute(0, 2, 3, 1, 4) + R.permute(0, 3, 1, 2, 4),  # Bianchi's first identity
    ]
    for law in laws:
        assert law.abs().max() < 1e-12


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ELU])
def test_embedding_and_metric_give_a_decoder_one_curvature(activation: type[nn.Module]) -> None:
    by_embedding = PullbackManifold(decoder(activation=activation))
    by_metric = MetricFunction(PullbackManifold(by_embedding.decoder).metric_tensor)
    z = torch.randn(4, 3)
    u, v = torch.randn(2, 4, 3)
    for quantity in OF_SECOND_DERIVATIVES:
        torch.testing.assert_close(quantity(by_embedding, z), quantity(by_metric, z), rtol=1e-8, atol=1e-10)
    K = sectional_curvature(by_embedding, z, u, v)
    torch.testing.assert_close(K, sectional_curvature(by_metric, z, u, v), rtol=1e-8, atol=1e-10)


def test_sections_ricci_and_scalar_curvature_are_contractions_of_the_riemann_tensor(tolerance) -> None:
    manifold, z = PullbackManifold(decoder()), torch.randn(5, 3)
    u, v = torch.randn(2, 5, 3)
    R, G, near = riemann_tensor(manifold, z), manifold.metric_tensor(z).detach(), tolerance(z.dtype)
    inverse = torch.linalg.inv(G)
    gram = torch.einsum("nai,nij,nbj->nab", torch.stack([u, v], 1), G, torch.stack([u, v], 1))
    K = torch.einsum("nijkl,ni,nj,nk,nl->n", R, u, v, v, u) / torch.linalg.det(gram)
    torch.testing.assert_close(sectional_curvature(manifold, z, u, v), K, **near)
    ricci = torch.einsum("nil,nijkl->njk", inverse, R)
    torch.testing.assert_close(ricci_tensor(manifold, z), ricci, **near)
    torch.testing.assert_close(scalar_curvature(manifold, z), torch.einsum("nij,nij->n", inverse, ricci), **near)


def test_the_connection_is_torsion_free_and_keeps_the_metric(tolerance) -> None:
    manifold, z = PullbackManifold(decoder()), torch.randn(5, 3)
    gamma, G = christoffel_symbols(manifold, z), manifold.metric_tensor(z).detach()
    torch.testing.assert_close(gamma, gamma.mT, **tolerance(z.dtype))
    slope = geodesic.autodiff.jacobian(manifold.metric_tensor, z).detach()  # [n, i, j, k] = d_k G_ij
    lowered = torch.einsum("nkl,nlij->nkij", G, gamma)
    expected = lowered.permute(0, 1, 3, 2) + lowered.permute(0, 3, 1, 2)
    torch.testing.assert_close(slope, expected, **tolerance(z.dtype))


def test_a_metric_times_c_squared_has_curvature_over_c_squared_and_the_same_connection(tolerance) -> None:
    base, z = PullbackManifold(decoder()), torch.randn(5, 3)
    scaled = PullbackManifold(lambda z: 7 * base.decoder(z))
    u, v = torch.randn(2, 5, 3)
    near = tolerance(z.dtype)
    K = sectional_curvature(base, z, u, v)
    torch.testing.assert_close(sectional_curvature(scaled, z, u, v), K / 49, **near)
    torch.testing.assert_close(scalar_curvature(scaled, z), scalar_curvature(base, z) / 49, **near)
    torch.testing.assert_close(ricci_tensor(scaled, z), ricci_tensor(base, z), **near)
    torch.testing.assert_close(christoffel_symbols(scaled, z), christoffel_symbols(base, z), **near)
    torch.testing.assert_close(magnification_factor(scaled, z), 343 * magnification_factor(base, z), **near)
    torch.testing.assert_close(anisotropy(scaled, z), anisotropy(base, z), **near)


def test_curvature_does_not_depend_on_latent_coordinates() -> None:
    base, z = PullbackManifold(decoder()), torch.randn(5, 3)
    A, b = torch.randn(3, 3) * torch.tensor([1.0, 1e-3, 1e3]), torch.randn(3)
    moved = PullbackManifold(lambda y: base.decoder(y @ A.T + b))
    y, u, v = (torch.linalg.solve(A, x[..., None])[..., 0] for x in (z - b, *torch.randn(2, 5, 3)))
    K = sectional_curvature(base, z, u @ A.T, v @ A.T)
    torch.testing.assert_close(sectional_curvature(moved, y, u, v), K, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(scalar_curvature(moved, y), scalar_curvature(base, z), rtol=1e-8, atol=1e-10)
    ricci = A.T @ ricci_tensor(base, z) @ A
    torch.testing.assert_close(ricci_tensor(moved, y) / ricci, torch.ones(5, 3, 3), rtol=1e-7, atol=0)


def test_sectional_curvature_depends_on_the_plane_alone() -> None:
    manifold, z = PullbackManifold(decoder()), torch.randn(5, 3)
    u, v = torch.randn(2, 5, 3)
    K = sectional_curvature(manifold, z, u, v)
    for a, b in ((v, u), (1e-100 * u, 1e100 * v), (u + 3 * v, v), (u - v, 2 * u + 5 * v), (u + 1e-4 * v, u)):
        torch.testing.assert_close(sectional_curvature(manifold, z, a, b), K, rtol=1e-9, atol=0)


# --- the metric at a point ----------------------------------------------------------------------


def linear(values: list[float], dtype: torch.dtype = torch.float64) -> PullbackManifold:
    return PullbackManifold(lambda z: z * torch.tensor(values, dtype=dtype))


def test_the_quantities_of_a_known_metric(tolerance) -> None:
    rotation = torch.linalg.qr(torch.randn(3, 3))[0]
    manifold, z = PullbackManifold(lambda z: z @ rotation * torch.tensor([1.0, 2.0, 4.0])), torch.zeros(3)
    eigenvalues = torch.tensor([1.0, 4.0, 16.0])  # of G
    fraction = (1.5 * (eigenvalues - 7).square().sum() / eigenvalues.square().sum()).sqrt()
    near = tolerance(z.dtype)
    torch.testing.assert_close(magnification_factor(manifold, z), torch.tensor(8.0), **near)
    torch.testing.assert_close(log_volume(manifold, z), torch.tensor(8.0).log(), **near)
    torch.testing.assert_close(condition_number(manifold, z), torch.tensor(16.0), **near)
    torch.testing.assert_close(anisotropy(manifold, z), fraction, **near)


def test_the_magnification_of_the_sphere_integrates_to_its_area() -> None:
    theta = torch.linspace(0, pi, 1001)
    factor = magnification_factor(Sphere(radius=2.0), torch.stack([theta, torch.zeros(1001)], dim=-1))
    assert float(2 * pi * torch.trapezoid(factor, theta)) == pytest.approx(16 * pi, rel=1e-5)


def test_volume_is_counted_in_logarithms_where_it_overflows() -> None:
    large = linear([1e3] * 64, torch.float32)
    z = torch.zeros(64, dtype=torch.float32)
    assert float(log_volume(large, z)) == pytest.approx(64 * 3 * 2.302585093, rel=1e-6)
    assert float(magnification_factor(large, z)) == inf


def test_a_singular_metric_has_no_volume_and_no_condition() -> None:
    flat, z = linear([2.0, 0.0, 0.0]), torch.randn(4, 3)
    assert (magnification_factor(flat, z) == 0).all()
    assert (log_volume(flat, z) == -inf).all()
    assert (condition_number(flat, z) == inf).all()
    torch.testing.assert_close(anisotropy(flat, z), torch.ones(4))
    assert (anisotropy(linear([0.0, 0.0]), torch.zeros(1, 2)) == 0).all()


def test_units_that_differ_by_orders_of_magnitude_are_not_singular() -> None:
    manifold, z = linear([1.0, 1e-9]), torch.zeros(2)
    assert float(condition_number(manifold, z)) == pytest.approx(1e18, rel=1e-10)
    assert float(magnification_factor(manifold, z)) == pytest.approx(1e-9, rel=1e-10)


def test_anisotropy_runs_from_zero_to_one() -> None:
    assert float(anisotropy(linear([3.0, 3.0]), torch.zeros(2))) == pytest.approx(0, abs=1e-15)
    assert float(anisotropy(linear([1e150, 1.0]), torch.zeros(2))) == pytest.approx(1, abs=1e-15)
    assert float(anisotropy(linear([5.0]), torch.zeros(1))) == 0
    random = anisotropy(PullbackManifold(decoder()), torch.randn(50, 3))
    assert ((random > 0) & (random < 1)).all()


def test_outside_of_a_manifold_its_metric_has_no_quantities() -> None:
    z = torch.tensor([[0.0, -1.0], [0.0, 1.0]])
    for quantity in (magnification_factor, log_volume, condition_number, anisotropy):
        assert quantity(HyperbolicPlane(), z).isnan().tolist() == [True, False]


# --- all quantities -----------------------------------------------------------------------------


@pytest.mark.parametrize("quantity", OF_A_POINT)
def test_a_batch_gives_the_numbers_of_its_rows(quantity, tolerance) -> None:
    manifold, z = PullbackManifold(decoder()), torch.randn(2, 3, 3)
    answer = quantity(manifold, z)
    for i, j in ((0, 0), (1, 2)):
        torch.testing.assert_close(answer[i, j], quantity(manifold, z[i, j]), **tolerance(z.dtype))


@pytest.mark.parametrize("quantity", OF_A_POINT)
def test_groups_of_rows_give_the_numbers_of_the_whole(quantity, monkeypatch, tolerance) -> None:
    manifold, z = PullbackManifold(decoder()), torch.randn(5, 3)
    whole = quantity(manifold, z)
    monkeypatch.setattr("geodesic.riemannian.curvature.pointwise.rows_at_once", lambda manifold, z: 6)
    torch.testing.assert_close(quantity(manifold, z), whole, **tolerance(z.dtype))


@pytest.mark.parametrize("quantity", OF_A_POINT)
def test_single_precision_is_near_double(quantity) -> None:
    network, z = decoder(), torch.randn(5, 3)
    expected = quantity(PullbackManifold(network), z)
    answer = quantity(PullbackManifold(network.float()), z.float())
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer.double(), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("quantity", OF_A_POINT)
def test_points_with_a_shape_give_the_numbers_of_flat_ones(quantity, tolerance) -> None:
    network = decoder(4)
    images = PullbackManifold(lambda z: network(z.flatten(1)), latent_shape=(2, 2))
    z = torch.randn(3, 4)
    answer = quantity(images, z.reshape(3, 2, 2))
    torch.testing.assert_close(answer, quantity(PullbackManifold(network), z), **tolerance(z.dtype))


@pytest.mark.filterwarnings("ignore::geodesic.errors.GeodesicWarning")  # as it should: paths are coarse here
@pytest.mark.parametrize("quantity", OF_A_POINT)
def test_nothing_keeps_history_and_inference_mode_is_no_obstacle(quantity, tolerance) -> None:
    manifold, z = PullbackManifold(decoder()), torch.randn(3, 3, requires_grad=True)
    answer = quantity(manifold, z)
    assert not answer.requires_grad
    with torch.inference_mode():
        torch.testing.assert_close(quantity(manifold, z.detach().clone()), answer, **tolerance(z.dtype))


@pytest.mark.parametrize("quantity", OF_SECOND_DERIVATIVES)
@pytest.mark.parametrize(
    ("manifold", "point"),
    [
        (Cone(), (0.0, 1.0)),
        (Sphere(), (0.0, 0.5)),
        (PullbackManifold(lambda z: torch.stack([z[:, 0].sin(), z[:, 0].cos(), z[:, 1] ** 2], dim=1)), (0.25, 0.0)),
        (PullbackManifold(lambda z: 0 * z + 1), (0.25, 0.5)),
    ],
    ids=["tip of a cone", "pole of a sphere", "fold", "constant"],
)
def test_a_point_with_a_singular_metric_is_named(quantity, manifold: Manifold, point: tuple[float, float]) -> None:
    z = torch.tensor([(1.0, 2.0), point]) if not isinstance(manifold, PullbackManifold) else torch.tensor([point])
    named_point = rf"^z: the metric is singular at \({point[0]:g}, {point[1]:g}\)"
    with pytest.raises(geodesic.errors.SingularMetricError, match=named_point):
        quantity(manifold, z)
    for ask in (
        lambda: sectional_curvature(manifold, z, torch.ones_like(z), torch.eye(2)[: len(z)]),
        lambda: jacobi_field(manifold, z, z, z, z),
        lambda: conjugate_points(manifold, z, z + 1),
    ):
        with pytest.raises(geodesic.errors.SingularMetricError, match=named_point):
            ask()


def test_a_manifold_without_lengths_has_a_metric_but_no_curvature() -> None:
    manifold, z = IndependentEnsembleManifold([decoder(), decoder()]), torch.randn(2, 3)
    assert log_volume(manifold, z).isfinite().all()
    asks = [lambda f=f: f(manifold, z) for f in OF_SECOND_DERIVATIVES]
    asks.append(lambda: sectional_curvature(manifold, z, z, z + 1))
    asks.append(lambda: jacobi_field(manifold, z, z, z, z))
    asks.append(lambda: conjugate_points(manifold, z, z))
    for ask in asks:
        with pytest.raises(geodesic.errors.InputError, match="do not vanish with the step"):
            ask()


def test_parallel_vectors_span_no_plane_and_their_row_is_named() -> None:
    u = torch.tensor([[1.0, 0.0], [1.0, 2.0]])
    v = torch.tensor([[0.0, 1.0], [-3.0, -6.0 + 1e-10]])
    with pytest.raises(geodesic.errors.InputError, match=r"^u, v: at \[1\], u = \(1, 2\).*parallel"):
        sectional_curvature(Torus(), torch.zeros(2, 2), u, v)
    with pytest.raises(geodesic.errors.InputError, match=r"^u, v: u = \(0, 0\).*parallel"):
        sectional_curvature(Torus(), torch.zeros(2), torch.zeros(2), v[0])
    turned = v[1:] + torch.tensor([[0.0, 1e-4]])
    assert sectional_curvature(Torus(), torch.zeros(1, 2), u[1:], turned).item() == pytest.approx(1 / 3, rel=1e-7)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: scalar_curvature(Sphere(), [1.0, 2.0]), "^z: expected a tensor, got list"),
        (lambda: scalar_curvature("sphere", torch.ones(2)), "^manifold: expected a Manifold"),
        (lambda: ricci_tensor(Sphere(), torch.tensor([1, 2])), "^z: expected floating point"),
        (lambda: log_volume(Sphere(), torch.tensor([1.0, inf])), "^z: expected finite coordinates"),
        (
            lambda: sectional_curvature(Sphere(), torch.ones(3, 2), torch.ones(2), torch.ones(3, 2)),
            "^u: expected the shape of z",
        ),
        (
            lambda: jacobi_field(Sphere(), *[torch.ones(2)] * 3, torch.ones(3)),
            "^W: expected the shape of z",
        ),
        (
            lambda: jacobi_field(Sphere(), *[torch.ones(2)] * 4, follow=Follow(segments=0)),
            "^segments: expected an integer",
        ),
        (
            lambda: conjugate_points(Sphere(), *[torch.ones(2)] * 2, follow=Follow(rtol=2.0)),
            "^rtol: expected a number between",
        ),
        (
            lambda: conjugate_points(Sphere(), *[torch.ones(2)] * 2, follow=Follow(max_iterations=0)),
            "^max_iterations: expected an integer",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(ask, message: str, monkeypatch) -> None:
    for function in ("scalar_curvature", "ricci_tensor", "log_volume", "sectional_curvature"):
        # without the checker that watches the tests: a user has none
        monkeypatch.setitem(globals(), function, inspect.unwrap(globals()[function]))
    for function in ("jacobi_field", "conjugate_points"):
        monkeypatch.setitem(globals(), function, inspect.unwrap(globals()[function]))
    with pytest.raises(geodesic.errors.InputError, match=message):
        ask()


# --- Jacobi fields ------------------------------------------------------------------------------


def test_the_field_of_a_space_form_is_the_one_in_closed_form() -> None:
    equator, speed = torch.tensor([[pi / 2, 0.0]]), 2.5
    zero, south, east = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    sphere = jacobi_field(Sphere(), equator, speed * east, 0.5 * south, south, follow=Follow(segments=8))
    t = torch.linspace(0, 1, 9)
    expected = 0.5 * (speed * t).cos() + (speed * t).sin() / speed
    torch.testing.assert_close(sphere.field[0, :, 0], expected, rtol=0, atol=1e-7)
    slope = -0.5 * speed * (speed * t).sin() + (speed * t).cos()
    torch.testing.assert_close(sphere.derivative[0, :, 0], slope, rtol=0, atol=1e-7)
    assert sphere.converged.all()
    # Straight up from (0, 1) at unit speed y = e^t, and a field across has length sinh t, so that Y_x = e^t sinh t.
    plane = jacobi_field(HyperbolicPlane(), east, east, zero, south, follow=Follow(segments=8))
    torch.testing.assert_close(plane.field[0, :, 0], t.exp() * t.sinh(), rtol=0, atol=1e-7)


@pytest.mark.slow
def test_the_field_is_the_derivative_of_the_exponential_map() -> None:
    manifold, step = PullbackManifold(decoder()), 1e-4
    z, v, Y, W = torch.randn(4, 3, 3) * 0.5
    gamma = christoffel_symbols(manifold, z)
    slope = W - torch.einsum("nkij,ni,nj->nk", gamma, v, Y)  # dv/ds with D v/ds = W
    start, turn = torch.stack([Y, torch.zeros_like(Y)]), torch.stack([slope, W])  # from beside, and from the same point
    h = torch.tensor([step, -step])[:, None, None, None]
    beside = exp_map(manifold, z + h * start, v + h * turn, follow=Follow(segments=4, rtol=1e-12)).path
    both = (x.expand(2, -1, -1) for x in (z, v, start, W))
    answer = jacobi_field(manifold, *both, follow=Follow(segments=4, rtol=1e-10))
    assert answer.converged.all()
    torch.testing.assert_close(answer.field, (beside[0] - beside[1]) / (2 * step), rtol=0, atol=1e-6)


def test_the_velocity_and_what_stands_still_are_fields() -> None:
    manifold, z, v = Torus(), torch.tensor([0.5, 1.0]), torch.tensor([0.7, -0.4])
    zero = torch.zeros(2)
    along = jacobi_field(manifold, z, v, zero, v, follow=Follow(segments=4))
    t = torch.linspace(0, 1, 5)[:, None]
    torch.testing.assert_close(along.field, t * along.velocity, rtol=0, atol=1e-7)
    nothing = jacobi_field(manifold, z, v, zero, zero)
    assert bool(nothing.converged)
    assert (nothing.field == 0).all()
    still = jacobi_field(manifold, z, zero, v, v + 1, follow=Follow(segments=4))
    assert bool(still.converged)
    torch.testing.assert_close(still.field, v + t * (v + 1))


def test_a_field_that_cannot_be_followed_to_the_end_is_reported() -> None:
    z = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    v = torch.tensor([[0.0, 0.1], [2.0, 3.0]])  # a short way, and a long one
    answer = jacobi_field(Torus(), z, v, v, v, follow=Follow(max_iterations=4))
    assert answer.converged.tolist() == [True, False]
    assert int(answer.status[1]) == Status.MAX_ITERATIONS
    assert 0 < float(answer.time[1]) < 1


def test_points_with_a_shape_have_fields_with_that_shape(tolerance) -> None:
    network = decoder(4)
    images = PullbackManifold(lambda z: network(z.flatten(1)), latent_shape=(2, 2))
    z, v, Y, W = torch.randn(4, 2, 4) * 0.3
    answer = jacobi_field(images, *(x.reshape(2, 2, 2) for x in (z, v, Y, W)), follow=Follow(segments=2))
    flat = jacobi_field(PullbackManifold(network), z, v, Y, W, follow=Follow(segments=2))
    torch.testing.assert_close(answer.field.flatten(-2), flat.field, **tolerance(z.dtype))
    points = conjugate_points(images, z.reshape(2, 2, 2), v.reshape(2, 2, 2), follow=Follow(segments=4))
    assert points.time.tolist() == [inf, inf]


# --- conjugate points ---------------------------------------------------------------------------


def test_the_first_conjugate_point_of_a_sphere_is_the_antipode() -> None:
    radius = 1.7
    z = torch.tensor([[pi / 2, 0.0]]).expand(3, 2)
    speed = torch.tensor([4.0, pi, 3.0])  # before the end, at it, behind it
    v = torch.stack([torch.zeros(3), speed], dim=-1)
    answer = conjugate_points(Sphere(radius=radius), z, v, follow=Follow(segments=8))
    expected = (pi * radius / (radius * speed)).tolist()
    expected[2] = inf
    assert answer.time.tolist() == pytest.approx(expected, abs=1e-8)
    assert answer.converged.all()
    margin = [0.0, 0.0, sin(3.0) / 3.0]
    assert answer.margin.tolist() == pytest.approx(margin, abs=1e-7)


@pytest.mark.slow
def test_fields_that_vanish_together_are_seen() -> None:
    """All n - 1 at once: with n = 3 their determinant does not change sign."""
    n = 3
    sphere, v = StereographicSphere(dimension=n), torch.randn(2, n)
    z = 0.1 * torch.randn(2, n) - 0.8 * v / v.norm(dim=-1, keepdim=True)  # so that the way is not by infinity
    v = v / sphere.squared_norm(z, v).sqrt()[:, None] * torch.tensor([[3.6], [3.0]])
    answer = conjugate_points(sphere, z, v, follow=Follow(segments=8))
    assert answer.time.tolist() == pytest.approx([pi / 3.6, inf], abs=1e-8)


def test_the_outer_equator_of_a_torus_has_a_conjugate_point_where_sturm_puts_it() -> None:
    R, r = 2.5, 0.8
    v = torch.tensor([[0.0, 1.9], [0.0, 1.2]])
    first = pi * (r * (R + r)) ** 0.5 / ((R + r) * v[:, 1])
    torus = Torus(major_radius=R, minor_radius=r)
    answer = conjugate_points(torus, torch.zeros(2, 2), v, follow=Follow(segments=8))
    assert answer.time.tolist() == pytest.approx([float(first[0]), inf], abs=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("manifold", "z", "v"),
    [
        (Saddle(), (0.1, 0.2), (2.0, 1.0)),
        (FlatTorus(dimension=3), (0.0, 0.0, 0.0), (2.0, 1.0, 1.0)),
        (Pseudosphere(), (2.0, 0.0), (-0.5, 0.3)),
        (HyperbolicPlane(), (0.0, 1.0), (2.0, 1.0)),
        (StereographicSphere(dimension=1), (-0.5,), (2.0,)),
    ],
    ids=["saddle", "plane", "pseudosphere", "hyperbolic plane", "circle"],
)
def test_without_positive_curvature_no_point_is_conjugate(manifold: Manifold, z: tuple, v: tuple) -> None:
    answer = conjugate_points(manifold, torch.tensor(z), torch.tensor(v), follow=Follow(segments=8, rtol=1e-6))
    assert bool(answer.converged)
    assert float(answer.time) == inf
    assert float(answer.margin) == pytest.approx(1, abs=1e-5)  # Rauch: fields grow at least as in flat space


@pytest.mark.slow
def test_products_of_spheres_have_the_first_conjugate_point_of_the_faster_factor() -> None:
    """Fields of three sizes along one geodesic: of both spheres, and a flat direction."""
    one, other = StereographicSphere(), StereographicSphere()

    def product(z: Tensor) -> Tensor:
        return torch.cat([one.embed(z[..., :2]), other.embed(z[..., 2:4]), z[..., 4:]], dim=-1)

    z, v = torch.tensor([0.1, 0.2, 0.1, 0.8, 0.0]), torch.tensor([0.7, 0.3, 0.0, -2.8, 0.5])
    speed = float(other.squared_norm(z[2:4], v[2:4]).sqrt())
    answer = conjugate_points(PullbackManifold(product), z, v, follow=Follow(segments=8, rtol=1e-6))
    assert speed > pi
    assert float(answer.time) == pytest.approx(pi / speed, abs=1e-6)


@pytest.mark.slow
def test_few_segments_are_made_more_where_curvature_asks_for_them() -> None:
    z, v = torch.tensor([pi / 2, 0.0]), torch.tensor([0.0, 4.0])
    answer = conjugate_points(Sphere(), z, v, follow=Follow(segments=2, rtol=1e-5))
    assert float(answer.time) == pytest.approx(pi / 4, abs=1e-4)
    short = conjugate_points(Sphere(), z[None], v[None], follow=Follow(segments=1, max_iterations=3))
    assert int(short.status) == Status.MAX_ITERATIONS
    assert short.time.isnan().all()


def test_without_the_steps_to_tell_the_time_is_unknown_and_what_stands_still_has_no_conjugate_point() -> None:
    z, v = torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 3.0], [0.0, 0.0]])
    answer = conjugate_points(Torus(), z, v, follow=Follow(max_iterations=2, segments=2))
    assert answer.converged.tolist() == [False, True]
    assert answer.time.isnan().tolist() == [True, False]
    assert float(answer.time[1]) == inf


# --- others -------------------------------------------------------------------------------------


def beta_distributions() -> geodesic.MetricFunction:
    """Their Fisher-Rao metric: the Hessian of log B(a, b)."""

    def metric(z: Tensor) -> Tensor:
        own, both = torch.polygamma(1, z), torch.polygamma(1, z.sum(-1))
        return torch.diag_embed(own) - both[..., None, None]

    return geodesic.MetricFunction(metric)


@pytest.mark.parametrize("which", ["sphere", "beta distributions"])
def test_geomstats_has_the_same_symbols(which: str) -> None:
    pytest.importorskip("geomstats")
    import geomstats.backend as gs
    import numpy as np

    if which == "sphere":
        from geomstats.geometry.hypersphere import Hypersphere

        metric, manifold = Hypersphere(2, intrinsic=True).metric, Sphere()
    else:
        from geomstats.information_geometry.beta import BetaDistributions

        metric, manifold = BetaDistributions().metric, beta_distributions()
    z = torch.rand(3, 2) + 0.5
    expected = np.stack([metric.christoffels(gs.array(point.numpy())) for point in z])
    torch.testing.assert_close(christoffel_symbols(manifold, z), torch.as_tensor(expected), rtol=1e-6, atol=1e-6)
