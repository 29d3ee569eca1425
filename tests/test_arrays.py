"""NumPy arrays are taken wherever tensors are, and answered in arrays."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic.door.door import Door
from geodesic.errors import DecoderError, InputError

SPHERE = geodesic.surfaces.Sphere()
A, B = np.array([[0.8, 0.1], [1.0, 0.3]]), np.array([[1.2, 1.0], [0.9, -0.8]])
LOOSE = {"rtol": 1e-8, "atol": 1e-8}  # numbers lie elsewhere in memory, where sums are taken in another order
PLACES = (geodesic, geodesic.autodiff, geodesic.geometry, geodesic.riemannian, geodesic.solvers)


def taking_tensors() -> dict[str, tuple[Callable[..., Any], str]]:
    """Public functions that take tensors, each with the first argument that is one."""
    found = {}
    for place in PLACES:
        for name in place.__all__:
            tool = getattr(place, name)
            if inspect.isfunction(tool):
                given = inspect.signature(inspect.unwrap(tool)).parameters
                hints = {x: str(p.annotation) for x, p in given.items() if "NDArray" not in str(p.annotation)}
                tensors = [x for x, hint in hints.items() if re.match(r"(Float\[)?Tensor\b", hint)]
                found |= {name: (tool, tensors[0])} if tensors else {}
    return found


TOOLS = taking_tensors()


def test_the_functions_that_take_tensors_are_found() -> None:
    assert {"solve", "exp_map", "straight_path", "jacobian", "log_volume", "geodesic_regression"} < TOOLS.keys()


@pytest.mark.parametrize("name", TOOLS)
def test_every_public_function_that_takes_tensors_looks_for_arrays_first(name: str) -> None:
    tool, argument = TOOLS[name]
    with pytest.raises(InputError) as error:
        tool(**{argument: np.array(["a"])})
    assert str(error.value) == (
        f"{argument}: expected an array of float32 or float64, got <U1; use {argument}.astype(float)"
    )


@pytest.fixture(scope="module")
def both() -> tuple[geodesic.GeodesicSolution, geodesic.GeodesicSolution]:
    """The answers of one search, with tensors and with arrays."""
    tensors = geodesic.solve(SPHERE, torch.as_tensor(A), torch.as_tensor(B), segments=8)
    return tensors, geodesic.solve(SPHERE, A, B, segments=8)


Solutions = tuple[geodesic.GeodesicSolution, geodesic.GeodesicSolution]


def test_the_methods_of_an_answer_in_arrays_take_and_return_arrays(both: Solutions, tmp_path: Path) -> None:
    tensors, arrays = both
    times = np.linspace(0, 1, 5)
    for known, found in (
        (tensors(0.3), arrays(0.3)),
        (tensors(torch.as_tensor(times)), arrays(times)),
        (tensors.velocity(torch.as_tensor(times)), arrays.velocity(times)),
        (tensors.length_ratio, arrays.length_ratio),
        (tensors[1].path, arrays[1].path),
        (tensors[tensors.length > 1].mesh, arrays[arrays.length > 1].mesh),
    ):
        assert isinstance(known, Tensor)
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, known, **LOOSE)
    assert isinstance(arrays[1], geodesic.GeodesicSolution)
    assert arrays.summary() == tensors.summary()
    arrays.save(tmp_path / "solution.npz")
    again = geodesic.GeodesicSolution.load(tmp_path / "solution.npz")
    torch.testing.assert_close(again.path, torch.as_tensor(arrays.path), rtol=0, atol=0)


def test_an_answer_in_arrays_is_taken_by_other_tools(both: Solutions) -> None:
    tensors, arrays = both
    v = np.ones_like(A)
    known = geodesic.parallel_transport(SPHERE, tensors, torch.as_tensor(v)).vector
    found = geodesic.parallel_transport(SPHERE, arrays, v).vector
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, known, **LOOSE)


def test_with_one_tensor_among_the_arguments_the_answer_is_in_tensors(both: Solutions) -> None:
    tensors, arrays = both
    assert isinstance(geodesic.solve(SPHERE, A, torch.as_tensor(B), segments=8).path, Tensor)
    assert isinstance(geodesic.log_map(SPHERE, A, B, solution=tensors, follow=DISCRETE).vector, Tensor)
    answer = geodesic.log_map(SPHERE, A, B, solution=arrays, follow=DISCRETE)
    assert isinstance(answer.vector, np.ndarray)
    assert isinstance(answer.solution.path, np.ndarray)
    assert isinstance(tensors(np.array([0.5])), Tensor)
    assert isinstance(arrays(torch.tensor([0.5])), Tensor)


DISCRETE = geodesic.Follow(method="discrete")


def test_a_search_takes_arrays_and_does_not_decide_what_the_answer_is() -> None:
    path = np.linspace(A, B, 9, axis=1)
    path[:, 0], path[:, -1] = A, B
    for search in (
        geodesic.Search(init=path),
        geodesic.Search(init="graph", graph_points=np.random.default_rng(0).normal(1, 0.3, (40, 2)), segments=8),
    ):
        found = geodesic.distance(SPHERE, A, B, search=search)
        known = geodesic.distance(SPHERE, torch.as_tensor(A), torch.as_tensor(B), search=search)
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, known, **LOOSE)
    assert isinstance(geodesic.solve(SPHERE, A, B, init=path).path, np.ndarray)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_of_an_array_stays(dtype: type) -> None:
    found = geodesic.straight_path(A.astype(dtype), B.astype(dtype), 4)
    assert found.dtype == geodesic.magnification_factor(SPHERE, A.astype(dtype)).dtype == dtype


def test_arrays_of_any_layout_are_taken_and_left_alone() -> None:
    known = geodesic.magnification_factor(SPHERE, A)
    wide = np.zeros((2, 4))
    wide[:, ::2] = A
    backwards = np.ascontiguousarray(A[::-1])[::-1]
    for given in (backwards, wide[:, ::2], np.asfortranarray(A), A.astype(">f8")):
        given.flags.writeable = False
        np.testing.assert_array_equal(geodesic.magnification_factor(SPHERE, given), known)


def test_scalars_of_numpy_are_numbers(both: Solutions) -> None:
    for solution, kind in zip(both, (Tensor, np.ndarray), strict=True):
        found = solution(np.float32(0.5))
        assert isinstance(found, kind)
        np.testing.assert_array_equal(found, solution(0.5))
    assert geodesic.straight_path(torch.zeros(2), torch.ones(2), np.int64(4)).shape == (5, 2)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (
            np.zeros(2, dtype=int),
            r"start: expected floating point, .* use start.double\(\), or start.astype\(float\) of",
        ),
        (
            np.array([None, 1.0]),
            r"start: expected an array of float32 or float64, got object; use start.astype\(float\)",
        ),
        (np.zeros(2, dtype=np.float16), "start: expected floating point, float32 or float64, got torch.float16"),
        (np.ma.masked_greater(np.array([1.0, 2.0]), 1.5), "start: expected an array without masked entries; leave out"),
        (np.array([np.nan, 1.0]), r"start: expected finite coordinates, got nan at \[0\]"),
    ],
)
def test_arrays_that_are_no_points_are_refused_with_the_remedy(start: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        geodesic.solve(SPHERE, start, np.ones(2))


def test_weights_of_another_dtype_are_said_with_what_converts_an_array() -> None:
    manifold = geodesic.PullbackManifold(nn.Linear(2, 3).float())
    with pytest.raises(DecoderError, match=r"or .float\(\) on the points, .astype\('float32'\) where they are arrays"):
        geodesic.solve(manifold, A, B)


def test_nothing_is_kept_for_gradients_that_arrays_have_not() -> None:
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))
    seen = []

    def decoder(z: Tensor) -> Tensor:
        y = net(z)
        seen.append(y.requires_grad)
        return y

    manifold = geodesic.PullbackManifold(decoder)
    path = np.linspace(A, B, 5, axis=1)
    geodesic.path_energy(manifold, torch.as_tensor(path))
    assert seen[-1]
    geodesic.path_energy(manifold, path)
    assert not seen[-1]


def test_methods_of_a_manifold_take_tensors_and_say_so() -> None:
    with pytest.raises(InputError, match=r"^points: expected a tensor, got ndarray; use torch.as_tensor\(points\)"):
        inspect.unwrap(Door.findings)(geodesic.PullbackManifold(lambda z: z).door, A)  # which all of them ask
