"""The door: which way of differentiating is right for a function, what is refused, and when it is looked at again."""

import functools
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import geodesic
from geodesic.door.derivatives import FIRST_ORDER, FORWARD, FORWARD_ONLY, REVERSE, Derivatives
from geodesic.door.door import Door, visit
from geodesic.door.operators import KERNELS, written_out
from geodesic.door.watch import fingerprint, modules_in
from geodesic.errors import DecoderError, GeodesicError, InputError

Function = Callable[[Tensor], Tensor]


def network(activation: type[nn.Module] = nn.Tanh, width: int = 16) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, 12))


def findings(function: Function, dtype: torch.dtype = torch.float64, parts: tuple[object, ...] | None = None):
    return Door(function, (function,) if parts is None else parts).findings(torch.randn(6, 2, dtype=dtype))


# --- ways -------------------------------------------------------------------------------------

WAYS = [FORWARD, REVERSE, FORWARD_ONLY, FIRST_ORDER]


@pytest.mark.parametrize("way", WAYS, ids=repr)
@pytest.mark.parametrize("event", [(), (5,), (2, 3)])
def test_every_way_has_the_derivatives_of_a_polynomial(way: Derivatives, event: tuple[int, ...]) -> None:
    A = torch.randn(event.numel() if isinstance(event, torch.Size) else torch.Size(event).numel(), 3, 3)
    A = A + A.mT  # x_k = 1/2 z^T A_k z, so that J v = A v . z and D^2 x (v, w) = v^T A w

    def f(z: Tensor) -> Tensor:
        return torch.einsum("kij,ni,nj->nk", A, z, z).reshape(len(z), *event) / 2

    z, v, w = torch.randn(3, 4, 3)
    r = torch.randn(4, *event)
    flat = r.reshape(4, -1)
    close = functools.partial(assert_close, rtol=1e-8, atol=1e-8)
    close(way.push(f, z, v), torch.einsum("kij,ni,nj->nk", A, v, z).reshape(r.shape))
    close(way.pull(f, z, r), torch.einsum("nk,kij,nj->ni", flat, A, z))
    close(way.jacobian(f, z), torch.einsum("kij,nj->nki", A, z).reshape(*r.shape, 3))
    hessian = torch.einsum("nk,kij->nij", flat, A)
    x, J, H = way.expand(f, z, lambda y: r)
    close(x, f(z))
    close(J, way.jacobian(f, z))
    close(H, hessian)
    close(way.turn(f, z, r, w), (hessian @ w[..., None])[..., 0])
    if way.curvature:
        close(way.second(f, z, v, w), torch.einsum("kij,ni,nj->nk", A, v, w).reshape(r.shape))
        close(way.second_along(f, z, v, w), way.push(f, z, w) + way.second(f, z, v, v))
        J, change = way.bend(f, z, v)
        close(J, way.jacobian(f, z))
        close(change, torch.einsum("kij,ni->nkj", A, v).reshape(*r.shape, 3))
    else:
        with pytest.raises(DecoderError, match="differentiated once only"):
            way.second(f, z, v, w)


@pytest.mark.parametrize("way", [FORWARD, REVERSE], ids=repr)
def test_products_have_a_history_where_grad_mode_is_on_and_none_where_it_is_off(way: Derivatives) -> None:
    net, z, v = network(), torch.randn(3, 2), torch.randn(3, 2)
    (slope,) = torch.autograd.grad(way.push(net, z, v).square().sum(), net[0].weight)
    step = torch.zeros_like(slope)
    step[0, 0] = 1e-6

    def norm(change: Tensor) -> Tensor:
        with torch.no_grad():
            net[0].weight += change
            found = way.push(net, z, v).square().sum()
            net[0].weight -= change
        return found

    assert_close(slope[0, 0], (norm(step) - norm(-step)) / 2e-6, rtol=1e-6, atol=1e-8)
    with torch.no_grad():
        assert not way.push(net, z, v).requires_grad
        assert not way.expand(net, z, torch.sin)[2].requires_grad


def test_forward_over_forward_is_wrong_for_layer_norm_and_written_out_it_is_right() -> None:
    """Of torch, and not of ours: when this fails, it has been mended there."""
    f, z, v = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.LayerNorm(8)), torch.randn(3, 2), torch.randn(3, 2)
    right = REVERSE.second(f, z, v, v)
    assert (FORWARD.second(f, z, v, v) - right).abs().max() > 1e-3
    with written_out():
        assert_close(FORWARD.second(f, z, v, v), right)


