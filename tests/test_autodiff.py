"""Products with Jacobians: numbers worked by hand, then laws on random functions."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import geodesic
from geodesic.errors import InputError

A = [[3.0, 1.0], [1.0, 0.0], [0.0, -2.0]]
PRODUCTS = ["forward", "double_vjp"]
JACOBIANS = ["vjp", "jvp"]


def linear(z: Tensor) -> Tensor:
    """Map each row x to A x."""
    return z @ z.new_tensor(A).T


def rotation(z: Tensor) -> Tensor:
    return torch.stack([-z[:, 1], z[:, 0]], dim=1)


def mlp(d: int, *event: int, dtype: torch.dtype | None = None, device: str = "cpu") -> Callable:
    """Random smooth row-wise function, (N, d) to (N, *event)."""
    size = torch.Size(event).numel()
    net = torch.nn.Sequential(torch.nn.Linear(d, 16), torch.nn.Tanh(), torch.nn.Linear(16, size))
    net = net.to(device=device, dtype=dtype).requires_grad_(False)
    return lambda z: net(z).reshape(len(z), *event)


class CountedSin(torch.autograd.Function):
    """Sine that counts its evaluations and its backward passes."""

    generate_vmap_rule = True
    forwards = 0
    backwards = 0

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        CountedSin.forwards += 1
        return x.sin()

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, v: Tensor) -> Tensor:
        CountedSin.backwards += 1
        (x,) = ctx.saved_tensors
        return v * x.cos()


# Numbers worked by hand


def test_a_linear_map_gives_9_2_minus_6_and_its_vjp_with_1_minus_1_1_is_2_minus_1():
    x, v = torch.tensor([[2.0, 3.0]]), torch.tensor([[1.0, -1.0, 1.0]])
    assert torch.equal(linear(x), torch.tensor([[9.0, 2.0, -6.0]]))
    assert torch.equal(geodesic.autodiff.vjp(linear, x, v), torch.tensor([[2.0, -1.0]]))


@pytest.mark.parametrize("method", JACOBIANS)
def test_the_jacobian_of_a_linear_map_from_unit_vectors_is_its_matrix(method):
    J = geodesic.autodiff.jacobian(linear, torch.tensor([[2.0, 3.0]]), mode=method)
    assert torch.equal(J, torch.tensor([A]))


@pytest.mark.parametrize("method", PRODUCTS)
def test_the_jvp_of_a_linear_map_is_its_matrix_times_the_tangent(method, tolerance):
    z, u = torch.randn(5, 2), torch.randn(5, 2)
    Ju = geodesic.autodiff.jvp(linear, z, u, mode=method)
    assert_close(Ju, linear(u), **tolerance(Ju.dtype))


def test_the_derivatives_of_sin_are_bitwise_cos_and_minus_sin():
    x = torch.linspace(-4, 4, 1001)
    assert torch.equal(geodesic.autodiff.derivative(torch.sin, x), x.cos())
    assert torch.equal(geodesic.autodiff.derivative(torch.sin, x, order=2), -x.sin())


def test_the_partial_derivatives_of_a_product_of_sums_are_5_and_8():
    g = geodesic.autodiff.gradient(lambda z: (z[:, 0] + z[:, 1]) * (z[:, 1] + 3), torch.tensor([[1.0, 2.0]]))
    assert torch.equal(g, torch.tensor([[5.0, 8.0]]))


def test_the_squared_norm_has_gradient_2_2_2_and_laplacian_6_at_ones():
    def f(z):
        return (z * z).sum(-1)

    x = torch.ones(1, 3)
    assert torch.equal(geodesic.autodiff.gradient(f, x), torch.full((1, 3), 2.0))
    assert torch.equal(geodesic.autodiff.divergence(lambda z: geodesic.autodiff.gradient(f, z), x), torch.tensor([6.0]))
    assert torch.equal(geodesic.autodiff.laplacian(f, x), torch.tensor([6.0]))
    # This Hessian is diagonal, which is the only reason why a vector of ones gives 6 as well.
    by_ones = geodesic.autodiff.vjp(lambda z: geodesic.autodiff.gradient(f, z), x, torch.ones(1, 3)).sum(-1)
    assert torch.equal(by_ones, torch.tensor([6.0]))


def test_a_vector_of_ones_is_not_the_divergence_where_the_jacobian_is_not_diagonal():
    def f(z):  # Hessian [[2, 1, 0], [1, 2, 0], [0, 0, 2]]: trace 6, sum of all entries 8
        return (z * z).sum(-1) + z[:, 0] * z[:, 1]

    def grad_f(z):
        return geodesic.autodiff.gradient(f, z)

    x = torch.ones(1, 3)
    by_ones = geodesic.autodiff.vjp(grad_f, x, torch.ones(1, 3)).sum(-1)
    assert torch.equal(by_ones, torch.tensor([8.0]))
    assert torch.equal(geodesic.autodiff.divergence(grad_f, x), torch.tensor([6.0]))
    assert torch.equal(geodesic.autodiff.laplacian(f, x), torch.tensor([6.0]))


def test_masked_cotangents_select_single_entries_and_accumulate_to_2_2_2_2():
    x = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    z = 2 * x
    expected = torch.zeros(4)
    for i, mask in enumerate(torch.eye(4)):
        z.backward(mask, retain_graph=True)
        expected[i] = 2.0
        assert torch.equal(x.grad, expected)
        by_library = geodesic.autodiff.vjp(lambda z: 2 * z, x.detach()[None], mask[None])
        assert torch.equal(by_library, 2 * mask[None])
    assert torch.equal(x.grad, torch.full((4,), 2.0))


def test_the_mean_loss_of_two_rows_is_the_vector_of_losses_with_cotangent_one_half(tolerance):
    x = torch.tensor([[1.0, 2.0, -1.0], [0.5, -1.0, 3.0]])
    target = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    W = torch.randn(2, 3, requires_grad=True)

    def losses(W: Tensor) -> Tensor:
        return (torch.sigmoid(x @ W.T) - target).square().sum(-1)

    losses(W).mean().backward()
    of_mean, W.grad = W.grad, None
    losses(W).backward(torch.tensor([0.5, 0.5]))
    of_vector, W.grad = W.grad, None
    rows = [geodesic.autodiff.vjp(losses, W.detach(), mask) for mask in torch.eye(2)]

    assert of_mean.abs().min() > 1e-6
    assert_close(of_vector, of_mean, **tolerance(W.dtype))
    assert_close((rows[0] + rows[1]) / 2, of_mean, **tolerance(W.dtype))


def test_the_diagonal_of_an_elementwise_jacobian_costs_one_product_for_1000_points(tolerance):
    x = torch.linspace(0, 1, 1000)
    J = geodesic.autodiff.jacobian(torch.sin, x[None], mode="vjp")[0]
    assert torch.equal(J, torch.diag(J.diagonal()))

    CountedSin.forwards = CountedSin.backwards = 0
    dx = geodesic.autodiff.derivative(CountedSin.apply, x)
    assert (CountedSin.forwards, CountedSin.backwards) == (1, 1)
    assert_close(dx, J.diagonal(), **tolerance(x.dtype))
    assert torch.equal(dx, x.cos())


# Laws

# Each draws its functions at random in the dtype of the points.
PRODUCTS_OF_ROWS = {
    "vjp": lambda z: geodesic.autodiff.vjp(mlp(3, 4, dtype=z.dtype), z, mlp(3, 4, dtype=z.dtype)(z)),
    "jvp": lambda z: geodesic.autodiff.jvp(mlp(3, 4, dtype=z.dtype), z, z.sin()),
    "double_vjp": lambda z: geodesic.autodiff.jvp(mlp(3, 4, dtype=z.dtype), z, z.sin(), mode="double_vjp"),
    "jacobian by jvp": lambda z: geodesic.autodiff.jacobian(mlp(3, 4, dtype=z.dtype), z, mode="jvp"),
    "jacobian by vjp": lambda z: geodesic.autodiff.jacobian(mlp(3, 4, dtype=z.dtype), z, mode="vjp"),
    "gradient": lambda z: geodesic.autodiff.gradient(mlp(3, dtype=z.dtype), z),
    "divergence": lambda z: geodesic.autodiff.divergence(mlp(3, 3, dtype=z.dtype), z),
    "curl": lambda z: geodesic.autodiff.curl(mlp(3, 3, dtype=z.dtype), z),
    "laplacian": lambda z: geodesic.autodiff.laplacian(mlp(3, dtype=z.dtype), z),
    "derivative": lambda z: geodesic.autodiff.derivative(torch.tanh, z, order=3),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("event", [(4,), (2, 3), ()])
def test_forward_mode_and_double_vjp_and_the_jacobian_give_the_same_product(event, dtype, tolerance):
    f = mlp(3, *event, dtype=dtype)
    z, u = torch.randn(5, 3, dtype=dtype), torch.randn(5, 3, dtype=dtype)
    expected = torch.einsum("n...d,nd->n...", geodesic.autodiff.jacobian(f, z), u)
    for method in PRODUCTS:
        Ju = geodesic.autodiff.jvp(f, z, u, mode=method)
        assert Ju.dtype == dtype
        assert_close(Ju, expected, **tolerance(dtype))


@pytest.mark.parametrize("event", [(4,), (2, 3), ()])
def test_vjp_is_the_transpose_of_jvp(event, tolerance):
    f, z, u, v = mlp(3, *event), torch.randn(5, 3), torch.randn(5, 3), torch.randn(5, *event)
    v_Ju = (v * geodesic.autodiff.jvp(f, z, u)).reshape(5, -1).sum(-1)
    JTv_u = (geodesic.autodiff.vjp(f, z, v) * u).sum(-1)
    assert_close(v_Ju, JTv_u, **tolerance(z.dtype))


@pytest.mark.parametrize("event", [(4,), (2, 3), ()])
def test_both_jacobians_agree_with_finite_differences(event, tolerance):
    f, z, h = mlp(3, *event), torch.randn(5, 3), 1e-5
    by_vjp, by_jvp = (geodesic.autodiff.jacobian(f, z, mode=method) for method in JACOBIANS)
    assert_close(by_vjp, by_jvp, **tolerance(z.dtype))
    differences = torch.stack([(f(z + h * e) - f(z - h * e)) / (2 * h) for e in torch.eye(3)], dim=-1)
    assert_close(by_jvp, differences, rtol=1e-6, atol=1e-8)  # the error of the differences, of order h^2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("product", PRODUCTS_OF_ROWS)
def test_a_batch_equals_its_rows_and_keeps_the_dtype_and_leaves_the_input_alone(product, dtype, tolerance):
    def at(z: Tensor) -> Tensor:
        torch.manual_seed(1)  # the same random function for the batch and for each row
        return PRODUCTS_OF_ROWS[product](z)

    z = torch.randn(5, 3, dtype=dtype)
    before = z.clone()
    batch = at(z)
    assert batch.dtype == dtype
    assert torch.equal(z, before)
    assert z.grad is None
    assert not z.requires_grad
    assert_close(batch, torch.cat([at(row[None]) for row in z]), **tolerance(dtype))


# What f computes out of place, by the functions that take z alone.
CALCULUS = {
    "vjp": lambda f, z: geodesic.autodiff.vjp(f, z, torch.ones_like(z)),
    "jvp": lambda f, z: geodesic.autodiff.jvp(f, z, torch.ones_like(z)),
    "double_vjp": lambda f, z: geodesic.autodiff.jvp(f, z, torch.ones_like(z), mode="double_vjp"),
    "jacobian by jvp": geodesic.autodiff.jacobian,
    "jacobian by vjp": lambda f, z: geodesic.autodiff.jacobian(f, z, mode="vjp"),
    "gradient": lambda f, z: geodesic.autodiff.gradient(lambda z: f(z).sum(-1), z),
    "divergence": geodesic.autodiff.divergence,
    "curl": geodesic.autodiff.curl,
    "laplacian": lambda f, z: geodesic.autodiff.laplacian(lambda z: f(z).sum(-1), z),
    "derivative": geodesic.autodiff.derivative,
    "second derivative": lambda f, z: geodesic.autodiff.derivative(f, z, order=2),
}


@pytest.mark.parametrize("calculus", CALCULUS)
def test_a_function_that_works_in_place_gives_the_same_and_leaves_the_points_alone(calculus):
    at, z = CALCULUS[calculus], torch.randn(5, 3)
    before = z.clone()
    result = at(lambda z: z.relu_().square(), z)
    assert torch.equal(z, before)
    assert torch.equal(result, at(lambda z: z.relu().square(), z))


@pytest.mark.parametrize("method", PRODUCTS)
def test_a_function_that_works_in_place_leaves_the_tangents_alone(method):
    z, u = torch.randn(5, 3), torch.randn(5, 3)
    before = u.clone()
    geodesic.autodiff.jvp(lambda z: z.mul_(2), z, u, mode=method)
    assert torch.equal(u, before)


def test_the_curl_of_a_gradient_is_zero(tolerance):
    for d, zero in ((2, torch.zeros(5)), (3, torch.zeros(5, 3))):
        f, z = mlp(d), torch.randn(5, d)
        assert geodesic.autodiff.gradient(f, z).abs().min() > 1e-4
        curl = geodesic.autodiff.curl(lambda z, f=f: geodesic.autodiff.gradient(f, z), z)
        assert_close(curl, zero, **tolerance(z.dtype))


def test_the_divergence_of_a_curl_is_zero(tolerance):
    f, z = mlp(3, 3), torch.randn(5, 3)
    assert geodesic.autodiff.curl(f, z).abs().min() > 1e-4
    assert_close(
        geodesic.autodiff.divergence(lambda z: geodesic.autodiff.curl(f, z), z), torch.zeros(5), **tolerance(z.dtype)
    )


def test_the_divergence_is_the_trace_of_the_jacobian(tolerance):
    f, z = mlp(4, 4), torch.randn(5, 4)
    trace = geodesic.autodiff.jacobian(f, z).diagonal(dim1=1, dim2=2).sum(-1)
    assert_close(geodesic.autodiff.divergence(f, z), trace, **tolerance(z.dtype))


@pytest.mark.parametrize(
    "harmonic",
    [
        pytest.param(lambda z: z[:, 0] ** 3 - 3 * z[:, 0] * z[:, 1] ** 2, id="cubic"),
        pytest.param(lambda z: z[:, 0].exp() * z[:, 1].sin(), id="exp-sin"),
        pytest.param(lambda z: z[:, :2].square().sum(-1).log(), id="log-in-the-plane"),
        pytest.param(lambda z: z.square().sum(-1).rsqrt(), id="newton-in-space"),
    ],
)
def test_the_laplacian_of_a_harmonic_function_is_zero(harmonic, tolerance):
    z = torch.randn(5, 3) + 3  # away from the singularities at the origin
    assert_close(geodesic.autodiff.laplacian(harmonic, z), torch.zeros(5), **tolerance(z.dtype))


def test_the_curl_of_the_rotation_of_the_plane_is_2():
    assert torch.equal(geodesic.autodiff.curl(rotation, torch.randn(5, 2)), torch.full((5,), 2.0))


def test_the_curl_of_a_rotation_of_space_is_twice_its_angular_velocity(tolerance):
    omega, z = torch.tensor([1.0, -2.0, 0.5]), torch.randn(5, 3)
    curl = geodesic.autodiff.curl(lambda z: torch.linalg.cross(omega.expand_as(z), z), z)
    assert_close(curl, (2 * omega).expand_as(z), **tolerance(z.dtype))


def test_a_result_can_be_differentiated_again_with_backward(tolerance):
    z = torch.randn(5, 3, requires_grad=True)
    v = torch.randn(5, 3)

    # The gradient of sum_j v_j 3 z_j^2 is 6 v z.
    geodesic.autodiff.vjp(lambda z: z**3, z, v).sum().backward()
    assert_close(z.grad, (6 * v * z).detach(), **tolerance(z.dtype))
    for method in PRODUCTS:
        (second,) = torch.autograd.grad(geodesic.autodiff.jvp(lambda z: z**3, z, v, mode=method).sum(), z)
        assert_close(second, (6 * v * z).detach(), **tolerance(z.dtype))
    for method in JACOBIANS:
        (second,) = torch.autograd.grad(geodesic.autodiff.jacobian(lambda z: z**3, z, mode=method).sum(), z)
        assert_close(second, (6 * z).detach(), **tolerance(z.dtype))


def test_a_product_nested_in_a_product_is_a_hessian_product(tolerance):
    f, z, u = mlp(3), torch.randn(5, 3), torch.randn(5, 3)
    H = geodesic.autodiff.jacobian(lambda z: geodesic.autodiff.gradient(f, z), z)
    assert_close(H, H.mT, **tolerance(z.dtype))
    Hu = geodesic.autodiff.vjp(lambda z: geodesic.autodiff.gradient(f, z), z, u)
    assert_close(Hu, torch.einsum("nij,nj->ni", H, u), **tolerance(z.dtype))


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_on_a_cuda_device_equal_those_on_the_cpu(dtype, tolerance):
    def products(device: str) -> dict[str, Tensor]:
        torch.manual_seed(1)
        f, phi = mlp(3, 3, dtype=dtype, device=device), mlp(3, dtype=dtype, device=device)
        z, u = (torch.randn(5, 3, dtype=dtype).to(device) for _ in range(2))
        return {
            "vjp": geodesic.autodiff.vjp(f, z, u),
            "jvp forward": geodesic.autodiff.jvp(f, z, u),
            "jvp double_vjp": geodesic.autodiff.jvp(f, z, u, mode="double_vjp"),
            "jacobian jvp": geodesic.autodiff.jacobian(f, z),
            "jacobian vjp": geodesic.autodiff.jacobian(f, z, mode="vjp"),
            "divergence": geodesic.autodiff.divergence(f, z),
            "curl": geodesic.autodiff.curl(f, z),
            "laplacian": geodesic.autodiff.laplacian(phi, z),
            "derivative": geodesic.autodiff.derivative(torch.sin, z, order=2),
        }

    on_cpu, on_cuda = products("cpu"), products("cuda")
    assert all(x.is_cuda for x in on_cuda.values())
    for name, x in on_cuda.items():
        assert_close(x.cpu(), on_cpu[name], **tolerance(dtype), msg=lambda m, name=name: f"{name}: {m}")


# Errors


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("z", lambda z: geodesic.autodiff.vjp(linear, torch.ones(5, 2, dtype=torch.int64), torch.ones(5, 3))),
        ("z", lambda z: geodesic.autodiff.jvp(linear, torch.ones(5, 2, dtype=torch.int64), z)),
        ("z", lambda z: geodesic.autodiff.jacobian(linear, torch.ones(5, 2, dtype=torch.int64))),
        ("z", lambda z: geodesic.autodiff.gradient(mlp(2), torch.ones(5, 2, dtype=torch.int64))),
        ("z", lambda z: geodesic.autodiff.divergence(rotation, torch.ones(5, 2, dtype=torch.int64))),
        ("z", lambda z: geodesic.autodiff.curl(rotation, torch.ones(5, 2, dtype=torch.int64))),
        ("x", lambda z: geodesic.autodiff.derivative(torch.sin, torch.ones(5, dtype=torch.int64))),
        ("v", lambda z: geodesic.autodiff.vjp(linear, z, torch.ones(5, 2))),
        ("v", lambda z: geodesic.autodiff.vjp(linear, z, torch.ones(3))),
        ("u", lambda z: geodesic.autodiff.jvp(linear, z, torch.ones(5, 3))),
        ("u", lambda z: geodesic.autodiff.jvp(linear, z, torch.ones(1, 2), mode="double_vjp")),
        ("mode", lambda z: geodesic.autodiff.jvp(linear, z, z, mode="backward")),
        ("mode", lambda z: geodesic.autodiff.jacobian(linear, z, mode="forward")),
        ("order", lambda z: geodesic.autodiff.derivative(torch.sin, z, order=0)),
        ("order", lambda z: geodesic.autodiff.derivative(torch.sin, z, order=True)),
        ("f", lambda z: geodesic.autodiff.jacobian(lambda z: linear(z).sum(0), z)),
        ("f", lambda z: geodesic.autodiff.jacobian(lambda z: linear(z).sum(), z, mode="vjp")),
        ("f", lambda z: geodesic.autodiff.jacobian(lambda z: linear(z)[:2], z)),
        ("f", lambda z: geodesic.autodiff.gradient(linear, z)),
        ("f", lambda z: geodesic.autodiff.laplacian(linear, z)),
        ("f", lambda z: geodesic.autodiff.divergence(linear, z)),
        ("f", lambda z: geodesic.autodiff.curl(linear, z)),
        ("f(x)", lambda z: geodesic.autodiff.derivative(linear, z)),
        ("z", lambda z: geodesic.autodiff.curl(mlp(4, 4), torch.ones(5, 4))),
        ("z", lambda z: geodesic.autodiff.jacobian(torch.sin, torch.ones(5, 2, 3))),
        ("z", lambda z: geodesic.autodiff.divergence(torch.sin, torch.ones(3))),
    ],
)
def test_a_wrong_argument_is_named_in_the_error(argument, call):
    with pytest.raises(InputError) as caught:
        call(torch.ones(5, 2))
    assert str(caught.value).startswith(f"{argument}: ")


def test_products_of_points_that_share_memory_are_those_of_their_copies() -> None:
    z, u = torch.tensor([1.0, 2.0]).expand(3, 2), torch.tensor([0.5, -1.0]).expand(3, 2)
    assert_close(geodesic.autodiff.jvp(torch.sin, z, u), geodesic.autodiff.jvp(torch.sin, z.clone(), u.clone()))
