"""Every Riemannian tool stays on the device of its input."""

import pytest
import torch

import geodesic
from tests.tools import TOOLS, each_tool, network, points, tensors_of


@each_tool
def test_nothing_is_made_on_the_default_device(tool: str) -> None:
    manifold, (z, v) = geodesic.PullbackManifold(network()), points("cpu")
    with torch.device("meta"):  # where a tensor has no numbers, so that it cannot meet another by mistake
        answer = TOOLS[tool](manifold, z, v)
    assert all(x.device.type == "cpu" for x in tensors_of(answer))


@pytest.mark.cuda
@each_tool
def test_it_is_the_same_on_cuda(tool: str) -> None:
    decoder = network()
    expected = TOOLS[tool](geodesic.PullbackManifold(decoder), *points("cpu"))
    answer = TOOLS[tool](geodesic.PullbackManifold(decoder.cuda()), *points("cuda"))
    for there, here in zip(tensors_of(answer), tensors_of(expected), strict=True):
        assert there.is_cuda
        if here.is_floating_point():
            torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-5, equal_nan=True)
