"""Video as planes of one frame after another: without a header, and with the small one of y4m (YUV4MPEG2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from codec.errors import MediaError
from codec.media.video import PIXELS, VideoFormat

_Y4M = {"yuv420p": "420jpeg XYSCSS=420JPEG", "yuv420p10le": "420p10 XYSCSS=420P10",
        "yuv444p": "444 XYSCSS=444", "yuv444p10le": "444p10 XYSCSS=444P10"}  # as FFmpeg writes them  # fmt: skip
Y4M_FRAME = b"FRAME\n"


@dataclass(frozen=True)
class RawFormat:
    """What a file without a header does not say.

    Attributes:
        width, height: pixels.
        pixels: one of `codec.media.video.PIXELS`; above 8 bits in 16-bit words, little-endian.
        rate: frames a second.
    """

    width: int
    height: int
    pixels: str = "yuv420p"
    rate: Fraction = Fraction(25)

    @property
    def format(self) -> VideoFormat:
        """The format of its frames."""
        return VideoFormat(self.width, self.height, Fraction(self.rate), self.pixels)


def frame_bytes(format: VideoFormat) -> int:
    """Return how many bytes a frame of this format takes."""
    return sum(int(np.prod(shape)) for shape in format.plane_shapes) * (1 if PIXELS[format.pixels] == 8 else 2)


def raw_frames(file: BinaryIO, format: VideoFormat, name: str) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the planes of each frame as they arrive; the file may be a pipe.

    Raises:
        MediaError: it ends inside a frame, or 10-bit samples have more.
    """
    size, dtype = frame_bytes(format), np.dtype("<u2" if format.depth > 8 else "u1")
    while data := _read(file, size):
        if len(data) < size:
            raise MediaError(f"{name}: ends inside a frame of {size} bytes; check width, height and pixels")
        samples, planes = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="), copy=False), []
        if format.depth < 16 and samples.max() >= 1 << format.depth:
            raise MediaError(f"{name}: samples have more than {format.depth} bits; check the pixels")
        for shape in format.plane_shapes:
            count = int(np.prod(shape))
            planes.append(samples[:count].reshape(shape))
            samples = samples[count:]
        yield tuple(planes)


def y4m_header(format: VideoFormat, pixels: str) -> bytes:
    """Return the header of a y4m file whose frames have these pixels (FFmpeg's name)."""
    rate, aspect = Fraction(format.rate), Fraction(format.aspect)
    parts = (
        f"YUV4MPEG2 W{format.width} H{format.height} F{rate.numerator}:{rate.denominator} Ip",
        f"A{aspect.numerator}:{aspect.denominator} C{_Y4M[pixels]}",
        f"XCOLORRANGE={'FULL' if format.full else 'LIMITED'}",
    )
    return " ".join(parts).encode() + b"\n"


def raw_bytes(planes: tuple[np.ndarray, ...]) -> bytes:
    """Return the planes of one frame as a file without a header holds them."""
    return b"".join(np.ascontiguousarray(plane, plane.dtype.newbyteorder("<")).tobytes() for plane in planes)


def _read(file: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, or those that are left; pipes give less at a time."""
    parts, missing = [], size
    while missing:
        part = file.read(min(missing, 1 << 24))  # never more memory than there are bytes, whatever the size claimed
        if not part:
            break
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
