"""Video from .lcb bytes, group by group; only what the frames asked for depend on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from codec.container import Container, Unit
from codec.engine import units
from codec.errors import CorruptError, FormatError, LimitError
from codec.media.video import Frames
from codec.media.video_pixels import from_rgb
from codec.params import unpack, video_format
from codec.system import Params, Progress, Symbols, UnitSpec, no_progress
from codec.times import frames_of, times_of
from codec.video_system import VideoSystem

Damaged = Callable[[str], None]  # called with one line on what could not be decoded


def derived(container: Container, system: VideoSystem) -> list[Params]:
    """Return the parameters of every clip: its header's, `length` and `follows`.

    Of a clip whose end is missing the length is what its units hold.

    Raises:
        CorruptError: units and length do not fit, or a clip does not fit the first.
    """
    clips = []
    for number, clip in enumerate(container.clips):
        params, length = unpack(clip.params), frames_of(clip)
        if clips and any(params[name] != clips[0][name] for name in ("width", "height", "pixels")):
            raise CorruptError(f"frames of clip {number} are of another form than those of the first")
        if clips and system.chained and params["numbers"] != clips[0]["numbers"]:
            raise CorruptError(f"clip {number} cannot go on from those before: its numbers are others")
        clips.append(params | {"length": length, "follows": number > 0 and system.chained})
    return clips


def check_limits(
    params: Params, system: VideoSystem, *, max_pixels: int, max_memory: int, frames: int | None = None
) -> None:
    """Refuse video by its header, before anything is allocated for it.

    Args:
        frames: how many are held at once; None: those of a group.

    Raises:
        LimitError: it claims more than the limits allow.
    """
    size, pixels = f"{params['width']}x{params['height']}", params["width"] * params["height"]
    if pixels > max_pixels:
        raise LimitError(f"the stream claims {size} pixels a frame, over the limit of {max_pixels}; raise --max-pixels")
    group = min(params["group"], params["length"])
    sample = 3 * (1 if video_format(params).depth == 8 else 2)
    symbols = 4 * sum(map(math.prod, system.group_shapes(params, group).values())) if group else 0
    held = group if frames is None else frames
    needed = pixels * sample * (held + group + 4) + 2 * symbols  # bytes: frames, copies of a group, networks at work
    if needed > max_memory:
        advice = "raise --max-memory" + (", or decode fewer frames at once" if held > group else "")
        raise LimitError(
            f"decoding {held} frames of {size} pixels would take about {needed >> 20} MiB, over the limit of "
            f"{max_memory >> 20}; {advice}"
        )


def read_unit(system: VideoSystem, params: Params, unit: Unit) -> Symbols:
    """Entropy-decode a group, see `codec.engine.units.decode_unit`; its symbols are int32."""
    decoded = units.decode_unit(system, UnitSpec(params, {}), unit)
    return {name: part[0].int() for name, part in decoded.items()}


class Chain:
    """Entropy-decodes groups in their order and threads the state from one to the next.

    Args:
        damaged: told of groups that cannot be decoded; None: they raise.
    """

    def __init__(
        self, system: VideoSystem, container: Container, clips: list[Params], damaged: Damaged | None = None
    ) -> None:
        self._system, self._container, self._clips, self._damaged = system, container, clips, damaged
        self._broken = False
        self.state: Any = None

    def run_to(self, clip: int) -> Any:
        """Pass all groups before a clip and return the state."""
        for number in range(clip):
            for index in range(len(self._container.clips[number].units)):
                self.skip(number, index)
        return self.state

    def skip(self, clip: int, index: int) -> None:
        """Pass a group that is needed for those after it only."""
        params, symbols = self.decode(clip, index)
        self.follow(symbols, params)

    def decode(self, clip: int, index: int) -> tuple[Params, Symbols | None]:
        """Return the parameters and symbols of a group, None if they cannot be had."""
        params, unit = self._clips[clip], self._container.clips[clip].units[index]
        start = index * params["group"]
        own = self._system.unit_params(params, start, min(start + params["group"], params["length"]))
        name = f"clip {clip}, unit {index}" if len(self._clips) > 1 else f"unit {index}"
        try:
            if self._broken:
                raise CorruptError("follows a damaged unit")
            return own, read_unit(self._system, own, unit)
        except FormatError as exc:
            if self._damaged is None:
                raise
            self._damaged(f"{name}: {exc}")
            self._broken = self._system.chained
            return own, None

    def follow(self, symbols: Symbols | None, params: Params) -> None:
        """Go on to the next group."""
        if self._system.chained and symbols is not None:
            with torch.no_grad():
                self.state = self._system.follow(symbols, params, self.state)


def decode(
    container: Container,
    clips: list[Params],
    system: VideoSystem,
    *,
    clip: int = 0,
    start: int = 0,
    stop: int | None = None,
    progress: Progress = no_progress,
    damaged: Damaged | None = None,
) -> Iterator[Frames]:
    """Yield frames start ... stop - 1 of a clip, group by group; only the groups they depend on are decoded.

    Args:
        clips: what `derived` returned.
        damaged: called with a line for each group that cannot be decoded, which is replaced by the frame before, or
            gray; None: they raise.

    Raises:
        CorruptError, DesyncError: it is damaged.
        ValueError: there is no such clip, or there are no such frames.
    """
    if not 0 <= clip < len(clips):
        raise ValueError(f"clip {clip} of {len(clips)}; the first is clip 0")
    params = clips[clip]
    length, group = params["length"], params["group"]
    stop = length if stop is None else stop
    if not 0 <= start <= stop <= length:
        raise ValueError(f"frames {start} to {stop} of {length}")
    if start == stop:
        return
    chain = Chain(system, container, clips, damaged)
    if system.chained:
        chain.run_to(clip)
    last: tuple[np.ndarray, ...] | None = None
    for index, times in enumerate(times_of(container.clips[clip])):
        begin = index * group
        if begin >= stop:
            return
        low, high = max(start - begin, 0), min(stop - begin, len(times))
        if low >= len(times):
            if system.chained:
                chain.skip(clip, index)
            continue
        unit, symbols = chain.decode(clip, index)
        if symbols is None:
            planes = _still(last, params, high - low)
        else:
            planes = _planes(system, symbols, unit, chain.state, low, high)
        last = tuple(plane[-1:] for plane in planes)
        chain.follow(symbols, unit)
        progress((begin + high - start) / (stop - start))
        yield Frames(planes, tuple(times[low:high]))


def _planes(
    system: VideoSystem, symbols: Symbols, params: Params, state: Any, low: int, high: int
) -> tuple[np.ndarray, ...]:
    """Return frames low ... high - 1 of a group in the form of the source."""
    format, parts = video_format(params), []
    with torch.no_grad():
        for number, frame in enumerate(system.synthesize_group(symbols, params, state)):
            if number >= low:
                parts.append(from_rgb(frame[None], format))
            if number + 1 == high:
                break
    return tuple(np.concatenate(planes) for planes in zip(*parts, strict=True))


def _still(last: tuple[np.ndarray, ...] | None, params: Params, count: int) -> tuple[np.ndarray, ...]:
    """Return a frame, by default a gray one, as often as asked for."""
    format = video_format(params)
    if last is None:
        last = tuple(np.full((1, *shape), 1 << (format.depth - 1), format.dtype) for shape in format.plane_shapes)
    return tuple(np.repeat(plane, count, 0) for plane in last)
