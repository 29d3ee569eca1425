"""Laws of forward mode without products that are zero: the derivatives are those of torch, at fewer products."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from geodesic import autodiff
from geodesic.tangents import with_fixed_weights
from tests.kinds import KINDS

Map = Callable[[Tensor], Tensor]


def made(*size: int) -> Tensor:
    """Numbers near one: fit to multiply by and to divide by."""
    numbers = torch.linspace(-3, 3, int(torch.Size(size).numel()), dtype=torch.float64)
    return (1.5 + numbers.sin() / 3).reshape(size)


def layer(make: Callable[[], nn.Module], *size: int) -> Map:
    """A layer with weights that are not drawn, behind a view of its six inputs."""
    nets = {dtype: make().to(dtype).eval().requires_grad_(False) for dtype in (torch.float32, torch.float64)}
    for net in nets.values():
        for k, numbers in enumerate([*net.parameters(), *net.buffers()]):
            if numbers.is_floating_point():
                numbers.copy_(made(*numbers.shape) / (k + 2))
    return lambda x: nets[x.dtype](x.reshape(len(x), *size)).flatten(1)


# Six coordinates in, any number out.
OPERATORS: dict[str, Map] = {
    "linear": lambda x: functional.linear(x, made(4, 6).to(x), made(4).to(x)),
    "linear without bias": lambda x: functional.linear(x, made(4, 6).to(x)),
    "linear by names": lambda x: functional.linear(input=x, weight=made(4, 6).to(x), bias=None),
    "linear of tokens": lambda x: functional.linear(x.reshape(-1, 2, 3), made(4, 3).to(x), made(4).to(x)).flatten(1),
    "linear of a weight from within": lambda x: functional.linear(x, 2 * made(4, 6).to(x)),
    "linear of a weight that varies": lambda x: functional.linear(x, x[:1].expand(4, 6) * made(4, 6).to(x)),
    "x + c": lambda x: x + made(6).to(x),
    "c + x": lambda x: made(6).to(x) + x,
    "c + x, wider": lambda x: (made(5, 1, 1).to(x) + x).transpose(0, 1).flatten(1),
    "x + 1": lambda x: x + 1,
    "1 + x": lambda x: 1 + x,
    "x + alpha c": lambda x: torch.add(x, made(6).to(x), alpha=0.5),
    "x - c": lambda x: x - made(6).to(x),
    "c - x": lambda x: made(6).to(x) - x,
    "c - x, wider": lambda x: (x[:, :1] - made(6).to(x)) + (made(6).to(x) - x[:, :1]),
    "1 - x": lambda x: 1 - x,
    "x c": lambda x: x * made(6).to(x),
    "c x": lambda x: made(6).to(x) * x,
    "c x, wider": lambda x: made(6).to(x) * x[:, :1],
    "2 x": lambda x: 2 * x,
    "x / c": lambda x: x / made(6).to(x),
    "c / x": lambda x: made(6).to(x) / (2 + x),
    "x / 2": lambda x: x / 2,
    "x / c, rounded": lambda x: x + torch.div(x, made(6).to(x), rounding_mode="floor"),
    "x + x": lambda x: x + x.flip(1),
    "x x": lambda x: x * x.flip(1),
    "x + c of another type": lambda x: x + made(6).to(torch.float32),
    "x times a single number": lambda x: x * torch.tensor(2.0, dtype=torch.float64),
    "x @ A": lambda x: x @ made(6, 4).to(x),
    "x @ A of matrices": lambda x: (x.reshape(-1, 2, 3) @ made(3, 4).to(x)).flatten(1),
    "x @ A, one each": lambda x: (x.reshape(-1, 2, 3) @ made(len(x), 3, 4).to(x)).flatten(1),
    "x @ A, wider": lambda x: (x.reshape(-1, 1, 2, 3) @ made(2, 3, 4).to(x)).flatten(1),
    "A @ x": lambda x: (made(4, 6).to(x) @ x.T).T,
    "A @ x of matrices": lambda x: (made(4, 2).to(x) @ x.reshape(-1, 2, 3)).flatten(1),
    "x @ a": lambda x: (x @ made(6).to(x))[:, None],
    "x @ x": lambda x: (x.reshape(-1, 2, 3) @ x.reshape(-1, 3, 2)).flatten(1),
    "mm": lambda x: torch.mm(x, made(6, 4).to(x)),
    "bmm": lambda x: torch.bmm(x.reshape(-1, 2, 3), made(len(x), 3, 4).to(x)).flatten(1),
    "addmm": lambda x: torch.addmm(made(4).to(x), x, made(6, 4).to(x)),
    "addmm, scaled": lambda x: torch.addmm(made(4).to(x), x, made(6, 4).to(x), alpha=2),
    "convolution": layer(lambda: nn.Conv1d(2, 3, 2), 2, 3),
    "convolution with steps": layer(lambda: nn.Conv2d(1, 2, 2, stride=2, padding=1), 1, 2, 3),
    "convolution with gaps": layer(lambda: nn.Conv2d(1, 2, (1, 2), padding=(0, 1), dilation=(1, 3)), 1, 2, 3),
    "convolution in groups": layer(lambda: nn.Conv1d(2, 4, 2, groups=2, bias=False), 2, 3),
    "convolution, padded alike": layer(lambda: nn.Conv1d(2, 3, 3, padding="same"), 2, 3),
    "convolution in space": layer(lambda: nn.Conv3d(1, 2, (1, 2, 2), padding=1), 1, 1, 2, 3),
    "transposed convolution": layer(lambda: nn.ConvTranspose1d(2, 3, 2), 2, 3),
    "transposed convolution with steps": layer(lambda: nn.ConvTranspose2d(1, 2, 3, 2, 1, 1), 1, 2, 3),
    "transposed convolution with gaps": layer(lambda: nn.ConvTranspose2d(1, 2, 2, 1, 1, dilation=2), 1, 2, 3),
    "transposed convolution in groups": layer(lambda: nn.ConvTranspose1d(2, 4, 2, groups=2), 2, 3),
    "transposed convolution, further": layer(lambda: nn.ConvTranspose1d(2, 2, 2, 1, 0, 1, dilation=2), 2, 3),
    "batch normalization": layer(lambda: nn.BatchNorm1d(6), 6),
    "batch normalization of images": layer(lambda: nn.BatchNorm2d(2), 2, 1, 3),
    "batch normalization without weights": layer(lambda: nn.BatchNorm1d(2, affine=False), 2, 3),
    "in place before": lambda x: (x.clone().mul_(2) + made(6).to(x)).tanh_() + x,
    "in place after": lambda x: torch.cat(
        [(x + 1).mul_(3), x * 2, functional.linear(x, made(4, 6).to(x)).mul_(x[:, :4])], 1
    ),
}


def around(operator: Map) -> Map:
    """The operator between functions with second derivatives."""
    return lambda z: operator(torch.tanh(z)).sin()


def jvp(f, z, v):
    return torch.func.jvp(f, (z,), (v,))[1]


def vjp(f, z, r):
    return torch.func.vjp(f, z)[1](r)[0]


def expanded(f: Map, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value, Jacobian and Hessian of <f, f> / 2 with one factor held fixed, by torch alone."""
    r = f(z).detach()
    J = torch.func.vmap(lambda e: jvp(f, z, e.expand_as(z).contiguous()), out_dims=-1)(torch.eye(z.shape[1]).to(z))
    H = torch.func.vmap(lambda e: jvp(lambda z: vjp(f, z, r), z, e.expand_as(z).contiguous()), out_dims=-1)
    return f(z), J, H(torch.eye(z.shape[1]).to(z))


