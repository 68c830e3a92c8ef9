"""Which files are evaluated, and under which names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codec.errors import MediaError
from codec.evaluation.medium import MEDIA, Medium, medium_called
from codec.media.kinds import kind_of


@dataclass(frozen=True)
class SourceFile:
    """A file to evaluate.

    Attributes:
        path: where it is.
        name: relative to the folder that was given; unique in an evaluation.
    """

    path: str
    name: str

    def digest(self) -> str:
        """Return the SHA-256 of the file, hexadecimal; empty when it cannot be read."""
        try:
            with Path(self.path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return ""


def find_files(data: Sequence[str]) -> tuple[Medium, list[SourceFile]]:
    """Return what kind of signal the data is, and its files: those named, and those in the folders named.

    Files of a folder are in order of their names. Folders are searched to any depth for what counts by its suffix;
    files that are named are taken as they are, and where their suffix says nothing, their first bytes decide.

    Raises:
        ValueError: there are signals of more than one kind.
        MediaError: there are no files, or two would have the same name in the results.
    """
    found: dict[str, SourceFile] = {}
    suffixes = {suffix: name for name in MEDIA for suffix in medium_called(name).suffixes()}
    for place in data:
        root = Path(place)
        paths = [root]
        if root.is_dir():
            paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
        for path in paths:
            name = path.relative_to(root).as_posix() if root.is_dir() else root.name
            if name in found and Path(found[name].path).resolve() != path.resolve():
                name = path.as_posix()  # the same name in two folders
            if name in found and Path(found[name].path).resolve() != path.resolve():
                raise MediaError(f"{found[name].path} and {path} have the same name; evaluate them one by one")
            found.setdefault(name, SourceFile(str(path), name))
    if not found:
        raise MediaError(f"no videos and no pictures or sounds in {', '.join(data)}")
    files = list(found.values())
    return _medium_of(files, suffixes), files


def _medium_of(files: Sequence[SourceFile], suffixes: Mapping[str, str]) -> Medium:
    first: dict[str, SourceFile] = {}
    for file in files:
        first.setdefault(suffixes.get(Path(file.path).suffix.lower()) or kind_of(file.path), file)
    if len(first) > 1:
        each = " and ".join(f"{file.path} is {medium_called(name).thing}" for name, file in first.items())
        raise ValueError(f"{each}; evaluate one kind at a time, for instance by naming the files")
    return medium_called(next(iter(first)))
