"""Likelihoods: those of torch.distributions, normalized, with the moments they promise, finite at extremes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributions
from torch.testing import assert_close

from geodesic import VAE, PullbackManifold, Status, solve
from geodesic.errors import DataError, InputError
from geodesic.likelihoods import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Discretized,
    Gaussian,
    Likelihood,
    NegativeBinomial,
    Poisson,
)
from geodesic.models.likelihoods import LIKELIHOODS
from geodesic.models.networks.mlp import MLPNetwork
from geodesic.models.networks.scales import BoundedScale, FixedScale, LearnedScale
from geodesic.outputs import DistanceGeometry, Euclidean
from tests.parts import LIKELIHOODS as EXAMPLES

EVENT = (1, 2, 3)
R = 2.5


@dataclass(frozen=True)
class Case:
    """A likelihood, the same from torch, and nodes and weights to sum or integrate over all values with."""

    likelihood: Likelihood
    of_torch: Callable[[Tensor], distributions.Distribution]
    nodes: Tensor
    weights: Tensor | float = 1.0
    unit: float = 1.0  # a value is this times that of torch
    spread: float = 1.5

    def parameters(self, rows: int, event_shape: tuple[int, ...] = EVENT) -> Tensor:
        return self.spread * torch.randn(rows, *self.likelihood.parameter_shape(event_shape))

    def moment(self, parameters: Tensor, power: int) -> Tensor:
        """E x^power by summation, for parameters (N, *parameter_shape((1,)))."""
        rows = parameters.repeat_interleave(len(self.nodes), dim=0)
        x = self.nodes.repeat(len(parameters))[:, None]
        density = self.likelihood.log_prob(rows, x).exp().reshape(len(parameters), -1)
        return (self.weights * self.nodes**power * density).sum(1)


_X, _W = (torch.from_numpy(a).double() for a in np.polynomial.legendre.leggauss(40))
CASES = {
    "bernoulli": Case(Bernoulli(), lambda p: distributions.Bernoulli(logits=p), torch.tensor([0.0, 1.0]).double()),
    "continuous_bernoulli": Case(
        ContinuousBernoulli(), lambda p: distributions.ContinuousBernoulli(logits=p), (_X + 1) / 2, _W / 2
    ),
    "gaussian": Case(
        Gaussian(),
        lambda p: distributions.Normal(p[:, 0], p[:, 1].exp()),
        torch.arange(-10_000, 10_001).double() / 50,
        weights=0.02,
        spread=0.7,  # of log scales: the nodes resolve 0.05 and reach to 20
    ),
    "categorical": Case(
        Categorical(4), lambda p: distributions.Categorical(logits=p.movedim(1, -1)), torch.arange(4).double()
    ),
    "discretized": Case(
        Discretized(5),
        lambda p: distributions.Categorical(logits=p.movedim(1, -1)),
        torch.arange(5).double() / 4,
        unit=0.25,
    ),
    "poisson": Case(Poisson(), lambda p: distributions.Poisson(p.exp()), torch.arange(600).double()),
    "negative_binomial": Case(
        NegativeBinomial(R),
        lambda p: distributions.NegativeBinomial(torch.tensor(R).double(), logits=p),
        torch.arange(6000).double(),
    ),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def vae(name: str) -> VAE:
    return VAE(EVENT, network=MLPNetwork((8,), "tanh"), likelihood=EXAMPLES[name])


# --- every likelihood ---------------------------------------------------------------------------


@every
def test_log_prob_is_that_of_torch(case: Case, tolerance: Callable[[torch.dtype], dict[str, Any]]) -> None:
    parameters = case.parameters(50)
    of_torch = case.of_torch(parameters)
    x = of_torch.sample()
    expected = of_torch.log_prob(x).flatten(1).sum(1)
    found = case.likelihood.log_prob(parameters, case.unit * x.double())
    assert_close(found, expected, **tolerance(found.dtype))


@every
def test_the_probability_of_all_values_is_one(case: Case) -> None:
    assert_close(case.moment(case.parameters(20, (1,)), 0), torch.ones(20), rtol=0, atol=1e-10)


@every
def test_the_mean_is_that_of_the_density(case: Case) -> None:
    parameters = case.parameters(20, (1,))
    mean = case.likelihood.mean(parameters)
    assert mean.shape == (20, 1)
    assert_close(mean[:, 0], case.moment(parameters, 1), rtol=1e-9, atol=1e-9)
    rows = case.parameters(20)
    assert case.likelihood.mean(rows).shape == (20, *EVENT)


@every
def test_samples_have_the_moments_of_the_density_and_follow_the_generator(case: Case) -> None:
    parameters, rows = case.parameters(5, (1,)), 40_000
    many = parameters.repeat_interleave(rows, dim=0)
    one, same = (case.likelihood.sample(many, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, same)
    assert one.dtype == parameters.dtype
    case.likelihood.check(one)
    drawn = one.reshape(5, rows)
    for power in (1, 2):
        of_power = drawn**power
        error = (of_power.mean(1) - case.moment(parameters, power)).abs()
        assert (error < 5 * of_power.std(1) / rows**0.5).all()
    assert case.likelihood.sample(case.parameters(3)).shape == (3, *EVENT)


@every
def test_rows_do_not_see_each_other(case: Case) -> None:
    parameters = case.parameters(6)
    x = case.likelihood.sample(parameters)
    alone = [case.likelihood.log_prob(p[None], row[None]) for p, row in zip(parameters, x, strict=True)]
    assert_close(case.likelihood.log_prob(parameters, x), torch.cat(alone))


@every
def test_log_prob_and_mean_differentiate_twice(case: Case) -> None:
    parameters = case.parameters(2, (2,)).requires_grad_()
    x = case.likelihood.sample(parameters.detach())
    for function in (lambda p: case.likelihood.log_prob(p, x), case.likelihood.mean):
        assert torch.autograd.gradcheck(function, parameters)
        assert torch.autograd.gradgradcheck(function, parameters)


@every
def test_its_fisher_rao_geometry_is_the_covariance_of_its_scores(case: Case) -> None:
    if isinstance(case.likelihood, ContinuousBernoulli):
        with pytest.raises(InputError, match="an integral without a closed form; use the geometry euclidean"):
            case.likelihood.fisher_rao()
        return
    parameters = case.parameters(1, (1,))
    rows = parameters.expand(len(case.nodes), *parameters.shape[1:]).clone().requires_grad_()
    log_prob = case.likelihood.log_prob(rows, case.nodes[:, None])
    (scores,) = torch.autograd.grad(log_prob.sum(), rows)
    scores = scores.flatten(1)
    information = torch.einsum("n,ni,nj->ij", case.weights * log_prob.detach().exp(), scores, scores)
    geometry, size = case.likelihood.fisher_rao(), parameters.numel()
    if isinstance(geometry, DistanceGeometry):
        directions = torch.eye(size).reshape(size, *parameters.shape[1:])
        frame = geometry.in_orthonormal_frame(parameters.expand_as(directions), directions)
        metric = frame.flatten(1) @ frame.flatten(1).mT
    else:
        jacobian = torch.autograd.functional.jacobian(geometry.embed, parameters).reshape(-1, size)
        metric = jacobian.mT @ jacobian
    assert_close(metric, information, rtol=1e-7, atol=1e-9)


def extremes(name: str) -> tuple[Tensor, Tensor]:
    """Parameters (N, *parameter_shape((1,))) at the ends of what float32 can tell apart, and values (N, 1)."""
    ends = {"poisson": (-1e4, 88.0), "gaussian": (-30.0, 40.0)}.get(name, (-1e4, 1e4))
    low_to_high = torch.tensor([ends[0], -1.0, -1e-20, 0.0, 1e-20, 1.0, ends[1]], dtype=torch.float32)
    case = CASES[name]
    values = case.nodes[[0, len(case.nodes) // 2, -1]].float()
    (channels, *_) = case.likelihood.parameter_shape((1,))
    if len(case.likelihood.parameter_shape((1,))) == 1:
        parameters = low_to_high[:, None]
    else:
        parameters = torch.cartesian_prod(*(low_to_high for _ in range(channels)))[..., None]
    rows = parameters.repeat_interleave(3, dim=0)
    return rows, values.repeat(len(parameters))[:, None]


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_finite_at_extremes_in_float32(name: str) -> None:
    likelihood = CASES[name].likelihood
    parameters, x = extremes(name)
    parameters.requires_grad_()
    log_prob = likelihood.log_prob(parameters, x)
    assert log_prob.dtype == torch.float32
    assert log_prob.isfinite().all()
    (gradient,) = torch.autograd.grad(log_prob.sum(), parameters)
    assert gradient.isfinite().all()
    if name == "negative_binomial":  # whose mean is a rate, and float32 ends at 3e38
        parameters = parameters.detach().clamp(max=80).requires_grad_()
    mean = likelihood.mean(parameters)
    (gradient,) = torch.autograd.grad(mean.sum(), parameters)
    assert mean.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", CASES)
def test_float32_has_the_digits_of_float64(name: str) -> None:
    likelihood, (parameters, x) = CASES[name].likelihood, extremes(name)
    parameters = parameters.clamp(-1e4, 30)
    exact = likelihood.log_prob(parameters.double(), x.double())
    # Of thousands of counts the gamma functions cancel.
    rtol = 5e-5 if name == "negative_binomial" else 1e-5
    assert_close(likelihood.log_prob(parameters, x).double(), exact, rtol=rtol, atol=1e-6)
    assert_close(likelihood.mean(parameters).double(), likelihood.mean(parameters.double()), rtol=1e-5, atol=1e-30)


@every
def test_parameters_with_fewer_digits_than_the_rows_take_on_theirs(case: Case) -> None:
    parameters = case.parameters(4).bfloat16()
    x = case.likelihood.sample(parameters.float())
    assert_close(case.likelihood.log_prob(parameters, x), case.likelihood.log_prob(parameters.float(), x))


@every
def test_shapes_that_do_not_belong_together_are_refused(case: Case) -> None:
    x = torch.zeros(6, 5)
    good = case.parameters(6, (5,))
    for parameters, rows in ((good, x[:, :4]), (good[:5], x), (good[..., :1], x), (good.flatten(), x)):
        with pytest.raises(InputError, match=r"parameters: expected .* for rows x of shape .*, got"):
            case.likelihood.log_prob(parameters, rows)


@pytest.mark.parametrize("likelihood", [Gaussian(), Categorical(4), Discretized(4)])
def test_a_missing_second_axis_is_refused(likelihood: Likelihood) -> None:
    for parameters in (torch.zeros(3), torch.zeros(3, 5)):
        for function in (likelihood.mean, likelihood.sample):
            with pytest.raises(InputError, match=r"parameters: expected .*\(N, [24], \*event\), got \(3,"):
                function(parameters)


# --- the continuous Bernoulli -------------------------------------------------------------------

# Both sides of 0, of the border between series and closed form, and of where exponentials overflow.
LOGITS = torch.tensor([0, 1e-300, 1e-9, 1e-4, 0.1, 0.5 - 1e-12, 0.5, 0.5 + 1e-12, 1, 30, 800, 1e4], dtype=torch.float64)
LOGITS = torch.cat([-LOGITS.flip(0), LOGITS])[:, None]


def test_the_slope_of_the_continuous_bernoullis_normalizer_is_its_mean() -> None:
    likelihood, logits = ContinuousBernoulli(), LOGITS.clone().requires_grad_()
    x = torch.rand(logits.shape)
    (slope,) = torch.autograd.grad(likelihood.log_prob(logits, x).sum(), logits)
    assert_close(slope, x - likelihood.mean(LOGITS), rtol=1e-10, atol=1e-13)


def test_the_slope_of_the_continuous_bernoullis_mean_is_its_variance() -> None:
    case = CASES["continuous_bernoulli"]
    logits = LOGITS[LOGITS.abs() <= 30][:, None].requires_grad_()
    (slope,) = torch.autograd.grad(case.likelihood.mean(logits).sum(), logits)
    variance = case.moment(logits.detach(), 2) - case.moment(logits.detach(), 1) ** 2
    assert_close(slope[:, 0], variance, rtol=1e-9, atol=1e-12)


def test_the_continuous_bernoulli_is_exponential_at_extreme_logits() -> None:
    likelihood, steep = ContinuousBernoulli(), torch.tensor([[-1e4], [1e4]], dtype=torch.float32)
    assert_close(likelihood.mean(steep), torch.tensor([[1e-4], [1 - 1e-4]], dtype=torch.float32))
    at_peak = likelihood.log_prob(steep, torch.tensor([[0.0], [1.0]], dtype=torch.float32))
    assert_close(at_peak, torch.full((2,), math.log(1e4), dtype=torch.float32))
    drawn = likelihood.sample(steep.expand(2, 10_000), torch.Generator().manual_seed(0))
    assert_close(drawn.mean(1, keepdim=True), likelihood.mean(steep), rtol=0, atol=5e-6)


def test_the_continuous_bernoulli_is_uniform_at_zero() -> None:
    likelihood, flat = ContinuousBernoulli(), torch.zeros(1, 10_000)
    assert likelihood.log_prob(flat, torch.rand(flat.shape)).item() == 0
    drawn = likelihood.sample(flat)
    assert torch.equal(drawn, drawn.clamp(0, 1))
    assert_close(drawn.sort().values, torch.linspace(0, 1, 10_000)[None], rtol=0, atol=0.03)


# --- others -------------------------------------------------------------------------------------


def test_bernoulli_log_prob_of_gray_is_linear_between_black_and_white() -> None:
    logits, gray = torch.randn(4, 5), torch.rand(4, 5)
    on = torch.nn.functional.logsigmoid(logits)
    off = torch.nn.functional.logsigmoid(-logits)
    assert_close(Bernoulli().log_prob(logits, gray), (gray * on + (1 - gray) * off).sum(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bernoulli_is_exact_at_extreme_logits(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4], [1e4], [-1e4], [-1e4]], dtype=dtype, requires_grad=True)
    x = torch.tensor([[1.0], [0.0], [1.0], [0.0]], dtype=dtype)
    log_prob = Bernoulli().log_prob(logits, x)
    assert log_prob.tolist() == [0, -1e4, -1e4, 0]
    log_prob.sum().backward()
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == [0, -1, 1, 0]


def test_the_negative_binomial_becomes_poissons() -> None:
    rate, x, r = torch.rand(5, 3) + 0.5, torch.poisson(2 * torch.ones(5, 3)), 1e7
    expected = Poisson().log_prob(rate.log(), x)
    assert_close(NegativeBinomial(r).log_prob((rate / r).log(), x), expected, rtol=1e-5, atol=1e-6)


def test_gray_values_take_the_nearest_level() -> None:
    likelihood, logits = Discretized(levels=5), torch.randn(4, 5, 3)
    x = torch.randint(0, 5, (4, 3)) / 4
    near = (x + 0.12 * (2 * torch.rand(4, 3) - 1)).clamp(0, 1)
    assert torch.equal(likelihood.log_prob(logits, near), likelihood.log_prob(logits, x))


def test_all_bytes_keep_their_level_in_float32() -> None:
    x = torch.arange(256, dtype=torch.float32)[:, None] / 255
    logits = torch.arange(256, dtype=torch.float32)[None, :, None].expand(256, 256, 1)
    found = Discretized().log_prob(logits, x)
    assert_close(found.diff(), torch.ones(255, dtype=torch.float32), rtol=0, atol=1e-4)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", [Bernoulli(), ContinuousBernoulli(), Discretized()])
@pytest.mark.parametrize(("value", "found"), [(1.5, "0 to 1.5"), (-0.25, "-0.25 to 0"), (torch.nan, "nan")])
def test_gray_values_outside_of_their_range_are_refused(likelihood: Likelihood, value: float, found: str) -> None:
    values = torch.zeros(3, 2)
    values[1, 1] = value
    with pytest.raises(DataError, match=rf"in \[0, 1\], got values from {found}.*; rescale the data"):
        likelihood.check(values)
    likelihood.check(torch.tensor([[0.0, 1.0]]))


@pytest.mark.parametrize("likelihood", [Poisson(), NegativeBinomial(R), Categorical(3)])
@pytest.mark.parametrize("value", [0.5, -1.0, torch.nan, torch.inf])
def test_what_is_no_count_is_refused_with_its_place(likelihood: Likelihood, value: float) -> None:
    values = torch.ones(4, 2)
    values[1, 0] = values[3, 1] = value
    with pytest.raises(DataError, match=rf"got {value:.6g} at \(1, 0\), the first of 2 such values; \w"):
        likelihood.check(values)
    likelihood.check(torch.tensor([[0.0, 2.0]]))


def test_a_class_too_many_is_refused() -> None:
    with pytest.raises(DataError, match=r"whole numbers 0 to 2, got 3 at \(0, 1\).*set classes"):
        Categorical(3).check(torch.tensor([[0.0, 3.0]]))


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_the_gaussian_refuses_what_is_not_finite(value: float) -> None:
    with pytest.raises(DataError, match=rf"finite values, got {value} at \(0, 1\)"):
        Gaussian().check(torch.tensor([[0.0, value]]))
    Gaussian().check(torch.tensor([[-1e30, 1e30]]))


@every
def test_no_rows_are_refused(case: Case) -> None:
    for function in (case.likelihood.check, case.likelihood.uninformative):
        with pytest.raises(DataError, match="at least one row"):
            function(torch.zeros(0, 3))


@pytest.mark.parametrize("count", [1, 0, -3, True])
def test_fewer_than_two_classes_or_levels_are_refused(count: Any) -> None:
    with pytest.raises(InputError, match="classes: expected an integer of at least 2"):
        Categorical(count)
    with pytest.raises(InputError, match="levels: expected an integer of at least 2"):
        Discretized(count)


@pytest.mark.parametrize("r", [0.0, -1.0, math.inf, math.nan])
def test_a_total_count_that_is_not_positive_is_refused(r: Any) -> None:
    with pytest.raises(InputError, match="total_count: expected a positive number"):
        NegativeBinomial(r)


# --- what says nothing --------------------------------------------------------------------------


@every
def test_uninformative_parameters_are_the_same_for_all_entries(case: Case) -> None:
    values = case.likelihood.sample(case.parameters(30)).float()
    row = case.likelihood.uninformative(values)
    assert row.shape == (1, *case.likelihood.parameter_shape(EVENT))
    assert row.dtype == values.dtype
    mean = case.likelihood.mean(row)
    assert_close(mean, mean.flatten()[0].expand_as(mean))
    assert case.likelihood.log_prob(row.expand(30, *row.shape[1:]), values).isfinite().all()


@pytest.mark.parametrize("name", ["gaussian", "poisson", "negative_binomial"])
def test_uninformative_parameters_are_the_likeliest_of_their_sort(name: str) -> None:
    case = CASES[name]
    values = case.likelihood.sample(case.parameters(30, (1,))).flatten()[:, None]
    row = case.likelihood.uninformative(values).clone().requires_grad_()
    (slope,) = torch.autograd.grad(case.likelihood.log_prob(row.expand(30, *row.shape[1:]), values).sum(), row)
    assert_close(slope, torch.zeros_like(row), rtol=0, atol=1e-9)
    assert_close(case.likelihood.mean(row)[0, 0], values.mean())


@pytest.mark.parametrize("name", ["bernoulli", "continuous_bernoulli", "categorical", "discretized"])
def test_uninformative_probabilities_are_all_the_same(name: str) -> None:
    case = CASES[name]
    row = case.likelihood.uninformative(case.nodes[:, None])
    each = case.likelihood.log_prob(row.expand(len(case.nodes), *row.shape[1:]), case.nodes[:, None])
    assert_close(each, each[:1].expand_as(each))


@pytest.mark.parametrize(
    ("likelihood", "value", "match"),
    [
        (Poisson(), 0.0, "all counts are 0"),
        (NegativeBinomial(R), 0.0, "all counts are 0"),
        (Gaussian(), 3.0, "all are 3"),
    ],
)
def test_values_that_do_not_vary_have_no_scale(likelihood: Likelihood, value: float, match: str) -> None:
    with pytest.raises(DataError, match=match):
        likelihood.uninformative(torch.full((4, 2), value))


# --- scales of a Gaussian -----------------------------------------------------------------------


def test_scales_come_as_asked_for() -> None:
    mean = torch.randn(3, *EVENT)
    fixed, learned = FixedScale(0.2)(mean), LearnedScale(0.01)
    assert_close(fixed[:, 1].exp(), torch.full_like(mean, 0.2))
    with torch.no_grad():
        learned.free_log_scale.fill_(math.log(0.5))
    assert_close(learned(mean)[:, 1].exp(), torch.full_like(mean, 0.51))
    free = torch.randn(3, *EVENT)
    bounded = BoundedScale(0.01)(torch.stack([mean, free], dim=1))
    assert_close(bounded[:, 1].exp(), 0.01 + free.exp())
    for parameters in (fixed, learned(mean), bounded):
        assert torch.equal(parameters[:, 0], mean)
    assert sum(weight.numel() for weight in learned.parameters()) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_bounded_scale_is_smooth_and_finite_everywhere(dtype: torch.dtype) -> None:
    head = BoundedScale(0.01)
    free = torch.tensor([-1e4, -100, -40, -4.6, 0, 30, 1e4], dtype=dtype, requires_grad=True)
    log_scale = head(torch.stack([free, free]).T[..., None])[:, 1, 0]
    assert (log_scale >= math.log(0.01) - 1e-6).all()
    (slope,) = torch.autograd.grad(log_scale.sum(), free, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), free)
    assert slope.isfinite().all()
    assert curvature.isfinite().all()
    if dtype == torch.float64:
        at = torch.randn(2, 2, 3, requires_grad=True)
        assert torch.autograd.gradgradcheck(head, at)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_scales_that_are_not_positive_are_refused(scale: float) -> None:
    for layer, name in ((FixedScale, "scale"), (LearnedScale, "min_scale"), (BoundedScale, "min_scale")):
        with pytest.raises(InputError, match=f"^{name}: expected a positive number"):
            layer(scale)
    with pytest.raises(InputError, match=r"parameters: expected \(N, 2, \*event\), got \(3, 4\)"):
        BoundedScale(0.1)(torch.zeros(3, 4))


# --- in a VAE -----------------------------------------------------------------------------------


def test_every_registered_likelihood_is_tested() -> None:
    assert {kind: type(case.likelihood) for kind, case in CASES.items()} == dict(LIKELIHOODS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_decoder_is_one_module_that_returns_all_parameters(name: str) -> None:
    model, z = vae(name), torch.randn(4, 2)
    parameters = model.decode(z)
    assert torch.equal(model.decoder(z), parameters)
    assert parameters.shape == (4, *model.likelihood.parameter_shape(EVENT))
    assert model.likelihood.mean(parameters).shape == (4, *EVENT)
    with pytest.raises(InputError, match=r"z: expected latent points \(N, 2\)"):
        model.decode(torch.zeros(4, 3))


@pytest.mark.parametrize("name", EXAMPLES)
def test_geodesics_of_expected_rows_are_found(name: str) -> None:
    model = vae(name)
    manifold = PullbackManifold(model.decoder, Euclidean(mean=model.likelihood.mean))
    solution = solve(manifold, torch.randn(1, 2), torch.randn(1, 2), segments=4)
    assert (solution.status == Status.CONVERGED).all()
    assert solution.length.isfinite().all()
