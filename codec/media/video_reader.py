"""Video files and pipes to groups of frames, by FFmpeg (PyAV)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain
from typing import Any, BinaryIO

import av
import numpy as np

from codec.errors import LimitError, MediaError
from codec.limits import MAX_PIXELS
from codec.media.audio_decoder import Source
from codec.media.sound_tracks import copy_sound
from codec.media.video import Frames, VideoFormat
from codec.media.video_demuxer import Demuxer
from codec.media.video_frames import Unpacker, carried_as, is_full
from codec.media.video_pixels import known_matrix
from codec.media.video_raw import RawFormat, frame_bytes, raw_frames
from codec.media.video_source import opened_source

_FIRST_ROOM = 16  # frames
_Pictures = Iterator[tuple[int, tuple[np.ndarray, ...]]]  # ticks and planes


class Reader:
    """Read video group by group, in memory bounded by a group.

    Sources are a path, bytes, or a binary file at its current position; what cannot seek is first copied to a
    temporary file, unless it is raw. Of several video streams the one with most pixels counts. Times begin at 0 with
    the first frame; at a constant rate they are multiples of 1 / rate even where the container rounds them (frames
    missing in between make them jump). Interlaced frames are given as they are. Not carried: chapters, subtitles,
    static HDR metadata.

    Args:
        raw: what to know of a file without a header.

    Attributes:
        format: of all frames.
        frames: how many there are, by a pass over the packets; None where only reading to the end tells. Streams with
            packets that are never shown may have a few less.
        metadata: tags under lower-case names.
        sound: number of audio tracks.
        start: when the first frame is shown by the clock that sound has too, seconds.

    Raises:
        MediaError: it cannot be read, or not without silent loss; also while iterating.
    """

    def __init__(self, source: Any, *, raw: RawFormat | None = None) -> None:
        self.metadata: dict[str, str] = {}
        self.sound, self.start = 0, Fraction(0)
        self.frames: int | None = None
        with ExitStack() as opened:
            file = opened_source(source, opened, spool=raw is None)
            self.name, self._file = file.name, file
            if raw is None:
                self._begin(opened.enter_context(Demuxer(file)))
            else:
                self.format = raw.format
                if raw.width * raw.height > MAX_PIXELS:
                    raise LimitError(f"frames of {raw.width}x{raw.height} are more than {MAX_PIXELS} pixels")
                self._pictures = _numbered(raw_frames(file, self.format, self.name))
                self.frames = _raw_count(file, frame_bytes(self.format))
            self._close = opened.pop_all().close

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened here; a file that was given stays open."""
        self._close()

    def groups(self, size: int) -> Iterator[Frames]:
        """Yield all frames, `size` at a time but in the last group, once."""
        if size < 1:
            raise MediaError(f"a group needs at least one frame, not {size}")
        group = _Group(size)
        for time, picture in self._pictures:
            group.add(time, picture)
            if len(group.times) == size:
                yield group.frames()
                group = _Group(size)
        if group.times:
            yield group.frames()

    def copy_sound(self, file: BinaryIO) -> list[str]:
        """Copy all audio tracks into a Matroska audio file; see `codec.media.sound_tracks.copy_sound`."""
        place = self._file.tell()  # frames are read on from here
        try:
            return copy_sound(self._file, file, start=self.start) if self.sound else []
        finally:
            self._file.seek(place)

    def _begin(self, demuxer: Demuxer) -> None:
        """Decode the first frame, which alone tells what all are."""
        frames = demuxer.decoded()
        first = next(frames, None)
        if first is None:
            raise MediaError(f"{self.name}: holds no frame that FFmpeg can decode")
        clock, frame = demuxer.timing, first[1]
        pixels, matrix = carried_as(frame, self.name), int(frame.colorspace)
        coloured = not frame.format.is_rgb and len(frame.format.components) > 1  # YCbCr
        if coloured and not known_matrix(matrix):
            raise MediaError(f"{self.name}: colours of matrix {matrix} cannot be read; convert it to BT.709 first")
        self.format = VideoFormat(
            frame.width, frame.height, clock.rate, pixels, clock.time_base, demuxer.aspect, demuxer.rotation(frame),
            matrix, int(frame.color_primaries), int(frame.color_trc), coloured and is_full(frame),
        )  # fmt: skip
        self.frames, self.sound, self.start = demuxer.count, demuxer.sound, demuxer.start
        self.metadata = demuxer.tags()
        self._pictures = self._unpacked(first, frames)

    def _unpacked(self, first: tuple[int, av.VideoFrame], rest: Iterator[tuple[int, av.VideoFrame]]) -> _Pictures:
        unpacker = Unpacker(self.format.pixels, self.format.matrix, self.name)
        for ticks, frame in chain([first], rest):
            yield ticks, unpacker.planes(frame)


class _Group:
    """Frames that are coming in, in arrays that double until they have room for all."""

    def __init__(self, size: int) -> None:
        self.times: list[int] = []
        self._size = size
        self._planes: list[np.ndarray] = []

    def add(self, time: int, picture: tuple[np.ndarray, ...]) -> None:
        count = len(self.times)
        if not count:
            self._planes = [np.empty((min(_FIRST_ROOM, self._size), *p.shape), p.dtype) for p in picture]
        room = len(self._planes[0])
        if count == room:
            more = min(room, self._size - room)
            self._planes = [np.concatenate((p, np.empty((more, *p.shape[1:]), p.dtype))) for p in self._planes]
        for stack, plane in zip(self._planes, picture, strict=True):
            stack[count] = plane
        self.times.append(time)

    def frames(self) -> Frames:
        count = len(self.times)
        return Frames(tuple(p if len(p) == count else p[:count].copy() for p in self._planes), tuple(self.times))


def _numbered(pictures: Iterator[tuple[np.ndarray, ...]]) -> _Pictures:
    yield from enumerate(pictures)


def _raw_count(file: Source, size: int) -> int | None:
    """Return how many frames of some bytes a file holds, None for a pipe."""
    if not file.seekable():
        return None
    with file.wrapped():
        end = file.seek(0, io.SEEK_END)
        file.seek(0)
    return end // size
