"""What kind of signal a value or a file holds, told by its first bytes; imports nothing that reads it.

Only where these leave open whether there are pictures beside the sound (MP4, Matroska, ASF) does FFmpeg look.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO

SOUND_SUFFIXES = (".aac", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mka",
                  ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".wav", ".wave", ".weba", ".wma", ".wv")  # fmt: skip
VIDEO_SUFFIXES = (".3g2", ".3gp", ".asf", ".avi", ".flv", ".ivf", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg",
                  ".mpg", ".mts", ".mxf", ".nut", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m")  # fmt: skip
_HEAD = 4096  # bytes that are looked at
_SOUND = (b"fLaC", b"OggS", b"ID3", b"RF64", b"FORM", b"wvpk", b"MAC ", b"caff", b".snd", b"#!AMR")
_VIDEO = (b"YUV4MPEG2 ", b"FLV\x01", b"DKIF", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"nut/multimedia",
          b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02")  # ..., IVF, MPEG-PS, MPEG-1, NUT, MXF  # fmt: skip
_EITHER = (b"\x1a\x45\xdf\xa3", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")  # Matroska, ASF
_OGG_VIDEO = (b"\x80theora", b"BBCD\x00", b"\x01video")  # first packets of Theora, Dirac, OGM
_SOUND_BRANDS = (b"M4A ", b"M4B ", b"F4A ", b"F4B ")  # of MP4 files
_IMAGE_BRANDS = (b"avif", b"avis", b"heic", b"heim", b"heis", b"heix", b"hevc", b"hevx", b"j2ki", b"jp2 ", b"jpeg",
                 b"jpm ", b"jpx ", b"mif1", b"mif2", b"mjp2", b"miaf", b"msf1", b"vvic")  # fmt: skip
_OLD_MOVIE = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # atoms QuickTime files begin with
_TS_PACKET, _TS_SYNC = 188, 0x47  # bytes; the first of each


def kind_of(source: Any) -> str:
    """Return `video`, `audio` or `image`; whatever is not known counts as an image, whose reader then complains.

    Sound with a cover picture is sound.

    Args:
        source: path, bytes, binary file (seekable, or it counts as an image), or any value.
    """
    if type(source).__name__ in ("Audio", "Video"):
        return type(source).__name__.lower()
    if isinstance(source, str | os.PathLike):
        if not Path(source).is_file():
            return "image"
        with Path(source).open("rb") as file:
            return _kind(file, sound=Path(source).suffix.lower() in SOUND_SUFFIXES)
    if isinstance(source, bytes | bytearray | memoryview):
        head = bytes(source[:_HEAD])
        return _told(head) or _looked(io.BytesIO(source), sound=False)
    if hasattr(source, "seekable") and source.seekable():
        place = source.tell()
        try:
            return _kind(source, sound=False)
        finally:
            source.seek(place)
    return "image"


def is_signal(path: Path) -> bool:
    """Tell by its suffix whether a file of a folder is a picture, sound or video to encode; .lcb files are results."""
    import PIL.Image

    PIL.Image.init()
    suffix = path.suffix.lower()
    return suffix in (*SOUND_SUFFIXES, *VIDEO_SUFFIXES) or (suffix in PIL.Image.EXTENSION and suffix != ".lcb")


def _kind(file: BinaryIO, *, sound: bool) -> str:
    place = file.tell()
    told = _told(file.read(_HEAD))
    file.seek(place)
    return told or _looked(file, sound=sound)


def _told(head: bytes) -> str | None:
    """Return the kind the first bytes tell, None where it takes a closer look."""
    if head.startswith(_EITHER) or head[4:8] in _OLD_MOVIE:
        return None
    if head[:4] == b"RIFF":
        return {b"WAVE": "audio", b"AVI ": "video"}.get(head[8:12], "image")
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return "audio" if brand in _SOUND_BRANDS else "image" if brand in _IMAGE_BRANDS else None
    if head.startswith(b"OggS"):
        return "video" if any(mark in head for mark in _OGG_VIDEO) else "audio"
    if head.startswith(_VIDEO) or _is_transport(head):
        return "video"
    mpeg = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0  # MP3 and AAC frames; no image begins so
    return "audio" if mpeg or head.startswith(_SOUND) else "image"


def _is_transport(head: bytes) -> bool:
    """Tell whether this begins an MPEG transport stream, with (M2TS) or without time codes."""
    return any(
        len(head) > start + 2 * step and all(head[start + n * step] == _TS_SYNC for n in range(3))
        for start, step in ((0, _TS_PACKET), (4, _TS_PACKET + 4))
    )


def _looked(file: BinaryIO, *, sound: bool) -> str:
    """Let FFmpeg look for pictures that are no covers. What it cannot open is what its name says."""
    from codec.media.video_source import moving_pictures

    found = moving_pictures(file)
    return ("audio" if sound else "video") if found is None else "video" if found else "audio"
