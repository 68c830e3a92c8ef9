"""Audio tracks copied bit for bit: out of a video into a Matroska audio file (.mka), and from there into a video.

The bytes of packets never change. Matroska counts milliseconds and knows no time before 0, so each track also has tags
that say exactly when it begins by the clock of the first picture, and how far its packets are apart; that counts
wherever it agrees with the rounded times.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any, BinaryIO

import av

from codec.errors import MediaError
from codec.media.audio_decoder import Source
from codec.media.sink import Sink
from codec.media.video_source import demuxer_of, is_cover, opened_source, text_of

BITEXACT = 0x400  # AVFMT_FLAG_BITEXACT: no random numbers and no version of FFmpeg in the file
_BEGIN = "begin"  # tag of a track: seconds after the first picture, as a fraction
_STEP = "step"  # tag of a track: seconds from one packet to the next, where that is constant
_RUN_UP = Fraction(1, 5)  # seconds before the first picture that are an encoder's delay, which players skip, not sound
_KEPT = ("language", "title")  # tags of a track
_LONGEST = 10**7  # seconds a time may say


def copy_sound(source: Any, file: BinaryIO, *, start: Fraction | None = None) -> list[str]:
    """Copy the packets of all audio tracks of a video into a Matroska audio file.

    Args:
        source: path, bytes, or binary file.
        file: binary file that seeks, written to from its current position on. Without sound it gets nothing.
        start: when the first picture is shown by the source's clock, seconds (`Reader.start`); None: found by a pass
            over the source.

    Returns:
        FFmpeg's names of the tracks' codecs.

    Raises:
        MediaError: it cannot be read, or Matroska cannot hold a track.
    """
    with ExitStack() as opened:
        read = opened_source(source, opened)
        clocks, first = _clocks(read)
        if not clocks:
            return []
        start = first if start is None else start
        sink = Sink(file)
        with read.wrapped(), demuxer_of(read) as container, av.open(sink, "w", format="matroska") as output:
            output.flags |= BITEXACT
            tracks = {}
            for stream in container.streams.audio:
                if clock := clocks.get(stream.index):
                    tracks[stream.index] = added = _added(output, stream, "mka", read.name)
                    added.metadata[_BEGIN] = str(clock.begin - start)
                    if clock.step:
                        added.metadata[_STEP] = str(clock.step)
            early = max([Fraction(0), *(start - clock.begin for clock in clocks.values())])
            shift = Fraction(ceil(early * 1000), 1000) - start
            for packet in container.demux([container.streams[index] for index in tracks]):
                if packet.size:
                    packet.pts = packet.dts = _time(packet, read.name) + round(shift / packet.time_base)
                    packet.stream = tracks[packet.stream_index]
                    output.mux(packet)
            return [container.streams[index].codec_context.codec.canonical_name for index in tracks]


class SoundTracks:
    """Audio tracks made by `copy_sound`, on their way into a video.

    Attributes:
        lead: seconds by which pictures must be shown later because there is sound before them.

    Raises:
        MediaError: a file cannot be read, or the container cannot hold a track.
    """

    def __init__(self, files: list[Any], output: av.container.OutputContainer, kind: str) -> None:
        self._opened, self.lead = ExitStack(), Fraction(0)
        self._output, self._waiting = output, []
        try:
            for file in files:
                self._add(opened_source(file, self._opened), kind)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close what was opened here."""
        self._opened.close()

    def mux(self, until: Fraction | None) -> None:
        """Write the packets that begin before a time of the pictures' clock, seconds; None: all that are left."""
        for track in self._waiting:
            while track.head is not None and (until is None or track.time < until):
                packet = track.head
                packet.pts = packet.dts = round((track.time + self.lead) / track.unit)
                packet.duration = track.duration
                packet.time_base, packet.stream = track.unit, track.target
                track.advance()
                self._output.mux(packet)

    def _add(self, file: Source, kind: str) -> None:
        with file.wrapped():
            count = len(self._opened.enter_context(demuxer_of(file)).streams.audio)
        for index in range(count):  # each from a container of its own: tracks are read at their own pace
            again = Source(_Window(file), file.name)
            container = self._opened.enter_context(demuxer_of(again))
            stream = container.streams.audio[index]
            target = _added(self._output, stream, kind, file.name)
            track = _Track(again, container, stream, target)
            self._waiting.append(track)
            if track.begin < -_RUN_UP:
                self.lead = max(self.lead, -track.begin)


class _Window:
    """One of several readers of a file, with a position of its own."""

    def __init__(self, file: Source) -> None:
        self._file, self._position = file, 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 1:
            offset, whence = offset + self._position, 0
        self._position = self._file.seek(offset, whence)
        return self._position

    def read(self, size: int) -> bytes:
        self._file.seek(self._position)
        data = self._file.read(size)
        self._position += len(data)
        return data


