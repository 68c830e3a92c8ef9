"""The .lcb file: signature, header, chunks. Knows bytes and checksums, nothing of pictures or networks.

    signature 6 | format version 1 | header length varint | header | chunk | chunk | ...
    chunk = type 1 | length varint | body | [symbol check 2, units only] | CRC-32 4

The normative description is bitstreams/FORMAT.md. Two rules keep the overhead of a plain image at 32 bytes:
the last unit needs no length (it runs to the end of the file), and the header has no checksum of its own
because the CRC of every chunk also covers the header and the chunk's ordinal. So a damaged header, a chunk
moved, and a chunk from another file all show.

Sound is written while it is still coming in: its units all have a length, no index stands before them, and the last
one, in the end chunk, says how long the sound is. `ChunkWriter` and `codec.live` work on such a stream piece by piece.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from codec.errors import CorruptError, FormatError, TruncatedError, UnsupportedVersionError
from codec.fields import Field, Layout, get_varint, put_varint

SIGNATURE = b"\x89LCB\r\n"  # a high bit against 7-bit transfer, CR LF against line-ending conversion
FORMAT_VERSION = 1
MAX_HEADER = 4096  # bytes: a header holds a few numbers
MAX_METADATA = 16 << 20  # bytes of one metadata block after inflation

HEADER = Layout(
    (
        Field("system", "name", "registered system id, ASCII, bit 7 set on the last character"),
        Field("version", "varint", "bitstream version of the system", 1, 1 << 16),
        Field("digest", "bytes4", "first 4 bytes of the SHA-256 digest of the model"),
    )
)  # the parameters of the system follow, to the end of the header

UNIT, LAST_UNIT, INDEX, ALPHA, END = b"U", b"L", b"X", b"A", b"E"
METADATA = {"icc": b"i", "exif": b"e", "xmp": b"x", "tags": b"t"}
_METADATA_NAMES = {code: name for name, code in METADATA.items()}


@dataclass(frozen=True)
class Unit:
    """One independently decodable part: entropy-coded bytes and the check of the symbols they decode to.

    Attributes:
        payload: entropy-coded bytes.
        check: 16-bit check of the decoded symbols.
        damaged: what is wrong with it, or None. Only `parse(..., tolerant=True)` returns damaged units.
    """

    payload: bytes
    check: int
    damaged: FormatError | None = None


@dataclass(frozen=True)
class Container:
    """Contents of a .lcb file.

    Attributes:
        system: registered id; with `version` it fixes the meaning of everything below.
        digest: 4 bytes that name the weights.
        params: the system's own header fields, packed.
        units: in coding order.
        metadata: `icc`, `exif`, `xmp`, `tags` -> raw bytes.
        alpha: alpha plane as PNG bytes, or None.
        length: of sound, samples a channel; None for images, and where the end of a damaged stream is missing.
    """

    system: str
    version: int
    digest: bytes
    params: bytes
    units: Sequence[Unit]
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    alpha: bytes | None = None
    length: int | None = None

    def pack(self) -> bytes:
        """Return the file."""
        writer = ChunkWriter(self.system, self.version, self.digest, self.params)
        parts = [writer.start]
        parts += [writer.metadata(name, self.metadata[name]) for name in METADATA if self.metadata.get(name)]
        if self.alpha is not None:
            parts.append(writer.chunk(ALPHA, self.alpha))
        if self.length is not None:
            parts += [writer.unit(unit) for unit in self.units[:-1]]
            return b"".join([*parts, writer.end(self.length, self.units[-1])])
        if len(self.units) > 1:
            sizes = b"".join(put_varint(len(unit.payload)) for unit in self.units)
            parts.append(writer.chunk(INDEX, put_varint(len(self.units)) + sizes))
        parts += [writer.unit(unit) for unit in self.units[:-1]]
        return b"".join([*parts, writer.unit(self.units[-1], LAST_UNIT)])


class ChunkWriter:
    """Turns the parts of a file into bytes, in their order.

    Attributes:
        start: signature and header, what every chunk's CRC also covers.
    """

    def __init__(self, system: str, version: int, digest: bytes, params: bytes) -> None:
        header = HEADER.pack({"system": system, "version": version, "digest": digest}) + params
        if len(header) > MAX_HEADER:
            raise ValueError(f"header of {len(header)} bytes")
        self.start = SIGNATURE + bytes([FORMAT_VERSION]) + put_varint(len(header)) + header
        self._seed = zlib.crc32(self.start)
        self._ordinal = 0

    def chunk(self, kind: bytes, body: bytes, check: bytes = b"") -> bytes:
        length = b"" if kind == LAST_UNIT else put_varint(len(body))
        chunk = kind + length + body + check
        self._ordinal += 1
        return chunk + crc_of(self._seed, self._ordinal - 1, chunk)

    def metadata(self, name: str, data: bytes) -> bytes:
        return self.chunk(METADATA[name], zlib.compress(data, 9))

    def unit(self, unit: Unit, kind: bytes = UNIT) -> bytes:
        return self.chunk(kind, unit.payload, unit.check.to_bytes(2, "little"))

    def end(self, length: int, last: Unit) -> bytes:
        """Return the chunk that ends sound of `length` samples a channel with its last unit."""
        return self.chunk(END, put_varint(length) + last.payload, last.check.to_bytes(2, "little"))


def crc_of(seed: int, ordinal: int, *pieces: bytes | memoryview) -> bytes:
    value = zlib.crc32(ordinal.to_bytes(4, "little"), seed)
    for piece in pieces:
        value = zlib.crc32(piece, value)
    return value.to_bytes(4, "little")


def parse_header(data: bytes | memoryview) -> tuple[dict[str, Any], bytes, int]:
    """Return (system, version, digest), the packed parameters and the offset of the first chunk.

    Raises:
        FormatError: not a .lcb file at all.
        UnsupportedVersionError: written by a newer format version.
        TruncatedError, CorruptError: the header is incomplete or malformed. It is not checksummed here.
    """
    start = bytes(data[: len(SIGNATURE)])
    if start != SIGNATURE:
        if SIGNATURE.startswith(start):
            raise TruncatedError(f"{len(start)} bytes are too few for a .lcb file; fetch it again")
        raise FormatError("not a .lcb file (the signature does not match)")
    if len(data) < len(SIGNATURE) + 2:
        raise TruncatedError("the stream ends inside its header")
    version = data[len(SIGNATURE)]
    if version != FORMAT_VERSION:
        raise UnsupportedVersionError(f"format version {version}; this release reads {FORMAT_VERSION}: update codec")
    size, offset = get_varint(data, len(SIGNATURE) + 1)
    if size > MAX_HEADER:
        raise CorruptError(f"a header of {size} bytes exceeds the limit of {MAX_HEADER}")
    if offset + size > len(data):
        raise TruncatedError("the stream ends inside its header")
    header = bytes(data[offset : offset + size])
    try:
        values, used = HEADER.unpack(header)
    except TruncatedError as exc:
        raise CorruptError("the header is too short for its fields") from exc
    return values, header[used:], offset + size


def parse(data: bytes, *, tolerant: bool = False) -> Container:
    """Read a whole file; every length and checksum is verified before anything is interpreted.

    Args:
        tolerant: return damaged units marked as such instead of raising, when an index or their own framing
            tells where they lie. Damage to the header or another critical chunk always raises.

    Raises:
        FormatError or a subclass.
    """
    values, params, offset = parse_header(data)
    view = memoryview(data)
    seed = zlib.crc32(view[:offset])
    metadata: dict[str, bytes] = {}
    alpha: bytes | None = None
    sizes: list[int] | None = None
    length: int | None = None
    units: list[Unit] = []
    ordinal = 0
    finished = False
    while offset < len(data):
        if finished:
            raise CorruptError("there are bytes after the last unit")
        try:
            kind, body, check, crc, end = _frame(view, offset, sizes, len(units), tolerant)
        except TruncatedError:
            if tolerant and bytes(view[offset : offset + 1]) in (UNIT, END):
                break  # what was cut off is missing, no more
            raise
        good = crc_of(seed, ordinal, view[offset : end - 4]) == crc
        is_unit = kind in (UNIT, LAST_UNIT)
        if kind == END and not good and tolerant:
            break  # as if it had been cut off
        if not good and not (tolerant and is_unit and (units or sizes)):
            raise CorruptError(f"checksum of chunk {ordinal} ({kind!r}) does not match; fetch the file again")
        if is_unit:
            damage = None if good else CorruptError(f"unit {len(units)} is damaged")
            units.append(Unit(bytes(body), check, damage))
            finished = kind == LAST_UNIT
        elif kind == END:
            length, last = read_end(body, check)
            units.append(last)
            finished = True
        elif kind == INDEX:
            sizes = _read_index(body, len(data))
        elif kind == ALPHA:
            alpha = bytes(body)
        elif kind in _METADATA_NAMES:
            metadata[_METADATA_NAMES[kind]] = inflate(body)
        elif not kind.islower():
            raise UnsupportedVersionError(f"unknown critical chunk {kind!r}: update codec")
        ordinal += 1
        offset = end
    if not finished and not (tolerant and sizes is None):
        raise TruncatedError("the stream ends before its last unit; fetch it again")
    if sizes is not None and not tolerant and sizes != [len(unit.payload) for unit in units]:
        raise CorruptError("the index does not match the units")
    return Container(values["system"], values["version"], values["digest"], params, units, metadata, alpha, length)


def read_end(body: bytes | memoryview, check: int) -> tuple[int, Unit]:
    """Return what an end chunk holds: samples a channel, and the last unit."""
    length, start = get_varint(body, 0)
    return length, Unit(bytes(body[start:]), check)


def _frame(view, offset: int, sizes: list[int] | None, number: int, tolerant: bool):
    """Return (type, body, symbol check, stored CRC, end) of the chunk at `offset`."""
    kind = bytes(view[offset : offset + 1])
    if sizes is not None and number < len(sizes):
        # Inside an indexed run of units the index says where a unit ends, whatever its own framing claims.
        last = number == len(sizes) - 1
        expected = LAST_UNIT if last else UNIT
        length = b"" if last else put_varint(sizes[number])
        start = offset + 1 + len(length)
        end = start + sizes[number] + 6
        if end > len(view):
            raise TruncatedError(f"the stream ends inside unit {number}; fetch it again")
        intact = kind == expected and view[offset + 1 : start] == length
        if not intact and not tolerant:
            raise CorruptError(f"unit {number} is not where the index says")
        return _split(view, expected, start, end)
    if kind == LAST_UNIT:
        if len(view) - offset < 7:
            raise TruncatedError("the stream ends inside its last unit; fetch it again")
        return _split(view, kind, offset + 1, len(view))
    length, start = get_varint(view, offset + 1)
    end = start + length + (6 if kind in (UNIT, END) else 4)
    if end > len(view):
        raise TruncatedError(f"the stream ends inside chunk {kind!r}; fetch it again")
    return _split(view, kind, start, end)


def _split(view, kind: bytes, start: int, end: int):
    crc = bytes(view[end - 4 : end])
    if kind in (UNIT, LAST_UNIT, END):
        return kind, view[start : end - 6], int.from_bytes(view[end - 6 : end - 4], "little"), crc, end
    return kind, view[start : end - 4], 0, crc, end


def _read_index(body, file_size: int) -> list[int]:
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


def inflate(body) -> bytes:
    inflater = zlib.decompressobj()
    try:
        out = inflater.decompress(bytes(body), MAX_METADATA)
    except zlib.error as exc:
        raise CorruptError("a metadata block cannot be inflated") from exc
    if inflater.unconsumed_tail or not inflater.eof:
        raise CorruptError(f"a metadata block is incomplete or larger than {MAX_METADATA} bytes")
    return out
