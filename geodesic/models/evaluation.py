"""How good a VAE is: the bounds of log p(x) on rows that it did not see."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.models.vae import VAE, DiagonalGaussian

__all__ = ["evaluate_elbo", "importance_weighted_bound"]


def evaluate_elbo(vae: VAE, values: Tensor, *, samples: int = 1, seed: int = 0, batch_size: int = 1000) -> float:
    """Mean ELBO of rows, in nats per row.

        mean over rows of E log p(x | z) - KL(q(z | x) || p(z)),   z ~ q(z | x)

    Args:
        vae: Left in the mode, training or evaluation, that it is in.
        values: Rows, (N, *event), in the range of the likelihood; moved to the device of the model.
        samples: Latent points drawn for each row; the KL term is exact.
        seed: Seed of the noise.
        batch_size: Rows at a time.

    Raises:
        InputError: A count is below 1, or rows have another shape than the model's.
        DataError: Values leave the range of the likelihood.

    Example:
        >>> import torch, geodesic
        >>> vae = geodesic.VAE((6,))
        >>> geodesic.models.evaluate_elbo(vae, torch.rand(5, 6)) < 0
        True
    """
    total = 0.0
    with _evaluation(vae, values, samples, seed, batch_size) as (batches, generator):
        for x in batches:
            for _ in range(samples):
                total += vae.elbo(x, generator=generator).value.sum(dtype=torch.float64).item()
    return total / (samples * len(values))


def importance_weighted_bound(
    vae: VAE, values: Tensor, *, samples: int = 64, seed: int = 0, batch_size: int = 1000
) -> float:
    """Mean importance-weighted bound of rows, in nats per row: the ELBO for one sample, log p(x) for very many.

        L_K = mean over rows of E log (1 / K) sum over k of p(x | z_k) p(z_k) / q(z_k | x),   z_k ~ q(z | x)

    It grows with K on average and never beyond log p(x). How far it is from there depends on q: with a poor one
    even many samples leave a gap. For an ensemble p(x | z) is the geometric mean of its members, as in the ELBO.

    Reference: Burda, Grosse, Salakhutdinov, *Importance Weighted Autoencoders*, 2016.

    Args:
        vae: Left in the mode, training or evaluation, that it is in.
        values: Rows, (N, *event), in the range of the likelihood; moved to the device of the model.
        samples: Latent points drawn for each row, K.
        seed: Seed of the noise.
        batch_size: Latent points decoded at a time, which bounds the memory whatever K is.

    Raises:
        InputError: A count is below 1, or rows have another shape than the model's.
        DataError: Values leave the range of the likelihood.

    Example:
        >>> import torch, geodesic
        >>> vae, x = geodesic.VAE((6,)), torch.rand(50, 6)
        >>> geodesic.models.importance_weighted_bound(vae, x) > geodesic.models.evaluate_elbo(vae, x, samples=64)
        True
    """
    total = 0.0
    with _evaluation(vae, values, samples, seed, batch_size) as (batches, generator):
        for x in batches:
            q = vae.encode_distribution(x)
            log_sum = x.new_full((len(x),), -math.inf, dtype=torch.float64)
            chunk = max(1, batch_size // len(x))
            for done in range(0, samples, chunk):
                log_weights = _log_weights(vae, x, q, min(chunk, samples - done), generator)
                log_sum = torch.logaddexp(log_sum, log_weights.double().logsumexp(0))
            total += log_sum.sum().item()
    return total / len(values) - math.log(samples)


def _log_weights(vae: VAE, x: Tensor, q: DiagonalGaussian, samples: int, generator: torch.Generator) -> Tensor:
    """The logarithm of p(x | z) p(z) / q(z | x) at so many z ~ q(z | x) for each row, (samples, N)."""

    def repeated(rows: Tensor) -> Tensor:
        return rows.expand(samples, *rows.shape).flatten(0, 1)

    q = DiagonalGaussian(repeated(q.mean), repeated(q.log_scale))
    prior = DiagonalGaussian(torch.zeros_like(q.mean), torch.zeros_like(q.mean))
    z = q.sample(generator)
    return (vae.log_likelihood(z, repeated(x)) + prior.log_prob(z) - q.log_prob(z)).unflatten(0, (samples, len(x)))


@contextmanager
def _evaluation(
    vae: VAE, values: Tensor, samples: int, seed: int, batch_size: int
) -> Iterator[tuple[Iterator[Tensor], torch.Generator]]:
    """Batches on the device of the model and a source of noise there, for a VAE in evaluation mode."""
    for name, count in (("samples", samples), ("batch_size", batch_size)):
        require_integer(name, count, least=1)
    vae.likelihood.check(values)
    weight = next(vae.parameters())
    training = vae.training
    vae.eval()
    try:
        with torch.no_grad():
            batches = (batch.to(weight) for batch in values.split(batch_size))
            yield batches, torch.Generator(weight.device).manual_seed(seed)
    finally:
        vae.train(training)
