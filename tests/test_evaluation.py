"""Bounds of log p(x): exact where that is known, ordered as they must be, and a function of their seed alone."""

from collections.abc import Callable

import pytest
import torch
from torch.testing import assert_close

from geodesic import VAE
from geodesic.errors import DataError, InputError
from geodesic.models import MLPNetwork, evaluate_elbo, importance_weighted_bound
from geodesic.models.likelihoods import Bernoulli, Gaussian, Likelihood
from geodesic.models.vae import DiagonalGaussian


def new_vae(likelihood: Likelihood = Bernoulli()) -> VAE:
    return VAE((6,), network=MLPNetwork((16,)), likelihood=likelihood, inputs="none")


def test_the_elbo_converges_to_that_of_many_samples() -> None:
    vae, x = new_vae(), torch.rand(50, 6)
    few = torch.tensor([evaluate_elbo(vae, x, seed=seed) for seed in range(20)])
    many = evaluate_elbo(vae, x, samples=100)
    assert abs(few.mean() - many) < 5 * few.std() / 20**0.5


def test_the_elbo_depends_on_its_seed_alone() -> None:
    vae, x = new_vae().train(), torch.rand(50, 6)
    state = torch.get_rng_state()
    assert evaluate_elbo(vae, x, seed=1) == evaluate_elbo(vae, x, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert vae.training


class Affine(torch.nn.Module):
    """The posterior N(m, S) of x = W z + b + noise, S = (1 + W'W)^-1, m = S W'(x - b), with a mean moved by `shift`."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, shift: float) -> None:
        super().__init__()
        self.weight, self.bias, self.shift = weight, bias, shift

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        variance = 1 / (1 + self.weight.square().sum(0))  # the columns of W are orthogonal
        mean = (x - self.bias) @ self.weight * variance
        return mean + self.shift, variance.log().div(2).expand_as(mean)


def affine_vae(shift: float) -> tuple[VAE, torch.Tensor, torch.Tensor]:
    """A VAE whose likelihood is Gaussian, rows, and their exact log p(x)."""
    vae = new_vae(Gaussian()).double()
    weight, bias = torch.linalg.qr(torch.randn(6, 2))[0] * torch.tensor([2.0, 0.5]), torch.randn(6)
    means_and_log_scales = torch.nn.Linear(2, 12)
    means_and_log_scales.load_state_dict(
        {"weight": torch.cat([weight, torch.zeros(6, 2)]), "bias": torch.cat([bias, torch.zeros(6)])}
    )
    vae.encoder = Affine(weight, bias, shift)
    vae.decoder = torch.nn.Sequential(means_and_log_scales, torch.nn.Unflatten(1, (2, 6)))
    x = torch.randn(40, 6) * 1.5
    exact = torch.distributions.MultivariateNormal(bias, weight @ weight.mT + torch.eye(6)).log_prob(x)
    return vae, x, exact


@pytest.mark.parametrize("samples", [1, 7])
def test_with_the_exact_posterior_the_bound_is_the_log_likelihood(samples: int) -> None:
    vae, x, exact = affine_vae(shift=0)
    assert_close(importance_weighted_bound(vae, x, samples=samples), exact.mean().item())


def test_with_an_inexact_posterior_the_bound_grows_to_the_log_likelihood() -> None:
    vae, x, exact = affine_vae(shift=0.5)
    bounds = [importance_weighted_bound(vae, x, samples=samples) for samples in (1, 4, 16, 64, 4096)]
    assert bounds == sorted(bounds)
    gaps = exact.mean().item() - torch.tensor(bounds)
    assert gaps[0] > 0.5
    assert gaps[-1].abs() < 0.01 * gaps[0]


def test_the_bound_of_one_sample_is_the_elbo_in_expectation() -> None:
    vae, x = new_vae(), torch.rand(50, 6)
    bounds = torch.tensor([importance_weighted_bound(vae, x, samples=1, seed=seed) for seed in range(40)])
    assert abs(bounds.mean() - evaluate_elbo(vae, x, samples=200)) < 5 * bounds.std() / 40**0.5


def test_the_bound_grows_with_its_samples_and_depends_on_its_seed_alone() -> None:
    vae, x = new_vae().train(), torch.rand(50, 6)
    state = torch.get_rng_state()
    means = [
        sum(importance_weighted_bound(vae, x, samples=samples, seed=seed) for seed in range(20)) / 20
        for samples in (1, 4, 16, 64)
    ]
    assert means == sorted(means)
    assert importance_weighted_bound(vae, x, seed=3) == importance_weighted_bound(vae, x, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert vae.training


@pytest.mark.parametrize(("rows", "samples"), [(40, 64), (3, 1000), (7, 1)])
def test_the_bound_decodes_no_more_points_at_a_time_than_asked_and_all_of_them(rows: int, samples: int) -> None:
    vae, x, exact = affine_vae(shift=0)
    sizes: list[int] = []
    vae.decoder.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    bound = importance_weighted_bound(vae, x[:rows], samples=samples, batch_size=16)
    assert_close(bound, exact[:rows].mean().item())
    assert max(sizes) <= 16
    assert sum(sizes) == rows * samples


def test_a_gaussian_agrees_with_that_of_torch() -> None:
    q = DiagonalGaussian(torch.randn(5, 3), torch.randn(5, 3))
    normal, z = torch.distributions.Normal(q.mean, q.log_scale.exp()), torch.randn(5, 3)
    standard = torch.distributions.Normal(torch.zeros(5, 3), torch.ones(5, 3))
    assert_close(q.log_prob(z), normal.log_prob(z).sum(1))
    assert_close(q.coordinate_kl(), torch.distributions.kl_divergence(normal, standard))
    assert_close(q.kl(), q.coordinate_kl().sum(1))


@pytest.mark.parametrize("measure", [evaluate_elbo, importance_weighted_bound])
def test_evaluation_refuses_what_it_cannot_measure(measure: Callable[..., float]) -> None:
    vae = new_vae()
    with pytest.raises(DataError, match=r"2 to 2"):
        measure(vae, torch.full((3, 6), 2.0))
    with pytest.raises(DataError, match="at least one row"):
        measure(vae, torch.zeros(0, 6))
    for keyword in ("samples", "batch_size"):
        with pytest.raises(InputError, match=keyword):
            measure(vae, torch.zeros(3, 6), **{keyword: 0})
    with pytest.raises(InputError, match="x: expected rows"):
        measure(vae, torch.zeros(3, 7))
