"""Laws of the surfaces with closed forms, and of manifolds given by their metric alone."""

import inspect
from collections.abc import Callable
from math import cos, pi, sin

import pytest
import torch
from torch import Tensor
from torch.func import hessian, jacfwd

import geodesic
from geodesic import Manifold
from geodesic.geometry import ChordManifold, EmbeddedManifold, MetricManifold
from geodesic.geometry.surfaces import SURFACES
from geodesic.surfaces import (
    Catenoid,
    Cone,
    Cylinder,
    DistanceManifold,
    FlatTorus,
    Helicoid,
    HyperbolicPlane,
    Paraboloid,
    Pseudosphere,
    Saddle,
    Sphere,
    StereographicSphere,
    Surface,
    SwissRoll,
    SymmetricSurface,
    Torus,
)
from tests import surfaces


def diagonal(A: Callable[[Tensor], Tensor], B: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The metric diag(A(t), B(t)), t the first coordinate."""
    return lambda z: torch.diag_embed(torch.stack([A(z[..., 0]), B(z[..., 0])], dim=-1))


def graph(slope: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The metric I + s s^T of a graph over the plane with slope s."""
    return lambda z: torch.eye(2) + slope(z)[..., :, None] * slope(z)[..., None, :]


def conformal(factor: Callable[[Tensor], Tensor], n: int = 2) -> Callable[[Tensor], Tensor]:
    return lambda z: factor(z)[..., None, None] * torch.eye(n)


def box(*ranges: tuple[float, float]) -> Tensor:
    """Bounds of a box in the chart, (2, d): its points are drawn from there."""
    return torch.tensor(ranges, dtype=torch.float64).T


def one(t: Tensor) -> Tensor:
    return torch.ones_like(t)


# name: (manifold, its metric in closed form, where in the chart to draw points)
# Settings other than the defaults, so that none is forgotten in a formula.
MANIFOLDS: dict[str, tuple[Manifold, Callable[[Tensor], Tensor], Tensor]] = {
    "sphere": (
        Sphere(radius=1.5),
        diagonal(lambda t: 2.25 * one(t), lambda t: 2.25 * t.sin() ** 2),
        box((0.3, 2.8), (-1.4, 1.4)),
    ),
    "stereographic circle": (
        StereographicSphere(dimension=1),
        conformal(lambda z: 4 / (1 + z.square().sum(-1)) ** 2, 1),
        box((-2, 2)),
    ),
    "stereographic sphere": (
        StereographicSphere(dimension=4),
        conformal(lambda z: 4 / (1 + z.square().sum(-1)) ** 2, 4),
        box(*[(-1, 1)] * 4),
    ),
    "hyperbolic plane": (HyperbolicPlane(), conformal(lambda z: z[..., 1] ** -2), box((-2, 2), (0.2, 3))),
    "pseudosphere": (
        Pseudosphere(),
        diagonal(lambda t: t.tanh() ** 2, lambda t: t.cosh() ** -2),
        box((0.3, 2), (-2, 2)),
    ),
    "cylinder": (Cylinder(radius=0.7), diagonal(lambda t: 0.49 * one(t), one), box((-4, 4), (-1, 1))),
    "cone": (
        Cone(half_angle=0.4),
        diagonal(one, lambda t: (t * sin(0.4)) ** 2),
        box((0.5, 2), (-3, 3)),
    ),
    "Swiss roll": (SwissRoll(), diagonal(lambda t: 1 + t**2, one), box((0.5, 8), (-1, 1))),
    "paraboloid": (Paraboloid(steepness=0.6), graph(lambda z: 1.2 * z), box((-1, 1), (-1, 1))),
    "saddle": (Saddle(steepness=0.6), graph(lambda z: 1.2 * z * torch.tensor([1.0, -1.0])), box((-1, 1), (-1, 1))),
    "torus": (
        Torus(major_radius=2.5, minor_radius=0.8),
        diagonal(lambda t: 0.64 * one(t), lambda t: (2.5 + 0.8 * t.cos()) ** 2),
        box((-pi, pi), (-2, 2)),
    ),
    "catenoid": (
        Catenoid(waist=1.3),
        diagonal(lambda t: (t / 1.3).cosh() ** 2, lambda t: (1.3 * (t / 1.3).cosh()) ** 2),
        box((-1, 1), (-2, 2)),
    ),
    "helicoid": (Helicoid(rise=0.7), diagonal(one, lambda t: 0.49 + t**2), box((-1, 1), (-2, 2))),
    "flat torus": (FlatTorus(dimension=3, frequency=2.0), conformal(lambda z: one(z[..., 0]), 3), box(*[(-3, 3)] * 3)),
}


def test_every_registered_surface_is_tried_here() -> None:
    assert {type(manifold) for manifold, *_ in MANIFOLDS.values()} == set(SURFACES.values())


def named(contract: type) -> list[str]:
    return [name for name, (manifold, *_) in MANIFOLDS.items() if isinstance(manifold, contract)]


def drawn(name: str, n: int = 40) -> Tensor:
    low, high = MANIFOLDS[name][2]
    return low + (high - low) * torch.rand(n, len(low))


# --- metrics ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MANIFOLDS)
def test_the_metric_from_derivatives_is_the_one_in_closed_form(name: str, tolerance) -> None:
    manifold, metric, _ = MANIFOLDS[name]
    z = drawn(name)
    torch.testing.assert_close(manifold.metric_tensor(z), metric(z), **tolerance(z.dtype))


@pytest.mark.parametrize("name", MANIFOLDS)
def test_any_number_of_batch_axes_gives_the_same_numbers(name: str, tolerance) -> None:
    manifold, _, _ = MANIFOLDS[name]
    z = drawn(name, 6)
    questions = [manifold.metric_tensor]
    if isinstance(manifold, Surface):
        questions.append(manifold.gaussian_curvature)
    if isinstance(manifold, SymmetricSurface):
        questions.append(lambda z: manifold.clairaut_constant(z, z + 1))
    if isinstance(manifold, DistanceManifold):
        questions.append(lambda z: manifold.distance(z, z * 1.1))
    for question in questions:
        answer = question(z)
        folded = question(z.reshape(2, 3, -1))
        assert folded.shape == (2, 3, *answer.shape[1:])
        torch.testing.assert_close(folded.flatten(0, 1), answer, **tolerance(z.dtype))
        torch.testing.assert_close(question(z[3]), answer[3], **tolerance(z.dtype))


# --- curvature ----------------------------------------------------------------------------------


def sectional_curvature(manifold: EmbeddedManifold, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Of the plane of u and v at a point z, by the Gauss equation: (<II_uu, II_vv> - |II_uv|^2) / |u ^ v|^2."""
    J = jacfwd(manifold.embed)(z)
    second = torch.einsum("Dij,ai,bj->abD", hessian(manifold.embed)(z), torch.stack([u, v]), torch.stack([u, v]))
    normal = second - second @ torch.linalg.pinv(J).T @ J.T
    area = torch.linalg.det(torch.stack([u, v]) @ J.T @ J @ torch.stack([u, v]).T)
    return (normal[0, 0] @ normal[1, 1] - normal[0, 1] @ normal[0, 1]) / area


def brioschi(metric: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Gaussian curvature at a point z from the metric alone, by Brioschi's formula."""
    G, dG, ddG = metric(z), jacfwd(metric)(z), hessian(metric)(z)
    (E, F), (_, H) = G
    (E_u, E_v), (F_u, F_v), (H_u, H_v) = dG[0, 0], dG[0, 1], dG[1, 1]
    corner = -ddG[0, 0, 1, 1] / 2 + ddG[0, 1, 0, 1] - ddG[1, 1, 0, 0] / 2
    zero = torch.zeros_like(E)
    rows = [[corner, E_u / 2, F_u - E_v / 2], [F_v - H_u / 2, E, F], [H_v / 2, F, H]]
    less = [[zero, E_v / 2, H_u / 2], [E_v / 2, E, F], [H_u / 2, F, H]]
    first, second = (torch.linalg.det(torch.stack([torch.stack(row) for row in M])) for M in (rows, less))
    return (first - second) / torch.linalg.det(G) ** 2


@pytest.mark.parametrize("name", named(Surface))
def test_the_curvature_is_what_brioschis_formula_makes_of_the_metric(name: str) -> None:
    surface, metric, _ = MANIFOLDS[name]
    z = drawn(name, 8)
    expected = torch.stack([brioschi(metric, point) for point in z])
    torch.testing.assert_close(surface.gaussian_curvature(z), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", [name for name in named(Surface) if name in named(EmbeddedManifold)])
def test_the_curvature_is_what_the_gauss_equation_makes_of_the_embedding(name: str) -> None:
    surface = MANIFOLDS[name][0]
    z, (u, v) = drawn(name, 8), torch.eye(2)
    expected = torch.stack([sectional_curvature(surface, point, u, v) for point in z])
    torch.testing.assert_close(surface.gaussian_curvature(z), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "curvature"), [("stereographic sphere", 1.0), ("flat torus", 0.0), ("sphere", 1 / 2.25)]
)
def test_all_sections_of_a_space_form_have_one_curvature(name: str, curvature: float) -> None:
    manifold = MANIFOLDS[name][0]
    for z in drawn(name, 8):
        u, v = torch.randn_like(z), torch.randn_like(z)
        assert float(sectional_curvature(manifold, z, u, v)) == pytest.approx(curvature, abs=1e-8)


# --- distance -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", named(DistanceManifold))
def test_the_distance_of_near_points_is_the_metrics_to_second_order(name: str) -> None:
    manifold, metric, _ = MANIFOLDS[name]
    z = drawn(name)
    v = torch.nn.functional.normalize(torch.randn_like(z), dim=-1)
    norm = torch.einsum("ni,nij,nj->n", v, metric(z), v).sqrt()
    # Even in h round the middle point, so halving h must take three quarters of the error.
    coarse, fine = ((manifold.distance(z - h / 2 * v, z + h / 2 * v) / h - norm).abs() for h in (2e-2, 1e-2))
    assert (fine <= coarse / 3.5 + 1e-11).all()


@pytest.mark.parametrize("name", named(DistanceManifold))
def test_the_gradient_of_the_distance_has_unit_length(name: str) -> None:
    """The eikonal equation, at any distance; with the law above it says that the distance is the geodesic one."""
    manifold, metric, _ = MANIFOLDS[name]
    a, b = drawn(name), drawn(name).requires_grad_()
    (slope,) = torch.autograd.grad(manifold.distance(a, b).sum(), b)
    with torch.no_grad():
        length = torch.einsum("ni,nij,nj->n", slope, torch.linalg.inv(metric(b)), slope)
    torch.testing.assert_close(length, torch.ones_like(length), rtol=1e-8, atol=0)


@pytest.mark.parametrize("name", named(DistanceManifold))
def test_the_distance_is_a_distance(name: str, tolerance) -> None:
    manifold = MANIFOLDS[name][0]
    a, b, c = drawn(name), drawn(name), drawn(name)
    ab, bc, ac = manifold.distance(a, b), manifold.distance(b, c), manifold.distance(a, c)
    torch.testing.assert_close(ab, manifold.distance(b, a), **tolerance(a.dtype))
    assert (ab > 0).all()
    assert (ac <= ab + bc + 1e-12).all()
    assert (manifold.distance(a, a) == 0).all()


@pytest.mark.parametrize("name", named(DistanceManifold))
def test_the_straight_line_is_no_shorter_than_the_distance(name: str) -> None:
    manifold = MANIFOLDS[name][0]
    a, b = drawn(name), drawn(name)
    straight = geodesic.path_length(manifold, geodesic.straight_path(a, b, segments=256))
    assert (manifold.distance(a, b) <= straight * (1 + 1e-9)).all()


@pytest.mark.parametrize("name", named(DistanceManifold))
def test_the_distance_between_equal_points_is_zero_and_so_is_its_gradient(name: str) -> None:
    manifold = MANIFOLDS[name][0]
    a = drawn(name)
    b = a.clone().requires_grad_()
    distance = manifold.distance(a, b)
    (slope,) = torch.autograd.grad(distance.sum(), b)
    assert (distance == 0).all()
    assert (slope == 0).all()


@pytest.mark.parametrize(
    "name", ["sphere", "stereographic sphere", "hyperbolic plane", "pseudosphere", "cylinder", "cone", "flat torus"]
)
def test_single_precision_keeps_the_digits_of_a_short_distance(name: str) -> None:
    manifold = MANIFOLDS[name][0]
    a = drawn(name).float()
    b = a + 1e-3 * torch.randn_like(a)
    exact = manifold.distance(a.double(), b.double())  # of the very same points
    torch.testing.assert_close(manifold.distance(a, b).double(), exact, rtol=3e-6, atol=0)


@pytest.mark.parametrize(
    "name", [name for name, known in surfaces.KNOWN.items() if isinstance(known.manifold, DistanceManifold)]
)
def test_the_distance_of_the_known_pair_is_the_known_length(name: str) -> None:
    manifold, start, end, length, _ = surfaces.KNOWN[name]
    assert float(manifold.distance(torch.tensor(start), torch.tensor(end))) == pytest.approx(length, abs=1e-9)


@pytest.mark.parametrize("name", named(DistanceManifold))
def test_solve_finds_the_distance(name: str) -> None:
    manifold = MANIFOLDS[name][0]
    z = drawn(name, 6)
    # Near enough to each other for no way on the cone to lead through its tip.
    a, b = z, z.lerp(drawn(name, 6), 0.4)
    solution = geodesic.solve(manifold, a, b, tol=1e-11)
    assert solution.converged.all()
    torch.testing.assert_close(solution.length, manifold.distance(a, b), rtol=2e-5, atol=0)


def test_the_distance_on_a_sphere_takes_the_short_way_round_and_reaches_the_antipode() -> None:
    sphere = Sphere(radius=2.0)
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.3]])
    b = torch.tensor([[1.0, 2 * pi], [pi - 1, pi], [0.0, 2.0]])
    expected = torch.tensor([0.0, 2 * pi, 0.0])  # once round; opposite points; the pole by two names
    torch.testing.assert_close(sphere.distance(a, b), expected, rtol=1e-12, atol=1e-12)
    assert float(StereographicSphere().distance(torch.tensor([2.0, 0.0]), torch.tensor([-0.5, 0.0]))) == pytest.approx(
        pi, abs=1e-12
    )


