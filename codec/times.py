"""Presentation times of the frames of a group, as the body of a chunk: nothing where they follow one another.

    form 1 | gap varint | gap varint | ...          form 0: as it stands, 1: what follows is a zlib stream

A gap is how many ticks a frame comes later than one tick after the frame before it (of a clip's first frame: than 0).
The first of a group has its sign in the lowest bit, as clips may begin before zero. Zeros at the end are left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

from codec.container import Container
from codec.errors import CorruptError
from codec.fields import get_varint, put_varint
from codec.params import unpack, video_format

_GAP = 9  # bytes, at most
_FURTHEST = 1 << 61  # ticks: sums of a group stay below what a varint holds


def pack_times(times: Sequence[int], last: int) -> bytes:
    """Return the body for the times of a group.

    Args:
        last: time of the frame before; -1 for the first group of a clip.
    """
    gaps = [time - before - 1 for before, time in zip([last, *times], times, strict=False)]
    while gaps and not gaps[-1]:
        gaps.pop()
    if not gaps:
        return b""
    gaps[0] = gaps[0] << 1 if gaps[0] >= 0 else (-gaps[0] << 1) - 1
    plain = b"".join(map(put_varint, gaps))
    packed = zlib.compress(plain, 9)
    return b"\1" + packed if len(packed) < len(plain) else b"\0" + plain


def unpack_times(body: bytes, frames: int, last: int) -> Sequence[int]:
    """Return the times of a group of some frames; see `pack_times`. Without a body they take no memory.

    Raises:
        CorruptError, TruncatedError: the body is not what a writer makes of so many.
    """
    if not body:
        return range(last + 1, last + 1 + frames)
    plain = _plain(body, frames)
    gaps, offset = [], 0
    while offset < len(plain):
        gap, offset = get_varint(plain, offset)
        gaps.append(gap)
        if len(gaps) > frames:
            raise CorruptError(f"there are more times than the {frames} frames of the group")
    if gaps:
        gaps[0] = -(gaps[0] + 1 >> 1) if gaps[0] & 1 else gaps[0] >> 1
        if gaps[0] < 0 <= last:
            raise CorruptError("presentation times do not rise")
    times = []
    for gap in (*gaps, *[0] * (frames - len(gaps))):
        last += gap + 1
        times.append(last)
    if frames and not (times[0] > -_FURTHEST and times[-1] < _FURTHEST):
        raise CorruptError("a presentation time is out of range")
    return tuple(times)


def frames_of(clip: Container) -> int:
    """Return how many frames a clip has: if its end is missing, those that its units hold.

    Raises:
        CorruptError: units and length do not fit, or it is no video.
    """
    params = unpack(clip.params)
    if "group" not in params:
        raise CorruptError("a clip does not hold video")
    length = len(clip.units) * params["group"] if clip.length is None else clip.length
    if -(-length // params["group"]) != len(clip.units):
        raise CorruptError(f"there are {len(clip.units)} units, which do not make {length} frames")
    return length


def times_of(clip: Container) -> Iterator[Sequence[int]]:
    """Yield the times of the frames of each unit of a clip, in ticks."""
    group, length, last = unpack(clip.params)["group"], frames_of(clip), -1
    for index, unit in enumerate(clip.units):
        times = unpack_times(unit.times, min(group, length - index * group), last)
        last = times[-1]
        yield times


def seconds_of(clip: Container) -> float:
    """Return the time from the first frame of a clip to the end of its last, which lasts as long as its rate says."""
    form = video_format(unpack(clip.params))
    first = last = None
    for times in times_of(clip):
        first, last = times[0] if first is None else first, times[-1]
    return 0.0 if last is None else float((last - first) * form.time_base + 1 / form.rate)


def _plain(body: bytes, frames: int) -> bytes:
    if body[0] == 0:
        return body[1:]
    if body[0] != 1:
        raise CorruptError(f"times of form {body[0]} are not known")
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(body[1:], _GAP * frames + 1)
    except zlib.error as exc:
        raise CorruptError("times cannot be inflated") from exc
    if inflater.unconsumed_tail or not inflater.eof:
        raise CorruptError("times are incomplete or more than the frames of the group")
    return plain
