"""How the command line reads what a shell makes of `*.pt`: several values behind one option."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

__all__ = ["with_many", "with_repeated"]

_CONFIG = (".yaml", ".yml")


def with_many(option: str) -> type[TyperCommand]:
    """A kind of command, one option of which takes several values: `--weights a.pt b.pt`, as well as once each.

    Args:
        option: Its name.
    """

    class Command(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, with_repeated(option, args))

    return Command


def with_repeated(option: str, args: list[str]) -> list[str]:
    """Arguments with an option before each of its values, which end with the next option or with a YAML file.

    Example:
        >>> from geodesic.commands import with_repeated
        >>> with_repeated("--weights", ["--weights", "a.pt", "b.pt", "mine.yaml"])
        ['--weights', 'a.pt', '--weights', 'b.pt', 'mine.yaml']
    """
    repeated: list[str] = []
    values = 0  # since the option
    for arg in args:
        if arg.startswith("-") or arg.endswith(_CONFIG):
            values = 0
        elif values:
            values += 1
            if values > 2:
                repeated.append(option)
        repeated.append(arg)
        if arg == option or arg.startswith(f"{option}="):
            values = 1 + (arg != option)
    return repeated
