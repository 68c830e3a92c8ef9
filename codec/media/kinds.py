"""What kind of signal a value or a file holds, told by its first bytes; imports nothing that reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

_SOUND = (b"fLaC", b"OggS", b"ID3", b"RF64", b"FORM", b"wvpk", b"MAC ", b"caff", b".snd", b"#!AMR")
SOUND_SUFFIXES = (".aac", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mp3",
                  ".oga", ".ogg", ".opus", ".rf64", ".wav", ".wave", ".wv")  # fmt: skip
_BRANDS = (b"M4A ", b"M4B ", b"mp41", b"mp42", b"isom", b"iso5", b"dash")  # of MP4 files that may be sound


def kind_of(source: Any) -> str:
    """Return `audio` or `image`; whatever is not known to be sound counts as an image, whose reader then complains.

    Args:
        source: path, bytes, binary file (seekable, or it counts as an image), or any value.
    """
    if type(source).__name__ == "Audio":
        return "audio"
    if isinstance(source, str | os.PathLike):
        if not Path(source).is_file():
            return "image"
        with Path(source).open("rb") as file:
            head = file.read(16)
    elif isinstance(source, bytes | bytearray | memoryview):
        head = bytes(source[:16])
    elif hasattr(source, "seekable") and source.seekable():
        place = source.tell()
        head = source.read(16)
        source.seek(place)
    else:
        return "image"
    return "audio" if _is_sound(head) else "image"


def _is_sound(head: bytes) -> bool:
    if head[:4] == b"RIFF":
        return head[8:12] == b"WAVE"
    if head[4:8] == b"ftyp":
        return head[8:12] in _BRANDS
    mpeg = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0  # MP3 and AAC frames; no image begins so
    return mpeg or head.startswith(_SOUND)
