"""Values of options that several commands have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def names(values: Sequence[str]) -> list[str]:
    """Split `a,b` and repeated options into names."""
    return [name for value in values for name in value.split(",") if name]


def named_files(values: Sequence[str]) -> dict[str, str]:
    """Split `NAME=FILE` options.

    Raises:
        ValueError: one of them is something else, or there is no such file.
    """
    found = {}
    for value in values:
        name, _, file = value.partition("=")
        if not Path(file).is_file():
            raise ValueError(f"{value!r}: write NAME=FILE with a file that exists")
        found[name] = file
    return found
