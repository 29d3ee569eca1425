"""What a tool returns depends on its arguments alone, and a call leaves everything of the caller's as it was."""

import copy
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic.errors import DecoderError, GeodesicWarning
from tests.tools import TOOLS, each_quick_tool, each_tool, network, parts_of, points, tensors_of

WITH_HISTORY = ("constant_speed", "distance", "distance, gradient", "path_energy", "path_length")
LOOSE = {"rtol": 1e-8, "atol": 1e-8}  # other kernels round otherwise, and searches end where rounding tells them to


@functools.cache
def decoder() -> nn.Module:
    """The one network of all tests here: that a tool changes it would show in those that follow."""
    torch.manual_seed(0)
    return network().requires_grad_(False)


@pytest.fixture(autouse=True)
def _made_before_modes_change(request: pytest.FixtureRequest) -> None:
    if "tool" in request.fixturenames:
        expected(request.getfixturevalue("tool"))


def answer(tool: str, z: Tensor, v: Tensor) -> list[Tensor]:
    return list(tensors_of(TOOLS[tool](geodesic.PullbackManifold(decoder()), z, v)))


@functools.cache
def expected(tool: str) -> list[Tensor]:
    """Made without gradients: one mode more that changes nothing."""
    with torch.no_grad():
        return answer(tool, *points("cpu"))


def require_same(found: list[Tensor], tool: str) -> None:
    for x, y in zip(found, expected(tool), strict=True):
        torch.testing.assert_close(x.detach(), y, equal_nan=True, **LOOSE)


def state() -> tuple[object, ...]:
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cuda.math_sdp_enabled(),
        torch.backends.cuda.flash_sdp_enabled(),
    )


@contextmanager
def nothing_changes(*tensors: Tensor) -> Iterator[None]:
    """Modes, random numbers, weights and tensors of the caller's are afterwards what they were."""
    before, generator = state(), torch.get_rng_state()
    values = [x.detach().clone() for x in tensors]
    weights = copy.deepcopy(decoder().state_dict())
    yield
    assert state() == before
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(x, y) for x, y in zip(tensors, values, strict=True))
    assert all(x.grad is None for x in tensors if x.is_leaf)
    assert all(torch.equal(x, weights[name]) for name, x in decoder().state_dict().items())
    assert not any(x.requires_grad or x.grad is not None for x in decoder().parameters())
    assert not any(module.training for module in decoder().modules())


@each_tool
def test_answers_are_the_same_in_inference_mode_whatever_the_defaults_of_torch_and_wherever_numbers_lie_in_memory(
    tool: str,
) -> None:
    with torch.inference_mode():
        z, v = points("cpu")
        transposed = z.T.contiguous().T
        strided = torch.stack([v, v + 1], dim=-1)[..., 0]
    assert not transposed.is_contiguous()
    assert not strided.is_contiguous()
    torch.set_default_dtype(torch.float32)  # the fixture of all tests brings it back
    # On the device meta a tensor has no numbers, so that it cannot meet another by mistake.
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"), nothing_changes(z, v):
        found = answer(tool, transposed, strided)
        assert all(x.device.type == "cpu" for x in found)
        require_same(found, tool)


def use_all_methods(record: object) -> None:
    """Those that need no arguments, and all properties."""
    for name, member in inspect.getmembers(type(record)):
        if isinstance(member, property):
            getattr(record, name)
        elif inspect.isfunction(member) and not name.startswith("_"):
            given = list(inspect.signature(member).parameters.values())[1:]
            if all(parameter.default is not inspect.Parameter.empty for parameter in given):
                getattr(record, name)()


@each_quick_tool
def test_with_arrays_a_tool_gives_what_it_gives_with_tensors_in_arrays(tool: str) -> None:
    z, v = (x.numpy() for x in points("cpu"))
    before = z.copy(), v.copy()
    found = TOOLS[tool](geodesic.PullbackManifold(decoder()), z, v)
    assert not list(tensors_of(found))
    for x, y in zip(parts_of(found, np.ndarray), expected(tool), strict=True):
        assert x.dtype == y.numpy().dtype
        np.testing.assert_allclose(x, y, **LOOSE)
    assert all(np.array_equal(x, y) for x, y in zip((z, v), before, strict=True))
    use_all_methods(found)


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["solve", "log_map", "frechet_mean", "riemann_tensor"])
def test_answers_are_the_same_with_more_threads(tool: str) -> None:
    z, v = points("cpu")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        with nothing_changes(z, v):
            require_same(answer(tool, z, v), tool)
    finally:
        torch.set_num_threads(threads)


