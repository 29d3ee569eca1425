"""What a run of a method cost: floating-point operations, seconds, and the energies it had by then.

Work is counted in decoder forward passes per path point: all floating-point operations that torch's flop registry
knows, over those of one forward pass of the path's nodes. It does not depend on the machine. Elementwise operations
and small factorizations are not in the registry and are not counted, for no method.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import geodesic


class FlopCounter(TorchDispatchMode):
    """Adds up the floating-point operations of all that runs under it.

    torch's own FlopCounterMode hooks modules, which fails under torch.func. A dispatch mode alone sees the operations
    after every transform has been taken apart, so products under jvp, vjp and vmap count as what is executed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.paused = False

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = operation(*args, **kwargs)
        count = flop_registry.get(operation._overloadpacket)
        if count is not None and not self.paused:
            self.flops += count(*args, **kwargs, out_val=out)
        return out


def flops_of(call: Callable[[], object]) -> int:
    """Floating-point operations of one call."""
    with FlopCounter() as counter:
        call()
    return counter.flops


@dataclass(frozen=True)
class Trace:
    """What a run had reached, and when. The first axis counts notes, the second pairs.

    Args:
        seconds: Since the start of the run, at each note.
        flops: The same in floating-point operations; None where nobody counted.
        energies: (notes, P); NaN for a pair without a path.
        total_seconds: Of the whole run, what follows the last note included.
        path: The final paths, (P, T + 1, d).
        statuses: Why each pair ended, in the method's own words.
        remark: What the reader of the table should know.
    """

    seconds: list[float]
    flops: list[int] | None
    energies: Tensor
    total_seconds: float
    path: Tensor
    statuses: list[str]
    remark: str


class Recorder:
    """Takes notes along a run. Neither the time nor the operations that a note takes are counted.

    Args:
        manifold: Where paths that come without an energy are measured.
        counter: The mode under which the run stands, if its work is to be counted.
        clock: Seconds. Those of the processor do not depend on what else is running; with one thread they are those of
            a quiet machine, about.
    """

    def __init__(
        self,
        manifold: geodesic.Manifold,
        counter: FlopCounter | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.manifold = manifold
        self.counter = counter
        self._seconds: list[float] = []
        self._flops: list[int | None] = []
        self._energies: list[Tensor] = []
        self._lost = 0.0  # seconds spent here
        self._depth = 0
        self._extrapolated = False
        self._clock = clock
        self._begin = clock()

    def seconds(self) -> float:
        """Since the start of the run, without what was done aside."""
        return self._clock() - self._begin - self._lost

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is done in here costs the method nothing."""
        arrived, before = self._clock(), self._lost
        self._depth += 1
        if self.counter is not None:
            self.counter.paused = True
        try:
            yield
        finally:
            self._depth -= 1
            if self.counter is not None:
                self.counter.paused = self._depth > 0
            self._lost = before + self._clock() - arrived

    def energy(self, energy: Tensor) -> None:
        """Note the pairs' energies, (P,), that the method has anyway."""
        seconds, flops = self.seconds(), self._counted()
        with self.aside():
            self._note(energy, seconds, flops)

    def path(self, path: Tensor) -> None:
        """Note paths, (P, T + 1, d), whose energy the method does not know, or defines in another way."""
        seconds, flops = self.seconds(), self._counted()
        with self.aside(), torch.no_grad():
            self._note(geodesic.path_energy(self.manifold, path.detach()), seconds, flops)

    def extrapolated(self, energy: Tensor, seconds: float, flops: int) -> None:
        """Note energies, (P,), with what the run would have cost up to here."""
        self._extrapolated = True
        self._note(energy, seconds, flops)

    def trace(self, path: Tensor, statuses: list[str], remark: str) -> Trace:
        """The notes, at the end of the run."""
        total = self._seconds[-1] if self._extrapolated else self.seconds()
        flops = None if None in self._flops else self._flops
        return Trace(self._seconds, flops, torch.stack(self._energies), total, path.detach(), statuses, remark)

    def _counted(self) -> int | None:
        return None if self.counter is None else self.counter.flops

    def _note(self, energy: Tensor, seconds: float, flops: int | None) -> None:
        self._seconds.append(seconds)
        self._flops.append(flops)
        self._energies.append(energy.detach().double().clone())


def counting(counter: FlopCounter | None) -> Any:
    """The counter as a context, or one that does nothing."""
    return nullcontext() if counter is None else counter


class Operations(TorchDispatchMode):
    """Counts operations: products as multiplications and additions, factorizations likewise, others an entry each."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        packet = func._overloadpacket
        if packet in flop_registry:
            self.total += flop_registry[packet](*args, **kwargs, out_val=result)
        elif not func.is_view:
            outputs = [x for x in (result if isinstance(result, tuple | list) else (result,)) if isinstance(x, Tensor)]
            entries = sum(x.numel() for x in outputs)
            name = func.__name__.split(".")[0]
            if name.startswith(("linalg_", "_linalg_", "cholesky_")) and outputs[0].dim() > 1:
                entries = outputs[0].numel() * outputs[0].shape[-2]
            self.total += entries
        return result
