"""What lies in a folder of packed files, readable by anything that knows tar.

    shard-000000.tar     samples, in the convention of WebDataset: KEY.lcb; KEY.cls, the label in digits; of pictures
                         that were also encoded mirrored, KEY.mirror.lcb
    shard-000000.jsonl   an `Entry` a line: where each member lies, so that any sample is one read
    index.json           `Index`: model and settings, classes, shards, what could not be encoded

The tars are enough: without the other two files they are scanned, and labels are just numbers.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codec.atomic import atomic_path
from codec.errors import CorruptError

INDEX = "index.json"
CODED, LABEL, MIRRORED = "lcb", "cls", "mirror.lcb"  # suffixes of members
_VERSION = 1  # of index.json


@dataclass(frozen=True)
class Entry:
    """One sample of a shard.

    Attributes:
        key: name of its members without suffix, unique in the data set.
        source: the file it was made of, relative to the folder that was packed; empty if unknown.
        label: number of its class; None if it has none.
        members: suffix -> (offset of the first byte in the tar, bytes).
    """

    key: str
    source: str
    label: int | None
    members: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Shard:
    """One tar: its file name, samples and bytes."""

    name: str
    samples: int
    bytes: int


@dataclass(frozen=True)
class Index:
    """What a folder of packed files holds.

    Attributes:
        settings: everything that decides the bytes of a sample, e.g. model, digest, quality, effort.
        classes: names; a label is a position in them.
        shards: complete ones, in order.
        failed: source -> why it could not be encoded.
    """

    settings: dict[str, Any]
    classes: tuple[str, ...] = ()
    shards: tuple[Shard, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """Number of samples in all shards."""
        return sum(shard.samples for shard in self.shards)


def write_index(folder: Path, index: Index) -> None:
    """Replace a folder's index as a whole."""
    with atomic_path(folder / INDEX, overwrite=True) as temporary:
        temporary.write_text(json.dumps({"version": _VERSION} | asdict(index), indent=1) + "\n")


def read_index(folder: Path) -> Index | None:
    """Return a folder's index; None if it has none.

    Raises:
        CorruptError: it is not one, or of a later version.
    """
    path = folder / INDEX
    if not path.exists():
        return None
    try:
        raw = json.loads(path.read_text())
        if raw.pop("version") != _VERSION:
            raise CorruptError(f"{path} was written by a later version; update codec")
        raw["shards"] = tuple(Shard(**shard) for shard in raw["shards"])
        raw["classes"] = tuple(raw["classes"])
        return Index(**raw)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise CorruptError(
            f"{path} is not the index of packed files ({exc!r}); remove it to read the tars alone"
        ) from exc


def write_entries(tar: Path, entries: Iterable[Entry]) -> None:
    """Write the list of a shard's samples beside it."""
    with atomic_path(tar.with_suffix(".jsonl"), overwrite=True) as temporary:
        temporary.write_text("".join(json.dumps(asdict(entry)) + "\n" for entry in entries))


def entry_of(line: dict[str, Any]) -> Entry:
    """Return an entry from what its line holds.

    Raises:
        KeyError, TypeError, AttributeError: it holds something else.
    """
    return Entry(**line | {"members": {suffix: tuple(place) for suffix, place in line["members"].items()}})


def read_entries(tar: Path) -> list[Entry]:
    """Return the samples of a shard, from the list beside it or, without one, from the tar itself.

    Raises:
        CorruptError: either cannot be read.
    """
    beside = tar.with_suffix(".jsonl")
    if not beside.exists():
        return scan(tar)
    try:
        lines = [json.loads(line) for line in beside.read_text().splitlines()]
        return [entry_of(line) for line in lines]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise CorruptError(f"{beside} is not the list of a shard ({exc!r}); remove it to scan {tar.name}") from exc


def scan(tar: Path) -> list[Entry]:
    """Return the samples of a tar: members that share the name up to the first dot of its last part.

    Raises:
        CorruptError: it is not a tar, or damaged.
    """
    found: dict[str, dict[str, tuple[int, int]]] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(tar) as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                if not member.isfile() or not suffix:
                    continue
                key = f"{folder}/{stem}" if folder else stem
                found.setdefault(key, {})[suffix] = (member.offset_data, member.size)
                if suffix == LABEL:
                    labels[key] = int(archive.extractfile(member).read())
    except (tarfile.TarError, EOFError, ValueError) as exc:
        raise CorruptError(f"{tar}: not a tar of samples ({exc})") from exc
    return [Entry(key, "", labels.get(key), members) for key, members in found.items() if CODED in members]