# Ours, and the same by torch alone.
WAYS: dict[str, tuple[Callable, Callable]] = {
    "jvp": (lambda f, z, v, w: autodiff.jvp(f, z, v), lambda f, z, v, w: jvp(f, z, v)),
    "jvp over jvp": (
        lambda f, z, v, w: autodiff.jvp(lambda z: autodiff.jvp(f, z, v), z, w),
        lambda f, z, v, w: jvp(lambda z: jvp(f, z, v), z, w),
    ),
    "jvp over jvp over jvp": (
        lambda f, z, v, w: autodiff.jvp(lambda z: autodiff.jvp(lambda z: autodiff.jvp(f, z, v), z, w), z, v),
        lambda f, z, v, w: jvp(lambda z: jvp(lambda z: jvp(f, z, v), z, w), z, v),
    ),
    "jvp over vjp": (
        lambda f, z, v, w: autodiff.jvp(lambda z: autodiff.vjp(f, z, torch.ones_like(f(z))), z, v),
        lambda f, z, v, w: jvp(lambda z: vjp(f, z, torch.ones_like(f(z))), z, v),
    ),
    "vjp over jvp": (
        lambda f, z, v, w: autodiff.vjp(lambda z: autodiff.jvp(f, z, v), z, torch.ones_like(f(z))),
        lambda f, z, v, w: vjp(lambda z: jvp(f, z, v), z, torch.ones_like(f(z))),
    ),
    "jvp over vjp over vjp": (
        lambda f, z, v, w: autodiff.jvp(
            lambda z: autodiff.vjp(lambda z: autodiff.vjp(f, z, torch.ones_like(f(z))), z, w), z, v
        ),
        lambda f, z, v, w: jvp(lambda z: vjp(lambda z: vjp(f, z, torch.ones_like(f(z))), z, w), z, v),
    ),
    "double vjp": (lambda f, z, v, w: autodiff.jvp(f, z, v, mode="double_vjp"), lambda f, z, v, w: jvp(f, z, v)),
    "jacobian": (lambda f, z, v, w: autodiff.jacobian(f, z), lambda f, z, v, w: expanded(f, z)[1]),
    "jvp over jacobian": (
        lambda f, z, v, w: autodiff.jvp(lambda z: autodiff.jacobian(f, z), z, v),
        lambda f, z, v, w: jvp(lambda z: expanded(f, z)[1], z, v),
    ),
    "bend": (
        lambda f, z, v, w: autodiff.bend(f, z, v),
        lambda f, z, v, w: (expanded(f, z)[1], jvp(lambda z: expanded(f, z)[1], z, v)),
    ),
    "expand": (lambda f, z, v, w: autodiff.expand(f, z, lambda y: y), lambda f, z, v, w: expanded(f, z)),
}