@pytest.mark.parametrize(
    "layer",
    [
        nn.LayerNorm(8),
        nn.LayerNorm((2, 4), elementwise_affine=False),
        nn.InstanceNorm1d(2, affine=True),
        nn.InstanceNorm1d(2, track_running_stats=True).eval(),
        nn.GLU(),
        nn.GLU(1),
    ],
    ids=repr,
)
def test_operators_written_out_have_the_values_of_torch(layer: nn.Module) -> None:
    shape = (3, 8) if isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) == 1 else (3, 2, 4)
    x = torch.randn(shape)
    with written_out():
        found = layer.double()(x)
    assert_close(found, layer(x))


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_distances_written_out_have_the_values_of_torch(p: float) -> None:
    a, b = torch.randn(2, 5, 3), torch.randn(2, 30, 3)
    with written_out():
        found = torch.cdist(a, b, p)
    assert_close(found, torch.cdist(a, b, p))


def test_kernels_leave_the_switches_of_torch_as_they_were() -> None:
    before = torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled, torch.backends.cuda.flash_sdp_enabled()
    for kernels in KERNELS.values():
        with pytest.raises(KeyError), kernels():
            raise KeyError
    after = torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled, torch.backends.cuda.flash_sdp_enabled()
    assert before == after


# --- what is found ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.Hardtanh, nn.ELU, nn.SiLU, nn.Tanh])
def test_kinks_and_rounding_are_not_taken_for_wrong_derivatives(
    activation: type[nn.Module], dtype: torch.dtype
) -> None:
    for seed in range(4):
        torch.manual_seed(seed)
        assert findings(network(activation, width=100).to(dtype), dtype).derivatives is FORWARD


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "smooth"),
    [(nn.ReLU, False), (nn.LeakyReLU, False), (nn.ELU, False), (nn.Hardtanh, False)]
    + [(a, True) for a in (nn.Tanh, nn.Softplus, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Mish)],
)
def test_second_derivatives_that_jump_are_seen(activation: type[nn.Module], smooth: bool) -> None:
    for seed in range(4):
        torch.manual_seed(seed)
        assert findings(network(activation, width=64)).smooth == smooth


def test_affine_constant_and_tiny_functions_are_let_in() -> None:
    net = network()
    for function in (
        lambda z: z,
        lambda z: 3 * z + 1,
        lambda z: torch.ones(len(z), 2),
        lambda z: 1e-200 * net(z),
        lambda z: 1e200 * net(z),
        lambda z: z.prod(1),
    ):
        assert findings(function).derivatives is FORWARD


@pytest.mark.slow
def test_functions_of_one_output_are_compared_as_any() -> None:
    for function in (lambda z: z.square().sum(1), lambda z: z.sum(1, keepdim=True).tanh(), lambda z: z[:, :1].exp()):
        assert findings(function).derivatives is FORWARD
    with pytest.raises(DecoderError, match="hidden from autograd"):
        findings(lambda z: (z + 0.1 * z.detach()).sum(1).sin())


@pytest.mark.slow
def test_a_branch_that_reverse_mode_does_not_see_leaves_forward_mode() -> None:
    net, side = network(), network()

    def decoder(z: Tensor) -> Tensor:
        with torch.no_grad():
            s = side(z)
        return net(z) + s

    found = findings(decoder)
    assert found.derivatives is FORWARD_ONLY
    assert "forward mode alone" in found.note


@pytest.mark.slow
def test_forward_mode_alone_multiplies_by_hessians_where_parameters_require_gradients() -> None:
    net, side = network(), network()

    def decoder(z: Tensor) -> Tensor:
        with torch.no_grad():
            s = side(z)
        return net(z) + s

    path, direction = geodesic.straight_path(torch.zeros(2), torch.ones(2), 4), torch.randn(3, 2)
    found, expected = (
        geodesic.PullbackManifold(f).gradient_and_product(path) for f in (decoder, lambda z: net(z) + side(z))
    )
    assert_close(found[1], expected[1])
    assert_close(found[2](direction), expected[2](direction).detach())


@pytest.mark.slow
@pytest.mark.parametrize(
    "hide",
    [
        Tensor.detach,
        lambda x: x.data,
        lambda x: torch.tensor(x.tolist()),
        lambda x: x - x.detach() + (3 * x.detach()).sin(),
    ],
    ids=["detach", "data", "list", "straight through"],
)
@pytest.mark.parametrize("share", [1.0, 0.01])
def test_what_both_modes_do_not_see_is_refused(hide: Function, share: float) -> None:
    net, side = network(), network()
    with pytest.raises(DecoderError, match=r"hidden from autograd|cannot differentiate it"):
        findings(lambda z: net(z) + share * hide(side(z)))


