"""Where distances are kept, and who finds them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geodesic.checks import require_integer, require_positive
from geodesic.errors import InputError

__all__ = ["Store", "store_of"]

_WORDS = "'local', 'processes:N', an address such as 'tcp://HOST:PORT', or the path of a scheduler file"


@dataclass(frozen=True)
class Store:
    """A folder for distances that are found chunk by chunk, and who finds them.

    Args:
        path: The folder, made where it is not there. Workers on other machines need to see it under the same path.
        tile: Points on each side of a tile of a matrix, or queries of a chunk of neighbors: so much is lost where a
            process ends, and pairs begin near the geodesics of others of their tile.
        scheduler: "local" for this process, "processes:N" for N of them on this machine; the address of a scheduler of
            Dask, "tcp://HOST:PORT", or the path of its scheduler file.
        timeout: Seconds to wait for a scheduler, and for a worker while there is none.

    Raises:
        InputError: A setting cannot be used.

    Example:
        >>> from geodesic.distances import Store
        >>> Store("distances", scheduler="processes:4").processes
        4
    """

    path: Path | str
    tile: int = 64
    scheduler: Path | str = "local"
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if not isinstance(self.path, Path | str) or not str(self.path):
            raise InputError(f"path: expected the path of a folder, got {self.path!r}")
        require_integer("tile", self.tile, least=1)
        require_positive("timeout", self.timeout)
        known = isinstance(self.scheduler, Path) or (isinstance(self.scheduler, str) and self._is_known)
        if not known:
            raise InputError(f"scheduler: expected {_WORDS}, got {self.scheduler!r}")

    @property
    def _is_known(self) -> bool:
        word = str(self.scheduler)
        return word == "local" or self.processes > 0 or "://" in word or Path(word).suffix == ".json"

    @property
    def processes(self) -> int:
        """N of "processes:N"; 0 for other schedulers."""
        found = re.fullmatch(r"processes:([1-9]\d*)", str(self.scheduler))
        return int(found[1]) if found else 0


def store_of(store: Any) -> Store:
    """The record of what a user said: a path, or the record itself.

    Raises:
        InputError: It is neither.
    """
    if isinstance(store, Store):
        return store
    if isinstance(store, Path | str):
        return Store(store)
    raise InputError(f"store: expected the path of a folder or a Store, got {type(store).__name__}")
