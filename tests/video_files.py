"""Clips made by formula, and video files as PyAV writes them by itself."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np

from codec.media import video as media
from codec.media.video import Frames, Video, VideoFormat
from codec.media.video_frames import frame_of

RATE = Fraction(30000, 1001)


def clip_of(
    width: int = 48,
    height: int = 40,
    frames: int = 7,
    pixels: str = "yuv420p",
    *,
    times: Sequence[int] | None = None,
    metadata: dict[str, str] | None = None,
    **rest: Any,
) -> Video:
    """A smooth pattern that drifts, each plane and channel another."""
    form = VideoFormat(width, height, rest.pop("rate", RATE), pixels, **rest)
    top, planes = (1 << form.depth) - 1, []
    for index, (rows, columns, *channels) in enumerate(form.plane_shapes):
        y, x = np.mgrid[:rows, :columns]
        waves = np.stack([0.5 + 0.3 * np.sin(x / 9 + y / 13 + t / 5 + index) for t in range(frames)])
        wide = np.stack([waves, waves[:, ::-1], np.roll(waves, 5, 2)], -1) if channels else waves
        planes.append(np.rint(wide * top).astype(np.uint8 if form.depth == 8 else np.uint16))
    return Video(form, Frames(tuple(planes), tuple(times or range(frames))), metadata or {})


def written(video: Video, container: str, encoder: str | None = None) -> bytes:
    file = io.BytesIO()
    media.write(video, file, container, encoder=encoder)
    return file.getvalue()


def encoded(
    muxer: str,
    codec: str,
    pictures: Sequence[tuple[np.ndarray, ...]],
    pixels: str,
    *,
    times: Sequence[int] | None = None,
    base: Fraction = Fraction(1, 25),
    given: str | None = None,
    options: dict[str, str] | None = None,
    settings: dict[str, Any] | None = None,
    matrix: list[int] | None = None,
) -> bytes:
    """A file as PyAV writes it: planes of frames, in FFmpeg's pixels `given`, coded as `pixels`."""
    file = io.BytesIO()
    height, width = pictures[0][0].shape[:2]
    with av.open(file, "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.time_base = base
        for name, value in (settings or {}).items():
            setattr(stream.codec_context, name, value)
        if matrix:
            stream.set_display_matrix(matrix)
        for index, planes in enumerate(pictures):
            frame = frame_of(planes, given or pixels)
            frame.color_range = (settings or {}).get("color_range", 1)
            frame.pts, frame.time_base = (times or range(len(pictures)))[index], base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def pictures_of(video: Video) -> list[tuple[np.ndarray, ...]]:
    return [tuple(plane[index] for plane in video.frames.planes) for index in range(video.length)]


def tone(muxer: str, codec: str = "aac", seconds: float = 1.0, video: Video | None = None, rate: int = 44100) -> bytes:
    """A file with a tone, and with pictures beside it if some are given."""
    file = io.BytesIO()
    with av.open(file, "w", format=muxer) as container:
        pictures = None
        if video:
            pictures = container.add_stream("libx264", rate=video.format.rate)
            pictures.width, pictures.height, pictures.pix_fmt = video.width, video.height, "yuv420p"
        sound = container.add_stream(codec, rate=rate, layout="stereo")
        size = sound.codec_context.frame_size or 1024
        for index, planes in enumerate(pictures_of(video) if video else []):
            frame = frame_of(planes, "yuv420p")
            frame.pts, frame.time_base = index, 1 / video.format.rate
            container.mux(pictures.encode(frame))
        wave = 0.3 * np.sin(np.arange(int(seconds * rate)) * 0.06) + 0.1 * np.sin(np.arange(int(seconds * rate)) * 0.31)
        for start in range(0, len(wave) - size, size):
            block = np.stack([wave[start : start + size]] * 2).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block.T).reshape(1, -1), "flt", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            container.mux(sound.encode(frame))
        for stream in (pictures, sound):
            if stream:
                container.mux(stream.encode(None))
    return file.getvalue()


def packets(data: bytes, kind: str = "audio") -> list[list[tuple[int, int, bytes]]]:
    """Time in the stream's ticks, duration and bytes of every packet of each stream of a kind."""
    with av.open(io.BytesIO(data)) as container:
        found = {stream.index: [] for stream in getattr(container.streams, kind)}
        for packet in container.demux(list(getattr(container.streams, kind))):
            if packet.size:
                found[packet.stream_index].append((packet.pts, packet.duration, bytes(packet)))
    return list(found.values())


class Piped(io.RawIOBase):
    """What a pipe is: bytes in small pieces, no way back."""

    def __init__(self, data: bytes):
        super().__init__()
        self.left = data

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        part = self.left[: min(len(buffer), 1000)]
        self.left = self.left[len(part) :]
        buffer[: len(part)] = part
        return len(part)
