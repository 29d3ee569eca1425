"""The driver: starts every pair from the straight line, runs a solver, decides what has converged."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geodesic.errors import DecoderError, InputError
from geodesic.geometry.energy import decoder_residual, energy_and_gradient, relative_excess_energy
from geodesic.geometry.manifold import Manifold, check_manifold
from geodesic.geometry.path import path_length, straight_path
from geodesic.solvers.gradient_descent import GradientDescent
from geodesic.solvers.solution import GeodesicSolution, Progress, Status
from geodesic.solvers.solver import Solver

__all__ = ["solve"]

_PROBES = 8  # points on which the decoder is examined before the work begins


def solve(
    manifold: Manifold,
    start: Tensor,
    end: Tensor,
    *,
    solver: Solver[Any] | None = None,
    segments: int = 32,
    tol: float = 1e-6,
    max_steps: int = 2000,
    callback: Callable[[Progress], None] | None = None,
) -> GeodesicSolution:
    """Find geodesics between pairs of points, all pairs at once.

    A pair has converged when `relative_excess_energy` is at most `tol`, whatever rule the solver itself
    follows. That ratio has no unit: multiplying all outputs by a constant changes nothing. Pairs that have
    ended leave the batch, and no pair's answer depends on the others.

    Args:
        manifold: Where to measure.
        start: First endpoints, (*batch, d), floating point; device and dtype are those of the answer.
        end: Last endpoints, of the same shape, dtype and device.
        solver: How to improve the paths; `GradientDescent()` by default.
        segments: Number T of segments of each path, at least 2.
        tol: Largest relative excess energy of a pair that counts as converged.
        max_steps: Most steps of the solver for any pair.
        callback: Called with a `Progress` before the first step and after each one.

    Returns:
        The paths with what was measured on them. A pair that did not converge says why in its `status`.
        Equal endpoints give the constant path, of length 0 and converged.

    Raises:
        InputError: Endpoints, `segments`, `tol` or `max_steps` cannot be used.
        DecoderError: The decoder does not take the endpoints, has coupled rows, or is not finite on the
            straight line.

    Example:
        >>> import torch, geodesic
        >>> sphere = geodesic.PullbackManifold(
        ...     lambda z: torch.stack(
        ...         [z[:, 0].sin() * z[:, 1].cos(), z[:, 0].sin() * z[:, 1].sin(), z[:, 0].cos()], dim=1
        ...     )
        ... )
        >>> a, b = torch.tensor([torch.pi / 4, 0.0]), torch.tensor([torch.pi / 4, 2.0])
        >>> solution = geodesic.solve(sphere, a, b)
        >>> print(f"{float(solution.length):.4f}", bool(solution.converged))
        1.2746 True
    """
    _check(manifold, start, end, segments, tol, max_steps)
    if solver is not None and not isinstance(solver, Solver):
        raise InputError(f"solver: expected a solver such as GradientDescent(), got {solver!r}")
    solver = GradientDescent() if solver is None else solver
    batch = start.shape[:-1]
    path = straight_path(start.detach(), end.detach(), segments).reshape(-1, segments + 1, start.shape[-1])
    check_manifold(manifold, torch.cat([path[:_PROBES, 0], path[:_PROBES, -1]]))
    initial_energy, gradient = energy_and_gradient(manifold, path)
    _check_finite(initial_energy, gradient)
    straight_length = _length(manifold, path)

    path, status, steps = _run(manifold, solver, path, batch, tol, max_steps, callback)

    values = {
        "path": path,
        "energy": energy_and_gradient(manifold, path)[0],
        "initial_energy": initial_energy,
        "length": _length(manifold, path),
        "straight_length": straight_length,
        "relative_excess_energy": relative_excess_energy(manifold, path),
        "decoder_residual": decoder_residual(manifold, path),
        "converged": status == Status.CONVERGED,
        "status": status,
        "steps": steps,
    }
    # Between equal ends all of these are zero, where a decoder's rounding leaves traces.
    for name in ("energy", "initial_energy", "length", "straight_length", "relative_excess_energy", "decoder_residual"):
        values[name] = torch.where(_constant(path), 0, values[name])
    return GeodesicSolution(**{name: x.reshape(batch + x.shape[1:]) for name, x in values.items()}, tol=tol)


def _run(
    manifold: Manifold,
    solver: Solver[Any],
    path: Tensor,
    batch: torch.Size,
    tol: float,
    max_steps: int,
    callback: Callable[[Progress], None] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loop over steps. Rows of the state are the active pairs; finished ones are written back and leave."""
    path = path.clone()
    constant = _constant(path)
    status = torch.where(constant, Status.CONVERGED, Status.RUNNING)
    steps = torch.zeros_like(status)
    energy = torch.zeros_like(path[:, 0, 0])
    (active,) = (~constant).nonzero(as_tuple=True)
    state: Any = solver.begin(manifold, path[active]) if len(active) else None
    for step in range(max_steps + 1):
        if state is not None:
            energy[active], ended = state.energy, state.status.clone()
        last = step == max_steps
        if state is None:
            pass
        elif last or step % solver.check_every == 0 or bool((ended != Status.RUNNING).any()):
            ended[relative_excess_energy(manifold, state.path) <= tol] = Status.CONVERGED
            if last:
                ended[ended == Status.RUNNING] = Status.MAX_STEPS
            done = ended != Status.RUNNING
            rows = active[done]
            path[rows], status[rows], steps[rows] = state.path[done], ended[done], step
            if bool(done.any()):
                active = active[~done]
                state = type(state)(*(x[~done] for x in state))
        if callback is not None:
            running = status == Status.RUNNING
            callback(
                Progress(
                    step,
                    energy.reshape(batch).clone(),
                    running.reshape(batch),
                    (status == Status.CONVERGED).reshape(batch),
                )
            )
        if not len(active):
            break
        state = solver.step(manifold, state)
    return path, status, steps