def test_both_charts_of_the_sphere_agree() -> None:
    chart, projection = Sphere(), StereographicSphere()
    a, b = drawn("sphere"), drawn("sphere")

    def projected(z: Tensor) -> Tensor:
        return (1 / (z[:, :1] / 2).tan()) * torch.stack([z[:, 1].cos(), z[:, 1].sin()], dim=1)

    torch.testing.assert_close(projection.embed(projected(a)), chart.embed(a), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        projection.distance(projected(a), projected(b)), chart.distance(a, b), rtol=1e-10, atol=1e-12
    )


def test_a_cylinder_and_a_flat_torus_are_unwound() -> None:
    turn = torch.tensor([2 * pi, 0.0])
    for manifold in (Cylinder(), FlatTorus()):
        assert float(manifold.distance(torch.zeros(2), turn)) == pytest.approx(2 * pi, rel=1e-12)
        torch.testing.assert_close(manifold.embed(turn), manifold.embed(torch.zeros(2)), rtol=0, atol=1e-12)


def test_the_way_through_the_tip_of_a_cone_begins_where_the_unrolled_angle_is_straight() -> None:
    cone = Cone(half_angle=0.5)
    phi = pi / sin(0.5) * torch.tensor([0.9, 1 - 1e-9, 1.0, 1.1])
    a, b = torch.tensor([1.0, 0.0]).expand(4, 2), torch.stack([torch.full((4,), 2.0), phi], dim=1)
    expected = torch.tensor([(5 - 4 * cos(0.9 * pi)) ** 0.5, 3.0, 3.0, 3.0])
    torch.testing.assert_close(cone.distance(a, b), expected, rtol=1e-9, atol=0)


