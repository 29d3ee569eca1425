"""Laws of the output geometries: each is proven against what it claims to be."""

import inspect
import math

import pytest
import torch
from torch import distributions, nn

import geodesic
from geodesic.door.faces import faces_of
from geodesic.errors import DecoderError, InputError
from geodesic.geometry.outputs import OUTPUT_GEOMETRIES

EVENT = (3, 2)
TOTAL_COUNT = 2.5
COUNTS = torch.tensor([[0.3, 1.0], [2.5, 40.0], [1e3, 7.0]], dtype=torch.float32)  # one for each entry


def decoder(outputs: int, shape: tuple[int, ...], d: int = 2, scale: float = 1.0) -> nn.Module:
    """A smooth network from latent points to parameters of the shape."""
    net = nn.Sequential(nn.Linear(d, 16), nn.Tanh(), nn.Linear(16, outputs), nn.Unflatten(1, shape))
    with torch.no_grad():
        net[2].weight *= scale
    return net.requires_grad_(False)


def gaussian(p):
    return distributions.Normal(p[:, 0], p[:, 1].exp())


def negative_binomial(p):
    return distributions.NegativeBinomial(TOTAL_COUNT, logits=p)


def negative_binomials(p):
    return distributions.NegativeBinomial(COUNTS.to(p), logits=p)


# The geometry, the shape of its parameters, and the family whose Fisher information it claims to be.
FISHER_RAO = {
    "bernoulli": (geodesic.outputs.FisherRaoBernoulli(), EVENT, lambda p: distributions.Bernoulli(logits=p)),
    "categorical": (
        geodesic.outputs.FisherRaoCategorical(),
        (4, *EVENT),
        lambda p: distributions.Categorical(logits=p.movedim(1, -1)),
    ),
    "poisson": (geodesic.outputs.FisherRaoPoisson(), EVENT, lambda p: distributions.Poisson(p.exp())),
    "negative binomial": (geodesic.outputs.FisherRaoNegativeBinomial(TOTAL_COUNT), EVENT, negative_binomial),
    "negative binomials": (geodesic.outputs.FisherRaoNegativeBinomial(COUNTS), EVENT, negative_binomials),
    "gaussian": (geodesic.outputs.FisherRaoGaussian(), (2, *EVENT), gaussian),
}


# Every geometry that is registered, and the shape of its parameters.
ALL = {type(geometry): (geometry, shape) for geometry, shape, _ in FISHER_RAO.values()} | {
    geodesic.outputs.Euclidean: (geodesic.outputs.Euclidean(mean=torch.sigmoid), EVENT),
    geodesic.outputs.ExpectedGaussian: (geodesic.outputs.ExpectedGaussian(), (2, *EVENT)),
    geodesic.outputs.Features: (geodesic.outputs.Features(lambda x: x.flatten(1).sin(), mean=torch.sigmoid), EVENT),
}


def kl_of_negative_binomials(r, p, q):
    """KL = r log((1 - s) / (1 - t)) + mean (log s - log t), s and t the success probabilities."""
    mean = r * p.exp()
    softplus, log_sigmoid = nn.functional.softplus, nn.functional.logsigmoid
    return r * (softplus(q) - softplus(p)) + mean * (log_sigmoid(p) - log_sigmoid(q))