def test_expanded_points_are_points() -> None:
    manifold, (z, v) = geodesic.PullbackManifold(decoder()), points("cpu")
    many = z[:1].expand(4, -1)
    found, known = geodesic.solve(manifold, many, v), geodesic.solve(manifold, many.contiguous(), v)
    torch.testing.assert_close(found.path, known.path, **LOOSE)
    found, known = (geodesic.frechet_mean(manifold, x[:, None].expand(-1, 2, -1)) for x in (z, z.clone()))
    torch.testing.assert_close(found.point, known.point, **LOOSE)


def test_images_with_their_channels_last_in_memory_are_the_same_points() -> None:
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Flatten()).requires_grad_(False)
    manifold = geodesic.PullbackManifold(decoder, latent_shape=(3, 2, 2))
    a, b = torch.randn(2, 5, 3, 2, 2)
    last = [x.contiguous(memory_format=torch.channels_last) for x in (a, b)]
    other = copy.deepcopy(decoder).to(memory_format=torch.channels_last)
    known = geodesic.solve(manifold, a, b, segments=8)
    found = geodesic.solve(geodesic.PullbackManifold(other, latent_shape=(3, 2, 2)), *last, segments=8)
    assert not last[0].is_contiguous()
    torch.testing.assert_close(found.path, known.path, **LOOSE)
    torch.testing.assert_close(found.length, known.length, **LOOSE)


@each_tool
def test_an_answer_has_a_history_or_it_is_said_once_that_it_has_none(tool: str) -> None:
    z, v = (x.requires_grad_() for x in points("cpu"))
    with warnings.catch_warnings(record=True) as caught, nothing_changes(z, v):
        warnings.simplefilter("always", GeodesicWarning)
        found = answer(tool, z, v)
    require_same(found, tool)
    said = [str(w.message) for w in caught if "gradients, and the answer has none" in str(w.message)]
    if tool in WITH_HISTORY:
        assert not said
        assert tool == "distance, gradient" or found[0].requires_grad
    else:
        assert len(said) == 1
        asked = "solve" if tool == "is_minimizing" else tool.partition(",")[0]  # which is asked about a solution
        assert said[0].startswith(f"{asked}: ")
        assert not any(x.requires_grad for x in found)


def hidden_in(net: nn.Module) -> dict[str, Callable[[Tensor], Tensor]]:
    """The places where functions keep modules."""

    class Model:
        def __init__(self) -> None:
            self.parts = {"net": net}

        def decode(self, z: Tensor) -> Tensor:
            return self.parts["net"](z)

    kept = {"net": net}
    return {
        "closure": lambda z: net(z),
        "dictionary": lambda z: kept["net"](z),
        "partial": functools.partial(lambda module, z: module(z), net),
        "object": Model().decode,
    }


@pytest.mark.parametrize("place", ["closure", "dictionary", "partial", "object"])
@pytest.mark.parametrize("kind", ["Dropout", "BatchNorm1d"])
def test_layers_in_training_mode_are_refused_wherever_a_function_keeps_them(kind: str, place: str) -> None:
    layer = nn.Dropout(0.1) if kind == "Dropout" else nn.BatchNorm1d(8)
    net = nn.Sequential(nn.Linear(2, 8), layer, nn.Linear(8, 5))
    manifold, (z, v) = geodesic.PullbackManifold(hidden_in(net)[place]), points("cpu")
    for seed in range(8):
        torch.manual_seed(seed)
        with pytest.raises(DecoderError, match=rf"\({kind}\) is in training mode.*call .eval\(\)"):
            geodesic.path_energy(manifold, geodesic.straight_path(z, z + v, 4))
    layer.eval()
    assert geodesic.path_energy(manifold, geodesic.straight_path(z, z + v, 4)).isfinite().all()


@each_tool
def test_no_tool_takes_a_decoder_that_is_in_training_mode(tool: str) -> None:
    net = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.1), nn.Linear(8, 5))
    with pytest.raises(DecoderError, match=r"training mode|is random"):
        TOOLS[tool](geodesic.PullbackManifold(lambda z: net(z)), *points("cpu"))


def test_a_module_that_is_not_called_may_be_in_training_mode() -> None:
    net, other = network(), nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    assert other.training
    manifold = geodesic.PullbackManifold(lambda z: net(z) if len(z) else other(z))
    assert geodesic.path_energy(manifold, geodesic.straight_path(*points("cpu"), 4)).isfinite().all()
    assert not nn.modules.module._global_forward_pre_hooks
