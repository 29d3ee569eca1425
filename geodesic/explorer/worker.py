"""One thread that answers requests: what is urgent first, and of what waits for the same only the newest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, NamedTuple

__all__ = ["Overtaken", "Worker", "purpose_of"]


class Overtaken(Exception):
    """What work raises that gives way, and what its future holds then, or where it was dropped."""


class _Job(NamedTuple):
    purpose: Hashable
    work: Callable[[Callable[[], bool]], Any]
    done: Future[Any]


class Worker:
    """Runs what it is given, one after the other, in a thread that ends with the program.

    A job with a purpose goes before those without, and takes the place of older ones for the same purpose. A thread of
    a pool would keep the program from ending until its work is done.
    """

    def __init__(self) -> None:
        self._waiting: list[_Job] = []
        self._news = threading.Condition()
        threading.Thread(target=self._run, name="geodesic explorer", daemon=True).start()

    def submit(self, purpose: Hashable, work: Callable[[Callable[[], bool]], Any]) -> Future[Any]:
        """Run this when its turn comes. The future holds `Overtaken` where it was dropped or gave way.

        Args:
            purpose: What is urgent; None for what has time.
            work: Called with a function that says whether something waits that goes before it; then it may raise
                `Overtaken`.

        Example:
            >>> from geodesic.explorer.worker import Worker
            >>> Worker().submit("follow", lambda overtaken: 42).result()
            42
        """
        job = _Job(purpose, work, Future())
        with self._news:
            dropped = [old for old in self._waiting if purpose is not None and old.purpose == purpose]
            self._waiting = [old for old in self._waiting if old not in dropped]
            self._waiting.append(job)
            self._news.notify()
        for old in dropped:
            if old.done.set_running_or_notify_cancel():
                old.done.set_exception(Overtaken())
        return job.done

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting)
                first = next((job for job in self._waiting if job.purpose is not None), self._waiting[0])
                self._waiting.remove(first)
            self._do(first)

    def _do(self, job: _Job) -> None:
        def overtaken() -> bool:
            with self._news:
                urgent = [other.purpose for other in self._waiting if other.purpose is not None]
            return job.purpose in urgent if job.purpose is not None else bool(urgent)

        if not job.done.set_running_or_notify_cancel():
            return  # whoever asked has gone
        try:
            job.done.set_result(job.work(overtaken))
        except BaseException as error:  # it belongs to whoever asked
            job.done.set_exception(error)


def purpose_of(fields: Any) -> Hashable:
    """What a request is urgent for: the path of its tab; None for what has time.

    Args:
        fields: The request, from JSON.

    Example:
        >>> from geodesic.explorer.worker import purpose_of
        >>> purpose_of({"kind": "follow", "tab": "1"}), purpose_of({"kind": "shade", "tab": "1"})
        (('follow', '1'), None)
    """
    if isinstance(fields, dict) and fields.get("kind") == "follow":
        return "follow", str(fields.get("tab"))
    return None
