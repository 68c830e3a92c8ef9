"""How good each frame of a group is to be: images, and the others by their depth in the pyramids.

What builds on a frame gains from its quality, so it is the higher the more frames build on it. The header's `numbers`
hold what an encoder has chosen: the quality index of images and, where frames lie between two others, the span of the
pyramids and the quality index of every depth. Without those all frames but images have the quality of the header.
"""

from __future__ import annotations

from typing import NamedTuple

from codec.errors import CorruptError
from codec.models.layers import pyramid
from codec.models.layers.frame_prior import Level
from codec.params import QUALITY_STEPS

SPAN = 8  # frames that are predicted from one other are so far apart
FIRST = 60  # of 1024 qualities: how far images are above frames that each follow the last
IMAGES = 160  # the same above the quality of the header where there are pyramids
LIFTS = (60, -60, -130, -200)  # and every depth of these


class Levels(NamedTuple):
    """Qualities of frames coded as images, and of the others by their depth."""

    image: Level
    depths: tuple[Level, ...]


def numbers_of(quality: int, *, between: bool) -> tuple[int, ...]:
    """Return the header's numbers for a quality index."""
    if not between:
        return (_lifted(quality, FIRST),)
    return _lifted(quality, IMAGES), SPAN, *(_lifted(quality, lift) for lift in LIFTS)


def span_of(numbers: tuple[int, ...], *, between: bool) -> int:
    """Return how far frames are apart that are predicted from one other.

    Raises:
        CorruptError: the numbers give no span, or a longer one than a stream may ask for.
    """
    if not between:
        return 1
    if len(numbers) < 2 or not 1 <= numbers[1] <= pyramid.LARGEST_SPAN:
        raise CorruptError(f"{numbers} do not describe pyramids of stem, whose span is 1..{pyramid.LARGEST_SPAN}")
    return numbers[1]


def qualities(numbers: tuple[int, ...], quality: int, *, between: bool) -> tuple[int, ...]:
    """Return the quality indices of images and of every depth.

    Raises:
        CorruptError: there are not as many as there are depths.
    """
    depths = numbers[2:] if between else (quality,)
    if len(depths) != pyramid.depths(span_of(numbers, between=between)):
        raise CorruptError(f"{numbers} do not give the quality of every depth of the pyramids of stem")
    return (*numbers, quality)[0], *depths


def _lifted(quality: int, lift: int) -> int:
    """Return a quality index so much higher, as far as there is one."""
    return min(max(quality + lift, 0), QUALITY_STEPS)
