"""Decoders that know where they saw no data, fitted around a trained one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geodesic.checks import require_positive
from geodesic.errors import InputError

__all__ = ["BlendedDecoder", "RBFScaleDecoder", "UncertainDecoder", "cluster_centers"]

_FIT_EPOCHS = 20
_FIT_BATCH = 128
_FIT_RATE = 0.05


def cluster_centers(
    encodings: Float[Tensor, "N d"], count: int, seed: int = 0
) -> tuple[Float[Tensor, "K d"], Float[Tensor, " K"]]:
    """Centers of clusters of encodings, and how far their members lie from them on average.

    Args:
        encodings: Latent points of the training rows, (N, d).
        count: K, the number of clusters.
        seed: Of the clustering, by k-means.

    Returns:
        Centers, (K, d), and spreads, (K,), none of them below a tenth of their mean: a cluster of one point has none.

    Raises:
        InputError: There are fewer than 2 clusters, or fewer points than clusters, or all points are one.

    Example:
        >>> import torch
        >>> from geodesic.models.uncertain_decoders import cluster_centers
        >>> centers, spreads = cluster_centers(torch.tensor([[0.0], [2.0], [10.0], [12.0]]), 2)
        >>> centers.flatten().sort().values, spreads
        (tensor([ 1., 11.]), tensor([1., 1.]))
    """
    from sklearn.cluster import KMeans  # slow to import

    if count < 2 or count > len(encodings):
        raise InputError(f"centers: expected from 2 to {len(encodings)}, the number of encodings, got {count}")
    if bool((encodings == encodings[:1]).all()):
        raise InputError(f"encodings: all {len(encodings)} are one point, which has no clusters")
    points = encodings.detach().double().cpu().numpy()
    found = KMeans(count, n_init=4, random_state=seed).fit(points)
    centers, labels = torch.as_tensor(found.cluster_centers_), torch.as_tensor(found.labels_).long()
    distances = (encodings.detach().double().cpu() - centers[labels]).norm(dim=1)
    total = torch.zeros(count, dtype=torch.float64).index_add(0, labels, distances)
    spreads = total / labels.bincount(minlength=count).clamp_min(1)
    spreads = spreads.clamp_min(0.1 * spreads.mean())
    return centers.to(encodings), spreads.to(encodings)


class UncertainDecoder(nn.Module, ABC):
    """A decoder with uncertainty around it, which is fitted once the decoder is trained."""

    centers: Tensor
    widths: Tensor
    width: float

    @abstractmethod
    def fit(self, values: Float[Tensor, "N *event"], encodings: Float[Tensor, "N d"], seed: int = 0) -> None:
        """Fit it to training rows, (N, *event), and their latent points, (N, d)."""

    def _cluster(self, encodings: Float[Tensor, "N d"], seed: int) -> None:
        centers, spreads = cluster_centers(encodings, len(self.centers), seed)
        self.centers.copy_(centers)
        self.widths.copy_(self.width * spreads)


class RBFScaleDecoder(UncertainDecoder):
    """A Gaussian decoder whose scale is small near the training encodings and grows to a limit away from them.

    sigma(z)^2 = min_scale^2 + 1 / (sum over k of W_k exp(-|z - c_k|^2 / (2 (a s_k)^2)) + 1 / away^2),   W_k >= 0

    The means are those of the decoder that it wraps. The centers c_k and their spreads s_k are those of clusters of
    encodings; the weights, one for each center and output, are fitted to the errors of the means. Returns means and log
    scales, (N, 2, *event).

    Reference:
        G. Arvanitidis, L. K. Hansen, S. Hauberg, Latent Space Oddity: on the Curvature of Deep Generative Models, 2018.

    Args:
        decoder: Latent points (N, d) to means and log scales, (N, 2, *event); its scales are replaced.
        latent_size: d.
        event_shape: Shape of one row.
        centers: K, the number of clusters.
        width: a, the widths of the basis functions in parts of the spreads.
        away: The scale far from all centers, in the units of the data; min_scale adds to it as variances do.
        min_scale: Lower bound of the scales. Without one that of an output that never varies would vanish.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> import torch
        >>> from geodesic.models.uncertain_decoders import RBFScaleDecoder
        >>> decoder = RBFScaleDecoder(lambda z: z[:, None].expand(-1, 2, -1), 3, (3,), centers=2)
        >>> z = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
        >>> decoder.fit(z + 0.1, z)
        >>> decoder(torch.full((1, 3), 100.0))[0, 1].exp().detach().round(decimals=3)
        tensor([1., 1., 1.])
    """

    def __init__(
        self,
        decoder: Callable[[Tensor], Tensor],
        latent_size: int,
        event_shape: tuple[int, ...],
        centers: int = 64,
        width: float = 1.5,
        away: float = 1.0,
        min_scale: float = 0.01,
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("away", away), ("min_scale", min_scale)):
            require_positive(name, value)
        self.decoder = decoder
        self.event_shape = event_shape
        self.width, self.away, self.min_scale = width, away, min_scale
        self.register_buffer("centers", torch.zeros(centers, latent_size))
        self.register_buffer("widths", torch.ones(centers))
        # As exponentials the weights stay positive, and gradients move them by factors: precisions span decades.
        self.log_weights = nn.Parameter(torch.zeros(centers, math.prod(event_shape)))

    def forward(self, z: Float[Tensor, "N d"]) -> Float[Tensor, "N 2 *event"]:
        """Means and log scales at latent points."""
        mean = self.decoder(z)[:, 0]
        return torch.stack([mean, self.log_scale(z).unflatten(1, self.event_shape)], dim=1)

    def log_scale(self, z: Float[Tensor, "N d"]) -> Float[Tensor, "N D"]:
        """Log sigma(z), (N, D), of the D outputs."""
        basis = (-_squared_distances(z, self.centers) / (2 * self.widths.square())).exp()
        precision = basis @ self.log_weights.exp() + self.away**-2
        return (self.min_scale**2 + 1 / precision).log() / 2

    def fit(self, values: Float[Tensor, "N *event"], encodings: Float[Tensor, "N d"], seed: int = 0) -> None:
        """Find the clusters, then fit the weights to the errors of the means there, by maximum likelihood.

        Args:
            values: Training rows, (N, *event).
            encodings: Their latent points, (N, d).
            seed: Of the clusters and of the order of the rows.

        Raises:
            InputError: There are fewer encodings than centers.
        """
        with torch.no_grad():
            self._cluster(encodings, seed)
            means = torch.cat([self.decoder(z)[:, 0] for z in encodings.split(1000)])
            squared = (values.to(means) - means).flatten(1).square()
            # A start of the right size: the overall error of each output, shared among the basis functions nearby.
            basis = (-_squared_distances(encodings, self.centers) / (2 * self.widths.square())).exp()
            crowd = basis.sum(1).mean().clamp_min(1e-6)
            self.log_weights.copy_(-(squared.mean(0).clamp_min(1e-6) * crowd).log().expand_as(self.log_weights))
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam([self.log_weights], lr=_FIT_RATE)
        with torch.enable_grad():
            for _ in range(_FIT_EPOCHS):
                for rows in torch.randperm(len(encodings), generator=generator).split(_FIT_BATCH):
                    log_scale = self.log_scale(encodings[rows])
                    loss = (log_scale + squared[rows] * (-2 * log_scale).exp() / 2).sum(1).mean()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()


class BlendedDecoder(UncertainDecoder):
    """A decoder whose parameters turn into those of an uninformative output away from the training encodings.

    parameters(z) = (1 - t) g(z) + t u,   t(z) = sigmoid(4 (delta(z) - delta_0 - 1))

    delta(z) = -log sum over k of exp(-|z - c_k|^2 / (2 (a s_k)^2)) is a smooth squared distance from the centers c_k of
    clusters of encodings with spreads s_k; delta_0 is that of the outermost encodings, but for one in a thousand.
    For the others t is below 0.02; far away it is 1, and the parameters are constant: paths that begin out there move
    at no cost. Many narrow clusters keep what is "out there" from what lies between the data.

    Reference:
        G. Arvanitidis, M. González-Duque, A. Pouplin, D. Kalatzis, S. Hauberg, Pulling back information geometry, 2022.

    Args:
        decoder: Latent points (N, d) to parameters (N, *parameter_shape).
        latent_size: d.
        parameter_shape: Shape of the parameters of one row.
        uninformative: From training rows, (N, *event), to u, (1, *parameter_shape): that of a `Likelihood`.
        centers: K, the number of clusters.
        width: a, the widths of the kernels in parts of the spreads.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> import torch
        >>> from geodesic.models.uncertain_decoders import BlendedDecoder
        >>> nothing = lambda values: torch.zeros(1, 3)
        >>> decoder = BlendedDecoder(lambda z: 10 * torch.ones(len(z), 3), 2, (3,), nothing, centers=2)
        >>> z = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
        >>> decoder.fit(torch.zeros(100, 3), z)
        >>> decoder(torch.tensor([[0.0, 0.0], [50.0, 0.0]])).round()
        tensor([[10., 10., 10.],
                [ 0.,  0.,  0.]])
    """

    def __init__(
        self,
        decoder: Callable[[Tensor], Tensor],
        latent_size: int,
        parameter_shape: tuple[int, ...],
        uninformative: Callable[[Tensor], Tensor],
        centers: int = 256,
        width: float = 0.7,
    ) -> None:
        super().__init__()
        require_positive("width", width)
        self.decoder = decoder
        self.width = width
        self.find_uninformative = uninformative
        self.register_buffer("centers", torch.zeros(centers, latent_size))
        self.register_buffer("widths", torch.ones(centers))
        self.register_buffer("uninformative", torch.zeros(1, *parameter_shape))
        self.register_buffer("outermost", torch.zeros(()))

    uninformative: Tensor
    outermost: Tensor

    def forward(self, z: Float[Tensor, "N d"]) -> Tensor:
        """Parameters at latent points."""
        parameters = self.decoder(z)
        t = torch.sigmoid(4 * (self._distance(z) - self.outermost - 1)).reshape(-1, *[1] * (parameters.dim() - 1))
        return parameters + t * (self.uninformative - parameters)

    def fit(self, values: Float[Tensor, "N *event"], encodings: Float[Tensor, "N d"], seed: int = 0) -> None:
        """Find u and the clusters, and how far their outermost members lie.

        Args:
            values: Training rows, (N, *event).
            encodings: Their latent points, (N, d).
            seed: Of the clusters.

        Raises:
            InputError: There are fewer encodings than centers.
        """
        with torch.no_grad():
            self._cluster(encodings, seed)
            self.uninformative.copy_(self.find_uninformative(values))
            distances = torch.cat([self._distance(z) for z in encodings.split(1000)])
            self.outermost.copy_(distances.quantile(0.999))

    def _distance(self, z: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        return -(-_squared_distances(z, self.centers) / (2 * self.widths.square())).logsumexp(1)


def _squared_distances(z: Float[Tensor, "N d"], centers: Float[Tensor, "K d"]) -> Float[Tensor, "N K"]:
    return (z[:, None] - centers).square().sum(-1)
