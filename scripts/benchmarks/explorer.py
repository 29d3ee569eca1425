"""The explorer under a hand: updates a second while an end is dragged, milliseconds to the certificate, bytes, memory.

A run is served as `geodesic explore` does it and opened in Chromium. An end is dragged in circles; after each drag it
rests until the final answer is there. Converged to a strict minimum is what the first answer then says, with 32
segments; the badge is green once the length is resolved too. Then the server is asked for many more positions of an
end: what its processor takes for one, and its memory before and after.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from scripts.benchmarks.options import make_parser, positive
from scripts.benchmarks.records import versions_line
from scripts.benchmarks.tables import rows_table
from scripts.explored import CHROMIUM, FINAL, Served, chromium, middle, served_run

__all__ = ["main"]

_MOVES = 60  # of the mouse in a drag
_PAUSE = 1 / 30  # seconds between them
_RADIUS = 60  # pixels of the circle

_WATCH = """() => {
    addEventListener("pointerdown", () => { explorer.updates.length = 0; explorer.held = performance.now(); }, true);
    addEventListener("pointerup", () => { explorer.released = performance.now(); }, true);
}"""
_FOUND = """() => {
    const after = explorer.updates.filter(([time]) => time > explorer.released);
    const at = (stage) => after.find(([, name]) => name === stage)?.[0] - explorer.released;
    const moving = explorer.updates.filter(([time, name]) => name === "moving" && time <= explorer.released);
    const spent = (explorer.released - explorer.held) / 1000;
    const took = moving.map(([, , ms]) => ms);
    const green = after.find(([, , , state]) => state === "certified")?.[0] - explorer.released;
    return { rate: moving.length / spent, took, resting: at("resting"), green, final: at("final") };
}"""


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, object]]:
    """Measure, print the table and return its rows."""
    parser = make_parser("explorer", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--drags", type=positive, default=10, help="circles by the mouse")
    parser.add_argument(
        "--positions", type=positive, default=1000, help="that the server answers while memory is watched"
    )
    parser.add_argument("--chromium", default=CHROMIUM, help="the browser")
    options = parser.parse_args(arguments)
    console = Console(width=140)
    console.print(versions_line(1, "playwright", "starlette", "uvicorn"), highlight=False)
    rows = {}
    for run in options.runs:
        with served_run(run) as served, chromium(options.chromium) as browser:
            rows[run.name] = _drags(browser, served, options.drags) | _memory(served, options.positions)
    console.print(rows_table("explorer", "run", rows))
    return rows


def _drags(browser: Any, served: Served, drags: int) -> dict[str, object]:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    received: list[int] = []
    page.on("response", lambda response: received.append(0 if "ask" in response.url else len(response.body())))
    page.goto(served.address)
    page.wait_for_selector(FINAL)
    page.evaluate(_WATCH)
    found = []
    for drag in range(drags):
        x, y = middle(page, drag % 2)
        page.mouse.move(x, y)
        page.mouse.down()
        for k in range(_MOVES):
            turn = 2 * math.pi * k / _MOVES
            page.mouse.move(x + _RADIUS * math.sin(turn), y - _RADIUS * (1 - math.cos(turn)))
            page.wait_for_timeout(1000 * _PAUSE)
        page.mouse.up()
        page.wait_for_selector(FINAL)
        found.append(page.evaluate(_FOUND))
    page.close()
    return {
        "page, kB": sum(received) / 1000,
        "updates/s": statistics.median(one["rate"] for one in found),
        "ms each": statistics.median(ms for one in found for ms in one["took"]),
        "ms to converged": statistics.median(one["resting"] for one in found),
        "ms to green": statistics.median(one["green"] or math.inf for one in found),
        "ms to final": statistics.median(one["final"] for one in found),
    }


def _memory(served: Served, positions: int) -> dict[str, object]:
    scene = _ask(served, {"kind": "scene"})
    (x, y), end = scene["ends"]
    usual = {"kind": "follow", "geometry": scene["geometries"][0], "solver": "auto", "start": "straight", "tab": "m"}
    for stage in ("resting", "moving"):
        _ask(served, {**usual, "ends": [[x, y], end], "stage": stage})
    before, spent = _resident(served), _spent(served)
    for k in range(positions):
        turn = 2 * math.pi * k / 100
        place = [x + 0.3 * math.sin(turn), y + 0.3 * math.cos(turn) - 0.3]
        _ask(served, {**usual, "ends": [place, end], "stage": "moving"})
    spent = _spent(served) - spent
    return {"CPU ms": 1000 * spent / positions, "MB": before, f"MB {positions:,} later": _resident(served)}


def _ask(served: Served, fields: dict[str, Any]) -> Any:
    origin = "/".join(served.address.split("/")[:3])
    headers = {"Content-Type": "application/json", "Origin": origin}
    body = json.dumps({"number": 1, "plane": None, **fields}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{served.address}ask", body, headers)) as response:
        content = response.read()
    return json.loads(content[4 : 4 + int.from_bytes(content[:4], "little")])


def _resident(served: Served) -> float:
    """MB of memory that a process holds, as Linux says."""
    lines = Path(f"/proc/{served.process}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS"))


def _spent(served: Served) -> float:
    """Seconds of the processor that a process has taken, as Linux says."""
    text = Path(f"/proc/{served.process}/stat").read_text(encoding="utf-8")
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
