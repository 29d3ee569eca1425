"""What is decided before a search begins: the solver, how it certifies, and how much is worked on at once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.costs import Costs
from geodesic.geometry.manifold import Manifold
from geodesic.solvers.solver import SOLVERS, Solver

__all__ = ["MadeFor", "Plan", "in_bytes"]

_NAMES = {"observe": "forward", "squared_norm": "tangent", "expansion": "exact Hessian"}  # of kinds of work


@dataclass(frozen=True)
class MadeFor:
    """The manifold and the points that a plan was made for.

    Attributes:
        geometry: Class of the manifold.
        latent_size: d.
        output_size: Numbers that the geometry is made from at a point.
        dtype: Of points.
        device: Kind of device, such as cpu.
    """

    geometry: str
    latent_size: int
    output_size: int
    dtype: str
    device: str

    @classmethod
    def of(cls, manifold: Manifold, point: Float[Tensor, "1 d"]) -> MadeFor:
        """That of a manifold, at points like one."""
        with torch.no_grad():
            size = manifold.observe(point).numel()
        dtype = str(point.dtype).removeprefix("torch.")
        return cls(type(manifold).__name__, point.shape[-1], size, dtype, point.device.type)

    def __str__(self) -> str:
        return (
            f"{self.geometry} with {self.latent_size} latent coordinates and {self.output_size} outputs, "
            f"{self.dtype} on {self.device}"
        )


@dataclass(frozen=True)
class Plan:
    """How geodesics are looked for: decided before the work begins, from what the decoder costs.

    `solution.plan` is the one that was followed; `print` shows it. Given again, as `solve(..., plan=solution.plan)` or
    `Search(plan=...)`, nothing is measured or decided anew, and the same input gives the same answer bit for bit. It
    takes the place of `solver` and `memory`.

    Attributes:
        solver: With its settings; its text, where it was read from a file that cannot hold it.
        reason: Why it was chosen, or that it was asked for, in words.
        certificate: "exact", by Hessians that are formed, or "products", by products with the Hessian.
        preconditioner: What tames badly conditioned energies, in words.
        pairs: Worked on at once, at the largest number of segments.
        nodes: Of a path at once, at the largest number of segments.
        path_nodes: Of a path in all, at the largest number of segments.
        bytes: That the largest group takes besides its answer, about.
        pair_bytes: That one pair may take.
        group_bytes: That pairs may take together.
        given_up: What else was given up for want of memory, in words; empty where nothing was.
        costs: What was measured: bytes, and seconds where the choice hangs on them.
        made_for: The manifold and the points.
    """

    solver: Solver[Any] | str
    reason: str
    certificate: str
    preconditioner: str
    pair_bytes: float
    group_bytes: float
    made_for: MadeFor
    pairs: int = 1
    nodes: int = 1
    path_nodes: int = 1
    bytes: float = 0.0
    given_up: str = ""
    costs: Costs = field(default_factory=Costs)

    @property
    def words(self) -> str:
        """Which solver, why, and what was given up for want of memory."""
        some = f"{self.nodes} of {self.path_nodes} nodes at once, to stay within {in_bytes(self.bytes)}"
        return "; ".join(filter(None, (self.reason, self.given_up, some if self.nodes < self.path_nodes else "")))

    def __str__(self) -> str:
        lines = {
            "solver": str(self.solver),
            "reason": self.reason,
            "certificate": {"exact": "exact Hessians"}.get(self.certificate, "products with the Hessian"),
            "preconditioner": self.preconditioner,
            "at once": f"{self.pairs} pairs, {self.nodes} of {self.path_nodes} nodes of each,"
            f" in {in_bytes(self.bytes)}",
            "given up": self.given_up or "nothing",
            "a node takes": ", ".join(
                f"{_NAMES.get(work, work)} {seconds * 1e3:.3g} ms" for work, seconds in self.costs.seconds.items()
            ),
            "and": ", ".join(f"{_NAMES.get(work, work)} {in_bytes(size)}" for work, size in self.costs.bytes.items()),
            "made for": str(self.made_for),
        }
        return "\n".join(f"{name:<15} {text}" for name, text in lines.items() if text)

    def require_suited(self, manifold: Manifold, point: Float[Tensor, "1 d"]) -> None:
        """Refuse a plan that was made for another manifold.

        Raises:
            InputError: With what it was made for; or its solver was not saved with it.
        """
        if isinstance(self.solver, str):
            raise InputError(
                f"plan: expected one with its solver, and {self.solver} is none that a file can hold; give solver= "
                "instead"
            )
        here = MadeFor.of(manifold, point)
        if here != self.made_for:
            raise InputError(
                f"plan: expected one made for {here}, got one for {self.made_for}; leave plan out, and one is made"
            )

    def to_json(self) -> str:
        """The plan as text, for a file."""
        record = {part.name: getattr(self, part.name) for part in fields(self)}
        nested = {"made_for": asdict(self.made_for), "costs": asdict(self.costs)}
        return json.dumps(record | nested | {"solver": _written(self.solver)})

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan of a text that `to_json` made."""
        record = json.loads(text)
        solver = record["solver"]
        record["solver"] = solver if isinstance(solver, str) else _restored(solver)
        return cls(**record | {"made_for": MadeFor(**record["made_for"]), "costs": Costs(**record["costs"])})


def in_bytes(size: float) -> str:
    """A number of bytes, to be read."""
    if math.isinf(size):
        return "more than there is"
    return f"{size / 1e9:.3g} GB" if size >= 1e8 else f"{size / 1e6:.3g} MB"


def _written(solver: Solver[Any] | str) -> dict[str, Any] | str:
    """A solver by its kind and its settings; its text where these cannot be written down."""
    try:
        record = _described(solver)
        json.dumps(record)
    except (InputError, TypeError):  # of no kind, or with an encoder
        return str(solver)
    return record


def _described(solver: Any) -> dict[str, Any]:
    record = SOLVERS.describe(solver)
    return {name: _described(value) if isinstance(value, Solver) else value for name, value in record.items()}


def _restored(record: Mapping[str, Any]) -> Solver[Any]:
    """The solver that was described."""
    parts = {name: _restored(value) if isinstance(value, dict) else value for name, value in record.items()}
    return SOLVERS.restore(parts)
