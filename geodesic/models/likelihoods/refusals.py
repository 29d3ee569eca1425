"""Values that a likelihood gives no density to."""

from __future__ import annotations

import math

from torch import Tensor

from geodesic.errors import DataError

__all__ = ["check_counts", "check_unit_interval", "check_whole_numbers", "refuse", "require_some"]


def require_some(values: Tensor) -> None:
    """Raise `DataError` unless there are rows."""
    if values.numel() == 0:
        raise DataError("values: expected at least one row, got none")


def check_unit_interval(values: Tensor, likelihood: str) -> None:
    """Raise `DataError` unless all values lie in [0, 1]."""
    require_some(values)
    low, high = values.min().item(), values.max().item()
    if not (low >= 0 and high <= 1):  # written so that NaN is refused as well
        raise DataError(
            f"values: the {likelihood} likelihood takes values in [0, 1], "
            f"got values from {low:.6g} to {high:.6g}; "
            "rescale the data, for images by dividing by their largest possible value"
        )


def check_counts(values: Tensor, likelihood: str) -> None:
    """Raise `DataError` unless all values are counts."""
    remedy = (
        "round the values, multiply gray values in [0, 1] by their number of levels first, or choose a likelihood "
        "of such values: gaussian, or in [0, 1] continuous_bernoulli"
    )
    check_whole_numbers(values, likelihood, "the counts 0, 1, 2, ...", remedy, highest=math.inf)


def check_whole_numbers(values: Tensor, likelihood: str, accepted: str, remedy: str, highest: int | float) -> None:
    """Raise `DataError` unless all values are whole numbers from 0 to the highest."""
    require_some(values)
    whole = values.isfinite() & (values == values.floor())
    refuse(values, ~(whole & (values >= 0) & (values <= highest)), likelihood, accepted, remedy)


def refuse(values: Tensor, bad: Tensor, likelihood: str, accepted: str, remedy: str) -> None:
    """Raise `DataError` with the first bad value, if there is one."""
    if not bad.any():
        return
    index = tuple(bad.nonzero()[0].tolist())
    raise DataError(
        f"values: the {likelihood} likelihood takes {accepted}, got {values[index].item():.6g} at {index}, the first "
        f"of {int(bad.sum())} such values; {remedy}"
    )
