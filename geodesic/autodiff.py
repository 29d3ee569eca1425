"""Products with Jacobians, and the calculus on top of them, row by row on a batch.

A function f is *row-wise* when it maps (N, d) to (N, ...) and row n of its output depends on row n of its input only.
Then one backward pass gives the vector-Jacobian products of all N rows at once, and no function here loops over N.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.arrays import takes_arrays
from geodesic.checks import require_floating, require_integer
from geodesic.errors import InputError
from geodesic.keywords import renamed
from geodesic.tangents import forward, prepare_forward_mode, without_zeros

__all__ = ["curl", "derivative", "divergence", "gradient", "jacobian", "jvp", "laplacian", "vjp"]

RowWise = Callable[[Tensor], Tensor]


@takes_arrays
def vjp(f: RowWise, z: Tensor, v: Tensor) -> Tensor:
    """Vector-Jacobian product v^T J_f(z), by one backward pass.

    Args:
        f: Row-wise function, (N, d) to (N, ...).
        z: Points, (N, d).
        v: Cotangents, of the shape of f(z).

    Returns:
        The products, (N, d).

    Raises:
        InputError: v has not the shape of f(z), or z is not floating point.

    Example:
        >>> import torch, geodesic
        >>> A = torch.tensor([[3.0, 1.0], [1.0, 0.0], [0.0, -2.0]])
        >>> z, v = torch.tensor([[2.0, 3.0]]), torch.tensor([[1.0, -1.0, 1.0]])
        >>> geodesic.autodiff.vjp(lambda z: z @ A.T, z, v)
        tensor([[ 2., -1.]])
    """
    require_floating("z", z)
    y, pull = _vjp(f, z)
    _require_shape("v", v, y.shape, "f(z)")
    return pull(v)[0]


@takes_arrays
@renamed(method="mode")
def jvp(f: RowWise, z: Tensor, u: Tensor, mode: str = "forward") -> Tensor:
    """Jacobian-vector product J_f(z) u.

    `forward` carries the tangent u along with the evaluation of f. `double_vjp` needs reverse mode alone: the
    map v -> J^T v is linear in v, so its own transposed Jacobian, applied to u, is J u.

    Args:
        f: Row-wise function, (N, d) to (N, ...).
        z: Points, (N, d).
        u: Tangents, (N, d).
        mode: `forward`, or `double_vjp` for functions without forward-mode rules.

    Returns:
        The products, of the shape of f(z).

    Raises:
        InputError: u has not the shape of z, z is not floating point, or the mode is unknown.

    Example:
        >>> import torch, geodesic
        >>> A = torch.tensor([[3.0, 1.0], [1.0, 0.0], [0.0, -2.0]])
        >>> z, u = torch.tensor([[2.0, 3.0]]), torch.tensor([[1.0, 1.0]])
        >>> geodesic.autodiff.jvp(lambda z: z @ A.T, z, u, mode="double_vjp")
        tensor([[ 4.,  1., -2.]])
    """
    require_floating("z", z)
    _require_shape("u", u, z.shape, "z")
    if mode == "forward":
        return value_and_jvp(f, z, u)[1]
    if mode == "double_vjp":
        y, pull = _vjp(f, z)
        # J^T v is linear in v: any v will do as the point at which to differentiate it.
        return _vjp(lambda v: pull(v)[0], torch.zeros_like(y))[1](u)[0]
    raise InputError(f"mode: expected 'forward' or 'double_vjp', got {mode!r}")


def value_and_jvp(f: RowWise, z: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """f(z) and `jvp`, by one evaluation in forward mode.

    Example:
        >>> import torch, geodesic
        >>> geodesic.autodiff.value_and_jvp(torch.square, torch.tensor([[3.0]]), torch.tensor([[1.0]]))
        (tensor([[9.]]), tensor([[6.]]))
    """
    prepare_forward_mode()
    return _jvp(f, z, u)


@takes_arrays
@renamed(method="mode")
def jacobian(f: RowWise, z: Tensor, mode: str = "jvp") -> Tensor:
    """Jacobian J_f(z) from products with unit vectors.

    `jvp` takes d forward products, `vjp` one backward product per entry of an output row; either way the
    evaluation of f itself is shared by all of them.

    Args:
        f: Row-wise function, (N, d) to (N, ...).
        z: Points, (N, d).
        mode: `jvp` for tall Jacobians (decoders), `vjp` for wide ones (encoders, losses).

    Returns:
        The Jacobians, (N, ..., d).

    Raises:
        InputError: z is not floating point or has not the shape (N, d), f does not return N rows, or the mode unknown.

    Example:
        >>> import torch, geodesic
        >>> geodesic.autodiff.jacobian(lambda z: z**2, torch.tensor([[1.0, 2.0]]))
        tensor([[[2., 0.],
                 [0., 4.]]])
    """
    _require_rows(z)
    if mode == "jvp":
        prepare_forward_mode()
        units = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
        return _for_each(lambda e: _column(f, z, e), units, out_dims=-1)
    if mode == "vjp":
        y, pull = _vjp(f, z)
        _require_row_wise(y, z)
        event = y.shape[1:]
        units = torch.eye(event.numel(), dtype=y.dtype, device=y.device).reshape(-1, *event)
        rows = _for_each(lambda e: pull(e.expand_as(y))[0], units, out_dims=1)
        return rows.reshape(*y.shape, z.shape[-1])
    raise InputError(f"mode: expected 'vjp' or 'jvp', got {mode!r}")


def _column(f: RowWise, z: Tensor, e: Tensor) -> Tensor:
    """J_f(z) e for one vector e, (d,)."""
    y, Je = _jvp(f, z, e.expand_as(z))
    _require_row_wise(y, z)
    return Je


@takes_arrays
def gradient(f: RowWise, z: Tensor) -> Float[Tensor, "N d"]:
    """Gradient of a scalar function, by one backward pass.

    Args:
        f: Row-wise function, (N, d) to (N,).
        z: Points, (N, d).

    Returns:
        The gradients, (N, d).

    Raises:
        InputError: f does not return one number for each row.

    Example:
        >>> import torch, geodesic
        >>> geodesic.autodiff.gradient(lambda z: (z[:, 0] + z[:, 1]) * (z[:, 1] + 3), torch.tensor([[1.0, 2.0]]))
        tensor([[5., 8.]])
    """
    _require_rows(z)
    y, pull = _vjp(f, z)
    if y.shape != z.shape[:1]:
        raise InputError(
            f"f: expected one number for each of the {z.shape[0]} rows, got shape {tuple(y.shape)}; "
            "use jacobian for vector functions"
        )
    return pull(torch.ones_like(y))[0]


@takes_arrays
def divergence(f: RowWise, z: Tensor) -> Float[Tensor, " N"]:
    """Divergence sum_j d f_j / d z_j, the trace of the Jacobian.

    Takes d forward products and keeps one entry of each, so the Jacobian is never stored. Multiplying the
    Jacobian by a vector of ones instead gives its row sums: right only where it is diagonal.

    Args:
        f: Row-wise vector field, (N, d) to (N, d).
        z: Points, (N, d).

    Returns:
        The divergences, (N,).

    Raises:
        InputError: f does not return a vector of the size of z.

    Example:
        >>> import torch, geodesic
        >>> geodesic.autodiff.divergence(lambda z: 2 * z, torch.ones(1, 3))
        tensor([6.])
    """
    _require_field(f, z)
    prepare_forward_mode()
    units = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)

    def entry(e: Tensor) -> Tensor:
        return (_jvp(f, z, e.expand_as(z))[1] * e).sum(-1)

    return _for_each(entry, units).sum(0)


@takes_arrays
def curl(f: RowWise, z: Tensor) -> Tensor:
    """Curl of a vector field in the plane or in space.

    Args:
        f: Row-wise vector field, (N, d) to (N, d), with d = 2 or 3.
        z: Points, (N, d).

    Returns:
        d f_2/d z_1 - d f_1/d z_2, (N,), in the plane; the vector of curls, (N, 3), in space.

    Raises:
        InputError: d is neither 2 nor 3, or f does not return a vector of the size of z.

    Example:
        >>> import torch, geodesic
        >>> geodesic.autodiff.curl(lambda z: torch.stack([-z[:, 1], z[:, 0]], dim=1), torch.ones(1, 2))
        tensor([2.])
    """
    _require_field(f, z)
    if z.shape[-1] not in (2, 3):
        raise InputError(f"z: the curl exists for d = 2 and d = 3, got d = {z.shape[-1]}")
    J = jacobian(f, z)
    if z.shape[-1] == 2:
        return J[:, 1, 0] - J[:, 0, 1]
    return torch.stack([J[:, 2, 1] - J[:, 1, 2], J[:, 0, 2] - J[:, 2, 0], J[:, 1, 0] - J[:, 0, 1]], dim=1)


@takes_arrays
def laplacian(f: RowWise, z: Tensor) -> Float[Tensor, " N"]:
    """Laplacian sum_j d^2 f / d z_j^2: the divergence of the gradient, forward over reverse.

    Args:
        f: Row-wise function, (N, d) to (N,).
        z: Points, (N, d).

    Returns:
        The Laplacians, (N,).

    Raises:
        InputError: f does not return one number for each row.

    Example:
        >>> import torch, geodesic
        >>> geodesic.autodiff.laplacian(lambda z: (z * z).sum(-1), torch.ones(1, 3))
        tensor([6.])
    """
    return divergence(lambda z: gradient(f, z), z)


@takes_arrays
def derivative(f: RowWise, x: Tensor, order: int = 1) -> Tensor:
    """Derivative of an elementwise function at each entry of x.

    The Jacobian of an elementwise function is diagonal, so its product with a vector of ones *is* the
    diagonal: one product for each order, whatever the number of points.

    Warning:
        For a function that mixes entries this returns column sums of the Jacobian, not derivatives.

    Args:
        f: Elementwise function; the output has the shape of x.
        x: Points, any shape.
        order: How often to differentiate, at least 1.

    Returns:
        The derivatives, of the shape of x.

    Raises:
        InputError: the order is below 1, or f changes the shape.

    Example:
        >>> import torch, geodesic
        >>> geodesic.autodiff.derivative(lambda x: x**3, torch.tensor([1.0, 2.0]), order=2)
        tensor([ 6., 12.])
    """
    require_floating("x", x)
    require_integer("order", order, least=1)
    lower = f if order == 1 else lambda x: derivative(f, x, order - 1)
    y, pull = _vjp(lower, x)
    _require_shape("f(x)", y, x.shape, "x")
    return pull(torch.ones_like(y))[0]


def expand(f: RowWise, z: Tensor, cotangent: RowWise) -> tuple[Tensor, Tensor, Float[Tensor, "N d d"]]:
    """f, its Jacobian, and the Hessian of <r, f(z)> with r = cotangent(f(z)) held fixed: second order in one go.

    Forward mode over one backward pass, which all d directions share with f: 2 + 2 d passes in all.

    Args:
        f: Row-wise function, (N, d) to (N, ...).
        z: Points, (N, d).
        cotangent: From f(z), (N, ...), to cotangents of the same shape; it may mix rows.

    Returns:
        f(z), (N, ...); its Jacobian, (N, ..., d); the Hessians, (N, d, d).
    """
    prepare_forward_mode()
    units = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    # y is the same for all directions
    return _for_each(lambda e: _expanded(f, z, cotangent, e), units, out_dims=(None, -1, -1))


def bend(f: RowWise, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The Jacobian J_f(z), and its derivative along v, whose columns are D^2 f(v, e_j).

    Forward mode twice; f and its product with v are shared by all d directions: 2 + 2 d passes in all.

    Args:
        f: Row-wise function, (N, d) to (N, ...).
        z: Points, (N, d).
        v: Tangents, (N, d).

    Returns:
        The Jacobian and its derivative, both (N, ..., d).
    """
    prepare_forward_mode()
    units = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)

    def column(e: Tensor) -> tuple[Tensor, Tensor]:
        return forward(lambda z: _jvp(f, z, v), z, e.expand_as(z))[1]

    # directions around both levels: between them, operators would be torch's own, which multiply by zeros
    return _for_each(column, units, out_dims=(-1, -1))


