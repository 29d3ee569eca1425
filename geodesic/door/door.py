"""What a row-wise function can do and may not do: found out on probes, once, before anything relies on it.

Decoders hide parts from autograd, couple the rows of a batch, draw random numbers, or consist of operators without
some derivative. Nothing of this shows in their values. A `Door` looks at a function before it is used: it compares
forward mode, reverse mode and differences, keeps the fastest way that is right, and refuses what none is.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geodesic.checks import require_tensor
from geodesic.door.comparisons import bends_at_kinks, is_affine_on_pieces, is_smooth, wrong_with
from geodesic.door.derivatives import FIRST_ORDER, FORWARD, FORWARD_ONLY, REVERSE, Derivatives
from geodesic.door.operators import KERNELS, eagerly, in_double
from geodesic.door.probes import Probes, size_of
from geodesic.door.rows import require_apart, require_full_precision, where_finite
from geodesic.door.watch import fingerprint, has_kinks, is_compiled, is_scripted, modules_in
from geodesic.errors import DecoderError, InputError

__all__ = ["AS_USUAL", "Door", "Findings", "first_time", "visit"]

RowWise = Callable[[Tensor], Tensor]

_WAYS: tuple[tuple[Derivatives, str], ...] = (
    *((FORWARD, kernels) for kernels in KERNELS),
    *((REVERSE, kernels) for kernels in KERNELS),
    (FORWARD_ONLY, "as they are"),
    (FORWARD_ONLY, "written out"),
    (FIRST_ORDER, "as they are"),
)
"""From the fastest to the last resort."""


@dataclass(frozen=True)
class Findings:
    """What was found out about a function.

    Attributes:
        derivatives: How derivatives are taken.
        kernels: With which operators it is called, a word of `KERNELS`.
        function: The function, called with these; None for `AS_USUAL`.
        probes: Where it was looked at; None for `AS_USUAL`.
        kinked: Whether a layer of it is known to have kinks, or second derivatives that jump.
    """

    derivatives: Derivatives = FORWARD
    kernels: str = "as they are"
    function: RowWise | None = None
    probes: Probes | None = None
    kinked: bool = False

    @cached_property
    def smooth(self) -> bool:
        """Whether second derivatives are there and continuous, as far as the probes show."""
        if self.kinked:
            return False
        if self.function is None or self.probes is None:
            return True
        with torch.no_grad():
            return self.derivatives.curvature and is_smooth(self.derivatives, self.function, self.probes)

    @cached_property
    def straight_between_kinks(self) -> bool:
        """Whether most of its curvature lies on kinks, which second derivatives do not see."""
        if self.function is None or self.probes is None or not self.derivatives.curvature:
            return False
        with torch.no_grad():
            return bends_at_kinks(self.derivatives, self.function, self.probes)

    @cached_property
    def affine_on_pieces(self) -> bool:
        """Whether it is affine between its kinks, as far as the probes show."""
        if self.function is None or self.probes is None or not self.derivatives.curvature:
            return False
        with torch.no_grad():
            return is_affine_on_pieces(self.derivatives, self.function, self.probes)

    @property
    def note(self) -> str:
        """What is unusual about it, in words; "" where nothing is."""
        notes = [] if self.derivatives is FORWARD else [f"derivatives by {self.derivatives}"]
        if self.kernels != "as they are":
            notes.append(f"operators {self.kernels}")
        return ", ".join(notes)


AS_USUAL = Findings()

# What has been seen since a public function was called, by its number: kept alive, or another thing could take it.
# None outside of a call.
_VISIT: ContextVar[dict[object, object] | None] = ContextVar("visit", default=None)


@contextmanager
def visit() -> Iterator[bool]:
    """Within it, what was found out once about a function is taken for granted: one public call.

    Yields:
        Whether it is the outermost: the call that the user made.
    """
    if _VISIT.get() is not None:
        yield False
        return
    token = _VISIT.set({})
    try:
        yield True
    finally:
        _VISIT.reset(token)


def first_time(thing: object) -> bool:
    """Whether this is asked for the first time about a thing within a public call."""
    visited = _VISIT.get()
    if visited is None:
        return True
    if id(thing) in visited:
        return False
    visited[id(thing)] = thing
    return True


class Door:
    """The way to a row-wise function, which is looked at before it is used.

    Args:
        function: From (N, d) to (N, ...).
        parts: What it is made of: modules and functions of the user's, whose changes are noticed.
        metric: Whether it is a metric tensor, and no decoder: errors say so.
    """

    def __init__(self, function: RowWise, parts: tuple[object, ...], metric: bool = False) -> None:
        self.function, self._parts, self._metric = function, parts, metric
        self._known: dict[object, tuple[object, Findings]] = {}
        self._compiled = False

    def __call__(self, z: Float[Tensor, "*batch d"]) -> Tensor:
        """The function, with the operators that were found to be right."""
        with eagerly() if self._compiled else nullcontext(), KERNELS[self._found(z).kernels]():
            return self.function(z)

    @property
    def modules(self) -> list[nn.Module]:
        """The modules that the function consists of."""
        return list(dict.fromkeys(module for part in self._parts for module in modules_in(part)))

    @property
    def note(self) -> str:
        """What is unusual about the function, as far as it has been looked at; "" where nothing is."""
        return "; ".join(dict.fromkeys(found.note for _, found in self._known.values() if found.note))

    def _found(self, z: Tensor) -> Findings:
        """What was found before at points like these."""
        known = self._known.get(_kind(z))
        return AS_USUAL if known is None else known[1]

    def derivatives(self, z: Float[Tensor, "*batch d"]) -> Derivatives:
        """How derivatives are taken at points like these."""
        return self.findings(z).derivatives

    def findings(self, z: Float[Tensor, "*batch d"]) -> Findings:
        """What is known about the function at points like these; it is looked at where nothing is known.

        Raises:
            DecoderError: The function cannot be used, with what was found and what to do.
        """
        require_tensor("points", z)
        if torch._C._functorch.is_functorch_wrapped_tensor(z):  # something differentiates: it has been looked at
            return self._found(z)
        visited, key = _VISIT.get(), _kind(z)
        if visited is not None and (id(self), key) in visited:
            return self._found(z)
        mark, before = fingerprint(self._parts), self._known.get(key)
        if mark is None or before is None or before[0] != mark:
            points = z.detach().reshape(-1, z.shape[-1])
            points = points[points.isfinite().all(1)]
            if not len(points):  # there is nothing to find out
                return self._found(z)
            self._known[key] = (mark, self._examined(points))
        if visited is not None:
            visited[id(self), key] = self
        return self._found(z)

    def _examined(self, points: Float[Tensor, "N d"]) -> Findings:
        self._compiled = is_compiled(self._parts)
        try:
            found = examine(self.function, points, is_scripted(self._parts))
            return replace(found, kinked=has_kinks(self._parts))
        except DecoderError as error:
            if self._metric:
                raise InputError(f"manifold: its metric_tensor:{str(error).removeprefix('decoder:')}") from error
            raise


def _kind(z: Tensor) -> tuple[int, torch.dtype, torch.device]:
    """What of points decides how a function is differentiated there."""
    return z.shape[-1], z.dtype, z.device


def examine(function: RowWise, points: Float[Tensor, "N d"], scripted: bool = False) -> Findings:
    """Look at a function at a few of the points and near them.

    Args:
        function: From (N, d) to (N, ...).
        points: Where it is going to be used.
        scripted: Whether `torch.jit` compiled it, which makes forward mode unreliable.

    Raises:
        DecoderError: It is finite nowhere, its rows are coupled, it is random, computes in a precision below that of
            the points, or none of the ways to differentiate it agrees with differences of its values.
    """
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(_devices(points)), eagerly():
        points = where_finite(function, points)
        require_full_precision(function, points)
        require_apart(function, points)
        given, function = function, _scaled(function, points)
        probes = Probes(function, points)
        _settle(function, points[:2])
        tried: list[str] = []
        for derivatives, kernels in _WAYS:
            if scripted and derivatives in (FORWARD, FORWARD_ONLY):
                continue
            called = _with(kernels, function)
            wrong = wrong_with(derivatives, called, probes)
            if not wrong:
                return Findings(derivatives, kernels, called, probes)
            if wrong.startswith("its") and not any(other.startswith("its") for other in tried):
                found = _seen_in_double(given, points, scripted)
                if found is not None and _agrees(found, _with(found.kernels, function), probes):
                    return replace(found, function=_with(found.kernels, function), probes=probes)
            tried.append(wrong)
    raise DecoderError(_cause(function, probes, tried))


def _seen_in_double(function: RowWise, points: Float[Tensor, "N d"], scripted: bool) -> Findings | None:
    """What is found with points in double precision, of the function itself or of one with its weights widened.

    In single precision differences take steps so long that each crosses kinks of a wide network of ReLUs.
    """
    if points.dtype != torch.float32:
        return None
    for called in (function, in_double(function)):
        try:
            return examine(called, points.double(), scripted)
        except torch.OutOfMemoryError:
            raise
        except Exception:  # whatever a function of another precision raises
            continue
    return None


def _agrees(found: Findings, function: RowWise, probes: Probes) -> bool:
    """Whether a function changes, and its derivatives are, as was found to be right in double precision."""
    assert found.function is not None
    z, u = probes[0].z, probes[0].u
    exact = found.derivatives.push(found.function, z.double(), u.double())
    values, wide = (function(z).double(), function(z + u).double()), [found.function(x.double()) for x in (z, z + u)]
    # Each is in a unit of its own.
    unit = size_of(values[0]) / size_of(wide[0])
    changed = unit * (wide[1] - wide[0])
    off = size_of(found.derivatives.push(function, z, u).double() - unit * exact)
    apart = size_of(values[1] - values[0] - changed)
    near = (off <= probes.tolerance * unit * size_of(exact)) & (apart <= probes.tolerance * size_of(changed))
    return bool(near.all())


def _settle(function: RowWise, points: Float[Tensor, "N d"]) -> None:
    """Use a function as it will be used: what is scripted is specialized by its first calls, and stays so."""
    for _ in range(2):
        with torch.enable_grad():
            function(points.detach().clone().requires_grad_())


def _scaled(function: RowWise, points: Float[Tensor, "N d"]) -> RowWise:
    """The function in a unit in which squares of its values neither underflow nor overflow."""
    size = float(function(points[:1]).abs().amax())
    size = size if 0 < size < math.inf else 1.0

    @functools.wraps(function)
    def call(z: Tensor) -> Tensor:
        return function(z) / size

    return call


def _with(kernels: str, function: RowWise) -> RowWise:
    @functools.wraps(function)
    def call(z: Tensor) -> Tensor:
        with KERNELS[kernels]():
            return function(z)

    return call


def _devices(points: Tensor) -> list[Any]:
    return [points.device] if points.is_cuda else []


def _cause(function: RowWise, probes: Probes, tried: list[str]) -> str:
    """Why no way to differentiate a function is right, and what to do."""
    probe, forward = probes[0], tried[0]
    with torch.enable_grad():
        seen = function(probe.z.clone().requires_grad_()).requires_grad
    kinks = forward.startswith("its") and probe.z.dtype != torch.float64
    finer = "; kinks of very many ReLUs look alike in float32: if so, give points in float64" if kinks else ""
    if any("use_reentrant" in wrong for wrong in tried):
        return (
            "decoder: it is checkpointed with use_reentrant=True, which has no derivatives but those of .backward(); "
            "give torch.utils.checkpoint use_reentrant=False"
        )
    if not seen:
        found = "its output does not depend on z as far as autograd can see"
    elif forward.startswith("its"):
        found = f"{forward}: a part of it changes with z and is hidden from autograd"
    else:
        return f"decoder: torch cannot differentiate it ({forward}); write it with torch's own operators"
    return (
        f"decoder: {found}; look for torch.no_grad, .detach(), .data, .item(), NumPy, rounding, or a straight-through "
        f"gradient, and take them out{finer}"
    )
