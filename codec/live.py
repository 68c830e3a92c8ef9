"""Read a .lcb file piece by piece from a stream that may still be growing."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from codec.container import END, LAST_UNIT, SIGNATURE, UNIT, crc_of, parse_header
from codec.errors import CorruptError, TruncatedError
from codec.fields import get_varint

MAX_CHUNK = 1 << 26  # bytes: nobody knows how long the stream will be, so a forged length must not be waited for


def read_start(file: BinaryIO) -> bytes:
    """Read signature and header, and not a byte more.

    Raises:
        FormatError or a subclass, see `parse_header`.
    """
    start = _take(file, len(SIGNATURE) + 2)
    while start[-1] & 0x80 and len(start) < len(SIGNATURE) + 10:  # the length of the header goes on
        start += _take(file, 1)
    try:
        parse_header(start)
    except TruncatedError:
        size, offset = get_varint(start, len(SIGNATURE) + 1)
        start += _take(file, size + offset - len(start))
        parse_header(start)
    return start


def read_chunks(file: BinaryIO, start: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield (type, body, symbol check) of every chunk as it arrives; checksums have been verified.

    Args:
        start: what `read_start` returned.

    Raises:
        TruncatedError: the stream ends inside a chunk.
        CorruptError: a checksum or a length is wrong.
    """
    seed, ordinal = zlib.crc32(start), 0
    while kind := file.read(1):
        if kind == LAST_UNIT:
            raise CorruptError("a unit without length cannot be read from a stream; decode it as a file")
        length = _take(file, 1)
        while length[-1] & 0x80:
            length += _take(file, 1)
            get_varint(length[:-1] + b"\x01", 0)  # raises when it is too long
        size = get_varint(length, 0)[0]
        if size > MAX_CHUNK:
            raise CorruptError(f"a chunk of {size} bytes exceeds the limit of {MAX_CHUNK}")
        rest = _take(file, size + (6 if kind in (UNIT, END) else 4))
        if crc_of(seed, ordinal, kind, length, rest[:-4]) != rest[-4:]:
            raise CorruptError(f"checksum of chunk {ordinal} ({kind!r}) does not match; fetch the stream again")
        yield kind, rest[:size], int.from_bytes(rest[size:-4], "little")
        ordinal += 1


def _take(file: BinaryIO, count: int) -> bytes:
    """Read exactly `count` bytes, waiting for them."""
    parts, missing = [], count
    while missing > 0:
        part = file.read(missing)
        if not part:
            raise TruncatedError("the stream ends in the middle; fetch it again")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
