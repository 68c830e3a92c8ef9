"""Whatever FFmpeg can demux and decode, to float32 samples, through PyAV."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from itertools import chain
from typing import BinaryIO, NoReturn

import av
import numpy as np
from av.stream import Disposition

from codec.errors import MediaError
from codec.media import pcm

# What FFmpeg may take a file for. Playlists and the like are missing: they would make it open other files.
_DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,loas,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,ogg,shn,"
    "tak,tta,voc,w64,wav,wv"
)
_OPTIONS = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "none"}
_TELLS_LENGTH = ("aiff", "ape", "flac", "mov", "tta", "wv")  # headers that say how many samples follow
_SLACK = {"mov": 4096}  # samples a header may be ahead of the packets: delay that is not cut, padding that is
_STREAMED = 0x7FFF0000  # RIFF sizes from here on, and 0, are what programs put that write to a pipe
_LOSSLESS = ("alac", "ape", "flac", "pcm_", "shorten", "tak", "tta", "wavpack")
_JUNK = 2048  # bytes at either end of a lossy stream that may be skipped; frames of MP3 end at 1441
_TECHNICAL = {
    "compatible_brands", "creation_time", "duration", "encoder", "encoder_options", "handler_name", "itunnorm",
    "itunpgap", "itunsmpb", "major_brand", "minor_version", "tss", "tsse", "vendor_id",
}  # fmt: skip
_NUMPY = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "flt": np.float32, "dbl": np.float64}
_SAFE_PLANES = 7  # with 8 and more PyAV reads past the list of planes


class Source:
    """A Python file as FFmpeg reads it: from its current position on, with every exception kept in `error`."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self.error: BaseException | None = None
        self.head = b""
        self._file = file
        with self.wrapped():
            self._seekable = bool(file.seekable()) if hasattr(file, "seekable") else hasattr(file, "seek")
            self._start = file.tell() if self._seekable else 0
            # From a pipe, read1 returns what is there and read waits for all that was asked for.
            self._read = file.read if self._seekable else getattr(file, "read1", file.read)

    def seekable(self) -> bool:
        return self._seekable

    def read(self, size: int) -> bytes:
        with self._kept():
            data = self._read(size)
            if not isinstance(data, bytes) or len(data) > size:
                raise TypeError(f"reading gave {type(data).__name__}, not up to {size} bytes; open it in binary mode")
            self.head = self.head or data[:12]
            return data

    def seek(self, offset: int, whence: int = 0) -> int:
        with self._kept():
            return self._file.seek(offset + (self._start if whence == 0 else 0), whence) - self._start

    def tell(self) -> int:
        with self._kept():
            return self._file.tell() - self._start

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Keep an exception, Ctrl-C included: FFmpeg would lose it or take it for the end of the file."""
        try:
            yield
        except BaseException as exc:
            self.error = exc
            raise OSError(f"{type(exc).__name__}: {exc}") from exc

    @contextmanager
    def wrapped(self) -> Iterator[None]:
        """Turn whatever reading and decoding raise into MediaError."""
        try:
            yield
            if self.error is not None:
                raise self.error
        except MediaError:
            raise
        except Exception as exc:  # PyAV raises almost anything on damaged files
            if self.error is not None and not isinstance(self.error, Exception):
                raise self.error from None  # Ctrl-C
            if isinstance(exc, MemoryError) and not isinstance(exc, av.FFmpegError):
                raise
            cause = self.error or exc
            reason = getattr(cause, "strerror", None) or f"{type(cause).__name__}: {cause}"
            raise MediaError(f"{self.name}: cannot be read ({reason})") from cause


class Decoder(AbstractContextManager):
    """One audio stream of a file.

    Attributes: `rate`, `layout`, `depth`, `metadata`, `expected` as in Reader.

    Raises:
        MediaError: FFmpeg cannot decode it, it is a video, or it is damaged (also from `frames`).
    """

    def __init__(self, file: Source) -> None:
        self._file = file
        self._container = self._open()
        try:
            with file.wrapped():
                self._stream = self._choose()
                self._kind = self._container.format.name.split(",")[0]
                self._last: av.Packet | None = None  # the last packet with sound
                self._cut = False  # FFmpeg wanted more bytes than there were
                frames = self._decode()
                first = next(frames, None)  # only the decoder knows what really comes
                self._frames = chain([first] if first else [], frames)
                self._describe(first)
                self.metadata = self._tags()
        except BaseException:
            self._container.close()
            raise

    def __exit__(self, *exc: object) -> None:
        self._container.close()

    def frames(self) -> Iterator[np.ndarray]:
        """Yield [channels, n] float32 blocks as the decoder makes them."""
        count, held = 0, None
        with self._file.wrapped():
            for frame in self._frames:
                if held is not None:
                    yield held
                held = self._samples(frame)
                count += held.shape[1]
            if held is not None:
                surplus = self._surplus(count, held.shape[1])
                count -= surplus
                yield held[:, : held.shape[1] - surplus]
            self._check_whole(count)

    def _open(self) -> av.container.InputContainer:
        try:
            with self._file.wrapped():
                return av.open(self._file, "r", options=_OPTIONS, metadata_errors="surrogateescape")
        except MediaError as exc:
            if self._file.error is not None:
                raise
            what = "not an audio file that FFmpeg can read" if self._file.head else "the file is empty"
            hint = "" if self._file.seekable() or not self._file.head else "; save it first if it is not made for pipes"
            raise MediaError(f"{self._file.name}: {what}{hint}") from exc.__cause__

    def _choose(self) -> av.AudioStream:
        streams, name = self._container.streams, self._file.name
        if any(not stream.disposition & Disposition.attached_pic for stream in streams.video):
            raise MediaError(f"{name}: is a video; extract its sound first (ffmpeg -i video -vn sound.wav)")
        stream = streams.best("audio")
        if stream is None or stream.codec_context is None:
            raise MediaError(f"{name}: holds no sound that FFmpeg can decode")
        if stream.codec_context.name.startswith(_LOSSLESS):
            stream.codec_context.options = {"err_detect": "crccheck+explode"}  # else FFmpeg plays what is wrong
        return stream

    def _describe(self, first: av.AudioFrame | None) -> None:
        context, stream = self._stream.codec_context, self._stream
        layout = (first or context).layout
        self._channels = layout.nb_channels
        self.rate = (first or context).sample_rate
        if not self._channels or self.rate < 1:
            raise MediaError(f"{self._file.name}: says neither its rate nor its channels")
        # Plain WAV does not say where its channels belong; one and two leave no doubt.
        self.layout = pcm.layout_of(self._channels) if self._channels < 3 else layout.name
        sample_format = (first or context).format
        self.depth = _depth(context, sample_format.name if sample_format else "s16")
        self._packing = av.AudioResampler(format=sample_format.packed) if self._channels > _SAFE_PLANES else None
        self.expected = self._in_samples(stream.duration) if stream.duration else None
        self._smpb = next((v for k, v in self._container.metadata.items() if k.lower() == "itunsmpb"), "")
        self._tick = Fraction(self.rate, _movie_timescale(self._file) or 1000) if self._kind == "mov" else 0

    def _tags(self) -> dict[str, str]:
        """Return the tags of file and stream, in lower case, without those that describe the file itself."""
        found: dict[str, str] = {}
        for key, value in [*self._container.metadata.items(), *self._stream.metadata.items()]:
            key, value = _text(key).lower(), _text(value)
            if key not in _TECHNICAL and (key, value) != ("language", "und"):
                found.setdefault(key, value)
        return found

    def _decode(self) -> Iterator[av.AudioFrame]:
        """Yield frames; pieces of frames at both ends of a lossy stream are skipped, as players do."""
        lossless = self._stream.codec_context.name.startswith(_LOSSLESS)
        junk, failed = 0, None
        for packet in self._container.demux(self._stream):
            self._cut = packet.is_corrupt if packet.size else self._cut
            try:
                frames = [frame for frame in packet.decode() if frame.samples]
            except av.FFmpegError as exc:
                junk, failed = junk + packet.size, exc
                if lossless or junk > _JUNK:
                    self._damaged(failed)
                continue
            if frames and packet.size:
                if failed and self._last:
                    self._damaged(failed)
                junk, failed, self._last = 0, None, packet
            yield from frames
        if failed and not self._last:
            self._damaged(failed)

    def _damaged(self, error: av.FFmpegError) -> NoReturn:
        last = self._last
        after = f" after {float(last.pts * last.time_base):.1f} s" if last and last.pts is not None else ""
        raise MediaError(f"{self._file.name}: damaged{after} ({error.strerror}); repair it first") from error

    def _samples(self, frame: av.AudioFrame) -> np.ndarray:
        """Return a frame as [channels, n] float32."""
        channels = frame.layout.nb_channels
        if (frame.sample_rate, channels) != (self.rate, self._channels):
            was, now = f"{self._channels} x {self.rate}", f"{channels} x {frame.sample_rate}"
            raise MediaError(f"{self._file.name}: changes from {was} Hz to {now} Hz; split it there")
        parts = self._packing.resample(frame) if self._packing else [frame]
        return np.concatenate([pcm.to_float(_array(part, channels)) for part in parts], axis=1)

    def _in_samples(self, ticks: int) -> int:
        return round(ticks * self._stream.time_base * self.rate)

    def _surplus(self, count: int, size: int) -> int:
        """Return how many samples at the end of an MP4 file are padding; FFmpeg cuts it in the other formats.

        The last packet says how long its sound is (sample table), or the edit list where the whole ends, which counts
        in coarse ticks and may therefore be wrong by one.
        """
        if self._kind != "mov" or self._last is None:
            return 0
        surplus = max(0, size - self._in_samples(self._last.duration)) if self._last.duration else 0
        fields = re.fullmatch(r"\s*[0-9A-F]+ [0-9A-F]+ [0-9A-F]+ ([0-9A-F]+).*", self._smpb)
        end, tick = (int(fields[1], 16), 1) if fields else (self.expected, self._tick)
        beyond = count - surplus - end if end else 0
        return surplus + beyond if tick <= beyond < size - surplus else surplus

    def _check_whole(self, count: int) -> None:
        """Raise MediaError when the file ends before its header says."""
        riff = int.from_bytes(self._file.head[4:8], "little")
        cut = self._kind == "wav" and self._cut and 0 < riff < _STREAMED
        if self._kind in _TELLS_LENGTH and self.expected:
            cut = count + _SLACK.get(self._kind, 0) < self.expected
        if cut:
            raise MediaError(f"{self._file.name}: ends after {count} samples, too early; it is damaged or incomplete")


def _array(frame: av.AudioFrame, channels: int) -> np.ndarray:
    """Return the samples of a frame as they are, [channels, n]."""
    kind = frame.format.name.removesuffix("p")
    if kind not in _NUMPY:
        raise MediaError(f"{kind} samples cannot be carried; convert the file to 32-bit float")
    planes = [np.frombuffer(plane, _NUMPY[kind]) for plane in frame.planes]
    if frame.format.is_planar:
        return np.stack([plane[: frame.samples] for plane in planes])
    return planes[0][: frame.samples * channels].reshape(-1, channels).T


def _depth(context: av.AudioCodecContext, sample_format: str) -> str:
    """Return the depth that holds what a stream holds."""
    name, extra = context.name, context.extradata or b""
    kind = sample_format.removesuffix("p")
    if not name.startswith(_LOSSLESS) or kind in ("u8", "s16"):
        return "s16"
    if kind in ("flt", "dbl"):
        return "f32"
    bits = 32
    if name == "flac" and len(extra) == 34:  # STREAMINFO (RFC 9639, 8.2)
        bits = ((extra[12] & 1) << 4 | extra[13] >> 4) + 1
    elif name == "alac" and len(extra) >= 36:  # after the atom's size, name and version
        bits = extra[17]
    elif name.startswith("pcm_"):
        bits = int(re.search(r"\d+|$", name)[0] or 16)
    return "s16" if bits <= 16 else "s24" if bits <= 24 else "s32"


def _movie_timescale(file: Source) -> int | None:
    """Return the ticks a second in which an MP4 file's edit lists count (ISO/IEC 14496-12, 8.2.2)."""
    if not file.seekable():
        return None
    offset, back = 0, file.tell()
    try:
        while True:
            file.seek(offset)
            head = file.read(16)
            if len(head) < 16:
                return None
            size, kind = struct.unpack(">I4s", head[:8])
            begin = 16 if size == 1 else 8
            size = int.from_bytes(head[8:16], "big") if size == 1 else size
            if kind == b"mvhd":
                file.seek(offset + begin)
                body = file.read(24)
                at = 20 if body[0] else 12
                return int.from_bytes(body[at : at + 4], "big") or None
            if size < begin:
                return None
            offset += begin if kind == b"moov" else size
    finally:
        file.seek(back)


def _text(value: str) -> str:
    """Return a tag as text; old files hold Windows-1252 where UTF-8 should be."""
    raw = value.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")
