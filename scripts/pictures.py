"""Draw the pictures of the pages anew, so that they are what the library draws today.

python -m scripts.pictures             # those of docs/start.md and docs/gallery.md, by running their code
python -m scripts.pictures runs/conv16 # the strip of digits, from a run that was trained on images
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
IMAGES = DOCS / "images"
PAGES = ("start", "gallery")
LABELS = ((7, 0), (3, 6), (1, 8))  # of the ends of the strip's pairs


def run(page: str) -> None:
    """Run the Python of a page where its pictures lie."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, flags=re.S | re.M))
    with contextlib.chdir(IMAGES):
        exec(compile(code, page, "exec"), {"__name__": "__main__"})


def draw_strip(folder: Path) -> None:
    """The first held-out image of each label to that of another one: straight lines above geodesics."""
    import geodesic
    from geodesic.experiment.run import open_run

    with open_run(geodesic.load_settings(folder / "config.yaml"), folder) as run:
        encodings, labels, model, manifold = run.test_encodings, run.labels, run.model, run.manifold
    start, end = (encodings[[int((labels == k).nonzero()[0][0]) for k in side]] for side in zip(*LABELS, strict=True))
    solution = geodesic.solve(manifold, start, end, init="best")
    print(solution.summary())
    print("straight over geodesic:", (solution.straight_length / solution.length).tolist())
    figure = geodesic.plot_strip(solution, lambda z: model.pictured(model.mean(z)), columns=12)
    figure.savefig(IMAGES / "strip-mnist.png", dpi=80)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the pictures that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="a folder of a run, for the strip of digits")
    folder = parser.parse_args(arguments).run
    os.environ.setdefault("MPLBACKEND", "Agg")
    if folder:
        draw_strip(folder)
    for page in () if folder else PAGES:
        run(page)


if __name__ == "__main__":
    main()
