"""Every Riemannian tool stays on the device of its input; test_modes.py tries another default device."""

import pytest
import torch

import geodesic
from tests.tools import TOOLS, each_tool, network, points, tensors_of


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