@pytest.mark.parametrize(
    ("dtype", "share", "offset"), [(torch.float32, 1.0, 1e4), (torch.float32, 0.01, 0.0), (torch.float64, 1.0, 1e8)]
)
def test_what_is_hidden_is_found_below_a_large_offset_and_with_few_digits(
    dtype: torch.dtype, share: float, offset: float
) -> None:
    net, side = network().to(dtype), network().to(dtype)

    def unseen(z: Tensor) -> Tensor:
        with torch.no_grad():
            s = side(z)
        return net(z) + share * s + offset

    assert findings(unseen, dtype).derivatives is FORWARD_ONLY
    assert findings(lambda z: net(z) + share * side(z) + offset, dtype).derivatives is FORWARD
    with pytest.raises(DecoderError, match="hidden from autograd") as refused:
        findings(lambda z: net(z) + share * side(z.detach()) + offset, dtype)
    few_digits = dtype == torch.float32  # where kinks of many units look alike
    assert ("kinks" in str(refused.value) and "points in float64" in str(refused.value)) == few_digits


def test_a_first_derivative_by_hand_that_torch_takes_twice_wrongly_is_taken_once() -> None:
    class Sine(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, v):
            return v * ctx.saved_tensors[0].cos()

    net = network()
    assert findings(lambda z: Sine.apply(net(z))).derivatives is FIRST_ORDER


def test_a_wrong_derivative_by_hand_is_refused() -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sin()

        @staticmethod
        def backward(ctx, v):
            return v

    net = network()
    with pytest.raises(DecoderError):
        findings(lambda z: Wrong.apply(net(z)))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_scripted_module_is_differentiated_in_reverse() -> None:
    scripted = torch.jit.script(network())
    found = findings(scripted)
    assert found.derivatives is REVERSE
    assert findings(lambda z: scripted(z)).derivatives is REVERSE


# --- rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "coupled",
    [
        lambda z: z / z.std(0),
        lambda z: z - z.mean(0),
        lambda z: z.cumsum(0),
        lambda z: z + torch.arange(len(z))[:, None],
        lambda z: z * len(z),
        lambda z: z + (torch.arange(len(z))[:, None] > 6) * z[:, :1],
        lambda z: z * (1 + (len(z) > 16)),
        lambda z: z.softmax(0),
        nn.BatchNorm1d(2, track_running_stats=False).double().eval(),
        nn.BatchNorm1d(2).double(),
    ],
)
@pytest.mark.filterwarnings("ignore:std")
def test_rows_that_influence_each_other_are_refused(coupled: Function) -> None:
    with pytest.raises(DecoderError, match="rows are coupled"):
        findings(coupled)


def test_a_little_dropout_is_refused_whatever_the_seed() -> None:
    net = nn.Sequential(network(), nn.Dropout(0.1))
    for seed in range(20):
        torch.manual_seed(seed)
        with pytest.raises(DecoderError, match="random"):
            findings(lambda z: net(z))


@pytest.mark.parametrize("p", [1e-2, 1e-6])
def test_dropout_that_shows_in_no_call_is_refused(p: float) -> None:
    with pytest.raises(DecoderError, match="random numbers"):
        findings(lambda z: nn.functional.dropout(z, p, training=True))


def test_a_function_that_remembers_its_calls_is_not_taken_for_a_random_one() -> None:
    calls = []

    def decoder(z: Tensor) -> Tensor:
        calls.append(0)
        return z * len(calls)

    with pytest.raises(DecoderError, match=r"draws no random numbers.*remembers earlier calls"):
        findings(decoder)


def test_points_that_are_not_finite_are_not_looked_at() -> None:
    plane = geodesic.PullbackManifold(lambda z: z.tanh())
    path = geodesic.straight_path(torch.zeros(2), torch.ones(2), 4)
    both = geodesic.path_length(plane, torch.stack([path * torch.nan, path]))
    assert both[0].isnan()
    assert_close(both[1], geodesic.path_length(plane, path))
    assert geodesic.path_length(plane, path * torch.nan).isnan()
    assert geodesic.path_length(plane, path.new_zeros(0, 5, 2)).shape == (0,)


