"""The ways to differentiate a row-wise function, behind one interface.

Forward and reverse mode are both exact, where torch has them: some operators have no forward mode, some no second
derivative, and some hide from one mode what the other one sees. Which way is right for a function is found out in
`geodesic.door`; what takes derivatives asks for a way and does not care which it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

import geodesic.autodiff as autodiff
from geodesic.errors import DecoderError

__all__ = ["FIRST_ORDER", "FORWARD", "FORWARD_ONLY", "REVERSE", "Derivatives"]

RowWise = Callable[[Tensor], Tensor]


class Derivatives(ABC):
    """How derivatives of a row-wise function f, (N, d) to (N, ...), are taken. J is its Jacobian.

    Attributes:
        words: What is printed of it.
        reverse: Whether autograd sees all of f, so that its parameters have gradients too.
        curvature: Whether it has second derivatives along two directions.
    """

    words: ClassVar[str]
    reverse: ClassVar[bool] = True
    curvature: ClassVar[bool] = True

    @abstractmethod
    def push(self, f: RowWise, z: Tensor, v: Tensor) -> Tensor:
        """J v, (N, ...), for tangents v, (N, d)."""

    @abstractmethod
    def pull(self, f: RowWise, z: Tensor, r: Tensor) -> Float[Tensor, "N d"]:
        """J^T r, (N, d), for cotangents r, (N, ...)."""

    @abstractmethod
    def jacobian(self, f: RowWise, z: Tensor) -> Tensor:
        """J, (N, ..., d)."""

    @abstractmethod
    def expand(self, f: RowWise, z: Tensor, cotangent: RowWise) -> tuple[Tensor, Tensor, Float[Tensor, "N d d"]]:
        """f, J, and the Hessian of <r, f(z)> with r = cotangent(f(z)) held fixed; `cotangent` may mix rows."""

    @abstractmethod
    def second(self, f: RowWise, z: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """D^2 f (v, w), (N, ...), for tangents v and w, (N, d)."""

    @abstractmethod
    def turn(self, f: RowWise, z: Tensor, r: Tensor, w: Tensor) -> Float[Tensor, "N d"]:
        """The Hessian of <r, f(z)> times w, (N, d): the derivative of J^T r along w, r held fixed."""

    def carried(self, f: RowWise, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """f(z) and J v, both (N, ...), for tangents v, (N, d)."""
        return f(z.clone()), self.push(f, z, v)

    def second_along(self, f: RowWise, z: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """The second derivative of f along a curve of velocity v and second derivative w: J w + D^2 f (v, v)."""
        return self.push(f, z, w) + self.second(f, z, v, v)

    def bend(self, f: RowWise, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """J and its derivative along v, D^2 f (v, e_j) by columns, both (N, ..., d)."""
        columns = [self.second(f, z, v, e.expand_as(z)) for e in _units(z)]
        return self.jacobian(f, z), torch.stack(columns, dim=-1)

    def __repr__(self) -> str:
        return self.words


class _Forward(Derivatives):
    """Forward mode for tangents, reverse mode for cotangents, forward over both for second derivatives."""

    words = "forward and reverse mode"

    def push(self, f: RowWise, z: Tensor, v: Tensor) -> Tensor:
        return autodiff.jvp(f, z, v)

    def carried(self, f: RowWise, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return autodiff.value_and_jvp(f, z, v)

    def pull(self, f: RowWise, z: Tensor, r: Tensor) -> Float[Tensor, "N d"]:
        return autodiff.vjp(f, z, r)

    def jacobian(self, f: RowWise, z: Tensor) -> Tensor:
        return autodiff.jacobian(f, z)

    def expand(self, f: RowWise, z: Tensor, cotangent: RowWise) -> tuple[Tensor, Tensor, Float[Tensor, "N d d"]]:
        return _in_some_mode(lambda: autodiff.expand(f, z, cotangent))

    def second(self, f: RowWise, z: Tensor, v: Tensor, w: Tensor) -> Tensor:
        return _in_some_mode(lambda: autodiff.jvp(lambda z: autodiff.jvp(f, z, v), z, w))

    def turn(self, f: RowWise, z: Tensor, r: Tensor, w: Tensor) -> Float[Tensor, "N d"]:
        return _in_some_mode(lambda: autodiff.jvp(lambda z: autodiff.vjp(f, z, r), z, w))

    def second_along(self, f: RowWise, z: Tensor, v: Tensor, w: Tensor) -> Tensor:
        d, both, change = z.shape[-1], torch.cat([z, v], dim=-1), torch.cat([v, w], dim=-1)

        def velocity(both: Tensor) -> Tensor:
            return autodiff.jvp(f, both[:, :d], both[:, d:])

        return _in_some_mode(lambda: autodiff.jvp(velocity, both, change))

    def bend(self, f: RowWise, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return _in_some_mode(lambda: autodiff.bend(f, z, v))


class _Reverse(Derivatives):
    """Reverse mode alone, by torch.autograd: for functions without forward mode, or that torch.func refuses.

    v -> J^T v is linear, and so is r -> v^T D^2 <r, f> w: their own pullbacks are J v and D^2 f (v, w).
    """

    words = "reverse mode alone"

    def push(self, f: RowWise, z: Tensor, v: Tensor) -> Tensor:
        with _Recorded(f, z, v) as (points, outer):
            _, r, pulled = _linear(f, points)
            return _settled(_slope(pulled, r, v, outer), outer)

    def pull(self, f: RowWise, z: Tensor, r: Tensor) -> Float[Tensor, "N d"]:
        with _Recorded(f, z, r) as (points, outer):
            return _settled(_slope(_called(f, points), points, r, outer), outer)

    def jacobian(self, f: RowWise, z: Tensor) -> Tensor:
        with _Recorded(f, z) as (points, outer):
            _, r, pulled = _linear(f, points)
            columns = [_slope(pulled, r, e.expand_as(z), outer, keep=True) for e in _units(z)]
            return _settled(torch.stack(columns, dim=-1), outer)

    def expand(self, f: RowWise, z: Tensor, cotangent: RowWise) -> tuple[Tensor, Tensor, Float[Tensor, "N d d"]]:
        with _Recorded(f, z) as (points, outer):
            y, r, pulled = _linear(f, points)
            J = torch.stack([_slope(pulled, r, e.expand_as(z), outer, keep=True) for e in _units(z)], dim=-1)
            fixed = cotangent(y.detach())
            slope = _slope(y, points, fixed, outer=True)
            columns = [_slope(slope, points, e.expand_as(z), outer, keep=True) for e in _units(z)]
            return _settled(y, outer), _settled(J, outer), _settled(torch.stack(columns, dim=-1), outer)

    def second(self, f: RowWise, z: Tensor, v: Tensor, w: Tensor) -> Tensor:
        with _Recorded(f, z, v, w) as (points, outer):
            _, r, pulled = _linear(f, points)
            bent = _slope(pulled, points, v, outer=True)
            return _settled(_slope(bent, r, w, outer), outer)

    def turn(self, f: RowWise, z: Tensor, r: Tensor, w: Tensor) -> Float[Tensor, "N d"]:
        with _Recorded(f, z, r, w) as (points, outer):
            slope = _slope(_called(f, points), points, r, outer=True)
            return _settled(_slope(slope, points, w, outer), outer)


class _ForwardOnly(Derivatives):
    """Forward mode alone: for functions that hide a part from reverse mode, as under `torch.no_grad`."""

    words = "forward mode alone"
    reverse = False

    def push(self, f: RowWise, z: Tensor, v: Tensor) -> Tensor:
        return FORWARD.push(f, z, v)

    def pull(self, f: RowWise, z: Tensor, r: Tensor) -> Float[Tensor, "N d"]:
        return _contracted(r, self.jacobian(f, z))

    def jacobian(self, f: RowWise, z: Tensor) -> Tensor:
        return FORWARD.jacobian(f, z)

    def expand(self, f: RowWise, z: Tensor, cotangent: RowWise) -> tuple[Tensor, Tensor, Float[Tensor, "N d d"]]:
        y = f(z.clone()).detach()
        r = cotangent(y)
        bent = [self.bend(f, z, e.expand_as(z)) for e in _units(z)]
        columns = [_contracted(r, change) for _, change in bent]
        return y, bent[0][0], torch.stack(columns, dim=-1)

    def second(self, f: RowWise, z: Tensor, v: Tensor, w: Tensor) -> Tensor:
        return FORWARD.second(f, z, v, w)

    def turn(self, f: RowWise, z: Tensor, r: Tensor, w: Tensor) -> Float[Tensor, "N d"]:
        return _contracted(r, self.bend(f, z, w)[1])

    def bend(self, f: RowWise, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return FORWARD.bend(f, z, v)


class _FirstOrder(Derivatives):
    """One reverse pass, and central differences for the rest: for functions that torch differentiates once.

    Tangents are differences of f, of fourth order in a step of eps^(1/5): exact to about eps^(4/5). Hessian products
    are differences of cotangents, with the same. The second derivative along a curve is one of f, in a step of
    eps^(1/6): exact to about eps^(2/3).
    """

    words = "one reverse pass, and differences"
    curvature = False

    def push(self, f: RowWise, z: Tensor, v: Tensor) -> Tensor:
        with torch.no_grad():
            return _difference(lambda z: f(z.clone()), z, v)

    def pull(self, f: RowWise, z: Tensor, r: Tensor) -> Float[Tensor, "N d"]:
        with torch.enable_grad():
            points = z.detach().clone().requires_grad_()
            return _slope(_called(f, points), points, r.detach(), outer=False)

    def jacobian(self, f: RowWise, z: Tensor) -> Tensor:
        return torch.stack([self.push(f, z, e.expand_as(z)) for e in _units(z)], dim=-1)

    def expand(self, f: RowWise, z: Tensor, cotangent: RowWise) -> tuple[Tensor, Tensor, Float[Tensor, "N d d"]]:
        with torch.no_grad():
            y = f(z.clone())
        r = cotangent(y)
        columns = [_difference(lambda z: self.pull(f, z, r), z, e.expand_as(z)) for e in _units(z)]
        return y, self.jacobian(f, z), torch.stack(columns, dim=-1)

    def turn(self, f: RowWise, z: Tensor, r: Tensor, w: Tensor) -> Float[Tensor, "N d"]:
        return _difference(lambda z: self.pull(f, z, r), z, w)

    def second_along(self, f: RowWise, z: Tensor, v: Tensor, w: Tensor) -> Tensor:
        with torch.no_grad():
            h = _step(z, v, 1 / 6)
            shares = ((-2, -1 / 12), (-1, 4 / 3), (0, -5 / 2), (1, 4 / 3), (2, -1 / 12))
            change = torch.stack([share * f(z + k * h * v) for k, share in shares]).sum(0)
            return self.push(f, z, w) + change / h.square().reshape(-1, *[1] * (change.dim() - 1))

    def second(self, f: RowWise, z: Tensor, v: Tensor, w: Tensor) -> Tensor:
        raise DecoderError(
            "decoder: one of its operators can be differentiated once only, and curvature and transport by the "
            "connection need second derivatives along two directions; take transport='projection', or write the "
            "operator with torch's own functions (a torch.autograd.Function whose backward is itself differentiable)"
        )


FORWARD: Derivatives = _Forward()
"""Forward and reverse mode: the fastest, where both are there and right."""
REVERSE: Derivatives = _Reverse()
"""Reverse mode alone."""
FORWARD_ONLY: Derivatives = _ForwardOnly()
"""Forward mode alone: d times as dear where reverse mode takes one pass."""
FIRST_ORDER: Derivatives = _FirstOrder()
"""One reverse pass, and differences."""


def _in_some_mode(compute: Callable[[], Any]) -> Any:
    """What is computed; with grad mode on where it needs that: without it SiLU has no second derivative."""
    try:
        return compute()
    except NotImplementedError:
        if torch.is_grad_enabled():
            raise
        with torch.enable_grad():
            found = compute()
        return found.detach() if isinstance(found, Tensor) else tuple(x.detach() for x in found)


def _units(z: Tensor) -> Tensor:
    return torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)


class _Recorded:
    """Grad mode on, and points to differentiate at: z itself, with history, where something outside differentiates."""

    def __init__(self, f: RowWise, z: Tensor, *others: Tensor) -> None:
        self._z, self._mode, self._outer = z, torch.enable_grad(), False
        if torch.is_grad_enabled():
            self._outer = any(x.requires_grad for x in (z, *others)) or f(z.detach().clone()).requires_grad

    def __enter__(self) -> tuple[Tensor, bool]:
        self._mode.__enter__()
        alone = not (self._outer and self._z.requires_grad)
        return self._z.detach().clone().requires_grad_() if alone else self._z.clone(), self._outer

    def __exit__(self, *error: object) -> None:
        self._mode.__exit__(*error)


def _contracted(r: Tensor, J: Tensor) -> Float[Tensor, "N d"]:
    """J^T r, from a Jacobian, (N, ..., d)."""
    return (r.reshape(len(r), 1, -1) @ J.reshape(len(r), -1, J.shape[-1]))[:, 0]


def _called(f: RowWise, points: Tensor) -> Tensor:
    y = f(points.clone())  # a function may begin with an operation in place
    if not y.requires_grad:  # a constant, as far as autograd can see
        y = y + 0 * points.sum()
    return y


def _linear(f: RowWise, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """f, cotangents r to differentiate in, and J^T r, which is linear in them."""
    y = _called(f, points)
    r = torch.zeros_like(y, requires_grad=True)
    return y, r, _slope(y, points, r, outer=True)


def _slope(y: Tensor, x: Tensor, cotangent: Tensor, outer: bool, keep: bool = False) -> Tensor:
    """The cotangent of y taken back to x; zero where y does not depend on x."""
    if not y.requires_grad:
        return torch.zeros_like(x)
    (slope,) = torch.autograd.grad(
        y, x, cotangent, create_graph=outer, retain_graph=outer or keep, allow_unused=True, materialize_grads=True
    )
    return slope


def _settled(x: Tensor, outer: bool) -> Tensor:
    return x if outer else x.detach()


def _difference(f: RowWise, z: Tensor, v: Tensor) -> Tensor:
    """The derivative of f along v by central differences of fourth order."""
    h = _step(z, v, 1 / 5)
    one, two = (f(z + k * h * v) - f(z - k * h * v) for k in (1, 2))
    return (8 * one - two) / (12 * h).reshape(-1, *[1] * (one.dim() - 1))


def _step(z: Tensor, v: Tensor, power: float) -> Float[Tensor, "N 1"]:
    """The step of a difference along v that balances rounding, eps, and what the difference leaves out."""
    size = v.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny)
    return torch.finfo(z.dtype).eps ** power * (1 + z.norm(dim=-1, keepdim=True)) / size / 4