class _Track:
    """The packets of one track, with their exact times.

    Attributes:
        head: the next packet; None at the end.
        time: when it begins by the pictures' clock, seconds.
        begin: when the first one did.
        unit: seconds a tick of the times it is to have.
        target: stream of the output.
    """

    def __init__(
        self, file: Source, container: av.container.InputContainer, stream: av.AudioStream, target: av.AudioStream
    ) -> None:
        self._file, self._packets = file, (packet for packet in container.demux(stream) if packet.size)
        context, self._tick = stream.codec_context, Fraction(stream.time_base)
        rate = context.sample_rate or 1
        tags = {key.lower(): value for key, value in stream.metadata.items()}
        self._step = _seconds(tags.get(_STEP, "0")) or Fraction(context.frame_size, rate)
        self.unit, self.target = Fraction(1, rate), target
        self.head, self.time, self._ahead = None, Fraction(0), Fraction(0)
        self.advance()
        measured = self.head.pts * self._tick if self.head else Fraction(0)
        self.begin = _seconds(tags[_BEGIN]) if _BEGIN in tags else measured
        self.time, self._ahead = self.begin, measured - self.begin

    @property
    def duration(self) -> int:
        """Units the next packet lasts: as long as all, unless it is the last and clearly shorter."""
        said = self.head.duration * self._tick
        whole = self._step if self._step and not 0 < said < self._step - 2 * self._tick else said
        return round(whole / self.unit)

    def advance(self) -> None:
        """Go to the next packet."""
        with self._file.wrapped():
            self.head = next(self._packets, None)
            if self.head is None:
                return
            measured = _time(self.head, self._file.name) * self._tick - self._ahead
        wanted = self.time + self._step if self._step else measured
        self.time = wanted if abs(wanted - measured) <= 2 * self._tick else measured


@dataclass
class _Clock:
    """When a track begins, and how far its packets are apart (0: not constant): seconds."""

    begin: Fraction
    last: Fraction
    step: Fraction | None = None

    def see(self, time: Fraction) -> None:
        step = time - self.last
        self.step, self.last = (step if self.step in (None, step) else Fraction(0)), time


def _clocks(file: Source) -> tuple[dict[int, _Clock], Fraction]:
    """Return the clock of each audio track by the index of its stream, and when the first picture is shown, seconds."""
    clocks: dict[int, _Clock] = {}
    pictures: list[Fraction] = []
    with file.wrapped(), demuxer_of(file) as container:
        video = [s for s in container.streams.video if not is_cover(s)][:1]
        for packet in container.demux([*container.streams.audio, *video]):
            if not packet.size or (packet.is_discard and packet.stream in video):
                continue
            time = _time(packet, file.name) * Fraction(packet.time_base)
            if packet.stream in video:
                pictures = [min([time, *pictures])]
            elif packet.stream_index in clocks:
                clocks[packet.stream_index].see(time)
            else:
                clocks[packet.stream_index] = _Clock(time, time)
    return clocks, (pictures or [Fraction(0)])[0]


def _time(packet: av.Packet, name: str) -> int:
    """Return when a packet begins, in its ticks."""
    time = packet.pts if packet.pts is not None else packet.dts
    if time is None:
        raise MediaError(f"{name}: some packets have no times; convert it to mp4 or mkv first")
    return time


def _added(output: av.container.OutputContainer, stream: av.AudioStream, kind: str, name: str) -> av.AudioStream:
    """Add a stream for copied packets."""
    context = stream.codec_context
    if context is None:
        raise MediaError(f"{name}: has sound in a format FFmpeg cannot copy; leave it out")
    if context.codec.name not in output.supported_codecs:
        hint = "leave the sound out" if kind in ("mka", "mkv") else "write mkv"
        raise MediaError(f"{kind} cannot hold {context.codec.canonical_name} sound; {hint}")
    added = output.add_stream_from_template(stream)
    added.metadata.update({k: text_of(v) for k, v in stream.metadata.items() if k.lower() in _KEPT and v != "und"})
    return added


def _seconds(text: str) -> Fraction:
    """Return a time out of a tag."""
    try:
        time = Fraction(text[:40])
    except (ValueError, ZeroDivisionError) as exc:
        raise MediaError(f"copied sound names the time {text[:40]!r}; it was not made by copy_sound") from exc
    if abs(time) > _LONGEST:
        raise MediaError(f"copied sound begins at {text[:40]} s; it was not made by copy_sound")
    return time
