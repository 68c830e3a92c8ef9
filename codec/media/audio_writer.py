"""Blocks of samples to audio files and pipes: PCM and WAV by hand, the rest by FFmpeg (PyAV)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np

from codec.errors import MediaError
from codec.media import pcm, wav
from codec.media.file_writer import FileWriter
from codec.media.resample import Resampler
from codec.media.sink import Sink

_STEP = 1 << 15  # samples a channel that are converted at once
_BITEXACT = 0x400  # AVFMT_FLAG_BITEXACT: no version of FFmpeg in the file
_ENCODER_LAYOUTS = {3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}  # for channels without places
_SAME_PLACES = {"5.0(side)": "5.0", "5.1(side)": "5.1"}  # all that Opus and AAC know of these
_MP4_TAGS = (  # those FFmpeg's muxer has atoms for
    "title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping",
    "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "track", "disc",
)  # fmt: skip


@dataclass(frozen=True)
class _Format:
    """How FFmpeg writes a format; lossy ones have high settings, as what was decoded is what should be heard.

    Attributes:
        samples: the encoder's sample format.
        rates: Hz it takes, ascending; None: any.
        settings: (rate, channels) -> encoder options.
        tags: the names of those it keeps; None: any.
        seeks: whether the muxer has to go back, which a pipe cannot.
    """

    muxer: str
    encoder: str
    samples: str = "flt"
    rates: tuple[int, ...] | None = None
    settings: Callable[[int, int], dict[str, str]] = lambda rate, channels: {}
    tags: tuple[str, ...] | None = None
    seeks: bool = False


_OPUS = _Format("ogg", "libopus", "flt", (48000,), lambda rate, channels: {"b": str(128000 * channels)})
_ENCODED = {
    "flac": _Format("flac", "flac", settings=lambda rate, channels: {"frame_size": "4096"}),  # it loses 256 KiB frames
    "mp3": _Format(
        "mp3", "libmp3lame", "fltp", (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
        lambda rate, channels: {"flags": "+qscale", "global_quality": "0"},  # VBR, V0
    ),
    "ogg": _OPUS,
    "opus": _OPUS,
    "m4a": _Format(
        "ipod", "aac", "fltp",
        (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000),
        lambda rate, channels: {"b": str(min(160000, 5 * rate) * channels)},  # AAC ends at 6 bits a sample
        _MP4_TAGS, True,
    ),
}  # fmt: skip
FORMATS = ("wav", *_ENCODED, *pcm.RAW)
_SUFFIX = {"wave": "wav", "rf64": "wav", "oga": "ogg", "m4b": "m4a"}


def format_of(name: str) -> str:
    """Return the canonical format name of a suffix or format name such as `.oga`.

    Raises:
        MediaError: audio cannot be written in it.
    """
    key = name.lower().removeprefix(".")
    key = _SUFFIX.get(key, key)
    if key not in FORMATS:
        raise MediaError(f"cannot write {name!r} audio; use one of {', '.join(FORMATS)}")
    return key


class Writer(FileWriter):
    """Write audio block by block.

    `close` completes the file. Left by an exception, a Writer removes the path it was given or truncates the file,
    so that no part of the sound passes for all of it; through a pipe it just stops.

    wav, flac and raw PCM keep the samples: rounded half to even to the integers of the depth, clipped, not dithered;
    flac writes s32 and f32 as 24 bits. The lossy formats resample to a rate they have. ogg is Opus. An MP3 tells its
    length only in a file that seeks, and up to 46 samples too long when that many or fewer begin its last frame.

    Args:
        file: a path, or a binary file at its current position.
        format: see `format_of`; raw PCM (`s16le`, ...) has its own depth.
        rate: Hz.
        layout: FFmpeg's name, such as `stereo`.
        depth: `s16`, `s24`, `s32` or `f32`.

    Attributes:
        lost: the names of tags the format cannot hold.

    Raises:
        MediaError: the format cannot hold this.
        OSError: from the file.
    """

    what = "audio"

    def __init__(
        self,
        file: BinaryIO | str | os.PathLike,
        format: str,
        *,
        rate: int,
        layout: str,
        depth: str = "s16",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        kind = format_of(format)
        self._channels, self._output = pcm.channels_of(layout), None
        if rate < 1 or depth not in pcm.WIDTH:
            raise MediaError(f"cannot write {depth} samples at {rate} Hz; depths are {', '.join(pcm.WIDTH)}")
        tags = {key.lower(): value.replace("\0", " ") for key, value in (metadata or {}).items()}
        kept = {key: value for key, value in tags.items() if _holds(kind, key, value)}
        self.lost = sorted(set(tags) - set(kept))
        self._sink = Sink(file)
        with self._undone():
            if kind in _ENCODED:
                self._output = _Encoded(self._sink, kind, rate, layout, depth, kept)
            else:
                self._output = _Pcm(self._sink, kind, rate, layout, pcm.RAW.get(kind, depth), kept)

    def write(self, samples: np.ndarray) -> None:
        """Append [channels, any] float32 samples."""
        if samples.ndim != 2 or samples.shape[0] != self._channels:
            raise MediaError(f"expected [{self._channels}, n] samples, not {samples.shape = }")
        if self._sink.closed:
            raise MediaError("the audio writer is closed")
        with self._undone():
            for start in range(0, samples.shape[1], _STEP):
                block = np.asarray(samples[:, start : start + _STEP], np.float32)
                self._output.write(pcm.check_finite(block, "writing audio"))


def _holds(kind: str, tag: str, value: str) -> bool:
    """Tell whether a format keeps a tag."""
    if kind not in _ENCODED:
        return kind == "wav" and tag in wav.INFO
    named = _ENCODED[kind].tags
    if named is None:
        return tag.isascii() and tag.isprintable() and "=" not in tag and tag != ""
    return tag in named and (tag not in ("track", "disc") or re.fullmatch(r"\d+(/\d+)?", value) is not None)


class _Pcm:
    """WAV and raw PCM."""

    def __init__(self, sink: Sink, kind: str, rate: int, layout: str, depth: str, metadata: Mapping[str, str]) -> None:
        self._sink, self._depth, self._size = sink, depth, 0
        self._header = (lambda size: wav.header(rate, layout, depth, metadata, size)) if kind == "wav" else None
        if self._header:
            sink.write(self._header(0 if sink.seekable() else None))

    def write(self, samples: np.ndarray) -> None:
        data = pcm.pack(samples, self._depth)
        self._size += len(data)
        self._sink.write(data)

    def finish(self) -> None:
        if self._header and self._sink.seekable():
            self._sink.write(bytes(self._size % 2))
            end = self._sink.tell()
            self._sink.seek(0)
            self._sink.write(self._header(self._size))
            self._sink.seek(end)

    def release(self) -> None:
        """Nothing is held."""


class _Encoded:
    """What FFmpeg encodes and muxes."""

    def __init__(self, sink: Sink, kind: str, rate: int, layout: str, depth: str, metadata: Mapping[str, str]) -> None:
        form = _ENCODED[kind]
        if form.seeks and not sink.seekable():
            raise MediaError(f"{kind} cannot be written to a pipe; use wav, flac, ogg or mp3")
        channels = pcm.channels_of(layout)
        self._rate = next((r for r in form.rates if r >= rate), form.rates[-1]) if form.rates else rate
        self._resampler = Resampler(rate, self._rate, channels)
        self._bits = (16 if depth == "s16" else 24) if kind == "flac" else None
        self._layout = layout if kind == "flac" else _encoder_layout(layout, channels)
        self._kind, self._position = kind, 0
        options = {"movie_timescale": str(self._rate)} if kind == "m4a" else {}  # else the end is off by a millisecond
        self._container = av.open(sink, "w", format=form.muxer, container_options=options)
        self._container.flags |= _BITEXACT
        self._container.metadata.update(metadata)
        settings = form.settings(self._rate, channels)
        try:
            self._stream = self._container.add_stream(
                form.encoder, rate=self._rate, layout=self._layout, options=settings
            )
            samples = {16: "s16", 24: "s32", None: form.samples}[self._bits]
            self._stream.codec_context.format = samples
            self._container.start_encoding()
        except (av.FFmpegError, ValueError) as exc:
            self.release()
            raise MediaError(f"{kind} cannot hold {layout} at {self._rate} Hz; use wav") from exc

    def write(self, samples: np.ndarray) -> None:
        self._encode(self._resampler.push(samples))

    def finish(self) -> None:
        self._encode(self._resampler.finish())
        if self._position:
            self._container.mux(self._stream.encode(None))
        elif self._kind != "flac":
            raise MediaError(f"{self._kind} cannot hold no samples at all; use wav or flac")
        self._container.close()

    def release(self) -> None:
        """Let FFmpeg go while all it points to is there; PyAV before 18 crashes when garbage collection does it."""
        with suppress(av.FFmpegError, ValueError, OSError):
            self._container.close()

    def _encode(self, samples: np.ndarray) -> None:
        for start in range(0, samples.shape[1], _STEP):
            block = samples[:, start : start + _STEP]
            frame = av.AudioFrame.from_ndarray(*self._packed(block), self._layout)
            frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
            frame.pts = self._position
            self._position += block.shape[1]
            self._container.mux(self._stream.encode(frame))

    def _packed(self, samples: np.ndarray) -> tuple[np.ndarray, str]:
        """Return interleaved samples [1, n * channels] and their format; PyAV writes past 7 planes of planar ones."""
        if self._bits == 16:
            data, kind = pcm.to_integer(samples, 16).astype(np.int16), "s16"
        elif self._bits == 24:
            data, kind = pcm.to_integer(samples, 24) << 8, "s32"
        else:
            data, kind = samples, "flt"
        return np.ascontiguousarray(data.T).reshape(1, -1), kind


def _encoder_layout(layout: str, channels: int) -> str:
    """Return the layout a lossy encoder is told: a standard one where the places of the channels are unknown."""
    placed = [channel.name for channel in av.AudioLayout(layout).channels] != ["NONE"] * channels
    return _SAME_PLACES.get(layout, layout) if placed else _ENCODER_LAYOUTS.get(channels, pcm.layout_of(channels))
