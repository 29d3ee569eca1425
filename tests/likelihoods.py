"""Likelihoods to try laws on: one of each registered kind, and the Gaussian with each sort of scale.

A new likelihood is to be added here: laws of decoders, of training and of files are then tried on it.
"""

from geodesic import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Discretised,
    Gaussian,
    Likelihood,
    NegativeBinomial,
    Poisson,
)

EXAMPLES: dict[str, Likelihood] = {
    "bernoulli": Bernoulli(),
    "continuous_bernoulli": ContinuousBernoulli(),
    "gaussian": Gaussian(scale=0.3),
    "gaussian_learned": Gaussian(scale="learned", min_scale=0.02),
    "gaussian_per_pixel": Gaussian(scale="per_pixel"),
    "categorical": Categorical(4),
    "discretised": Discretised(5),
    "poisson": Poisson(),
    "negative_binomial": NegativeBinomial(2.5),
}