@pytest.mark.parametrize("name", FISHER_RAO)
def test_the_pulled_back_metric_is_the_hessian_of_the_kl_divergence(name: str) -> None:
    geometry, shape, family = FISHER_RAO[name]
    net = decoder(math.prod(shape), shape)

    def kl(z: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        p, q = net(z[None]), net(other[None])
        if name.startswith("negative binomial"):
            r = TOTAL_COUNT if name == "negative binomial" else COUNTS.to(p)
            return kl_of_negative_binomials(r, p, q).sum()
        return distributions.kl_divergence(family(p), family(q)).sum()

    manifold = geodesic.PullbackManifold(net, geometry)
    for z in torch.randn(4, 2):
        hessian = torch.autograd.functional.hessian(lambda other, z=z: kl(z, other), z)
        torch.testing.assert_close(manifold.metric_tensor(z), hessian, rtol=1e-6, atol=1e-8)


def scaled(p):
    return torch.stack([p[:, 0], p[:, 1].exp()], dim=1)


# Geometries that take other parameters too: the shape of the default's, and what makes the others of them.
OTHER = {
    geodesic.outputs.FisherRaoBernoulli: (EVENT, torch.sigmoid),
    geodesic.outputs.FisherRaoCategorical: ((4, *EVENT), lambda p: p.softmax(1)),
    geodesic.outputs.FisherRaoPoisson: (EVENT, torch.exp),
    geodesic.outputs.FisherRaoGaussian: ((2, *EVENT), scaled),
    geodesic.outputs.ExpectedGaussian: ((2, *EVENT), scaled),
}


@pytest.mark.parametrize("family", OTHER)
def test_both_words_for_the_parameters_make_one_geometry(family, tolerance) -> None:
    shape, change = OTHER[family]
    net = decoder(math.prod(shape), shape)
    _, other = family.words()
    one = geodesic.PullbackManifold(net, family())
    two = geodesic.PullbackManifold(lambda z: change(net(z)), family(other))
    z, v = torch.randn(2, 5, 2)
    assert family() != family(other)
    assert repr(family(other)) == f"{family.__name__}({other!r})"
    torch.testing.assert_close(two.squared_chords(z), one.squared_chords(z), **tolerance(z.dtype))
    torch.testing.assert_close(two.metric_tensor(z), one.metric_tensor(z), **tolerance(z.dtype))
    zero = torch.zeros_like(v)  # second derivatives
    bent = (m.lowered_acceleration(z, v, zero) for m in (two, one))
    torch.testing.assert_close(*bent, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("family", OTHER)
def test_a_word_that_the_geometry_does_not_have_is_refused(family) -> None:
    with pytest.raises(InputError, match=f"parameters: expected one of '{family.words()[0]}', .*, got 'odds'"):
        inspect.unwrap(family.__init__)(object.__new__(family), "odds")  # a user has no type checker


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", [f for f in OTHER if f is not geodesic.outputs.FisherRaoGaussian])
def test_saturated_parameters_have_finite_values_and_derivatives_of_second_order(family, dtype) -> None:
    shape, change = OTHER[family]
    extreme = torch.tensor([-1e4, -700.0, -80.0, -40.0, -17.0, 0.0, 17.0, 40.0, 80.0], dtype=dtype)
    parameters = extreme.expand(*shape[:-2], 9) if len(shape) > 2 else extreme
    if family is geodesic.outputs.ExpectedGaussian:
        parameters = parameters.clamp(-40, 40)
    geometry = family(family.words()[1])

    def embed(default: torch.Tensor) -> torch.Tensor:
        return geometry.embed(change(default[None])).sin().sum()

    p = parameters.clone().requires_grad_()
    (slope,) = torch.autograd.grad(embed(p), p, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), p)
    assert embed(p).isfinite()
    assert slope.isfinite().all()
    assert bend.isfinite().all()


def test_probabilities_of_zero_and_one_are_the_ends_of_the_half_circle() -> None:
    p = torch.tensor([[0.0, 1e-300, 1e-12, 0.5, 1 - 1e-12, 1.0]])
    exact = torch.tensor([[0.0, 2e-150, 2e-6, math.pi / 2, math.pi - 2e-6, math.pi]])
    x = geodesic.outputs.FisherRaoBernoulli("probabilities").embed(p)
    torch.testing.assert_close(x, exact, rtol=1e-10, atol=1e-10)
    assert geodesic.outputs.FisherRaoBernoulli("probabilities").embed(p * torch.nan).isnan().all()


@pytest.mark.parametrize("kind", OUTPUT_GEOMETRIES)
def test_chords_of_every_registered_geometry_are_its_metric_in_the_limit_row_by_row(kind: str) -> None:
    geometry, shape = ALL[OUTPUT_GEOMETRIES[kind]]
    manifold = geodesic.PullbackManifold(decoder(math.prod(shape), shape), geometry)
    z, v = torch.randn(2, 4, 2)
    gaps = []
    for h in (1e-2, 1e-3):
        chords = manifold.squared_chords(torch.stack([z - h / 2 * v, z + h / 2 * v], dim=1))[:, 0]
        gaps.append((chords / h**2 / manifold.squared_norm(z, v) - 1).abs().max())
    assert gaps[1] < 1e-4
    assert gaps[1] < gaps[0] / 30
    torch.testing.assert_close(manifold.metric_tensor(z)[2], manifold.metric_tensor(z[2]), rtol=1e-10, atol=1e-12)
    assert manifold.has_embedding == isinstance(geometry, geodesic.outputs.OutputGeometry)


@pytest.mark.parametrize("family", [kind for kind in ALL if kind is not geodesic.outputs.FisherRaoGaussian])
def test_no_geometry_shows_kinks_that_the_decoder_does_not_have(family) -> None:
    geometry, shape = ALL[family]
    net, z = decoder(math.prod(shape), shape), torch.randn(3, 2)
    assert faces_of(geodesic.PullbackManifold(net, geometry).embed, z) is None
    if family in OTHER:
        change = OTHER[family][1]
        other = geodesic.PullbackManifold(lambda z: change(net(z)), family(family.words()[1]))
        assert faces_of(other.embed, z) is None
    assert faces_of(geodesic.PullbackManifold(lambda z: net(z).relu(), geometry).embed, z) is not None


def test_a_geometry_without_an_embedding_says_so_where_one_is_asked_for() -> None:
    manifold = geodesic.PullbackManifold(decoder(12, (2, *EVENT)), geodesic.outputs.FisherRaoGaussian())
    with pytest.raises(InputError, match="manifold: PullbackManifold has no embedding"):
        manifold.embed(torch.zeros(2))
    with pytest.raises(InputError, match="manifold: the encoder form needs points of an embedding"):
        geodesic.encoder_direction(manifold, geodesic.straight_path(*torch.eye(2)), lambda x: x)


def test_the_expected_metric_is_the_mean_of_the_metrics_of_random_outputs() -> None:
    net, z = decoder(2 * 6, (2, *EVENT)), torch.randn(2)
    expected = geodesic.PullbackManifold(net, geodesic.outputs.ExpectedGaussian()).metric_tensor(z)
    noise = torch.randn(20_000, 6)
    J = geodesic.autodiff.jacobian(
        lambda z: torch.stack([net(z)[:, 0], net(z)[:, 1].exp()], dim=1).flatten(2), z[None]
    )[0]
    drawn = J[0] + noise[..., None] * J[1]  # the Jacobian of mu + sigma epsilon, for each epsilon
    metrics = drawn.mT @ drawn
    error = metrics.std(0) / len(noise) ** 0.5
    assert ((metrics.mean(0) - expected).abs() < 4 * error).all()
    assert (error < 0.05 * expected.diagonal().mean()).all()  # or the mean would say nothing


@pytest.mark.parametrize("p", [0.03, 0.5, 0.8])
@pytest.mark.parametrize("q", [0.2, 0.999])
def test_chords_of_bernoullis_are_the_distance_in_closed_form(p: float, q: float) -> None:
    x = geodesic.outputs.FisherRaoBernoulli().embed(torch.logit(torch.tensor([[p], [q]])))
    assert float((x[0] - x[1]).abs()) == pytest.approx(2 * abs(math.asin(p**0.5) - math.asin(q**0.5)), rel=1e-12)


def test_fine_paths_on_categoricals_have_the_length_of_the_arc() -> None:
    """2 arccos sum sqrt(p q), along the great circle."""
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.1, 0.3, 0.6])
    ends = torch.stack([p, q]).log()
    manifold = geodesic.PullbackManifold(
        lambda z: torch.cat([z, torch.zeros_like(z[:, :1])], dim=1), geodesic.outputs.FisherRaoCategorical()
    )
    a, b = (e[:2] - e[2] for e in ends)
    exact = 2 * torch.arccos((p * q).sqrt().sum())
    torch.testing.assert_close(geodesic.solve(manifold, a, b).length, exact, rtol=2e-6, atol=0)


