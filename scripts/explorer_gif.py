"""Record docs/images/explorer.gif from the page: an end that is dragged, and the badge that turns green.

python -m scripts.explorer_gif runs/elu2

The mouse goes on when the page has answered, and a frame is taken then: the movie shows every answer, at its own pace.
"""

from __future__ import annotations

import argparse
import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geodesic.pictures.movies import write_movie
from scripts.explored import FINAL, chromium, place_of, served_run

FILE = Path(__file__).parents[1] / "docs" / "images" / "explorer.gif"
START = ((-1.1, -1.7), (-2.6, 0.7))  # where the ends are at first
ROUTE = ((-1.1, -1.7), (0.6, -2.2), (2.0, -1.2), (1.4, 0.6), (0.4, 2.2))  # what end A is dragged along
STEPS = 14  # between two places of the route
SIZE = {"width": 824, "height": 520}
HOLD = 20  # frames of the last one


def record(run: Path) -> list[NDArray]:
    """The frames, (height, width, 3), bytes."""
    from PIL import Image

    frames: list[NDArray] = []
    with served_run(run) as served, chromium() as browser:
        page = browser.new_page(viewport=SIZE, color_scheme="light")

        def take(times: int = 1) -> None:
            pixels = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
            frames.extend([pixels] * times)

        page.goto(served.address)
        page.wait_for_selector(FINAL, timeout=60_000)
        page.evaluate("ends => { explorer.ends = ends; explorer.path = null; explorer.follow('resting'); }", START)
        while not page.evaluate("explorer.shade?.layers[1]?.values.every(Number.isFinite) && !explorer.flying"):
            page.wait_for_timeout(500)
        take(6)
        page.mouse.move(*place_of(page, ROUTE[0]))
        page.mouse.down()
        for (x, y), (u, v) in itertools.pairwise(ROUTE):
            for k in range(1, STEPS + 1):
                page.mouse.move(*place_of(page, (x + (u - x) * k / STEPS, y + (v - y) * k / STEPS)))
                while page.evaluate("explorer.flying || explorer.wanted"):
                    page.wait_for_timeout(20)
                take()
        page.mouse.up()
        for state in ("busy", "certified"):
            page.wait_for_selector(f'.gx-badge[data-state="{state}"]')
            take(3)
        page.wait_for_selector(FINAL)
        take(HOLD)
    return frames


def main(arguments: Sequence[str] | None = None) -> None:
    """Record and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a folder of a run on MNIST with two latent coordinates")
    frames = record(parser.parse_args(arguments).run)
    write_movie(frames, FILE)
    print(f"wrote {FILE}: {len(frames)} frames, {FILE.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
