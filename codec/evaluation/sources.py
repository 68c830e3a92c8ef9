"""Which files are evaluated, and under which names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codec.errors import MediaError


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


def find_files(data: Sequence[str]) -> list[SourceFile]:
    """Return the files named, and those in the folders named, in order of their names within a folder.

    Folders are searched to any depth for what Pillow can read; files that are named are taken as they are.

    Raises:
        MediaError: there are none, or two would have the same name in the results.
    """
    found: dict[str, SourceFile] = {}
    suffixes = _suffixes()
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
        raise MediaError(f"no pictures in {', '.join(data)}")
    return list(found.values())


def _suffixes() -> set[str]:
    """Return the suffixes of pictures, with the dot; .lcb files are results, not sources."""
    import PIL.Image

    known = PIL.Image.registered_extensions()
    return {suffix for suffix, kind in known.items() if kind in PIL.Image.OPEN and kind not in ("EPS", "LCB")}
