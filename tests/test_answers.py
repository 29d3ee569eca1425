"""What all answers of the Riemannian tools have in common, and the records that they are computed with."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import geodesic
from geodesic import keywords
from geodesic.riemannian.records import Record
from geodesic.solvers.answer import Answer

ANSWERS = [name for name in geodesic.riemannian.__all__ if dataclasses.is_dataclass(getattr(geodesic.riemannian, name))]


@pytest.mark.parametrize("name", ANSWERS)
def test_every_tool_answers_with_a_frozen_record_that_becomes_arrays(name: str) -> None:
    kind = getattr(geodesic.riemannian, name)
    assert issubclass(kind, Answer)
    assert kind.__dataclass_params__.frozen


def test_the_arrays_of_an_answer_are_its_tensors_under_their_names() -> None:
    plane = geodesic.PullbackManifold(lambda z: 2 * z)
    a, b = torch.randn(2, 3, 2)
    answer = geodesic.log_map(
        plane, a, b, follow=geodesic.Follow(method="discrete"), search=geodesic.Search(segments=2)
    )
    arrays = answer.arrays("log_")
    fields = {field.name for field in dataclasses.fields(answer)} - {"solution", "method"}
    assert arrays.keys() == {f"log_{name}" for name in fields} | {"log_status_name", "log_method"}
    assert arrays["log_method"] == "discrete"
    assert [geodesic.Status[name] for name in arrays["log_status_name"]] == answer.status.tolist()
    for name in fields:
        np.testing.assert_array_equal(arrays[f"log_{name}"], getattr(answer, name).numpy())


def tool_of(name: str) -> Callable[..., Any]:
    """A tool by its name, wherever it lives."""
    return getattr(geodesic if hasattr(geodesic, name) else geodesic.riemannian, name)


OLD = [
    ("frechet_mean", {"segments": 8}, "search=Search(segments=...)"),
    ("frechet_median", {"paths": "graph"}, "search=Search(init=...)"),
    ("frechet_variance", {"init": None}, "initial_point"),
    ("k_means", {"init": None}, "initial_points"),
    ("k_medoids", {"memory": 1e9}, "search=Search(memory=...)"),
    ("principal_geodesic_analysis", {"graph_points": None}, "search=Search(graph_points=...)"),
    ("geodesic_regression", {"rtol": 1e-6}, "follow=Follow(rtol=...)"),
    ("principal_geodesic_analysis", {"method": "ode"}, "follow=Follow(method=...)"),
    ("k_means", {"tol": 1e-6}, "stop=Stop(tol=...)"),
    ("frechet_mean", {"max_iterations": 8}, "stop=Stop(max_iterations=...)"),
    ("riemannian_normal", {"segments": 8}, "follow=Follow(segments=...)"),
    ("random_walk", {"max_iterations": 8}, "follow=Follow(max_iterations=...)"),
    ("distance", {"segments": 8}, "search=Search(segments=...)"),
    ("length_ratio", {"a": 8}, "start"),
    ("log_map", {"b": 8}, "end"),
    ("analogy", {"init": "graph"}, "search=Search(init=...)"),
    ("parallel_transport", {"method": "projection"}, "transport"),
    ("exp_map", {"max_steps": 8}, "follow=Follow(max_iterations=...)"),
    ("exp_map", {"method": "discrete"}, "follow=Follow(method=...)"),
    ("log_map", {"rtol": 1e-6}, "follow=Follow(rtol=...)"),
    ("log_map", {"segments": 8}, "search=Search(segments=...)"),
    ("analogy", {"method": "discrete"}, "follow=Follow(method=...)"),
    ("jacobi_field", {"segments": 8}, "follow=Follow(segments=...)"),
    ("conjugate_points", {"max_iterations": 8}, "follow=Follow(max_iterations=...)"),
    ("is_minimizing", {"method": "ode"}, "follow=Follow(method=...)"),
    ("is_minimizing", {"graph_points": None}, "search=Search(graph_points=...)"),
    ("distance", {"points": None}, "search=Search(graph_points=...)"),
    ("k_medoids", {"paths": "graph"}, "search=Search(init=...)"),
    ("analogy", {"method": "pole_ladder"}, "transport"),
    ("solve", {"points": None}, "graph_points"),
    ("solve", {"paths": None}, "init"),
    ("graph_path", {"points": None}, "graph_points"),
    ("train_vae", {"seed": 1}, "training=Training(seed=...)"),
]


@pytest.mark.parametrize(("tool", "old", "new"), OLD)
def test_old_names_are_unknown_and_the_error_names_the_new_one(tool: str, old: dict, new: str) -> None:
    (name,) = old
    points = (torch.zeros(4, 2),) * 4
    with pytest.raises(geodesic.errors.InputError) as error:
        tool_of(tool)(geodesic.surfaces.StereographicSphere(), *points[: 1 if tool == "frechet_variance" else 2], **old)
    assert str(error.value) == f"{name}: unknown argument; it is `{new}` now"


SLIPS = [
    ("solve", {"search": geodesic.Search()}, "`solve` takes the settings of a Search as plain keywords"),
    ("solve", {"max_iterations": 5}, "the limit of a solver is `max_steps`"),
    ("parallel_transport", {"stop": geodesic.Stop()}, "`tol` is a plain keyword here"),
    ("k_means", {"initial_point": None}, "it is `initial_points` here"),
    ("frechet_mean", {"initial_points": None}, "it is `initial_point` here"),
    ("frechet_median", {"initial_points": None}, "it is `initial_point` here"),
]


@pytest.mark.parametrize(("tool", "slip", "hint"), SLIPS)
def test_arguments_of_other_tools_are_refused_with_what_to_write(tool: str, slip: dict, hint: str) -> None:
    (name,) = slip
    with pytest.raises(geodesic.errors.InputError, match=f"^{name}: unknown argument; {re.escape(hint)}"):
        getattr(geodesic, tool)(geodesic.surfaces.Torus(), torch.zeros(2), None, **slip)


def make(record: type, *args: object, **settings: object) -> None:
    """A record of settings without the type checker that watches the tests, which refuses names before we do."""
    init = inspect.unwrap(record.__init__, stop=lambda layer: layer.__code__.co_filename == keywords.__file__)
    init(object.__new__(record), *args, **settings)


@pytest.mark.parametrize(
    ("record", "slip", "hint"),
    [
        (geodesic.Search, {"max_iterations": 5}, "the limit of a solver is `max_steps`"),
        (geodesic.Search, {"points": None}, "it is `graph_points`"),
        (geodesic.Follow, {"max_steps": 5}, "steps of an integration have the limit `max_iterations`"),
        (geodesic.Stop, {"max_steps": 5}, "it is `max_iterations` here"),
    ],
)
def test_settings_of_other_records_are_refused_with_what_to_write(record: type, slip: dict, hint: str) -> None:
    (name,) = slip
    with pytest.raises(geodesic.errors.InputError, match=f"^{name}: unknown argument; {re.escape(hint)}"):
        make(record, **slip)
    with pytest.raises(TypeError, match="nonsense"):
        make(record, nonsense=16)


@pytest.mark.parametrize("record", [geodesic.Search, geodesic.Follow, geodesic.Stop])
def test_settings_without_names_are_refused_with_an_example(record: type) -> None:
    message = rf"^{record.__name__}: settings have names, as in {record.__name__}\(.+\), got int"
    with pytest.raises(geodesic.errors.InputError, match=message):
        make(record, 16)


POINTS = torch.tensor([[0.5, 0.2], [1.0, 0.4], [0.8, -0.3]], dtype=torch.float64)
PAIR, CLOUD = (POINTS[0], POINTS[1]), (POINTS,)
SEARCHING = {
    "log_map": PAIR,
    "distance": PAIR,
    "length_ratio": PAIR,
    "analogy": (*PAIR, POINTS[2]),
    "frechet_mean": CLOUD,
    "frechet_median": CLOUD,
    "k_means": (*CLOUD, 2),
    "k_medoids": (*CLOUD, 2),
    "principal_geodesic_analysis": CLOUD,
    "geodesic_regression": (POINTS[:, 0], POINTS),
    "distance_matrix": CLOUD,
    "nearest": (*CLOUD, None, 2),
    "is_minimizing": None,
}


def test_all_tools_that_take_a_search_are_listed() -> None:
    known = {name: tool_of(name) for name in (*geodesic.__all__, *geodesic.riemannian.__all__)}
    tools = {name: tool for name, tool in known.items() if inspect.isfunction(tool)}
    taking = {name for name, tool in tools.items() if "search" in inspect.signature(tool).parameters}
    assert taking == SEARCHING.keys()


@pytest.mark.parametrize("tool", SEARCHING)
@pytest.mark.parametrize(
    ("search", "got"),
    [({"segments": 8}, "dict"), (geodesic.Follow(), "Follow"), (geodesic.Search, "the class Search itself")],
)
def test_what_is_no_search_is_refused_by_every_tool(tool: str, search: object, got: str) -> None:
    manifold, arguments = geodesic.surfaces.StereographicSphere(), SEARCHING[tool]
    if arguments is None:
        arguments = (geodesic.solve(manifold, *PAIR, segments=4),)
    # Without the type checker that watches the tests: a user has none.
    with pytest.raises(geodesic.errors.InputError) as error:
        inspect.unwrap(tool_of(tool))(manifold, *arguments, search=search)
    assert str(error.value) == f"search: expected a Search, such as Search(segments=16), got {got}"


def test_a_solution_is_an_answer_as_those_of_the_tools() -> None:
    assert issubclass(geodesic.GeodesicSolution, Answer)


@pytest.mark.slow
def test_an_analogy_ends_as_the_first_of_its_parts_that_does_not_converge() -> None:
    points = torch.tensor([[0.2, 0.1], [0.5, 0.3], [-0.2, 0.4]])
    few = geodesic.analogy(geodesic.surfaces.StereographicSphere(), *points, follow=geodesic.Follow(max_iterations=1))
    assert few.status == geodesic.Status.MAX_ITERATIONS
    assert few.transport_status == geodesic.Status.CONVERGED
    assert few.summary().startswith("0 of 1 rows converged\n1 max_iterations: ")
    answer = geodesic.analogy(geodesic.surfaces.StereographicSphere(), *points)
    assert bool(answer.converged)
    assert 0 < answer.error < 1e-3


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_says_in_its_own_words_what_its_base_record_means_there(name: str) -> None:
    text = getattr(geodesic.riemannian, name).__doc__
    assert all(f"        {field.name}: " in text for field in dataclasses.fields(Answer))


def test_modes_of_derivatives_are_named_where_they_were_methods() -> None:
    z, path = torch.ones(1, 2), torch.zeros(3, 2)
    for call in (
        lambda: geodesic.autodiff.jvp(torch.sin, z, z, method="forward"),
        lambda: geodesic.autodiff.jacobian(torch.sin, z, method="jvp"),
        lambda: geodesic.encoder_direction(geodesic.surfaces.Torus(), path, torch.sin, method="forward"),
    ):
        with pytest.raises(geodesic.errors.InputError, match="method: unknown argument; it is `mode` now"):
            call()


@dataclass(frozen=True)
class Inner(Record):
    """A record within a record."""

    size: Tensor


@dataclass(frozen=True)
class Outer(Record):
    """Rows, rows of rows, and what belongs to all."""

    name: str
    point: Tensor
    inner: Inner


def test_rows_of_a_record_are_taken_and_put_back_in_all_its_tensors() -> None:
    record = Outer("all", torch.randn(5, 2), Inner(torch.randn(5)))
    rows = torch.tensor([3, 1])
    some = record.of(rows)
    assert some.name == "all"
    assert torch.equal(some.point, record.point[rows])
    assert torch.equal(some.inner.size, record.inner.size[rows])
    other = record.replaced(rows, Outer("other", torch.zeros(2, 2), Inner(torch.zeros(2))))
    assert other.name == "all"
    assert (other.point == 0).all(-1).tolist() == (other.inner.size == 0).tolist() == [False, True, False, True, False]
    again = other.replaced(rows, some)
    assert torch.equal(again.point, record.point)
    assert torch.equal(again.inner.size, record.inner.size)
