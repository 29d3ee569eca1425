"""Principal geodesics: principal components where space is flat, geodesics where it is not."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import geodesic
from geodesic import Follow, Search, principal_geodesic_analysis
from geodesic.errors import InputError


def curved(A: Tensor) -> geodesic.PullbackManifold:
    """The sphere of dimension 2, in coordinates z with A z those of its stereographic projection."""
    return geodesic.PullbackManifold(lambda z: geodesic.surfaces.StereographicSphere().embed(z @ A.mT))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ode", "discrete"])
def test_under_an_affine_decoder_it_is_weighted_principal_component_analysis_of_the_outputs(method: str) -> None:
    A, points, weights = torch.randn(5, 3), torch.randn(8, 3), torch.rand(8)
    share = weights / weights.sum()
    mean = share @ points
    plane = geodesic.PullbackManifold(lambda z: z @ A.mT + 1)
    answer = principal_geodesic_analysis(
        plane, points, weights, mean=mean, follow=Follow(method=method), search=Search(segments=4)
    )
    outputs = (points - mean) @ A.mT
    values, vectors = torch.linalg.eigh(outputs.mT @ (share[:, None] * outputs))
    assert answer.converged
    assert_close(answer.variances, values.flip(0)[:3])
    images = answer.directions @ A.mT
    assert_close((images @ vectors.flip(1)[:, :3]).abs(), torch.eye(3), atol=1e-7, rtol=0)
    assert_close(answer.scores, outputs @ images.mT)
    assert_close(answer.explained.sum(), torch.tensor(1.0))


@pytest.mark.slow
def test_points_along_a_geodesic_of_the_sphere_have_one_component_with_the_variance_of_their_distances() -> None:
    sphere, mean = geodesic.surfaces.StereographicSphere(), torch.tensor([0.4, -0.3])
    t = torch.linspace(-1, 1, 7)
    v = torch.tensor([0.2, 0.3])
    points = geodesic.exp_map(sphere, mean.expand(7, 2), t[:, None] * v, follow=geodesic.Follow(segments=1)).point
    answer = principal_geodesic_analysis(
        sphere, points, mean=mean, follow=Follow(method="ode"), search=Search(segments=8)
    )
    speed = sphere.squared_norm(mean, v).sqrt()
    assert_close(
        answer.variances, torch.stack([t.square().mean() * speed**2, torch.tensor(0.0)]), rtol=1e-6, atol=1e-12
    )
    assert_close(answer.explained, torch.tensor([1.0, 0.0]), rtol=0, atol=1e-8)
    assert_close(answer.directions[0], v / speed, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_directions_are_orthonormal_and_scores_lead_back_to_the_points() -> None:
    plane, mean = geodesic.surfaces.HyperbolicPlane(), torch.tensor([0.0, 1.5])
    points = mean + 0.4 * torch.randn(6, 2)
    answer = principal_geodesic_analysis(plane, points, mean=mean, search=Search(segments=8))
    U, G = answer.directions, plane.metric_tensor(mean)
    assert_close(U @ G @ U.mT, torch.eye(2))
    vectors = answer.scores @ U
    back = geodesic.exp_map(
        plane, mean.expand_as(points), vectors, follow=geodesic.Follow(method="discrete", segments=8)
    ).point
    assert_close(back, points, rtol=0, atol=1e-5)
    assert_close(answer.variances, answer.scores.square().mean(0))


def test_variances_and_scores_do_not_depend_on_the_latent_coordinates() -> None:
    A = torch.tensor([[2.0, 0.7], [-0.4, 0.1]])
    mean, points = torch.tensor([0.2, 0.1]), 0.5 * torch.randn(6, 2)
    here = principal_geodesic_analysis(curved(torch.eye(2)), points, mean=mean, search=Search(segments=8))
    inverse = torch.linalg.inv(A)
    there = principal_geodesic_analysis(curved(A), points @ inverse.mT, mean=inverse @ mean, search=Search(segments=8))
    assert_close(there.variances, here.variances, rtol=1e-6, atol=0)
    assert_close(there.explained, here.explained, rtol=1e-6, atol=0)
    assert_close(there.scores.abs(), here.scores.abs(), rtol=1e-5, atol=1e-6)


def test_the_first_largest_coordinate_of_each_direction_is_positive() -> None:
    plane = geodesic.PullbackManifold(lambda z: z)
    line = torch.linspace(-1, 1, 4)[:, None] * torch.tensor([1.0, -1.0])
    for points in (line, -line, line.flip(0)):
        first = principal_geodesic_analysis(plane, points, mean=torch.zeros(2), search=Search(segments=4)).directions[0]
        assert_close(first, torch.tensor([0.5, -0.5]).mul(2**0.5))


def test_a_batch_has_the_answers_of_its_members_and_fewer_components_are_the_first_ones() -> None:
    sphere = geodesic.surfaces.StereographicSphere()
    points, mean, weights = 0.5 * torch.randn(2, 5, 2), 0.1 * torch.randn(2, 2), torch.rand(2, 5)
    both = principal_geodesic_analysis(sphere, points, weights, mean=mean, components=1, search=Search(segments=8))
    assert both.directions.shape == (2, 1, 2)
    assert both.scores.shape == (2, 5, 1)
    for i in range(2):
        one = principal_geodesic_analysis(sphere, points[i], weights[i], mean=mean[i], search=Search(segments=8))
        assert_close(both.directions[i], one.directions[:1], rtol=1e-8, atol=1e-10)
        assert_close(both.variances[i], one.variances[:1], rtol=1e-8, atol=1e-10)
        assert_close(both.explained[i], one.explained[:1], rtol=1e-8, atol=1e-10)


def test_points_without_weight_do_not_count_and_points_at_the_mean_have_no_variance() -> None:
    plane, points = geodesic.PullbackManifold(lambda z: z), torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 9.0]])
    weights = torch.tensor([2.0, 2.0, 0.0])
    answer = principal_geodesic_analysis(plane, points, weights, mean=torch.zeros(2), search=Search(segments=4))
    assert_close(answer.variances, torch.tensor([1.0, 0.0]))
    still = principal_geodesic_analysis(plane, torch.zeros(3, 2), mean=torch.zeros(2), search=Search(segments=4))
    assert_close(still.explained, torch.zeros(2))


def test_a_latent_shape_is_that_of_directions_too() -> None:
    plane = geodesic.PullbackManifold(lambda z: z.flatten(1), latent_shape=(1, 2, 2))
    answer = principal_geodesic_analysis(
        plane, torch.randn(6, 1, 2, 2), mean=torch.zeros(1, 2, 2), search=Search(segments=4)
    )
    assert answer.directions.shape == (4, 1, 2, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": torch.zeros(3)}, "mean: expected a point for each set of points"),
        ({"mean": torch.zeros(2, dtype=torch.float32)}, "mean: expected the dtype of points, torch.float64"),
        ({"weights": torch.tensor([1.0, -1.0, 1.0])}, "weights: expected none below zero"),
        ({"weights": torch.zeros(3)}, "weights: expected a positive sum"),
        ({"weights": torch.ones(2)}, r"weights: expected one for each point, shape .* \(3,\)"),
        ({"components": 3}, "components: expected an integer from 1 to 2"),
        ({"follow": Follow(segments=8)}, "follow: geodesics have the segments of search here, 32, got segments=8"),
        ({"points": torch.zeros(2)}, "mean: expected a point for each set of points"),
        ({"search": Search(length_rtol=1e-3)}, "search: a statistic works with nodes at equal times"),
    ],
)
def test_bad_input_is_named(change: dict, message: str) -> None:
    plane = geodesic.PullbackManifold(lambda z: z)
    arguments = {"points": torch.zeros(3, 2), "mean": torch.zeros(2)} | change
    with pytest.raises(InputError, match=message):
        principal_geodesic_analysis(plane, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("mean", [None, torch.tensor([1.35, 0.25], dtype=torch.float64)])
def test_geodesics_to_the_points_and_to_the_mean_begin_on_the_graph(mean: Tensor | None) -> None:
    points = torch.tensor([[1.0, 0.2], [1.4, -0.3], [1.8, 0.5], [1.2, 0.6]])
    wrong = Search(init="graph", graph_points=torch.zeros(5, 3), segments=8)
    with pytest.raises(InputError, match="points: "):
        principal_geodesic_analysis(geodesic.surfaces.Sphere(), points, mean=mean, search=wrong)
    search = Search(init="graph", graph_points=0.5 + torch.rand(60, 2), segments=8)
    answer = principal_geodesic_analysis(geodesic.surfaces.Sphere(), points, mean=mean, search=search)
    straight = principal_geodesic_analysis(geodesic.surfaces.Sphere(), points, mean=mean, search=Search(segments=8))
    assert answer.converged
    assert_close(answer.variances, straight.variances, rtol=1e-4, atol=0)


@pytest.mark.slow
def test_the_mean_is_looked_for_where_none_is_given() -> None:
    points = torch.tensor([[1.0, 0.2], [1.4, -0.3], [1.8, 0.5], [1.2, 0.6]])
    weights = torch.tensor([1.0, 2.0, 1.0, 0.5])
    sphere = geodesic.surfaces.Sphere()
    mean = geodesic.frechet_mean(sphere, points, weights, search=Search(segments=8)).point
    found = principal_geodesic_analysis(sphere, points, weights, search=Search(segments=8))
    given = principal_geodesic_analysis(sphere, points, weights, mean=mean, search=Search(segments=8))
    assert found.converged
    assert found.iterations > 0
    assert given.iterations == 0
    assert found.error <= 1e-6
    torch.testing.assert_close(found.mean, mean)
    torch.testing.assert_close(found.variances, given.variances)
    # About the mean the logarithms have none of their own.
    assert ((weights[:, None] * found.scores).sum(0).abs() < 1e-4).all()
