"""WAV headers: RIFF, RF64 above 4 GiB (EBU Tech 3306), and the form that goes through a pipe.

Written by hand because one path must serve files, pipes and any length; reading is FFmpeg's.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import av

from codec.errors import MediaError
from codec.media import pcm

RIFF_LIMIT = 0xFFFFFFFF  # also the size that stands for "unknown"
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_SUBFORMAT = bytes.fromhex("000000001000800000aa00389b71")  # the GUID after its first two bytes, the format tag
_SPEAKERS = (  # bits 0.. of dwChannelMask
    "FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR", "TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR",
)  # fmt: skip
INFO = {  # tag -> chunk of LIST INFO, as FFmpeg reads them
    "album": "IPRD", "artist": "IART", "comment": "ICMT", "copyright": "ICOP", "date": "ICRD", "encoded_by": "ITCH",
    "genre": "IGNR", "language": "ILNG", "title": "INAM", "track": "IPRT",
}  # fmt: skip


def header(rate: int, layout: str, depth: str, metadata: Mapping[str, str], data_size: int | None) -> bytes:
    """Return what stands before the samples; its length does not depend on `data_size` unless that is None (a pipe).

    Raises:
        MediaError: WAV cannot hold so many channels or so high a rate.
    """
    channels = pcm.channels_of(layout)
    step = channels * pcm.WIDTH[depth]
    if step > 0xFFFF or rate * step > 0xFFFFFFFF:
        raise MediaError(f"wav cannot hold {channels} channels of {depth} at {rate} Hz")
    body = _format(rate, layout, depth, channels)
    if depth == "f32":
        body += _chunk("fact", struct.pack("<I", min(0xFFFFFFFF, (data_size or 0) // step)))
    info = b"".join(_chunk(INFO[key], value.encode() + b"\0") for key, value in metadata.items())
    if info:
        body += _chunk("LIST", b"INFO" + info)
    if data_size is None:
        return b"RIFF\xff\xff\xff\xffWAVE" + body + b"data\xff\xff\xff\xff"
    room = struct.calcsize("<QQQI")
    riff_size = 4 + 8 + room + len(body) + 8 + data_size + data_size % 2
    if riff_size < RIFF_LIMIT:
        reserved = _chunk("JUNK", bytes(room))
        return (
            struct.pack("<4sI4s", b"RIFF", riff_size, b"WAVE")
            + reserved
            + body
            + struct.pack("<4sI", b"data", data_size)
        )
    sizes = _chunk("ds64", struct.pack("<QQQI", riff_size, data_size, data_size // step, 0))
    return b"RF64\xff\xff\xff\xffWAVE" + sizes + body + b"data\xff\xff\xff\xff"


def _format(rate: int, layout: str, depth: str, channels: int) -> bytes:
    bits, tag = 8 * pcm.WIDTH[depth], _FLOAT if depth == "f32" else _PCM
    plain = layout in ("mono", "stereo") and depth in ("s16", "f32")
    step = channels * pcm.WIDTH[depth]
    common = struct.pack("<HHIIHH", tag if plain else _EXTENSIBLE, channels, rate, rate * step, step, bits)
    if plain:
        return _chunk("fmt ", common + (b"\0\0" if tag == _FLOAT else b""))
    return _chunk("fmt ", common + struct.pack("<HHIH", 22, bits, _mask(layout), tag) + _SUBFORMAT)


def _mask(layout: str) -> int:
    """Return dwChannelMask, 0 for channels without places or in another order than WAV's."""
    names = [channel.name for channel in av.AudioLayout(layout).channels]
    places = [_SPEAKERS.index(name) for name in names if name in _SPEAKERS]
    ordered = len(places) == len(names) and places == sorted(set(places))
    return sum(1 << place for place in places) if ordered else 0


def _chunk(kind: str, body: bytes) -> bytes:
    return struct.pack("<4sI", kind.encode(), len(body)) + body + bytes(len(body) % 2)
