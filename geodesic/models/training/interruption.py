"""Ctrl-C during training, answered between two batches."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning.pytorch.callbacks import Callback

__all__ = ["Interruption"]


class Interruption(Callback):
    """Remembers a Ctrl-C and raises `KeyboardInterrupt` at the next batch, so that one is enough.

    Python raises wherever the program happens to be. In a finalizer the exception is dropped and training goes on;
    right after a lock was taken, as in the queue of TensorBoard's writer, the lock stays taken, and Lightning waits
    for it for ever when it closes the writer.
    """

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Answer Ctrl-C here, unless the caller does or has it ignored. For the main thread only."""
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:  # a second time: whoever presses again does not want to wait for the batch
            signal.default_int_handler(number, frame)
        self.asked = True

    def on_train_batch_start(self, *_: Any) -> None:
        self._raise_if_asked()

    def on_validation_batch_start(self, *_: Any) -> None:
        self._raise_if_asked()

    def _raise_if_asked(self) -> None:
        if self.asked:
            raise KeyboardInterrupt