def test_the_negative_binomial_becomes_the_poisson() -> None:
    log_rate = torch.linspace(-3, 3, 7)[None]
    r = 1e8
    embedded = geodesic.outputs.FisherRaoNegativeBinomial(r).embed(log_rate - math.log(r))
    torch.testing.assert_close(embedded, geodesic.outputs.FisherRaoPoisson().embed(log_rate), rtol=1e-6, atol=0)


@pytest.mark.parametrize("logit", [-30.0, -1.0, -1e-9, 0.0, 1e-9, 1.0, 30.0])
def test_both_forms_of_the_negative_binomial_are_one(logit: float) -> None:
    logits = torch.tensor([[logit]], requires_grad=True)
    x = geodesic.outputs.FisherRaoNegativeBinomial(TOTAL_COUNT).embed(logits)
    exact = 2 * TOTAL_COUNT**0.5 * math.asinh(math.exp(logit / 2))
    (slope,) = torch.autograd.grad(x.sum(), logits)
    assert float(x.detach()) == pytest.approx(exact, rel=1e-14)
    assert float(slope) == pytest.approx((TOTAL_COUNT / (1 + math.exp(-logit))) ** 0.5, rel=1e-14)


def test_the_distance_of_normals_is_the_arccosh_form() -> None:
    a, b = torch.randn(2, 5, 2, 1)
    (m1, s1), (m2, s2) = ((p[:, 0], p[:, 1].exp()) for p in (a, b))
    arc = torch.arccosh(1 + ((m1 - m2) ** 2 / 2 + (s1 - s2) ** 2) / (2 * s1 * s2))
    torch.testing.assert_close(geodesic.outputs.FisherRaoGaussian().squared_distance(a, b), 2 * arc.square().flatten())


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # of the first product in forward mode
def test_the_squared_distance_of_normals_is_smooth_where_they_are_equal() -> None:
    geometry = geodesic.outputs.FisherRaoGaussian()
    p = torch.randn(1, 2, 1)

    def half(q: torch.Tensor) -> torch.Tensor:
        return geometry.squared_distance(p, q.reshape(p.shape)).sum() / 2

    q = p.flatten()
    precision = (-2 * p[0, 1, 0]).exp()
    torch.testing.assert_close(torch.func.grad(half)(q), torch.zeros(2))
    torch.testing.assert_close(torch.func.hessian(half)(q), torch.diag(torch.stack([precision, torch.tensor(2.0)])))


