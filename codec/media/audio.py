"""Audio files to and from `Audio` values, by FFmpeg (PyAV).

`read` and `write` are for what fits into memory; `Reader`, `Writer` and `Resampler` do the same block by block. Beside
samples and tags nothing is carried (no cover pictures, no chapters), and of an integer no more than 24 bits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from codec.errors import LimitError, MediaError
from codec.limits import MAX_MEMORY
from codec.media import pcm
from codec.media.audio_reader import Reader
from codec.media.audio_writer import Writer, format_of
from codec.media.resample import Resampler

__all__ = ["MAX_SAMPLES", "Audio", "Reader", "Resampler", "Writer", "format_of", "read", "write"]

MAX_SAMPLES = MAX_MEMORY // 8  # of all channels: 4 bytes each, there twice while blocks are joined
_DEPTH = {"u1": "s16", "i2": "s16", "i4": "s32"}  # of integer arrays; float ones are f32


@dataclass(frozen=True)
class Audio:
    """A sound.

    Attributes:
        samples: [channels, n] float32, full scale -1..1, n from 0.
        rate: Hz.
        depth: `s16`, `s24`, `s32` or `f32`, the sample format a decode should return to.
        layout: FFmpeg's name of the channels' places, such as `mono`, `stereo`, `5.1`.
        metadata: tags (`title`, `artist`, ...) under lower-case names.
    """

    samples: np.ndarray
    rate: int
    depth: str = "s16"
    layout: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        samples = self.samples
        if samples.ndim != 2 or not samples.shape[0] or samples.dtype != np.float32:
            raise MediaError(f"audio needs samples [channels, n] float32, not {samples.shape} {samples.dtype}")
        if not self.layout:
            object.__setattr__(self, "layout", pcm.layout_of(self.channels))
        if pcm.channels_of(self.layout) != self.channels:
            raise MediaError(f"layout {self.layout} does not have {self.channels} channels")
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | np.integer) or self.rate < 1:
            raise MediaError(f"the sample rate must be a whole number of Hz, not {self.rate!r}")
        if self.depth not in pcm.WIDTH:
            raise MediaError(f"the depth must be one of {', '.join(pcm.WIDTH)}, not {self.depth!r}")
        for key, value in self.metadata.items():
            if not isinstance(key, str) or not isinstance(value, str) or key != key.lower():
                raise MediaError(f"metadata must be text under lower-case names, not {key!r}: {type(value).__name__}")

    def __repr__(self) -> str:
        extra = "".join(f", {name}" for name in self.metadata)
        shape = f"{self.channels}x{self.length} {self.layout} {self.depth}"
        return f"Audio({shape}, {self.rate} Hz, {self.seconds:.3f} s{extra})"

    @property
    def channels(self) -> int:
        return self.samples.shape[0]

    @property
    def length(self) -> int:
        """Samples a channel."""
        return self.samples.shape[1]

    @property
    def seconds(self) -> float:
        return self.length / self.rate


def read(source: Any, *, rate: int | None = None, max_samples: int = MAX_SAMPLES) -> Audio:
    """Read audio from a path, bytes, binary file, array or tensor.

    Arrays and tensors are [n] or [channels, n], float with full scale 1 or uint8, int16, int32; `rate` (Hz) is
    theirs alone.

    Raises:
        MediaError: it cannot be read, or not without losing something.
        LimitError: it has more than `max_samples` samples in all channels; a Reader has no such limit.
    """
    if isinstance(source, np.ndarray) or hasattr(source, "cpu"):
        return _from_array(source, rate)
    if rate is not None:
        raise MediaError("rate is for arrays; this source says it itself")
    if isinstance(source, Audio):
        return source
    with Reader(source) as reader:
        blocks, count = [np.zeros((reader.channels, 0), np.float32)], 0
        for block in reader:
            count += block.size
            if count > max_samples:
                raise LimitError(f"{reader.name}: more than {max_samples} samples; cut it, or allow more memory")
            blocks.append(block)
        samples = np.concatenate(blocks, axis=1)
    return Audio(samples, reader.rate, reader.depth, reader.layout, reader.metadata)


def _from_array(source: Any, rate: int | None) -> Audio:
    if rate is None:
        raise MediaError("an array does not say its sample rate; give rate=")
    if not isinstance(source, np.ndarray):
        try:
            source = source.detach().cpu().numpy()
        except (TypeError, RuntimeError) as exc:  # types NumPy does not have
            raise MediaError(f"the tensor cannot be an array ({exc}); convert it with .float()") from exc
    array = source[None] if source.ndim == 1 else source
    if array.ndim != 2:
        raise MediaError(f"audio must be [n] or [channels, n], not {source.shape}")
    if len(array) > 64 > array.shape[1]:
        raise MediaError(f"audio must be [channels, n], not {source.shape}; transpose it")
    samples = pcm.check_finite(np.ascontiguousarray(pcm.to_float(array)), "the array")
    return Audio(samples, rate, _DEPTH.get(array.dtype.str[1:], "f32"))


def write(audio: Audio, file: BinaryIO | str | os.PathLike, format: str) -> list[str]:
    """Write an audio file and return the names of tags the format cannot hold; see `Writer`.

    Raises:
        MediaError: the format cannot hold it.
    """
    form = {"rate": audio.rate, "layout": audio.layout, "depth": audio.depth, "metadata": audio.metadata}
    with Writer(file, format, **form) as writer:
        writer.write(audio.samples)
    return writer.lost
