"""Geodesics of decoders that are affine on pieces are straight once the pieces are unfolded."""

import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic import Follow, PullbackManifold, Status
from geodesic.errors import InputError

REFRACTION = Follow(method="refraction")


def sheet(z: Tensor) -> Tensor:
    """A sheet of paper, folded by right angles along z_1 = 0.3 and z_1 = 0.8: no length changes."""
    a, b, c = (z[:, 0].clamp(max=0.3), (z[:, 0] - 0.3).clamp(0, 0.5), (z[:, 0] - 0.8).relu())
    return torch.stack([a - c, b, z[:, 1]], 1)


def roof(z: Tensor) -> Tensor:
    """A tent whose sides have slope 1, over z_1 = 0."""
    return torch.stack([z[:, 0], z[:, 1], -z[:, 0].abs()], 1)


def network(d: int, width: int = 24) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(d, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 12))
    with torch.no_grad():
        for layer in layers[::2]:
            layer.weight.mul_(3)
    return layers


def test_a_folded_sheet_unfolds_to_straight_lines():
    z, v = torch.tensor([[0.0, 0.0], [1.5, 0.2]]), torch.tensor([[2.0, 1.0], [-1.7, 0.4]])
    answer = geodesic.exp_map(PullbackManifold(sheet), z, v)
    assert answer.method == "refraction"
    assert answer.converged.all()
    torch.testing.assert_close(answer.point, z + v)


def test_the_ray_over_a_roof_keeps_its_angle_to_the_ridge():
    # Unfolded, a point at distance z_1 from the ridge lies sqrt(2) z_1 away from it.
    z, v = torch.tensor([-1.0, 0.0]), torch.tensor([1.5, 0.6])
    answer = geodesic.exp_map(PullbackManifold(roof), z, v)
    torch.testing.assert_close(answer.point, torch.tensor([0.5, 0.6]))
    torch.testing.assert_close(answer.velocity[-1], v)