@pytest.mark.parametrize("q", [1e-12, 0.0199999, 0.0200001, 3.0])
def test_the_series_near_equal_normals_joins_the_formula(q: float) -> None:
    wide = torch.tensor([[[0.0], [0.0]]])
    other = torch.tensor([[[(8 * q) ** 0.5], [0.0]]])
    exact = 8 * math.asinh(q**0.5) ** 2
    assert float(geodesic.outputs.FisherRaoGaussian().squared_distance(wide, other)) == pytest.approx(exact, rel=1e-13)


EXTREME = {
    "bernoulli": (geodesic.outputs.FisherRaoBernoulli(), torch.tensor([[-1e4, -80.0, 0.0, 80.0, 1e4]])),
    "euclidean": (geodesic.outputs.Euclidean(mean=torch.sigmoid), torch.tensor([[-1e4, -80.0, 0.0, 80.0, 1e4]])),
    "categorical": (geodesic.outputs.FisherRaoCategorical(), torch.tensor([[-1e4, -80.0, 0.0, 80.0, 1e4]])),
    "negative binomial": (
        geodesic.outputs.FisherRaoNegativeBinomial(2.0),
        torch.tensor([[-1e4, -80.0, 0.0, 80.0, 1e4]]),
    ),
    "poisson, rates that float32 holds": (
        geodesic.outputs.FisherRaoPoisson(),
        torch.tensor([[-1e4, -103.0, 0.0, 88.0]]),
    ),
    "expected, scales that float32 holds": (
        geodesic.outputs.ExpectedGaussian(),
        torch.tensor([[[-1e4, 0.0, 1e4], [-103.0, 0.0, 88.0]]]),
    ),
}


@pytest.mark.parametrize("name", EXTREME)
def test_values_and_gradients_are_finite_for_extreme_parameters(name: str) -> None:
    geometry, parameters = EXTREME[name]
    parameters = parameters.float().requires_grad_()
    x = geometry.embed(parameters)
    (slope,) = torch.autograd.grad(x.sum(), parameters)
    assert x.isfinite().all()
    assert slope.isfinite().all()


def test_distances_of_extreme_normals_are_finite() -> None:
    a = torch.tensor([[[-1e4, 1e4, 0.0], [-30.0, 30.0, -40.0]]], dtype=torch.float32, requires_grad=True)
    b = torch.tensor([[[1e4, 1e4, 0.0], [-30.0, -30.0, 40.0]]], dtype=torch.float32)
    squared = geodesic.outputs.FisherRaoGaussian().squared_distance(a, b)
    (slope,) = torch.autograd.grad(squared.sum(), a)
    assert squared.isfinite().all()
    assert slope.isfinite().all()


