"""What arguments are refused for: the argument is named, with what was expected and what was received."""

import inspect
import math
from typing import Any

import pytest
import torch

from geodesic import checks
from geodesic.errors import InputError

# Without the type checker that watches the tests: a user has none.
require = {name: inspect.unwrap(getattr(checks, name)) for name in checks.__all__}


@pytest.mark.parametrize(
    ("check", "arguments", "message"),
    [
        ("require_integer", {"value": True, "least": 1}, "n: expected an integer of at least 1, got True"),
        ("require_integer", {"value": 2.0}, "n: expected an integer, got 2.0"),
        ("require_integer", {"value": 5, "least": 1, "most": 4}, "n: expected an integer from 1 to 4, got 5"),
        ("require_integer", {"value": 5, "most": 4}, "n: expected an integer of at most 4, got 5"),
        ("require_positive", {"value": math.inf}, "n: expected a positive number, got inf"),
        ("require_positive", {"value": math.nan}, "n: expected a positive number, got nan"),
        ("require_positive", {"value": 0, "optional": True}, "n: expected a positive number or None, got 0"),
        ("require_positive", {"value": None}, "n: expected a positive number, got None"),
        ("require_nonnegative", {"value": math.inf}, "n: expected a finite number of at least 0, got inf"),
        ("require_fraction", {"value": 1.0}, "n: expected a number between 0 and 1, got 1.0"),
        ("require_choice", {"value": "c", "choices": ("a", "b")}, "n: expected one of 'a', 'b', got 'c'"),
        ("require_choice", {"value": 1, "choices": ("a", "b")}, "n: expected one of 'a', 'b', got 1"),
        ("require_flag", {"value": 1}, "n: expected True or False, got 1"),
        (
            "require_tensor",
            {"value": [1.0]},
            r"n: expected a tensor, got list; use torch.as_tensor\(n\) or numpy.asarray\(n\)",
        ),
        ("require_floating", {"value": torch.ones(2).long()}, r"n: expected floating point, .* use n.double\(\)"),
        ("require_finite", {"value": torch.tensor([[0.0, math.nan]])}, r"n: expected finite .* got nan at \[0, 1\]"),
        ("require_cloud", {"points": torch.zeros(3)}, r"n: expected latent points of shape \(N, d\)"),
        ("require_cloud", {"points": torch.zeros(3, 2), "size": 3}, r"n: .* \(N, 3\), N at least 1, got \(3, 2\)"),
        ("require_cloud", {"points": torch.zeros(0, 2)}, "n: .* N at least 1"),
        ("require_cloud", {"points": torch.tensor([[1.0], [math.inf]])}, r"n: .* got \(inf\) in row 1; remove it"),
    ],
)
def test_what_cannot_be_used_is_named(check: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        require[check]("n", **arguments)


@pytest.mark.parametrize(
    ("latent_shape", "start", "end", "message"),
    [
        (None, [0.0], torch.zeros(2), "start: expected a tensor"),
        (
            None,
            torch.zeros(2),
            torch.zeros(2).half(),
            "end: expected floating point, .* got torch.float16",
        ),
        (None, torch.tensor(1.0), torch.tensor(1.0), "start: expected shape .* with at least one point"),
        (None, torch.zeros(0, 2), torch.zeros(0, 2), "start: .* with at least one point"),
        ((2, 2), torch.zeros(3, 4), torch.zeros(3, 4), r"start: .* latent_shape, \(\*batch, 2, 2\), got \(3, 4\)"),
        (
            None,
            torch.zeros(2),
            torch.zeros(3, 2),
            r"end: expected the shape of start, .* got \(3, 2\); .*expand_as",
        ),
        (None, torch.zeros(2).float(), torch.zeros(2).double(), "end: expected the dtype of start, torch.float32"),
        (None, torch.zeros(2), torch.zeros(2, device="meta"), "end: it is on the meta device"),
        (None, torch.zeros(2), torch.tensor([0.0, math.inf]), "end: expected finite coordinates, got inf"),
    ],
)
def test_endpoints_that_do_not_go_together_are_named(latent_shape: Any, start: Any, end: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        require["require_points"](latent_shape, start=start, end=end)


@pytest.mark.parametrize(
    ("start", "end", "shape"),
    [((2,), (5, 2), (5, 2)), ((5, 2), (2,), (5, 2)), ((3, 1, 2), (4, 2), (3, 4, 2)), ((1, 2), (2,), (1, 2))],
)
def test_leading_axes_of_endpoints_are_broadcast(start: Any, end: Any, shape: Any) -> None:
    a, b = checks.broadcast_points(None, torch.randn(start), torch.randn(end))
    assert a.shape == b.shape == shape


def test_points_themselves_are_not_broadcast() -> None:
    for start, end in (((1,), (5, 2)), ((3, 2), (2, 2)), ((), (2,))):
        a, b = checks.broadcast_points(None, torch.zeros(start), torch.zeros(end))
        assert (a.shape, b.shape) == (start, end)
    a, b = checks.broadcast_points((2, 2), torch.zeros(2, 2), torch.zeros(5, 2, 2))
    assert a.shape == b.shape == (5, 2, 2)


def test_no_value_is_long_in_a_message() -> None:
    for value in (torch.randn(1000), torch.randn(50, 50), list(range(1000)), {"a": torch.randn(1000)}):
        assert len(checks.brief(value)) < 100


def test_what_can_be_used_passes() -> None:
    checks.require_integer("n", 3, least=3, most=3)
    checks.require_positive("n", 1)
    checks.require_positive("n", None, optional=True)
    checks.require_nonnegative("n", 0)
    checks.require_fraction("n", 0.5)
    checks.require_choice("n", "a", ("a", "b"))
    checks.require_flag("n", False)
    checks.require_cloud("n", torch.zeros(3, 2), size=2)
    checks.require_points((2, 2), start=torch.zeros(5, 2, 2), end=torch.ones(5, 2, 2))
    checks.require_alike(start=torch.zeros(0, 2), end=torch.zeros(0, 2))
    assert checks.is_number(1)
    assert not any(map(checks.is_number, (True, math.nan, "1")))
