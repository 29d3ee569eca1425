"""What a store was made from, and whether that is what there is now."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from importlib.metadata import version
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import geodesic
from geodesic.distances.store.job import Job
from geodesic.distances.tolerance import tolerance
from geodesic.errors import DataError, InputError
from geodesic.geometry.manifold import Manifold
from geodesic.solvers.choose import make_plan
from geodesic.solvers.plan import Plan
from geodesic.solvers.search import Search

__all__ = ["FORMAT", "differences", "manifest_of", "outputs_of", "planned", "require_same_outputs", "versions"]

FORMAT = {"format": "distances of geodesic", "format_version": 1}

_OTHERWISE = {"plan": "another plan", "points": "other points", "decoder": "another decoder"}  # said without values
_OTHERWISE["others"] = "other points to measure to, or queries"

_LOOKED_AT = 8  # points at which a decoder is recognized
_ALIKE = 1e-4  # how near its outputs there are, relative to the largest

AnyJob = TypeVar("AnyJob", bound=Job)


def versions() -> dict[str, str]:
    """Versions of what the answers depend on, and of what writes them."""
    return {"geodesic": geodesic.__version__, "torch": torch.__version__, "zarr": version("zarr")}


def planned(job: AnyJob, stored: str | None) -> AnyJob:
    """The job with the plan that all chunks follow: the user's, that of the store, or one that is made now.

    Args:
        job: Whose search may have a plan.
        stored: The plan of the store, as text, if there is one.

    Raises:
        InputError: The solver cannot be written down.
    """
    search = job.search
    if search.plan is None:
        if stored is not None:
            plan = Plan.from_json(stored)
        else:
            plan = make_plan(job.manifold, search.solver, job.points[:1], search.memory)
        search = replace(search, plan=plan, solver="auto", memory=None)
    assert search.plan is not None
    if isinstance(json.loads(search.plan.to_json())["solver"], str):
        raise InputError(
            f"solver: expected one whose settings can be written to a file, got {search.plan.solver}; a store takes "
            "solvers without functions of yours"
        )
    return replace(job, search=search)  # type: ignore[type-var]


def manifest_of(job: Job, asked: Search) -> dict[str, Any]:
    """What a store says of itself.

    Args:
        job: With its plan.
        asked: The search as the user gave it.
    """
    assert job.search.plan is not None
    second = job.second
    return {
        **FORMAT,
        "kind": job.kind,
        "settings": job.settings,
        "search": _described(asked),
        "tolerances": {"tol": tolerance(job.manifold, job.search, job.points), "length_rtol": job.search.rtol},
        "plan": json.loads(job.search.plan.to_json()),
        "points": _digest(job.points),
        "others": None if second is None else _digest(second),
        "decoder": {"manifold": type(job.manifold).__name__, "weights": _weights(job.manifold)},
        "dtype": str(job.points.dtype),
        "device": job.points.device.type,
        "versions": versions(),
    }


def differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """In what two manifests differ, in words; none where one goes on where the other ended."""
    found = []
    for name in here:
        old, new = there.get(name), here[name]
        if name == "versions":
            old, new = ({part: (x or {}).get(part) for part in ("geodesic", "torch")} for x in (old, new))
        if old == new:
            continue
        if name in _OTHERWISE:
            found.append(_OTHERWISE[name])
        elif isinstance(old, dict) and isinstance(new, dict):
            parts = [part for part in new if old.get(part) != new[part]]
            found += [f"{part} ({old.get(part)} there, {new[part]} here)" for part in parts]
        else:
            found.append(f"{name} ({old} there, {new} here)")
    return found


def outputs_of(job: Job) -> NDArray[Any]:
    """What the decoder says at the first points."""
    with torch.no_grad():
        return job.manifold.observe(job.points[:_LOOKED_AT]).flatten(1).double().cpu().numpy()


def require_same_outputs(path: object, there: NDArray[Any], here: NDArray[Any]) -> None:
    """Refuse a decoder that says something else at the first points.

    Raises:
        DataError: With by how much.
    """
    if there.shape == here.shape:
        size = max(float(np.abs(there).max(initial=0)), 1e-30)
        off = float(np.abs(there - here).max(initial=0)) / size
        if off <= _ALIKE:
            return
        said = f"its outputs at the first points differ by {off:.1e} of the largest"
    else:
        said = f"it has {there.shape[1]} outputs there and {here.shape[1]} here"
    raise DataError(f"store: {path} is of another decoder: {said}; give that one, or choose another folder")


def _described(search: Search) -> dict[str, Any]:
    """A search as JSON has it, without its plan."""
    cloud = search.graph_points
    return {
        "solver": str(search.solver) if search.plan is None else "auto",
        "init": search.init,
        "graph_points": None if cloud is None else _digest(cloud),
        "segments": search.segments,
        "length_rtol": search.length_rtol,
        "tol": search.tol,
        "max_steps": search.max_steps,
        "memory": search.memory,
    }


def _digest(x: Tensor) -> str:
    values = np.ascontiguousarray(x.detach().cpu().numpy())
    return hashlib.sha256(f"{values.dtype} {values.shape}".encode() + values.tobytes()).hexdigest()


def _weights(manifold: Manifold) -> str | None:
    """Of the modules that a decoder consists of: of their names, shapes and values; None where there are none."""
    modules = manifold.door.modules if manifold.door else []
    if not modules:
        return None
    total = hashlib.sha256()
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            said = _digest(value.to_dense()) if isinstance(value, Tensor) else repr(value)
            total.update(f"{name} {said}\n".encode())
    return total.hexdigest()