def test_the_hyperbolic_plane_has_nothing_below_its_edge() -> None:
    plane, above, below = HyperbolicPlane(), torch.tensor([0.0, 1.0]), torch.tensor([0.0, -1.0])
    assert plane.metric_tensor(below).isnan().any()
    assert plane.distance(above, below).isnan()
    assert plane.distance(below, below - 1).isnan()
    with pytest.raises(geodesic.errors.InputError, match="metric_tensor is not finite at"):
        geodesic.solve(plane, above, below)


# --- constants of motion ------------------------------------------------------------------------


def spread_of_clairauts_constant(name: str, T: int) -> float:
    manifold, start, end, *_ = surfaces.KNOWN[name]
    path = geodesic.solve(manifold, torch.tensor(start), torch.tensor(end), segments=T, tol=1e-15).path
    constant = manifold.clairaut_constant(path[1:-1], T * (path[2:] - path[:-2]) / 2)
    return float(constant.max() - constant.min())


@pytest.mark.parametrize(
    "name", [name for name, known in surfaces.KNOWN.items() if isinstance(known.manifold, SymmetricSurface)]
)
def test_clairauts_constant_is_one_along_a_geodesic_to_second_order(name: str) -> None:
    coarse, fine = spread_of_clairauts_constant(name, 32), spread_of_clairauts_constant(name, 64)
    assert fine <= coarse / 3.3 + 1e-6  # where it is exact, what is left is how far the path has converged
    assert fine < 1e-2


