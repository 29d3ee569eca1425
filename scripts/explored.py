"""The explorer of a run, served as a user would serve it, and Debian's Chromium to open it."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["CHROMIUM", "FINAL", "Served", "chromium", "middle", "place_of", "served_run"]

CHROMIUM = "/usr/bin/chromium"
FINAL = '.geodesic-explorer[data-stage="final"]'


class Served(NamedTuple):
    """Where the page is, and the process that serves it."""

    address: str
    process: int


@contextlib.contextmanager
def served_run(run: Path) -> Iterator[Served]:
    """`geodesic explore RUN` in a process of its own, until the block ends."""
    command = [sys.executable, "-u", "-m", "geodesic", "explore", str(run), "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+/", line.replace("\n", ""))
        if found is None:
            raise SystemExit(f"{' '.join(command)} has not begun: {line}")
        try:
            yield Served(found[0], process.pid)
        finally:
            process.send_signal(signal.SIGINT)


@contextlib.contextmanager
def chromium(executable: str = CHROMIUM) -> Iterator[Any]:
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as program:
        browser = program.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


def middle(page: Any, end: int) -> tuple[float, float]:
    """Where an end is on the page."""
    box = page.locator(f'.gx-end[data-end="{end}"]').bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def place_of(page: Any, place: tuple[float, float]) -> tuple[float, float]:
    """Where on the page a place of the latent plane is."""
    box = page.locator(".gx-map").bounding_box()
    x, y = page.evaluate("place => explorer.toPixels(place)", list(place))
    return box["x"] + x, box["y"] + y
