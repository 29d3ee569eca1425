"""One small experiment that the tests of experiments share, and the command line in this process."""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from geodesic import cli
from geodesic.experiment import Settings

METHODS = ("auto", "plain", "encoder")
P, T, D = 3, 8, 2


def pictures(pairs: int) -> list[str]:
    """The files that `geodesic plot` makes of so many pairs, sorted."""
    sheet = ["sheet.png"] if pairs > 1 else []
    return ["energy.png", "latent.png", *sheet, *(f"strip_{pair:03d}.png" for pair in range(pairs))]


PICTURES = pictures(P)

SMALL: dict[str, Any] = {
    "name": "small",
    "device": "cpu",
    "data": {"kind": "digits"},
    "model": {"latent_size": D, "network": {"hidden_sizes": [16], "activation": "tanh"}},
    "training": {"epochs": 2, "batch_size": 20, "learning_rate": 0.02},
    "pairs": {"kind": "random", "count": P},
    "geodesic": {
        "segments": T,
        "max_steps": 30,
        "solvers": [
            {"name": "auto", "kind": "auto"},
            {"name": "plain", "kind": "gradient_descent", "preconditioned": False},
            {"name": "encoder", "kind": "gradient_descent", "direction": "encoder"},
        ],
    },
}


def settings(**changes: object) -> Settings:
    """The small experiment with other sections."""
    return Settings.model_validate_json(json.dumps(SMALL | changes))


class Done(NamedTuple):
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


def run(*arguments: str | Path) -> Done:
    """`geodesic ARGUMENTS` in this process."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    argv, sys.argv = sys.argv, ["geodesic", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    finally:
        sys.argv = argv
    return Done(status, out.getvalue(), err.getvalue())


def refused(done: Done, status: int, *words: str) -> None:
    """The command failed with one message for the user, and no traceback."""
    assert done.status == status, done
    assert done.err.startswith("geodesic: "), done
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class Home(NamedTuple):
    """A folder with small.yaml and runs/small, which was trained, solved and drawn, and what these commands said."""

    folder: Path
    train: Done
    solve: Done
    plot: Done

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / "runs" / "small"


def make_home(folder: Path) -> Home:
    """Train, solve and draw the small experiment by the command line."""
    (folder / "small.yaml").write_text(json.dumps(SMALL))  # JSON is YAML
    with contextlib.chdir(folder):
        return Home(
            folder, run("train", "small.yaml"), run("solve", "small.yaml", "--all-methods"), run("plot", "runs/small")
        )
