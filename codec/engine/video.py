"""Video to .lcb bytes, group by group: joins systems, coder, container and pixels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from codec import checkpoint
from codec.container import NEXT, ChunkWriter, Container, Unit, pieces_of
from codec.engine import clips, soundtracks, units
from codec.engine.clips import Clip
from codec.engine.journal import Journal
from codec.engine.video_decoder import Chain, check_limits, derived, read_unit
from codec.errors import MediaError
from codec.limits import MAX_MEMORY, MAX_PIXELS
from codec.media.video import Frames, VideoFormat
from codec.media.video_pixels import to_rgb
from codec.params import pack, quality_index, video_format
from codec.rate import bits_per_pixel
from codec.system import Params, Progress, Symbols, UnitSpec, no_progress
from codec.times import pack_times
from codec.video_system import Tell, VideoSystem, tell_nobody

if TYPE_CHECKING:
    from codec.media.video_raw import RawFormat


class Encoder:
    """Makes a .lcb file of video, or a further clip of one, while the frames come in.

    It lags behind by one group, of which only the bytes are held.

    Args:
        format: of the frames.
        quality: 0..100.
        effort: 1..10.
        group: frames a unit; by default as the system likes it.
        frames: how many there will be, if known.
        tags: `title`, ...
        archive: the file that the clip is added to.
        journal: where a long fit is kept.
        progress: called with the fraction done.
        tell: called with a few words on how it goes.
    """

    def __init__(
        self,
        model: checkpoint.ModelInfo,
        system: VideoSystem,
        format: VideoFormat,
        *,
        quality: float,
        effort: int = 1,
        group: int | None = None,
        frames: int | None = None,
        tags: Mapping[str, str] | None = None,
        archive: Archive | None = None,
        journal: Journal | None = None,
        progress: Progress = no_progress,
        tell: Tell = tell_nobody,
    ) -> None:
        if not 1 <= effort <= 10:
            raise ValueError(f"effort {effort} is outside 1..10")
        self._system, self._format, self._effort = system, format, effort
        self._expected, self._tags, self._journal = frames, tags, journal
        self._progress, self._tell = progress, tell
        header = system.header(format, quality=quality_index(quality), effort=effort, frames=frames, group=group)
        if archive and system.chained:
            header |= {"numbers": archive.last["numbers"]}  # or what was learned of the clips before would not fit
        packed = pack(header)
        if journal:
            journal.bind(packed)
        self._start: list[bytes] = []
        self._state: Any = None
        if archive:
            self._writer, self._state = archive.writer, archive.state
            self._start.append(self._writer.chunk(NEXT, packed))
        else:
            self._writer = ChunkWriter(model.system, model.version, model.short_digest, packed)
            self._start.append(self._writer.start)
        self.params: Params = header | {"follows": archive is not None and system.chained}
        self._groups = self._length = self._size = 0
        self._time = -1  # of the frame before
        self._held: Unit | None = None

    def start(self, sound: Sequence[BinaryIO] = ()) -> Iterator[bytes]:
        """Yield what comes before the first group: to be called once, before frames are pushed.

        Args:
            sound: files that hold the tracks beside the frames, at their beginnings.
        """
        yield from self._start
        if self._tags:
            yield self._writer.metadata("tags", json.dumps(dict(self._tags), sort_keys=True).encode())
        for number, file in enumerate(sound):
            yield from self._writer.sound(number, pieces_of(file))

    def push(self, frames: Frames) -> bytes:
        """Take the frames of a group, `params["group"]` of them or, the last time, fewer; return the bytes ready.

        Raises:
            ValueError: there are more, or there were fewer before.
        """
        group = self.params["group"]
        if not 0 < len(frames) <= group or self._length % group:
            raise ValueError(f"a group of {len(frames)} frames after {self._length}; give {group} at a time")
        params = self._system.unit_params(self.params, self._length, self._length + len(frames))
        symbols, unit = self._code(frames, params)
        self._state = self._system.follow(symbols, params, self._state)
        self._groups, self._length, self._time = self._groups + 1, self._length + len(frames), frames.times[-1]
        self._size += len(unit.payload)
        self._report(1.0, 0)
        if not self._system.fits:
            rate = bits_per_pixel(self._size, self._format.width, self._format.height, self._length)
            self._tell(f"{rate:.3f} bpp")
        ready, self._held = self._held, unit
        return self._writer.unit(ready) if ready else b""

    def finish(self) -> bytes:
        """Return the bytes that are left.

        Raises:
            MediaError: there was no frame.
        """
        if self._held is None:
            raise MediaError("a video without frames")
        return self._writer.end(self._length, self._held)

    def _code(self, frames: Frames, params: Params) -> tuple[Symbols, Unit]:
        """Return the symbols of a group and what they become, from what has been kept if they are there."""
        times = pack_times(frames.times, self._time)
        kept = self._journal.finished(self._groups) if self._journal else None
        if kept:
            if kept.times != times:
                raise MediaError(f"the times of group {self._groups} are others than before; start again with -f")
            return read_unit(self._system, params, kept), kept
        symbols = self._system.analyze_group(
            to_rgb(frames.planes, self._format), params, self._state, effort=self._effort,
            progress=lambda fraction: self._report(fraction, len(frames)), tell=self._tell_group,
            store=self._journal.store(self._groups) if self._journal else None,
        )  # fmt: skip
        whole = {name: part[None].double() for name, part in symbols.items()}
        unit = replace(units.encode_unit(self._system, UnitSpec(params, {}), whole), times=times)
        if self._journal:
            self._journal.finish(self._groups, unit)
        return symbols, unit

    def _tell_group(self, text: str) -> None:
        if self._expected and self._expected > self.params["group"]:
            text = f"group {self._groups + 1} of {-(-self._expected // self.params['group'])}: {text}"
        self._tell(text)

    def _report(self, fraction: float, frames: int) -> None:
        if self._expected:
            self._progress(min((self._length + fraction * frames) / self._expected, 1.0))
        else:
            self._progress(0.0)  # it may raise to interrupt


class Archive:
    """A .lcb file of video that a clip is added to.

    Args:
        container: the file, parsed.
        data: its bytes.

    Attributes:
        writer: writes on at its end.
        state: what the first group of the clip needs to know of those before.
        last: parameters of its last clip.

    Raises:
        FormatError: it is damaged.
        LimitError: it claims more than the limits allow.
    """

    def __init__(
        self,
        container: Container,
        data: bytes,
        system: VideoSystem,
        *,
        max_pixels: int = MAX_PIXELS,
        max_memory: int = MAX_MEMORY,
    ) -> None:
        earlier = derived(container, system)
        for params in earlier:
            check_limits(params, system, max_pixels=max_pixels, max_memory=max_memory)
        self.last = earlier[-1]
        self.state = Chain(system, container, earlier).run_to(len(earlier)) if system.chained else None
        self.writer = ChunkWriter.after(data, container.chunks)

    def check(self, format: VideoFormat) -> None:
        """Refuse a clip that does not fit.

        Raises:
            MediaError: its frames are of another form.
        """
        own = video_format(self.last)
        if (own.width, own.height, own.pixels) != (format.width, format.height, format.pixels):
            raise MediaError(
                f"the archive holds {own.width}x{own.height} {own.pixels}, the clip is {format.width}x{format.height} "
                f"{format.pixels}; convert it first"
            )


def encode(
    clip: Clip,
    model: checkpoint.ModelInfo,
    system: VideoSystem,
    *,
    quality: float,
    effort: int = 1,
    group: int | None = None,
    strip: bool = False,
    sound: Sequence[BinaryIO] = (),
    archive: Archive | None = None,
    journal: Journal | None = None,
    progress: Progress = no_progress,
    tell: Tell = tell_nobody,
) -> Iterator[bytes]:
    """Yield a .lcb file of a clip, or what adds it to an archive, with its tags, unless `strip`. See `Encoder`."""
    if archive:
        archive.check(clip.format)
    encoder = Encoder(
        model, system, clip.format, quality=quality, effort=effort, group=group, frames=clip.frames,
        tags={} if strip else clip.metadata, archive=archive, journal=journal, progress=progress, tell=tell,
    )  # fmt: skip
    yield from encoder.start(sound)
    for frames in clip.groups(encoder.params["group"]):
        yield encoder.push(frames)
    yield encoder.finish()


def encode_source(
    source: Any,
    model: checkpoint.ModelInfo,
    system: VideoSystem,
    *,
    quality: float,
    effort: int = 1,
    group: int | None = None,
    strip: bool = False,
    sound: str = "copy",
    raw: RawFormat | None = None,
    archive: Archive | None = None,
    journal: Journal | None = None,
    device: str = "auto",
    max_pixels: int = MAX_PIXELS,
    progress: Progress = no_progress,
    tell: Tell = tell_nobody,
) -> Iterator[bytes]:
    """Yield a .lcb file of a path, bytes or `Video`, or what adds it to an archive, with the sound beside it.

    Args:
        sound: see `codec.engine.soundtracks.tracks_of`.
        raw: the form of frames without a header.

    Raises:
        MediaError: it cannot be read.
        LimitError: frames have more than `max_pixels` pixels.
    """
    with clips.opened(source, raw) as clip:
        clips.check_size(clip.format, max_pixels)
        way = sound if getattr(clip, "sound", 0) else "none"
        start = getattr(clip, "start", None)
        with soundtracks.tracks_of(source, way, start=start, quality=quality, device=device) as files:
            yield from encode(
                clip, model, system, quality=quality, effort=effort, group=group, strip=strip, sound=files,
                archive=archive, journal=journal, progress=progress, tell=tell,
            )  # fmt: skip