def _expanded(f: RowWise, z: Tensor, cotangent: RowWise, e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`expand` for one vector e, (d,): f(z), J_f(z) e, and the Hessian times e."""
    pulled = forward(without_zeros()(lambda z: _pulled(f, z, cotangent)), z, e.expand_as(z))
    return pulled[0][0], *pulled[1]


def _pulled(f: RowWise, z: Tensor, cotangent: RowWise) -> tuple[Tensor, Tensor]:
    """f(z), and its cotangents taken back to z."""
    y, pull = _vjp(f, z)
    return y, pull(cotangent(y.detach()))[0]


def _vjp(f: RowWise, z: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor]]]:
    """f(z), and the function that takes cotangents of it to cotangents of z."""
    return cast(tuple[Tensor, Callable[[Tensor], tuple[Tensor]]], torch.func.vjp(_on_a_copy(f), z))


def _jvp(f: RowWise, z: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """f(z), and its product with the tangents u."""
    return cast(tuple[Tensor, Tensor], forward(without_zeros()(_on_a_copy(f)), z, u))


def _for_each(f: Callable[[Tensor], Any], units: Tensor, out_dims: Any = 0) -> Any:
    """Apply f to all unit vectors at once, without a warning where torch has an operator for one of them only."""
    warn = torch._C._functorch._set_vmap_fallback_warning_enabled  # type: ignore[attr-defined]  # missing in its stubs
    warn(False)
    try:
        return torch.func.vmap(f, out_dims=out_dims)(units)
    finally:
        warn(True)


def _on_a_copy(f: RowWise) -> RowWise:
    """f, which may begin with an operation in place, without effect on the points that it is given."""
    return lambda z: f(z.clone())


def _require_rows(z: Tensor) -> None:
    require_floating("z", z)
    if z.ndim != 2:
        raise InputError(f"z: expected rows, (N, d), got shape {tuple(z.shape)}; use z.reshape(-1, d)")


def _require_shape(name: str, x: Tensor, shape: torch.Size, of: str) -> None:
    if x.shape != shape:
        raise InputError(f"{name}: expected the shape of {of}, {tuple(shape)}, got {tuple(x.shape)}")


def _require_row_wise(y: Tensor, z: Tensor) -> None:
    if y.shape[:1] != z.shape[:1]:
        raise InputError(
            f"f: expected one row for each of the {len(z)} rows of z, (N, ...), got shape {tuple(y.shape)}; "
            "let it map (N, d) to (N, ...), without a sum over the rows"
        )


def _require_field(f: RowWise, z: Tensor) -> None:
    _require_rows(z)
    shape = _on_a_copy(f)(z[:1]).shape  # one row tells, and costs next to nothing
    if shape != z[:1].shape:
        raise InputError(f"f: expected a vector field, vectors of size {z.shape[-1]}, got shape {tuple(shape)}")
