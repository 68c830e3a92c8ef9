"""Whether a video file is as long as it says, where FFmpeg reads on without a word."""

from __future__ import annotations

import io

from codec.media.audio_decoder import Source

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067  # IDs of elements (RFC 8794, RFC 9559)


def is_cut_off(file: Source, kind: str, packets_end: int) -> bool:
    """Tell whether a Matroska or y4m file ends before it should; of other formats FFmpeg or a sample table tells it.

    Args:
        kind: FFmpeg's name of the format.
        packets_end: bytes up to the end of the last packet.
    """
    place = file.tell()
    try:
        size = file.seek(0, io.SEEK_END)
        if kind.startswith("yuv4mpegpipe"):
            return packets_end != size
        file.seek(0)
        return kind.startswith("matroska") and _segment_end(file) > size
    finally:
        file.seek(place)


def _segment_end(file: Source) -> int:
    """Return where the segment of a Matroska file ends; 0 where that is not said, as of live streams."""
    head, offset = file.read(1 << 12), 0
    for wanted in (_EBML, _SEGMENT):
        length = _length(head[offset:])
        if int.from_bytes(head[offset : offset + length], "big") != wanted:
            return 0
        offset += length
        length = _length(head[offset:])
        size = int.from_bytes(head[offset : offset + length], "big") & (1 << 7 * length) - 1
        offset += length + (size if wanted == _EBML else 0)
    return 0 if size == (1 << 7 * length) - 1 else offset + size  # all ones: unknown


def _length(data: bytes) -> int:
    """Return how many bytes the variable-length integer that begins here has."""
    return 9 - data[0].bit_length() if data and data[0] else 9