def test_clairauts_constant_changes_along_a_curve_that_is_no_geodesic() -> None:
    manifold, start, end, *_ = surfaces.KNOWN["torus"]
    path = geodesic.straight_path(torch.tensor(start), torch.tensor(end))
    constant = manifold.clairaut_constant(path, (path[-1] - path[0]).expand_as(path))
    assert float(constant.max() - constant.min()) > 1


# --- manifolds given by their metric ------------------------------------------------------------


class Metric(MetricManifold):
    """Any function of z as a metric."""

    def __init__(self, metric: Callable[[Tensor], Tensor]) -> None:
        self.metric = metric

    def metric_tensor(self, z: Tensor) -> Tensor:
        return self.metric(z)


class LeftNode(ChordManifold):
    """The rule not to use: the metric at the left node of each segment."""

    def __init__(self, manifold: MetricManifold) -> None:
        self.manifold = manifold

    def metric_tensor(self, z: Tensor) -> Tensor:
        return self.manifold.metric_tensor(z)

    def squared_chords(self, path: Tensor) -> Tensor:
        return self.squared_norm(path[..., :-1, :], path.diff(dim=-2))


def test_the_gradient_of_a_metrics_energy_is_its_derivative() -> None:
    manifold, path, step = HyperbolicPlane(), drawn("hyperbolic plane", 7), 1e-6
    gradient = geodesic.energy_gradient(manifold, path)
    for i, j in ((1, 0), (3, 1), (5, 1)):
        change = torch.zeros_like(path)
        change[i, j] = step
        slope = geodesic.path_energy(manifold, path + change) - geodesic.path_energy(manifold, path - change)
        assert float(slope) / (2 * step) == pytest.approx(float(gradient[i - 1, j]), rel=1e-7)