@pytest.fixture
def points() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(5, 6), torch.randn(5, 6), torch.randn(5, 6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_derivatives_are_those_of_torch(operator, way, points, tolerance):
    f, (ours, torchs) = around(OPERATORS[operator]), WAYS[way]
    assert_close(ours(f, *points), torchs(f, *points), **tolerance(torch.float64))


@pytest.mark.filterwarnings("ignore:There is a performance drop", "ignore:None of the inputs have")
@pytest.mark.parametrize("way", ["jvp", "jvp over jvp", "jvp over vjp", "expand"])
@pytest.mark.parametrize("name", [name for name in KINDS if "compile" not in name])
def test_decoders_of_every_kind_have_the_derivatives_of_torch_or_its_error(name, way, tolerance):
    kind, (ours, torchs) = KINDS[name], WAYS[way]
    decoder, points = kind.make(), [torch.randn(3, 2, dtype=kind.dtype) for _ in range(3)]

    def found(taken: Callable) -> object:
        torch.manual_seed(0)
        try:
            return taken(decoder, *points)
        except (RuntimeError, NotImplementedError) as error:
            return type(error)

    answer, expected = found(ours), found(torchs)
    if isinstance(expected, type):
        assert answer is expected
    else:
        assert_close(answer, expected, equal_nan=True, **tolerance(kind.dtype))


def test_compiled_functions_are_taken_as_they_are(points, tolerance):
    z, v, _ = points
    f = around(OPERATORS["linear"])
    compiled = torch.compile(f, backend="eager")
    assert_close(autodiff.jvp(compiled, z, v), jvp(f, z, v), **tolerance(torch.float64))


@pytest.mark.parametrize("operator", OPERATORS)
def test_derivatives_in_single_precision_have_its_type(operator, points, tolerance):
    f = around(OPERATORS[operator])
    z, v, w = (x.float() for x in points)
    ours = autodiff.jvp(lambda z: autodiff.jvp(f, z, v), z, w)
    assert_close(ours, jvp(lambda z: jvp(f, z, v), z, w), **tolerance(torch.float32))


# Functions of parameters too: a derivative in z, differentiated in them.
PARAMETRIC: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "linear": lambda z, W, b: functional.linear(z, W, b),
    "x @ A + c": lambda z, W, b: z @ W.T + b,
    "c x": lambda z, W, b: b * (1 - z) / b.exp(),
    "convolution": lambda z, W, b: functional.conv1d(z[:, None], W[:, None], b, padding=1).flatten(1),
    "transposed convolution": lambda z, W, b: functional.conv_transpose1d(z[:, :, None], W[..., None], b).flatten(1),
    "batch normalization": lambda z, W, b: functional.batch_norm(z, made(6), made(6) / 2, W[2], b),
}


