"""Groups of frames to video files: raw planes by hand, the rest by FFmpeg (PyAV)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from codec.errors import MediaError
from codec.media.file_writer import FileWriter
from codec.media.sink import Sink
from codec.media.sound_tracks import BITEXACT, SoundTracks
from codec.media.video import UNSPECIFIED, Frames, VideoFormat
from codec.media.video_encoders import CONTAINERS, ENCODERS, Container, encoder_for, format_of, pixels_for
from codec.media.video_frames import FULL, LIMITED, frame_of, reformatted
from codec.media.video_pixels import enlarged_planes, from_rgb, matrix_for, ycc_planes
from codec.media.video_raw import Y4M_FRAME, raw_bytes, y4m_header

__all__ = ["Writer", "format_of"]

_LONGEST_GAP = 10  # seconds that are filled by repeating a frame where frames have no times
_RGB = 0  # code point of the "matrix" of RGB


class Writer(FileWriter):
    """Write video group by group.

    `close` completes the file. Left by an exception, a Writer removes the path it was given or truncates the file, so
    that no part of the video passes for all of it.

    The first frame is shown at 0. mp4, mov, mkv and webm keep all times (mkv and webm to the millisecond). y4m, yuv and
    avi have only a rate: frames are repeated where some are missing, as FFmpeg does, and times that are no multiples
    of 1 / rate are refused.

    Args:
        target: a path, or a binary file at its current position that seeks (y4m and yuv go through pipes too).
        container: see `format_of`.
        format: of the frames.
        encoder: one of `ENCODERS`; None: the container's default.
        metadata: tags.
        sound: files made by `copy_sound`, whose tracks are copied again.

    Attributes:
        lost: the names of what the file cannot hold: tags, `rotation`, `aspect`, `colours` (code points and range),
            `chroma resolution`, `bits above 10`.

    Raises:
        MediaError: the container cannot hold this.
        OSError: from the file.
    """

    what = "video"
    refusals = (*FileWriter.refusals, OverflowError)

    def __init__(
        self,
        target: BinaryIO | str | os.PathLike,
        container: str,
        format: VideoFormat,
        *,
        encoder: str | None = None,
        metadata: Mapping[str, str] | None = None,
        sound: Sequence[Any] = (),
    ) -> None:
        kind = format_of(container)
        self._form, self._format, self._output = CONTAINERS[kind], format, None
        name = encoder_for(kind, format, encoder)
        tags = {key.lower(): value.replace("\0", " ") for key, value in (metadata or {}).items()}
        kept = {key: value for key, value in tags.items() if self._form.tags is None or key in self._form.tags}
        self.lost = sorted(set(tags) - set(kept)) + _lost(self._form, name, format)
        self._last: int | None = None  # time of the last frame
        self._begin = 0  # of the first
        self._shown: tuple[np.ndarray, ...] = ()  # planes of the last frame, where they may have to be repeated
        if sound and not self._form.sound:
            raise MediaError(f"{kind} holds no sound; write mkv or mp4, or leave the sound out")
        self._sink = Sink(target)
        with self._undone():
            if not self._form.muxer:
                self._output = _Plain(self._sink, format, name)
            elif not self._sink.seekable():
                raise MediaError(f"{kind} cannot be written to a pipe; use y4m or yuv")
            else:
                self._output = _Encoded(self._sink, kind, format, name, kept, sound)

    def write(self, frames: Frames) -> None:
        """Append frames.

        Raises:
            MediaError: they are not of the writer's format, or their times do not rise.
        """
        if self._sink.closed:
            raise MediaError("the video writer is closed")
        planes = [(plane.shape[1:], plane.dtype) for plane in frames.planes]
        if planes != [(shape, self._format.dtype) for shape in self._format.plane_shapes]:
            given = ", ".join(f"{list(shape)} {dtype}" for shape, dtype in planes)
            raise MediaError(f"expected {self._format.pixels} frames of {self._format.plane_shapes}, not {given}")
        with self._undone():
            for index, time in enumerate(frames.times):
                if self._last is not None and time <= self._last:
                    raise MediaError(f"presentation times of frames must rise, not go from {self._last} to {time}")
                self._begin = time if self._last is None else self._begin
                self._last = time
                self._put(tuple(plane[index] for plane in frames.planes), time - self._begin)

    def _finish(self) -> None:
        if self._last is None:
            raise MediaError("a video needs at least one frame")
        super()._finish()

    def _put(self, planes: tuple[np.ndarray, ...], ticks: int) -> None:
        """Write a frame that is shown so many ticks after the first."""
        if not self._form.steady:
            self._output.write(planes, ticks)
            return
        at = ticks * Fraction(self._format.time_base) * Fraction(self._format.rate)
        if at.denominator != 1:
            raise MediaError(f"frame times are no multiples of 1/{self._format.rate} s; write mkv or mp4")
        count = self._output.count
        if at - count > _LONGEST_GAP * self._format.rate:
            raise MediaError(f"{int(at - count)} frames are missing in a row; write mkv or mp4, which have times")
        for missing in range(count, int(at)):
            self._output.write(self._shown, missing)
        self._output.write(planes, int(at))
        self._shown = tuple(plane.copy() for plane in planes)


def _lost(form: Container, name: str, format: VideoFormat) -> list[str]:
    encoder, lost = ENCODERS[name], []
    if format.rotation and not (form.rotation and hasattr(av.video.stream.VideoStream, "set_display_rotation")):
        lost.append("rotation")
    if format.aspect != 1 and not (form.aspect or encoder.aspect):
        lost.append("aspect")
    points = {format.matrix, format.primaries, format.transfer} - {UNSPECIFIED, _RGB}
    if not (form.colours or encoder.colours) and (points or (format.full and name != "y4m")):
        lost.append("colours")
    pixels = pixels_for(encoder, format)
    if format.rgb and pixels.startswith("yuv420p"):
        lost.append("chroma resolution")
    if format.depth > 10 and "16" not in pixels and "48" not in pixels:
        lost.append("bits above 10")
    return lost


class _Plain:
    """Planes of one frame after another.

    Attributes:
        count: frames written.
    """

    def __init__(self, sink: Sink, format: VideoFormat, name: str) -> None:
        pixels = pixels_for(ENCODERS[name], format)
        self._sink, self._painter, self.count = sink, _Painter(format, pixels, tagged=False), 0
        self._mark = Y4M_FRAME if name == "y4m" else b""
        if name == "y4m":
            sink.write(y4m_header(format, pixels))

    def write(self, planes: tuple[np.ndarray, ...], ticks: int) -> None:
        self._sink.write(self._mark + raw_bytes(self._painter.planes(planes)))
        self.count += 1

    def finish(self) -> None:
        """Nothing is left to write."""

    def release(self) -> None:
        """Nothing is held."""


class _Encoded:
    """What FFmpeg encodes and muxes.

    Attributes:
        count: frames written.
    """

    def __init__(
        self,
        sink: Sink,
        kind: str,
        format: VideoFormat,
        name: str,
        metadata: Mapping[str, str],
        sound: Sequence[Any],
    ) -> None:
        form, encoder = CONTAINERS[kind], ENCODERS[name]
        self.count, self._format, self._sound = 0, format, None
        self._pixels = pixels_for(encoder, format)
        self._painter = _Painter(format, self._pixels, tagged=True)
        self._base = 1 / Fraction(format.rate) if form.steady else Fraction(format.time_base)
        if name == "av1":
            # SVT-AV1 writes its settings to stderr and has no other switch.
            os.environ.setdefault("SVT_LOG", "1")
        self._container = av.open(sink, "w", format=form.muxer)
        try:
            self._container.flags |= BITEXACT
            self._container.metadata.update(metadata)
            options = {**encoder.options, **({"bf": "0"} if kind == "avi" and name == "x264" else {})}
            self._stream = self._container.add_stream(encoder.name, rate=Fraction(format.rate), options=options)
            self._configure(form.rotation, "hvc1" if name == "x265" and kind in ("mp4", "mov") else None)
            self._sound = SoundTracks(list(sound), self._container, kind)
            self._container.start_encoding()
        except BaseException as exc:
            self.release()
            if isinstance(exc, av.FFmpegError | ValueError):
                size = f"{format.width}x{format.height} {self._pixels}"
                raise MediaError(f"{name} in {kind} cannot hold {size}; use mkv with ffv1") from exc
            raise

    def _configure(self, rotates: bool, tag: str | None) -> None:
        stream, format = self._stream, self._format
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = format.width, format.height, self._pixels
        context.time_base = self._base
        context.sample_aspect_ratio = Fraction(format.aspect)
        context.color_range, context.colorspace = self._painter.range, self._painter.matrix
        context.color_primaries, context.color_trc = format.primaries, format.transfer
        if tag:
            context.codec_tag = tag
        if rotates and format.rotation and hasattr(stream, "set_display_rotation"):
            stream.set_display_rotation(-format.rotation)  # counter-clockwise

    def write(self, planes: tuple[np.ndarray, ...], ticks: int) -> None:
        frame = self._painter.frame(planes)
        lead = round(self._sound.lead / self._base)
        frame.pts, frame.time_base = ticks + lead, self._base
        self._container.mux(self._stream.encode(frame))
        self._sound.mux(ticks * self._base)
        self.count += 1

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._sound.mux(None)
        self._container.close()
        self._sound.close()

    def release(self) -> None:
        """Let FFmpeg go while all it points to is there."""
        with suppress(av.FFmpegError, ValueError, OSError):
            self._container.close()
        if self._sound is not None:
            self._sound.close()


class _Painter:
    """Turn planes of a format into frames an encoder takes.

    Args:
        pixels: FFmpeg's name of those it takes.
        tagged: whether the file will say the matrix; RGB becomes YCbCr by what is assumed otherwise if it does not.

    Attributes:
        matrix, range: FFmpeg's code points of these frames.
    """

    def __init__(self, format: VideoFormat, pixels: str, *, tagged: bool) -> None:
        self._format, self._pixels = format, pixels
        self._swscale = VideoReformatter()
        self._coded = pixels.startswith("yuv")
        untagged = format.rgb and not tagged
        self.matrix = _RGB if not self._coded else UNSPECIFIED if untagged else matrix_for(format)
        self.range = FULL if format.full or not self._coded else LIMITED

    def frame(self, planes: tuple[np.ndarray, ...]) -> av.VideoFrame:
        """Return a frame of the wanted pixels."""
        frame = frame_of(self.planes(planes), self._pixels if self._coded else self._format.pixels)
        frame.color_range, frame.colorspace = self.range, self.matrix
        return reformatted(self._swscale, frame, self._pixels)

    def planes(self, planes: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Return the planes of a frame as the wanted pixels have them; those of RGB stay."""
        if self._pixels == self._format.pixels or not self._coded:
            return planes
        return self._converted(planes[0]) if self._format.rgb else enlarged_planes(planes, self._format.depth)

    def _converted(self, rgb: np.ndarray) -> tuple[np.ndarray, ...]:
        depth = 10 if self._pixels.endswith("10le") else 8
        if "444" in self._pixels:
            return ycc_planes(rgb, depth, self.matrix, self._format.full)
        target = replace(self._format, pixels=self._pixels, matrix=self.matrix)
        return tuple(plane[0] for plane in from_rgb(rgb[None], target))