def test_neither_chords_nor_gradient_of_a_metric_keep_history_and_nothing_is_written_to() -> None:
    path = drawn("hyperbolic plane", 9).requires_grad_()
    before = path.detach().clone()
    chords, pull = HyperbolicPlane().chords_and_pullback(path)
    gradient = pull()
    assert not chords.requires_grad
    assert not gradient.requires_grad
    assert torch.equal(path, before)
    assert path.grad is None


def test_the_rows_of_a_batch_do_not_meet_in_a_metrics_gradient(tolerance) -> None:
    paths = drawn("hyperbolic plane", 30).reshape(2, 3, 5, 2)
    gradient = geodesic.energy_gradient(HyperbolicPlane(), paths)
    alone = geodesic.energy_gradient(HyperbolicPlane(), paths[1, 2])
    assert gradient.shape == (2, 3, 3, 2)
    torch.testing.assert_close(gradient[1, 2], alone, **tolerance(paths.dtype))


@pytest.mark.parametrize("name", ["sphere", "torus", "paraboloid", "catenoid", "stereographic sphere"])
def test_the_metric_alone_gives_the_geodesic_of_the_embedding(name: str) -> None:
    manifold, metric, _ = MANIFOLDS[name]
    a = drawn(name, 4)
    b = a.lerp(drawn(name, 4), 0.5)
    embedded, alone = (geodesic.solve(m, a, b, segments=64, tol=1e-12) for m in (manifold, Metric(metric)))
    assert embedded.converged.all()
    assert alone.converged.all()
    torch.testing.assert_close(alone.length, embedded.length, rtol=1e-6, atol=0)
    torch.testing.assert_close(alone.path, embedded.path, rtol=0, atol=1e-2)


@pytest.mark.parametrize("name", ["hyperbolic plane", "hyperbolic plane, vertical"])
def test_the_midpoint_rule_is_of_order_two(name: str) -> None:
    manifold, start, end, length, _ = surfaces.KNOWN[name]
    gaps = []
    for T in (16, 32, 64):
        solution = geodesic.solve(manifold, torch.tensor(start), torch.tensor(end), segments=T, tol=1e-14)
        gaps.append(abs(length**2 - float(2 * solution.energy)))
    slopes = torch.tensor(gaps).log2().diff()
    assert ((slopes > -2.2) & (slopes < -1.8)).all()


