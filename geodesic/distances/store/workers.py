"""Workers of Dask: the same chunks, in other processes or on other machines."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from geodesic.distances.store.job import Chunk, Job, name_of
from geodesic.distances.store.manifest import versions
from geodesic.distances.store.settings import Store
from geodesic.distances.store.work import Parcel, packed
from geodesic.errors import GeodesicError, InputError
from geodesic.installation import require

__all__ = ["by_workers"]

_AHEAD = 2  # chunks for each thread of a worker that the scheduler is told of
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
    from geodesic.distances.store.delivery import Delivery

    parcel = Parcel(packed(job), job.points.device.type, path, versions(), torch.get_default_dtype())
    name = f"geodesic-{uuid4().hex}"
    with _client(store) as client:
        _require_versions(client)
        client.register_plugin(Delivery(name, parcel), name=name)
        try:
            yield from _in_flight(client, name, missing, store)
        except GeodesicError:
            raise
        except Exception as error:
            if client.status == "running" and not isinstance(error, OSError):
                raise
            raise _lost(store) from None
        finally:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                client.unregister_worker_plugin(name)


def _in_flight(client: Any, name: str, missing: list[Chunk], store: Store) -> Iterator[Chunk]:
    """Chunks as they are done, with no more of them known to the scheduler than keep the workers busy."""
    from distributed import wait

    from geodesic.distances.store.delivery import delivered

    waiting, seen = iter(missing), time.monotonic()
    flying: dict[Any, Chunk] = {}
    while True:
        threads = _threads(client)
        while len(flying) < max(_AHEAD * threads, 1) and (chunk := next(waiting, None)) is not None:
            future = client.submit(delivered, name, chunk, key=f"{name}-{name_of(chunk)}", pure=False)
            flying[future] = chunk
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


def _answer(future: Any, chunk: Chunk, store: Store) -> Chunk:
    """The chunk that was done, or why it was not."""
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    try:
        found: Chunk = future.result()
    except KilledWorker as error:
        raise GeodesicError(
            f"scheduler: chunk {name_of(chunk)} ended {error.allowed_failures + 1} workers, one after the other; look "
            "at their logs, give them more memory, or take a smaller tile: chunks that are done stay"
        ) from None
    except FutureCancelledError:
        raise _lost(store) from None
    return found


def _lost(store: Store) -> GeodesicError:
    return GeodesicError(
        f"scheduler: {store.scheduler} was lost; start it again, and call again: chunks that are done stay"
    )


@contextlib.contextmanager
def _client(store: Store) -> Iterator[Any]:
    """A client of the scheduler, with at least one worker behind it."""
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        if store.processes:
            cluster = LocalCluster(
                n_workers=store.processes,
                threads_per_worker=1,
                processes=True,
                dashboard_address="127.0.0.1:0",  # any port: the usual one can be taken
                silence_logs=logging.CRITICAL,
            )
            target: Any = stack.enter_context(cluster)
        else:
            target = _address(store)
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
        yield client


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
