"""Chunks of a .lcb file: their types, where each lies, and the tables that stand before units.

A chunk says how long it is, with three exceptions: units that an index announces, the last unit, and the payloads of
small units, which are joined in one chunk and told apart by the table before it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import NamedTuple

from codec.errors import CorruptError, FormatError, TruncatedError
from codec.fields import get_varint, put_varint

UNIT, LAST_UNIT, INDEX, ALPHA, END, NEXT, SOUND, TIMES = b"U", b"L", b"X", b"A", b"E", b"N", b"s", b"p"
TABLE, PAYLOADS = b"M", b"P"
METADATA = {"icc": b"i", "exif": b"e", "xmp": b"x", "tags": b"t"}
_UNIT_SIZE = 3  # bytes of a unit in a table, at least


@dataclass(frozen=True)
class Unit:
    """One independently decodable part: entropy-coded bytes and the check of the symbols they decode to.

    Attributes:
        payload: entropy-coded bytes.
        check: 16-bit check of the decoded symbols.
        damaged: what is wrong with it, or None. Only `parse(..., tolerant=True)` returns damaged units.
        times: of video, body of the chunk with the presentation times of its frames (`codec.times`); empty where they
            follow one another.
        trusted: a checksum holds its bytes. Of others, which only a tolerant reader returns, decoding tells whether
            they are whole.
    """

    payload: bytes
    check: int
    damaged: FormatError | None = None
    times: bytes = b""
    trusted: bool = True


class Chunk(NamedTuple):
    """A chunk as it lies in a file: its CRC has not been compared. `check` is the symbol check of a unit."""

    kind: bytes
    body: memoryview
    check: int
    crc: bytes
    end: int


class Entry(NamedTuple):
    """What a table says of a unit: bytes of its payload, and its symbol check."""

    size: int
    check: int


def crc_of(seed: int, ordinal: int, *pieces: bytes | memoryview) -> bytes:
    value = zlib.crc32(ordinal.to_bytes(4, "little"), seed)
    for piece in pieces:
        value = zlib.crc32(piece, value)
    return value.to_bytes(4, "little")


def frame(view: memoryview, offset: int, sizes: list[int] | None, number: int, *, tolerant: bool) -> Chunk:
    """Return the chunk at `offset`.

    Args:
        sizes: of payloads, from the index, if there was one.
        number: of units before it.

    Raises:
        TruncatedError, CorruptError: it is not all there, or not where it should be.
    """
    kind = bytes(view[offset : offset + 1])
    if sizes is not None and number < len(sizes):
        return _indexed(view, offset, sizes, number, tolerant=tolerant)
    if kind == PAYLOADS:
        raise CorruptError("there are payloads without the table before them")
    if kind == LAST_UNIT:
        if len(view) - offset < 7:
            raise TruncatedError("the stream ends inside its last unit; fetch it again")
        return _split(view, kind, offset + 1, len(view))
    length, start = get_varint(view, offset + 1)
    end = start + length + (6 if kind in (UNIT, END) else 4)
    if end > len(view):
        raise TruncatedError(f"the stream ends inside chunk {kind!r}; fetch it again")
    return _split(view, kind, start, end)


def _indexed(view: memoryview, offset: int, sizes: list[int], number: int, *, tolerant: bool) -> Chunk:
    """Return a unit of an indexed run: the index says where it ends, whatever its own framing claims."""
    last = number == len(sizes) - 1
    expected = LAST_UNIT if last else UNIT
    length = b"" if last else put_varint(sizes[number])
    start = offset + 1 + len(length)
    end = start + sizes[number] + 6
    if end > len(view):
        raise TruncatedError(f"the stream ends inside unit {number}; fetch it again")
    intact = view[offset : offset + 1] == expected and view[offset + 1 : start] == length
    if not intact and not tolerant:
        raise CorruptError(f"unit {number} is not where the index says")
    return _split(view, expected, start, end)


def frame_payloads(view: memoryview, offset: int, table: list[Entry], *, tolerant: bool) -> Chunk:
    """Return the chunk at `offset`, right after a table, which says how long it is.

    Args:
        tolerant: take what is there of a file that was cut off, up to its last byte; the CRC is empty then. The byte of
            the type may be another, as nothing else can be there.

    Raises:
        TruncatedError, CorruptError: it is not all there, or it is another chunk.
    """
    start = offset + 1
    stop = start + sum(entry.size for entry in table)
    if stop + 4 > len(view):
        if not tolerant:
            raise TruncatedError("the stream ends inside its units; fetch it again")
        return Chunk(PAYLOADS, view[start:stop], 0, b"", len(view))
    if view[offset:start] != PAYLOADS and not tolerant:
        raise CorruptError("the payloads are not where their table says")
    return _split(view, PAYLOADS, start, stop + 4)


def _split(view: memoryview, kind: bytes, start: int, end: int) -> Chunk:
    crc = bytes(view[end - 4 : end])
    if kind in (UNIT, LAST_UNIT, END):
        return Chunk(kind, view[start : end - 6], int.from_bytes(view[end - 6 : end - 4], "little"), crc, end)
    return Chunk(kind, view[start : end - 4], 0, crc, end)


def read_end(body: bytes | memoryview, check: int) -> tuple[int, Unit]:
    """Return what an end chunk holds: samples a channel or frames, and the last unit."""
    length, start = get_varint(body, 0)
    return length, Unit(bytes(body[start:]), check)


def read_index(body: memoryview, file_size: int) -> list[int]:
    """Return the sizes of payloads.

    Raises:
        FormatError: it does not fit the file.
    """
    count, offset = get_varint(body, 0)
    if count > len(body):
        raise CorruptError(f"the index announces {count} units in {len(body)} bytes")
    sizes = []
    for _ in range(count):
        size, offset = get_varint(body, offset)
        sizes.append(size)
    if offset != len(body) or sum(sizes) > file_size:
        raise CorruptError("the index does not fit the file")
    return sizes


def put_table(units: list[Unit]) -> bytes:
    """Return the table of units whose payloads follow in one chunk."""
    entries = (put_varint(len(unit.payload)) + unit.check.to_bytes(2, "little") for unit in units)
    return put_varint(len(units)) + b"".join(entries)


def read_table(body: memoryview) -> list[Entry]:
    """Return what a table says of units. Their payloads may be cut off, so their sizes are not compared with a file.

    Raises:
        FormatError: it is malformed.
    """
    count, offset = get_varint(body, 0)
    if not 2 <= count <= len(body) // _UNIT_SIZE:
        raise CorruptError(f"a table announces {count} units in {len(body)} bytes")
    entries = []
    for _ in range(count):
        size, offset = get_varint(body, offset)
        entries.append(Entry(size, int.from_bytes(body[offset : offset + 2], "little")))
        offset += 2
    if offset != len(body):
        raise CorruptError("a table of units does not end where it should")
    return entries


def read_units(body: memoryview, table: list[Entry], *, trusted: bool) -> list[Unit]:
    """Return the units of a table out of their joined payloads; what is missing at the end is marked as damaged."""
    units, start = [], 0
    for number, (size, check) in enumerate(table):
        unit = Unit(bytes(body[start : start + size]), check, trusted=trusted)
        if len(unit.payload) < size:
            unit = replace(unit, damaged=TruncatedError(f"the stream ends before the end of unit {number}"))
        units.append(unit)
        start += size
    return units
