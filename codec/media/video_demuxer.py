"""The video stream of a file as FFmpeg demuxes and decodes it, through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData

from codec.errors import LimitError, MediaError
from codec.limits import MAX_PIXELS
from codec.media.audio_decoder import Source
from codec.media.video_source import demuxer_of, is_cover, text_of
from codec.media.video_times import timing
from codec.media.video_whole import is_cut_off

_TECHNICAL = {
    "alpha_mode", "compatible_brands", "duration", "encoder", "handler_name", "language", "major_brand",
    "minor_version", "software", "vendor_id",
}  # fmt: skip
_NO_DATE = ("1970-01-01T00:00:00", "1904-01-01T00:00:00")  # where clocks of files begin
_STATISTICS = "_statistics_"  # in the names of tags mkvmerge adds
_SLACK = 2  # samples an edit list may leave out altogether
_ONE = 1 << 16  # 16.16 fixed point
_TURNS = {(1, 0): 0, (0, 1): 90, (-1, 0): 180, (0, -1): 270}  # (a, b) of a display matrix -> degrees clockwise


class Demuxer(AbstractContextManager):
    """One video stream of a file that seeks.

    Attributes:
        count: frames, by a pass over the packets.
        timing: of the frames.
        sound: number of audio tracks.
        start: when the first frame is shown by the file's clock, seconds.
        aspect: width over height of a pixel.

    Raises:
        MediaError: FFmpeg cannot read it, it holds no video, or it is damaged (also from `decoded`).
    """

    def __init__(self, file: Source) -> None:
        self._file, self._container = file, None
        try:
            self._reopen()
            with file.wrapped():
                self._scan()
            self._reopen()  # seeking back is not exact in every container
        except BaseException:
            self.close()
            raise

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        if self._container is not None:
            self._container.close()

    def decoded(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield frames in the order they are shown, each with its time in ticks of `timing`."""
        size, last, index = None, -1, 0
        with self._file.wrapped():
            for frame in self._frames():
                size = size or (frame.width, frame.height, frame.format.name)
                if (frame.width, frame.height, frame.format.name) != size:
                    was, now = _described(size), _described((frame.width, frame.height, frame.format.name))
                    raise MediaError(f"{self._file.name}: changes from {was} to {now}; split it there")
                ticks = self._ticks(frame, index)
                if ticks <= last:
                    raise MediaError(f"{self._file.name}: frames {index - 1} and {index} have one time; convert it")
                yield ticks, frame
                last, index = ticks, index + 1

    def rotation(self, frame: av.VideoFrame) -> int:
        """Return how many degrees clockwise show a frame upright.

        Raises:
            MediaError: it is shown mirrored or at another angle.
        """
        side = frame.side_data.get(SideData.DISPLAYMATRIX)
        if side is None:
            return 0
        a, b, _, c, d = np.frombuffer(side, np.int32)[:5].tolist()
        turn = _TURNS.get((round(a / _ONE), round(b / _ONE)))
        if turn is None or (round(c / _ONE), round(d / _ONE)) != (-round(b / _ONE), round(a / _ONE)):
            what = "is shown mirrored or slanted, which is not carried"
            raise MediaError(f"{self._file.name}: {what}; turn it first (ffmpeg does when it converts)")
        return turn

    def tags(self) -> dict[str, str]:
        """Return the tags of file and stream, in lower case, without those that describe the file itself."""
        found: dict[str, str] = {}
        for key, value in [*self._container.metadata.items(), *self._stream.metadata.items()]:
            key, value = text_of(key).lower(), text_of(value)
            technical = key.split("-")[0] in _TECHNICAL or key.startswith(_STATISTICS) or value.startswith(_NO_DATE)
            if not technical:
                found.setdefault(key, value)
        return found

    def _reopen(self) -> None:
        self.close()
        self._container = demuxer_of(self._file)
        self._stream = self._choose()

    def _choose(self) -> av.VideoStream:
        streams, name = self._container.streams, self._file.name
        moving = [s for s in streams.video if not is_cover(s)]
        best = streams.best("video")
        stream = best if best in moving else next(iter(moving), None)
        if stream is None:
            what = "holds only a cover picture, no video" if streams.video else "holds no video"
            raise MediaError(f"{name}: {what}")
        if stream.codec_context is None:
            raise MediaError(f"{name}: FFmpeg has no decoder for its video; convert it first")
        if stream.metadata.get("alpha_mode") == "1":
            raise MediaError(f"{name}: has transparency (alpha_mode), which is not carried; flatten it first")
        context = stream.codec_context
        if context.width * context.height > MAX_PIXELS:
            raise LimitError(f"{name}: frames of {context.width}x{context.height} are more than {MAX_PIXELS} pixels")
        stream.thread_type = "AUTO"
        context.options = {"max_pixels": str(MAX_PIXELS)}
        return stream

    def _scan(self) -> None:
        """Look at all packets: how many frames there are, and when."""
        shown, coded, skipped, cut, end = [], [], 0, False, 0
        for packet in self._container.demux(self._stream):
            if packet.size and not packet.is_discard:
                shown.append(packet.pts)
                coded.append(packet.dts)
                cut = packet.is_corrupt
            skipped += packet.is_discard
            end = (packet.pos or 0) + packet.size if packet.size else end
        listed = self._stream.frames  # in MP4: of its sample table
        cut = cut or (self._is("mov") and len(shown) + skipped < listed - _SLACK)
        if cut or is_cut_off(self._file, self._container.format.name, end):
            raise MediaError(f"{self._file.name}: ends after {len(shown)} frames, too early; it is damaged or cut off")
        if not shown:
            raise MediaError(f"{self._file.name}: holds no frames")
        self._measure(shown, coded)
        self.sound = len(self._container.streams.audio)
        self.aspect = Fraction(self._stream.sample_aspect_ratio or 1)

    def _measure(self, shown: list[int | None], coded: list[int | None]) -> None:
        """Find when frames are shown from the times of their packets."""
        stream, self.start = self._stream, Fraction(0)
        # AVI has no presentation times, FFmpeg makes some up. Sorted times of decoding are as good.
        by_order = None in shown or self._is("avi")
        times = coded if by_order else shown
        rates = [stream.base_rate, stream.guessed_rate, stream.average_rate]
        if None in times:
            rate = next((rate for rate in rates if rate), Fraction(25))
            rising, tick, rates = np.arange(len(times)), 1 / Fraction(rate), [rate]
        else:
            rising, tick = np.unique(np.asarray(times, np.int64)), Fraction(stream.time_base)
            self.start = int(rising[0]) * tick
        self.timing, self.count = timing(rising, tick, rates), len(rising)
        self._times = rising if by_order else None  # of frames in order; None: frames know theirs

    def _is(self, kind: str) -> bool:
        return kind in self._container.format.name.split(",")

    def _frames(self) -> Iterator[av.VideoFrame]:
        position: Fraction | None = None
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except av.FFmpegError as exc:
                after = f" after {float(position):.2f} s" if position is not None else ""
                raise MediaError(f"{self._file.name}: damaged{after} ({exc.strerror}); repair it first") from exc
            for frame in frames:
                if frame.is_corrupt:
                    at = f" at {float(frame.pts * frame.time_base):.2f} s" if frame.pts is not None else ""
                    raise MediaError(f"{self._file.name}: damaged{at}; repair it first")
                if frame.pts is not None:
                    position = frame.pts * Fraction(frame.time_base)
                yield frame

    def _ticks(self, frame: av.VideoFrame, index: int) -> int:
        time = frame.pts
        if self._times is not None:
            time = int(self._times[index]) if index < len(self._times) else None
        if time is None:
            raise MediaError(f"{self._file.name}: frame {index} has no time; convert it first (ffmpeg -i)")
        return self.timing.ticks(time)


def _described(size: tuple[int, int, str]) -> str:
    return f"{size[0]}x{size[1]} {size[2]}"
