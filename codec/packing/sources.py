"""Which files of a folder are packed, what their samples are called, and to which classes they belong."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from codec.errors import MediaError
from codec.media.kinds import is_signal

HEADER = ["path", "label"]  # of a file of labels, if it has one


@dataclass(frozen=True)
class Sample:
    """One file to pack.

    Attributes:
        source: relative to the folder, with `/`.
        path: where it is, absolute.
        key: what its members are called.
        label: number of its class; None if it has none.
    """

    source: str
    path: str
    key: str
    label: int | None


def find_sources(folder: Path) -> list[str]:
    """Return pictures, sounds and videos at any depth, relative to the folder, sorted.

    Raises:
        MediaError: there are none.
    """
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if is_signal(p) and p.is_file())
    if not found:
        raise MediaError(f"{folder}: no pictures, sounds or videos in it; name the folder that holds the data set")
    return found


def folder_labels(sources: Iterable[str]) -> dict[str, str]:
    """Return source -> its first folder; files that lie in none are left out."""
    return {source: source.split("/", 1)[0] for source in sources if "/" in source}


def read_labels(file: Path, sources: Sequence[str]) -> dict[str, str]:
    """Return source -> label, from lines `path,label`. Lines of other files are ignored.

    Raises:
        MediaError: it is something else, or some sources are not in it.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = [row for row in csv.reader(lines) if row]
    except (UnicodeDecodeError, csv.Error) as exc:
        raise MediaError(f"{file}: not lines of path,label ({exc})") from exc
    short = next((row for row in rows if len(row) < 2), None)
    if short:
        raise MediaError(f"{file}: {','.join(short)!r} is not path,label")
    labels = {os.path.normpath(row[0].strip()): row[1].strip() for row in rows if row[:2] != HEADER}
    missing = [source for source in sources if source not in labels]
    if missing:
        raise MediaError(
            f"{file}: no label for {len(missing)} of {len(sources)} files, such as {missing[0]}; paths in it are "
            "relative to the folder that is packed"
        )
    return {source: labels[source] for source in sources}


def classes_of(names: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the classes in order: those known keep their numbers, new ones follow by name, or by size if whole numbers
    are all there is, so that a label 7 becomes class 7 where none is missing."""
    new = set(names) - set(known)
    numbers = all(re.fullmatch(r"\d+", name, re.ASCII) for name in (*new, *known))
    return (*known, *sorted(new, key=(lambda name: (int(name), name)) if numbers else None))


def keys_of(sources: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return source -> key: its path without suffix, the same whichever of them are packed already.

    WebDataset ends a key at the first dot of the last part, so other dots become `_`, and it skips what begins with
    `__NAME__`. Where two files would have the same key (`a.jpg` and `a.png`), later ones get their suffix into it.

    Args:
        sources: sorted.
        known: those that have a key, and it.
    """
    keys, taken = dict(known), set(known.values())
    for source in sources:
        if source in keys:
            continue
        folder, slash, name = source.rpartition("/")
        stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
        base = re.sub(r"^__(?=[^/]*__/)", "_", folder + slash) + stem.replace(".", "_")
        key, count = base, 1
        while key in taken:
            key = f"{base}_{suffix[1:]}" + (f"_{count}" if count > 1 else "")
            count += 1
        keys[source] = key
        taken.add(key)
    return keys
