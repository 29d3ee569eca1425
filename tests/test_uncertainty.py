"""Decoders that know where they saw no data."""

import math

import pytest
import torch
from torch import nn

import geodesic
from geodesic.errors import InputError
from geodesic.models.uncertain_decoders import BlendedDecoder, RBFScaleDecoder, cluster_centers


def ring(count: int = 400, noise: float = 0.05) -> torch.Tensor:
    angle = torch.linspace(0, 2 * math.pi, count + 1)[:-1]
    return torch.stack([angle.cos(), angle.sin()], dim=1) + noise * torch.randn(count, 2)


def gaussian_decoder(outputs: int = 5) -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2 * outputs), nn.Unflatten(1, (2, outputs)))
    return net.requires_grad_(False)


def test_clusters_are_centers_with_the_mean_distance_of_their_members() -> None:
    blobs = torch.cat([torch.randn(300, 2), 0.1 * torch.randn(300, 2) + 20])
    centers, spreads = cluster_centers(blobs, 2)
    order = centers[:, 0].argsort()
    torch.testing.assert_close(centers[order], torch.stack([blobs[:300].mean(0), blobs[300:].mean(0)]))
    expected = torch.stack([(b - b.mean(0)).norm(dim=1).mean() for b in (blobs[:300], blobs[300:])])
    # A tenth of the mean spread is the least.
    torch.testing.assert_close(spreads[order], expected.clamp_min(0.1 * expected.mean()))


def test_the_same_seed_gives_the_same_clusters() -> None:
    points = ring()
    first, second = (cluster_centers(points, 16, seed=3) for _ in range(2))
    assert torch.equal(first[0], second[0])


@pytest.mark.parametrize("count", [0, 1, 11])
def test_clusters_that_cannot_be_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=rf"centers: expected from 2 to 10.* got {count}"):
        cluster_centers(torch.randn(10, 2), count)


# --- scales -----------------------------------------------------------------------------------


def fitted_scales(
    sigma: torch.Tensor, away: float = 1.0, width: float = 1.5, count: int = 2000
) -> tuple[RBFScaleDecoder, torch.Tensor]:
    """A decoder fitted to rows that scatter around its means with scales sigma, (5,)."""
    z, net = ring(count), gaussian_decoder()
    rows = net(z)[:, 0] + sigma * torch.randn(count, 5)
    decoder = RBFScaleDecoder(net, 2, (5,), centers=16, away=away, width=width)
    decoder.fit(rows, z)
    return decoder, z


def test_scales_near_the_data_are_those_of_the_errors() -> None:
    sigma = torch.tensor([0.02, 0.05, 0.1, 0.2, 0.4])
    decoder, z = fitted_scales(sigma)
    found = decoder(z)[:, 1].exp().detach()
    torch.testing.assert_close(found.mean(0), sigma, rtol=0.15, atol=0)


def test_the_scale_grows_to_its_limit_away_from_the_data() -> None:
    decoder, _ = fitted_scales(torch.full((5,), 0.1), away=3.0)
    out = torch.linspace(1, 6, 50)[:, None] * torch.tensor([1.0, 0.0])
    scales = decoder(out)[:, 1].exp().detach()
    assert (scales.diff(dim=0)[5:] >= 0).all()
    torch.testing.assert_close(scales[-1], torch.full((5,), (3.0**2 + 0.01**2) ** 0.5))


@pytest.mark.slow
def test_the_scale_of_an_output_that_never_varies_stays_above_its_bound() -> None:
    """Without a bound its weights grow until they overflow, and are no numbers."""
    z = ring(4000).float()
    decoder = RBFScaleDecoder(lambda z: torch.zeros(len(z), 2, 1).to(z), 2, (1,), centers=16, min_scale=0.05).float()
    decoder.fit(torch.zeros(len(z), 1).float(), z)
    torch.testing.assert_close(decoder(z)[:, 1].exp(), torch.full((len(z), 1), 0.05).float(), rtol=1e-3, atol=0)


def test_points_that_are_all_one_have_no_clusters() -> None:
    with pytest.raises(InputError, match="all 50 are one point"):
        cluster_centers(torch.zeros(50, 2), 5)


def test_the_means_are_those_of_the_decoder() -> None:
    decoder, z = fitted_scales(torch.full((5,), 0.1))
    assert torch.equal(decoder(z)[:, 0], decoder.decoder(z)[:, 0])


@pytest.mark.slow
def test_under_the_expected_metric_paths_keep_to_the_data() -> None:
    """Across the middle of a ring the straight line is short, and the scale is large."""
    decoder, z = fitted_scales(torch.full((5,), 0.02), away=2.0, width=1.0, count=400)
    a, b = z[0], z[180]
    expected = geodesic.PullbackManifold(decoder.requires_grad_(False), geodesic.outputs.ExpectedGaussian())
    path = geodesic.solve(expected, a, b, init="best", graph_points=z, segments=16).path
    assert path.norm(dim=-1).min() > 0.6
    assert geodesic.straight_path(a, b, 16).norm(dim=-1).min() < 0.3


# --- blends -----------------------------------------------------------------------------------


def seven(values: torch.Tensor) -> torch.Tensor:
    return torch.full((1, 2, 5), 7.0)


def blended() -> tuple[BlendedDecoder, torch.Tensor]:
    z = ring()
    decoder = BlendedDecoder(gaussian_decoder(), 2, (2, 5), seven, centers=16, width=1.5)
    decoder.fit(torch.zeros(len(z), 5), z)
    return decoder, z


def test_near_the_data_the_parameters_are_the_decoders() -> None:
    decoder, z = blended()
    change = (decoder(z) - decoder.decoder(z)).abs().flatten(1).amax(1)
    size = (7.0 - decoder.decoder(z)).abs().flatten(1).amax(1)
    assert (change / size).quantile(0.98) < 0.02


def test_far_away_the_parameters_are_uninformative() -> None:
    decoder, _ = blended()
    for far in ([5.0, 0.0], [0.0, 0.0], [-1e3, 1e3]):
        torch.testing.assert_close(decoder(torch.tensor([far])), torch.full((1, 2, 5), 7.0), rtol=1e-3, atol=0)


def test_the_blend_has_two_derivatives_everywhere() -> None:
    decoder, _ = blended()
    manifold = geodesic.PullbackManifold(decoder)
    path = geodesic.straight_path(torch.tensor([-3.0, 0.1]), torch.tensor([3.0, 0.1]), 64)[None]
    assert manifold.expansion(path).hessian.diagonal.isfinite().all()


@pytest.mark.parametrize("width", [0.0, -1.0, math.nan, math.inf])
def test_a_width_that_is_none_is_refused(width: float) -> None:
    with pytest.raises(InputError, match="width: expected a positive number"):
        BlendedDecoder(gaussian_decoder(), 2, (2, 5), seven, width=width)
    with pytest.raises(InputError, match="width: expected a positive number"):
        RBFScaleDecoder(gaussian_decoder(), 2, (5,), width=width)
    with pytest.raises(InputError, match="away: expected a positive number"):
        RBFScaleDecoder(gaussian_decoder(), 2, (5,), away=width)
    with pytest.raises(InputError, match="min_scale: expected a positive number"):
        RBFScaleDecoder(gaussian_decoder(), 2, (5,), min_scale=width)
