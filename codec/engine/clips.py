"""Clips that an encoder goes through, once or, when it searches for a rate, several times."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from codec.distortion import squared_error
from codec.errors import LimitError
from codec.media.video import Frames, Video, VideoFormat
from codec.media.video_pixels import to_rgb

if TYPE_CHECKING:
    from codec.media.video_raw import RawFormat


class Clip(Protocol):
    """What an encoder asks of a source of frames; `codec.media.video_reader.Reader` is one.

    Attributes:
        frames: how many there are, if known.
        metadata: tags.
    """

    format: VideoFormat
    frames: int | None
    metadata: Mapping[str, str]

    def groups(self, size: int) -> Iterator[Frames]:
        """Yield the frames in groups of `size`; the last may have fewer."""


class InMemory:
    """A `Video` as a `Clip`."""

    def __init__(self, video: Video) -> None:
        self.format, self.frames, self.metadata = video.format, video.length, video.metadata
        self._frames = video.frames

    def groups(self, size: int) -> Iterator[Frames]:
        """See `Clip.groups`."""
        for start in range(0, self.frames, size):
            yield self._frames[start : start + size]


def check_size(format: VideoFormat, max_pixels: int) -> None:
    """Refuse frames that are larger than the limit.

    Raises:
        LimitError: they are.
    """
    if format.width * format.height > max_pixels:
        size = f"{format.width}x{format.height}"
        raise LimitError(f"frames of {size} pixels exceed the limit of {max_pixels}; raise --max-pixels")


def psnr(decoded: Iterable[Frames], clip: Clip) -> float:
    """Return the PSNR in dB of RGB over all samples of decoded groups, of equal sizes but the last, and the original.

    Raises:
        ValueError: they do not have as many frames.
    """
    groups = iter(decoded)
    first = next(groups)
    error = samples = peak = 0
    for group, original in zip(chain([first], groups), clip.groups(len(first)), strict=True):
        for i in range(len(original)):  # one frame at a time: RGB takes much more than what it comes from
            a, b = (to_rgb(tuple(p[i : i + 1] for p in part.planes), clip.format) for part in (group, original))
            error, samples, peak = error + squared_error(a, b), samples + b.size, np.iinfo(b.dtype).max
    return math.inf if error == 0 else 10 * math.log10(float(peak) ** 2 * samples / error)


def joined(groups: Sequence[Frames]) -> Frames:
    """Return groups that follow one another as one."""
    planes = tuple(np.concatenate(parts) for parts in zip(*(group.planes for group in groups), strict=True))
    return Frames(planes, tuple(time for group in groups for time in group.times))


@contextmanager
def opened(source: Any, raw: RawFormat | None = None) -> Iterator[Clip]:
    """Open a path, bytes or `Video` from its beginning.

    Args:
        raw: the form of frames without a header.

    Raises:
        MediaError: it is not a video that can be read.
    """
    from codec.media.video_reader import Reader

    if isinstance(source, Video):
        yield InMemory(source)
        return
    data = io.BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source
    with Reader(data, raw=raw) as reader:
        yield reader
