"""Audio files and pipes to blocks of samples."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from codec.errors import MediaError
from codec.media import pcm
from codec.media.audio_decoder import Decoder, Source

BLOCK = 1 << 16  # samples a channel in the blocks a Reader yields


class Reader:
    """Read audio block by block, in bounded memory.

    Iterating yields [channels, n] float32 blocks, n = `block` but in the last. Sources are a path, bytes, or a binary
    file at its current position, which may be a pipe. Encoder delay and padding are left out as far as the file
    tells them (MP3: LAME header; Opus, Vorbis: granule positions; M4A: edit list, iTunSMPB).

    Args:
        raw: `s16le`, `s24le`, `s32le` or `f32le` for PCM without a header; `rate` (Hz) and `layout` then say the rest.
        block: samples a channel in a block.

    Attributes:
        rate: Hz.
        layout: FFmpeg's name, such as `stereo`.
        channels: how many.
        depth: `s16`, `s24`, `s32` or `f32`.
        metadata: tags under lower-case names.
        expected: samples a channel as the header tells or FFmpeg estimates them, None where neither can; for progress.

    Raises:
        MediaError: it cannot be read, or not whole; also while iterating.
    """

    def __init__(
        self,
        source: Any,
        *,
        raw: str | None = None,
        rate: int | None = None,
        layout: str | None = None,
        block: int = BLOCK,
    ) -> None:
        if raw is None and (rate, layout) != (None, None):
            raise MediaError("rate and layout are for raw PCM; this source says them itself")
        self.name = _name_of(source)
        with ExitStack() as opened:
            if isinstance(source, str | os.PathLike):
                source = opened.enter_context(_open(Path(source)))
            elif isinstance(source, bytes | bytearray | memoryview):
                source = io.BytesIO(source)
            file = Source(source, self.name)
            self._decoder = opened.enter_context(Decoder(file) if raw is None else _Raw(file, raw, rate, layout))
            self._opened = opened.pop_all()
        self.rate: int = self._decoder.rate
        self.layout: str = self._decoder.layout
        self.depth: str = self._decoder.depth
        self.channels = pcm.channels_of(self.layout)
        self.metadata: dict[str, str] = self._decoder.metadata
        self.expected: int | None = self._decoder.expected
        self._blocks = self._regroup(block)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        return self._blocks

    def close(self) -> None:
        """Close what was opened here; a file that was given stays open."""
        self._opened.close()

    def _regroup(self, size: int) -> Iterator[np.ndarray]:
        """Yield blocks of `size` samples from whatever the decoder yields."""
        waiting, length = [], 0
        for samples in self._decoder.frames():
            waiting.append(pcm.check_finite(samples, self.name))
            length += samples.shape[1]
            if length >= size:
                joined = np.concatenate(waiting, axis=1)
                whole = length // size * size
                yield from np.split(joined[:, :whole], whole // size, axis=1)
                waiting, length = [joined[:, whole:]], length - whole
        if length:
            yield np.concatenate(waiting, axis=1)


def _name_of(source: Any) -> str:
    """Return what messages call a source."""
    name = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    return str(name) if isinstance(name, str | os.PathLike) else "audio"


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except IsADirectoryError as exc:
        raise MediaError(f"{path}: is a folder, not an audio file") from exc


class _Raw(AbstractContextManager):
    """PCM without a header."""

    def __init__(self, file: Source, raw: str, rate: int | None, layout: str | None) -> None:
        if raw not in pcm.RAW:
            raise MediaError(f"unknown raw format {raw!r}; use one of {', '.join(pcm.RAW)}")
        if rate is None or rate < 1 or layout is None:
            raise MediaError("raw PCM needs a rate in Hz and a layout such as mono or stereo")
        self.rate, self.layout, self.depth = rate, layout, pcm.RAW[raw]
        self.metadata: dict[str, str] = {}
        self.expected = None
        self._file = file
        self._channels = pcm.channels_of(layout)

    def frames(self) -> Iterator[np.ndarray]:
        """Yield [channels, n] float32 blocks as they arrive."""
        step, rest = pcm.WIDTH[self.depth] * self._channels, b""
        while True:
            with self._file.wrapped():
                data = self._file.read(step << 12)
            if not data:
                break
            data = rest + data
            whole = len(data) // step * step
            rest = data[whole:]
            yield pcm.unpack(data[:whole], self.depth, self._channels)
        if rest:
            raise MediaError(f"{self._file.name}: ends inside a sample; check the raw format and the layout")

    def __exit__(self, *exc: object) -> None:
        """Nothing to close."""