def test_a_function_is_looked_at_where_it_is_finite_and_refused_where_it_never_is() -> None:
    z = torch.linspace(-1, 1, 12)[:, None]
    assert Door(torch.sqrt, ()).findings(z).derivatives is FORWARD
    with pytest.raises(DecoderError, match=r"not finite at"):
        Door(torch.sqrt, ()).findings(z - 2)


def test_tensors_without_values_and_sparse_outputs_are_refused_by_name() -> None:
    plane, z = geodesic.PullbackManifold(lambda z: z), torch.ones(3, 2)
    meta = z.to("meta")
    for name, call in (
        ("start", lambda: geodesic.solve(plane, meta, meta)),
        ("path", lambda: geodesic.path_energy(plane, meta)),
        ("points", lambda: plane.metric_tensor(meta)),
        ("points", lambda: geodesic.frechet_mean(plane, meta)),
    ):
        with pytest.raises(InputError, match=f"{name}: it is on the meta device"):
            call()
    with pytest.raises(DecoderError, match=r"to_dense\(\)"):
        geodesic.path_length(geodesic.PullbackManifold(Tensor.to_sparse), z)


def test_outputs_of_another_precision_and_of_extreme_size_are_refused_with_the_remedy() -> None:
    z = torch.randn(3, 2, dtype=torch.float32)
    with pytest.raises(DecoderError, match=r"\.double\(\) on the points or \.float\(\) on its output"):
        geodesic.path_length(geodesic.PullbackManifold(Tensor.double), z)
    for scale in (1e25, 1e-25):
        with pytest.raises(GeodesicError, match=r"too small or too large to be squared; multiply"):
            geodesic.frechet_mean(geodesic.PullbackManifold(lambda z, scale=scale: scale * z), z)


def test_the_callers_random_numbers_go_on_as_if_nothing_had_happened() -> None:
    expected = torch.manual_seed(3) and torch.rand(2)
    torch.manual_seed(3)
    with pytest.raises(DecoderError, match="random"):
        Door(lambda z: z + torch.randn(len(z), 2), ()).findings(torch.ones(3, 2))
    Door(lambda z: z, ()).findings(torch.ones(3, 2))
    assert_close(torch.rand(2), expected)


@pytest.mark.parametrize(
    "narrow",
    [
        lambda z: z.float().tanh().double(),
        lambda z: z.half().tanh().double(),
        lambda z: z.bfloat16().double(),
    ],
)
def test_digits_that_are_lost_inside_are_noticed(narrow: Function) -> None:
    with pytest.raises(DecoderError, match=r"computes in (float32|float16|bfloat16)"):
        findings(narrow)


def test_a_metric_is_refused_as_a_metric() -> None:
    door = Door(lambda z: torch.eye(2) * z.detach().norm(dim=1)[:, None, None], (), metric=True)
    with pytest.raises(InputError, match="manifold: its metric_tensor: its output does not depend on z"):
        door.findings(torch.randn(3, 2))


def in_threads(jobs: list[Callable[[], Tensor]]) -> list[Tensor]:
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]


def test_one_manifold_has_the_same_derivatives_in_several_threads() -> None:
    manifold, z = geodesic.PullbackManifold(network()), torch.randn(4, 2)

    def job() -> Tensor:
        return torch.stack([geodesic.riemannian.scalar_curvature(manifold, z) for _ in range(3)])

    expected = job()
    for found in in_threads([job] * 3):
        assert_close(found, expected)


def test_threads_leave_the_switches_of_torch_as_they_were() -> None:
    before = torch.backends.mkldnn.enabled, torch.backends.cuda.flash_sdp_enabled()
    entered = Barrier(2)

    def job(first: bool) -> Tensor:
        with KERNELS["without oneDNN and cuDNN"]():
            entered.wait()
            if not first:
                entered.wait()  # leaves after the other one
        if first:
            entered.wait()
        return torch.zeros(())

    in_threads([functools.partial(job, first) for first in (True, False)])
    assert (torch.backends.mkldnn.enabled, torch.backends.cuda.flash_sdp_enabled()) == before


# --- when it is looked at again ---------------------------------------------------------------


def watched() -> tuple[nn.Module, Function, list[int]]:
    net, seen = network().eval(), []

    def decoder(z: Tensor) -> Tensor:
        seen.append(len(z))
        return net(z)

    return net, decoder, seen


