"""Writing shards so that a killed process loses no more than the sample it was at.

    .shard-000003.tar.part     the tar as far as it goes
    .shard-000003.jsonl.part   a line for each sample in it: where it ends, the CRC-32 of its bytes, its `Entry`

A sample is in the data set once its line is there and what it says is true. Full shards are renamed, list first.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from codec.packing.layout import LABEL, Entry, Shard, entry_of, write_entries

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)  # of a tar


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:06d}.tar"


def part_of(tar: Path) -> Path:
    """Return where a tar is written."""
    return tar.with_name(f".{tar.name}.part")


def list_of(tar: Path) -> Path:
    """Return where the list of a tar is kept while it is written."""
    return tar.with_name(f".{tar.stem}.jsonl.part")


def member(name: str, data: bytes) -> bytes:
    """Return a file as it lies in a tar; the bytes depend on nothing else."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    head = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return head + data + bytes(-len(data) % _BLOCK)


class ShardWriter:
    """Writes samples into one shard after another, and goes on where another process was stopped.

    Args:
        folder: where they go.
        number: of the first one that is not complete.
        limit: bytes of a tar; only a single sample may exceed it.

    Attributes:
        entries: samples in the shard that is being written.
    """

    def __init__(self, folder: Path, number: int, limit: int) -> None:
        self._folder, self._number, self._limit = folder, number, limit
        self.entries, self._end = _recover(part_of(self._target), list_of(self._target))
        self._tar: BinaryIO | None = None
        self._lines: BinaryIO | None = None

    @property
    def _target(self) -> Path:
        return self._folder / shard_name(self._number)

    def add(self, key: str, source: str, label: int | None, members: Mapping[str, bytes]) -> Shard | None:
        """Write a sample, and return the shard that had to be closed for it, if any."""
        if label is not None:
            members = {**members, LABEL: b"%d" % label}
        packed = {suffix: member(f"{key}.{suffix}", data) for suffix, data in members.items()}
        size = sum(map(len, packed.values()))
        closed = self.finish() if self._end + size + len(_END) > self._limit else None
        if self._tar is None:
            self._tar, self._lines = part_of(self._target).open("ab"), list_of(self._target).open("ab")
        places, offset = {}, self._end
        for suffix, data in packed.items():
            offset += len(data)
            length = len(members[suffix])
            places[suffix] = (offset - length - -length % _BLOCK, length)
        entry = Entry(key, source, label, places)
        data = b"".join(packed.values())
        self._tar.write(data)
        self._tar.flush()
        line = {"end": offset, "crc": zlib.crc32(data), "entry": asdict(entry)}
        self._lines.write(json.dumps(line).encode() + b"\n")
        self._lines.flush()
        self.entries.append(entry)
        self._end = offset
        return closed

    def finish(self) -> Shard | None:
        """Complete the shard and return it; None if it is empty."""
        if not self.entries:
            return None
        self.close()
        target = self._target
        with part_of(target).open("ab") as tar:
            tar.write(_END)
            tar.flush()
            os.fsync(tar.fileno())
        write_entries(target, self.entries)
        part_of(target).replace(target)
        list_of(target).unlink()
        shard = Shard(target.name, len(self.entries), self._end + len(_END))
        self._number, self.entries, self._end = self._number + 1, [], 0
        return shard

    def close(self) -> None:
        """Close the files; what is in them stays for the next writer."""
        for file in (self._tar, self._lines):
            if file is not None:
                file.close()
        self._tar = self._lines = None


def _recover(part: Path, lines: Path) -> tuple[list[Entry], int]:
    """Return the whole samples at the beginning of what another process left, and where they end; cut the rest off."""
    entries, end, kept = [], 0, 0
    listed = lines.read_bytes() if part.exists() and lines.exists() else b""
    with part.open("rb") if listed else io.BytesIO() as tar:
        for line in listed.splitlines(keepends=True):
            try:
                said = json.loads(line)
                data = tar.read(said["end"] - end)
                if not line.endswith(b"\n") or end + len(data) != said["end"] or zlib.crc32(data) != said["crc"]:
                    break
                entries.append(entry_of(said["entry"]))
            except (ValueError, KeyError, TypeError, AttributeError):
                break
            end, kept = end + len(data), kept + len(line)
    for path, size in ((part, end), (lines, kept)):
        if path.exists() and path.stat().st_size != size:
            os.truncate(path, size)
    return entries, end