@pytest.mark.parametrize("way", [way for way in WAYS if way != "double vjp"])
@pytest.mark.parametrize("name", PARAMETRIC)
def test_parameters_keep_their_gradients(name, way, points, tolerance):
    def gradients(derivative: Callable) -> tuple[Tensor, ...]:
        W, b = made(6, 6).requires_grad_(), made(6).requires_grad_()
        found = derivative(around(lambda z: PARAMETRIC[name](z, W, b)), *points)
        found = found if isinstance(found, tuple) else (found,)
        return torch.autograd.grad(sum(x.square().sum() for x in found), (W, b), materialize_grads=True)

    ours, torchs = WAYS[way]
    assert_close(gradients(ours), gradients(torchs), **tolerance(torch.float64))


def test_parameters_that_a_level_differentiates_have_their_tangents(points, tolerance):
    z, v, _ = points
    W, b = made(4, 6), made(4)

    def changed(taken: Callable, W: Tensor) -> Tensor:
        return taken(lambda z: functional.linear(z.tanh(), W, b).sin(), z, v)

    def both(taken: Callable) -> Tensor:
        return taken(lambda W: changed(taken, W), W, W.cos())

    assert_close(both(autodiff.jvp), both(jvp), **tolerance(torch.float64))


_COUNTED = {"mm", "addmm", "bmm", "convolution", "convolution_backward"}


class _Products(TorchDispatchMode):
    """Counts products of matrices, and convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func._schema.name.removeprefix("aten::") in _COUNTED
        return func(*args, **(kwargs or {}))


# In products: the value and its tangents, or the value, its cotangent, and the tangents of both.
COUNTS = {"jvp": 2, "jvp over jvp": 4, "jvp over vjp": 4, "bend": 4}


@pytest.mark.parametrize("way", COUNTS)
@pytest.mark.parametrize("operator", ["linear", "x @ A", "convolution", "transposed convolution"])
def test_no_product_is_taken_with_zeros(operator, way, points):
    f = around(OPERATORS[operator])
    z, v, w = points
    r = torch.ones_like(f(z))
    ways = {
        "jvp": lambda: autodiff.jvp(f, z, v),
        "jvp over jvp": lambda: autodiff.jvp(lambda z: autodiff.jvp(f, z, v), z, w),
        "jvp over vjp": lambda: autodiff.jvp(lambda z: autodiff.vjp(f, z, r), z, v),
        "bend": lambda: autodiff.bend(f, z, v),  # all directions in one product
    }
    with _Products() as products:
        ways[way]()
    assert products.count == COUNTS[way]


# --- gradients that are differentiated once more --------------------------------------------------


def twice(f: Map, z: Tensor, u: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """The gradient of |f|^2 / 2 and its derivative along u, when it is asked for."""
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(z).square().sum() / 2, z, create_graph=True)
    return gradient, lambda: torch.autograd.grad(gradient, z, u)[0]


CONVOLUTIONS = {name: f for name, f in OPERATORS.items() if "convolution" in name} | {
    "convolution of a weight that varies": lambda x: functional.conv1d(x[:, None], x[:1, None, :2]).flatten(1),
    "convolution by names": lambda x: functional.conv1d(input=x[:, None], weight=made(2, 1, 3).to(x)).flatten(1),
    "checkpointed": lambda x: torch.utils.checkpoint.checkpoint(
        lambda x: functional.conv1d(x[:, None], made(2, 1, 3).to(x)).flatten(1), x, use_reentrant=False
    ),
}


@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_second_derivatives_at_fixed_weights_are_those_of_torch(operator, points, tolerance):
    f, (z, u, _) = around(CONVOLUTIONS[operator]), points
    with with_fixed_weights():
        gradient, product = twice(f, z, u)
        ours = gradient.detach(), product()
    expected, product = twice(f, z, u)
    assert_close(ours, (expected.detach(), product()), **tolerance(torch.float64))


@pytest.mark.parametrize("operator", ["convolution", "transposed convolution"])
def test_a_gradient_is_differentiated_for_two_products(operator, points):
    f, (z, u, _) = around(OPERATORS[operator]), points
    with with_fixed_weights():
        _, product = twice(f, z, u)
        with _Products() as products:
            product()
    assert products.count == 2