def test_features_are_those_of_the_mean() -> None:
    network, logits = nn.Linear(6, 3).requires_grad_(False), torch.randn(4, 6)
    geometry = geodesic.outputs.Features(network, mean=torch.sigmoid)
    torch.testing.assert_close(geometry.embed(logits), network(torch.sigmoid(logits)))


def test_features_that_lose_the_rows_are_refused() -> None:
    with pytest.raises(DecoderError, match="one row for each output"):
        geodesic.outputs.Features(torch.sum).embed(torch.zeros(4, 6))


@pytest.mark.parametrize("geometry", [geodesic.outputs.ExpectedGaussian(), geodesic.outputs.FisherRaoGaussian()])
def test_a_geometry_of_scales_says_what_the_decoder_lacks(geometry) -> None:
    with pytest.raises(DecoderError, match=r"means and log scales.*got \(\d+, 6\)"):
        geodesic.solve(geodesic.PullbackManifold(decoder(6, (6,)), geometry), torch.zeros(2), torch.ones(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_counts_of_each_entry_weigh_its_logits(dtype, tolerance) -> None:
    """G = J^T diag(r mean / (r + mean)) J, with r in the dtype of the parameters, whatever its own is."""
    net, z = decoder(6, EVENT).to(dtype), torch.randn(4, 2, dtype=dtype)
    J = geodesic.autodiff.jacobian(net, z).flatten(1, -2)
    r = COUNTS.to(dtype).flatten()
    mean = r * net(z).flatten(1).exp()
    expected = J.mT @ ((r * mean / (r + mean))[..., None] * J)
    for counts in (COUNTS, COUNTS.double()):
        found = geodesic.PullbackManifold(net, geodesic.outputs.FisherRaoNegativeBinomial(counts)).metric_tensor(z)
        torch.testing.assert_close(found, expected, **tolerance(dtype))


def test_a_tensor_of_equal_counts_is_their_number() -> None:
    number, logits = geodesic.outputs.FisherRaoNegativeBinomial(TOTAL_COUNT), torch.randn(5, *EVENT)
    for counts in (torch.full(EVENT, TOTAL_COUNT), torch.tensor(TOTAL_COUNT), [[TOTAL_COUNT] * 2] * 3):
        same = geodesic.outputs.FisherRaoNegativeBinomial(counts)
        torch.testing.assert_close(same.embed(logits), number.embed(logits), rtol=1e-14, atol=0)
    assert geodesic.outputs.FisherRaoNegativeBinomial([1.0, 2.0]) == geodesic.outputs.FisherRaoNegativeBinomial(
        torch.tensor([1.0, 2.0], dtype=torch.float32)
    )
    assert len({geodesic.outputs.FisherRaoNegativeBinomial(x) for x in ([1.0], (1.0,), [2.0], 2.0)}) == 3
    assert str(geodesic.outputs.FisherRaoNegativeBinomial([1.0, 2.5])).endswith("(total_count=(1, 2.5))")


def test_counts_that_are_learned_get_a_gradient() -> None:
    r = torch.tensor([0.5, 2.0, 9.0], requires_grad=True)
    manifold = geodesic.PullbackManifold(decoder(3, (3,)), geodesic.outputs.FisherRaoNegativeBinomial(r))
    geodesic.path_length(manifold, geodesic.straight_path(*torch.eye(2), segments=4)).backward()
    grad, step = r.grad.clone(), 1e-6
    with torch.no_grad():
        ends = []
        for sign in (1, -1):
            moved = geodesic.outputs.FisherRaoNegativeBinomial(r + sign * step * torch.eye(3)[1])
            line = geodesic.straight_path(*torch.eye(2), segments=4)
            ends.append(geodesic.path_length(geodesic.PullbackManifold(manifold.decoder, moved), line))
    assert float(grad[1]) == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-6)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0.0, "a positive number, got 0.0"),
        (-1.0, "a positive number"),
        (math.inf, "a positive number"),
        (math.nan, "a positive number"),
        (True, "a positive number"),
        (torch.tensor([1.0, -2.0]), r"positive, finite numbers, got -2 at \[1\]; counts are r, not its logarithm"),
        (torch.tensor([[1.0], [math.nan]]), r"got nan at \[1, 0\]"),
        (torch.tensor(0.0), r"got 0 at \[\]"),
        (torch.ones(0), "got none"),
        (torch.tensor([True]), "got torch.bool"),
        ([1.0, "many"], "a list of one for each entry"),
    ],
)
def test_a_total_count_that_is_none_is_refused(count, said) -> None:
    geometry = object.__new__(geodesic.outputs.FisherRaoNegativeBinomial)
    with pytest.raises(InputError, match=f"total_count: expected .*{said}"):
        inspect.unwrap(type(geometry).__init__)(geometry, count)  # a user has no type checker


