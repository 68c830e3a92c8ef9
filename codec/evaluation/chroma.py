"""Frames of a video one at a time, as RGB or as 4:2:0, so that no clip is ever converted as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from codec.media.video import Video, VideoFormat
from codec.media.video_pixels import from_rgb, matrix_for, to_rgb


def subsampled(form: VideoFormat) -> VideoFormat:
    """Return the 4:2:0 format that RGB becomes, of 8 bits or of 10; 4:2:0 stays as it is."""
    if not form.rgb:
        return form
    return replace(form, pixels="yuv420p" if form.depth == 8 else "yuv420p10le", matrix=matrix_for(form), full=False)


def rgb_frames(video: Video) -> Iterator[np.ndarray]:
    """Yield frames [H, W, 3] of uint8, above 8 bits of uint16 with full scale 65535."""
    for planes in _one_by_one(video):
        yield to_rgb(planes, video.format)[0]


def subsampled_frames(video: Video, form: VideoFormat) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the three planes [H, W] of each frame: untouched, or of RGB as the 4:2:0 format `form`."""
    for planes in _one_by_one(video):
        yield tuple(plane[0] for plane in (from_rgb(planes[0], form) if video.format.rgb else planes))


def _one_by_one(video: Video) -> Iterator[tuple[np.ndarray, ...]]:
    for number in range(video.length):
        yield video.frames[number : number + 1].planes
