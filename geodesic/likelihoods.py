"""What the outputs of a decoder mean: the distribution of the data. `geodesic.likelihoods.Bernoulli()`, say.

These names are defined in `geodesic.models.likelihoods`.
"""

from geodesic.models.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Discretized,
    Gaussian,
    Likelihood,
    NegativeBinomial,
    Poisson,
)

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "Discretized",
    "Gaussian",
    "Likelihood",
    "NegativeBinomial",
    "Poisson",
]
