"""What a decoder's output means: the distribution of a row given its parameters. One file a sort of values."""

from geodesic.models.likelihoods.bits import Bernoulli, ContinuousBernoulli
from geodesic.models.likelihoods.classes import Categorical, Discretized
from geodesic.models.likelihoods.counts import NegativeBinomial, Poisson
from geodesic.models.likelihoods.gaussian import Gaussian
from geodesic.models.likelihoods.likelihood import LIKELIHOODS, Likelihood

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