def test_a_module_is_looked_at_once_until_it_changes() -> None:
    net, decoder, seen = watched()
    door = Door(decoder, (net,))
    z = torch.randn(3, 2)

    def looked() -> bool:
        seen.clear()
        door.findings(z)
        return bool(seen)

    assert looked()
    assert not looked()
    with torch.no_grad():
        net[0].weight.mul_(2)
    assert looked()
    assert not looked()
    net.train()
    assert looked()
    net[0].weight.data = net[0].weight.data.clone()
    assert looked()
    assert not looked()
    door.findings(z.float().new_ones(3, 2).double())
    assert not looked()


def test_what_can_change_without_a_trace_is_looked_at_in_every_call_and_once_in_each() -> None:
    _, decoder, seen = watched()
    door, z = Door(decoder, (decoder,)), torch.randn(3, 2)  # it closes over a list
    assert fingerprint((decoder,)) is None
    for _ in range(2):
        with visit():
            seen.clear()
            door.findings(z)
            assert seen
            seen.clear()
            door.findings(z)
            with visit():
                door.findings(z)
            assert not seen


CONFIG = types.ModuleType("config")


class Gated(nn.Module):
    gain = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.net, self.hide, self.sizes = network(), False, [1, 2]

    def forward(self, z: Tensor) -> Tensor:
        return self.gain * (self.net(z.detach()) if self.hide else self.net(z))


class Setting:
    scale = 1.0


def scaled(z: Tensor) -> Tensor:
    return CONFIG.scale * Setting.scale * z


def test_attributes_hooks_and_methods_of_a_module_are_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Gated()
    part = (lambda z: model(z),)
    known = [fingerprint(part)]
    assert known[0] == fingerprint(part) is not None

    def changed() -> bool:
        known.append(fingerprint(part))
        return known[-1] not in known[:-1]

    model.hide = True
    assert changed()
    model.sizes.append(3)
    assert changed()
    handle = model.net[1].register_forward_hook(lambda module, given, y: 2 * y)
    assert changed()
    handle.remove()
    assert not changed()
    monkeypatch.setattr(Gated, "gain", 2.0)
    assert changed()
    model.net[0].forward = lambda z: torch.zeros(len(z), 16)
    assert changed()
    monkeypatch.setattr(Gated, "forward", lambda self, z: z)
    assert changed()


def test_what_a_function_names_of_classes_and_python_modules_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CONFIG, "scale", 1.0, raising=False)
    first = fingerprint((scaled,))
    assert first == fingerprint((scaled,)) is not None
    monkeypatch.setattr(CONFIG, "scale", 2.0)
    second = fingerprint((scaled,))
    monkeypatch.setattr(Setting, "scale", 2.0)
    assert first != second != fingerprint((scaled,)) != first


@pytest.mark.slow
def test_a_part_that_is_hidden_by_a_flag_later_is_refused_in_the_next_call() -> None:
    model = Gated().eval()
    plane = geodesic.PullbackManifold(model)
    path = geodesic.straight_path(torch.zeros(2), torch.ones(2), 4)
    geodesic.path_length(plane, path)
    model.hide = True
    with pytest.raises(DecoderError, match="hidden from autograd"):
        geodesic.path_length(plane, path)


@pytest.mark.parametrize(
    "layer",
    [nn.LSTM(2, 3), nn.MultiheadAttention(4, 2), nn.TransformerEncoderLayer(4, 2)],
    ids=lambda x: type(x).__name__,
)
def test_modules_of_torch_are_known_again(layer: nn.Module) -> None:
    assert fingerprint((layer,)) == fingerprint((layer,)) is not None


GLOBAL = network()


def test_modules_are_found_wherever_a_function_keeps_them() -> None:
    net = network()

    class Model:
        def __init__(self) -> None:
            self.net = net

    def default(z: Tensor, net: nn.Module = net) -> Tensor:
        return net(z)

    def outer(z: Tensor) -> Tensor:
        return (lambda z: net(z))(z)

    for part in (net, net.forward, lambda z: net(z), functools.partial(lambda n, z: n(z), net), default, outer):
        assert net in set(modules_in(part))
    assert GLOBAL in set(modules_in(lambda z: GLOBAL(z)))
    assert fingerprint((lambda z: net(z),)) is not None
    assert fingerprint((Model(),)) is None


def test_numbers_that_a_function_closes_over_are_part_of_it() -> None:
    def scaled(factor: float) -> Function:
        return lambda z: factor * z

    def mark(factor: float) -> object:
        function = scaled(1.0)
        function.__closure__[0].cell_contents = factor  # as an assignment in the scope would
        return fingerprint((function,))[0][1:]  # type: ignore[index]

    assert mark(1.0) == mark(1.0) != mark(2.0)


