"""What arguments are refused for, said once: integers, ranges, tensors that do not go together."""

from __future__ import annotations

import difflib
import math
import sys
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeGuard

from geodesic.errors import GeodesicWarning, InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "brief",
    "broadcast_points",
    "is_integer",
    "is_number",
    "nearest",
    "require_alike",
    "require_choice",
    "require_cloud",
    "require_finite",
    "require_flag",
    "require_floating",
    "require_fraction",
    "require_integer",
    "require_nonnegative",
    "require_points",
    "require_positive",
    "require_same_type",
    "require_tensor",
    "warn",
]

# --- warnings ---------------------------------------------------------------------------------


def warn(text: str) -> None:
    """Issue a `GeodesicWarning` at the line that called us, through however many functions of our own.

    Example:
        >>> import warnings
        >>> from geodesic.checks import warn
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn("two of three did not converge")
        >>> print(caught[0].message)
        two of three did not converge
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "geodesic":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, GeodesicWarning, stacklevel=level)


# --- numbers and words ------------------------------------------------------------------------


def require_integer(
    name: str, value: object, least: int | None = None, most: int | None = None, *, note: str = ""
) -> None:
    """Refuse what is no integer, or lies outside a range; True and False are no integers.

    Args:
        name: The user's argument.
        value: What was given for it.
        least: The least that is allowed, if any.
        most: The most that is allowed, if any.
        note: What the range means, for the message.

    Raises:
        InputError: With the argument's name, what was expected and what was received.

    Example:
        >>> from geodesic.checks import require_integer
        >>> require_integer("segments", 32, least=2)
    """
    whole = is_integer(value)
    if whole and (least is None or value >= least) and (most is None or value <= most):  # type: ignore[operator]
        return
    if least is not None and most is not None:
        expected = f"an integer from {least} to {most}"
    elif least is not None:
        expected = f"an integer of at least {least}"
    elif most is not None:
        expected = f"an integer of at most {most}"
    else:
        expected = "an integer"
    raise InputError(f"{name}: expected {expected}{f' ({note})' if note else ''}, got {value!r}")


def is_integer(value: object) -> TypeGuard[int]:
    """Whether it is an integer; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is an integer or a float, not a boolean and not NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def require_positive(name: str, value: Any, *, optional: bool = False) -> None:
    """Refuse what is no finite number above 0; None is allowed where the argument is optional.

    Raises:
        InputError: With the argument's name, what was expected and what was received.
    """
    if optional and value is None:
        return
    if not (is_number(value) and 0 < value < math.inf):
        expected = "a positive number or None" if optional else "a positive number"
        raise InputError(f"{name}: expected {expected}, got {value!r}")


def require_nonnegative(name: str, value: Any) -> None:
    """Refuse what is no finite number of at least 0.

    Raises:
        InputError: With the argument's name, what was expected and what was received.
    """
    if not (is_number(value) and 0 <= value < math.inf):
        raise InputError(f"{name}: expected a finite number of at least 0, got {value!r}")


def require_fraction(name: str, value: Any, *, optional: bool = False) -> None:
    """Refuse what is no number between 0 and 1, both excluded, and no None that stands for nothing.

    Raises:
        InputError: With the argument's name, what was expected and what was received.
    """
    if not (is_number(value) and 0 < value < 1) and not (optional and value is None):
        raise InputError(f"{name}: expected a number between 0 and 1, got {value!r}")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """What a message suggests for a name that is none of these; None where no public one is like it.

    Example:
        >>> from geodesic.checks import nearest
        >>> nearest("Vae", ["VAE", "Decoder"])
        "did you mean 'VAE'?"
    """
    known = {known.lower(): known for known in names if not known.startswith("_")}
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return f"did you mean {known[close[0]]!r}?" if close else None


