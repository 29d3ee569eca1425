"""Laws of what knows tensors only: block tridiagonal matrices, conjugate gradients, backtracking, splines."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from geodesic.numerics.block_tridiagonal import BlockTridiagonal, products_of_neighbors
from geodesic.numerics.conjugate_gradients import Systems, conjugate_gradients
from geodesic.numerics.line_search import Trial, backtrack, least_of_parabola
from geodesic.numerics.spline import at_midpoints, like, on_interval, on_segments, spline_at, spline_matrices


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 31])
@pytest.mark.parametrize("d", [1, 3])
def test_cyclic_reduction_solves_and_tells_definite_matrices_from_others(n: int, d: int) -> None:
    factor = torch.zeros(3, n * d, n * d)
    for i in range(n):
        factor[:, i * d : i * d + d, i * d : i * d + d] = torch.randn(3, d, d).tril() + 3 * torch.eye(d)
        if i:
            factor[:, i * d : i * d + d, i * d - d : i * d] = torch.randn(3, d, d)
    dense = factor @ factor.mT
    dense[1] -= 1.01 * torch.linalg.eigvalsh(dense[1])[0] * torch.eye(n * d)  # just indefinite
    blocks = dense.reshape(3, n, d, n, d).transpose(2, 3)
    diagonal = torch.stack([blocks[:, i, i] for i in range(n)], dim=1)
    upper = torch.stack([blocks[:, i, i + 1] for i in range(n - 1)], dim=1) if n > 1 else torch.zeros(3, 0, d, d)
    right = torch.randn(3, n, d)
    factors = BlockTridiagonal(diagonal, upper).cholesky()
    assert factors.positive.tolist() == [True, False, True]
    expected = torch.linalg.solve(dense, right.reshape(3, -1)).reshape(3, n, d)
    actual = factors.solve(right)
    torch.testing.assert_close(actual[[0, 2]], expected[[0, 2]], rtol=1e-8, atol=1e-10)
    assert actual[1].isnan().all()
    torch.testing.assert_close(factors[torch.tensor([2])].solve(right[[2]]), actual[[2]], rtol=0, atol=0)


def definite(rows: int, d: int) -> Tensor:
    A = torch.randn(rows, d, d)
    return A @ A.mT + torch.eye(d)


def times(H: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda p: (H @ p[..., None])[..., 0]


def test_conjugate_gradients_solve_each_row_within_as_many_products_as_it_has_numbers() -> None:
    H, b = definite(4, 6), torch.randn(4, 6)
    exact = torch.linalg.solve(H, b[..., None])[..., 0]
    for precondition in (None, lambda r: r / H.diagonal(dim1=-2, dim2=-1)):
        found = conjugate_gradients(Systems(times(H), precondition), b, max_products=12)
        torch.testing.assert_close(found.solution, exact, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(found.form, (b * exact).sum(-1), rtol=1e-8, atol=0)
        assert found.positive.all()


def test_the_form_grows_with_the_products_towards_its_value() -> None:
    H, b = definite(3, 8), torch.randn(3, 8)
    forms = torch.stack([conjugate_gradients(Systems(times(H)), b, max_products=k).form for k in range(9)])
    exact = (b * torch.linalg.solve(H, b[..., None])[..., 0]).sum(-1)
    assert (forms[0] == 0).all()
    assert (forms.diff(dim=0) > 0).all()
    assert (forms <= exact * (1 + 1e-10)).all()


def test_the_form_and_twice_its_estimated_rest_bound_the_value_to_a_few_percent_long_before_a_solution() -> None:
    d = 200
    H = 10 ** -torch.linspace(0, 3, d).expand(8, d)
    b = torch.randn(8, d) * H.sqrt()
    b[4:, 0] *= 1e3  # a stiff direction, which the first step sees alone
    exact = (b.square() / H).sum(-1)
    found = conjugate_gradients(Systems(lambda p: H * p), b, max_products=40, accuracy=0.3, share=0.1)
    assert (found.form[:4] < 0.97 * exact[:4]).all()
    assert (found.form + 2 * found.rest > 0.97 * exact).all()
    assert (found.form + 2 * found.rest < 1.2 * exact).all()


def test_a_row_stops_at_its_accuracy_and_at_negative_curvature_and_the_others_go_on() -> None:
    H, b = definite(3, 6), torch.randn(3, 6)
    H[1] = -H[1]
    accuracy = torch.tensor([0.5, 0.0, 0.0])
    found = conjugate_gradients(Systems(times(H)), b, max_products=12, accuracy=accuracy)
    assert found.positive.tolist() == [True, False, True]
    left = (b - times(H)(found.solution)).norm(dim=-1) / b.norm(dim=-1)
    assert 1e-8 < left[0] <= 0.5
    assert left[2] < 1e-8
    assert torch.equal(found.solution[1], b[1])  # a direction of descent
    alone = conjugate_gradients(Systems(times(H[2:])), b[2:], max_products=12)
    torch.testing.assert_close(found.solution[2:], alone.solution, rtol=1e-12, atol=1e-14)


def test_rows_that_have_ended_leave_and_change_nothing_for_the_others() -> None:
    H, b = definite(5, 8), torch.randn(5, 8)
    accuracy, worked = torch.tensor([0.5, 0.0, 0.5, 0.5, 0.5]), []

    def systems(H: Tensor) -> Systems:
        def product(p: Tensor) -> Tensor:
            worked.append(len(p))
            return times(H)(p)

        return Systems(product, None, lambda rows: systems(H[rows]))

    found = conjugate_gradients(systems(H), b, max_products=16, accuracy=accuracy)
    assert worked[0] == 5
    assert worked[-1] == 1
    for i in range(5):
        alone = conjugate_gradients(
            Systems(times(H[i : i + 1])), b[i : i + 1], max_products=16, accuracy=accuracy[i : i + 1]
        )
        for one, other in zip(found, alone, strict=True):
            torch.testing.assert_close(one[i], other[0], rtol=1e-10, atol=1e-12)


def test_a_row_ends_where_its_form_decides_and_not_before() -> None:
    H, b = definite(3, 8), torch.randn(3, 8)
    exact = (b * torch.linalg.solve(H, b[..., None])[..., 0]).sum(-1)
    limit = torch.tensor([0.5, 0.9, 2.0]) * exact

    def decided(form: Tensor, rest: Tensor, left: Tensor, rows: Tensor) -> Tensor:
        return form > limit[rows]

    found = conjugate_gradients(Systems(times(H)), b, max_products=12, decided=decided)
    before = [conjugate_gradients(Systems(times(H)), b, max_products=k).form for k in range(13)]
    for i in range(2):
        steps = [float(form[i]) for form in before]
        assert float(found.form[i]) == pytest.approx(next(x for x in steps if x > limit[i]), rel=1e-12)
    torch.testing.assert_close(found.form[2], exact[2], rtol=1e-8, atol=0)


def test_a_right_side_of_zeros_takes_no_product() -> None:
    def forbidden(_: Tensor) -> Tensor:
        raise AssertionError("a product was taken")

    found = conjugate_gradients(Systems(forbidden), torch.zeros(2, 3, 4), max_products=5)
    assert not found.solution.any()
    assert not found.form.any()
    assert found.positive.all()


def test_backtracking_takes_the_first_good_step_of_each_row_and_leaves_failed_rows_where_they_were() -> None:
    x = torch.tensor([1.0, 1.0, 1.0])
    longest = torch.tensor([1.0, 0.3, -1.0])  # the last row refuses every step

    def trial(rows: Tensor, step: Tensor) -> Trial:
        return Trial(step <= longest[rows], lambda: (x[rows] - step,), step / 2)

    (reached,), step, failed = backtrack(trial, (x,), torch.ones(3), max_trials=10)
    assert reached.tolist() == [0.0, 0.75, 1.0]
    assert step[:2].tolist() == [1.0, 0.25]
    assert failed.tolist() == [False, False, True]
    assert x.tolist() == [1.0, 1.0, 1.0]
    some = backtrack(trial, (x,), torch.ones(3), torch.tensor([1]), smallest=0.6)
    assert some.failed.tolist() == [True, True, True]


def test_the_next_step_is_the_least_of_the_parabola_between_a_tenth_and_a_half() -> None:
    step, slope = torch.ones(4), torch.ones(4)
    rise = torch.tensor([1.0, 100.0, -0.9, torch.nan])
    assert least_of_parabola(step, slope, rise).tolist() == [0.25, 0.1, 0.5, 0.5]


def test_the_spline_is_exact_for_cubics_with_its_derivatives_and_its_quadrature() -> None:
    T, t = 7, np.linspace(0, 1, 8)

    def cubic(t: np.ndarray, order: int = 0) -> np.ndarray:
        return (
            np.polynomial.Polynomial([1.0, -2.0, 0.5, 3.0]).deriv(order)(t)
            if order
            else 1 - 2 * t + t**2 / 2 + 3 * t**3
        )

    fine, middle = np.linspace(0, 1, 21), (np.arange(T) + 0.5) / T
    for matrix, order in zip(spline_matrices(T, 20), (0, 1), strict=True):
        np.testing.assert_allclose(matrix @ cubic(t), cubic(fine, order), rtol=1e-12, atol=1e-12)
    nodes = torch.as_tensor(cubic(t))[:, None]
    for found, order in zip(at_midpoints(nodes), (0, 1, 2), strict=True):
        np.testing.assert_allclose(found[:, 0], cubic(middle, order), rtol=1e-11, atol=1e-11)
    weights = on_interval()[1]
    assert weights.sum() == pytest.approx(1)
    value, rate = (x[..., 0].numpy() for x in on_segments(nodes))
    assert (rate @ weights).sum() == pytest.approx(cubic(np.array(1.0)) - cubic(np.array(0.0)))
    assert (value @ weights).mean() == pytest.approx(1 - 1 + 1 / 6 + 3 / 4)
    np.testing.assert_allclose(spline_at(T, t)[0], np.eye(T + 1), atol=1e-14)
    (single,) = like(torch.zeros(1, dtype=torch.float32), weights)
    assert single.dtype == torch.float32


@pytest.mark.parametrize("n", [1, 2, 4, 5, 6, 9, 13])
def test_products_of_neighbors_are_those_of_each_two(n: int) -> None:
    for paths in (1, 3):
        rows = torch.randn(paths, n, 2, 7)
        diagonal, upper = products_of_neighbors(rows)
        torch.testing.assert_close(diagonal, rows @ rows.mT)
        torch.testing.assert_close(upper, rows[:, :-1] @ rows[:, 1:].mT)