def test_counts_of_other_entries_than_the_outputs_are_refused() -> None:
    manifold = geodesic.PullbackManifold(decoder(6, (6,)), geodesic.outputs.FisherRaoNegativeBinomial([1.0, 2.0]))
    for tool in (manifold.metric_tensor, lambda z: geodesic.solve(manifold, z, z + 1)):
        with pytest.raises(DecoderError, match=r"total_count: expected one number, or .*\(6,\), got the shape \(2,\)"):
            tool(torch.zeros(2))


# --- manifolds --------------------------------------------------------------------------------


def half_plane(z: torch.Tensor) -> torch.Tensor:
    """The mean and log scale of one normal from z = (mean, scale)."""
    return torch.stack([z[:, :1], z[:, 1:].log()], dim=1)


def test_one_normal_is_a_hyperbolic_plane_of_curvature_one_half() -> None:
    manifold = geodesic.PullbackManifold(half_plane, geodesic.outputs.FisherRaoGaussian())
    a, b = torch.tensor([[0.0, 1.0], [0.0, 0.5]]), torch.tensor([[1.0, 2.0], [2.0, 0.5]])
    q = ((a[:, 0] - b[:, 0]) ** 2 / 2 + (a[:, 1] - b[:, 1]) ** 2) / (4 * a[:, 1] * b[:, 1])
    exact = 2 * 2**0.5 * torch.asinh(q.sqrt())
    solution = geodesic.solve(manifold, a, b)
    assert solution.converged.all()
    torch.testing.assert_close(solution.length, exact, rtol=2e-6, atol=0)
    torch.testing.assert_close(solution.lower_bound, exact, rtol=1e-12, atol=0)
    # Chords are distances, so that twice the energy is the squared distance at a minimum, whatever T is.
    torch.testing.assert_close(2 * solution.energy, exact.square(), rtol=2e-6, atol=0)