def require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse what is not one of a few words.

    Raises:
        InputError: With the argument's name, the words and what was received.
    """
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")


def require_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False.

    Raises:
        InputError: With the argument's name and what was received.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name}: expected True or False, got {value!r}")


# --- tensors ----------------------------------------------------------------------------------
# torch is imported by the functions: settings and the command line use the checks above without it.

_MOST_SHOWN = 6  # numbers of a tensor that a message shows


def brief(value: Any) -> str:
    """A value for a message, never long: a point in a few numbers, a larger tensor by its shape and dtype.

    Example:
        >>> import torch
        >>> from geodesic.checks import brief
        >>> brief(torch.arange(100.0)), brief(torch.tensor([1.0, 2.5])), brief(torch.zeros(3, 4))
        ('(0, 1, 2, ..., 97, 98, 99; 100 numbers)', '(1, 2.5)', 'a tensor (3, 4) of torch.float32')
    """
    from torch import Tensor

    if not isinstance(value, Tensor):
        return type(value).__name__
    if value.dim() > 1:
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    numbers = [f"{x:.6g}" for x in value.detach().reshape(-1).tolist()]
    if len(numbers) <= _MOST_SHOWN:
        return f"({', '.join(numbers)})"
    half = _MOST_SHOWN // 2
    return f"({', '.join([*numbers[:half], '...', *numbers[-half:]])}; {len(numbers)} numbers)"


def broadcast_points(latent_shape: tuple[int, ...] | None, start: Any, end: Any) -> tuple[Any, Any]:
    """Two tensors of points with their leading axes broadcast: one start for many ends, say.

    What cannot be broadcast, or is no tensor, comes back as it is, for `require_points` to refuse.

    Example:
        >>> import torch
        >>> from geodesic.checks import broadcast_points
        >>> [z.shape for z in broadcast_points(None, torch.zeros(2), torch.ones(5, 2))]
        [torch.Size([5, 2]), torch.Size([5, 2])]
    """
    import torch

    axes = 1 if latent_shape is None else len(latent_shape)
    if not all(isinstance(z, torch.Tensor) and z.dim() >= axes for z in (start, end)):
        return start, end
    if start.shape == end.shape or start.shape[-axes:] != end.shape[-axes:]:
        return start, end
    try:
        batch = torch.broadcast_shapes(start.shape[:-axes], end.shape[:-axes])
    except RuntimeError:
        return start, end
    return tuple(z.expand(*batch, *z.shape[-axes:]) for z in (start, end))


def require_tensor(name: str, value: object) -> None:
    """Refuse what is no dense tensor with values.

    Raises:
        InputError: With the argument's name, what was received and, where there is a way, what makes a tensor of it.
    """
    import torch

    if not isinstance(value, torch.Tensor):
        numbers = isinstance(value, int | float | list | tuple) or hasattr(value, "__array__")
        array = "" if type(value).__module__ == "numpy" else f" or numpy.asarray({name})"
        hint = f"; use torch.as_tensor({name}){array}" if numbers else ""
        raise InputError(f"{name}: expected a tensor, got {type(value).__name__}{hint}")
    if value.is_meta:
        raise InputError(f"{name}: it is on the meta device, where tensors have no values; give one with values")
    if value.layout != torch.strided:
        raise InputError(f"{name}: expected a dense tensor, got {value.layout}; use {name}.to_dense()")


def require_floating(name: str, value: Any) -> None:
    """Refuse what is no tensor of floating point numbers.

    Raises:
        InputError: With the argument's name, its dtype and what converts it.
    """
    require_tensor(name, value)
    if not value.is_floating_point():
        raise _not_floating(name, value)


def _not_floating(name: str, value: Tensor) -> InputError:
    return InputError(
        f"{name}: expected floating point, float32 or float64, got {value.dtype}; use {name}.double(), or "
        f"{name}.astype(float) of an array"
    )


def require_finite(name: str, value: Tensor) -> None:
    """Refuse a tensor with NaN or infinity.

    Raises:
        InputError: With the argument's name, and the first such entry and its index.
    """
    if not bool(value.isfinite().all()):
        where = (~value.isfinite()).nonzero()[0].tolist()
        raise InputError(f"{name}: expected finite coordinates, got {value[tuple(where)].item()} at {where}")


def require_alike(**tensors: Any) -> None:
    """Refuse what are no floating point tensors of one shape, with at least one axis, of one dtype and device.

    Args:
        tensors: By the names of the user's arguments. The first one tells what the others have to be like.

    Raises:
        InputError: With the argument that differs, and how.
    """
    (first, expected), *_ = tensors.items()
    for name, value in tensors.items():
        require_floating(name, value)
        if value.dim() == 0:
            raise InputError(f"{name}: expected shape (*batch, d), got a single number")
    for name, value in tensors.items():
        if value.shape != expected.shape:
            same = value.shape[-1] == expected.shape[-1]
            hint = f"; {first}.expand_as({name}) repeats one for many" if same and expected.dim() == 1 else ""
            raise InputError(
                f"{name}: expected the shape of {first}, {tuple(expected.shape)}, got {tuple(value.shape)}{hint}"
            )
        require_same_type(name, value, first, expected)


def require_same_type(name: str, value: Tensor, other: str, expected: Tensor) -> None:
    """Refuse a tensor whose dtype or device is not that of another argument.

    Raises:
        InputError: With both arguments, and how they differ.
    """
    for what in ("dtype", "device"):
        if getattr(value, what) != getattr(expected, what):
            raise InputError(
                f"{name}: expected the {what} of {other}, {getattr(expected, what)}, got {getattr(value, what)}"
            )


def require_points(latent_shape: tuple[int, ...] | None = None, /, **tensors: Any) -> None:
    """Refuse what are no points, or vectors at points, of one latent space: endpoints of paths, above all.

    Each is a finite tensor of float32 or float64, (*batch, d) or (*batch, *latent_shape), with at least one point; all
    have one shape, dtype and device.

    Args:
        latent_shape: The shape of a point, where the manifold has one.
        tensors: By the names of the user's arguments. The first one tells what the others have to be like.

    Raises:
        InputError: With the argument, what was expected and what was received.

    Example:
        >>> import torch
        >>> from geodesic.checks import require_points
        >>> require_points(start=torch.zeros(5, 2), end=torch.ones(5, 2))
    """
    import torch

    for name, value in tensors.items():
        require_floating(name, value)
        if value.dtype not in (torch.float32, torch.float64):
            raise _not_floating(name, value)
        if value.dim() == 0 or value.numel() == 0:
            raise InputError(f"{name}: expected shape (*batch, d), with at least one point, got {tuple(value.shape)}")
        if latent_shape is not None and value.shape[-len(latent_shape) :] != latent_shape:
            raise InputError(
                f"{name}: expected the manifold's latent_shape, (*batch, {', '.join(map(str, latent_shape))}), got "
                f"{tuple(value.shape)}"
            )
    require_alike(**tensors)
    for name, value in tensors.items():
        require_finite(name, value)


def require_cloud(name: str, points: Any, size: int | None = None) -> None:
    """Refuse what are no latent points, one a row: a finite floating point tensor (N, d) with N at least 1.

    Args:
        name: The user's argument.
        points: The points.
        size: d, where it is known.

    Raises:
        InputError: With the argument, what was expected and what was received.
    """
    require_floating(name, points)
    if points.dim() != 2 or len(points) == 0 or size not in (None, points.shape[1]):
        raise InputError(
            f"{name}: expected latent points of shape (N, {'d' if size is None else size}), N at least 1, got "
            f"{tuple(points.shape)}"
        )
    lost = ~points.isfinite().all(1)
    if bool(lost.any()):
        row = int(lost.nonzero()[0, 0])
        raise InputError(f"{name}: expected finite coordinates, got {brief(points[row])} in row {row}; remove it")
