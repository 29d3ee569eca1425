"""What the numbers mean that a model returns, and which geometry that gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    NegativeBinomial,
    Normal,
    OneHotCategorical,
    Poisson,
)

from geodesic.errors import DecoderError
from geodesic.geometry.outputs import (
    DistanceGeometry,
    Euclidean,
    ExpectedGaussian,
    FisherRaoBernoulli,
    FisherRaoCategorical,
    FisherRaoNegativeBinomial,
    FisherRaoPoisson,
    OutputGeometry,
)
from geodesic.geometry.refusals import described

__all__ = ["PAIRS", "SINGLE", "Meaning", "meaning_of_distribution", "meaning_of_word", "plain"]

Read = Callable[[Any], Tensor]


@dataclass(frozen=True)
class Meaning:
    """How what a model returns, or a part of that, becomes the parameters of a geometry.

    Attributes:
        parameters: From the part to one tensor, (N, ...).
        outputs: The geometry that takes it.
        mean: From that tensor to means, (N, *event).
        words: What it is, for people.
    """

    parameters: Read
    outputs: OutputGeometry | DistanceGeometry
    mean: Read
    words: str


def _same(x: Any) -> Any:
    return x


def _first(x: Tensor) -> Tensor:
    return x[:, 0]


# --- tensors, by the user's word ---------------------------------------------------------------


def plain(words: str = "means") -> Meaning:
    """Numbers whose distances are those of Euclidean space."""
    return Meaning(_same, Euclidean(), _same, words)


def meaning_of_word(word: str, part: Any) -> Meaning:
    """What one of the words of `SINGLE` and `PAIRS` says of a tensor, or of a pair of tensors.

    Raises:
        DecoderError: A pair is meant, and there is none.
    """
    if word not in PAIRS:
        return SINGLE[word]
    if not (isinstance(part, tuple | list) and len(part) >= 2 and all(isinstance(x, Tensor) for x in part[:2])):
        raise DecoderError(
            f"output: {word!r} is for a model that returns two tensors, (mean, {word.removeprefix('mean_and_')}), and "
            f"it returned {described(part)}; give output=lambda x: torch.distributions.Normal(mean, std) of it"
        )
    return PAIRS[word]


def _mean_and_std(pair: Any) -> Tensor:
    return torch.stack([pair[0], pair[1].expand_as(pair[0])], dim=1)


def _mean_and_log_scale(pair: Any) -> Tensor:
    return torch.stack([pair[0], (pair[1] / 2).expand_as(pair[0])], dim=1)


#: What a user can say of one tensor.
SINGLE = {
    "logits": Meaning(_same, FisherRaoBernoulli("logits"), torch.sigmoid, "logits of Bernoulli distributions"),
    "probabilities": Meaning(
        _same, FisherRaoBernoulli("probabilities"), _same, "probabilities of Bernoulli distributions"
    ),
    "mean": plain(),
}
#: What a user can say of a pair of tensors.
PAIRS = {
    "mean_and_std": Meaning(
        _mean_and_std, ExpectedGaussian("scales"), _first, "means and standard deviations of normal distributions"
    ),
    "mean_and_log_variance": Meaning(
        _mean_and_log_scale, ExpectedGaussian("log_scales"), _first, "means and log variances of normal distributions"
    ),
}

# --- distributions -----------------------------------------------------------------------------


def meaning_of_distribution(distribution: Distribution) -> Meaning:
    """Which parameters of a distribution to take, and their Fisher-Rao geometry, or that of normal distributions.

    Args:
        distribution: Of two rows or more, or of one if the model takes no more.

    Raises:
        DecoderError: There is no geometry for it.
    """
    base = _base(distribution)
    for kind, read in _FAMILIES.items():
        if isinstance(base, kind):
            return read(base)
    raise DecoderError(
        f"output: the model returned the distribution {type(base).__name__}, which has no geometry here; give "
        f'output="mean" for distances between means, or output=lambda d: ... that makes another one or a tensor of it'
    )


def _base(distribution: Any) -> Any:
    """Without `Independent`, which only says which axes belong together."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution


def _of(name: str) -> Read:
    def parameters(distribution: Any) -> Tensor:
        value: Tensor = getattr(_base(distribution), name)
        return value

    return parameters


def _classes_second(name: str) -> Read:
    """Classes from the last axis, where torch has them, to the second."""
    take = _of(name)
    return lambda distribution: take(distribution).movedim(-1, 1)


def _has_logits(base: Any) -> bool:
    """Whether it was made from logits, which keep their digits: torch makes the others when they are asked for."""
    return "logits" in vars(getattr(base, "_categorical", base))


def _bernoulli(base: Any) -> Meaning:
    if _has_logits(base):
        return Meaning(_of("logits"), FisherRaoBernoulli("logits"), torch.sigmoid, "Bernoulli distributions, by logits")
    return Meaning(
        _of("probs"), FisherRaoBernoulli("probabilities"), _same, "Bernoulli distributions, by probabilities"
    )


def _categorical(base: Any) -> Meaning:
    if _has_logits(base):
        take, geometry = _classes_second("logits"), FisherRaoCategorical("logits")
        return Meaning(take, geometry, lambda x: x.softmax(1), "categorical distributions, by logits")
    take, geometry = _classes_second("probs"), FisherRaoCategorical("probabilities")
    return Meaning(take, geometry, _same, "categorical distributions, by probabilities")


def _poisson(base: Any) -> Meaning:
    return Meaning(_of("rate"), FisherRaoPoisson("rates"), _same, "Poisson distributions, by rates")


def _negative_binomial(base: Any) -> Meaning:
    counts = base.total_count.detach()
    if not bool((counts == counts[:1]).all()):
        raise DecoderError(
            "output: total_count of the negative binomial distributions differs between points, and "
            'FisherRaoNegativeBinomial takes one that is the same everywhere; give output="mean" for distances between '
            "means"
        )
    r = float(counts.flatten()[0]) if bool((counts == counts.flatten()[0]).all()) else counts[0].clone()
    said = f"{r:g}" if isinstance(r, float) else "one for each output"
    words = f"negative binomial distributions with total_count {said}, by logits"
    return Meaning(_of("logits"), FisherRaoNegativeBinomial(r), lambda x: torch.as_tensor(r).to(x) * x.exp(), words)


def _normal(base: Any) -> Meaning:
    scale = base.scale.detach()
    # Of one row alone nobody can tell.
    if len(scale) == 1 or not torch.allclose(scale[:1], scale, rtol=1e2 * torch.finfo(scale.dtype).eps, atol=0):
        return Meaning(_mean_and_scale, ExpectedGaussian("scales"), _first, "normal distributions, whose scale varies")
    if bool((scale == 1).all()):
        return Meaning(_of("loc"), Euclidean(), _same, "normal distributions of scale 1")
    fixed = scale[0].clone()
    words = "means of normal distributions in units of their fixed scale"
    return Meaning(_mean_over_scale, Euclidean(), lambda x: x * fixed.to(device=x.device, dtype=x.dtype), words)


def _mean_over_scale(distribution: Any) -> Tensor:
    base = _base(distribution)
    mean: Tensor = base.loc / base.scale
    return mean


def _mean_and_scale(distribution: Any) -> Tensor:
    base = _base(distribution)
    return torch.stack([base.loc, base.scale], dim=1)


_FAMILIES: dict[type[Distribution], Callable[[Any], Meaning]] = {
    Bernoulli: _bernoulli,
    Categorical: _categorical,
    OneHotCategorical: _categorical,
    Poisson: _poisson,
    NegativeBinomial: _negative_binomial,
    Normal: _normal,
}