def test_twice_the_energy_of_a_metric_may_exceed_the_squared_distance_by_order_two() -> None:
    """For an embedding it never does; here the square root of the metric is concave: f(z) = 2 - z^2."""
    manifold = Metric(lambda z: ((2 - z**2) ** 2)[..., None])
    start, end, distance = torch.tensor([-1.0]), torch.tensor([1.0]), 4 - 2 / 3
    excess = []
    for T in (16, 32):
        solution = geodesic.solve(manifold, start, end, segments=T, tol=1e-14)
        assert bool(solution.converged)
        excess.append(float(2 * solution.energy) - distance**2)
    assert excess[1] > 0
    assert excess[0] / excess[1] == pytest.approx(4, rel=0.1)


def test_no_length_lies_below_the_distance_where_the_left_node_rule_does() -> None:
    plane = HyperbolicPlane()
    a = torch.tensor([[0.0, 1.0], [0.0, 2.0], [-1.0, 1.5]])
    b = torch.tensor([[0.0, 0.2], [1.0, 0.3], [1.0, 0.4]])  # downward: to where the metric is large
    distance = plane.distance(a, b)
    right = geodesic.solve(plane, a, b, tol=1e-12)
    wrong = geodesic.solve(LeftNode(plane), a, b, tol=1e-6, segments=32)
    assert right.converged.all()
    assert (right.length >= distance - 1e-9).all()
    assert ((2 * right.energy).sqrt() > distance * (1 - 1e-3)).all()
    assert wrong.converged.all()
    assert ((2 * wrong.energy).sqrt() < distance * (1 - 1e-2)).all()


def test_a_constant_metric_is_flat() -> None:
    G = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
    manifold = Metric(lambda z: G.expand(*z.shape[:-1], 2, 2))
    a, b = torch.randn(5, 2), torch.randn(5, 2)
    solution = geodesic.solve(manifold, a, b)
    assert solution.converged.all()
    torch.testing.assert_close(solution.length**2, torch.einsum("ni,ij,nj->n", b - a, G, b - a))


@pytest.mark.slow
def test_a_metric_that_hides_its_derivative_from_autograd_is_refused() -> None:
    manifold = Metric(lambda z: HyperbolicPlane().metric_tensor(z.detach()))
    with pytest.raises(geodesic.errors.InputError, match="metric_tensor: its output does not depend on z"):
        geodesic.energy_gradient(manifold, drawn("hyperbolic plane", 5))


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("surface", "name"),
    [
        (Sphere, "radius"),
        (Cylinder, "radius"),
        (Paraboloid, "steepness"),
        (Saddle, "steepness"),
        (Torus, "major_radius"),
        (Torus, "minor_radius"),
        (Catenoid, "waist"),
        (Helicoid, "rise"),
        (FlatTorus, "frequency"),
        (Cone, "half_angle"),
    ],
)
def test_a_bad_setting_is_refused_by_name(surface, name: str, bad: float) -> None:
    with pytest.raises(geodesic.errors.InputError, match=f"^{name}: .* got {bad}"):
        surface(**{name: bad})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cone(half_angle=pi / 2), "^half_angle: .* got 1.57"),
        (lambda: Torus(major_radius=1.0, minor_radius=1.0), "^minor_radius: .*less than the major radius"),
        (lambda: StereographicSphere(dimension=0), "^dimension: .* got 0"),
        (lambda: FlatTorus(dimension=-1), "^dimension: .* got -1"),
    ],
)
def test_settings_that_make_no_manifold_are_refused(make, message: str) -> None:
    with pytest.raises(geodesic.errors.InputError, match=message):
        make()


@pytest.mark.parametrize("name", MANIFOLDS)
def test_points_of_another_size_are_refused(name: str) -> None:
    manifold, _, bounds = MANIFOLDS[name]
    wrong = torch.ones(3, bounds.shape[1] + 1)
    ask = type(manifold).embed if isinstance(manifold, EmbeddedManifold) else type(manifold).metric_tensor
    with pytest.raises(geodesic.errors.InputError, match=r"^z: expected points of shape \(\*batch, "):
        inspect.unwrap(ask)(manifold, wrong)  # without the checker that watches the tests: a user has none


@pytest.mark.parametrize("name", MANIFOLDS)
def test_settings_are_frozen_and_shown(name: str) -> None:
    manifold = MANIFOLDS[name][0]
    assert repr(manifold).startswith(f"{type(manifold).__name__}(")
    assert manifold == type(manifold)(**vars(manifold))
    with pytest.raises(AttributeError):
        manifold.radius = 3.0
