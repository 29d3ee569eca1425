"""Workers of Dask: the same chunks, in other processes or on other machines."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from geodesic.distances.store.job import Chunk, Job, name_of
from geodesic.distances.store.manifest import versions
from geodesic.distances.store.settings import Store
from geodesic.distances.store.work import Parcel, packed
from geodesic.errors import DataError, GeodesicError, InputError
from geodesic.installation import require

__all__ = ["by_workers", "for_each", "started"]

_AHEAD = 2  # chunks for each thread of a worker that the scheduler is told of
_KEEPS = {"MALLOC_TRIM_THRESHOLD_": 256 << 20, "MALLOC_MMAP_THRESHOLD_": 32 << 20}
"""Bytes that a worker keeps for its next tensors. Dask's 64 kB have every tensor asked for from the kernel, which takes
a third of the time."""
_LOOKED = 2.0  # seconds between two looks at whether there still are workers


def by_workers(job: Job, path: Path, missing: list[Chunk], store: Store) -> Iterator[Chunk]:
    """Have chunks done by workers; yields each that is.

    Args:
        job: With its plan.
        path: The folder of the store.
        missing: The chunks.
        store: Says where the workers are.

    Raises:
        InputError: There is no scheduler or no worker, or workers cannot be used.
        GeodesicError: From a worker; or a chunk ended several workers.
    """
    require("scale", "dask", "distributed")
    from geodesic.distances.store.delivery import Delivery, delivered

    parcel = Parcel(packed(job), job.points.device.type, path, versions(), torch.get_default_dtype())
    name = f"geodesic-{uuid4().hex}"
    with _client(store) as client:
        client.register_plugin(Delivery(name, parcel), name=name)
        try:
            tasks = {name_of(chunk): (delivered, name, chunk) for chunk in missing}
            yield from _in_flight(client, name, tasks, store)
        finally:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                client.unregister_worker_plugin(name)


def for_each(tasks: Mapping[str, tuple[Any, ...]], store: Store) -> Iterator[Any]:
    """Have functions called by workers; yields what each returns, in the order in which they end.

    Args:
        tasks: A function and its arguments, by a name for messages.
        store: Says where the workers are.

    Raises:
        InputError: As from `by_workers`.
        GeodesicError: From a worker; or a task ended several workers.
    """
    require("scale", "dask", "distributed")
    with _client(store) as client:
        yield from _in_flight(client, f"geodesic-{uuid4().hex}", tasks, store)


@contextlib.contextmanager
def started(store: Store) -> Iterator[Store]:
    """The store with the address of processes that run while the block does, where it asks for such."""
    if not store.processes:
        yield store
        return
    require("scale", "dask", "distributed")
    with _cluster(store) as cluster:
        yield replace(store, scheduler=cluster.scheduler_address)


def _in_flight(client: Any, name: str, tasks: Mapping[str, tuple[Any, ...]], store: Store) -> Iterator[Any]:
    """Answers as they come, with no more tasks known to the scheduler than keep the workers busy."""
    try:
        yield from _answers(client, name, tasks, store)
    except GeodesicError:
        raise
    except Exception as error:
        if client.status == "running" and not isinstance(error, OSError):
            raise
        raise _lost(store) from None


def _answers(client: Any, name: str, tasks: Mapping[str, tuple[Any, ...]], store: Store) -> Iterator[Any]:
    from distributed import wait

    waiting, seen = iter(tasks.items()), time.monotonic()
    flying: dict[Any, str] = {}
    while True:
        threads = _threads(client)
        while len(flying) < max(_AHEAD * threads, 1) and (task := next(waiting, None)) is not None:
            what, call = task
            flying[client.submit(*call, key=f"{name}-{what}", pure=False)] = what
        if not flying:
            return
        with contextlib.suppress(TimeoutError), client.as_current():
            wait(list(flying), timeout=_LOOKED, return_when="FIRST_COMPLETED")
        seen = time.monotonic() if threads else seen
        if time.monotonic() - seen > store.timeout:
            raise InputError(
                f"scheduler: {store.scheduler} has had no worker for {store.timeout:g} s; start some, and call again: "
                "chunks that are done stay"
            )
        for future in [future for future in flying if future.done()]:
            yield _answer(future, flying.pop(future), store)


def _answer(future: Any, what: str, store: Store) -> Any:
    """What a task returned, or why it did not."""
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    try:
        return future.result()
    except KilledWorker as error:
        raise GeodesicError(
            f"scheduler: chunk {what} ended {error.allowed_failures + 1} workers, one after the other; look "
            "at their logs, give them more memory, or take a smaller tile: chunks that are done stay"
        ) from None
    except FutureCancelledError:
        raise _lost(store) from None
    except OSError as error:
        # A lost scheduler is one too, but then no task has failed.
        if future.status != "error":
            raise
        raise DataError(f"chunk {what}: its worker could not read or write: {error}") from None


def _lost(store: Store) -> GeodesicError:
    return GeodesicError(
        f"scheduler: {store.scheduler} was lost; start it again, and call again: chunks that are done stay"
    )


@contextlib.contextmanager
def _client(store: Store) -> Iterator[Any]:
    """A client of the scheduler, with at least one worker behind it, all of which have our versions."""
    from distributed import Client

    with contextlib.ExitStack() as stack:
        target: Any = stack.enter_context(_cluster(store)) if store.processes else _address(store)
        try:
            client = stack.enter_context(Client(target, timeout=store.timeout, set_as_default=False))
        except OSError as error:  # TimeoutError is one
            raise InputError(
                f"scheduler: none answers at {target} within {store.timeout:g} s ({error or type(error).__name__}); "
                "check the address, and that `dask scheduler` runs there"
            ) from None
        try:
            client.wait_for_workers(1, timeout=store.timeout)
        except TimeoutError:
            raise InputError(
                f"scheduler: {target} has no worker within {store.timeout:g} s; start some with `dask worker {target}`"
            ) from None
        _require_versions(client)
        yield client


def _cluster(store: Store) -> Any:
    import dask
    from distributed import LocalCluster

    with dask.config.set({f"distributed.nanny.pre-spawn-environ.{key}": value for key, value in _KEEPS.items()}):
        return LocalCluster(
            n_workers=store.processes,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",  # any port: the usual one can be taken
            silence_logs=logging.CRITICAL,
        )


def _address(store: Store) -> str:
    """Of the scheduler that runs somewhere: as it was given, or from its file."""
    if "://" in str(store.scheduler):
        return str(store.scheduler)
    file = Path(store.scheduler)
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"scheduler: {file} is no scheduler file ({type(error).__name__}); start `dask scheduler --scheduler-file "
            f"{file}`, and wait until it has written it"
        ) from None


def _threads(client: Any) -> int:
    return sum(client.nthreads().values())


def _require_versions(client: Any) -> None:
    """Refuse workers with other versions than ours."""
    here = versions()
    try:
        found = client.run(versions)
    except ImportError as error:
        raise InputError(f"scheduler: its workers lack a package ({error}); install geodesic there as here") from None
    for worker, there in found.items():
        if there != here:
            parts = [
                f"{part} {there.get(part)} (expected {here[part]})" for part in here if there.get(part) != here[part]
            ]
            raise InputError(f"scheduler: worker {worker} has {', '.join(parts)}; install the same everywhere")
