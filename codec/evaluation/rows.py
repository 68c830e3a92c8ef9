"""`results.jsonl`: one row a line, appended while measuring, so that nothing measured is ever lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codec.atomic import atomic_path
from codec.errors import CorruptError
from codec.evaluation.results import Row

# What sizes of signals consist of.
_SIZES = ("width", "height", "frames", "microseconds", "channels", "sample_rate", "samples")


def load_rows(path: Path) -> list[Row]:
    """Return the rows of a file, without the last line where a process was killed while writing it.

    Raises:
        CorruptError: another line is not a row.
    """
    if not path.exists():
        return []
    *lines, _torn = path.read_text(encoding="utf-8", errors="replace").split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
            size = {key: fields.pop(key) for key in _SIZES if key in fields}
            rows.append(Row(**fields, size=size))
        except (ValueError, TypeError) as exc:
            raise CorruptError(f"{path}, line {number} is not a result; remove it or choose another -o") from exc
    return rows


def save_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replace the file as a whole, or not at all."""
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text("".join(map(_line, rows)), encoding="utf-8")


@contextmanager
def appending(path: Path) -> Iterator[Callable[[Row], None]]:
    """Yield a function that appends a row and returns when it is on the disk."""
    with path.open("a", encoding="utf-8") as file:

        def append(row: Row) -> None:
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())

        yield append


def fields_of(row: Row) -> dict[str, Any]:
    """Return a row as it is stored: what its size consists of stands beside the other fields."""
    fields: dict[str, Any] = {}
    for key, value in asdict(row).items():
        fields |= value if key == "size" else {key: value}
    return fields


def _line(row: Row) -> str:
    return json.dumps(fields_of(row), allow_nan=False) + "\n"