def test_stretched_pieces_refract_by_the_law_of_the_unfolded_plane():
    manifold = PullbackManifold(lambda z: torch.stack([z[:, 0] + z[:, 0].relu(), z[:, 1]], 1))
    answer = geodesic.exp_map(manifold, torch.tensor([-1.0, 0.0]), torch.tensor([3.0, 2.0]))
    torch.testing.assert_close(answer.point, torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(answer.velocity[-1], torch.tensor([1.5, 2.0]))


@pytest.mark.slow
@pytest.mark.parametrize("d", [2, 5])
def test_geodesics_of_a_network_keep_their_speed_and_lead_back(d):
    manifold = PullbackManifold(network(d))
    z, v = torch.randn(2, 4, d)
    there = geodesic.exp_map(manifold, z, v)
    assert there.method == "refraction"
    assert there.converged.all()
    assert (there.iterations > 3).all()
    assert there.error.max() < 1e-12
    assert not there.point.requires_grad
    back = geodesic.exp_map(manifold, there.point, -there.velocity[:, -1])
    torch.testing.assert_close(back.path.flip(1), there.path, rtol=0, atol=1e-11)


@pytest.mark.slow
def test_a_geodesic_is_the_shortest_way_between_near_points_of_it():
    manifold = PullbackManifold(network(2))
    answer = geodesic.exp_map(manifold, torch.tensor([0.3, -0.2]), torch.tensor([0.25, 0.2]))
    solution = geodesic.solve(manifold, answer.path[0], answer.point)
    assert solution.length > manifold.squared_norm(answer.path[0], answer.velocity[0]).sqrt() * (1 - 1e-3)


def test_a_velocity_on_a_face_leads_into_its_piece():
    answer = geodesic.exp_map(PullbackManifold(roof), torch.zeros(2, 2), torch.tensor([[1.0, 0.5], [-1.0, 0.5]]))
    torch.testing.assert_close(answer.point, torch.tensor([[1.0, 0.5], [-1.0, 0.5]]))
    along = geodesic.exp_map(PullbackManifold(roof), torch.zeros(2), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(along.point, torch.tensor([0.0, 1.0]))


def test_no_geodesic_is_followed_through_a_vertex():
    pyramid = PullbackManifold(lambda z: torch.stack([z[:, 0], z[:, 1], -z[:, 0].abs() - z[:, 1].abs()], 1))
    answer = geodesic.exp_map(pyramid, torch.tensor([-1.0, -1.0]), torch.tensor([2.0, 2.0]))
    assert answer.status == Status.CUT_SHORT
    assert float(answer.time) == pytest.approx(0.5)


def test_no_geodesic_is_followed_into_a_piece_of_lower_rank():
    dead = PullbackManifold(lambda z: torch.stack([z[:, 0].relu(), z[:, 1]], 1))
    answer = geodesic.exp_map(dead, torch.tensor([1.0, 0.0]), torch.tensor([-2.0, 0.1]))
    assert answer.status == Status.CUT_SHORT
    assert float(answer.time) == pytest.approx(0.5)


@pytest.mark.slow
def test_pieces_that_are_not_affine_are_followed_by_the_energy_and_refuse_refraction():
    curved = PullbackManifold(network(2), geodesic.outputs.Euclidean(mean=torch.sigmoid))
    z, v = torch.zeros(2), torch.tensor([0.1, 0.0])
    assert geodesic.exp_map(curved, z, v).method == "discrete"
    with pytest.raises(InputError, match="affine on pieces"):
        geodesic.exp_map(curved, z, v, follow=REFRACTION)
    with pytest.raises(InputError, match="float64"):
        geodesic.exp_map(PullbackManifold(roof), z.float(), v.float(), follow=REFRACTION)
    with pytest.raises(InputError, match="exp_map alone"):
        geodesic.log_map(PullbackManifold(roof), z, v, follow=REFRACTION)


def test_a_folded_sheet_carries_vectors_without_turning_them():
    path = torch.tensor([[0.0, 0.0], [0.6, 0.3], [1.2, 0.1], [0.1, -0.4]])
    answer = geodesic.parallel_transport(PullbackManifold(sheet), path, torch.tensor([0.7, -0.2]))
    assert answer.converged
    torch.testing.assert_close(answer.vectors, torch.tensor([0.7, -0.2]).expand(4, 2))


def test_a_geodesic_carries_its_own_velocity():
    manifold = PullbackManifold(network(3))
    there = geodesic.exp_map(manifold, torch.zeros(2, 3), torch.randn(2, 3), follow=Follow(segments=200))
    # Near the geodesic the pieces unfold: the way from node to node makes no difference.
    answer = geodesic.parallel_transport(manifold, there.path, there.velocity[:, 0])
    assert answer.converged.all()
    torch.testing.assert_close(answer.vector, there.velocity[:, -1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("radius", [1e-2, 1.0])
def test_vectors_turn_around_the_corner_of_a_cube_by_a_right_angle(radius):
    # Seen along its diagonal: three squares meet at z = 0, and a quarter of a turn is missing.
    basis = torch.tensor([[2.0, -1.0, -1.0], [0.0, 3**0.5, -(3**0.5)]]) / 6**0.5
    cube = PullbackManifold(lambda z: z @ basis - (z @ basis).amax(1, keepdim=True))
    angle = torch.linspace(0, 2 * torch.pi, 8) + 0.1
    loop = radius * torch.stack([angle.cos(), angle.sin()], 1)
    v = torch.tensor([1.0, 0.5])
    answer = geodesic.parallel_transport(cube, torch.cat([loop[:-1], loop[:1]]), v)
    assert answer.converged
    J = cube.jacobian(loop[:1])[0]
    cosine = (J @ v) @ (J @ answer.vector) / (J @ v).norm() ** 2
    torch.testing.assert_close(cosine, torch.zeros(()), rtol=0, atol=1e-12)
    assert geodesic.sectional_curvature(cube, loop[0], *torch.eye(2)) == 0
