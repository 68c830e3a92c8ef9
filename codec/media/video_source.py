"""Where video comes from: paths, bytes, files and pipes, as FFmpeg reads them."""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.stream import Disposition

from codec.errors import MediaError
from codec.media.audio_decoder import Source

# What FFmpeg may take a file for. Playlists and the like are missing: they would make it open other files.
_DEMUXERS = (
    "asf,av1,avi,dv,flv,h264,hevc,ivf,m4v,matroska,mov,mpeg,mpegts,mpegvideo,mxf,nut,obu,ogg,rm,vc1,yuv4mpegpipe"
)
_OPTIONS = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "none"}
_PIECE = 1 << 20  # bytes copied at once from what cannot seek


def opened_source(source: Any, opened: ExitStack, *, spool: bool = True) -> Source:
    """Return a source as a file.

    Args:
        source: path, bytes, or a binary file at its current position.
        opened: closes what is opened here.
        spool: whether what cannot seek is first copied to a temporary file.

    Raises:
        MediaError: it is none of these, or cannot be read.
    """
    name = _name_of(source)
    if isinstance(source, Source):
        return source
    if isinstance(source, str | os.PathLike):
        source = opened.enter_context(_file_at(Path(source)))
    elif isinstance(source, bytes | bytearray | memoryview):
        source = io.BytesIO(source)
    elif not hasattr(source, "read"):
        raise MediaError(f"cannot read video from {type(source).__name__}; give a path, bytes or a binary file")
    file = Source(source, name)
    return _spooled(file, opened) if spool and not file.seekable() else file


def demuxer_of(file: Source) -> av.container.InputContainer:
    """Open a file that seeks from its beginning.

    Raises:
        MediaError: FFmpeg does not know the format, or it is not one of video.
    """
    try:
        with file.wrapped():
            file.seek(0)
            return av.open(file, "r", options=_OPTIONS, metadata_errors="surrogateescape")
    except MediaError as exc:
        if file.error is not None:
            raise
        what = "not a video file that FFmpeg can read, or cut off" if file.head else "the file is empty"
        raise MediaError(f"{file.name}: {what}") from exc.__cause__


def moving_pictures(file: BinaryIO) -> bool | None:
    """Tell whether a file that seeks holds video streams that are no cover pictures; None where FFmpeg cannot say."""
    try:
        source = Source(file, "video")
        with source.wrapped(), av.open(source, "r", options=_OPTIONS, metadata_errors="surrogateescape") as container:
            return any(not is_cover(stream) for stream in container.streams.video)
    except MediaError:
        return None


def is_cover(stream: av.VideoStream) -> bool:
    """Tell whether a video stream is a picture attached to sound."""
    return bool(stream.disposition & Disposition.attached_pic)


def text_of(tag: str) -> str:
    """Return a tag as text; old files hold Windows-1252 where UTF-8 should be."""
    raw = tag.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def _file_at(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except IsADirectoryError as exc:
        raise MediaError(f"{path}: is a folder, not a video file") from exc


def _name_of(source: Any) -> str:
    """Return what messages call a source."""
    name = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    return str(name) if isinstance(name, str | os.PathLike) else "video"


def _spooled(file: Source, opened: ExitStack) -> Source:
    kept = opened.enter_context(tempfile.SpooledTemporaryFile(_PIECE))  # noqa: SIM115 (closed by `opened`)
    with file.wrapped():
        while piece := file.read(_PIECE):
            kept.write(piece)
    kept.seek(0)
    return Source(kept, file.name)
