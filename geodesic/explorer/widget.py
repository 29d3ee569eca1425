"""The explorer in a notebook: the module of the page, as an anywidget."""

from __future__ import annotations

import functools
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from geodesic.explorer.messages import Reply
from geodesic.explorer.scene import Scene
from geodesic.explorer.session import Session
from geodesic.explorer.worker import Overtaken, Worker, purpose_of
from geodesic.installation import require

__all__ = ["widget_of"]

_HERE = Path(__file__).parent


def widget_of(scene: Scene) -> Any:
    """A widget that shows a scene.

    Args:
        scene: What is explored.

    Raises:
        MissingExtraError: anywidget is not installed.
    """
    return _widget_class()(Session(scene), Worker())


@functools.cache
def _widget_class() -> Any:
    """The class, made once: it can be written down only where anywidget is installed."""
    require("explore", "anywidget")
    import anywidget

    class Explorer(anywidget.AnyWidget):
        """Answers what its views ask, in a thread, so that cells run in the meantime."""

        _esm = _HERE / "explorer.js"
        _css = _HERE / "explorer.css"

        def __init__(self, session: Session, worker: Worker) -> None:
            super().__init__()
            self._session, self._worker = session, worker
            self.on_msg(self._hear)

        def _hear(self, widget: Any, fields: Any, buffers: Any) -> None:
            def tell(done: Future[Reply]) -> None:
                number = fields.get("number") if isinstance(fields, dict) else None
                overtaken = isinstance(done.exception(), Overtaken)
                reply = Reply({"number": number, "overtaken": True}) if overtaken else done.result()
                self.send(reply.header, reply.buffers)

            work = self._worker.submit(purpose_of(fields), lambda overtaken: self._session.answer(fields, overtaken))
            work.add_done_callback(tell)

    return Explorer
