"""What a worker does: compute a chunk and write it."""

from __future__ import annotations

import io
import pickle
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from geodesic.distances.store.folder import Folder
from geodesic.distances.store.job import Chunk, Job, one_thread
from geodesic.distances.store.manifest import versions
from geodesic.errors import InputError
from geodesic.geometry.checks import admit, guarded
from geodesic.geometry.manifold import Manifold

__all__ = ["Parcel", "done", "packed"]

_PROBED = 16  # points at which the manifold is looked at, by every worker
_ALONE = threading.Lock()  # threads of a process would fight for what torch keeps for all of them


class Parcel:
    """A job on its way to workers, each of which opens it once.

    Args:
        content: What `packed` returned.
        device: Kind of device: of each worker its own.
        path: The folder of the store.
        needed: Versions that every worker has to have.
        dtype: The default dtype of the driver.
    """

    def __init__(self, content: bytes, device: str, path: Path, needed: dict[str, str], dtype: torch.dtype) -> None:
        self._content, self._device, self.path, self._needed, self._dtype = content, device, path, needed, dtype
        self._job: Job | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_job": None}

    def done(self, chunk: Chunk) -> Chunk:
        """Compute a chunk and write it.

        Raises:
            InputError: This worker has other versions, or does not see the store.
        """
        with _ALONE:
            if self._job is None:
                self._job = self._opened()
            before = torch.get_default_dtype()
            torch.set_default_dtype(self._dtype)
            try:
                return done(self._job, Folder(self.path), chunk)
            finally:
                torch.set_default_dtype(before)

    def _opened(self) -> Job:
        here = versions()
        if here != self._needed:
            raise InputError(
                f"scheduler: a worker has {_said(here)}, expected {_said(self._needed)}; start it with these"
            )
        if Folder(self.path).manifest() is None:
            raise InputError(
                f"store: a worker does not see {self.path}; choose a folder that all machines see under the same path"
            )
        stream = io.BytesIO(self._content)
        job: Job = torch.load(stream, map_location=self._device, weights_only=False)  # what the driver made itself
        return job


def packed(job: Job) -> bytes:
    """A job as bytes, with functions of the user's in them.

    Raises:
        InputError: The decoder cannot be sent.
    """
    import cloudpickle

    stream = io.BytesIO()
    try:
        torch.save(job, stream, pickle_module=cloudpickle)
    except (pickle.PicklingError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"manifold: it cannot be sent to workers ({error}); leave out of the decoder what is open in this process, "
            "such as files, locks and generators, or use scheduler='local'"
        ) from None
    return stream.getvalue()


def done(job: Job, folder: Folder, chunk: Chunk) -> Chunk:
    """Compute a chunk and write it; the chunk."""
    with one_thread():
        values, note = _computed(job.manifold, job, chunk)
    folder.put(chunk, values, {"pairs": job.pairs(chunk), **note})
    return chunk


@guarded
def _computed(manifold: Manifold, job: Job, chunk: Chunk) -> tuple[dict[str, Any], dict[str, int]]:
    # What is found out about a decoder is found at the first points of all, whatever chunk comes first.
    admit(manifold, job.points[:_PROBED])
    return replace(job, manifold=manifold).compute(chunk)  # type: ignore[type-var]


def _said(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())
