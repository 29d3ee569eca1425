"""Command lines."""

from __future__ import annotations

import argparse

__all__ = ["make_parser", "positive", "segment_count"]


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    pass


def make_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the docstring of the benchmark, with the defaults of its options."""
    return argparse.ArgumentParser(
        prog=f"python -m scripts.benchmarks {name}", description=description, formatter_class=_Formatter
    )


def positive(text: str) -> int:
    """An integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


def segment_count(text: str) -> int:
    """An integer of at least 2: a path of 1 segment has no interior point."""
    value = positive(text)
    if value < 2:
        raise argparse.ArgumentTypeError("a path of 1 segment has no interior point; give at least 2")
    return value
