"""Values of options that several commands have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


class Size(click.ParamType):
    """A number of bytes: 40000, 40k, 40KiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", value.strip().lower())
        if not match or float(match[1]) <= 0:
            self.fail(f"{value!r} is not a size such as 40000, 40k or 39KiB", param, context)
        return int(float(match[1]) * _UNITS[match[2] or ""])


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
