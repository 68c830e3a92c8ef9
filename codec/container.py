"""The .lcb file: signature, header, chunks. Knows bytes and checksums, nothing of pictures or networks.

    signature 6 | format version 1 | header length varint | header | chunk | chunk | ...
    chunk = type 1 | length varint | body | [symbol check 2, units only] | CRC-32 4      (see `codec.chunks`)

The normative description is bitstreams/FORMAT.md. Two rules keep the overhead of a plain image at 32 bytes:
the last unit needs no length (it runs to the end of the file), and the header has no checksum of its own
because the CRC of every chunk also covers the header and the chunk's ordinal. So a damaged header, a chunk
moved, and a chunk from another file all show.

Units of a few bytes each share two chunks, a table and their joined payloads: three bytes around a unit instead of
nine. No checksum then says which of them is damaged, but decoding does, by the symbol check of each.

Sound and video are written while they are still coming in: units all have a length, no index stands before them, and
the last one, in the end chunk, says how long it is. `ChunkWriter` and `codec.live` work piece by piece on such streams.
After the end of a video further clips may follow, each like a file of its own without signature and header.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from codec.chunks import (
    ALPHA,
    END,
    INDEX,
    LAST_UNIT,
    METADATA,
    NEXT,
    PAYLOADS,
    SOUND,
    TABLE,
    TIMES,
    UNIT,
    Entry,
    Unit,
    crc_of,
    frame,
    frame_payloads,
    put_table,
    read_end,
    read_index,
    read_table,
    read_units,
)
from codec.errors import CorruptError, FormatError, TruncatedError, UnsupportedVersionError
from codec.fields import Field, Layout, get_varint, put_varint

SIGNATURE = b"\x89LCB\r\n"  # a high bit against 7-bit transfer, CR LF against line-ending conversion
FORMAT_VERSION = 1
MAX_HEADER = 4096  # bytes: a header holds a few numbers
MAX_METADATA = 16 << 20  # bytes of one metadata block after inflation
PIECE = 1 << 20  # bytes of a sound track in one chunk, at most

HEADER = Layout(
    (
        Field("system", "name", "registered system id, ASCII, bit 7 set on the last character"),
        Field("version", "varint", "bitstream version of the system", 1, 1 << 16),
        Field("digest", "bytes4", "first 4 bytes of the SHA-256 digest of the model"),
    )
)  # the parameters of the system follow, to the end of the header

_METADATA_NAMES = {code: name for name, code in METADATA.items()}
_CUTTABLE = (UNIT, END, NEXT, SOUND, TIMES)  # what was cut off in one of these is missing, no more


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
        length: of sound, samples a channel, of video, frames; None for images, and where the end of a damaged stream is
            missing.
        sound: of video, the tracks beside it: each the bytes of a file of sound.
        later: of video, the clips that were appended; their system and digest are those of the file.
        compact: units, if there are two or more, share a table and a chunk; images only.
        damage: what else a tolerant reader had to leave out, in words.
        chunks: how many there are in the whole file.
    """

    system: str
    version: int
    digest: bytes
    params: bytes
    units: Sequence[Unit]
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    alpha: bytes | None = None
    length: int | None = None
    sound: tuple[bytes, ...] = ()
    later: tuple[Container, ...] = ()
    compact: bool = False
    damage: tuple[str, ...] = field(default=(), compare=False)
    chunks: int = field(default=0, compare=False)

    @property
    def clips(self) -> tuple[Container, ...]:
        """This one and those that were appended."""
        return self, *self.later

    def pack(self) -> bytes:
        """Return the file."""
        writer = ChunkWriter(self.system, self.version, self.digest, self.params)
        parts = [writer.start, *self._chunks(writer)]
        for clip in self.later:
            parts += [writer.chunk(NEXT, clip.params), *clip._chunks(writer)]
        return b"".join(parts)

    def _chunks(self, writer: ChunkWriter) -> Iterator[bytes]:
        for name in METADATA:
            if self.metadata.get(name):
                yield writer.metadata(name, self.metadata[name])
        if self.alpha is not None:
            yield writer.chunk(ALPHA, self.alpha)
        for number, track in enumerate(self.sound):
            yield from writer.sound(number, (track[i : i + PIECE] for i in range(0, max(len(track), 1), PIECE)))
        yield from self._units(writer)

    def _units(self, writer: ChunkWriter) -> Iterator[bytes]:
        if self.compact and len(self.units) > 1:
            yield writer.chunk(TABLE, put_table(self.units))
            yield writer.chunk(PAYLOADS, b"".join(unit.payload for unit in self.units))
            return
        if self.length is None and len(self.units) > 1:
            sizes = b"".join(put_varint(len(unit.payload)) for unit in self.units)
            yield writer.chunk(INDEX, put_varint(len(self.units)) + sizes)
        yield from map(writer.unit, self.units[:-1])
        if self.length is None:
            yield writer.unit(self.units[-1], LAST_UNIT)
        else:
            yield writer.end(self.length, self.units[-1])


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

    @classmethod
    def after(cls, data: bytes, chunks: int) -> ChunkWriter:
        """Return what writes on at the end of a file that has so many chunks."""
        values, params, _ = parse_header(data)
        writer = cls(values["system"], values["version"], values["digest"], params)
        writer._ordinal = chunks
        return writer

    def chunk(self, kind: bytes, body: bytes, check: bytes = b"") -> bytes:
        length = b"" if kind in (LAST_UNIT, PAYLOADS) else put_varint(len(body))
        chunk = kind + length + body + check
        self._ordinal += 1
        return chunk + crc_of(self._seed, self._ordinal - 1, chunk)

    def metadata(self, name: str, data: bytes) -> bytes:
        return self.chunk(METADATA[name], zlib.compress(data, 9))

    def unit(self, unit: Unit, kind: bytes = UNIT) -> bytes:
        return self._times(unit) + self.chunk(kind, unit.payload, unit.check.to_bytes(2, "little"))

    def end(self, length: int, last: Unit) -> bytes:
        """Return the chunk that ends a stream of `length` samples a channel or frames with its last unit."""
        body = put_varint(length) + last.payload
        return self._times(last) + self.chunk(END, body, last.check.to_bytes(2, "little"))

    def sound(self, number: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the chunks of a track of sound, given in pieces of at most `PIECE` bytes."""
        for piece in pieces:
            yield self.chunk(SOUND, put_varint(number) + piece)

    def _times(self, unit: Unit) -> bytes:
        return self.chunk(TIMES, unit.times) if unit.times else b""


def pieces_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield what is left of a file in pieces of at most `PIECE` bytes, at least one."""
    yield file.read(PIECE)
    while piece := file.read(PIECE):
        yield piece


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
            tells where they lie; those that share a chunk are damaged where they are cut off, otherwise not trusted.
            Leave out damaged times and sound of video. Damage to the header or another critical chunk always raises.

    Raises:
        FormatError or a subclass.
    """
    values, params, offset = parse_header(data)
    view = memoryview(data)
    seed = zlib.crc32(view[:offset])
    clips = [_Clip(params)]
    ordinal = 0
    verified, damage = (
        False,
        None,
    )  # by a chunk that is intact, as its checksum covers the header; the first that is not
    while offset < len(data):
        clip, kind = clips[-1], bytes(view[offset : offset + 1])
        if clip.finished and not (clip.ended and kind == NEXT):
            raise CorruptError("there are bytes after the last unit")
        try:
            if clip.table is not None:
                kind, body, check, crc, end = frame_payloads(view, offset, clip.table, tolerant=tolerant)
            else:
                kind, body, check, crc, end = frame(view, offset, clip.sizes, len(clip.units), tolerant=tolerant)
        except TruncatedError:
            if tolerant and kind in _CUTTABLE:
                break  # what was cut off is missing, no more
            raise
        good = crc_of(seed, ordinal, view[offset : end - 4]) == crc
        if good and kind == NEXT:
            if not clip.ended:
                raise CorruptError("a clip begins before the end of the one before")
            clips.append(_Clip(bytes(body)))
        elif good:
            clip.take(kind, body, check, len(data))
        else:
            error = CorruptError(f"checksum of chunk {ordinal} ({kind!r}) does not match; fetch the file again")
            if not (tolerant and clip.spare(kind, body, check)):
                raise error
            damage = damage or error
            if kind in (END, NEXT) and bytes(view[end : end + 1]) != NEXT:
                break  # as if it had been cut off
        verified = verified or good
        ordinal += 1
        offset = end
    if damage and not verified:
        raise damage
    if tolerant and clips[-1].table is not None and not clips[-1].finished:
        clips[-1].spare(PAYLOADS, view[:0], 0)  # cut off between the table and what it announces
    if not clips[-1].finished and not (tolerant and clips[-1].sizes is None):
        raise TruncatedError("the stream ends before its last unit; fetch it again")
    head = values["system"], values["version"], values["digest"]
    first, *later = [clip.container(head, tolerant) for clip in clips if clip.units or clip is clips[0]]
    return replace(first, later=tuple(later), chunks=ordinal)


class _Clip:
    """What has been read of a file, or of one clip of it."""

    def __init__(self, params: bytes) -> None:
        self.params = params
        self.units: list[Unit] = []
        self.sizes: list[int] | None = None
        self.table: list[Entry] | None = None
        self.finished = self.ended = False  # `ended`: by a chunk that clips may follow
        self._metadata: dict[str, bytes] = {}
        self._alpha: bytes | None = None
        self._length: int | None = None
        self._sound: list[list[bytes]] = []
        self._mute = False  # a piece is damaged
        self._times = b""
        self._damage: list[str] = []

    def take(self, kind: bytes, body: memoryview, check: int, file_size: int) -> None:
        """Take an intact chunk."""
        if kind in (UNIT, LAST_UNIT):
            self._add(Unit(bytes(body), check))
            self.finished = kind == LAST_UNIT
        elif kind == END:
            self._length, last = read_end(body, check)
            self._add(last)
            self.finished = self.ended = True
        elif kind == INDEX:
            self.sizes = read_index(body, file_size)
        elif kind == TABLE:
            if self.units or self.sizes is not None:
                raise CorruptError("a table of units comes after others")
            self.table = read_table(body)
        elif kind == PAYLOADS:
            self.units = read_units(body, self.table, trusted=True)
            self.finished = True
        elif kind == ALPHA:
            self._alpha = bytes(body)
        elif kind == TIMES:
            self._times = bytes(body)
        elif kind == SOUND:
            self._take_sound(body)
        elif kind in _METADATA_NAMES:
            self._metadata[_METADATA_NAMES[kind]] = inflate(body)
        elif not kind.islower():
            raise UnsupportedVersionError(f"unknown critical chunk {kind!r}: update codec")

    def spare(self, kind: bytes, body: memoryview, check: int) -> bool:
        """Take a damaged chunk as far as one can do without it; otherwise return False."""
        if kind in (UNIT, LAST_UNIT):
            self._add(Unit(bytes(body), check, CorruptError(f"unit {len(self.units)} is damaged")))
            self.finished = kind == LAST_UNIT
        elif kind == PAYLOADS:
            self.units = read_units(body, self.table, trusted=False)
            self.finished = True
            cut = self.units[-1].damaged is not None
            self._damage.append("the end of the file is missing" if cut else "the checksum of all units does not match")
        elif kind == END:
            self.finished = self.ended = True
        elif kind == NEXT:
            self._damage.append("the start of the clip after this one is damaged")
        elif kind == TIMES:
            self._damage.append(f"the times of unit {len(self.units)} are damaged")
        elif kind == SOUND:
            self._mute = True
        else:
            return False
        return True

    def _add(self, unit: Unit) -> None:
        self.units.append(replace(unit, times=self._times))
        self._times = b""

    def _take_sound(self, body: memoryview) -> None:
        number, start = get_varint(body, 0)
        if number == len(self._sound):
            self._sound.append([])
        if number == len(self._sound) - 1:
            self._sound[-1].append(bytes(body[start:]))
        elif not self._mute:
            raise CorruptError(f"track {number} of sound has no place after {len(self._sound)}")

    def container(self, head: tuple[str, int, bytes], tolerant: bool) -> Container:
        """Return it.

        Raises:
            CorruptError: its parts do not fit each other.
        """
        if self.sizes is not None and not tolerant and self.sizes != [len(unit.payload) for unit in self.units]:
            raise CorruptError("the index does not match the units")
        sound = () if self._mute else tuple(map(b"".join, self._sound))
        damage = (*self._damage, *["its sound is damaged"] * self._mute)
        return Container(
            *head, self.params, self.units, self._metadata, self._alpha, self._length, sound,
            compact=self.table is not None, damage=damage,
        )  # fmt: skip


def inflate(body: bytes | memoryview) -> bytes:
    """Return a block of metadata.

    Raises:
        CorruptError: it is no zlib stream, or too large.
    """
    inflater = zlib.decompressobj()
    try:
        out = inflater.decompress(bytes(body), MAX_METADATA)
    except zlib.error as exc:
        raise CorruptError("a metadata block cannot be inflated") from exc
    if inflater.unconsumed_tail or not inflater.eof:
        raise CorruptError(f"a metadata block is incomplete or larger than {MAX_METADATA} bytes")
    return out
