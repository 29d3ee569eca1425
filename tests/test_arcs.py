"""Lengths of curves from values and velocities: their order, what they see, what they say and what they cost."""

import math

import numpy as np
import pytest
import torch
from scipy.special import ellipeinc
from torch import Tensor

import geodesic
from geodesic.geometry.jumps import along, measured_by_values
from geodesic.geometry.residual import geodesic_curvature
from geodesic.numerics.arcs import halves_rates, inner_products, lengths_of, quintic_rates
from geodesic.numerics.spline import like
from geodesic.solvers.measure import _quadrature_error


def _ellipse(t: Tensor) -> tuple[Tensor, Tensor]:
    return torch.stack([t.cos(), 0.7 * t.sin()], -1), torch.stack([-t.sin(), 0.7 * t.cos()], -1)


@pytest.mark.parametrize(("rates", "order"), [(quintic_rates, 6), (halves_rates, 4)])
def test_lengths_by_quintics_are_of_order_six_and_by_cubics_of_order_four(rates, order: int) -> None:
    exact = float(ellipeinc(1.0 + math.pi / 2, 0.51) - ellipeinc(math.pi / 2, 0.51))
    errors, sizes = [], [4, 8, 16]
    for T in sizes:
        h = 0.5 / T
        y, v = _ellipse(torch.arange(2 * T + 1) * h)
        step, v = y.diff(dim=0), h * v
        gram = inner_products(step[::2], step[1::2], v[:-1:2], v[1::2], v[2::2])
        errors.append(abs(float(lengths_of(gram, *like(y, *rates())).sum()) - exact))
    slope = -np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert abs(slope - order) < 0.7


def _relu(seed: int) -> tuple[geodesic.PullbackManifold, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    A, b, B = (torch.randn(*n, generator=generator) for n in ((2, 60), (60,), (60, 20)))
    t = torch.linspace(0, 1, 33)[:, None]
    start, end, bend = torch.randn(3, 20, 1, 2, generator=generator)
    return geodesic.PullbackManifold(lambda z: (z @ A + b).relu() @ B), torch.lerp(start, end, t) + bend * t * (1 - t)


def test_across_many_kinks_lengths_are_nearer_and_their_stated_errors_hold() -> None:
    manifold, path = _relu(0)
    truth = along(manifold, geodesic.refine_path(path, 32 * 16)).lengths.sum(1)
    by_values, by_speeds = (along(m, path, doubted=True) for m in (measured_by_values(manifold), manifold))
    off, other = ((seen.lengths.sum(1) / truth - 1).abs() for seen in (by_values, by_speeds))
    assert float(off.median()) < float(other.median())
    assert bool((off <= _quadrature_error(by_values.lengths, by_values.off)).all())
    assert bool((by_values.lengths >= by_values.squared_chords.sqrt() * (1 - 1e-12)).all())


def test_a_step_that_no_speed_sees_is_in_lengths_by_values() -> None:
    manifold = geodesic.PullbackManifold(lambda z: torch.cat([z, torch.sigmoid(1e6 * (z - 0.81))], dim=1))
    path = geodesic.straight_path(torch.zeros(1, 1), torch.ones(1, 1))
    by_values, by_speeds = (along(m, path).lengths.sum() for m in (measured_by_values(manifold), manifold))
    torch.testing.assert_close(by_speeds, torch.tensor(1.0))
    assert 1.9 < float(by_values) < 2.5


def test_lengths_by_values_take_half_the_points() -> None:
    rows = []

    def decoder(z: Tensor) -> Tensor:
        rows.append(len(z))
        return torch.cat([z, z.sin()], dim=1)

    manifold = geodesic.PullbackManifold(decoder)
    path = geodesic.straight_path(torch.zeros(5, 2), torch.ones(5, 2))
    counts = []
    for which in (manifold, measured_by_values(manifold)):
        along(which, path, doubted=True)
        rows.clear()
        along(which, path, doubted=True)
        counts.append(sum(rows))
    assert counts[1] < 0.52 * counts[0]


@pytest.mark.parametrize("every", [1, 2, 4])
def test_curvatures_by_values_are_those_by_derivatives_up_to_the_fourth_order(every: int) -> None:
    manifold = geodesic.PullbackManifold(lambda z: torch.cat([z, z.sin(), (z[:, :1] * z[:, 1:]).cos()], dim=1))
    t, off = torch.linspace(0, 1, 33)[:, None], []
    for T in (16, 32):
        path = torch.cat([2 * t, (3 * t).sin()], dim=1)[None, :: 32 // T]
        exact, deficiency = geodesic_curvature(manifold, path, every)
        seen = along(measured_by_values(manifold), path, every=every)
        by_values, same = geodesic_curvature(manifold, path, every, seen=seen)
        assert by_values.shape == exact.shape == (1, T // every)
        assert torch.equal(same, deficiency)
        off.append(float((by_values - exact).abs().max() / exact.max()))
    assert off[1] < 1e-3
    assert off[1] < off[0] / 8
