"""Fill a store: what is missing, and only that."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from geodesic.checks import warn
from geodesic.distances.store.folder import Folder, writing
from geodesic.distances.store.job import Chunk, Job, name_of, one_thread
from geodesic.distances.store.manifest import differences, manifest_of, outputs_of, planned, require_same_outputs
from geodesic.distances.store.settings import Store
from geodesic.distances.store.work import done
from geodesic.distances.store.workers import by_workers
from geodesic.distances.told import DistanceProgress, Teller
from geodesic.errors import DataError
from geodesic.files import locked

__all__ = ["fill"]

_NAMED = 5  # chunks in a message


def fill(job: Job, store: Store, callback: Callable[[DistanceProgress], None] | None) -> Path:
    """Compute all chunks that are missing.

    Args:
        job: What is to be found; its search as the user gave it.
        store: Where it is kept, and who finds it.
        callback: Told after each chunk.

    Returns:
        The folder.

    Raises:
        DataError: The store is of something else, or cannot be written.
        RunFolderError: Another process fills it.
        InputError: There is no scheduler, or its workers cannot be used.
    """
    path = Path(store.path).expanduser().absolute()
    folder = Folder(path)
    with _alone(path), one_thread():
        ready = _opened(job, folder)
        marked = folder.marked()
        whole = {chunk for chunk in marked if folder.is_sound(chunk)}
        _tell_of(path, sorted(marked - whole))
        teller, missing, known = Teller(callback), [], 0
        for chunk in ready.chunks():
            pairs = ready.pairs(chunk)
            teller.pairs += pairs
            if chunk in whole:
                known += pairs
            else:
                missing.append(chunk)
        teller.known(known)
        for chunk in _found(ready, folder, missing, store):
            teller.tell(ready.pairs(chunk))
    return path


def _found(job: Job, folder: Folder, missing: list[Chunk], store: Store) -> Iterable[Chunk]:
    if not missing:
        return ()
    if store.scheduler == "local":
        return (done(job, folder, chunk) for chunk in missing)
    return by_workers(job, folder.path, missing, store)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from filling the same store."""
    with contextlib.ExitStack() as stack:
        with writing(path):
            stack.enter_context(locked(path))
        yield


def _opened(job: Job, folder: Folder) -> Job:
    """The job with the plan of the store, which is made where there is none."""
    manifest, asked = folder.manifest(), job.search
    if manifest is None:
        job = planned(job, None)
        points: dict[str, Any] = {"points": job.points.cpu().numpy(), "outputs": outputs_of(job)}
        if job.second is not None:
            points["others"] = job.second.cpu().numpy()
        found = job.prepared()
        folder.create(manifest_of(job, asked), points | found, job.layouts)
        return job.with_prepared(found)
    job = planned(job, json.dumps(manifest["plan"]) if "plan" in manifest else None)
    other = differences(manifest, manifest_of(job, asked))
    if other:
        raise DataError(
            f"store: {folder.path} was made otherwise: {', '.join(other)}; give the same, or choose another folder"
        )
    found = folder.points()
    require_same_outputs(folder.path, found["outputs"], outputs_of(job))
    return job.with_prepared(found)


def _tell_of(path: Path, damaged: list[Chunk]) -> None:
    """Name chunks that are not as they were written."""
    if damaged:
        names = ", ".join(map(name_of, damaged[:_NAMED]))
        more = f" and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""
        warn(f"store: chunks of {path} are damaged and done again: {names}{more}")
