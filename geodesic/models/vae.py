"""The variational autoencoder: an encoder h, a decoder g and the likelihood between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from geodesic.checks import is_integer, require_choice, require_integer, require_nonnegative
from geodesic.errors import CheckpointError, InputError
from geodesic.models.checkpoint import RECORD, WEIGHTS, read_record, restore, save_model
from geodesic.models.ensemble import DecoderEnsemble
from geodesic.models.likelihoods import LIKELIHOODS, Bernoulli, Likelihood
from geodesic.models.likelihoods.likelihood import InputKind
from geodesic.models.networks.mlp import MLPNetwork
from geodesic.models.networks.network import NETWORKS, Network
from geodesic.models.networks.units import Log1p, RowInputs, Standardize
from geodesic.models.uncertain_decoders import UncertainDecoder
from geodesic.models.uncertainty import UNCERTAINTIES, Uncertainty, check_uncertainty

__all__ = ["ELBO", "VAE", "DiagonalGaussian"]


@dataclass(frozen=True)
class DiagonalGaussian:
    """A Gaussian for each row, N(mean, diag(exp(2 log_scale))).

    Example:
        >>> import torch
        >>> from geodesic.models.vae import DiagonalGaussian
        >>> DiagonalGaussian(torch.ones(3, 2), torch.zeros(3, 2)).kl()
        tensor([1., 1., 1.])
    """

    mean: Float[Tensor, "N d"]
    log_scale: Float[Tensor, "N d"]

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "N d"]:
        """Draw mean + exp(log_scale) * noise, differentiable in both."""
        mean = self.mean
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        return mean + self.log_scale.exp() * noise

    def kl(self) -> Float[Tensor, " N"]:
        """KL(N(m, e^2s) || N(0, 1)) = sum over coordinates of (m^2 + e^2s - 1) / 2 - s, in nats."""
        return self.coordinate_kl().sum(-1)

    def coordinate_kl(self) -> Float[Tensor, "N d"]:
        """KL(N(m, e^2s) || N(0, 1)) of each coordinate, (m^2 + e^2s - 1) / 2 - s, in nats."""
        m, s = self.mean, self.log_scale
        # expm1 keeps the digits of a scale near 1, where the terms cancel.
        return 0.5 * (m.square() + torch.expm1(2 * s)) - s

    def log_prob(self, z: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """Sum over coordinates of log N(z; m, e^2s) = -((z - m) / e^s)^2 / 2 - s - log(2 pi) / 2, in nats."""
        m, s = self.mean, self.log_scale
        return (-0.5 * ((z - m) * torch.exp(-s)).square() - s - 0.5 * math.log(2 * math.pi)).sum(-1)


@dataclass(frozen=True)
class ELBO:
    """The evidence lower bound of each row and its two terms, in nats.

    Args:
        log_likelihood: log p(x | z) at one z drawn from q(z | x).
        kl: KL(q(z | x) || p(z)) in closed form.
        value: log_likelihood - kl_weight * kl.
    """

    log_likelihood: Float[Tensor, " N"]
    kl: Float[Tensor, " N"]
    value: Float[Tensor, " N"]


class VAE(nn.Module):
    """A variational autoencoder with the prior N(0, 1) on its latent points.

        log p(x) >= E log p(x | z) - KL(q(z | x) || p(z)),   z ~ q(z | x)

    Reference: Kingma, Welling, *Auto-Encoding Variational Bayes*, 2014.

    Its `decoder` is one module that returns the parameters of its `likelihood`, (N, *parameter_shape): logits
    (N, *event) for Bernoulli, (N, 2, *event) with means and log scales for Gaussian, and so on. With more than one of
    `decoders` it is a `DecoderEnsemble`; with `uncertainty` it is wrapped, after training, by `fit_uncertainty`.

    The first weights are drawn from torch's random state, those of the encoder first.

    Args:
        event_shape: Shape of one row, such as (1, 28, 28).
        latent_size: Number of latent coordinates, d.
        network: How encoder and decoder are built: an `MLPNetwork` or a `ConvNetwork` with their sizes.
        likelihood: What the decoder's output means.
        decoders: How many are trained together behind one encoder; an ensemble, if more than one.
        inputs: What the encoder is given: "log1p", the logarithms log(1 + x) about their means; "standardize", columns
            of mean 0 and scale 1; "none", the rows as they are; "auto", what suits the likelihood: log1p for counts,
            standardize for a Gaussian, whose decoder then works in the same units, and none for others. Means and
            scales are those of the rows that it is trained on; before that they are 0 and 1.
        uncertainty: What the decoder says away from the training encodings, fitted after training: an
            `RBFUncertainty`, a `BlendUncertainty`, or nothing.

    Raises:
        InputError: A size is not a positive integer, rows are not images where the network needs images, there are no
            such inputs, or the uncertainty or a learned r of a negative binomial does not go with the likelihood or
            with an ensemble.

    Example:
        >>> import torch, geodesic
        >>> vae = geodesic.VAE((1, 8, 8), latent_size=2, network=geodesic.models.MLPNetwork(hidden_sizes=(16,)))
        >>> z = vae.encode(torch.rand(5, 1, 8, 8))
        >>> z.shape, vae.decode(z).shape
        (torch.Size([5, 2]), torch.Size([5, 1, 8, 8]))
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_size: int = 2,
        *,
        network: Network = MLPNetwork(),
        likelihood: Likelihood = Bernoulli(),
        decoders: int = 1,
        inputs: Literal["auto"] | InputKind = "auto",
        uncertainty: Uncertainty | None = None,
    ) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        if not self.event_shape or not all(is_integer(n) and n > 0 for n in self.event_shape):
            raise InputError(f"event_shape: expected positive integers, got {self.event_shape}")
        require_integer("latent_size", latent_size, least=1)
        require_integer("decoders", decoders, least=1)
        require_choice("inputs", inputs, ("auto", *get_args(InputKind)))
        check_uncertainty(uncertainty, likelihood, decoders)
        likelihood.check_decoders(decoders)
        self.latent_size, self.network = latent_size, network
        self._likelihood, self.uncertainty = likelihood, uncertainty
        self.inputs: InputKind = likelihood.inputs if inputs == "auto" else inputs

        def make_network(shape: tuple[int, ...]) -> nn.Module:
            return network.decoder(latent_size, shape)

        self.encoder = network.encoder(self.event_shape, latent_size)
        if self.inputs == "standardize":
            self.encoder = nn.Sequential(Standardize(self.event_shape), self.encoder)
        elif self.inputs == "log1p":
            self.encoder = nn.Sequential(Log1p(self.event_shape, likelihood.by_row), self.encoder)
        units = self.inputs == "standardize"
        members = [likelihood.decoder(make_network, self.event_shape, standardized=units) for _ in range(decoders)]
        self.decoder: nn.Module = members[0] if len(members) == 1 else DecoderEnsemble(members)

    @property
    def likelihood(self) -> Likelihood:
        """What the decoder's output means, with the numbers that training has found: an r a column, say."""
        with torch.no_grad():
            return self._likelihood.with_learned(self.decoder)

    @property
    def decoders(self) -> tuple[nn.Module, ...]:
        """Its decoders, from latent points (N, d) to parameters (N, *parameter_shape): one, or those of an ensemble."""
        return tuple(self.decoder.members) if isinstance(self.decoder, DecoderEnsemble) else (self.decoder,)

    def encode(self, x: Tensor) -> Float[Tensor, "N d"]:
        """h(x), the mean of q(z | x), at rows x, (N, *event)."""
        return self.encode_distribution(x).mean

    def encode_distribution(self, x: Tensor) -> DiagonalGaussian:
        """q(z | x) at rows x, (N, *event)."""
        mean, log_scale = self.encoder(x)
        # Mixed precision is for the networks: the sums that follow, here and in `log_likelihood`, would lose
        # most of their digits in it.
        return DiagonalGaussian(mean.to(x.dtype), _bounded(log_scale.to(x.dtype)))

    def decode(self, z: Tensor) -> Float[Tensor, "N *parameters"]:
        """g(z), the parameters of the likelihood, (N, *parameter_shape), at latent points z, (N, d).

        Raises:
            InputError: There is an ensemble of decoders, whose outputs are not those of one.
        """
        if isinstance(self.decoder, DecoderEnsemble):
            raise InputError(
                f"decode: this VAE has {len(self.decoders)} decoders; take `decoders` for each of them, as "
                "EnsembleManifold does, or `mean` for the average of their means"
            )
        parameters: Tensor = self.decoder(z)
        return parameters

    def mean(self, z: Tensor) -> Float[Tensor, "N *event"]:
        """Expected rows at latent points z, (N, d): averaged over the members of an ensemble."""
        likelihood = self.likelihood
        return torch.stack([likelihood.mean(decoder(z)) for decoder in self.decoders]).mean(0)

    def log_likelihood(self, z: Tensor, x: Tensor) -> Float[Tensor, " N"]:
        """Log p(x | z) of rows x, (N, *event), at latent points z, (N, d), in nats: averaged over an ensemble."""
        likelihood = self._likelihood.with_learned(self.decoder)
        terms = [likelihood.log_prob(decoder(z).to(z.dtype), x) for decoder in self.decoders]
        return torch.stack(terms).mean(0)

    def elbo(self, x: Tensor, kl_weight: float = 1.0, generator: torch.Generator | None = None) -> ELBO:
        """Estimate the evidence lower bound of each row from one latent point each.

        Args:
            x: Rows, (N, *event).
            kl_weight: beta; the value is a bound of log p(x) from beta = 1 on.
            generator: Source of the noise, on the device of the model.

        Returns:
            The bound and its terms, (N,) each, in nats per row.

        Raises:
            InputError: x has another shape than the model, or `kl_weight` is negative or not finite.

        Example:
            >>> import torch, geodesic
            >>> vae = geodesic.VAE((6,))
            >>> terms = vae.elbo(torch.rand(3, 6))
            >>> torch.equal(terms.value, terms.log_likelihood - terms.kl)
            True
        """
        require_nonnegative("kl_weight", kl_weight)
        q = self.encode_distribution(x)
        log_likelihood = self.log_likelihood(q.sample(generator), x)
        kl = q.kl()
        return ELBO(log_likelihood, kl, log_likelihood - kl_weight * kl)

    def is_finite(self) -> bool:
        """Whether all weights are finite numbers."""
        return all(bool(weight.isfinite().all()) for weight in self.parameters())

    def check(self, values: Float[Tensor, "N *event"]) -> None:
        """Refuse rows that it cannot be trained on.

        Raises:
            DataError: They hold values that the likelihood gives no density to, or that the inputs cannot take.
        """
        self._likelihood.check(values)
        for inputs in self._row_inputs():
            inputs.check(values)

    def begin(self, values: Float[Tensor, "N *event"]) -> None:
        """Take what comes from the training rows before training: units, and where the decoder's output starts.

        Args:
            values: Training rows, (N, *event), that `check` accepts.

        Example:
            >>> import torch, geodesic
            >>> vae, x = geodesic.VAE((3,), likelihood=geodesic.likelihoods.Gaussian()), 100 * torch.rand(9, 3)
            >>> vae.begin(x)
            >>> vae.encoder[0](x).std(0, correction=0).round(decimals=3)
            tensor([1., 1., 1.])
        """
        for inputs in self._row_inputs():
            inputs.fit(values)
        for decoder in self.decoders:
            self._likelihood.begin(decoder, values)

    def constant_elbo(self, values: Float[Tensor, "N *event"], x: Float[Tensor, "M *event"]) -> Float[Tensor, " M"]:
        """Log-likelihood of each row of x, (M,), in nats, under the constant model of training rows.

        It is the best VAE whose latent points tell nothing: one distribution for each entry, the same for all rows,
        fitted to the training rows, with KL 0. A VAE whose ELBO is below it has learned nothing of use.

        Args:
            values: Training rows, (N, *event).
            x: Rows, (M, *event).
        """
        return self._likelihood.constant_log_prob(self.decoder, values, x).detach()

    def _row_inputs(self) -> list[RowInputs]:
        """What the encoder is given in place of rows, if it is."""
        return [layer for layer in self.encoder.modules() if isinstance(layer, RowInputs)]

    def check_uncertainty(self, values: Float[Tensor, "N *event"]) -> None:
        """Refuse training rows that `fit_uncertainty` will have no use for: before the training, not after it.

        Raises:
            InputError: There are fewer rows than centers, or the uncertainty has been fitted before.
            DataError: The rows have no uninformative parameters, or values that the likelihood refuses.
        """
        if isinstance(self.decoder, UncertainDecoder):
            raise InputError("uncertainty: it has been fitted before; train a new VAE")
        if self.uncertainty is not None:
            self.uncertainty.check_rows(values, self.likelihood)

    def fit_uncertainty(self, values: Float[Tensor, "N *event"], seed: int = 0) -> None:
        """Put what `uncertainty` asks for around the trained decoder, fitted to training rows.

        Args:
            values: Training rows, (N, *event).
            seed: Of the fit.

        Raises:
            InputError: There are fewer rows than centers, or it has been fitted before.
            DataError: The rows have no uninformative parameters, or values that the likelihood refuses.
        """
        self.check_uncertainty(values)
        if self.uncertainty is None:
            return
        weight = next(self.parameters())
        values = values.to(weight)
        with torch.no_grad():
            encodings = torch.cat([self.encode(rows) for rows in values.split(1000)])
        uncertain = self._uncertain(self.uncertainty).to(weight)
        uncertain.fit(values, encodings, seed)
        self.decoder = uncertain

    def _uncertain(self, uncertainty: Uncertainty) -> UncertainDecoder:
        """The decoder with uncertainty around it, not fitted yet."""
        return uncertainty.wrap(self.decoder, self.latent_size, self.event_shape, self.likelihood)

    def describe(self) -> dict[str, Any]:
        """What it is made of, in plain values: sizes, and the kinds of its parts with their settings.

        Raises:
            InputError: A part is of a class that is not registered.

        Example:
            >>> import geodesic
            >>> geodesic.VAE((6,)).describe()["network"]
            {'kind': 'mlp', 'hidden_sizes': (256, 256), 'activation': 'elu'}
        """
        return {
            "event_shape": self.event_shape,
            "latent_size": self.latent_size,
            "network": NETWORKS.describe(self.network),
            "likelihood": LIKELIHOODS.describe(self._likelihood),
            "decoders": len(self.decoders),
            "inputs": self.inputs,
            "uncertainty": None if self.uncertainty is None else UNCERTAINTIES.describe(self.uncertainty),
        }

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `model.json`, which `VAE.load` reads back.

        Raises:
            InputError: A part is of a class that is not registered.
        """
        save_model(self, folder, self.describe() | {"uncertainty_fitted": isinstance(self.decoder, UncertainDecoder)})

    @classmethod
    def load(cls, folder: str | Path) -> VAE:
        """Read a VAE that was saved into the folder, ready for use: on the CPU and in evaluation mode.

        Raises:
            CheckpointError: Files are missing, truncated or foreign.

        Example:
            >>> import tempfile, torch, geodesic
            >>> folder, vae = tempfile.mkdtemp(), geodesic.VAE((6,))
            >>> vae.save(folder)
            >>> z = torch.zeros(1, 2)
            >>> torch.equal(geodesic.VAE.load(folder).decode(z), vae.decode(z))
            True
        """
        record = read_record(folder)
        try:
            uncertainty = record["uncertainty"]
            # Without memory or initial values, so that loading leaves the random state alone.
            with torch.device("meta"):
                vae = cls(
                    record["event_shape"],
                    record["latent_size"],
                    network=NETWORKS.restore(record["network"]),
                    likelihood=LIKELIHOODS.restore(record["likelihood"]),
                    decoders=record["decoders"],
                    inputs=record.get("inputs", "none"),  # version 0.2.0 knew no others
                    uncertainty=None if uncertainty is None else UNCERTAINTIES.restore(uncertainty),
                )
                if record["uncertainty_fitted"] and vae.uncertainty is not None:
                    vae.decoder = vae._uncertain(vae.uncertainty)
        except (KeyError, TypeError, InputError) as error:
            raise CheckpointError(
                f"{Path(folder) / RECORD}: not the record of a VAE ({type(error).__name__}: {error}); "
                "train the model again, or read it as what it is"
            ) from None
        vae.to_empty(device="cpu")
        restore(vae, Path(folder) / WEIGHTS)
        return vae.eval()


def _bounded(log_scale: Tensor) -> Tensor:
    """Log scales of q between -20 and 20, smoothly: to rounding the same near 0, where those of trained ones are.

    exp(2 s) overflows from 44 on, in single precision.
    """
    low = softplus(log_scale + 20, threshold=40) - 20
    return 20 - softplus(20 - low, threshold=40)
