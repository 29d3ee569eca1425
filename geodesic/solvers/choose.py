"""The plan of a search: which solver suits a manifold, by what its decoder costs, and what fits into memory."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.costs import Meter
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import comfortable, most
from geodesic.geometry.pieces import InPieces
from geodesic.solvers.krylov import LARGEST_EXPLICIT
from geodesic.solvers.newton import Newton
from geodesic.solvers.newton_krylov import NewtonKrylov
from geodesic.solvers.plan import MadeFor, Plan, in_bytes
from geodesic.solvers.solver import Solver

__all__ = ["make_plan"]

_FEW = 4  # latent coordinates up to which an exact Hessian costs no more than a few products, whatever the decoder
_PRODUCTS = 40  # with the Hessian, that a certificate takes where no Hessian is formed
_ON_KINKS = 20  # as dear as so many an exact Hessian may be that does not know what bends the decoder
_TIMED = ("observe", "gradient", "squared_norm", "product", "expansion")
_NODES = 8  # of a path, that have to fit for exact Hessians to be worth their overlap


def make_plan(manifold: Manifold, solver: Solver[Any] | str, point: Float[Tensor, "1 d"], memory: float | None) -> Plan:
    """The plan for paths of points like this one, with a solver, or with the one that costs least.

    Args:
        manifold: Where to measure.
        solver: How to improve the paths; "auto" leaves it to the plan.
        point: One like those to come.
        memory: Bytes that the work may take; None: half of what is free.

    Raises:
        InputError: Not even the nodes that a gradient needs at once fit.
    """
    pair_bytes, group_bytes = most(point.device, memory), comfortable(point.device, memory)
    meter = Meter(manifold, point)
    pieces = InPieces(manifold, pair_bytes, meter)
    needed = pieces.bytes_of("gradient")
    if needed > pair_bytes:
        raise InputError(
            f"memory: three nodes with their backward pass take about {in_bytes(needed)}, got {in_bytes(pair_bytes)}; "
            f"{'free some' if memory is None else 'raise memory'}, or use a decoder of smaller outputs"
        )
    given_up = ""
    if isinstance(solver, str):
        solver, reason = _cheapest(pieces, group_bytes)
    else:
        reason = f"{type(solver).__name__}, as asked for"
    d = point.shape[-1]
    explicit, lighter = solver.uses_hessian(d) and pieces.forms_hessian, solver.lighter()
    if lighter is not None and not explicit:
        given_up = f"{type(lighter).__name__} in its place, since {_too_large(pieces)}"
        solver = lighter
    return Plan(
        solver=solver,
        reason="; ".join(filter(None, (reason, manifold.door.note if manifold.door else ""))),
        certificate="exact" if explicit else "products",
        preconditioner=solver.preconditioned_by(d, pieces.forms_metric),
        pair_bytes=pair_bytes,
        group_bytes=group_bytes,
        made_for=MadeFor.of(manifold, point),
        given_up=given_up,
        costs=meter.costs,
    )


def _cheapest(pieces: InPieces, memory: float) -> tuple[Solver[Any], str]:
    """The solver that takes least, and why: by exact Hessians or by products with them.

    Either is preceded by the same steps of `LBFGS`. A Hessian takes one or two passes of the decoder a direction, and
    certifies at once; a product takes two, and a certificate takes many of them. How dear directions are, side
    by side, hangs on the decoder: where d alone does not tell, both are timed.
    """
    meter = pieces.meter
    d = meter.point.shape[-1]
    if d > LARGEST_EXPLICIT:
        return NewtonKrylov(), f"NewtonKrylov: d = {d} is above {LARGEST_EXPLICIT}, where exact Hessians cost too much"
    if not pieces.forms_hessian:
        return NewtonKrylov(), f"NewtonKrylov: {_too_large(pieces)}"
    if d <= _FEW:
        return Newton(), f"Newton: d = {d} is at most {_FEW}, where exact Hessians cost next to nothing"
    needed = _NODES * meter.bytes_a_node("expansion")
    if needed > memory:
        said = f"exact Hessians of {_NODES} nodes take {in_bytes(needed)} of {in_bytes(memory)}"
        return NewtonKrylov(), f"NewtonKrylov: d = {d}, and {said}"
    seconds = {work: meter.seconds_a_node(work) for work in _TIMED}
    ratio = seconds["expansion"] / seconds["product"]
    door = meter.manifold.door
    kinks = door is not None and door.findings(meter.point).straight_between_kinks
    most = _ON_KINKS if kinks else _PRODUCTS
    said = f"d = {d}, and an exact Hessian takes as long as {ratio:.0f} products"
    limit = f"{most}" + (
        ", since most of the decoder's curvature lies on kinks, which no Hessian sees" if kinks else ""
    )
    if ratio > most:
        return NewtonKrylov(), f"NewtonKrylov: {said}, more than {limit}"
    return Newton(), f"Newton: {said}, no more than {limit}"


def _too_large(pieces: InPieces) -> str:
    return f"the Jacobians of four nodes do not fit into {in_bytes(pieces.memory)}"
