"""Where things lie, pictures and sounds made by formula, a network that trains in no time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

import codec

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"
SMALL = "walloc-conformance"
TINY_WALLOC = """
system = "walloc"
[config]
latents = 12
width = 16
blocks = 1
groups = [3, 4, 5]
hidden = 16
lambda_range = [0.002, 0.05]
"""
TINY_RVQ = """
system = "rvq"
[config]
rate = 16000
hop = 80
unit = 25
window = 160
latents = 6
encoder = [8, 1]
decoder = [8, 1]
hidden = 8
quantizer = { kind = "residual", books = 2, entries = 16 }
"""


def picture_of(shape: tuple[int, ...], dtype=np.uint8) -> np.ndarray:
    """A smooth picture with some texture, any shape."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    waves = np.sin(rows / 7) + np.cos(cols / 11) + 0.3 * np.sin(rows * cols / 50)
    top = np.iinfo(dtype).max
    plane = ((waves / 4.6 + 0.5) * top).clip(0, top).astype(dtype)
    return plane if len(shape) == 2 else np.stack([plane] * shape[2], -1)


def sound_of(length: int, channels: int = 2, rate: int = 44_100, depth: str = "s16") -> codec.Audio:
    """Two chords with a beat, a little different in each channel."""
    t = np.arange(length) / rate
    tones = [np.sin(2 * np.pi * f * t * (1 + c / 50)) for c in range(channels) for f in (220, 277, 330)]
    samples = np.stack([sum(tones[3 * c : 3 * c + 3]) for c in range(channels)]) * (0.2 + 0.1 * np.sin(9 * t))
    return codec.Audio(np.round(samples * 32768).astype(np.float32) / 32768, rate, depth)


def video_of(
    frames: int = 10, width: int = 48, height: int = 40, pixels: str = "yuv420p", times: tuple[int, ...] = (), **form
) -> codec.Video:
    """A pattern that moves to the right by two pixels a frame."""
    from codec.media.video import Frames, Video, VideoFormat

    form = VideoFormat(width, height, form.pop("rate", Fraction(25)), pixels, **form)
    top, dtype = (1 << form.depth) - 1, np.uint8 if form.depth == 8 else np.uint16
    planes = []
    for shape in form.plane_shapes:
        wide = picture_of((shape[0], shape[1] + 2 * frames, *shape[2:])).astype(np.uint32) * top // 255
        planes.append(np.stack([wide[:, 2 * i : 2 * i + shape[1]] for i in range(frames)]).astype(dtype))
    return Video(form, Frames(tuple(planes), times or tuple(range(frames))))
