"""Clusters under geodesic distances."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import geodesic
from geodesic import Follow, Search, Status, Stop, frechet_mean, k_means, k_medoids
from geodesic.errors import InputError

SPHERE = geodesic.surfaces.StereographicSphere()


def three_clusters() -> tuple[Tensor, Tensor]:
    """Points of the sphere round three directions, and their labels."""
    labels = torch.arange(3).repeat_interleave(5)
    x = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, -1]])[labels] + 0.15 * torch.randn(15, 3)
    x = x / x.norm(dim=-1, keepdim=True)
    return x[:, :2] / (1 - x[:, 2:]), labels


def same_partition(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a[:, None] == a, b[:, None] == b)


@pytest.mark.slow
def test_separated_clusters_on_the_sphere_are_recovered_with_their_means() -> None:
    x, truth = three_clusters()
    answer = k_means(SPHERE, x, 3, search=Search(segments=4))
    assert answer.converged
    assert same_partition(answer.labels, truth)
    mean = frechet_mean(SPHERE, x.reshape(3, 5, 2), search=Search(segments=4))
    assert_close(answer.centers[answer.labels[::5]], mean.point, rtol=0, atol=1e-5)
    assert_close(answer.distances, mean.distances.reshape(15), rtol=1e-5, atol=1e-6)
    assert_close(answer.inertia, answer.distances.square().sum())


@pytest.mark.filterwarnings("ignore::geodesic.errors.GeodesicWarning")  # as it should: paths are coarse here
@pytest.mark.slow
def test_on_a_swiss_roll_clusters_follow_the_arc_length_and_not_the_latent_coordinate() -> None:
    # The same steps of t are seven times longer outside: of four groups at equal arc length, the first are the
    # farthest apart in t.
    t = torch.tensor([0.5, 1.0, 4.0, 4.4, 9.0, 9.2, 10.8, 11.0])
    x = torch.stack([t, torch.zeros(8)], dim=-1)
    s = (t * (1 + t**2).sqrt() + t.asinh()) / 2
    best = {}
    for name, line in (("arc", s), ("latent", t)):
        splits = [
            torch.tensor([*([0] * a), *([1] * (b - a)), *([2] * (8 - b))]) for a in range(1, 7) for b in range(a + 1, 8)
        ]
        costs = [sum(float((line[c == k] - line[c == k].mean()).square().sum()) for k in range(3)) for c in splits]
        best[name] = splits[costs.index(min(costs))]
    assert not same_partition(best["arc"], best["latent"])
    answers = [
        k_means(geodesic.surfaces.SwissRoll(), x, 3, seed=seed, stop=Stop(tol=1e-3), search=Search(segments=4))
        for seed in range(2)
    ]
    answer = min(answers, key=lambda a: float(a.inertia))
    assert same_partition(answer.labels, best["arc"])


@pytest.mark.slow
def test_what_is_minimized_never_rises() -> None:
    x = 0.7 * torch.randn(9, 2)
    answer = k_means(SPHERE, x, 3, stop=Stop(tol=1e-3), search=Search(segments=4))
    assert answer.converged
    assert len(answer.history) == answer.iterations + 1
    assert (answer.history.diff() <= 1e-9 * answer.history[0]).all()
    assert_close(answer.inertia, answer.history[-1], rtol=0.1, atol=0)


@pytest.mark.slow
def test_every_point_is_with_its_nearest_center() -> None:
    x = 0.7 * torch.randn(9, 2)
    answer = k_means(SPHERE, x, 2, stop=Stop(tol=1e-3), search=Search(segments=8))
    D = SPHERE.distance(answer.centers[:, None].expand(-1, 9, -1), x.expand(2, -1, -1))
    assert_close(D.amin(0), answer.distances, rtol=2e-3, atol=1e-6)


@pytest.mark.slow
def test_as_many_clusters_as_points_cost_nothing_and_one_is_the_mean() -> None:
    x = 0.5 * torch.randn(5, 2)
    assert_close(k_means(SPHERE, x, 5, search=Search(segments=4)).inertia, torch.tensor(0.0))
    one, mean = (
        k_means(SPHERE, x, 1, search=Search(segments=4)),
        frechet_mean(SPHERE, x, search=Search(segments=4)),
    )
    assert_close(one.centers[0], mean.point, rtol=0, atol=1e-5)
    assert_close(one.inertia, 5 * mean.variance, rtol=1e-6, atol=0)


def test_equal_points_leave_no_cluster_empty() -> None:
    x = torch.tensor([[0.1, 0.2]]).expand(4, 2)
    answer = k_means(SPHERE, x, 2, search=Search(segments=4))
    assert sorted(answer.labels.bincount(minlength=2).tolist())[0] >= 1
    assert sorted(k_medoids(SPHERE, x, 2, search=Search(segments=4)).labels.bincount(minlength=2).tolist())[0] >= 1


@pytest.mark.slow
def test_the_same_seed_gives_the_same_clusters_and_leaves_the_callers_generator() -> None:
    x, state = 0.5 * torch.randn(4, 2), torch.get_rng_state()
    one, two = (
        k_means(SPHERE, x, 2, seed=3, stop=Stop(tol=1e-2, max_iterations=1), search=Search(segments=4))
        for _ in range(2)
    )
    assert torch.equal(one.labels, two.labels)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_starting_centers_are_taken_in_their_order_and_by_every_set_alike() -> None:
    x, truth = three_clusters()
    starts = x[[14, 0, 5]]
    answer = k_means(SPHERE, x, 3, initial_points=starts, search=Search(segments=4))
    assert answer.converged
    assert torch.equal(answer.labels, torch.tensor([1, 2, 0])[truth])
    both = k_means(SPHERE, x.expand(2, 15, 2), 3, initial_points=starts, search=Search(segments=4))
    assert_close(both.centers, answer.centers.expand(2, 3, 2))
    again = k_means(SPHERE, x, 3, initial_points=answer.centers, search=Search(segments=4))
    assert int(again.iterations) == 1
    assert_close(again.centers, answer.centers, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (3,), (2, 3, 2)])
def test_starting_centers_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"initial_points: expected one point for each of 3 clusters, shape \(3, 2\)"):
        k_means(SPHERE, torch.zeros(5, 2), 3, initial_points=torch.zeros(shape))


def test_both_shapes_of_starting_centers_are_named_where_there_are_several_sets() -> None:
    with pytest.raises(InputError, match=r"shape \(4, 3, 2\) or \(3, 2\), got \(2, 2\)$"):
        k_means(SPHERE, torch.zeros(4, 5, 2), 3, initial_points=torch.zeros(2, 2))
    with pytest.raises(InputError, match=r"shape \(3, 2\), got \(2, 2\)$"):
        k_means(SPHERE, torch.zeros(5, 2), 3, initial_points=torch.zeros(2, 2))


@pytest.mark.slow
def test_why_clusters_are_not_to_be_relied_on_is_said() -> None:
    x = 0.7 * torch.randn(9, 2)
    early = k_means(SPHERE, x, 3, stop=Stop(max_iterations=1), search=Search(segments=4))
    assert early.status == Status.MAX_ITERATIONS
    assert early.summary().startswith("0 of 1 rows converged\n1 max_iterations: the limit")
    done = k_means(SPHERE, x, 3, stop=Stop(tol=1e-3), search=Search(segments=4))
    assert done.status == Status.CONVERGED
    assert done.error <= 1e-3
    lost = Search(segments=8, solver=geodesic.GradientDescent(), max_steps=1, tol=1e-14)
    with pytest.warns(geodesic.errors.GeodesicWarning, match="of 36 geodesics 36 did not converge"):
        medoids = k_medoids(SPHERE, x, 2, search=lost)
    assert medoids.status == Status.NO_GEODESIC
    assert medoids.error > 1e-3


@pytest.mark.slow
def test_exact_geodesics_give_exact_inertia() -> None:
    x = torch.tensor([[0.0, 0.0], [0.4, 0.0]])
    exactly = Follow(method="ode", rtol=1e-6)
    answer = k_means(
        geodesic.surfaces.FlatTorus(), x, 1, follow=exactly, stop=Stop(tol=1e-4), search=Search(segments=4)
    )
    assert_close(answer.inertia, torch.tensor(0.08), rtol=1e-5, atol=0)


@pytest.mark.parametrize("clusters", [1, 2, 3])
def test_medoids_are_those_of_all_subsets(clusters: int) -> None:
    x, _ = three_clusters()
    x = x[::2]
    N = len(x)
    D = SPHERE.distance(x[:, None].expand(N, N, 2), x.expand(N, N, 2))
    cost = min(float(D[list(some)].amin(0).sum()) for some in itertools.combinations(range(N), clusters))
    answer = k_medoids(SPHERE, x, clusters, search=Search(segments=16))
    assert answer.converged
    assert float(D[answer.medoids].amin(0).sum()) <= cost * (1 + 1e-4)
    assert_close(answer.cost, torch.tensor(cost), rtol=1e-4, atol=0)
    assert_close(answer.matrix, D, rtol=1e-4, atol=1e-12)
    assert torch.equal(answer.centers, x[answer.medoids])
    assert_close(k_medoids(SPHERE, x, clusters, distances=D).cost, torch.tensor(cost))


@pytest.mark.parametrize("clusters", [0, 6, True])
@pytest.mark.parametrize("method", [k_means, k_medoids])
def test_impossible_numbers_of_clusters_are_refused(method: Any, clusters: Any) -> None:
    with pytest.raises(InputError, match=r"clusters: expected an integer from 1 to 5 \(the number of points\), got"):
        method(SPHERE, torch.zeros(5, 2), clusters)


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        (torch.zeros(2, 2), r"distances: expected a tensor of shape \(3, 3\)"),
        (torch.full((3, 3), -1.0), "none below zero"),
        (torch.arange(9.0).reshape(3, 3), "zero from a point to itself"),
        (torch.tensor([[0.0, 1, 2], [1, 0, 3], [2, 4, 0]]), "symmetric"),
    ],
)
def test_distances_that_are_none_are_refused(distances: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        k_medoids(SPHERE, torch.zeros(3, 2), 2, distances=distances)


@pytest.mark.filterwarnings("ignore::geodesic.errors.GeodesicWarning")  # as it should: paths are coarse here
@pytest.mark.slow
def test_sets_of_points_are_clustered_as_each_of_them_is() -> None:
    plane, generator = geodesic.PullbackManifold(lambda z: 2 * z), torch.Generator().manual_seed(5)
    x = torch.randn(2, 1, 7, 2, generator=generator) / 2
    means, medoids = (
        k_means(plane, x, 2, search=Search(segments=2)),
        k_medoids(plane, x, 2, search=Search(segments=2)),
    )
    again = k_medoids(plane, x, 2, distances=medoids.matrix)
    assert means.centers.shape == medoids.centers.shape == (2, 1, 2, 2)
    assert means.history.shape == (2, 1, int(means.iterations.max()) + 1)
    for i in range(2):
        for together, alone in (
            (means, k_means(plane, x[i, 0], 2, search=Search(segments=2))),
            (medoids, k_medoids(plane, x[i, 0], 2, search=Search(segments=2))),
            (again, k_medoids(plane, x[i, 0], 2, distances=medoids.matrix[i, 0])),
        ):
            for name in alone.__dataclass_fields__:
                if isinstance(getattr(alone, name), str):
                    assert getattr(together, name) == getattr(alone, name)
                    continue
                mine, theirs = getattr(together, name)[i, 0], getattr(alone, name)
                if name == "history":
                    assert mine[len(theirs) :].isnan().all()
                    mine = mine[: len(theirs)]
                assert_close(mine, theirs)


def test_a_single_point_is_its_own_medoid() -> None:
    answer = geodesic.k_medoids(geodesic.surfaces.Torus(), torch.tensor([[1.0, 2.0]]), 1)
    assert answer.medoids.tolist() == [0]