def test_the_metric_of_a_distance_is_its_limit() -> None:
    net = decoder(2 * 6, (2, *EVENT))
    manifold = geodesic.PullbackManifold(net, geodesic.outputs.FisherRaoGaussian())
    assert type(manifold) is geodesic.PullbackManifold
    assert not manifold.has_embedding
    z, v = torch.randn(2, 5, 2)
    G, step = manifold.metric_tensor(z), 1e-4
    squared = torch.einsum("ni,nij,nj->n", v, G, v)
    torch.testing.assert_close(manifold.squared_norm(z, v), squared)
    chords = manifold.squared_chords(torch.stack([z - step * v, z + step * v], dim=1))[:, 0]
    torch.testing.assert_close(chords / (2 * step) ** 2, squared, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", FISHER_RAO)
def test_solve_converges_under_every_geometry(name: str) -> None:
    geometry, shape, _ = FISHER_RAO[name]
    manifold = geodesic.PullbackManifold(decoder(math.prod(shape), shape), geometry)
    solution = geodesic.solve(manifold, *torch.randn(2, 3, 2))
    assert solution.converged.all()
    assert (solution.length <= solution.straight_length * (1 + 1e-9)).all()


def test_a_gaussian_decoder_of_latent_images_is_pulled_back_too() -> None:
    net = nn.Sequential(nn.Flatten(), decoder(2 * 6, (2, *EVENT), d=4))
    manifold = geodesic.PullbackManifold(net, geodesic.outputs.FisherRaoGaussian(), latent_shape=(1, 2, 2))
    solution = geodesic.solve(manifold, *torch.randn(2, 1, 2, 2))
    assert solution.path.shape == (33, 1, 2, 2)
    assert solution.converged


def ensemble(K: int = 3) -> list[nn.Module]:
    return [decoder(6, (6,)) for _ in range(K)]


def test_the_same_members_give_the_average_of_their_metrics() -> None:
    members = ensemble()
    z = torch.randn(4, 2)
    expected = torch.stack([geodesic.PullbackManifold(g).metric_tensor(z) for g in members]).mean(0)
    torch.testing.assert_close(geodesic.EnsembleManifold(members).metric_tensor(z), expected)


@pytest.mark.slow
def test_members_that_are_one_decoder_are_that_decoder() -> None:
    (g,) = ensemble(1)
    a, b = torch.randn(2, 2)
    alone = geodesic.solve(geodesic.PullbackManifold(g), a, b)
    for kind in (geodesic.EnsembleManifold, geodesic.IndependentEnsembleManifold):
        together = geodesic.solve(kind([g, g, g]), a, b)
        torch.testing.assert_close(together.energy, alone.energy, rtol=1e-6, atol=0)
        torch.testing.assert_close(together.path, alone.path, rtol=0, atol=1e-3)


def test_chords_of_independent_members_are_the_mean_over_all_pairs_of_them() -> None:
    members = ensemble()
    path = torch.randn(2, 5, 2)
    x = torch.stack([g(path.reshape(-1, 2)).reshape(2, 5, -1) for g in members])
    pairs = (x[:, None, :, 1:] - x[None, :, :, :-1]).square().sum(-1)
    manifold = geodesic.IndependentEnsembleManifold(members)
    torch.testing.assert_close(manifold.squared_chords(path), pairs.mean((0, 1)))
    same = geodesic.EnsembleManifold(members)
    torch.testing.assert_close(manifold.metric_tensor(path), same.metric_tensor(path))
    torch.testing.assert_close(manifold.squared_norm(path, path), same.squared_norm(path, path))


@pytest.mark.slow
def test_lengths_of_independent_members_are_sums_of_chords_and_are_not_resolved() -> None:
    manifold = geodesic.IndependentEnsembleManifold(ensemble())
    start, end = torch.randn(2, 3, 2)
    solution = geodesic.solve(manifold, start, torch.cat([end[:2], start[2:]]))  # with one pair of equal ends
    assert solution.converged.all()
    assert not solution.resolved.any()
    assert "3 converged with lengths that hold for these segments alone" in solution.summary()
    assert "length_rtol" not in solution.summary()
    assert solution.length[2] == 0
    solution = geodesic.solve(manifold, start, end)
    torch.testing.assert_close(solution.length, manifold.squared_chords(solution.path).sqrt().sum(-1))
    straight = geodesic.straight_path(solution.path[:, 0], solution.path[:, -1], 32)
    torch.testing.assert_close(solution.straight_length, manifold.squared_chords(straight).sqrt().sum(-1))


@pytest.mark.slow
def test_independent_members_keep_to_where_they_agree() -> None:
    """Two members that agree on the unit circle alone: the path between two of its points bends towards it."""

    def member(sign: float):
        return lambda z: torch.cat([z, sign * 3 * (z.square().sum(1, keepdim=True) - 1)], dim=1)

    a, b = torch.tensor([1.0, 0.0]), torch.tensor([-0.6, 0.8])
    solution = geodesic.solve(geodesic.IndependentEnsembleManifold([member(1), member(-1)]), a, b)
    assert float(solution.path.norm(dim=-1).min()) > 0.9
    assert float(geodesic.straight_path(a, b, 32).norm(dim=-1).min()) < 0.5


def test_refining_what_has_no_limit_is_refused() -> None:
    manifold = geodesic.IndependentEnsembleManifold(ensemble())
    with pytest.raises(InputError, match=r"length_rtol: .* no limit"):
        geodesic.solve(manifold, torch.zeros(2), torch.ones(2), length_rtol=1e-3)


@pytest.mark.parametrize("kind", [geodesic.EnsembleManifold, geodesic.IndependentEnsembleManifold])
def test_an_ensemble_that_is_none_is_refused(kind) -> None:
    with pytest.raises(InputError, match="at least 2 members, got 1"):
        kind(ensemble(1))
    with pytest.raises(InputError, match="with an embedding"):
        kind(ensemble(2), geodesic.outputs.FisherRaoGaussian())
    with pytest.raises(DecoderError, match=r"differ in shape: \(4,\), \(6,\)"):
        geodesic.solve(kind([*ensemble(1), decoder(4, (4,))]), torch.zeros(2), torch.ones(2))
    untrained = nn.Sequential(nn.Linear(2, 3), nn.Dropout())
    with pytest.raises(DecoderError, match=r"decoders\[1\].*training mode"):
        kind([decoder(3, (3,)), untrained])


# --- metric tensors ---------------------------------------------------------------------------


def test_a_function_makes_the_manifold_of_its_class() -> None:
    plane = geodesic.surfaces.HyperbolicPlane()
    a, b = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0])
    expected, found = (geodesic.solve(m, a, b) for m in (plane, geodesic.MetricFunction(plane.metric_tensor)))
    torch.testing.assert_close(found.length, expected.length, rtol=2e-6, atol=0)