def _constant(path: Tensor) -> Tensor:
    return (path[:, 0] == path[:, -1]).all(-1)


def _length(manifold: Manifold, path: Tensor) -> Tensor:
    with torch.no_grad():
        return path_length(manifold, path)


def _check(manifold: Any, start: Any, end: Any, segments: Any, tol: Any, max_steps: Any) -> None:
    if not isinstance(manifold, Manifold):
        raise InputError(
            f"manifold: expected a Manifold such as PullbackManifold(decoder), got {type(manifold).__name__}"
        )
    for name, z in (("start", start), ("end", end)):
        if not isinstance(z, Tensor):
            raise InputError(f"{name}: expected a tensor, got {type(z).__name__}; use torch.as_tensor({name})")
        if z.dtype not in (torch.float32, torch.float64):
            raise InputError(f"{name}: expected floating point, float32 or float64, got {z.dtype}; use {name}.double()")
        if z.dim() == 0 or z.numel() == 0:
            raise InputError(f"{name}: expected points of shape (*batch, d), got {tuple(z.shape)}")
    for what in ("shape", "dtype", "device"):
        a, b = getattr(start, what), getattr(end, what)
        if a != b:
            a, b = (tuple(x) if what == "shape" else x for x in (a, b))
            raise InputError(f"end: expected the {what} of start, {a}, got {b}")
    for name, z in (("start", start), ("end", end)):
        if not z.isfinite().all():
            where = (~z.isfinite()).nonzero()[0].tolist()
            raise InputError(f"{name}: expected finite coordinates, got {z[tuple(where)].item()} at {where}")
    for name, value, least in (("segments", segments, 2), ("max_steps", max_steps, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name}: expected an integer of at least {least}, got {value!r}")
    if isinstance(tol, bool) or not isinstance(tol, int | float) or not (0 < tol < math.inf):
        raise InputError(f"tol: expected a positive number, got {tol!r}")


def _check_finite(energy: Tensor, gradient: Tensor) -> None:
    finite = energy.isfinite() & gradient.isfinite().flatten(1).all(1)
    if not finite.all():
        rows = (~finite).nonzero()[:, 0].tolist()
        raise DecoderError(
            f"decoder: its output or gradient is not finite on the straight line of {len(rows)} of "
            f"{len(energy)} pairs (the first is pair {rows[0]}); remove these pairs or check the weights there"
        )
