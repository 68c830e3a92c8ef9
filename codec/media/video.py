"""Video values: what moving pictures are made of between a file and a system.

Frames are kept in the form of their source (`PIXELS`), so that nothing is lost before a codec sees them, and are turned
into RGB when somebody wants RGB. `read` and `write` are for what fits into memory; `codec.media.video_reader` and
`codec.media.video_writer` do the same group by group.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from codec.errors import LimitError, MediaError
from codec.limits import MAX_MEMORY

if TYPE_CHECKING:
    from codec.media.video_raw import RawFormat

PIXELS = {"yuv420p": 8, "yuv420p10le": 10, "rgb24": 8, "rgb48le": 16}  # FFmpeg's name -> bits
_READ_GROUP = 16  # frames
UNSPECIFIED = 2  # of matrix, primaries and transfer (ISO/IEC 23091-2)


@dataclass(frozen=True)
class VideoFormat:
    """What all frames of a video share.

    Attributes:
        width, height: pixels.
        rate: nominal frames a second.
        pixels: one of `PIXELS`.
        time_base: seconds a tick of presentation times; 1 / rate wherever times are multiples of it.
        aspect: width over height of a pixel.
        rotation: degrees clockwise that show it upright: 0, 90, 180 or 270.
        matrix, primaries, transfer: code points of ISO/IEC 23091-2.
        full: luma and chroma span the full range of their bits.
    """

    width: int
    height: int
    rate: Fraction
    pixels: str = "yuv420p"
    time_base: Fraction = Fraction(0)
    aspect: Fraction = Fraction(1)
    rotation: int = 0
    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    full: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise MediaError(f"video of {self.width}x{self.height} pixels")
        if self.rate <= 0:
            raise MediaError(f"video of {self.rate} frames a second")
        if self.pixels not in PIXELS:
            raise MediaError(f"pixels must be one of {', '.join(PIXELS)}, not {self.pixels!r}")
        if self.rotation not in (0, 90, 180, 270):
            raise MediaError(f"the rotation must be 0, 90, 180 or 270 degrees, not {self.rotation}")
        if not self.time_base:
            object.__setattr__(self, "time_base", 1 / Fraction(self.rate))

    @property
    def depth(self) -> int:
        """Bits of a sample."""
        return PIXELS[self.pixels]

    @property
    def dtype(self) -> np.dtype:
        """Of the planes: uint8, or uint16 above 8 bits."""
        return np.dtype(np.uint8 if self.depth == 8 else np.uint16)

    @property
    def rgb(self) -> bool:
        """Whether frames are RGB already."""
        return self.pixels.startswith("rgb")

    @property
    def plane_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the planes of a frame: [H, W, 3], or [H, W] and twice [ceil(H / 2), ceil(W / 2)]."""
        if self.rgb:
            return ((self.height, self.width, 3),)
        chroma = (-(-self.height // 2), -(-self.width // 2))
        return (self.height, self.width), chroma, chroma


@dataclass(frozen=True)
class Frames:
    """Some frames one after another.

    Attributes:
        planes: [T, *shape] for each of `VideoFormat.plane_shapes`, uint8 or (above 8 bits) uint16.
        times: presentation time of each in ticks of the format's `time_base`, strictly rising.
    """

    planes: tuple[np.ndarray, ...]
    times: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, part: slice) -> Frames:
        return Frames(tuple(plane[part] for plane in self.planes), self.times[part])


@dataclass(frozen=True)
class Video:
    """A clip in memory.

    Attributes:
        format: of all frames.
        frames: T of them, at least one.
        metadata: tags (`title`, ...) under lower-case names.
    """

    format: VideoFormat
    frames: Frames
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dtype = self.format.dtype
        shapes = [(len(self.frames), *shape) for shape in self.format.plane_shapes]
        given = [plane.shape for plane in self.frames.planes]
        if not len(self.frames) or given != shapes or any(plane.dtype != dtype for plane in self.frames.planes):
            raise MediaError(f"{self.format.pixels} frames need planes {shapes} of {dtype}, not {given}")
        if any(b <= a for a, b in zip(self.frames.times, self.frames.times[1:], strict=False)):
            raise MediaError("presentation times of frames must rise")

    def __repr__(self) -> str:
        form = self.format
        return (
            f"Video({form.width}x{form.height} {form.pixels}, {len(self.frames)} frames, {float(form.rate):g} a second)"
        )

    @property
    def width(self) -> int:
        return self.format.width

    @property
    def height(self) -> int:
        return self.format.height

    @property
    def length(self) -> int:
        """Number of frames T."""
        return len(self.frames)

    @property
    def seconds(self) -> float:
        """From the first frame to the end of the last, which lasts as long as the nominal rate says."""
        times = self.frames.times
        return float((times[-1] - times[0]) * self.format.time_base + 1 / self.format.rate)


def read(source: Any, *, raw: RawFormat | None = None, max_memory: int = MAX_MEMORY) -> Video:
    """Read a video from a path, bytes or binary file; see `codec.media.video_reader.Reader`.

    Args:
        raw: what to know of a file without a header.
        max_memory: bytes that frames may take, of which there are twice as many while they are joined.

    Raises:
        MediaError: it cannot be read, or not without losing something.
        LimitError: it would take more memory; a Reader has no such limit.
    """
    from codec.media.video_raw import frame_bytes
    from codec.media.video_reader import Reader

    with Reader(source, raw=raw) as reader:
        room = max_memory // (2 * frame_bytes(reader.format))
        if (reader.frames or 1) > room:
            raise LimitError(f"{reader.name}: more than {room} frames; cut it, or allow more memory")
        groups: list[Frames] = []
        for group in reader.groups(_READ_GROUP):
            groups.append(group)
            if sum(map(len, groups)) > room:
                raise LimitError(f"{reader.name}: more than {room} frames; cut it, or allow more memory")
        planes = tuple(np.concatenate(parts) for parts in zip(*(group.planes for group in groups), strict=True))
        times = tuple(time for group in groups for time in group.times)
        return Video(reader.format, Frames(planes, times), reader.metadata)


def write(video: Video, file: BinaryIO | str | os.PathLike, container: str, *, encoder: str | None = None) -> list[str]:
    """Write a video file and return the names of what it cannot hold; see `codec.media.video_writer.Writer`.

    Raises:
        MediaError: the container cannot hold it.
    """
    from codec.media.video_writer import Writer

    with Writer(file, container, video.format, encoder=encoder, metadata=video.metadata) as writer:
        for start in range(0, video.length, _READ_GROUP):
            writer.write(video.frames[start : start + _READ_GROUP])
    return writer.lost