def test_the_local_variance_is_the_weighted_one() -> None:
    points, z = torch.randn(50, 3), torch.randn(4, 3)
    G = geodesic.LocalVarianceManifold(points, bandwidth=0.7, rho=0.01).metric_tensor(z)
    for i in range(4):
        w = torch.exp(-((points - z[i]) ** 2).sum(1) / (2 * 0.49))
        for j in range(3):
            variance = (w * (points[:, j] - z[i, j]) ** 2).sum()
            torch.testing.assert_close(G[i, j, j], 1 / (variance + 0.01))
    assert (G - torch.diag_embed(G.diagonal(dim1=1, dim2=2))).abs().max() == 0


def test_the_density_manifold_is_conformal_to_the_kernel_density_estimate() -> None:
    points, z, h, floor = torch.randn(50, 3), torch.randn(4, 3), 0.5, 0.02
    kernel = distributions.Independent(distributions.Normal(points, h), 1)

    def density(z: torch.Tensor) -> torch.Tensor:
        return kernel.log_prob(z[:, None]).exp().mean(1)

    factor = (density(z) / density(points).mean() + floor) ** (-2 / 3)
    G = geodesic.DensityManifold(points, bandwidth=h, floor=floor).metric_tensor(z)
    torch.testing.assert_close(G, factor[:, None, None] * torch.eye(3))


@pytest.mark.parametrize("make", [geodesic.LocalVarianceManifold, geodesic.DensityManifold])
def test_paths_under_a_metric_of_data_stay_near_the_data(make) -> None:
    """Points on three quarters of a circle: the geodesic between its ends goes the long way round."""
    angle = torch.linspace(0, 1.5 * math.pi, 300)
    points = torch.stack([angle.cos(), angle.sin()], dim=1) + 0.05 * torch.randn(300, 2)
    manifold = make(points, bandwidth=0.15)
    path = geodesic.solve(manifold, points[0], points[-1], init="graph", graph_points=points).path
    nearest = (path[:, None] - points).norm(dim=-1).amin(1)
    straight = geodesic.straight_path(points[0], points[-1], 32)
    assert nearest.max() < 0.2
    assert (straight[:, None] - points).norm(dim=-1).amin(1).max() > 0.3


@pytest.mark.parametrize("make", [geodesic.LocalVarianceManifold, geodesic.DensityManifold])
def test_data_that_make_no_metric_are_refused(make) -> None:
    for points in (torch.zeros(3), torch.zeros(0, 2), torch.zeros(3, 2, dtype=torch.int64)):
        with pytest.raises(InputError, match=r"points: expected (latent points|floating point)"):
            make(points, bandwidth=1.0)
    with pytest.raises(InputError, match="finite"):
        make(torch.tensor([[math.nan, 0.0]]), bandwidth=1.0)
    for bandwidth in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match="bandwidth: expected a positive number"):
            make(torch.zeros(3, 2), bandwidth=bandwidth)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([[1.0, 0.5], [0.0, 1.0]], "not symmetric at"),
        ([[1.0, 2.0], [2.0, 1.0]], "not positive definite at .* least eigenvalue is -1"),
        ([[1.0, 0.0], [0.0, 0.0]], "not positive definite"),
        ([[1.0, 0.0], [0.0, math.nan]], "not finite at"),
    ],
)
def test_a_metric_tensor_that_is_none_is_refused(entries, message: str) -> None:
    G = torch.tensor(entries)
    manifold = geodesic.MetricFunction(lambda z: G.expand(*z.shape[:-1], 2, 2) + 0 * z[..., :1, None])
    with pytest.raises(InputError, match=message):
        geodesic.solve(manifold, torch.zeros(2), torch.ones(2))


def test_a_metric_tensor_of_another_type_is_refused() -> None:
    manifold = geodesic.MetricFunction(lambda z: torch.eye(2, dtype=torch.float32).expand(*z.shape, 2))
    with pytest.raises(InputError, match=r"for points of torch.float64 its metric_tensor returned torch.float32"):
        geodesic.solve(manifold, torch.zeros(2), torch.ones(2))
