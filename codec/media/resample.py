"""Sample rates, changed by libswresample."""

from __future__ import annotations

from fractions import Fraction

import av
import av.filter
import numpy as np

from codec.errors import MediaError

_BLOCK = 1 << 14  # libswresample gets blocks of this size, whatever size they are pushed in
_TAPS = 128  # at the lower of the two rates
_OPTIONS = {"filter_size": str(_TAPS), "kaiser_beta": "12"}  # stop band below -110 dB; FFmpeg's own 32 and 9: -90 dB


def resample(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Return [channels, n] samples at another rate, float32, all at once; see `Resampler`."""
    resampler = Resampler(rate, to, len(samples))
    return np.concatenate([resampler.push(np.asarray(samples, np.float32)), resampler.finish()], axis=1)


class Resampler:
    """Change the sample rate of a stream.

    The output does not depend on how the input is cut into blocks, is aligned with it in time (no shift), and has
    `round(n * rate_out / rate_in)` samples for n pushed. Beyond its end the signal is taken to hold its last sample;
    before its start libswresample mirrors it. Equal rates pass samples through untouched.

    Raises:
        MediaError: libswresample cannot convert between the rates.
    """

    def __init__(self, rate_in: int, rate_out: int, channels: int) -> None:
        if rate_in < 1 or rate_out < 1 or channels < 1:
            raise MediaError(f"cannot resample {channels} channels from {rate_in} to {rate_out} Hz")
        self._ratio = Fraction(rate_out, rate_in)
        self._waiting = self._last = np.zeros((channels, 0), np.float32)  # _last: one sample, once there is one
        self._taken = self._given = 0
        # One filter a channel: nothing then depends on layouts, which FFmpeg would mix or refuse.
        self._filters = [] if self._ratio == 1 else [_Filter(rate_in, rate_out) for _ in range(channels)]
        self._finished = False

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take [channels, any] float32 samples and return those that are ready, maybe none."""
        if self._finished:
            raise MediaError("samples pushed after the end; use a new Resampler for each stream")
        if samples.ndim != 2 or len(samples) != len(self._waiting):
            raise MediaError(f"expected [{len(self._waiting)}, n] samples, not {samples.shape = }")
        self._taken += samples.shape[1]
        if not self._filters:
            return samples
        self._last = samples[:, -1:].copy() if samples.shape[1] else self._last
        joined = np.concatenate([self._waiting, samples], axis=1)
        whole = joined.shape[1] // _BLOCK * _BLOCK
        self._waiting = joined[:, whole:]
        return self._convert(joined[:, :whole])

    def finish(self) -> np.ndarray:
        """Return the samples that are left."""
        self._finished = True
        if not self._filters or not self._taken:
            return self._waiting[:, :0]
        left = round(self._taken * self._ratio) - self._given
        reach = int(_TAPS * max(1, 1 / self._ratio)) + 1
        hold = -self._waiting.shape[1] % _BLOCK + -(-reach // _BLOCK) * _BLOCK
        tail = self._convert(np.concatenate([self._waiting, np.repeat(self._last, hold, axis=1)], axis=1))
        short = max(0, left - tail.shape[1])  # only where a second becomes a few samples
        return np.concatenate([tail[:, :left], np.repeat(self._last, short, axis=1)], axis=1)

    def _convert(self, samples: np.ndarray) -> np.ndarray:
        """Filter whole blocks."""
        blocks = [samples[:, :0]]
        for start in range(0, samples.shape[1], _BLOCK):
            block = samples[:, start : start + _BLOCK]
            blocks.append(np.stack([each.push(plane) for each, plane in zip(self._filters, block, strict=True)]))
        out = np.concatenate(blocks, axis=1)
        self._given += out.shape[1]
        return out


class _Filter:
    """One channel through libswresample."""

    def __init__(self, rate_in: int, rate_out: int) -> None:
        self._rate, self._position = rate_in, 0
        self._graph = av.filter.Graph()
        form = {"sample_fmt": "fltp", "channel_layout": "mono", "time_base": f"1/{rate_in}"}
        try:
            source = self._graph.add("abuffer", sample_rate=str(rate_in), **form)
            change = self._graph.add("aresample", out_sample_rate=str(rate_out), **_OPTIONS)
            sink = self._graph.add("abuffersink")
            source.link_to(change)
            change.link_to(sink)
            self._graph.configure()
        except (av.FFmpegError, ValueError) as exc:
            raise MediaError(f"cannot resample from {rate_in} to {rate_out} Hz ({exc})") from exc

    def push(self, plane: np.ndarray) -> np.ndarray:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(plane[None], np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._position, Fraction(1, self._rate)
        self._position += len(plane)
        self._graph.push(frame)
        out = [np.zeros(0, np.float32)]
        while True:
            try:
                out.append(self._graph.pull().to_ndarray()[0])
            except (av.error.BlockingIOError, av.error.EOFError):
                return np.concatenate(out)