def test_a_manifold_of_modules_is_known_again_with_every_geometry_of_outputs() -> None:
    net = network().eval()
    outputs = geodesic.outputs
    for geometry in (
        outputs.Euclidean(),
        outputs.Euclidean(mean=torch.sigmoid),
        outputs.FisherRaoBernoulli(),
        outputs.FisherRaoGaussian(),
    ):
        manifold = geodesic.PullbackManifold(net, geometry)
        assert fingerprint(manifold.door._parts) is not None
    vae = geodesic.VAE((1, 8, 8), latent_size=2).double().eval()
    manifold = geodesic.PullbackManifold(vae.decode, outputs.Euclidean(mean=vae.likelihood.mean))
    before = fingerprint(manifold.door._parts)
    assert before is not None
    with torch.no_grad():
        next(vae.parameters()).mul_(2)
    assert fingerprint(manifold.door._parts) != before


def test_constants_of_fewer_digits_are_no_loss_of_precision() -> None:
    ramp = torch.linspace(0, 1, 12, dtype=torch.float32)
    net = network()
    assert findings(lambda z: net(z) * ramp + torch.tensor(0.5, dtype=torch.float32)).derivatives is FORWARD


def test_a_layer_with_kinks_is_known_by_its_name_where_no_probe_meets_one() -> None:
    far = nn.Linear(2, 4).double()
    with torch.no_grad():
        far.bias += 1e3
    assert not findings(nn.Sequential(far, nn.ReLU())).smooth
    assert findings(lambda z: far(z).relu()).smooth  # and so it is, as far as one sees


def test_what_is_found_in_one_precision_does_not_change_what_is_found_in_the_other() -> None:
    recurrent = nn.LSTM(2, 3).eval()

    def decoder(z: Tensor) -> Tensor:
        weights = {name: p.to(z.dtype) for name, p in recurrent.named_parameters()}
        return torch.func.functional_call(recurrent, weights, (z[None],))[0][0]

    door, z = Door(decoder, ()), torch.randn(3, 2)
    first = [door.findings(z.to(dtype)) for dtype in (torch.float32, torch.float64)]
    again = [door.findings(z.to(dtype)) for dtype in (torch.float32, torch.float64)]
    assert [found.kernels for found in first] == [found.kernels for found in again]
    assert first[0].kernels != first[1].kernels


def test_a_derivative_that_rounding_hides_beside_its_value_is_let_in() -> None:
    z = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float32)
    metric = Door(lambda z: torch.eye(2) * (1 + z.square().sum(-1))[..., None, None], (), metric=True)
    assert metric.findings(z).derivatives is FORWARD
    assert Door(lambda z: 1e4 + z, ()).findings(z.double()).derivatives is FORWARD


def test_what_is_unusual_about_derivatives_is_said_by_manifolds_and_solutions() -> None:
    centers = torch.randn(5, 2)

    def radial(z: Tensor) -> Tensor:
        return (-(torch.cdist(z, centers) ** 2)).exp()

    ends = torch.randn(2, 2)
    manifold = geodesic.PullbackManifold(radial)
    assert geodesic.solve(manifold, *ends, segments=8).plan.reason.endswith("; operators written out")
    assert repr(manifold).endswith("; operators written out)")
    usual = geodesic.PullbackManifold(lambda z: z.tanh())
    assert "operators" not in geodesic.solve(usual, *ends, segments=8).plan.words + repr(usual)


@pytest.mark.slow
def test_members_of_an_ensemble_are_called_with_the_operators_that_were_found_right() -> None:
    centers = torch.randn(5, 2)
    members = [lambda z, c=c: (-(torch.cdist(z, c) ** 2)).exp() for c in (centers, centers + 0.1)]
    plain = [lambda z, c=c: (-(z[:, None] - c).square().sum(-1)).exp() for c in (centers, centers + 0.1)]
    found, expected = geodesic.EnsembleManifold(members), geodesic.EnsembleManifold(plain)
    z, ends = torch.randn(3, 2), torch.randn(2, 2)
    assert_close(found.metric_tensor(z), expected.metric_tensor(z))
    assert_close(geodesic.solve(found, *ends, segments=8).length, geodesic.solve(expected, *ends, segments=8).length)
    one, other = (geodesic.PullbackManifold(f) for f in (members[0], plain[0]))
    assert_close(one.jacobian(z), other.jacobian(z))
