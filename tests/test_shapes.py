"""The shapes that signatures name are checked while the tests run: what conftest.py at the root sees to."""

import pytest
import torch
from jaxtyping import TypeCheckError

import geodesic


def test_a_shape_that_the_signature_does_not_name_is_refused() -> None:
    with pytest.raises(TypeCheckError, match=r"parameter 'a'"):
        geodesic.surfaces.Sphere().distance(torch.ones(3), torch.ones(2))


def test_sizes_of_one_name_have_to_agree() -> None:
    with pytest.raises(TypeCheckError, match=r"parameter 'b'"):
        geodesic.surfaces.Sphere().distance(torch.ones(2), torch.ones(3, 2))
